//! The only place where a refusal or a failure becomes a gRPC status.
//!
//! The code is for libraries (what they retry by themselves), the reason in ErrorInfo for programs, the message for
//! people. A failure that only an operator can mend is INTERNAL, not UNAVAILABLE: trying again does not help, and it is
//! not the caller's fault either.
//!
//! Statuses travel as headers, and some gRPC libraries take 8 KiB of them in all, so a message is cut at 1 KiB.

use std::{collections::HashMap, time::Duration};

use http::HeaderMap;
use switchtower_policy::failure::Class;
use switchtower_provider::{Failure, bedrock::request::Malformed};
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    call::{Reason, Refusal, Unread},
    face::headers::{request_id_header, served_headers},
    record::Served,
};

/// Whose reasons they are.
const DOMAIN: &str = "switchtower";
/// Reason of a stream that broke after content had been sent.
const STREAM_BROKEN: &str = "STREAM_BROKEN";
/// Most bytes of a message.
const MESSAGE_BYTES: usize = 1024;

/// A request that was refused, or that nothing answered.
pub(super) fn refused(refusal: &Refusal, request_id: &str) -> Status {
    let served = refusal.served.as_deref();
    let (code, upstream_code) = match &refusal.reason {
        Reason::Unauthenticated | Reason::SignatureExpired => (Code::Unauthenticated, None),
        Reason::UnknownRoute { .. } => (Code::NotFound, None),
        Reason::Invalid { .. } => (Code::InvalidArgument, None),
        Reason::Unread(why) => (code_of(*why), None),
        Reason::DeadlineExceeded => (Code::DeadlineExceeded, None),
        Reason::Unready => (Code::Unavailable, None),
        Reason::Upstream { class, code } => (class.map_or(Code::Unavailable, upstream), code.as_deref()),
    };
    let mut details = details(&refusal.reason.as_str().to_ascii_uppercase(), request_id, served, upstream_code);
    retry_info(&mut details, refusal.retry_after);
    if let Reason::Invalid { problems } = &refusal.reason {
        for problem in problems {
            details.add_bad_request_violation(problem.field.as_deref().unwrap_or_default(), cut(&problem.message));
        }
        return status(code, &in_words(problems), details, headers(request_id, served));
    }
    status(code, &refusal.message, details, headers(request_id, served))
}

/// What tonic says of such a request: ours says the same.
fn code_of(why: Unread) -> Code {
    match why {
        Unread::Method | Unread::Kind => Code::Unimplemented,
        Unread::TooLarge => Code::OutOfRange,
        Unread::TooSlow => Code::DeadlineExceeded,
        Unread::CutShort => Code::DataLoss,
    }
}

/// Why tonic refused the message of a method that there is, by the code that it gave.
pub(super) fn why_unread(code: Code) -> Reason {
    Reason::Unread(match code {
        Code::Unimplemented => Unread::Kind,
        Code::OutOfRange | Code::ResourceExhausted => Unread::TooLarge,
        Code::DeadlineExceeded => Unread::TooSlow,
        Code::DataLoss => Unread::CutShort,
        _ => {
            let message = "is no message of this service".to_owned();
            return Reason::Invalid { problems: vec![Malformed { field: None, message }] };
        }
    })
}

/// A request that tonic refused, in tonic's code and words: as callers know them from elsewhere, with the reason and
/// the id that every refusal of ours has.
pub(super) fn unread(status: &Status, refusal: &Refusal, request_id: &str) -> Status {
    let mut headers = status.metadata().clone().into_headers();
    request_id_header(request_id, &mut headers);
    let details = details(&refusal.reason.as_str().to_ascii_uppercase(), request_id, None, None);
    self::status(status.code(), status.message(), details, headers)
}

/// The first problem with its field, for people; programs have the details.
fn in_words(problems: &[Malformed]) -> String {
    let Some(first) = problems.first() else { return "the request is wrong".to_owned() };
    let field = first.field.as_deref().map(|field| format!("{field}: ")).unwrap_or_default();
    let more = match problems.len() {
        1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    format!("{field}{}{more}", first.message)
}

/// A stream that broke after content had been sent. Not UNAVAILABLE: nobody may send the request again without knowing
/// that a part of the answer was seen.
pub(super) fn broken(failure: &Failure, served: &Served) -> Status {
    let code = match failure.class {
        Class::CallerDeadline | Class::TotalTimeout => Code::DeadlineExceeded,
        _ => Code::Aborted,
    };
    broken_as(code, failure.class, &failure.message, failure.code.as_deref(), failure.retry_after, served)
}

/// A stream with an event that is not Converse's, or without an end.
pub(super) fn broken_protocol(message: &str, served: &Served) -> Status {
    broken_as(Code::Aborted, Class::Protocol, message, None, None, served)
}

fn broken_as(
    code: Code,
    class: Class,
    message: &str,
    upstream_code: Option<&str>,
    retry_after: Option<Duration>,
    served: &Served,
) -> Status {
    let mut metadata = metadata(&served.request_id, Some(served), upstream_code);
    metadata.insert("class".to_owned(), class.as_str().to_owned());
    let mut details = ErrorDetails::with_error_info(STREAM_BROKEN, DOMAIN, metadata);
    retry_info(&mut details, retry_after);
    // The head of the response has told what serves the stream.
    status(code, message, details, HeaderMap::new())
}

/// A whole answer that cannot be told.
pub(super) fn unreadable(message: &str, served: &Served) -> Status {
    let reason = Class::Protocol.as_str().to_ascii_uppercase();
    let details = details(&reason, &served.request_id, Some(served), None);
    status(Code::Unavailable, message, details, headers(&served.request_id, Some(served)))
}

/// The code for the class of the last failure.
fn upstream(class: Class) -> Code {
    match class {
        Class::Connect
        | Class::Internal
        | Class::Unavailable
        | Class::ModelError
        | Class::ModelNotReady
        | Class::Broken
        | Class::Protocol => Code::Unavailable,
        Class::Throttled | Class::QuotaExceeded => Code::ResourceExhausted,
        Class::Invalid | Class::ContextTooLong | Class::ModelRefused => Code::InvalidArgument,
        Class::ModelTimeout
        | Class::FirstTokenTimeout
        | Class::IdleTimeout
        | Class::TotalTimeout
        | Class::CallerDeadline => Code::DeadlineExceeded,
        Class::Misconfigured | Class::Credentials => Code::Internal,
    }
}

fn details(reason: &str, request_id: &str, served: Option<&Served>, upstream_code: Option<&str>) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, metadata(request_id, served, upstream_code))
}

fn metadata(request_id: &str, served: Option<&Served>, upstream_code: Option<&str>) -> HashMap<String, String> {
    let mut metadata = HashMap::from([("request_id".to_owned(), request_id.to_owned())]);
    if let Some(served) = served {
        metadata.insert("route".to_owned(), served.route.to_string());
        metadata.insert("revision".to_owned(), served.revision.to_string());
        metadata.insert("attempts".to_owned(), served.attempts.len().to_string());
    }
    if let Some(code) = upstream_code {
        metadata.insert("upstream_code".to_owned(), cut(code).to_owned());
    }
    metadata
}

fn retry_info(details: &mut ErrorDetails, retry_after: Option<Duration>) {
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
}

fn headers(request_id: &str, served: Option<&Served>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    match served {
        Some(served) => served_headers(served, &mut headers),
        None => request_id_header(request_id, &mut headers),
    }
    headers
}

fn status(code: Code, message: &str, details: ErrorDetails, headers: HeaderMap) -> Status {
    Status::with_error_details_and_metadata(code, cut(message), details, MetadataMap::from_headers(headers))
}

fn cut(text: &str) -> &str {
    if text.len() <= MESSAGE_BYTES {
        return text;
    }
    let end = (0..=MESSAGE_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::grpc::violations::{At, Violations};

    fn served() -> Served {
        Served {
            request_id: "00ff".into(),
            route: "support-chat".into(),
            rule: None,
            tier: 1,
            target: None,
            revision: "0123456789ab".into(),
            attempts: Vec::new(),
            degraded: false,
        }
    }

    fn refusal(reason: Reason) -> Refusal {
        Refusal { reason, message: "No.".to_owned(), retry_after: None, served: None }
    }

    #[track_caller]
    fn check(reason: Reason, code: Code, word: &str) {
        let status = refused(&refusal(reason), "00ff");
        assert_eq!(status.code(), code, "{word}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (word, "switchtower"));
        assert_eq!(info.metadata["request_id"], "00ff");
        assert_eq!(status.metadata().get("x-switchtower-request-id").unwrap(), "00ff");
        assert!(details.retry_info().is_none());
    }

    #[test]
    fn every_refusal_has_a_code_and_a_reason() {
        check(Reason::Unauthenticated, Code::Unauthenticated, "UNAUTHENTICATED");
        check(Reason::SignatureExpired, Code::Unauthenticated, "SIGNATURE_EXPIRED");
        check(Reason::UnknownRoute { nearest: Vec::new() }, Code::NotFound, "UNKNOWN_ROUTE");
        check(Reason::Invalid { problems: Vec::new() }, Code::InvalidArgument, "INVALID");
        for (why, code, word) in [
            (Unread::Method, Code::Unimplemented, "UNKNOWN_METHOD"),
            (Unread::Kind, Code::Unimplemented, "UNSUPPORTED_BODY"),
            (Unread::TooLarge, Code::OutOfRange, "BODY_TOO_LARGE"),
            (Unread::TooSlow, Code::DeadlineExceeded, "BODY_TOO_SLOW"),
            (Unread::CutShort, Code::DataLoss, "BODY_CUT_SHORT"),
        ] {
            check(Reason::Unread(why), code, word);
            assert_eq!(why_unread(code), Reason::Unread(if why == Unread::Method { Unread::Kind } else { why }));
        }
        assert_eq!(why_unread(Code::Internal).as_str(), "invalid");
        check(Reason::DeadlineExceeded, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        check(Reason::Unready, Code::Unavailable, "UNREADY");
        check(Reason::Upstream { class: None, code: None }, Code::Unavailable, "NO_TARGET");
        for (class, code, word) in [
            (Class::Connect, Code::Unavailable, "CONNECT"),
            (Class::Internal, Code::Unavailable, "INTERNAL"),
            (Class::Unavailable, Code::Unavailable, "UNAVAILABLE"),
            (Class::ModelTimeout, Code::DeadlineExceeded, "MODEL_TIMEOUT"),
            (Class::ModelError, Code::Unavailable, "MODEL_ERROR"),
            (Class::ModelRefused, Code::InvalidArgument, "MODEL_REFUSED"),
            (Class::Throttled, Code::ResourceExhausted, "THROTTLED"),
            (Class::QuotaExceeded, Code::ResourceExhausted, "QUOTA_EXCEEDED"),
            (Class::ModelNotReady, Code::Unavailable, "MODEL_NOT_READY"),
            (Class::Invalid, Code::InvalidArgument, "INVALID"),
            (Class::ContextTooLong, Code::InvalidArgument, "CONTEXT_TOO_LONG"),
            (Class::Misconfigured, Code::Internal, "MISCONFIGURED"),
            (Class::Credentials, Code::Internal, "CREDENTIALS"),
            (Class::FirstTokenTimeout, Code::DeadlineExceeded, "FIRST_TOKEN_TIMEOUT"),
            (Class::IdleTimeout, Code::DeadlineExceeded, "IDLE_TIMEOUT"),
            (Class::TotalTimeout, Code::DeadlineExceeded, "TOTAL_TIMEOUT"),
            (Class::CallerDeadline, Code::DeadlineExceeded, "CALLER_DEADLINE"),
            (Class::Broken, Code::Unavailable, "BROKEN"),
            (Class::Protocol, Code::Unavailable, "PROTOCOL"),
        ] {
            check(Reason::Upstream { class: Some(class), code: None }, code, word);
        }
    }

    #[test]
    fn an_upstream_refusal_tells_when_to_come_back_and_what_was_tried() {
        let status = refused(
            &Refusal {
                retry_after: Some(Duration::from_millis(1500)),
                served: Some(Box::new(served())),
                ..refusal(Reason::Upstream { class: Some(Class::Throttled), code: Some("ThrottlingException".into()) })
            },
            "00ff",
        );
        let details = status.get_error_details();
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(1500)));
        let metadata = &details.error_info().unwrap().metadata;
        assert_eq!(metadata["upstream_code"], "ThrottlingException");
        assert_eq!((metadata["route"].as_str(), metadata["attempts"].as_str()), ("support-chat", "0"));
        assert_eq!(status.metadata().get("x-switchtower-route").unwrap(), "support-chat");
    }

    fn problem(field: Option<&str>, message: &str) -> Malformed {
        Malformed { field: field.map(str::to_owned), message: message.to_owned() }
    }

    #[test]
    fn every_wrong_field_is_a_violation_and_the_first_is_put_into_words() {
        for (problems, expected) in [
            (vec![problem(Some("route"), "must be given")], "route: must be given"),
            (vec![problem(None, "is no JSON")], "is no JSON"),
            (vec![problem(Some("route"), "must be given"), problem(None, "x")], "route: must be given (and 1 more)"),
        ] {
            let status = refused(&refusal(Reason::Invalid { problems: problems.clone() }), "00ff");
            assert_eq!(status.message(), expected);
            let details = status.get_error_details();
            let told = details.bad_request().unwrap().field_violations.iter();
            let told = told.map(|told| (told.field.as_str(), told.description.as_str()));
            let given = problems.iter().map(|p| (p.field.as_deref().unwrap_or_default(), p.message.as_str()));
            assert!(told.eq(given));
        }
    }

    #[test]
    fn a_broken_stream_is_never_a_status_that_libraries_send_again() {
        let failure = |class| Failure {
            class,
            code: Some("throttlingException".into()),
            status: Some(429),
            message: "Too many.".into(),
            retry_after: None,
            sent: true,
        };
        for (class, code) in [
            (Class::Broken, Code::Aborted),
            (Class::Throttled, Code::Aborted),
            (Class::IdleTimeout, Code::Aborted),
            (Class::TotalTimeout, Code::DeadlineExceeded),
            (Class::CallerDeadline, Code::DeadlineExceeded),
        ] {
            let status = broken(&failure(class), &served());
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((status.code(), info.reason.as_str()), (code, "STREAM_BROKEN"));
            assert_eq!(info.metadata["class"], class.as_str());
            assert_eq!(info.metadata["upstream_code"], "throttlingException");
        }
    }

    #[test]
    fn the_longest_status_fits_into_the_headers_that_clients_take() {
        let mut wrong = Violations::default();
        let messages = At::ROOT.field("messages");
        for index in 0..1000 {
            let at = messages.index(index);
            wrong.add(&at.field("content"), "must have at least one block, and quite a few words to say so at length");
        }
        let long = Refusal { message: "ß".repeat(100_000), ..refusal(Reason::Unready) };
        for refusal in [long, refusal(Reason::Invalid { problems: wrong.into_problems() })] {
            let response = refused(&refusal, "00ff").into_http::<()>();
            let bytes: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            assert!(bytes < 8192, "{bytes}");
        }
    }
}
