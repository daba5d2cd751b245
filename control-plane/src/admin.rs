//! The admin port: `/healthz` (the process answers), `/readyz` (operators and nodes may come), `/metrics`. It has no
//! authentication, so it listens on loopback unless told otherwise.

use std::{convert::Infallible, future::Future, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Most connections at once: probes and scrapers, and no more.
const MOST_CONNECTIONS: usize = 64;

/// What the admin port shows.
pub trait Shown: Send + Sync + 'static {
    /// Whether operators and nodes may come, and a JSON document that says more.
    fn ready(&self) -> (bool, String);
    /// Metrics in the OpenMetrics text format.
    fn metrics(&self) -> impl Future<Output = String> + Send;
}

/// Answers until stopped.
pub async fn serve<S: Shown>(listener: TcpListener, shown: Arc<S>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = stop.cancelled() => return,
        };
        // Whoever came is gone again, or there are no descriptors: the next one may be luckier.
        let Ok((stream, _)) = accepted else { continue };
        let shown = shown.clone();
        let service = service_fn(move |request| {
            let shown = shown.clone();
            async move { Ok::<_, Infallible>(answer(&*shown, &request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // Its failure is the caller's: it went away in the middle.
        connections.spawn(async move { drop(connection.await) });
    }
}

async fn answer<S: Shown>(shown: &S, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "the admin port is for GET\n".to_owned());
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" => {
            let (ready, document) = shown.ready();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            text(status, "application/json", document)
        }
        "/metrics" => {
            text(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", shown.metrics().await)
        }
        _ => text(StatusCode::NOT_FOUND, "text/plain", "there are /healthz, /readyz and /metrics\n".to_owned()),
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
