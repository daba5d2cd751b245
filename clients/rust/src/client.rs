//! The connection, and the two calls.

use std::{fmt, future::Future, time::Duration};

use switchtower_proto::inference::v1::{
    GenerateRequest, GenerateResponse, GenerateStreamRequest, inference_service_client::InferenceServiceClient,
};
use tokio::time::Instant;
use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    call::CallOptions,
    error::{Error, Kind},
    stream::Events,
    transport::{Hidden, MESSAGE_BYTES, Transport, bearer},
};

/// How to reach Switchtower.
#[derive(Clone)]
pub struct Options {
    transport: Transport,
    api_key: Option<String>,
}

impl Options {
    /// An endpoint such as `https://switchtower.example.com:8443`. Without TLS (`http://`) a key travels readable: for
    /// loopback, and where something else encrypts.
    #[must_use]
    pub fn new(endpoint: impl Into<String>) -> Self {
        Options { transport: Transport::new(endpoint.into()), api_key: None }
    }

    /// The key that is shown with every call. Without one none is shown.
    #[must_use]
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Certificates (PEM) to trust instead of the system's.
    #[must_use]
    pub fn ca(mut self, pem: impl Into<String>) -> Self {
        self.transport.ca = Some(pem.into());
        self
    }

    /// How long connecting may take, TLS included; 5 s unless told.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.transport.connect_timeout = timeout;
        self
    }

    /// What the caller calls itself, before this library's own name. Without one only that is sent.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.transport.user_agent = Some(user_agent.into());
        self
    }

    fn endpoint(&self) -> Result<Endpoint, Error> {
        self.transport.endpoint().map_err(Error::unusable)
    }

    fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, Error> {
        let key = self.api_key.as_deref();
        key.map(|key| bearer(key, "the API key is not printable ASCII")).transpose().map_err(Error::unusable)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("endpoint", &self.transport.endpoint)
            .field("api_key", &Hidden(self.api_key.is_some()))
            .field("ca", &self.transport.ca.is_some())
            .field("connect_timeout", &self.transport.connect_timeout)
            .field("user_agent", &self.transport.user_agent)
            .finish()
    }
}

/// A connection to Switchtower. Clones share it, and it opens itself again after a loss.
#[derive(Clone, Debug)]
pub struct Client {
    inner: InferenceServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`Kind::Options`] for options that cannot be used, [`Kind::Unavailable`] where nobody answers.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let endpoint = options.endpoint()?;
        let authorization = options.authorization()?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Error::new(Kind::Unavailable, "no connection to the endpoint").caused_by(error))?;
        let inner = InferenceServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        Ok(Client { inner, authorization })
    }

    /// The whole answer at once. Dropping the future cancels the call.
    ///
    /// # Errors
    /// See [`Kind`].
    pub async fn generate(
        &self,
        request: impl Into<GenerateRequest>,
        options: CallOptions,
    ) -> Result<GenerateResponse, Error> {
        let deadline = options.ends();
        let mut message = request.into();
        options.merge_metadata(&mut message);
        let request = options.request(message, self.authorization.as_ref())?;
        let mut inner = self.inner.clone();
        let response = within(deadline, inner.generate(request)).await?;
        Ok(response.into_inner())
    }

    /// The answer as it is made; resolves when its first content is there. Dropping the future or the events cancels
    /// the call. The deadline holds for the whole stream.
    ///
    /// # Errors
    /// See [`Kind`].
    pub async fn stream(&self, request: impl Into<GenerateRequest>, options: CallOptions) -> Result<Events, Error> {
        let deadline = options.ends();
        let mut message = request.into();
        options.merge_metadata(&mut message);
        let message = GenerateStreamRequest { request: Some(message) };
        let request = options.request(message, self.authorization.as_ref())?;
        let mut inner = self.inner.clone();
        let response = within(deadline, inner.generate_stream(request)).await?;
        Ok(Events::new(response, deadline))
    }
}

/// A call, as long as its caller waits.
async fn within<T>(deadline: Option<Instant>, call: impl Future<Output = Result<T, Status>>) -> Result<T, Error> {
    let result = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, call).await.map_err(|_| Error::deadline())?,
        None => call.await,
    };
    result.map_err(|status| match deadline {
        // The connection keeps the time too, and its word for it is another one.
        Some(deadline) if status.code() == Code::Cancelled && Instant::now() >= deadline => Error::deadline(),
        _ => Error::of(status),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_no_debug_text() {
        let options = Options::new("https://example.com").api_key("st_secret").ca("PEM");
        let text = format!("{options:?} {:?}", options.authorization().unwrap().unwrap());
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains("example.com"), "{text}");
    }

    #[track_caller]
    fn check(options: Options, expected: Option<&str>) {
        let result = options.endpoint().map(drop).and_then(|()| options.authorization().map(drop));
        match expected {
            None => result.unwrap(),
            Some(message) => {
                let error = result.unwrap_err();
                assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Options, message));
            }
        }
    }

    #[test]
    fn options_that_cannot_be_used_are_refused_before_connecting() {
        check(Options::new("http://127.0.0.1:1").api_key("k").user_agent("shop/1.0"), None);
        check(Options::new("https://example.com"), None);
        check(Options::new("http://a b"), Some("the endpoint is not a URI"));
        check(Options::new("example.com:80"), Some("the endpoint must begin with https:// or http://"));
        check(Options::new("ftp://example.com"), Some("the endpoint must begin with https:// or http://"));
        check(
            Options::new("http://example.com").ca("PEM"),
            Some("certificates are given, but the endpoint is http://"),
        );
        check(Options::new("http://example.com").api_key("k\n"), Some("the API key is not printable ASCII"));
        check(Options::new("http://example.com").user_agent("shop\n"), Some("the user agent is not printable ASCII"));
    }
}
