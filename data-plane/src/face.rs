//! The ways in: each translates, calls [`crate::infer`], and translates back. All are on one port; the path tells which.

pub mod bedrock;
pub mod grpc;
pub mod headers;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tower_service::Service;

use crate::{
    infer::Node,
    server::{Body, RequestBody},
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

/// gRPC's router answers every path with 200 and a status of its own; only what is gRPC and ours may reach it.
fn is_grpc<B>(request: &Request<B>) -> bool {
    const SERVICES: [&str; 3] = ["/switchtower.inference.v1.", "/grpc.health.v1.", "/grpc.reflection."];
    let grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    grpc && SERVICES.iter().any(|service| request.uri().path().starts_with(service))
}

fn unknown_path() -> Response<Body> {
    let text = "this node serves /model/{route}/converse, /model/{route}/converse-stream \
                and the gRPC service switchtower.inference.v1.InferenceService\n";
    let mut response = Response::new(Body::from(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response
}
