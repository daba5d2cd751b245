//! How to reach the control plane, and as whom.

use std::{fmt, time::Duration};

use tonic::metadata::{Ascii, MetadataValue};

use super::error::Error;
use crate::{
    call::LONGEST,
    transport::{Hidden, Transport, Unusable, bearer},
};

/// How long a call without a stream may take unless told: a policy of 4 MiB over a slow line, and a store that waits for
/// its disk.
const DEADLINE: Duration = Duration::from_secs(30);

/// How to reach the control plane, and as whom.
#[derive(Clone)]
pub struct Options {
    pub(super) transport: Transport,
    token: Option<String>,
    author: Option<String>,
    traceparent: Option<String>,
    deadline: Duration,
}

impl Options {
    /// An endpoint such as `https://control.example.com:7070`. Without TLS (`http://`) a token travels readable: for
    /// loopback, and where something else encrypts.
    #[must_use]
    pub fn new(endpoint: impl Into<String>) -> Self {
        Options {
            transport: Transport::new(endpoint.into()),
            token: None,
            author: None,
            traceparent: None,
            deadline: DEADLINE,
        }
    }

    /// The operator's token that is shown with every call. Without one none is shown.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The name that is recorded with changes, in printable ASCII. Without one the token's own name is.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.author = Some(author.into());
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

    /// How long each call may take, and a stream until it begins; 30 s unless told. It is told to the control plane, and
    /// kept here whether that answers or not.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The place of all calls in a trace, by W3C Trace Context. Without one each call begins a trace, not sampled, whose
    /// id then stands in the control plane's records.
    #[must_use]
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// What the caller calls itself, before this library's own name. Without one only that is sent.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.transport.user_agent = Some(user_agent.into());
        self
    }

    /// What is sent with every call.
    pub(super) fn said(&self) -> Result<Said, Error> {
        let text = |text: &Option<String>, wrong| {
            // The parser takes any bytes above ASCII, which servers then cannot read as text.
            let parsed = |text: &String| text.parse().ok().filter(|_| text.is_ascii()).ok_or(Unusable::new(wrong));
            text.as_ref().map(parsed).transpose()
        };
        let said = || {
            let token = self.token.as_deref();
            Ok(Said {
                authorization: token.map(|token| bearer(token, "the token is not printable ASCII")).transpose()?,
                author: text(&self.author, "the author is not printable ASCII")?,
                traceparent: text(&self.traceparent, "the traceparent is not printable ASCII")?,
                deadline: self.deadline,
            })
        };
        said().map_err(Error::unusable)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("endpoint", &self.transport.endpoint)
            .field("token", &Hidden(self.token.is_some()))
            .field("author", &self.author)
            .field("ca", &self.transport.ca.is_some())
            .field("connect_timeout", &self.transport.connect_timeout)
            .field("deadline", &self.deadline)
            .field("traceparent", &self.traceparent)
            .field("user_agent", &self.transport.user_agent)
            .finish()
    }
}

/// What is sent with every call.
#[derive(Clone, Debug)]
pub(super) struct Said {
    authorization: Option<MetadataValue<Ascii>>,
    author: Option<MetadataValue<Ascii>>,
    traceparent: Option<MetadataValue<Ascii>>,
    pub(super) deadline: Duration,
}

impl Said {
    /// A call that is over when it is answered.
    pub(super) fn unary<T>(&self, message: T) -> Result<tonic::Request<T>, Error> {
        let mut request = self.stream(message)?;
        request.set_timeout(self.deadline.min(LONGEST));
        Ok(request)
    }

    /// A call whose answers go on.
    pub(super) fn stream<T>(&self, message: T) -> Result<tonic::Request<T>, Error> {
        let mut request = tonic::Request::new(message);
        let metadata = request.metadata_mut();
        // Without one the control plane begins a trace, which it may keep: one of ours, of which we record no span, would
        // only tell it not to.
        if let Some(traceparent) = &self.traceparent {
            metadata.insert("traceparent", traceparent.clone());
        }
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        if let Some(author) = &self.author {
            metadata.insert("x-switchtower-author", author.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_in_no_debug_text() {
        let options = Options::new("https://example.com").token("swo_secret").author("ada");
        let text = format!("{options:?} {:?}", options.said().unwrap());
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains("example.com") && text.contains("ada"), "{text}");
    }

    #[test]
    fn every_call_says_who_asks_and_in_which_trace_if_there_is_one() {
        let options = Options::new("http://127.0.0.1:1").token("t").author("ada").deadline(Duration::MAX);
        let said = options.said().unwrap();
        let request = said.unary(()).unwrap();
        let value = |name: &str| request.metadata().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(value("authorization").as_deref(), Some("Bearer t"));
        assert_eq!(value("x-switchtower-author").as_deref(), Some("ada"));
        assert_eq!(value("grpc-timeout").as_deref(), Some("99999999H"));
        assert_eq!(value("traceparent"), None);
        let request = said.stream(()).unwrap();
        assert!(request.metadata().get("grpc-timeout").is_none());
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let request = options.traceparent(trace).said().unwrap().unary(()).unwrap();
        assert_eq!(request.metadata().get("traceparent").unwrap(), trace);
    }

    #[test]
    fn what_cannot_travel_is_refused_and_not_repeated() {
        let check = |options: Options, expected: &str| {
            assert_eq!(options.said().unwrap_err().to_string(), expected);
        };
        let options = || Options::new("http://127.0.0.1:1");
        check(options().token("a\nb"), "the token is not printable ASCII");
        check(options().author("Zoë"), "the author is not printable ASCII");
        check(options().traceparent("\n"), "the traceparent is not printable ASCII");
    }
}
