use std::sync::atomic::{AtomicUsize, Ordering};

use switchtower_policy::failure::Class;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// What a server does with the n-th request of its n-th connection.
#[derive(Clone, Copy)]
enum Act {
    Answer(&'static str),
    /// Answers, and closes the connection then.
    AnswerAndClose(&'static str),
    /// Closes without an answer.
    Close,
    /// Answers nothing; says whether the client hung up.
    Silence,
}

struct Server {
    uri: Uri,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    hung_up: Arc<tokio::sync::Notify>,
    closed: Arc<tokio::sync::Notify>,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server whose requests are answered by these acts, in turn.
async fn server(acts: Vec<Act>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        uri: format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(),
        connections: Arc::default(),
        requests: Arc::default(),
        hung_up: Arc::default(),
        closed: Arc::default(),
    };
    let (connections, requests) = (Arc::clone(&server.connections), Arc::clone(&server.requests));
    let (hung_up, closed) = (Arc::clone(&server.hung_up), Arc::clone(&server.closed));
    tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            connections.fetch_add(1, Ordering::SeqCst);
            let (requests, acts, hung_up, closed) = (requests.clone(), acts.clone(), hung_up.clone(), closed.clone());
            tasks.spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                loop {
                    let mut request = Vec::new();
                    while !request.ends_with(b"BODY") {
                        match socket.read(&mut buffer).await {
                            Ok(n @ 1..) => request.extend_from_slice(&buffer[..n]),
                            _ => return,
                        }
                    }
                    match acts[requests.fetch_add(1, Ordering::SeqCst)] {
                        Act::Answer(text) => socket.write_all(text.as_bytes()).await.unwrap(),
                        Act::AnswerAndClose(text) => {
                            socket.write_all(text.as_bytes()).await.unwrap();
                            socket.shutdown().await.unwrap();
                            closed.notify_one();
                            return;
                        }
                        Act::Close => return,
                        Act::Silence => {
                            while matches!(socket.read(&mut buffer).await, Ok(1..)) {}
                            hung_up.notify_one();
                            return;
                        }
                    }
                }
            });
        }
    });
    server
}

fn connector() -> Connector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Connector::new(tls)
}

fn pool(uri: &Uri) -> Arc<Pool> {
    Pool::new(uri.clone(), connector())
}

fn request() -> Request<Full<Bytes>> {
    Request::post("/").header("host", "h").body(Full::from("BODY")).unwrap()
}

async fn call(pool: &Arc<Pool>) -> Result<Bytes, Failure> {
    let (_, body) = pool.send(request(), None).await?;
    match body.collect(1000).await {
        Ok(bytes) => Ok(bytes),
        Err(ReadError::Failed(failure)) => Err(failure),
        Err(ReadError::TooLong) => panic!("too long"),
    }
}

#[tokio::test]
async fn a_connection_sends_at_once_and_notices_when_the_other_side_is_gone() {
    let server = server(vec![]).await;
    let io = connector().connect(&server.uri, CONNECT_TIMEOUT).await.unwrap();
    let MaybeHttpsStream::Http(io) = &io else { panic!("plain") };
    let socket = socket2::SockRef::from(io.inner());
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), TCP_KEEPALIVE);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), TCP_KEEPALIVE_INTERVAL);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 5);
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_call() {
    let server = server(vec![Act::Answer(OK); 3]).await;
    let pool = pool(&server.uri);
    for _ in 0..3 {
        assert_eq!(call(&pool).await.unwrap(), "ok");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn calls_at_once_each_have_a_connection_and_leave_it_to_later_ones() {
    let server = server(vec![Act::Answer(OK); 20]).await;
    let pool = pool(&server.uri);
    for _ in 0..2 {
        futures_util::future::try_join_all((0..10).map(|_| call(&pool))).await.unwrap();
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 10);
    assert_eq!(pool.idle().connections.len(), 10);
}

#[tokio::test]
async fn a_response_that_ends_the_connection_leaves_none_behind() {
    let server =
        server(vec![Act::Answer("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"); 2]).await;
    let pool = pool(&server.uri);
    call(&pool).await.unwrap();
    assert_eq!(pool.idle().connections.len(), 0);
    call(&pool).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_without_anybody_noticing() {
    let server = server(vec![Act::AnswerAndClose(OK), Act::Answer(OK)]).await;
    let pool = pool(&server.uri);
    call(&pool).await.unwrap();
    server.closed.notified().await;
    // The end of the connection is on its way through the kernel's loopback.
    while pool.idle().connections.back_mut().is_some_and(|(_, connection)| connection.is_fit()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(call(&pool).await.unwrap(), "ok");
    assert_eq!((server.connections.load(Ordering::SeqCst), server.requests.load(Ordering::SeqCst)), (2, 2));
}

#[tokio::test]
async fn a_request_that_was_sent_is_never_sent_again() {
    let server = server(vec![Act::Answer(OK), Act::Close, Act::Answer(OK)]).await;
    let pool = pool(&server.uri);
    call(&pool).await.unwrap();
    let failure = call(&pool).await.unwrap_err();
    assert_eq!((failure.class, failure.sent), (Class::Broken, true));
    assert_eq!(server.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_request_that_a_connection_did_not_take_is_sent_over_another() {
    let server = server(vec![Act::Answer(OK), Act::Answer(OK)]).await;
    let pool = pool(&server.uri);
    call(&pool).await.unwrap();
    // As if the connection had closed between being looked at and being used.
    let (_, mut connection) = pool.idle().connections.pop_back().unwrap();
    connection.driver = None;
    let Err(Unanswered::Unsent(request)) = connection.exchange(request()).await else { panic!("it cannot be sent") };
    assert_eq!(request.uri(), "/");
    assert_eq!(call(&pool).await.unwrap(), "ok");
}

#[tokio::test]
async fn nobody_there_is_a_failure_to_connect() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let failure = call(&pool(&format!("http://{unused}").parse().unwrap())).await.unwrap_err();
    assert_eq!((failure.class, failure.sent), (Class::Connect, false));
    assert!(failure.message.contains("refused"), "{}", failure.message);
}

#[tokio::test]
async fn plain_text_behind_https_is_a_failure_to_connect() {
    let server = server(vec![]).await;
    let uri: Uri = server.uri.to_string().replace("http:", "https:").parse().unwrap();
    let failure = pool(&uri).send(request(), Some(Duration::from_millis(50))).await.err().unwrap();
    assert_eq!((failure.class, failure.sent), (Class::Connect, false));
    assert!(failure.message.contains("within 50ms"), "a server that waits for a request: {}", failure.message);
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let server = server(vec![Act::Silence, Act::Silence]).await;
    let pool = pool(&server.uri);
    {
        let mut sending = pin!(pool.send(request(), None));
        while server.requests.load(Ordering::SeqCst) == 0 {
            assert!(futures_util::poll!(&mut sending).is_pending());
            tokio::task::yield_now().await;
        }
    }
    server.hung_up.notified().await;
    assert_eq!(pool.idle().connections.len(), 0);
}

#[tokio::test]
async fn a_body_dropped_before_its_end_closes_its_connection() {
    let server = server(vec![Act::Answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"), Act::Answer(OK)]).await;
    let pool = pool(&server.uri);
    let (_, mut body) = pool.send(request(), None).await.unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), "ok");
    drop(body);
    assert_eq!(pool.idle().connections.len(), 0);
    call(&pool).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_not_http_or_too_long_is_not_the_protocol() {
    let long: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(2 * MAX_HEAD)).into_boxed_str());
    let bad_chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    for text in ["SSH-2.0-OpenSSH\r\n\r\n", long, bad_chunk] {
        let server = server(vec![Act::Answer(text)]).await;
        let failure = call(&pool(&server.uri)).await.unwrap_err();
        assert_eq!((failure.class, failure.sent), (Class::Protocol, true), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_broken() {
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok";
    let chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
    for text in [short, chunk] {
        let server = server(vec![Act::AnswerAndClose(text)]).await;
        let failure = call(&pool(&server.uri)).await.unwrap_err();
        assert_eq!((failure.class, failure.sent), (Class::Broken, true), "{text}: {}", failure.message);
    }
}

#[tokio::test]
async fn a_body_is_read_whole_up_to_its_bound() {
    let check = |text: &'static str, most, expected: Option<&'static str>| async move {
        let server = server(vec![Act::AnswerAndClose(text)]).await;
        let (_, body) = pool(&server.uri).send(request(), None).await.unwrap();
        match (body.collect(most).await, expected) {
            (Ok(bytes), Some(expected)) => assert_eq!(bytes, expected),
            (Err(ReadError::TooLong), None) => {}
            (got, _) => panic!("{text} {most}: {got:?}"),
        }
    };
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n3\r\n333\r\n0\r\n\r\n";
    check(chunks, 9, Some("onetwo333")).await;
    check(chunks, 8, None).await;
    check(chunks, 2, None).await;
    check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 0, Some("")).await;
    check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 2, Some("ok")).await;
    check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 1, None).await;
    check("HTTP/1.1 200 OK\r\n\r\nuntil the end", 100, Some("until the end")).await;
}

#[tokio::test]
async fn an_idle_connection_is_dropped_in_time_and_not_used_after_it() {
    let server = server(vec![Act::Answer(OK); 3]).await;
    let pool = pool(&server.uri);
    call(&pool).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(IDLE_TIMEOUT / 2).await;
    tokio::time::resume();
    call(&pool).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    tokio::time::pause();
    tokio::time::advance(IDLE_TIMEOUT).await;
    assert!(pool.take().is_none());
}

#[tokio::test]
async fn idle_connections_are_swept_and_the_sweeper_ends() {
    let server = server(vec![Act::Answer(OK); 3]).await;
    let pool = pool(&server.uri);
    call(&pool).await.unwrap();
    assert!(pool.idle().sweeper.is_some());
    tokio::time::pause();
    while !pool.idle().connections.is_empty() {
        tokio::time::advance(IDLE_TIMEOUT / 4).await;
        tokio::task::yield_now().await;
    }
    assert!(pool.idle().sweeper.is_none());
    tokio::time::resume();
    call(&pool).await.unwrap();
    assert!(pool.idle().sweeper.is_some(), "the next one is swept too");
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_are_worth_it() {
    let server = server(vec![Act::Answer(OK); MAX_IDLE + 1]).await;
    let pool = pool(&server.uri);
    let mut open = Vec::new();
    for _ in 0..=MAX_IDLE {
        open.push(pool.send(request(), None).await.unwrap());
    }
    for (_, body) in open {
        body.collect(2).await.unwrap();
    }
    assert_eq!(pool.idle().connections.len(), MAX_IDLE);
}
