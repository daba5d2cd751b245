//! What Bedrock said -> class.
//!
//! The exception's name decides, because statuses are shared (429 is a throttle and a model that is being loaded; 400 a
//! bad request and a quota); a name that nobody modelled falls back to its status. Messages are looked at where AWS
//! gives different things one name, and only then: they are not promised, so what they are known to say is matched by
//! its telling part.

use super::Class;

/// An error as it came: from the head of a response, or from an exception frame inside a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Name of the exception in any of its forms: `ThrottlingException`, `ThrottlingException:http://…`,
    /// `com.amazon.coral.service#ThrottlingException`, or a frame's `throttlingException`. `None`: it had none.
    pub code: Option<&'a str>,
    /// HTTP status. `None`: a frame's, which has none.
    pub status: Option<u16>,
    /// `originalStatusCode` of a model's error. `None`: none was told.
    pub original_status: Option<u16>,
    /// The message; empty: none.
    pub message: &'a str,
}

/// What kind of failure an error is.
#[must_use]
pub fn classify(answer: Answer<'_>) -> Class {
    let by_name = answer.code.and_then(|code| by_name(bare_name(code), answer));
    by_name.unwrap_or_else(|| by_status(answer))
}

/// The name without namespace and address, and without the ending that some services leave out.
fn bare_name(code: &str) -> &str {
    let name = code.split(':').next().unwrap_or(code);
    let name = name.rsplit('#').next().unwrap_or(name).trim();
    name.strip_suffix("Exception").unwrap_or(name)
}

fn by_name(name: &str, answer: Answer<'_>) -> Option<Class> {
    /// Names are the same in both forms but for their first letter, and no two differ by case alone.
    const NAMES: &[(&str, Class)] = &[
        ("Throttling", Class::Throttled),
        ("TooManyRequests", Class::Throttled),
        ("ServiceQuotaExceeded", Class::QuotaExceeded),
        ("ModelNotReady", Class::ModelNotReady),
        ("ServiceUnavailable", Class::Unavailable),
        ("InternalServer", Class::Internal),
        ("InternalFailure", Class::Internal),
        ("ModelTimeout", Class::ModelTimeout),
        ("ModelError", Class::ModelError),
        ("ModelStreamError", Class::ModelError),
        ("Validation", Class::Invalid),
        ("Conflict", Class::Invalid),
        ("AccessDenied", Class::Misconfigured),
        ("ResourceNotFound", Class::Misconfigured),
        ("ExpiredToken", Class::Credentials),
        ("RequestExpired", Class::Credentials),
        ("RequestTimeTooSkewed", Class::Credentials),
        ("UnrecognizedClient", Class::Credentials),
        ("InvalidClientTokenId", Class::Credentials),
        ("InvalidSignature", Class::Credentials),
        ("IncompleteSignature", Class::Credentials),
        ("SignatureDoesNotMatch", Class::Credentials),
        ("MissingAuthenticationToken", Class::Credentials),
    ];
    let (_, class) = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(refined(*class, answer))
}

fn by_status(answer: Answer<'_>) -> Class {
    let class = match answer.status {
        Some(401) => Class::Credentials,
        Some(403 | 404 | 410) => Class::Misconfigured,
        Some(408) => Class::ModelTimeout,
        Some(424) => Class::ModelError,
        Some(429) => Class::Throttled,
        Some(503) => Class::Unavailable,
        Some(400..=499) => Class::Invalid,
        Some(500..=599) => Class::Internal,
        // An error that a stream names in a way of its own is still an answer by Bedrock's protocol.
        _ if answer.code.is_some() => Class::Internal,
        _ => Class::Protocol,
    };
    refined(class, answer)
}

/// Tells apart what has one name.
fn refined(class: Class, answer: Answer<'_>) -> Class {
    match class {
        Class::Invalid if says(answer.message, CONTEXT_TOO_LONG) => Class::ContextTooLong,
        Class::Invalid if says(answer.message, WRONG_TARGET) => Class::Misconfigured,
        Class::Misconfigured if says(answer.message, EXPIRED) => Class::Credentials,
        Class::ModelError => match answer.original_status {
            Some(408 | 429) => Class::ModelError,
            Some(400..=499) if says(answer.message, CONTEXT_TOO_LONG) => Class::ContextTooLong,
            Some(400..=499) => Class::ModelRefused,
            _ => Class::ModelError,
        },
        class => class,
    }
}

/// How the models' vendors say that a prompt is longer than the context.
const CONTEXT_TOO_LONG: &[&str] = &[
    "input is too long",
    "prompt is too long",
    "too many input tokens",
    "input tokens exceeded",
    "exceed context limit",
    "exceeds the context window",
    "maximum context length",
];

/// What a request hears that is sent where this model, or the route's guardrail, cannot be called.
const WRONG_TARGET: &[&str] = &[
    "on-demand throughput isn",
    "model identifier is invalid",
    "model id is not supported",
    "guardrail identifier or version provided in the request does not exist",
];

/// What an expired key or token hears under the name of a missing permission.
const EXPIRED: &[&str] = &["token has expired", "token included in the request is expired", "token is expired"];

/// Whether a message has one of these (lower case) parts in its first 2 KiB: AWS's own words come first, and what
/// follows may be as long as the prompt.
fn says(message: &str, parts: &[&str]) -> bool {
    let head = message.as_bytes().get(..2048).unwrap_or(message.as_bytes()).to_ascii_lowercase();
    let head = String::from_utf8_lossy(&head);
    parts.iter().any(|part| head.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, status: u16, original_status: u16, message: &str, expected: Class) {
        let some = |number| (number != 0).then_some(number);
        let code = (!code.is_empty()).then_some(code);
        let answer = Answer { code, status: some(status), original_status: some(original_status), message };
        assert_eq!(classify(answer), expected, "{answer:?}");
    }

    #[test]
    fn an_exception_is_known_by_its_name_in_every_form() {
        for name in [
            "ThrottlingException",
            "throttlingException",
            "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/",
            "com.amazon.coral.service#ThrottlingException",
            "Throttling",
        ] {
            check(name, 429, 0, "", Class::Throttled);
            // The name decides, not the status.
            check(name, 400, 0, "", Class::Throttled);
            check(name, 0, 0, "", Class::Throttled);
        }
    }

    #[test]
    fn every_exception_of_bedrock_has_its_class() {
        check("ServiceQuotaExceededException", 400, 0, "", Class::QuotaExceeded);
        check("ModelNotReadyException", 429, 0, "", Class::ModelNotReady);
        check("ServiceUnavailableException", 503, 0, "", Class::Unavailable);
        check("serviceUnavailableException", 0, 0, "", Class::Unavailable);
        check("InternalServerException", 500, 0, "", Class::Internal);
        check("internalServerException", 0, 0, "", Class::Internal);
        check("InternalFailure", 500, 0, "", Class::Internal);
        check("ModelTimeoutException", 408, 0, "", Class::ModelTimeout);
        check("modelTimeoutException", 0, 0, "", Class::ModelTimeout);
        check("ModelErrorException", 424, 0, "", Class::ModelError);
        check("ModelStreamErrorException", 424, 0, "", Class::ModelError);
        check("modelStreamErrorException", 0, 500, "", Class::ModelError);
        check("ValidationException", 400, 0, "Malformed input request", Class::Invalid);
        check("validationException", 0, 0, "", Class::Invalid);
        check("ConflictException", 400, 0, "", Class::Invalid);
        check("AccessDeniedException", 403, 0, "You don't have access to the model.", Class::Misconfigured);
        check("ResourceNotFoundException", 404, 0, "", Class::Misconfigured);
    }

    #[test]
    fn a_models_error_is_whose_fault_its_original_status_says() {
        check("ModelErrorException", 424, 500, "", Class::ModelError);
        check("ModelErrorException", 424, 429, "", Class::ModelError);
        check("ModelErrorException", 424, 408, "", Class::ModelError);
        check("ModelErrorException", 424, 400, "", Class::ModelRefused);
        check("modelStreamErrorException", 0, 422, "", Class::ModelRefused);
        check("ModelErrorException", 424, 400, "prompt is too long: 250000 tokens", Class::ContextTooLong);
        check("", 424, 400, "", Class::ModelRefused);
    }

    #[test]
    fn a_prompt_that_is_too_long_is_told_from_other_bad_requests() {
        for message in [
            "Input is too long for requested model.",
            "The model returned the following errors: prompt is too long: 205371 tokens > 200000 maximum",
            "Too many input tokens. Max input tokens: 8192, request input token count: 9011",
            "Input Tokens Exceeded: Number of input tokens exceeds maximum length.",
            "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000",
            "This model's maximum context length is 32768 tokens.",
        ] {
            check("ValidationException", 400, 0, message, Class::ContextTooLong);
        }
        // The same words in a throttle speak of a quota.
        check("ThrottlingException", 429, 0, "Too many input tokens, please wait", Class::Throttled);
        let far_behind = format!("Malformed input {}prompt is too long", "é".repeat(2000));
        check("ValidationException", 400, 0, &far_behind, Class::Invalid);
    }

    #[test]
    fn a_target_that_cannot_be_called_is_not_the_callers_fault() {
        for message in [
            "Invocation of model ID anthropic.claude-sonnet-4 with on-demand throughput isn’t supported. Retry your \
             request with the ID or ARN of an inference profile that contains this model.",
            "Invocation of model ID x with on-demand throughput isn't supported.",
            "The provided model identifier is invalid.",
            "The guardrail identifier or version provided in the request does not exist.",
        ] {
            check("ValidationException", 400, 0, message, Class::Misconfigured);
        }
    }

    #[test]
    fn our_own_credentials_are_told_from_missing_permissions() {
        for name in [
            "ExpiredTokenException",
            "ExpiredToken",
            "UnrecognizedClientException",
            "InvalidSignatureException",
            "IncompleteSignature",
            "MissingAuthenticationTokenException",
        ] {
            check(name, 403, 0, "", Class::Credentials);
        }
        let expired = "The security token included in the request is expired";
        check("AccessDeniedException", 403, 0, expired, Class::Credentials);
        check("", 403, 0, "Bearer Token has expired", Class::Credentials);
        check("", 401, 0, "", Class::Credentials);
    }

    #[test]
    fn what_nobody_modelled_is_known_by_its_status() {
        for (status, expected) in [
            (400, Class::Invalid),
            (403, Class::Misconfigured),
            (404, Class::Misconfigured),
            (408, Class::ModelTimeout),
            (410, Class::Misconfigured),
            (413, Class::Invalid),
            (418, Class::Invalid),
            (424, Class::ModelError),
            (429, Class::Throttled),
            (500, Class::Internal),
            (502, Class::Internal),
            (503, Class::Unavailable),
            (504, Class::Internal),
            (529, Class::Internal),
            (302, Class::Protocol),
            (0, Class::Protocol),
        ] {
            check("", status, 0, "", expected);
        }
        check("BrandNewException", 429, 0, "", Class::Throttled);
        check("brandNewException", 0, 0, "", Class::Internal);
        check("", 400, 0, "Input is too long for requested model", Class::ContextTooLong);
    }
}
