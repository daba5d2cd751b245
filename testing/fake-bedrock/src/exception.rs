//! The exceptions that Bedrock Runtime documents, with the status and the words they come in.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// An answer that is an error, by the name that clients see.
///
/// Each is written in scripts exactly as it is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // The names are Amazon's, and their documentation is too.
pub enum Exception {
    ThrottlingException,
    ServiceQuotaExceededException,
    ModelNotReadyException,
    ServiceUnavailableException,
    InternalServerException,
    ModelTimeoutException,
    ModelErrorException,
    ModelStreamErrorException,
    ValidationException,
    AccessDeniedException,
    ResourceNotFoundException,
    ConflictException,
    UnrecognizedClientException,
    ExpiredTokenException,
    InvalidSignatureException,
}

impl Exception {
    /// The name, as it stands in `x-amzn-errortype`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        self.facts().1
    }

    /// What is said where the script says nothing.
    #[must_use]
    pub fn default_message(self) -> &'static str {
        self.facts().2
    }

    /// Whether the exception has a member for the status that the model itself answered with.
    #[must_use]
    pub fn has_original_status(self) -> bool {
        matches!(self, Exception::ModelErrorException | Exception::ModelStreamErrorException)
    }

    /// The JSON body of the answer.
    pub(crate) fn body(self, message: Option<&str>, original_status: Option<u16>, model: &str) -> Bytes {
        let message = message.unwrap_or(self.default_message());
        let status = original_status.unwrap_or(500);
        let body = match self {
            Exception::ModelErrorException => {
                json!({ "message": message, "originalStatusCode": status, "resourceName": model })
            }
            Exception::ModelStreamErrorException => {
                json!({ "message": message, "originalStatusCode": status, "originalMessage": message })
            }
            _ => json!({ "message": message }),
        };
        Bytes::from(body.to_string())
    }

    fn facts(self) -> (&'static str, u16, &'static str) {
        match self {
            Exception::ThrottlingException => {
                ("ThrottlingException", 429, "Too many requests, please wait before trying again.")
            }
            Exception::ServiceQuotaExceededException => {
                ("ServiceQuotaExceededException", 400, "Your request exceeds the service quota for your account.")
            }
            Exception::ModelNotReadyException => {
                ("ModelNotReadyException", 429, "Model is not ready for inference. Wait and try your request again.")
            }
            Exception::ServiceUnavailableException => {
                ("ServiceUnavailableException", 503, "Bedrock is unable to process your request.")
            }
            Exception::InternalServerException => {
                ("InternalServerException", 500, "The system encountered an unexpected error during processing.")
            }
            Exception::ModelTimeoutException => {
                ("ModelTimeoutException", 408, "Model has timed out in processing the request.")
            }
            Exception::ModelErrorException => {
                ("ModelErrorException", 424, "The request failed due to an error while processing the model.")
            }
            Exception::ModelStreamErrorException => {
                ("ModelStreamErrorException", 424, "An error occurred while streaming the response.")
            }
            Exception::ValidationException => {
                ("ValidationException", 400, "The input fails to satisfy the constraints of the service.")
            }
            Exception::AccessDeniedException => {
                ("AccessDeniedException", 403, "You don't have access to the model with the specified model ID.")
            }
            Exception::ResourceNotFoundException => {
                ("ResourceNotFoundException", 404, "Could not resolve the foundation model from the model identifier.")
            }
            Exception::ConflictException => {
                ("ConflictException", 400, "A conflict with the current state of the resource occurred.")
            }
            Exception::UnrecognizedClientException => {
                ("UnrecognizedClientException", 403, "The security token included in the request is invalid.")
            }
            Exception::ExpiredTokenException => {
                ("ExpiredTokenException", 403, "The security token included in the request is expired.")
            }
            Exception::InvalidSignatureException => (
                "InvalidSignatureException",
                403,
                "The request signature we calculated does not match the signature you provided.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_scripts_is_the_name_on_the_wire() {
        for exception in [
            Exception::ThrottlingException,
            Exception::ServiceQuotaExceededException,
            Exception::ModelNotReadyException,
            Exception::ServiceUnavailableException,
            Exception::InternalServerException,
            Exception::ModelTimeoutException,
            Exception::ModelErrorException,
            Exception::ModelStreamErrorException,
            Exception::ValidationException,
            Exception::AccessDeniedException,
            Exception::ResourceNotFoundException,
            Exception::ConflictException,
            Exception::UnrecognizedClientException,
            Exception::ExpiredTokenException,
            Exception::InvalidSignatureException,
        ] {
            assert_eq!(serde_json::to_value(exception).unwrap(), exception.name());
        }
    }
}
