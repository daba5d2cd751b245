//! Why a call was refused, as a value: decoded from the details that the control plane puts into a status.

use std::{error::Error as StdError, fmt};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{error::DOMAIN, transport::Unusable};

/// A call that was not answered, or whose answer broke off.
#[derive(Debug)]
pub struct Error {
    // Boxed, because results are mostly answers.
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    refusal: Refusal,
    message: String,
    reason: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The client's own options cannot be used. Nothing was sent.
    Options,
    /// The revision that the change was made from is not assigned any more.
    HeadMoved {
        /// The revision that is assigned now; 0: none.
        assigned: u64,
        /// The newest one.
        head: u64,
    },
    /// The policy does not compile, or has members that the control plane does not know.
    PolicyInvalid {
        /// What is wrong with it.
        violations: Vec<Violation>,
    },
    /// Connected nodes would not understand the policy.
    NodesCannotRead {
        /// Names of such nodes; the control plane may tell some of many.
        nodes: Vec<String>,
        /// What of the policy they do not know.
        members: Vec<String>,
    },
    /// This content was rolled back, and `again` is not set.
    RolledBack,
    /// There is no such revision.
    NoRevision,
    /// There is no earlier revision to go back to, or it is assigned already.
    NothingToRollBack,
    /// No key can be made like this.
    KeyInvalid,
    /// There is no such key.
    NoKey,
    /// The key is revoked or expired.
    NotLive,
    /// The key was rotated already.
    Rotating,
    /// There is no such assignment.
    NoAssignment,
    /// Too many changed the same at once, or a listener read too slowly: trying again makes sense.
    TryAgain,
    /// No token, a wrong one, or one that may not do this.
    Unauthenticated,
    /// Nobody answers, or the connection broke.
    Unavailable,
    /// The deadline passed.
    DeadlineExceeded,
    /// The request itself is wrong, for none of the reasons above.
    Invalid {
        /// What is wrong with it; may be empty.
        violations: Vec<Violation>,
    },
    /// None of these.
    Other {
        /// Code of the status.
        code: Code,
        /// Its message.
        message: String,
    },
}

/// Something wrong with a request or a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Stable code. Empty: none was told.
    pub code: String,
    /// Field path. Empty: the whole.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Error {
    /// Why.
    #[must_use]
    pub fn refusal(&self) -> &Refusal {
        &self.inner.refusal
    }

    /// The control plane's stable word for it, such as `HEAD_MOVED`; `None`: it said none.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.inner.reason.as_deref()
    }

    /// Whether the control plane may have done what it was asked although it gave no answer.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(self.inner.refusal, Refusal::Unavailable | Refusal::DeadlineExceeded) && self.inner.reason.is_none()
    }

    pub(super) fn new(refusal: Refusal, message: impl Into<String>) -> Self {
        Error { inner: Box::new(Inner { refusal, message: message.into(), reason: None, source: None }) }
    }

    pub(super) fn unusable(unusable: Unusable) -> Self {
        let error = Error::new(Refusal::Options, unusable.message);
        match unusable.source {
            Some(source) => error.caused_by(source),
            None => error,
        }
    }

    pub(super) fn deadline() -> Self {
        Error::new(Refusal::DeadlineExceeded, "the deadline passed")
    }

    pub(super) fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.inner.source = Some(Box::new(source));
        self
    }

    /// The error in a status. One that was made here, with its cause, is the connection's and nobody's answer.
    pub(super) fn of(status: Status) -> Self {
        let made_here = StdError::source(&status).is_some();
        if made_here && matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled) {
            return Error::broken(status);
        }
        let details = status.get_error_details();
        let message = match status.message() {
            "" => status.code().description(),
            message => message,
        };
        let mut error = Error::new(refusal(&status, &details), message);
        error.inner.reason = ours(&details).map(|info| info.reason.clone());
        error.caused_by(status)
    }

    /// The error in the status that a stream stopped with. One that the control plane did not say is a connection that
    /// broke, whatever the transport calls it.
    pub(super) fn of_stream(status: Status) -> Self {
        let broke = matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled | Code::Unavailable);
        let nobody = ours(&status.get_error_details()).is_none();
        if broke && nobody { Error::broken(status) } else { Error::of(status) }
    }

    fn broken(status: Status) -> Self {
        Error::new(Refusal::Unavailable, "the connection broke").caused_by(status)
    }
}

fn ours(details: &ErrorDetails) -> Option<&tonic_types::ErrorInfo> {
    details.error_info().filter(|info| info.domain == DOMAIN)
}

/// The reason decides, and where there is none that is known, the code.
fn refusal(status: &Status, details: &ErrorDetails) -> Refusal {
    let info = ours(details);
    let told = |name: &str| info.and_then(|info| info.metadata.get(name)).map_or("", String::as_str);
    match info.map(|info| info.reason.as_str()) {
        Some("HEAD_MOVED") => {
            if let (Ok(assigned), Ok(head)) = (told("assigned").parse(), told("head").parse()) {
                return Refusal::HeadMoved { assigned, head };
            }
        }
        Some("POLICY_INVALID") => return Refusal::PolicyInvalid { violations: violations(details) },
        Some("NODES_CANNOT_READ") => {
            return Refusal::NodesCannotRead { nodes: listed(told("nodes")), members: listed(told("members")) };
        }
        Some("ROLLED_BACK") => return Refusal::RolledBack,
        Some("NO_REVISION") => return Refusal::NoRevision,
        Some("NOTHING_TO_ROLL_BACK") => return Refusal::NothingToRollBack,
        Some("KEY_INVALID") => return Refusal::KeyInvalid,
        Some("NO_KEY") => return Refusal::NoKey,
        Some("NOT_LIVE") => return Refusal::NotLive,
        Some("ROTATING") => return Refusal::Rotating,
        Some("NO_ASSIGNMENT") => return Refusal::NoAssignment,
        Some("CONTENDED" | "FELL_BEHIND" | "STORE_FULL") => return Refusal::TryAgain,
        _ => {}
    }
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Refusal::Unauthenticated,
        Code::Unavailable => Refusal::Unavailable,
        Code::DeadlineExceeded => Refusal::DeadlineExceeded,
        Code::InvalidArgument => Refusal::Invalid { violations: violations(details) },
        code => Refusal::Other { code, message: status.message().to_owned() },
    }
}

fn violations(details: &ErrorDetails) -> Vec<Violation> {
    let wrong = details.bad_request().map(|bad| bad.field_violations.iter()).into_iter().flatten();
    wrong
        .map(|wrong| Violation {
            code: wrong.reason.clone(),
            path: wrong.field.clone(),
            message: wrong.description.clone(),
        })
        .collect()
}

/// Names that one text of metadata holds, with commas between them.
fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
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

    use tonic_types::FieldViolation;

    use super::*;

    fn status(code: Code, domain: &str, reason: &str, metadata: &[(&str, &str)]) -> Status {
        let metadata: HashMap<String, String> =
            metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Status::with_error_details(code, "No.", ErrorDetails::with_error_info(reason, domain, metadata))
    }

    #[track_caller]
    fn check(code: Code, reason: &str, metadata: &[(&str, &str)], expected: Refusal) {
        let error = Error::of(status(code, DOMAIN, reason, metadata));
        assert_eq!(*error.refusal(), expected);
        assert_eq!((error.reason(), error.to_string().as_str()), (Some(reason), "No."));
        assert!(!error.may_have_happened(), "the control plane has said that it did not");
    }

    #[test]
    fn the_reason_decides_and_then_the_code() {
        let cannot_read = Refusal::NodesCannotRead {
            nodes: vec!["a".to_owned(), "b".to_owned()],
            members: vec!["Route.shadow".to_owned()],
        };
        let metadata = [("nodes", "a, b"), ("members", "Route.shadow")];
        let moved = [("assigned", "86"), ("head", "88")];
        check(Code::Aborted, "HEAD_MOVED", &moved, Refusal::HeadMoved { assigned: 86, head: 88 });
        check(Code::Aborted, "CONTENDED", &[], Refusal::TryAgain);
        let other = |code| Refusal::Other { code, message: "No.".to_owned() };
        check(Code::Aborted, "HEAD_MOVED", &[], other(Code::Aborted));
        check(Code::InvalidArgument, "POLICY_INVALID", &[], Refusal::PolicyInvalid { violations: Vec::new() });
        check(Code::FailedPrecondition, "NODES_CANNOT_READ", &metadata, cannot_read);
        check(Code::FailedPrecondition, "ROLLED_BACK", &[], Refusal::RolledBack);
        check(Code::NotFound, "NO_REVISION", &[], Refusal::NoRevision);
        check(Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK", &[], Refusal::NothingToRollBack);
        check(Code::InvalidArgument, "KEY_INVALID", &[], Refusal::KeyInvalid);
        check(Code::NotFound, "NO_KEY", &[], Refusal::NoKey);
        check(Code::FailedPrecondition, "NOT_LIVE", &[], Refusal::NotLive);
        check(Code::FailedPrecondition, "ROTATING", &[], Refusal::Rotating);
        check(Code::NotFound, "NO_ASSIGNMENT", &[], Refusal::NoAssignment);
        check(Code::Unauthenticated, "NO_TOKEN", &[], Refusal::Unauthenticated);
        check(Code::PermissionDenied, "READ_ONLY", &[], Refusal::Unauthenticated);
        check(Code::Unavailable, "NO_STORE", &[], Refusal::Unavailable);
        check(Code::InvalidArgument, "SOMETHING_NEW", &[], Refusal::Invalid { violations: Vec::new() });
        check(Code::Internal, "SOMETHING_NEW", &[], other(Code::Internal));
    }

    #[test]
    fn the_fields_that_are_wrong_arrive_with_their_codes() {
        let mut details = ErrorDetails::with_error_info("POLICY_INVALID", DOMAIN, HashMap::new());
        let mut wrong = FieldViolation::new("routes.a.tiers[0]", "no model is called `x`");
        wrong.reason = "unknown_model".to_owned();
        details.set_bad_request(vec![wrong]);
        let error = Error::of(Status::with_error_details(Code::InvalidArgument, "No.", details));
        let expected = Violation {
            code: "unknown_model".to_owned(),
            path: "routes.a.tiers[0]".to_owned(),
            message: "no model is called `x`".to_owned(),
        };
        assert_eq!(*error.refusal(), Refusal::PolicyInvalid { violations: vec![expected] });
    }

    #[test]
    fn a_reason_of_somebody_elses_is_not_ours() {
        let error = Error::of(status(Code::Unavailable, "example.com", "HEAD_MOVED", &[("head", "1")]));
        assert_eq!((error.refusal(), error.reason()), (&Refusal::Unavailable, None));
        assert!(error.may_have_happened());
    }

    #[test]
    fn a_stream_that_nobody_ended_is_a_connection_that_broke() {
        for code in [Code::Unknown, Code::Internal, Code::Unavailable, Code::Cancelled] {
            assert_eq!(*Error::of_stream(Status::new(code, "h2")).refusal(), Refusal::Unavailable);
        }
        let ended = Error::of_stream(Status::new(Code::Unauthenticated, "the token ended"));
        assert_eq!(*ended.refusal(), Refusal::Unauthenticated);
    }
}
