//! A request that got no answer: why, and what to do next.

use std::error::Error as _;

use switchtower_client::{Error, Kind};

use super::Args;
use crate::output::{Exit, Failure, Refusal};

/// The failure to end with.
pub(super) fn failure(error: &Error, args: &Args) -> Failure {
    let details = error.violations().iter().map(|wrong| match wrong.field.as_str() {
        "" => wrong.description.clone(),
        field => format!("{field}: {}", wrong.description),
    });
    let refusal = Refusal {
        reason: error.reason().map(str::to_owned),
        request_id: error.request_id().map(str::to_owned),
        retry_after_ms: error.retry_after().map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
    };
    let mut failure = Failure::new(exit(error.kind()), message(error, args)).details(details.collect());
    failure.next = Some(next(error, args));
    failure.refusal = Some(Box::new(refusal));
    failure
}

fn exit(kind: Kind) -> Exit {
    match kind {
        Kind::Options => Exit::Usage,
        Kind::Unauthenticated => Exit::Denied,
        Kind::UnknownRoute | Kind::Invalid => Exit::Data,
        Kind::Throttled | Kind::DeadlineExceeded | Kind::StreamBroken => Exit::Again,
        Kind::Unavailable => Exit::Unavailable,
        _ => Exit::Failed,
    }
}

fn message(error: &Error, args: &Args) -> String {
    if error.kind() != Kind::Unavailable || error.reason().is_some() {
        return error.to_string();
    }
    // No node said it: the innermost cause is what the system says, such as `Connection refused`.
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(|cause| cause.source()) {
        cause = Some(deeper);
    }
    match cause {
        Some(cause) => format!("{} {}: {cause}", error, args.endpoint),
        None => format!("{} {}", error, args.endpoint),
    }
}

/// What to do next.
fn next(error: &Error, args: &Args) -> String {
    let request = error.request_id().map_or("the request".to_owned(), |id| format!("request {id}"));
    let again = match error.retry_after() {
        Some(after) => format!("try again in {:.1} s", after.as_secs_f64()),
        None => "try again later".to_owned(),
    };
    match error.kind() {
        Kind::Options => "correct --endpoint, --api-key or --ca".to_owned(),
        Kind::Unauthenticated if args.api_key.is_none() => {
            "pass --api-key or set SWITCHTOWER_API_KEY; `switchtower key new` makes one".to_owned()
        }
        Kind::Unauthenticated => "check the key: it may be mistyped, expired, revoked, or of a caller that the policy \
                                  does not name; `switchtower key list` shows what a keys file holds"
            .to_owned(),
        Kind::UnknownRoute => {
            "ask for a route that the policy opens to the caller of this key, by its name or an alias".to_owned()
        }
        Kind::Invalid => "correct the request: sending it again as it is does not help".to_owned(),
        Kind::Throttled => again,
        Kind::DeadlineExceeded => match args.timeout {
            Some(_) => "give a longer --timeout, or look at the route's timeouts in the policy".to_owned(),
            None => "look at the route's timeouts in the policy".to_owned(),
        },
        Kind::Unavailable if error.reason().is_none() => {
            "check --endpoint (or SWITCHTOWER_ENDPOINT) and that a node runs there; `switchtower dev` starts one"
                .to_owned()
        }
        Kind::Unavailable => format!("{again}; the node's log tells of {request}"),
        Kind::StreamBroken => "what was shown is not the whole answer: ask again".to_owned(),
        _ => format!("this is for whoever runs the node: its log tells of {request}"),
    }
}
