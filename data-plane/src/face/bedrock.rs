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

pub use self::events::EventStream;
use super::{arrived, headers};
use crate::{
    auth::Credentials,
    call::{Call, Face, Reply, RequestId, Unread},
    infer::Node,
    record::{Record, Served},
    server::{Body, BodyError, BoxError, RequestBody},
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
        let record = arrived(&self.node, Face::Bedrock, address.operation, request.headers());
        let (parts, body) = request.into_parts();
        if let Err(why) = check_head(&parts, self.most_body_bytes) {
            return self.unread(why, record);
        }
        if !self.node.keys.load().may_be(&parts.headers, SystemTime::now()) {
            let refused = self.infer(of_a_stranger(address), record).await;
            // HTTP/2 tells a peer to stop; who waits to be told to go on sends nothing.
            if parts.version < Version::HTTP_2 && !parts.headers.contains_key(header::EXPECT) {
                body.discard().await;
            }
            return refused;
        }
        match Limited::new(body, self.most_body_bytes).collect().await {
            Ok(body) => self.infer(call(address, &parts, body.to_bytes()), record).await,
            Err(error) => {
                let why = not_whole(&error);
                let mut response = self.unread(why, record);
                // HTTP/2 has no such header, and its connection is still whole.
                if why != Unread::TooLarge && parts.version < Version::HTTP_2 {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        }
    }

    async fn infer(&self, call: Call, record: Record) -> Response<Body> {
        let id = record.id().clone();
        match self.node.infer(call, record).await {
            Ok(reply) => answer(reply),
            Err(refusal) => error::refused(&refusal, &id),
        }
    }

    /// Refuses a request that never becomes a call.
    fn unread(&self, why: Unread, record: Record) -> Response<Body> {
        let id = record.id().clone();
        error::refused(&record.refused(error::unread(why, self.most_body_bytes)), &id)
    }
}

fn not_whole(error: &BoxError) -> Unread {
    if error.is::<LengthLimitError>() {
        return Unread::TooLarge;
    }
    match error.downcast_ref() {
        Some(BodyError::Slow) => Unread::TooSlow,
        Some(BodyError::Broken(_)) | None => Unread::CutShort,
    }
}

fn check_head(parts: &Parts, most: usize) -> Result<(), Unread> {
    if parts.method != Method::POST {
        return Err(Unread::Method);
    }
    if !is_json(&parts.headers) {
        return Err(Unread::Kind);
    }
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > most as u64 => Err(Unread::TooLarge),
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

/// The call of somebody whose body nobody reads.
fn of_a_stranger(Address { model: route, .. }: Address) -> Call {
    Call { credentials: Credentials::None, deadline: None, metadata: Vec::new(), route, request: Err(Vec::new()) }
}

/// The call that a request asks for.
fn call(Address { model: route, operation }: Address, parts: &Parts, body: Bytes) -> Call {
    let credentials = Credentials::of(parts, &body);
    let (request, metadata) = match read(operation, body, &parts.headers) {
        Ok((request, metadata)) => (Ok(request), metadata),
        Err(problems) => (Err(problems), Vec::new()),
    };
    Call { credentials, deadline: None, metadata, route, request }
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
    let mut headers = HeaderMap::new();
    let body = match reply {
        Reply::Whole(reply) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            tell(reply.served(), &mut headers);
            Body::from(reply.told().body)
        }
        Reply::Stream(stream) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.amazon.eventstream"));
            // HTTP/1.1 has no trailers but those that were announced.
            headers.insert(header::TRAILER, HeaderValue::from(events::COMPLETENESS));
            tell(stream.served(), &mut headers);
            Body::stream(EventStream::of(stream))
        }
    };
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

fn tell(served: &Served, headers: &mut HeaderMap) {
    request_id(&served.request_id, headers);
    headers::served_headers(served, headers);
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
