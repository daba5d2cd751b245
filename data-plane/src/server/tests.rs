//! A listener as its clients see it, over loopback.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;
use http::{StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Notify,
    task::JoinHandle,
    time::Instant,
};
use tokio_rustls::TlsConnector;

use super::{connection, *};

const DRAIN: Duration = Duration::from_secs(30);

/// A running listener.
struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    ended: JoinHandle<Drained>,
}

impl Server {
    fn start<H, F>(tls: Option<Arc<ServerConfig>>, limits: Limits, handler: H) -> Self
    where
        H: Fn(Request<RequestBody>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), false).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let ended = tokio::spawn(serve(listener, tls, limits, handler, shutdown.clone(), DRAIN));
        Server { address, shutdown, ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Answers with the version and the body it got.
async fn echo(request: Request<RequestBody>) -> Response<Body> {
    let version = format!("{:?} ", request.version());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Response::new(Bytes::from([version.as_bytes(), &body].concat()).into())
}

/// Sends one request and reads its answer.
async fn ask<S>(stream: S, version: Version) -> hyper::Result<(StatusCode, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(stream);
    let request = Request::post("http://localhost/a").header("host", "localhost").body(Full::<Bytes>::from("hello"));
    let request = request.unwrap();
    let response = if version == Version::HTTP_2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

#[tokio::test]
async fn http_1_and_http_2_with_prior_knowledge_share_a_port() {
    let server = Server::start(None, Limits::default(), echo);
    for version in [Version::HTTP_11, Version::HTTP_2, Version::HTTP_11] {
        let (status, body) = ask(server.connect().await, version).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body, format!("{version:?} hello"));
    }
}

#[tokio::test]
async fn under_tls_alpn_chooses_the_protocol() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    std::fs::write(&chain, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let server = Server::start(Some(tls::read(&chain, &key).unwrap()), Limits::default(), echo);
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let check = async |offered: &[&str], chosen: Option<&str>, version: Version| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|offer| offer.as_bytes().to_vec()).collect();
        let name = "localhost".try_into().unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, server.connect().await).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes));
        assert_eq!(ask(stream, version).await.unwrap().1, format!("{version:?} hello"));
    };
    check(&["http/1.1", "h2"], Some("h2"), Version::HTTP_2).await;
    check(&["http/1.1"], Some("http/1.1"), Version::HTTP_11).await;
    check(&[], None, Version::HTTP_11).await;
}

#[tokio::test]
async fn accepted_connections_do_not_wait_to_fill_a_packet() {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), false).unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    assert!(accept(&listener).await.unwrap().nodelay().unwrap());
}

#[tokio::test]
async fn listeners_share_an_address_only_if_they_mean_to() {
    let first = listen(SocketAddr::from(([127, 0, 0, 1], 0)), true).unwrap();
    let address = first.local_addr().unwrap();
    assert!(listen(address, true).is_ok());
    assert!(listen(address, false).is_err());
}

#[tokio::test]
async fn http_2_settings_tell_our_limits() {
    let server = Server::start(None, Limits::default(), echo);
    let mut stream = server.connect().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    let setting = |id: u8| {
        let value = settings.chunks(6).find(|setting| setting[1] == id).map(|setting| &setting[2..]);
        value.map(|value| u32::from_be_bytes(value.try_into().unwrap()))
    };
    assert_eq!(setting(3), Some(100), "MAX_CONCURRENT_STREAMS");
    assert_eq!(setting(4), Some(65_536), "INITIAL_WINDOW_SIZE");
    assert_eq!(setting(6), Some(connection::MAX_HEAD), "MAX_HEADER_LIST_SIZE");
}

#[tokio::test]
async fn a_head_above_its_limit_is_refused() {
    let server = Server::start(None, Limits::default(), echo);
    let mut stream = server.connect().await;
    let value = "x".repeat(connection::MAX_HEAD as usize);
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {value}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

/// How long it takes the server to hang up on a client that sends this and then nothing.
async fn silence_after(server: &Server, sent: &[u8], answered: bool) -> Duration {
    let mut stream = server.connect().await;
    stream.write_all(sent).await.unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    // A reset ends it as well as a close.
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(answer.starts_with(b"HTTP/1.1 200"), answered, "{}", String::from_utf8_lossy(&answer));
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_cut_and_an_idle_connection_is_kept_longer() {
    let server = Server::start(None, Limits::default(), echo);
    let check = async |sent: &str, answered: bool, seconds: u64| {
        let took = silence_after(&server, sent.as_bytes(), answered).await.as_secs_f64();
        assert!((took - seconds as f64).abs() < 0.5, "{sent:?} took {took} s");
    };
    check("", false, 10).await;
    check("PRI * HT", false, 10).await;
    check("POST / HTTP/1.1\r\nhost:", false, 10).await;
    let whole = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    check(whole, true, 75).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_head_that_is_slow_is_cut_as_the_first_is() {
    let server = Server::start(None, Limits::default(), echo);
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = [0; 512];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    sleep(Duration::from_secs(40)).await;
    stream.write_all(b"GET / HTT").await.unwrap();
    let begun = Instant::now();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    assert!((begun.elapsed().as_secs_f64() - 10.0).abs() < 0.5, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_too_many_waits_for_another_to_end() {
    let server = Server::start(None, Limits { connections: 1, ..Limits::default() }, echo);
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    let mut byte = [0];
    first.write_all(request).await.unwrap();
    first.read_exact(&mut byte).await.unwrap();
    second.write_all(request).await.unwrap();
    assert!(timeout(Duration::from_secs(5), second.read_exact(&mut byte)).await.is_err());
    drop(first);
    second.read_exact(&mut byte).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_body_must_make_progress_and_come_to_an_end() {
    /// Tells why a body is not whole.
    async fn told(request: Request<RequestBody>) -> Response<Body> {
        let told = match request.into_body().collect().await {
            Ok(_) => "whole",
            Err(BodyError::Slow) => "slow",
            Err(BodyError::Broken(_)) => "broken",
        };
        Response::new(Bytes::from_static(told.as_bytes()).into())
    }
    let server = Server::start(None, Limits::default(), told);
    // A byte at every pause, so often; then none.
    let check = async |pause: u64, times: usize, expected: &str, seconds: u64| {
        let stream = server.connect().await;
        let (mut read, mut write) = stream.into_split();
        write.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n").await.unwrap();
        let begun = Instant::now();
        let trickle = tokio::spawn(async move {
            for _ in 0..times {
                sleep(Duration::from_secs(pause)).await;
                let _ = write.write_all(b"x").await;
            }
            write
        });
        let mut answer = Vec::new();
        let mut chunk = [0; 512];
        while !answer.ends_with(expected.as_bytes()) {
            let read = read.read(&mut chunk).await.unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&chunk[..read]);
        }
        let took = begun.elapsed().as_secs_f64();
        assert!((took - seconds as f64).abs() < 0.5, "{pause} s, {times} times: {expected} after {took} s");
        trickle.abort();
    };
    check(1, 20, "whole", 20).await;
    check(29, 3, "slow", 3 * 29 + 30).await;
    check(29, 19, "slow", 300).await;
    check(1, 0, "slow", 30).await;
}

/// A handler that says when it began, waits to be let go, and notes its own end.
#[derive(Clone, Default)]
struct Held {
    begun: Arc<Notify>,
    release: Arc<Notify>,
    over: Arc<AtomicBool>,
}

impl Held {
    fn handler(&self) -> impl Fn(Request<RequestBody>) -> HeldFuture + Clone + Send + Sync + 'static {
        let held = self.clone();
        move |_| {
            let held = held.clone();
            Box::pin(async move {
                let _over = SetOnDrop(held.over);
                held.begun.notify_one();
                held.release.notified().await;
                Response::new(Bytes::from_static(b"done").into())
            })
        }
    }
}

type HeldFuture = std::pin::Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn draining_finishes_what_is_open_and_takes_nothing_new() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let held = Held::default();
        let server = Server::start(None, Limits::default(), held.handler());
        let (silent, mut half) = (server.connect().await, server.connect().await);
        half.write_all(b"PRI * HT").await.unwrap();
        let open = tokio::spawn(ask(server.connect().await, version));
        held.begun.notified().await;
        let begun = Instant::now();
        server.shutdown.cancel();
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        held.release.notify_one();
        assert_eq!(open.await.unwrap().unwrap().1, "done");
        assert_eq!(server.ended.await.unwrap(), Drained { aborted: 0 }, "{version:?}");
        assert!(begun.elapsed() < Duration::from_secs(1), "those that had said nothing held it up");
        drop(silent);
    }
}

#[tokio::test(start_paused = true)]
async fn draining_closes_connections_that_are_kept_for_later() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let server = Server::start(None, Limits::default(), echo);
        let stream = TokioIo::new(server.connect().await);
        let request = Request::get("http://localhost/").body(Full::<Bytes>::default()).unwrap();
        // The senders live on: a client that means to come back.
        let (_http1, _http2) = if version == Version::HTTP_2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
            (None, Some(sender))
        } else {
            let (mut sender, connection) = http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
            (Some(sender), None)
        };
        let begun = Instant::now();
        server.shutdown.cancel();
        assert_eq!(server.ended.await.unwrap(), Drained { aborted: 0 }, "{version:?}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{version:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_outlives_the_drain_is_aborted() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let held = Held::default();
        let server = Server::start(None, Limits::default(), held.handler());
        let open = tokio::spawn(ask(server.connect().await, version));
        held.begun.notified().await;
        let begun = Instant::now();
        server.shutdown.cancel();
        assert_eq!(server.ended.await.unwrap(), Drained { aborted: 1 }, "{version:?}");
        assert_eq!(begun.elapsed().as_secs(), DRAIN.as_secs());
        assert!(held.over.load(SeqCst), "{version:?}: the handler runs on");
        assert!(open.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_handler() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let held = Held::default();
        let server = Server::start(None, Limits::default(), held.handler());
        let mut client = JoinSet::new();
        let stream = server.connect().await;
        client.spawn(async move {
            let stream = TokioIo::new(stream);
            let request = Request::get("http://localhost/").body(Full::<Bytes>::default()).unwrap();
            // Both halves in one task, so that aborting it closes the connection.
            if version == Version::HTTP_2 {
                let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
                let _ = tokio::join!(sender.send_request(request), connection);
            } else {
                let (mut sender, connection) = http1::handshake(stream).await.unwrap();
                let _ = tokio::join!(sender.send_request(request), connection);
            }
        });
        held.begun.notified().await;
        client.shutdown().await;
        timeout(Duration::from_secs(10), async {
            while !held.over.load(SeqCst) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{version:?}: the handler runs on"));
    }
}

#[test]
fn only_errors_of_one_peer_are_tried_again_at_once() {
    let check = |errno: i32, expected: bool| assert_eq!(is_of_one_peer(&io::Error::from_raw_os_error(errno)), expected);
    check(103, true); // ECONNABORTED
    check(104, true); // ECONNRESET
    check(4, true); // EINTR
    check(24, false); // EMFILE
    check(23, false); // ENFILE
    check(12, false); // ENOMEM
    check(105, false); // ENOBUFS
}
