//! What is known of one request when it is decided: the only input of conditions, flags and routes.

use crate::snapshot::Caller;

/// What is known of one request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who asks, as the policy knows them.
    pub caller: &'a Caller,
    /// The route or alias that was asked for, as it was spelt.
    pub asked: &'a str,
    /// Metadata of the request; a key that stands twice counts where it stands last.
    pub metadata: &'a [(String, String)],
    /// Region that the node runs in; empty where it runs in none.
    pub region: &'a str,
    /// Id of the request.
    pub request_id: &'a str,
    /// What the body says.
    pub request: RequestFacts,
}

/// What a request's body says that routing needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The caller wants a stream.
    pub stream: bool,
    /// Output tokens asked for; `None`: as many as the route allows.
    pub max_tokens: Option<u32>,
    /// Tools are offered to the model.
    pub tools: bool,
    /// Length of the body in bytes.
    pub body_bytes: u64,
}

impl<'a> Facts<'a> {
    /// The value of a metadata key.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&'a str> {
        self.metadata.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// What decides percentages: metadata `targeting_key`, else `session`. Empty values count as none.
    #[must_use]
    pub fn targeting_key(&self) -> Option<&'a str> {
        ["targeting_key", "session"].into_iter().find_map(|key| self.metadata(key).filter(|v| !v.is_empty()))
    }
}
