//! What went wrong, in a caller's words: decoded from the details that nodes put into a status.

use std::{error::Error as StdError, fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::transport::Unusable;

/// Whose reasons are meant where a detail has one.
pub(crate) const DOMAIN: &str = "switchtower";

/// Why a call has no answer, or no whole one.
#[derive(Debug)]
pub struct Error {
    // Boxed, because results are mostly answers.
    inner: Box<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kind: Kind,
    message: String,
    reason: Option<String>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    violations: Vec<FieldViolation>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of error it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The client's own options cannot be used. Nothing was sent.
    Options,
    /// No key, a wrong key, or one that may not be used.
    Unauthenticated,
    /// No route of this name is open to this caller.
    UnknownRoute,
    /// The request is wrong: see [`Error::violations`]. Sending it again does not help.
    Invalid,
    /// A limit of the caller's, or of every model that the policy allows: see [`Error::retry_after`].
    Throttled,
    /// The deadline passed, or a timeout of the route's.
    DeadlineExceeded,
    /// Nobody answers, or no model does at the moment. Trying again may help.
    Unavailable,
    /// The answer broke off after a part of it was seen.
    StreamBroken,
    /// Something that an operator has to mend. Trying again does not help.
    Internal,
    /// None of these; see [`Error::reason`].
    #[default]
    Other,
}

/// A field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, such as `messages[0].content[1].image.format`; empty: the request as a whole.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl Error {
    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The node's stable word for it, such as `THROTTLED`; `None`: no node said it.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.inner.reason.as_deref()
    }

    /// Id of the request, as in the node's logs and traces; `None`: it reached no node.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.inner.request_id.as_deref()
    }

    /// When trying again makes sense; `None`: the node does not say that it does.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// The fields that are wrong. Empty: no field is named.
    #[must_use]
    pub fn violations(&self) -> &[FieldViolation] {
        &self.inner.violations
    }

    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { inner: Box::new(Inner { kind, message: message.into(), ..Inner::default() }) }
    }

    pub(crate) fn options(message: &str) -> Self {
        Error::new(Kind::Options, message)
    }

    pub(crate) fn unusable(unusable: Unusable) -> Self {
        let error = Error::options(unusable.message);
        match unusable.source {
            Some(source) => error.caused_by(source),
            None => error,
        }
    }

    pub(crate) fn deadline() -> Self {
        Error::new(Kind::DeadlineExceeded, "the deadline passed")
    }

    pub(crate) fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.inner.source = Some(Box::new(source));
        self
    }

    /// Names the request where the error itself does not.
    pub(crate) fn of_request(mut self, id: Option<&str>) -> Self {
        if self.inner.request_id.is_none() {
            self.inner.request_id = id.map(str::to_owned);
        }
        self
    }

    /// The error in a status.
    pub(crate) fn of(status: Status) -> Self {
        let details = status.get_error_details();
        let mut error = Error::new(kind(status.code(), &details), status.message());
        let inner = &mut *error.inner;
        if let Some(info) = ours(&details) {
            inner.reason = Some(info.reason.clone());
            inner.request_id = info.metadata.get("request_id").cloned();
        }
        inner.retry_after = details.retry_info().and_then(|info| info.retry_delay);
        let wrong = details.bad_request().map(|bad| bad.field_violations.iter()).into_iter().flatten();
        inner.violations = wrong
            .map(|wrong| FieldViolation { field: wrong.field.clone(), description: wrong.description.clone() })
            .collect();
        if inner.message.is_empty() {
            inner.message = status.code().description().to_owned();
        }
        error.caused_by(status)
    }

    /// The error in the status that a stream stopped with. One that no node said is a connection that broke.
    pub(crate) fn of_stream(status: Status) -> Self {
        let nobody = ours(&status.get_error_details()).is_none();
        let mut error = Error::of(status);
        if nobody {
            error.inner.kind = Kind::StreamBroken;
        }
        error
    }
}

fn ours(details: &ErrorDetails) -> Option<&tonic_types::ErrorInfo> {
    details.error_info().filter(|info| info.domain == DOMAIN)
}

/// The reason decides where it says more than the code.
fn kind(code: Code, details: &ErrorDetails) -> Kind {
    match (ours(details).map(|info| info.reason.as_str()), code) {
        (Some("STREAM_BROKEN"), _) => Kind::StreamBroken,
        (Some("UNKNOWN_ROUTE"), _) => Kind::UnknownRoute,
        (_, Code::Unauthenticated | Code::PermissionDenied) => Kind::Unauthenticated,
        (_, Code::InvalidArgument) => Kind::Invalid,
        (_, Code::ResourceExhausted) => Kind::Throttled,
        (_, Code::DeadlineExceeded) => Kind::DeadlineExceeded,
        (_, Code::Unavailable) => Kind::Unavailable,
        (_, Code::Internal) => Kind::Internal,
        _ => Kind::Other,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn status(code: Code, domain: &str, reason: &str) -> Status {
        let metadata = HashMap::from([("request_id".to_owned(), "00ff".to_owned())]);
        Status::with_error_details(code, "No.", ErrorDetails::with_error_info(reason, domain, metadata))
    }

    #[test]
    fn the_reason_decides_and_then_the_code() {
        for (code, reason, expected) in [
            (Code::NotFound, "UNKNOWN_ROUTE", Kind::UnknownRoute),
            (Code::NotFound, "SOMETHING_NEW", Kind::Other),
            (Code::Aborted, "STREAM_BROKEN", Kind::StreamBroken),
            (Code::DeadlineExceeded, "STREAM_BROKEN", Kind::StreamBroken),
            (Code::DeadlineExceeded, "FIRST_TOKEN_TIMEOUT", Kind::DeadlineExceeded),
            (Code::Unauthenticated, "SIGNATURE_EXPIRED", Kind::Unauthenticated),
            (Code::InvalidArgument, "CONTEXT_TOO_LONG", Kind::Invalid),
            (Code::ResourceExhausted, "THROTTLED", Kind::Throttled),
            (Code::Unavailable, "NO_TARGET", Kind::Unavailable),
            (Code::Internal, "MISCONFIGURED", Kind::Internal),
        ] {
            let error = Error::of(status(code, DOMAIN, reason));
            assert_eq!(error.kind(), expected, "{reason}");
            assert_eq!((error.reason(), error.request_id()), (Some(reason), Some("00ff")));
        }
    }

    #[test]
    fn a_reason_of_somebody_elses_is_not_ours() {
        let error = Error::of(status(Code::NotFound, "example.com", "UNKNOWN_ROUTE"));
        assert_eq!((error.kind(), error.reason(), error.request_id()), (Kind::Other, None, None));
    }

    #[test]
    fn a_status_without_a_word_still_has_one() {
        let error = Error::of(Status::new(Code::Unavailable, ""));
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(!error.to_string().is_empty());
    }

    #[test]
    fn a_stream_that_a_node_did_not_end_is_broken_whatever_the_transport_calls_it() {
        for code in [Code::Unknown, Code::Internal, Code::Unavailable, Code::Cancelled] {
            assert_eq!(Error::of_stream(Status::new(code, "h2")).kind(), Kind::StreamBroken);
        }
        let throttled = Error::of_stream(status(Code::ResourceExhausted, DOMAIN, "THROTTLED"));
        assert_eq!(throttled.kind(), Kind::Throttled);
    }
}
