//! The gRPC way in: `inference.v1`, typed.
//!
//! No target speaks this face's dialect, so a request is written as Converse before `infer` and the answer read back
//! after it: `request` and `response` are pure and loss-free, `status` is the only place where a refusal becomes a
//! gRPC status, `stream` moves events. What a request means is not decided here.

mod converse;
mod deadline;
mod gate;
mod json;
mod request;
mod response;
mod status;
mod stream;
mod violations;

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use http::HeaderMap;
use prost::Message as _;
use switchtower_policy::failure::Class;
use switchtower_proto::inference::v1::{
    GenerateRequest, GenerateResponse, GenerateStreamRequest, GenerateStreamResponse,
    inference_service_server::{InferenceService, InferenceServiceServer},
};
use switchtower_provider::{Operation, bedrock::request::Request as ConverseRequest};
use tokio::time::Instant;
use tonic::{Request, Response, Status, metadata::MetadataMap, service::Routes};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use self::{
    gate::{Begun, Gate},
    violations::{At, Violations},
};
use crate::{
    attempts::own_failure,
    auth::Credentials,
    call::{Call, Reply},
    face::headers::{metadata_of, served_headers},
    infer::Node,
    record::{Record, Served},
    server::{BodyError, BoxError},
};

/// Most bytes of an answer: Bedrock's own limit of a body.
const ANSWER_BYTES: usize = 25_000_000;
/// Most bytes of a message to the services that are open to everybody: a name and little more.
const OPEN_BYTES: usize = 16 * 1024;

/// The services of this face: inference, health, reflection. What `health` says of them is its holder's to set, under ""
/// and under `switchtower.inference.v1.InferenceService`. `most_body_bytes` bounds a request's message.
#[must_use]
pub fn routes(node: Arc<Node>, health: HealthReporter, most_body_bytes: usize) -> Routes {
    let inference = InferenceServiceServer::new(Inference { node: node.clone() })
        .max_decoding_message_size(most_body_bytes)
        .max_encoding_message_size(ANSWER_BYTES);
    // Python's own reflection client, and older grpcurl, ask by the older name alone.
    let reflection = reflection_builder().build_v1().expect("descriptors made by our own build are whole");
    let older_reflection = reflection_builder().build_v1alpha().expect("descriptors made by our own build are whole");
    let health = HealthServer::new(HealthService::from_health_reporter(health));
    Routes::new(Gate { node, inner: inference })
        .add_service(health.max_decoding_message_size(OPEN_BYTES))
        .add_service(reflection.max_decoding_message_size(OPEN_BYTES))
        .add_service(older_reflection.max_decoding_message_size(OPEN_BYTES))
}

fn reflection_builder() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(switchtower_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// The inference service of a node.
struct Inference {
    node: Arc<Node>,
}

#[tonic::async_trait]
impl InferenceService for Inference {
    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<GenerateResponse>, Status> {
        let (headers, record, message) = taken_apart(request);
        let id = record.id().clone();
        let call = call(Operation::Converse, &headers, record.received(), Some(message), &At::ROOT);
        match self.node.infer(call, record).await {
            Ok(Reply::Whole(reply)) => match response::whole(&reply.answer, &reply.ended, reply.served()) {
                // Tonic would refuse it where nobody is left to record that.
                Ok(message) if message.encoded_len() > ANSWER_BYTES => {
                    let problem = format!("the answer is longer than {ANSWER_BYTES} bytes");
                    Err(untold(Reply::Whole(reply), &problem))
                }
                Ok(message) => {
                    let response = with_headers(message, reply.served());
                    reply.told();
                    Ok(response)
                }
                Err(malformed) => Err(untold(Reply::Whole(reply), &malformed.to_string())),
            },
            Ok(reply @ Reply::Stream(_)) => Err(untold(reply, "a whole answer was asked for and a stream came")),
            Err(refusal) => Err(status::refused(&refusal, &id)),
        }
    }

    type GenerateStreamStream = Pin<Box<dyn Stream<Item = Result<GenerateStreamResponse, Status>> + Send>>;

    async fn generate_stream(
        &self,
        request: Request<GenerateStreamRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        let (headers, record, message) = taken_apart(request);
        let id = record.id().clone();
        let at = At::ROOT.field("request");
        let call = call(Operation::ConverseStream, &headers, record.received(), message.request, &at);
        match self.node.infer(call, record).await {
            Ok(Reply::Stream(reply)) => {
                let served = reply.served().clone();
                let messages: Self::GenerateStreamStream = Box::pin(stream::messages(reply));
                Ok(with_headers(messages, &served))
            }
            Ok(reply @ Reply::Whole(_)) => Err(untold(reply, "a stream was asked for and a whole answer came")),
            Err(refusal) => Err(status::refused(&refusal, &id)),
        }
    }
}

/// What tonic is to make of a request's body that is not whole.
pub(super) fn broken_off(error: BodyError) -> BoxError {
    match error {
        BodyError::Slow => Status::deadline_exceeded("the message came too slowly").into(),
        // What tonic makes of hyper's own error depends on how the peer went; a peer that cancels, it takes for the end of
        // the message.
        BodyError::Broken(_) => Status::data_loss("the message was cut short").into(),
    }
}

/// The head, the record and the message of a request.
fn taken_apart<T>(request: Request<T>) -> (HeaderMap, Record, T) {
    let (metadata, extensions, message) = request.into_parts();
    let record = extensions.get::<Begun>().and_then(Begun::take);
    (
        metadata.into_headers(),
        record.expect("the gate gives every request a record, and a method is called once"),
        message,
    )
}

/// Ends the record of a reply that this face cannot tell.
fn untold(reply: Reply, message: &str) -> Status {
    let failure = own_failure(Class::Protocol, message);
    let served = match reply {
        Reply::Whole(reply) => reply.untold(&failure),
        Reply::Stream(reply) => reply.untold(&failure),
    };
    status::unreadable(message, &served)
}

/// The call that a request asks for. What is wrong with it goes with it: only a caller with a key is told.
fn call(
    operation: Operation,
    headers: &HeaderMap,
    received: Instant,
    asked: Option<GenerateRequest>,
    at: &At<'_>,
) -> Call {
    let route = asked.as_ref().map(|asked| asked.route.clone()).unwrap_or_default();
    let (request, deadline, metadata) = match translated(operation, headers, received, asked, at) {
        Ok((request, deadline, metadata)) => (Ok(request), deadline, metadata),
        Err(violations) => (Err(violations.into_problems()), None, Vec::new()),
    };
    Call { credentials: Credentials::of_headers(headers), deadline, metadata, route, request }
}

type Translated = (ConverseRequest, Option<Instant>, Vec<(String, String)>);

fn translated(
    operation: Operation,
    headers: &HeaderMap,
    received: Instant,
    asked: Option<GenerateRequest>,
    at: &At<'_>,
) -> Result<Translated, Violations> {
    let asked = asked.ok_or_else(|| Violations::one("request", "must be given"))?;
    let body = request::body(&asked, at)?;
    let timeout = asked.timeout.as_ref().and_then(request::timeout_of);
    let deadline = deadline::of(headers, timeout, received)?;
    let in_headers = metadata_of(headers).map_err(|bad| Violations::one("", bad.to_string()))?;
    let converse = ConverseRequest::read(operation, body.into())
        .map_err(|malformed| Violations::one(malformed.field.unwrap_or_default(), malformed.message))?;
    Ok((converse, deadline, asked.metadata.into_iter().chain(in_headers).collect()))
}

fn with_headers<T>(message: T, served: &Served) -> Response<T> {
    let mut headers = HeaderMap::new();
    served_headers(served, &mut headers);
    let mut response = Response::new(message);
    *response.metadata_mut() = MetadataMap::from_headers(headers);
    response
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_descriptors_that_reflection_serves_are_whole() {
        assert!(super::reflection_builder().build_v1().is_ok());
        assert!(super::reflection_builder().build_v1alpha().is_ok());
    }
}
