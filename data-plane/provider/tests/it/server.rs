//! A server that takes requests as they come and answers each with the same bytes, whatever they are.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What a client sent.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Captured {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// The connection closes as it does after a response.
    Close,
    /// It is torn down.
    Reset,
    /// Nothing more comes, and the server waits until the client hangs up.
    Wait,
}

pub(crate) struct Server {
    pub(crate) url: String,
    captured: Arc<Mutex<Vec<Captured>>>,
    /// Told when a client hung up on an answer that [`End::Wait`]s.
    pub(crate) hung_up: Arc<tokio::sync::Notify>,
    _accepting: JoinSet<()>,
}

impl Server {
    pub(crate) async fn new(answer: impl Into<Vec<u8>>, end: End) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (captured, hung_up) = (Arc::<Mutex<Vec<Captured>>>::default(), Arc::<tokio::sync::Notify>::default());
        let mut accepting = JoinSet::new();
        let answer: Arc<[u8]> = answer.into().into();
        let (into, told) = (Arc::clone(&captured), Arc::clone(&hung_up));
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(serve(socket, Arc::clone(&answer), end, Arc::clone(&into), Arc::clone(&told)));
            }
        });
        Server { url, captured, hung_up, _accepting: accepting }
    }

    /// What came since this was last asked for.
    pub(crate) fn take(&self) -> Vec<Captured> {
        std::mem::take(&mut self.captured.lock().unwrap())
    }
}

async fn serve(
    mut socket: TcpStream,
    answer: Arc<[u8]>,
    end: End,
    into: Arc<Mutex<Vec<Captured>>>,
    hung_up: Arc<tokio::sync::Notify>,
) {
    let mut bytes = Vec::new();
    let request = loop {
        match socket.read_buf(&mut bytes).await {
            Ok(1..) => {}
            _ => return,
        }
        if let Some(request) = parse(&bytes) {
            break request;
        }
    };
    into.lock().unwrap().push(request);
    if socket.write_all(&answer).await.is_err() {
        return;
    }
    match end {
        End::Close => {
            let _ = socket.shutdown().await;
            // Until the client is gone too, lest a reset overtakes what it has not read.
            while matches!(socket.read_buf(&mut bytes).await, Ok(1..)) {}
        }
        End::Reset => {
            // What was sent is read first, then the connection is torn down.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
        End::Wait => {
            while matches!(socket.read_buf(&mut bytes).await, Ok(1..)) {}
            hung_up.notify_one();
        }
    }
}

/// A request, when it is complete.
fn parse(bytes: &[u8]) -> Option<Captured> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut captured = Captured {
        method: first.next().unwrap().to_owned(),
        path: first.next().unwrap().to_owned(),
        headers,
        body: Vec::new(),
    };
    let length: usize = captured.header("content-length").unwrap().parse().unwrap();
    let body = &bytes[end + 4..];
    captured.body = body.to_vec();
    (body.len() >= length).then_some(captured)
}

/// An answer with a length.
pub(crate) fn whole(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into()
}

/// An event stream whose pieces are chunks; whether its end is told too.
pub(crate) fn chunked<B: AsRef<[u8]>>(pieces: &[B], is_ended: bool) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".to_vec();
    for piece in pieces.iter().map(AsRef::as_ref).filter(|piece| !piece.is_empty()) {
        answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        answer.extend_from_slice(piece);
        answer.extend_from_slice(b"\r\n");
    }
    if is_ended {
        answer.extend_from_slice(b"0\r\n\r\n");
    }
    answer
}
