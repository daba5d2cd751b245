//! The admin port: `/healthz` (the process answers), `/readyz` (it may be sent requests, and the state of its policy
//! and keys),
//! `/metrics`. Not for callers: it has no authentication, so it listens on loopback unless told otherwise.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::json;

use crate::{keys, server::Body, source::Status, sync, telemetry::Telemetry};

/// What the admin port shows.
#[derive(Debug)]
pub struct Admin {
    /// The metrics.
    pub telemetry: Arc<Telemetry>,
    /// The policy's state.
    pub policy: Arc<Status>,
    /// The state of the keys.
    pub keys: Arc<keys::Status>,
    /// The state of the stream to the control plane; `None`: policy and keys come from files.
    pub control_plane: Option<Arc<sync::Status>>,
    /// The node ends: it finishes what runs and wants nothing new.
    pub draining: AtomicBool,
}

impl Admin {
    /// Answers one request.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "the admin port is for GET".to_owned());
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/readyz" => self.ready(),
            "/metrics" => text(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.telemetry.metrics.text(),
            ),
            _ => text(StatusCode::NOT_FOUND, "text/plain", "there are /healthz, /readyz and /metrics\n".to_owned()),
        }
    }

    /// Ready with a policy in service, however old it is: an age limit here would take every node out at once.
    fn ready(&self) -> Response<Body> {
        let policy = self.policy.now();
        let draining = self.draining.load(Ordering::Relaxed);
        let ready = policy.revision.is_some() && !draining;
        let body = json!({
            "ready": ready,
            "draining": draining,
            "revision": policy.revision.as_deref(),
            "policy_problems": policy.problems,
            "key_problems": self.keys.problems(),
            "source": if self.control_plane.is_some() { "control_plane" } else { "files" },
            "control_plane": self.control_plane.as_ref().map(|status| status.document()),
        });
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        text(status, "application/json", format!("{body}\n"))
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
