//! The door of the inference service: who has no key is refused before a byte of the message is read, since a message of
//! tens of megabytes would be kept for whoever knocks.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use http::{Request, Response};
use switchtower_provider::Operation;
use tokio::time::Instant;
use tonic::{Status, body::Body, server::NamedService};
use tower_service::Service;

use super::status;
use crate::{
    auth::Credentials,
    call::{Call, Face, new_request_id},
    infer::Node,
    trace::TraceContext,
};

/// When the head of a request was there: its body may take longer than its deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received(pub(super) Instant);

/// A service that is for callers with a key.
#[derive(Clone, Debug)]
pub(super) struct Gate<S> {
    pub(super) node: Arc<Node>,
    pub(super) inner: S,
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer<Infallible> {
        let received = Instant::now();
        let credentials = Credentials::of_headers(request.headers());
        if self.node.keys.load().authenticate(&credentials, SystemTime::now()).is_err() {
            let call = of_a_stranger(&request, received);
            return Box::pin(refuse(self.node.clone(), call));
        }
        request.extensions_mut().insert(Received(received));
        Box::pin(self.inner.call(request))
    }
}

/// What is known of a request whose message nobody reads.
fn of_a_stranger(request: &Request<Body>, received: Instant) -> Call {
    let stream = request.uri().path().ends_with("/GenerateStream");
    Call {
        id: new_request_id(),
        face: Face::Grpc,
        credentials: Credentials::None,
        received,
        deadline: None,
        trace: TraceContext::of(request.headers()),
        metadata: Vec::new(),
        route: String::new(),
        operation: if stream { Operation::ConverseStream } else { Operation::Converse },
        request: Err(Vec::new()),
    }
}

/// Refuses by way of the request path, so that it is recorded as every refusal is.
async fn refuse(node: Arc<Node>, call: Call) -> Result<Response<Body>, Infallible> {
    let id = call.id.clone();
    let status = match node.infer(call).await {
        Err(refusal) => status::refused(&refusal, &id),
        Ok(_) => Status::unauthenticated("no key was shown"),
    };
    Ok(status.into_http())
}
