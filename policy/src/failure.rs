//! What a failure means: [`classify`] turns what Bedrock said into a [`Class`], [`consequence`] is the one table from
//! class to breaker, quota, retry and next target. Everything that reacts to failures reads that table.
//!
//! Three things are kept apart, and three machines act on them: *health* (faults of a target) moves its breaker,
//! *throttling* moves the quota state of a quota domain and never a breaker, a *caller's fault* moves nothing: one
//! caller's bad requests must not close a target for all.
//!
//! Not failures, so not in the table: the caller hangs up; a guardrail intervenes, the model refuses, or it stops at
//! its token limit (answers, and final: no other target is asked until one says yes); we shed or limit a request
//! ourselves (no target was asked, so none is to blame).

mod classify;
mod consequence;

pub use classify::{Answer, classify};
pub use consequence::{Breaker, Consequence, OtherTarget, Phase, Quota, SameTarget, consequence};

/// What kind of failure an attempt ended in. The word of each ([`Class::as_str`]) stands in records, metrics and
/// replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// No connection: refused, timed out, TLS, DNS, or closed before the request was sent. Nothing was paid.
    Connect,
    /// 500, 502, 504 or an unmodelled 5xx.
    Internal,
    /// 503.
    Unavailable,
    /// The model took too long by Bedrock's word (408).
    ModelTimeout,
    /// The model failed (424), by any original status but those of `ModelRefused`.
    ModelError,
    /// The model refused the request (424): its original status is 4xx, but neither 408 nor 429, which blame no request.
    ModelRefused,
    /// 429, by whatever quota.
    Throttled,
    /// A quota that waiting does not refill (`ServiceQuotaExceededException`, 400).
    QuotaExceeded,
    /// The model is being loaded (429, but not a throttle).
    ModelNotReady,
    /// The request is wrong (400) wherever it is sent.
    Invalid,
    /// The prompt is longer than the model's context (400).
    ContextTooLong,
    /// We may not use this target (403), or it does not exist (404), or it takes no on-demand calls.
    Misconfigured,
    /// Our own credentials are expired or refused (403 with that code).
    Credentials,
    /// No first content in time, by our own timer.
    FirstTokenTimeout,
    /// No event in time after the first content, by our own timer.
    IdleTimeout,
    /// No end in time, by our own timer (a unary call, or the route's total).
    TotalTimeout,
    /// The caller's own deadline passed, earlier than our timers.
    CallerDeadline,
    /// The connection broke after the request was sent.
    Broken,
    /// What came is not Bedrock's protocol: bad checksum, absurd frame, end without stop, not JSON.
    Protocol,
}

impl Class {
    /// Every class, in the order of their declaration.
    pub const ALL: [Class; 19] = [
        Class::Connect,
        Class::Internal,
        Class::Unavailable,
        Class::ModelTimeout,
        Class::ModelError,
        Class::ModelRefused,
        Class::Throttled,
        Class::QuotaExceeded,
        Class::ModelNotReady,
        Class::Invalid,
        Class::ContextTooLong,
        Class::Misconfigured,
        Class::Credentials,
        Class::FirstTokenTimeout,
        Class::IdleTimeout,
        Class::TotalTimeout,
        Class::CallerDeadline,
        Class::Broken,
        Class::Protocol,
    ];

    /// The stable word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Connect => "connect",
            Class::Internal => "internal",
            Class::Unavailable => "unavailable",
            Class::ModelTimeout => "model_timeout",
            Class::ModelError => "model_error",
            Class::ModelRefused => "model_refused",
            Class::Throttled => "throttled",
            Class::QuotaExceeded => "quota_exceeded",
            Class::ModelNotReady => "model_not_ready",
            Class::Invalid => "invalid",
            Class::ContextTooLong => "context_too_long",
            Class::Misconfigured => "misconfigured",
            Class::Credentials => "credentials",
            Class::FirstTokenTimeout => "first_token_timeout",
            Class::IdleTimeout => "idle_timeout",
            Class::TotalTimeout => "total_timeout",
            Class::CallerDeadline => "caller_deadline",
            Class::Broken => "broken",
            Class::Protocol => "protocol",
        }
    }
}
