//! What a face hands to [`crate::infer`], and what it gets back. No face and no provider is known here.

use std::{sync::Arc, time::Duration};

use switchtower_policy::failure::Class;
use switchtower_provider::{
    Operation,
    bedrock::request::{Malformed, Request},
};
use tokio::time::Instant;

use crate::{
    auth::Credentials,
    record::Served,
    reply::{ReplyStream, WholeReply},
    trace::TraceContext,
};

/// One request whose head is there: all that is known of one that never becomes a [`Call`].
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its id: 32 hexadecimal digits, ours, unique.
    pub id: RequestId,
    /// The way in.
    pub face: Face,
    /// What is to be done.
    pub operation: Operation,
    /// When its head was there.
    pub received: Instant,
    /// The caller's trace, or a new one.
    pub trace: TraceContext,
}

/// One request, as a face understood it.
#[derive(Debug)]
pub struct Call {
    /// What the caller showed.
    pub credentials: Credentials,
    /// When the caller stops waiting; `None`: the route's total timeout alone holds.
    pub deadline: Option<Instant>,
    /// Metadata from the body and the headers, the headers' last.
    pub metadata: Vec<(String, String)>,
    /// The route or alias that is asked for.
    pub route: String,
    /// What is asked, in the provider's dialect; or everything that is wrong with it, which is told only to a caller
    /// that has a key.
    pub request: Result<Request, Vec<Malformed>>,
}

/// Id of a request.
pub type RequestId = Arc<str>;

/// A new id.
#[must_use]
pub fn new_request_id() -> RequestId {
    let mut text = [0; 32];
    hex::encode_to_slice(fastrand::u128(..).to_be_bytes(), &mut text).expect("16 bytes are 32 digits");
    std::str::from_utf8(&text).expect("hexadecimal digits are ASCII").into()
}

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Face {
    /// `inference.v1`.
    Grpc,
    /// Bedrock Runtime.
    Bedrock,
}

impl Face {
    /// Its word in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Face::Grpc => "grpc",
            Face::Bedrock => "bedrock",
        }
    }
}

/// An answer: whole, or its beginning.
#[derive(Debug)]
pub enum Reply {
    /// The whole answer.
    Whole(WholeReply),
    /// A stream that has content. What served it so far is [`ReplyStream::served`].
    Stream(ReplyStream),
}

/// A request that got no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// A sentence for the caller. It may quote the request (an upstream's own words do), so it goes into no log.
    pub message: String,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// What was tried; `None` before a route was found.
    pub served: Option<Box<Served>>,
}

impl Refusal {
    /// The request itself is wrong.
    #[must_use]
    pub fn invalid(problems: &[Malformed]) -> Self {
        let message = problems.iter().map(Malformed::to_string).collect::<Vec<_>>().join("; ");
        Refusal { reason: Reason::Invalid { problems: problems.to_vec() }, message, retry_after: None, served: None }
    }
}

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No key, a wrong key, a wrong signature: all the same.
    Unauthenticated,
    /// The signature is right and too old, or from the future.
    SignatureExpired,
    /// No route of this name is open to this caller; the nearest names that are.
    UnknownRoute {
        /// At most 3, nearest first.
        nearest: Vec<String>,
    },
    /// The request itself is wrong.
    Invalid {
        /// Everything that is wrong with it; at least one.
        problems: Vec<Malformed>,
    },
    /// Its body was not read, or not to its end: what it asks is not known.
    Unread(Unread),
    /// The caller's deadline, or the route's total, passed.
    DeadlineExceeded,
    /// No policy is being served.
    Unready,
    /// Every step of the plan failed or none was left; the class of the last failure, and the provider's name for it.
    Upstream {
        /// Class of the last failure; `None`: the plan had no step that could be tried.
        class: Option<Class>,
        /// Such as `ThrottlingException`.
        code: Option<Box<str>>,
    },
}

impl Reason {
    /// The stable word for it, in records, metrics and error details.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Reason::Unauthenticated => "unauthenticated",
            Reason::SignatureExpired => "signature_expired",
            Reason::UnknownRoute { .. } => "unknown_route",
            Reason::Invalid { .. } => "invalid",
            Reason::Unread(why) => why.as_str(),
            Reason::DeadlineExceeded => "deadline_exceeded",
            Reason::Unready => "unready",
            Reason::Upstream { class: Some(class), .. } => class.as_str(),
            Reason::Upstream { class: None, .. } => "no_target",
        }
    }
}

/// Why the body of a request is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The face has no such method.
    Method,
    /// It is of a content type that the face does not read, or compressed.
    Kind,
    /// It is larger than this node takes.
    TooLarge,
    /// It came too slowly.
    TooSlow,
    /// It broke off.
    CutShort,
}

impl Unread {
    /// The stable word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Unread::Method => "unknown_method",
            Unread::Kind => "unsupported_body",
            Unread::TooLarge => "body_too_large",
            Unread::TooSlow => "body_too_slow",
            Unread::CutShort => "body_cut_short",
        }
    }
}
