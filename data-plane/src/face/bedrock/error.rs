//! Refusals in the form that AWS SDKs raise as their own exceptions: status, `x-amzn-errortype`, a JSON message.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use switchtower_policy::failure::Class;

use super::super::headers;
use crate::{
    call::{Reason, Refusal, RequestId},
    server::Body,
};

/// What an AWS SDK makes of a refusal.
struct Form {
    status: u16,
    /// Name of the exception.
    kind: &'static str,
}

impl Form {
    /// The one table from our reasons to Bedrock's exceptions. AWS SDKs try 429, 500 and 503 again by themselves, so only
    /// what may be mended by that gets one of them.
    fn of(reason: &Reason) -> Self {
        let (status, kind) = match reason {
            Reason::Unauthenticated => (401, "UnrecognizedClientException"),
            Reason::SignatureExpired => (403, "InvalidSignatureException"),
            Reason::UnknownRoute { .. } => (404, "ResourceNotFoundException"),
            Reason::Invalid { .. } => (400, "ValidationException"),
            Reason::DeadlineExceeded => (408, "ModelTimeoutException"),
            Reason::Unready => (503, "ServiceUnavailableException"),
            Reason::Upstream { class, .. } => return Self::of_class(*class),
        };
        Form { status, kind }
    }

    fn of_class(class: Option<Class>) -> Self {
        let (status, kind) = match class {
            Some(Class::Throttled) => (429, "ThrottlingException"),
            Some(Class::QuotaExceeded) => (400, "ServiceQuotaExceededException"),
            Some(Class::ModelNotReady) => (429, "ModelNotReadyException"),
            Some(Class::Invalid | Class::ContextTooLong) => (400, "ValidationException"),
            Some(Class::ModelRefused | Class::ModelError) => (424, "ModelErrorException"),
            Some(
                Class::ModelTimeout
                | Class::FirstTokenTimeout
                | Class::IdleTimeout
                | Class::TotalTimeout
                | Class::CallerDeadline,
            ) => (408, "ModelTimeoutException"),
            Some(Class::Internal | Class::Protocol) => (500, "InternalServerException"),
            // A target that we may not use is the operator's to mend: to the caller it is not there.
            None | Some(_) => (503, "ServiceUnavailableException"),
        };
        Form { status, kind }
    }
}

/// A refusal by [`crate::infer`].
pub(super) fn refused(refusal: &Refusal, id: &RequestId) -> Response<Body> {
    let Form { status, kind } = Form::of(&refusal.reason);
    let mut response = response(status, kind, &refusal.message, id);
    let headers = response.headers_mut();
    if let Some(served) = &refusal.served {
        headers::served_headers(served, headers);
    }
    if let Some(after) = refusal.retry_after {
        retry_after(after, headers);
    }
    response
}

/// botocore and the JavaScript SDK read milliseconds under AWS's name; everybody else reads seconds.
fn retry_after(after: Duration, headers: &mut HeaderMap) {
    let milliseconds = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    headers.insert("x-amz-retry-after", HeaderValue::from(milliseconds));
    headers.insert(header::RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1000)));
}

pub(super) fn method_not_allowed(id: &RequestId) -> Response<Body> {
    response(405, "UnknownOperationException", "Converse and ConverseStream are called by POST", id)
}

pub(super) fn not_json(id: &RequestId) -> Response<Body> {
    response(415, "ValidationException", "the body must be JSON: send `content-type: application/json`", id)
}

pub(super) fn too_large(most: usize, id: &RequestId) -> Response<Body> {
    let message = format!("the body is larger than this node takes: at most {most} bytes");
    response(413, "ValidationException", &message, id)
}

pub(super) fn cut_short(id: &RequestId) -> Response<Body> {
    response(400, "ValidationException", "the body was cut short", id)
}

fn response(status: u16, kind: &'static str, message: &str, id: &RequestId) -> Response<Body> {
    let body = Bytes::from(json!({ "message": message }).to_string());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-amzn-errortype", HeaderValue::from_static(kind));
    super::request_id(id, headers);
    headers::request_id_header(id, headers);
    response
}
