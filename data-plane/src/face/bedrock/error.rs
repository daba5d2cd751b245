//! Refusals in the form that AWS SDKs raise as their own exceptions: status, `x-amzn-errortype`, a JSON message.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use switchtower_policy::failure::Class;

use super::super::headers;
use crate::{
    call::{Reason, Refusal, RequestId, Unread},
    server::Body,
};

/// What an AWS SDK makes of a refusal.
struct Form {
    status: u16,
    /// Name of the exception.
    kind: &'static str,
}

impl Form {
    /// The one table from our reasons to Bedrock's exceptions. AWS SDKs try 429, 500, 502, 503 and 504 again by
    /// themselves, so only what may be mended by that gets one of them.
    ///
    /// A target that we may not use (misconfigured, refused credentials) is the operator's to mend, and asking again only
    /// adds load: 424 says that what we depend on failed, is not tried again, and unlike 403 blames no key of the
    /// caller's.
    fn of(reason: &Reason) -> Self {
        let (status, kind) = match reason {
            Reason::Unauthenticated => (401, "UnrecognizedClientException"),
            Reason::SignatureExpired => (403, "InvalidSignatureException"),
            Reason::UnknownRoute { .. } => (404, "ResourceNotFoundException"),
            Reason::Invalid { .. } => (400, "ValidationException"),
            Reason::Unread(Unread::Method) => (405, "UnknownOperationException"),
            Reason::Unread(Unread::Kind) => (415, "ValidationException"),
            Reason::Unread(Unread::TooLarge) => (413, "ValidationException"),
            Reason::Unread(Unread::CutShort) => (400, "ValidationException"),
            // A name that AWS SDKs try again: nothing has been done.
            Reason::Unread(Unread::TooSlow) => (408, "RequestTimeoutException"),
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
            Some(Class::ModelRefused | Class::ModelError | Class::Misconfigured | Class::Credentials) => {
                (424, "ModelErrorException")
            }
            Some(
                Class::ModelTimeout
                | Class::FirstTokenTimeout
                | Class::IdleTimeout
                | Class::TotalTimeout
                | Class::CallerDeadline,
            ) => (408, "ModelTimeoutException"),
            Some(Class::Internal | Class::Protocol) => (500, "InternalServerException"),
            None | Some(Class::Connect | Class::Unavailable | Class::Broken) => (503, "ServiceUnavailableException"),
        };
        Form { status, kind }
    }
}

/// A refusal: by [`crate::infer`], or of a request that never came so far.
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
    match status {
        401 => drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        405 => drop(headers.insert(header::ALLOW, HeaderValue::from_static("POST"))),
        _ => {}
    }
    response
}

/// botocore and the JavaScript SDK read milliseconds under AWS's name; everybody else reads seconds.
fn retry_after(after: Duration, headers: &mut HeaderMap) {
    let milliseconds = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    headers.insert("x-amz-retry-after", HeaderValue::from(milliseconds));
    headers.insert(header::RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1000)));
}

/// The refusal of a request whose body is not there; `most` bytes are taken.
pub(super) fn unread(why: Unread, most: usize) -> Refusal {
    let message = match why {
        Unread::Method => "Converse and ConverseStream are called by POST".to_owned(),
        Unread::Kind => "the body must be JSON: send `content-type: application/json`".to_owned(),
        Unread::TooLarge => format!("the body is larger than this node takes: at most {most} bytes"),
        Unread::TooSlow => "the body came too slowly".to_owned(),
        Unread::CutShort => "the body was cut short".to_owned(),
    };
    Refusal { reason: Reason::Unread(why), message, retry_after: None, served: None }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reason: Reason, status: u16, kind: &str, header: Option<(&str, &str)>) {
        let refusal = Refusal { reason, message: "No.".to_owned(), retry_after: None, served: None };
        let response = refused(&refusal, &"00ff".into());
        assert_eq!(response.status().as_u16(), status, "{refusal:?}");
        assert_eq!(response.headers()["x-amzn-errortype"], kind, "{refusal:?}");
        if let Some((name, value)) = header {
            assert_eq!(response.headers()[name], value);
        }
    }

    #[test]
    fn only_what_asking_again_may_mend_has_a_status_that_sdks_try_again() {
        let upstream = |class| Reason::Upstream { class, code: None };
        check(Reason::Unauthenticated, 401, "UnrecognizedClientException", Some(("www-authenticate", "Bearer")));
        check(Reason::SignatureExpired, 403, "InvalidSignatureException", None);
        check(Reason::Unready, 503, "ServiceUnavailableException", None);
        check(upstream(None), 503, "ServiceUnavailableException", None);
        for class in [Class::Connect, Class::Unavailable, Class::Broken] {
            check(upstream(Some(class)), 503, "ServiceUnavailableException", None);
        }
        for class in [Class::Misconfigured, Class::Credentials, Class::ModelError, Class::ModelRefused] {
            check(upstream(Some(class)), 424, "ModelErrorException", None);
        }
        for class in [Class::Invalid, Class::ContextTooLong] {
            check(upstream(Some(class)), 400, "ValidationException", None);
        }
    }

    #[test]
    fn another_method_is_told_which_is_right() {
        check(Reason::Unread(Unread::Method), 405, "UnknownOperationException", Some(("allow", "POST")));
    }
}
