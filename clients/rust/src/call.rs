//! What one call says beside its request: how long, in which trace, with which metadata.

use std::time::Duration;

use switchtower_proto::inference::v1::GenerateRequest;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};

use crate::error::Error;

/// What `grpc-timeout` can say: 8 digits of hours.
pub(crate) const LONGEST: Duration = Duration::from_secs(99_999_999 * 3600);

/// What one call says beside its request.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    deadline: Option<Duration>,
    traceparent: Option<String>,
    metadata: Vec<(String, String)>,
}

impl CallOptions {
    /// No deadline but the route's, a trace of its own, no metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the caller waits, from the call to the end of the answer, streams included. It is told to the node,
    /// which gives up what cannot be ready by then, and kept here whether the node answers or not. Without one the
    /// route's total holds.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The caller's place in its trace, by W3C Trace Context. Without one the call begins a trace, not sampled, whose
    /// id then stands in the node's records.
    #[must_use]
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// A fact for the policy's conditions and for records; it replaces one of this key in the request.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// When the caller stops waiting; `None`: never, or later than clocks go.
    pub(crate) fn ends(&self) -> Option<Instant> {
        self.deadline.and_then(|deadline| Instant::now().checked_add(deadline))
    }

    pub(crate) fn merge_metadata(&self, message: &mut GenerateRequest) {
        message.metadata.extend(self.metadata.iter().cloned());
    }

    pub(crate) fn request<T>(
        &self,
        message: T,
        authorization: Option<&MetadataValue<Ascii>>,
    ) -> Result<tonic::Request<T>, Error> {
        let mut request = tonic::Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.min(LONGEST));
        }
        let traceparent = self.traceparent.clone().unwrap_or_else(new_trace);
        let traceparent = traceparent.parse().map_err(|_| Error::options("the traceparent is not printable ASCII"))?;
        request.metadata_mut().insert("traceparent", traceparent);
        if let Some(authorization) = authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

/// The beginning of a trace. Not sampled: this library records no span that a sampled trace could begin with.
fn new_trace() -> String {
    // All zeros is no id.
    format!("00-{:032x}-{:016x}-00", fastrand::u128(1..), fastrand::u64(1..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_a_trace_begins_one_of_the_right_shape() {
        let (a, b) = (new_trace(), new_trace());
        assert_ne!(a, b);
        let lengths: Vec<_> = a.split('-').map(str::len).collect();
        assert_eq!(lengths, [2, 32, 16, 2]);
        assert!(a.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
    }

    #[test]
    fn metadata_of_the_call_replaces_that_of_the_request() {
        let mut message = GenerateRequest::default();
        message.metadata.insert("a".to_owned(), "request".to_owned());
        message.metadata.insert("b".to_owned(), "request".to_owned());
        CallOptions::new().metadata("b", "call").metadata("c", "call").merge_metadata(&mut message);
        let pairs: Vec<_> = message.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(pairs, ["a=request", "b=call", "c=call"]);
    }

    #[test]
    fn the_longest_deadline_is_no_panic() {
        let options = CallOptions::new().deadline(Duration::MAX);
        assert_eq!(options.request((), None).unwrap().metadata().get("grpc-timeout").unwrap(), "99999999H");
        assert!(options.ends().is_none());
    }

    #[test]
    fn a_traceparent_that_cannot_travel_is_refused() {
        let error = CallOptions::new().traceparent("00-\n").request((), None).unwrap_err();
        assert_eq!(error.to_string(), "the traceparent is not printable ASCII");
    }
}
