//! The ways in: each begins a record, translates, calls [`crate::infer`], and translates back. All are on one port; the
//! path tells which.

pub mod bedrock;
pub mod grpc;
pub mod headers;

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use switchtower_provider::Operation;
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    call::{Arrival, Face, new_request_id},
    infer::Node,
    record::Record,
    server::{Body, RequestBody},
    trace::TraceContext,
};

/// All ways in.
#[derive(Clone, Debug)]
pub struct Faces {
    bedrock: bedrock::Bedrock,
    grpc: tonic::service::Routes,
}

impl Faces {
    /// The faces of a node. `most_body_bytes` bounds a request's body.
    #[must_use]
    pub fn new(node: Arc<Node>, most_body_bytes: usize, grpc: tonic::service::Routes) -> Self {
        Faces { bedrock: bedrock::Bedrock { node, most_body_bytes }, grpc }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<RequestBody>) -> Response<Body> {
        let path = request.uri().path();
        if let Some(rest) = path.strip_prefix("/model/") {
            return match bedrock::Address::of(rest) {
                Some(address) => self.bedrock.answer(address, request).await,
                None => unknown_path(),
            };
        }
        if is_grpc(&request) {
            let mut grpc = self.grpc.clone();
            return match grpc.call(request.map(|body| body.map_err(grpc::broken_off))).await {
                Ok(response) => response.map(Body::stream),
                Err(never) => match never {},
            };
        }
        unknown_path()
    }
}

/// Begins the record of a request whose head has just come. A face does so before it looks at anything else: whatever
/// it then refuses, ends the record by that, and a caller who leaves while the body is on its way drops it, which ends
/// it too.
fn arrived(node: &Node, face: Face, operation: Operation, headers: &HeaderMap) -> Record {
    let (id, received, trace) = (new_request_id(), Instant::now(), TraceContext::of(headers));
    Record::begin(Arrival { id, face, operation, received, trace }, SystemTime::now(), &node.telemetry)
}

/// gRPC's router answers every path with 200 and a status of its own; only what is gRPC and ours may reach it.
fn is_grpc<B>(request: &Request<B>) -> bool {
    const SERVICES: [&str; 3] = ["/switchtower.inference.v1.", "/grpc.health.v1.", "/grpc.reflection."];
    let grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    grpc && SERVICES.iter().any(|service| request.uri().path().starts_with(service))
}

/// What no face takes for its own has no record: nobody asked a model for anything, and whoever tries paths at random
/// would fill logs and traces with them.
fn unknown_path() -> Response<Body> {
    let text = "this node serves /model/{route}/converse, /model/{route}/converse-stream \
                and the gRPC service switchtower.inference.v1.InferenceService\n";
    let mut response = Response::new(Body::from(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response
}
