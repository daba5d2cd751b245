//! The door of the inference service. Every request's record begins here, and what is refused between here and a method
//! of the service ends it here: by us, who has no key, before a byte of the message is read, since a message of tens of
//! megabytes would be kept for whoever knocks; by tonic, a message that it cannot read.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::SystemTime,
};

use http::{Request, Response};
use switchtower_provider::Operation;
use tonic::{Status, body::Body, server::NamedService};
use tower_service::Service;

use super::status;
use crate::{
    auth::Credentials,
    call::{Call, Face, Reason, Refusal, Unread},
    face::arrived,
    infer::Node,
    record::Record,
};

/// The record of a request on its way through tonic. A method of the service takes it; where tonic answers instead, it
/// is still there.
#[derive(Clone, Debug)]
pub(super) struct Begun(Arc<Mutex<Option<Record>>>);

impl Begun {
    pub(super) fn take(&self) -> Option<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

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
    S: NamedService + Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer<Infallible> {
        let method = operation(S::NAME, request.uri().path());
        let record = arrived(&self.node, Face::Grpc, method.unwrap_or(Operation::Converse), request.headers());
        let credentials = Credentials::of_headers(request.headers());
        if self.node.keys.load().authenticate(&credentials, SystemTime::now()).is_err() {
            return Box::pin(refuse(self.node.clone(), record));
        }
        let begun = Begun(Arc::new(Mutex::new(Some(record))));
        request.extensions_mut().insert(begun.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(match begun.take() {
                None => response,
                Some(record) => unread(&response, record, method.is_some()),
            })
        })
    }
}

/// What the method of a path does; `None`: the service has none of this name.
fn operation(service: &str, path: &str) -> Option<Operation> {
    match path.strip_prefix('/')?.strip_prefix(service)? {
        "/Generate" => Some(Operation::Converse),
        "/GenerateStream" => Some(Operation::ConverseStream),
        _ => None,
    }
}

/// Refuses a stranger by way of the request path, as if there were nothing more of the request.
async fn refuse(node: Arc<Node>, record: Record) -> Result<Response<Body>, Infallible> {
    let id = record.id().clone();
    let call = Call {
        credentials: Credentials::None,
        deadline: None,
        metadata: Vec::new(),
        route: String::new(),
        request: Err(Vec::new()),
    };
    let status = match node.infer(call, record).await {
        Err(refusal) => status::refused(&refusal, &id),
        Ok(_) => Status::unauthenticated("no key was shown"),
    };
    Ok(status.into_http())
}

/// Ends the record of a request that tonic refused, and tells its caller more of that than tonic did.
fn unread(response: &Response<Body>, record: Record, known_method: bool) -> Response<Body> {
    let status = Status::from_header_map(response.headers()).unwrap_or_else(|| Status::unknown("no status"));
    let reason = match known_method {
        true => status::why_unread(status.code()),
        false => Reason::Unread(Unread::Method),
    };
    let id = record.id().clone();
    let message = status.message().to_owned();
    let refusal = record.refused(Refusal { reason, message, retry_after: None, served: None });
    status::unread(&status, &refusal, &id).into_http()
}
