//! The operators' API: one file per service, each of them decode -> call -> encode.
//!
//! Tokens are checked in front of the services of policies, keys and events ([`Operators`](crate::auth::Operators)), before a
//! body is read and whatever the method: there is no method that could forget to. The fleet's service and the nodes' stream,
//! whose requests are small, check in their methods; a test asks every method there is without a token.

use std::time::SystemTime;

use tonic::{Request, Status, metadata::MetadataMap};

pub mod events;
pub mod fleet;
pub mod keys;
pub mod policies;
pub mod status;
pub mod sync;

use crate::{auth::Actor, telemetry::Doing};

/// Most bytes of a request: a content of 4 MiB, what stands around each of its items, and some.
pub const MAX_REQUEST_BYTES: usize = 5 << 20;

/// Who calls, as the check in front of the service found.
fn author<T>(request: &Request<T>) -> Result<String, Status> {
    let actor = request.extensions().get::<Actor>();
    // Behind no check nobody is let through.
    actor.map(|actor| actor.author.clone()).ok_or_else(|| crate::auth::Refused::Missing.into())
}

/// The caller's W3C trace context; empty: none, or none that is one.
fn traceparent(metadata: &MetadataMap) -> String {
    let value = metadata.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if is_traceparent(value) { value.to_owned() } else { String::new() }
}

/// What an operator's call does, as it is told of.
fn doing<T>(act: &'static str, request: &Request<T>) -> Doing {
    Doing::begins(act, &traceparent(request.metadata()), SystemTime::now())
}

/// `00-TRACE-SPAN-FLAGS`, in lower case digits.
fn is_traceparent(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let hexadecimal = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2]) && parts.iter().all(|part| hexadecimal(part))
}

/// Runs to its end what may have been stored by then, also when its caller goes away: what was done must be told.
async fn to_its_end<T, F>(work: F) -> Result<T, Status>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Status>> + Send + 'static,
{
    match tokio::spawn(tracing::Instrument::in_current_span(work)).await {
        Ok(done) => done,
        Err(error) => Err(status::internal(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_context_is_taken_for_one() {
        let check = |value: &str, expected: bool| assert_eq!(is_traceparent(value), expected, "{value}");
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true);
        check("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false);
        check("", false);
    }
}
