//! A node's port over loopback, and callers that no library would be.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header, request::Builder};
use http_body_util::channel::{Channel, Sender};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use switchtower_data_plane::{
    face::{self, Faces},
    server::{self, Limits},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use crate::support::Tower;

pub(crate) const MOST_BODY_BYTES: usize = 1000;
pub(crate) const BODY: &str = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;

pub(crate) fn serve(tower: &Tower) -> SocketAddr {
    let listener = server::listen(SocketAddr::from(([127, 0, 0, 1], 0)), false).unwrap();
    let address = listener.local_addr().unwrap();
    let routes = face::grpc::routes(tower.node.clone(), tonic_health::server::HealthReporter::new(), MOST_BODY_BYTES);
    let faces = Arc::new(Faces::new(tower.node.clone(), MOST_BODY_BYTES, routes));
    let handler = move |request| {
        let faces = faces.clone();
        async move { faces.answer(request).await }
    };
    let limits = Limits::default();
    tokio::spawn(server::serve(listener, None, limits, handler, CancellationToken::new(), Duration::ZERO));
    address
}

/// What a node says to these bytes and nothing more, until it hangs up or has said `last`.
pub(crate) async fn said(address: SocketAddr, sent: &str, last: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        answer.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&answer);
        if read == 0 || (!last.is_empty() && text.ends_with(last)) {
            return text.into_owned();
        }
    }
}

pub(crate) fn head(operation: &str, length: usize, more: &str) -> String {
    format!("POST /model/chat/{operation} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n{more}\r\n")
}

/// A gRPC call of a method of the inference service; to be finished with a body.
pub(crate) fn grpc(address: SocketAddr, method: &str) -> Builder {
    Request::post(format!("http://{address}/switchtower.inference.v1.InferenceService/{method}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
}

/// Begins a call over HTTP/2 with these bytes of a body that ends when the sender is dropped. What is given first is
/// the response that is to come.
pub(crate) async fn begun(
    request: Builder,
    sent: &[u8],
) -> (impl Future<Output = Response<Incoming>> + use<>, Sender<Bytes>) {
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let request = request.body(body).unwrap();
    let stream = TcpStream::connect(request.uri().authority().unwrap().as_str()).await.unwrap();
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_data(Bytes::copy_from_slice(sent)).await.unwrap();
    (async move { client.send_request(request).await.unwrap() }, sender)
}
