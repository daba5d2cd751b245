//! HTTP as it is on the wire, for callers that no library would be: by hyper, a connection for each request.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use crate::PATIENCE;

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    One,
    /// HTTP/2 with prior knowledge.
    Two,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, as far as it came.
    pub body: Bytes,
    /// Trailers; empty: none came.
    pub trailers: HeaderMap,
    /// Whether the body broke off.
    pub cut: bool,
}

impl Reply {
    /// A header, empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("not ASCII"))
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    /// The body's `message`, as an error has it.
    #[must_use]
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A response whose body is on its way. Dropping it hangs up.
#[derive(Debug)]
pub struct Open {
    /// The response.
    pub response: Response<Incoming>,
    connection: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Open {
    /// The next piece of the body; `None`: it ended, cleanly or not.
    ///
    /// # Panics
    /// None came in time.
    pub async fn next(&mut self) -> Option<Bytes> {
        let frame = timeout(PATIENCE, self.response.body_mut().frame()).await.expect("a piece of the body in time");
        frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok())
    }

    /// The rest of it.
    ///
    /// # Panics
    /// It did not end in time.
    pub async fn whole(mut self) -> Reply {
        let (mut body, mut trailers, mut cut) = (Vec::new(), HeaderMap::new(), false);
        let reading = async {
            while let Some(frame) = self.response.body_mut().frame().await {
                match frame.map(hyper::body::Frame::into_data) {
                    Ok(Ok(data)) => body.extend_from_slice(&data),
                    Ok(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
                    Err(_) => {
                        cut = true;
                        break;
                    }
                }
            }
        };
        timeout(PATIENCE, reading).await.expect("the end of the body in time");
        let headers = self.response.headers().clone();
        Reply { status: self.response.status().as_u16(), headers, body: body.into(), trailers, cut }
    }
}

/// Sends a request and waits for the head of its response.
///
/// # Panics
/// None came in time.
pub async fn open(address: SocketAddr, version: Version, mut request: Request<Bytes>) -> Open {
    let sending = async {
        let io = TokioIo::new(TcpStream::connect(address).await.expect("the node listens"));
        match version {
            Version::One => {
                let host = address.to_string().parse().expect("an address is a header's value");
                request.headers_mut().entry("host").or_insert(host);
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(io).await.expect("a connection that was just opened");
                let connection = tokio::spawn(async move { drop(connection.await) });
                (sender.send_request(request.map(Full::new)).await, connection)
            }
            Version::Two => {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                *request.uri_mut() = format!("http://{address}{path}").parse().expect("a path of a URI");
                let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .expect("a connection that was just opened");
                let connection = tokio::spawn(async move { drop(connection.await) });
                (sender.send_request(request.map(Full::new)).await, connection)
            }
        }
    };
    let (response, connection) = timeout(PATIENCE, sending).await.expect("a response in time");
    Open { response: response.expect("a response"), connection }
}

/// Sends a request and waits for the whole response.
///
/// # Panics
/// None came in time.
pub async fn send(address: SocketAddr, version: Version, request: Request<Bytes>) -> Reply {
    open(address, version, request).await.whole().await
}

/// Sends bytes as they are, says that no more come, and reads until the other side hangs up.
///
/// # Panics
/// It did not hang up in time.
pub async fn send_bytes(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let talking = async {
        let mut stream = TcpStream::connect(address).await.expect("the node listens");
        stream.write_all(bytes).await.expect("the node reads");
        stream.shutdown().await.expect("it is open");
        // Hanging up in the middle is an end too.
        let _ = stream.read_to_end(&mut answer).await;
    };
    timeout(PATIENCE, talking).await.expect("an end in time");
    answer
}
