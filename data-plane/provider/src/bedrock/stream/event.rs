//! What one frame says: an event's projection, or the failure that ends the stream.

use serde::Deserialize;
use serde_json::value::RawValue;
use switchtower_policy::failure::{self, Class};

use super::frame::{Headers, Violation};
use crate::{Failure, Kind};

/// The longest code that is taken for a name, since codes go to logs and metrics; Bedrock's longest has 29 letters.
const MAX_CODE: usize = 64;

/// Reads a frame by its headers. Only the payloads of two kinds of event are looked into.
pub(super) fn read(headers: &Headers<'_>, payload: &[u8]) -> Result<Kind, Failure> {
    match headers.message_type {
        Some(b"event") => event(headers, payload),
        Some(b"exception") => {
            let name = headers.exception_type.ok_or_else(|| protocol("An exception in the stream has no type."))?;
            Err(exception(name, payload))
        }
        Some(b"error") => Err(error(headers.error_code.unwrap_or_default(), headers.error_message.unwrap_or_default())),
        Some(_) => Err(protocol("A frame is neither an event nor an exception nor an error.")),
        None => Err(protocol("A frame does not tell what it is.")),
    }
}

/// What came is not Bedrock's protocol.
pub(super) fn protocol(message: &str) -> Failure {
    Failure { class: Class::Protocol, code: None, status: None, message: message.into(), retry_after: None, sent: true }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        protocol(&violation.to_string())
    }
}

fn event(headers: &Headers<'_>, payload: &[u8]) -> Result<Kind, Failure> {
    Ok(match headers.event_type.ok_or_else(|| protocol("An event in the stream has no type."))? {
        b"contentBlockDelta" => Kind::BlockDelta,
        b"contentBlockStart" => Kind::BlockStart,
        b"contentBlockStop" => Kind::BlockStop,
        b"messageStart" => Kind::MessageStart,
        b"messageStop" => {
            let stop: Stop =
                object(payload).ok_or_else(|| protocol("The event messageStop is not JSON or has no stop reason."))?;
            Kind::MessageStop(stop.stop_reason)
        }
        b"metadata" => {
            let metadata: Metadata<'_> =
                object(payload).ok_or_else(|| protocol("The event metadata is not a JSON object."))?;
            Kind::Metadata(metadata.usage.and_then(crate::bedrock::usage::read))
        }
        _ => Kind::Other,
    })
}

/// A struct from an object; alone, serde would read one from an array too.
fn object<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Option<T> {
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(payload).ok()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stop {
    stop_reason: Box<str>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// A modelled exception; its frame names it by the member of the union, with a small first letter.
fn exception(name: &[u8], payload: &[u8]) -> Failure {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Body {
        #[serde(alias = "Message")]
        message: Option<String>,
        original_message: Option<String>,
        original_status_code: Option<u16>,
    }
    let body: Body = object(payload).unwrap_or_default();
    let message = [body.message, body.original_message].into_iter().flatten().find(|message| !message.is_empty());
    failure(name, body.original_status_code, message)
}

/// An error that the API's model does not know.
fn error(code: &[u8], message: &[u8]) -> Failure {
    let message = std::str::from_utf8(message).ok().filter(|message| !message.is_empty());
    failure(code, None, message.map(str::to_owned))
}

fn failure(name: &[u8], original_status: Option<u16>, message: Option<String>) -> Failure {
    let code = code(name);
    let status = code.as_deref().and_then(status);
    let class = failure::classify(failure::Answer {
        code: code.as_deref(),
        // An error of no known name came inside an answer of success, so the fault is on the other side.
        status: Some(status.unwrap_or(500)),
        original_status,
        message: message.as_deref().unwrap_or_default(),
    });
    let message = message.unwrap_or_else(|| "Bedrock ended the stream with an error.".into());
    Failure { class, code: code.map(Into::into), status, message: message.into(), retry_after: None, sent: true }
}

/// The error's name as answers outside streams spell it; `None`: it does not look like a name.
fn code(name: &[u8]) -> Option<String> {
    let (first, rest) = name.split_first()?;
    let is_name = name.len() <= MAX_CODE && name.iter().all(u8::is_ascii_alphanumeric);
    is_name.then(|| std::iter::once(first.to_ascii_uppercase()).chain(rest.iter().copied()).map(char::from).collect())
}

/// The HTTP status that an exception has outside streams.
fn status(code: &str) -> Option<u16> {
    Some(match code {
        "ValidationException" | "ServiceQuotaExceededException" => 400,
        "AccessDeniedException" => 403,
        "ResourceNotFoundException" => 404,
        "ModelTimeoutException" => 408,
        "ModelErrorException" | "ModelStreamErrorException" => 424,
        "ThrottlingException" | "ModelNotReadyException" => 429,
        "InternalServerException" => 500,
        "ServiceUnavailableException" => 503,
        _ => return None,
    })
}
