//! Errors before the first byte of an answer.

use aws_sdk_bedrockruntime::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{converse::ConverseError, converse_stream::ConverseStreamError},
};
use switchtower_policy::failure::Class;
use switchtower_provider::{Failure, Operation, Provider};

use crate::{
    server::{End, Server, whole},
    setup::{MODEL, attempt, lean, sdk},
};

/// What the SDK makes of an error: its variant, its code, its message.
type Seen = (&'static str, Option<String>, Option<String>);

fn seen<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>, variant: fn(&E) -> &'static str) -> Seen {
    let SdkError::ServiceError(service) = error else { return ("none", None, None) };
    let error = service.err();
    (variant(error), error.code().map(str::to_owned), error.message().map(str::to_owned))
}

fn converse_variant(error: &ConverseError) -> &'static str {
    match error {
        ConverseError::AccessDeniedException(_) => "AccessDenied",
        ConverseError::InternalServerException(_) => "InternalServer",
        ConverseError::ModelErrorException(_) => "ModelError",
        ConverseError::ModelNotReadyException(_) => "ModelNotReady",
        ConverseError::ModelTimeoutException(_) => "ModelTimeout",
        ConverseError::ResourceNotFoundException(_) => "ResourceNotFound",
        ConverseError::ServiceUnavailableException(_) => "ServiceUnavailable",
        ConverseError::ThrottlingException(_) => "Throttling",
        ConverseError::ValidationException(_) => "Validation",
        _ => "unmodelled",
    }
}

fn stream_variant(error: &ConverseStreamError) -> &'static str {
    match error {
        ConverseStreamError::AccessDeniedException(_) => "AccessDenied",
        ConverseStreamError::InternalServerException(_) => "InternalServer",
        ConverseStreamError::ModelErrorException(_) => "ModelError",
        ConverseStreamError::ModelNotReadyException(_) => "ModelNotReady",
        ConverseStreamError::ModelTimeoutException(_) => "ModelTimeout",
        ConverseStreamError::ResourceNotFoundException(_) => "ResourceNotFound",
        ConverseStreamError::ServiceUnavailableException(_) => "ServiceUnavailable",
        ConverseStreamError::ThrottlingException(_) => "Throttling",
        ConverseStreamError::ValidationException(_) => "Validation",
        _ => "unmodelled",
    }
}

/// The class of what the SDK has a variant for.
fn class(variant: &str) -> Option<Class> {
    Some(match variant {
        "AccessDenied" | "ResourceNotFound" => Class::Misconfigured,
        "InternalServer" => Class::Internal,
        "ModelError" => Class::ModelError,
        "ModelNotReady" => Class::ModelNotReady,
        "ModelTimeout" => Class::ModelTimeout,
        "ServiceUnavailable" => Class::Unavailable,
        "Throttling" => Class::Throttled,
        "Validation" => Class::Invalid,
        _ => return None,
    })
}

async fn lean_failure(server: &Server, operation: Operation) -> Failure {
    lean(&server.url).attempt(attempt(MODEL, operation, "{}")).await.expect_err("the answer is an error")
}

/// Both clients get this answer for both operations; the class where the SDK has no variant is given.
async fn check(status: u16, headers: &[(&str, &str)], body: &str, unmodelled: Class) {
    let server = Server::new(whole(status, headers, body), End::Close).await;
    let client = sdk(&server.url);
    let unary = client.converse().model_id(MODEL).send().await.unwrap_err();
    let stream = client.converse_stream().model_id(MODEL).send().await.unwrap_err();
    let unary = (seen(&unary, converse_variant), Operation::Converse);
    let stream = (seen(&stream, stream_variant), Operation::ConverseStream);
    for ((variant, code, message), operation) in [unary, stream] {
        let failure = lean_failure(&server, operation).await;
        let context = format!("{status} {headers:?} {body}: the SDK says {variant}");
        assert_eq!(failure.class, class(variant).unwrap_or(unmodelled), "{context}");
        assert_eq!(failure.status, Some(status), "{context}");
        assert!(failure.sent, "{context}");
        assert_eq!(failure.code.as_deref(), code.as_deref(), "{context}");
        if let Some(message) = message {
            assert_eq!(*failure.message, *message, "{context}");
        }
    }
}

#[tokio::test]
async fn every_documented_exception_is_what_the_sdk_takes_it_for() {
    for (status, name, unmodelled) in [
        (403, "AccessDeniedException", Class::Misconfigured),
        (500, "InternalServerException", Class::Internal),
        (424, "ModelErrorException", Class::ModelError),
        (424, "ModelStreamErrorException", Class::ModelError),
        (429, "ModelNotReadyException", Class::ModelNotReady),
        (408, "ModelTimeoutException", Class::ModelTimeout),
        (404, "ResourceNotFoundException", Class::Misconfigured),
        (400, "ServiceQuotaExceededException", Class::QuotaExceeded),
        (503, "ServiceUnavailableException", Class::Unavailable),
        (429, "ThrottlingException", Class::Throttled),
        (400, "ValidationException", Class::Invalid),
        (400, "ConflictException", Class::Invalid),
        (403, "UnrecognizedClientException", Class::Credentials),
        (403, "ExpiredTokenException", Class::Credentials),
        (403, "InvalidSignatureException", Class::Credentials),
    ] {
        check(status, &[("x-amzn-errortype", name)], r#"{"message":"why"}"#, unmodelled).await;
        let url = format!("{name}:http://internal.amazon.com/coral/com.amazon.coral.service/");
        check(status, &[("x-amzn-errortype", &url)], r#"{"Message":"why"}"#, unmodelled).await;
    }
}

#[tokio::test]
async fn an_exception_is_found_wherever_the_sdk_finds_it() {
    let body = r#"{"__type":"com.amazon.bedrock#ThrottlingException","message":"slow down"}"#;
    check(429, &[], body, Class::Throttled).await;
    check(429, &[], r#"{"code":"ThrottlingException","message":"slow down"}"#, Class::Throttled).await;
    check(503, &[("x-amzn-errortype", "ServiceUnavailableException")], "", Class::Unavailable).await;
    check(500, &[("x-amzn-errortype", "SomethingNewException")], r#"{"message":"m"}"#, Class::Internal).await;
    check(418, &[], "{}", Class::Invalid).await;
}

#[tokio::test]
async fn what_no_bedrock_wrote_is_classified_by_its_status() {
    // The SDK finds no JSON and gives up; a load balancer's page still says what it is by its status.
    for (status, class) in
        [(502, Class::Internal), (503, Class::Unavailable), (504, Class::Internal), (429, Class::Throttled)]
    {
        let server =
            Server::new(whole(status, &[("content-type", "text/html")], "<html>sorry</html>"), End::Close).await;
        for operation in [Operation::Converse, Operation::ConverseStream] {
            let failure = lean_failure(&server, operation).await;
            assert_eq!((failure.class, failure.status, failure.code), (class, Some(status), None));
        }
    }
}

#[tokio::test]
async fn a_models_own_refusal_is_told_from_its_failure() {
    for (original, class) in [(400, Class::ModelRefused), (500, Class::ModelError)] {
        let body = format!(r#"{{"message":"m","originalStatusCode":{original},"resourceName":"r"}}"#);
        let server = Server::new(whole(424, &[("x-amzn-errortype", "ModelErrorException")], &body), End::Close).await;
        assert_eq!(lean_failure(&server, Operation::Converse).await.class, class);
    }
}

#[tokio::test]
async fn an_endless_error_is_read_no_further_than_it_is_worth() {
    let mut answer =
        b"HTTP/1.1 503 X\r\nx-amzn-errortype: ServiceUnavailableException\r\nretry-after: 3\r\n\r\n".to_vec();
    answer.extend(vec![b'x'; 200 * 1024]);
    let server = Server::new(answer, End::Wait).await;
    let failure = lean_failure(&server, Operation::Converse).await;
    assert_eq!((failure.class, failure.retry_after), (Class::Unavailable, Some(std::time::Duration::from_secs(3))));
}

#[tokio::test]
async fn success_that_is_not_the_protocol_is_a_failure() {
    let html = whole(200, &[("content-type", "text/html")], "<html></html>");
    let server = Server::new(html, End::Close).await;
    for operation in [Operation::Converse, Operation::ConverseStream] {
        let failure = lean_failure(&server, operation).await;
        assert_eq!((failure.class, failure.status, failure.sent), (Class::Protocol, Some(200), true));
    }
}
