//! Bedrock Runtime's own API, for any AWS SDK with another endpoint: Converse and ConverseStream.
//!
//! The model id of the path is a route or an alias. Bodies go through untouched but for what policy sets, so a member
//! that we have never heard of reaches the model, and its answer the caller.

mod error;
mod events;

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use switchtower_provider::{
    Operation,
    bedrock::{self, request::Malformed},
};
use tokio::time::Instant;

pub use self::events::EventStream;
use super::headers;
use crate::{
    auth::Credentials,
    call::{Call, Face, Reply, RequestId, new_request_id},
    infer::Node,
    server::{Body, BodyError, BoxError, RequestBody},
    trace::TraceContext,
};

/// The face.
#[derive(Clone, Debug)]
pub struct Bedrock {
    /// Answers the calls.
    pub node: Arc<Node>,
    /// Most bytes of a request's body.
    pub most_body_bytes: usize,
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    /// The model id, decoded: a route or an alias.
    pub model: String,
    /// The operation.
    pub operation: Operation,
}

impl Address {
    /// Reads what follows `/model/` in a raw path. The id is one segment, decoded after the split: an ARN's `%2F` makes
    /// no segment. `None`: no operation of ours.
    #[must_use]
    pub fn of(rest: &str) -> Option<Self> {
        let (model, operation) = rest.split_once('/')?;
        let operation = match operation {
            "converse" => Operation::Converse,
            "converse-stream" => Operation::ConverseStream,
            _ => return None,
        };
        let model = percent_decode_str(model).decode_utf8().ok().filter(|model| !model.is_empty())?.into_owned();
        Some(Address { model, operation })
    }
}

impl Bedrock {
    /// Answers one request.
    ///
    /// Who can be no caller is told so before the body is there: megabytes would be kept for whoever knocks.
    pub async fn answer(&self, address: Address, request: Request<RequestBody>) -> Response<Body> {
        let received = Instant::now();
        let id = new_request_id();
        let (parts, body) = request.into_parts();
        if let Err(response) = check_head(&parts, self.most_body_bytes, &id) {
            return response;
        }
        let call = Call {
            id: id.clone(),
            face: Face::Bedrock,
            credentials: Credentials::None,
            received,
            deadline: None,
            trace: TraceContext::of(&parts.headers),
            metadata: Vec::new(),
            route: address.model,
            operation: address.operation,
            request: Err(Vec::new()),
        };
        if !self.node.keys.load().may_be(&parts.headers, SystemTime::now()) {
            let refused = self.infer(call).await;
            // HTTP/2 tells a peer to stop; who waits to be told to go on sends nothing.
            if parts.version < Version::HTTP_2 && !parts.headers.contains_key(header::EXPECT) {
                body.discard().await;
            }
            return refused;
        }
        match Limited::new(body, self.most_body_bytes).collect().await {
            Ok(body) => self.infer(with_body(call, &parts, body.to_bytes())).await,
            Err(error) => self.not_whole(&error, &parts, &id),
        }
    }

    async fn infer(&self, call: Call) -> Response<Body> {
        let id = call.id.clone();
        match self.node.infer(call).await {
            Ok(reply) => answer(reply),
            Err(refusal) => error::refused(&refusal, &id),
        }
    }

    fn not_whole(&self, error: &BoxError, parts: &Parts, id: &RequestId) -> Response<Body> {
        if error.is::<LengthLimitError>() {
            return error::too_large(self.most_body_bytes, id);
        }
        let mut response = match error.downcast_ref() {
            Some(BodyError::Slow) => error::too_slow(id),
            Some(BodyError::Broken(_)) | None => error::cut_short(id),
        };
        // HTTP/2 has no such header, and its connection is still whole.
        if parts.version < Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[expect(clippy::result_large_err, reason = "the error is the response")]
fn check_head(parts: &Parts, most: usize, id: &RequestId) -> Result<(), Response<Body>> {
    if parts.method != Method::POST {
        return Err(error::method_not_allowed(id));
    }
    if !is_json(&parts.headers) {
        return Err(error::not_json(id));
    }
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > most as u64 => Err(error::too_large(most, id)),
        _ => Ok(()),
    }
}

/// A body without a content type is taken for JSON, as Bedrock takes it.
fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_none_or(|kind| {
        let kind = kind.as_bytes();
        let end = kind.iter().position(|byte| *byte == b';').unwrap_or(kind.len());
        kind[..end].trim_ascii().eq_ignore_ascii_case(b"application/json")
    })
}

/// The call with what its body says.
fn with_body(call: Call, parts: &Parts, body: Bytes) -> Call {
    let credentials = Credentials::of(parts, &body);
    let (request, metadata) = match read(call.operation, body, &parts.headers) {
        Ok((request, metadata)) => (Ok(request), metadata),
        Err(problems) => (Err(problems), Vec::new()),
    };
    Call { credentials, metadata, request, ..call }
}

/// Pairs of key and value.
type Metadata = Vec<(String, String)>;

/// The request with its metadata: that of the body, then that of the headers, which wins. Or all that is wrong with both.
fn read(
    operation: Operation,
    body: Bytes,
    headers: &HeaderMap,
) -> Result<(bedrock::request::Request, Metadata), Vec<Malformed>> {
    match (bedrock::request::Request::read(operation, body), headers::metadata_of(headers)) {
        (Ok(request), Ok(more)) => {
            let metadata = request.metadata.iter().cloned().chain(more).collect();
            Ok((request, metadata))
        }
        (read, headers) => {
            let headers = headers.err().map(|bad| Malformed { field: None, message: bad.to_string() });
            Err(read.err().into_iter().chain(headers).collect())
        }
    }
}

fn answer(reply: Reply) -> Response<Body> {
    let stream = matches!(reply, Reply::Stream(_));
    let (served, body, kind) = match reply {
        Reply::Whole { answer, served, .. } => (served, Body::from(answer.body), "application/json"),
        Reply::Stream(stream) => {
            let served = stream.served().clone();
            (served, Body::stream(EventStream::of(stream)), "application/vnd.amazon.eventstream")
        }
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if stream {
        // HTTP/1.1 has no trailers but those that were announced.
        headers.insert(header::TRAILER, HeaderValue::from(events::COMPLETENESS));
    }
    request_id(&served.request_id, headers);
    headers::served_headers(&served, headers);
    response
}

/// The id where AWS SDKs look for it.
fn request_id(id: &RequestId, headers: &mut HeaderMap) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-amzn-requestid", id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_id_is_one_segment_decoded_after_the_split() {
        let check = |rest: &str, expected: Option<(&str, Operation)>| {
            let expected = expected.map(|(model, operation)| Address { model: model.to_owned(), operation });
            assert_eq!(Address::of(rest), expected, "{rest}");
        };
        check("support-chat/converse", Some(("support-chat", Operation::Converse)));
        check("a.b-v1%3A0/converse-stream", Some(("a.b-v1:0", Operation::ConverseStream)));
        check("a.b-v1:0/converse", Some(("a.b-v1:0", Operation::Converse)));
        check("arn%3Aaws%3Ax%2Fus.a%3A0/converse", Some(("arn:aws:x/us.a:0", Operation::Converse)));
        check("a/b/converse", None);
        check("/converse", None);
        check("a/invoke", None);
        check("a", None);
        check("%ff/converse", None);
    }

    #[test]
    fn the_content_type_is_json_or_absent() {
        let check = |kind: Option<&'static str>, expected: bool| {
            let mut headers = HeaderMap::new();
            if let Some(kind) = kind {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            assert_eq!(is_json(&headers), expected, "{kind:?}");
        };
        check(None, true);
        check(Some("application/json"), true);
        check(Some("Application/JSON ; charset=utf-8"), true);
        check(Some("text/plain"), false);
        check(Some("application/json-lines"), false);
    }
}
