//! What calls are signed with: found by the AWS SDK's own chain, or given.
//!
//! Keys are kept and fetched again before they expire, beside the calls: no call waits for it but the first. If fetching
//! fails, the old ones are used until they really expire, for they are as good as ever until then. One fetch at a time,
//! and after a failed one a pause, so that a thousand calls without keys do not become a thousand questions to the
//! instance's metadata service.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
pub use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError};
use http::HeaderValue;
use tokio::sync::{Mutex, OnceCell};

use super::{Clock, error};
use crate::Failure;

/// Keys are fetched again this long before they expire, or after half of their life if that is later.
const EARLY: Duration = Duration::from_secs(5 * 60);
/// Pause after a failed fetch while the old keys are still good.
const PAUSE_WITH_KEYS: Duration = Duration::from_secs(10);
/// Pause after a failed fetch while there are none: callers are being turned away.
const PAUSE_WITHOUT: Duration = Duration::from_secs(1);
/// One fetch. A role is assumed within a second; a metadata service that is not there takes the chain five to notice.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Where credentials come from.
#[derive(Clone)]
pub enum Credentials {
    /// The AWS SDK's chain: environment, profile, web identity, container, instance.
    Chain,
    /// From a provider of the AWS SDK's kind, which keys that never change are too:
    /// `SharedCredentialsProvider::new(aws_credential_types::Credentials::new(..))`.
    Provider(SharedCredentialsProvider),
    /// A Bedrock API key, sent as a bearer token; nothing is signed.
    Bearer(HeaderValue),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Chain => "Chain",
            Credentials::Provider(_) => "Provider(..)",
            Credentials::Bearer(_) => "Bearer(..)",
        })
    }
}

/// The token cannot stand in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Bedrock API key holds characters that no HTTP header can hold")]
pub struct InvalidToken;

impl Credentials {
    /// A Bedrock API key.
    ///
    /// # Errors
    /// It holds what no header can hold.
    pub fn bearer(token: &str) -> Result<Self, InvalidToken> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| InvalidToken)?;
        value.set_sensitive(true);
        Ok(Credentials::Bearer(value))
    }

    /// As the environment says, in the AWS SDK's words: the API key in `AWS_BEARER_TOKEN_BEDROCK`, else the chain (which
    /// reads the rest of the environment itself).
    ///
    /// # Errors
    /// The API key holds what no header can hold.
    pub fn from_env(get: &impl Fn(&str) -> Option<String>) -> Result<Self, InvalidToken> {
        match get("AWS_BEARER_TOKEN_BEDROCK").filter(|token| !token.trim().is_empty()) {
            Some(token) => Credentials::bearer(&token),
            None => Ok(Credentials::Chain),
        }
    }
}

/// The region that this process runs in, as the AWS SDK's chain finds it: environment, profile, instance. `None`: it
/// runs in none, or none is told.
pub async fn region() -> Option<String> {
    let chain = aws_config::default_provider::region::DefaultRegionChain::builder().build();
    chain.region().await.map(|region| region.to_string())
}

/// Whose certificates are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// What the operating system trusts.
    #[default]
    Native,
    /// The certificates in a PEM file, and no others.
    Bundle(PathBuf),
}

impl Trust {
    /// As the environment says, in the AWS SDK's word: the file in `AWS_CA_BUNDLE`, else what the system trusts.
    #[must_use]
    pub fn from_env(get: &impl Fn(&str) -> Option<String>) -> Self {
        get("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map_or(Trust::Native, |path| Trust::Bundle(path.into()))
    }
}

/// One set of keys.
pub(super) struct Keys {
    /// Different for every fetch.
    pub(super) generation: u64,
    pub(super) access_key: Box<str>,
    pub(super) secret_key: Box<str>,
    pub(super) session_token: Option<HeaderValue>,
}

/// What a call needs.
pub(super) enum Authorization {
    /// This header as it is.
    Bearer(HeaderValue),
    /// A signature with these.
    Sign(Arc<Keys>),
}

/// Credentials, kept.
pub(super) enum Kept {
    Bearer(HeaderValue),
    Keys(Arc<Cache>),
}

impl Kept {
    pub(super) fn new(credentials: Credentials, clock: Clock) -> Self {
        match credentials {
            Credentials::Bearer(header) => Kept::Bearer(header),
            Credentials::Chain => Kept::Keys(Cache::new(OnceCell::new(), clock)),
            Credentials::Provider(provider) => Kept::Keys(Cache::new(OnceCell::new_with(Some(provider)), clock)),
        }
    }

    /// What is kept, or fetched if nothing good is.
    pub(super) async fn get(&self, now: SystemTime) -> Result<Authorization, Failure> {
        match self {
            Kept::Bearer(header) => Ok(Authorization::Bearer(header.clone())),
            Kept::Keys(cache) => cache.get(now).await.map(Authorization::Sign),
        }
    }

    /// Fetches again, whatever is kept.
    pub(super) async fn refresh(&self) -> Result<(), Failure> {
        match self {
            Kept::Bearer(_) => {
                Err(error::credentials("A Bedrock API key was refused, and there is no other to fetch."))
            }
            Kept::Keys(cache) => cache.refresh().await,
        }
    }
}

/// Keys, kept.
pub(super) struct Cache {
    /// Built at the first fetch: the chain reads files and the environment.
    provider: OnceCell<SharedCredentialsProvider>,
    clock: Clock,
    entry: ArcSwapOption<Entry>,
    generations: AtomicU64,
    /// Held by whoever fetches; holds until when a failed fetch is not repeated.
    fetching: Mutex<Option<SystemTime>>,
}

struct Entry {
    keys: Arc<Keys>,
    /// From when they are fetched again beside the calls; `None`: never.
    renew: Option<SystemTime>,
    /// From when they are no good; `None`: never.
    expiry: Option<SystemTime>,
}

impl Cache {
    fn new(provider: OnceCell<SharedCredentialsProvider>, clock: Clock) -> Arc<Self> {
        Arc::new(Cache {
            provider,
            clock,
            entry: ArcSwapOption::empty(),
            generations: AtomicU64::new(0),
            fetching: Mutex::new(None),
        })
    }

    async fn get(self: &Arc<Self>, now: SystemTime) -> Result<Arc<Keys>, Failure> {
        if let Some(keys) = self.kept(now) {
            return Ok(keys);
        }
        let mut paused = self.fetching.lock().await;
        // Somebody else may have fetched them while we waited.
        if let Some(entry) = self.entry.load().as_ref().filter(|entry| entry.is_good(now)) {
            return Ok(Arc::clone(&entry.keys));
        }
        self.fetch(&mut paused).await
    }

    /// The keys that are kept, if they are good; old ones are renewed beside the call.
    fn kept(self: &Arc<Self>, now: SystemTime) -> Option<Arc<Keys>> {
        let kept = self.entry.load();
        let entry = kept.as_ref().filter(|entry| entry.is_good(now))?;
        if entry.renew.is_some_and(|renew| renew <= now) {
            // One call asks for it: whoever comes after it sees a later time, and of two at once one is refused here.
            let renew = Some(now + PAUSE_WITH_KEYS);
            let asked = Arc::new(Entry { renew, keys: Arc::clone(&entry.keys), expiry: entry.expiry });
            let before = self.entry.compare_and_swap(&*kept, Some(asked));
            if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, entry)) {
                self.renew(entry.keys.generation);
            }
        }
        Some(Arc::clone(&entry.keys))
    }

    /// Fetches in a task of its own, which ends by itself within the timeout of a fetch.
    fn renew(self: &Arc<Self>, generation: u64) {
        let cache = Arc::clone(self);
        tokio::spawn(async move {
            let mut paused = cache.fetching.lock().await;
            if cache.generation() == Some(generation) {
                // The failure is logged where it happens, and the keys that are kept go on being used.
                let _ = cache.fetch(&mut paused).await;
            }
        });
    }

    async fn refresh(&self) -> Result<(), Failure> {
        let before = self.generation();
        let mut paused = self.fetching.lock().await;
        // Whoever held the lock did what we came for.
        if self.generation() != before {
            return Ok(());
        }
        self.fetch(&mut paused).await.map(drop)
    }

    fn generation(&self) -> Option<u64> {
        self.entry.load().as_ref().map(|entry| entry.keys.generation)
    }

    async fn fetch(&self, paused: &mut Option<SystemTime>) -> Result<Arc<Keys>, Failure> {
        if paused.is_some_and(|until| (self.clock)() < until) {
            return Err(error::credentials("There are no AWS credentials: fetching them failed a moment ago."));
        }
        let outcome = match tokio::time::timeout(FETCH_TIMEOUT, self.ask()).await {
            Ok(outcome) => outcome,
            Err(_) => Err("fetching them took too long"),
        };
        let now = (self.clock)();
        match outcome {
            Ok(fetched) => {
                let entry = Arc::new(fetched.entry(now));
                self.entry.store(Some(Arc::clone(&entry)));
                *paused = None;
                Ok(Arc::clone(&entry.keys))
            }
            Err(reason) => {
                *paused = Some(now + PAUSE_WITHOUT);
                tracing::warn!(reason, "AWS credentials were not fetched");
                Err(error::credentials(format!("There are no AWS credentials: {reason}.")))
            }
        }
    }

    /// A reason is one of our own sentences: the chain's errors can quote what a token service answered.
    async fn ask(&self) -> Result<Fetched, &'static str> {
        let provider = self
            .provider
            .get_or_init(|| async {
                let chain = aws_config::default_provider::credentials::DefaultCredentialsChain::builder().build().await;
                SharedCredentialsProvider::new(chain)
            })
            .await;
        let found = provider.provide_credentials().await.map_err(|error| match error {
            CredentialsError::CredentialsNotLoaded(_) => "none are configured",
            CredentialsError::ProviderTimedOut(_) => "fetching them took too long",
            CredentialsError::InvalidConfiguration(_) => "their configuration is invalid",
            CredentialsError::ProviderError(_) => "their provider answered with an error",
            _ => "their provider failed",
        })?;
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !visible(found.access_key_id()) {
            return Err("the access key holds characters that no HTTP header can hold");
        }
        let session_token = match found.session_token().filter(|token| !token.is_empty()) {
            None => None,
            Some(token) if visible(token) => HeaderValue::from_str(token).ok(),
            Some(_) => return Err("the session token holds characters that no HTTP header can hold"),
        };
        let session_token = session_token.map(|mut token| {
            token.set_sensitive(true);
            token
        });
        Ok(Fetched {
            keys: Keys {
                generation: self.generations.fetch_add(1, Ordering::Relaxed),
                access_key: found.access_key_id().into(),
                secret_key: found.secret_access_key().into(),
                session_token,
            },
            expiry: found.expiry(),
        })
    }
}

struct Fetched {
    keys: Keys,
    expiry: Option<SystemTime>,
}

impl Fetched {
    fn entry(self, now: SystemTime) -> Entry {
        let renew = self.expiry.map(|expiry| {
            let life = expiry.duration_since(now).unwrap_or_default();
            now + (life / 2).max(life.saturating_sub(EARLY))
        });
        Entry { keys: Arc::new(self.keys), renew, expiry: self.expiry }
    }
}

impl Entry {
    fn is_good(&self, now: SystemTime) -> bool {
        self.expiry.is_none_or(|expiry| now < expiry)
    }
}

#[cfg(test)]
mod tests;
