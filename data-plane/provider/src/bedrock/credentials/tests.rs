use std::sync::atomic::AtomicUsize;

use aws_credential_types::provider::future;
use switchtower_policy::failure::Class;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const START: SystemTime = SystemTime::UNIX_EPOCH;

/// A provider whose keys live for a time, which can be told to fail, and which counts.
#[derive(Debug)]
struct Source {
    life: Option<Duration>,
    clock: Arc<AtomicU64>,
    fetches: AtomicUsize,
    fails: AtomicUsize,
}

#[derive(Debug)]
struct Shared(Arc<Source>);

impl ProvideCredentials for Shared {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let nth = self.0.fetches.fetch_add(1, Ordering::SeqCst);
        let fails = self.0.fails.load(Ordering::SeqCst) > 0;
        let expiry = self.0.life.map(|life| now(&self.0.clock) + life);
        future::ProvideCredentials::new(async move {
            tokio::task::yield_now().await;
            if fails {
                return Err(CredentialsError::provider_error("the token service said: secret"));
            }
            Ok(aws_credential_types::Credentials::new(format!("KEY{nth}"), "secret", None, expiry, "test"))
        })
    }
}

fn now(clock: &AtomicU64) -> SystemTime {
    START + Duration::from_secs(clock.load(Ordering::SeqCst))
}

struct Setup {
    source: Arc<Source>,
    cache: Arc<Cache>,
}

impl Setup {
    fn new(life: Option<Duration>) -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        let source = Arc::new(Source { life, clock: Arc::clone(&clock), fetches: 0.into(), fails: 0.into() });
        let provider = SharedCredentialsProvider::new(Shared(Arc::clone(&source)));
        let cache = Cache::new(OnceCell::new_with(Some(provider)), Arc::new(move || now(&clock)));
        Setup { source, cache }
    }

    fn at(&self, since_start: Duration) {
        self.source.clock.store(since_start.as_secs(), Ordering::SeqCst);
    }

    fn fail(&self, fails: bool) {
        self.source.fails.store(fails.into(), Ordering::SeqCst);
    }

    async fn key(&self) -> Result<String, Failure> {
        let keys = self.cache.get(now(&self.source.clock)).await.map(|keys| keys.access_key.to_string());
        // What was started beside the call gets its turns.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        keys
    }

    fn fetches(&self) -> usize {
        self.source.fetches.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn keys_are_fetched_once_for_many_calls_at_once() {
    let setup = Setup::new(None);
    let calls = futures_util::future::join_all((0..50).map(|_| setup.key())).await;
    assert!(calls.iter().all(|key| key.as_deref() == Ok("KEY0")));
    setup.at(MINUTE * 600_000);
    assert_eq!(setup.key().await.unwrap(), "KEY0", "keys without an expiry are kept for ever");
    assert_eq!(setup.fetches(), 1);
}

#[tokio::test]
async fn keys_are_renewed_beside_the_calls_five_minutes_before_they_expire() {
    let setup = Setup::new(Some(MINUTE * 60));
    assert_eq!(setup.key().await.unwrap(), "KEY0");
    setup.at(MINUTE * 54);
    assert_eq!((setup.key().await.unwrap(), setup.fetches()), ("KEY0".into(), 1));
    setup.at(MINUTE * 55);
    assert_eq!(setup.key().await.unwrap(), "KEY0", "the call that noticed did not wait");
    assert_eq!((setup.key().await.unwrap(), setup.fetches()), ("KEY1".into(), 2));
}

#[tokio::test]
async fn keys_of_a_short_life_are_renewed_after_half_of_it() {
    let setup = Setup::new(Some(MINUTE * 6));
    setup.key().await.unwrap();
    setup.at(MINUTE * 2);
    assert_eq!((setup.key().await.unwrap(), setup.fetches()), ("KEY0".into(), 1));
    setup.at(MINUTE * 3);
    setup.key().await.unwrap();
    assert_eq!((setup.key().await.unwrap(), setup.fetches()), ("KEY1".into(), 2));
}

#[tokio::test]
async fn old_keys_are_used_until_they_expire_when_fetching_fails() {
    let setup = Setup::new(Some(MINUTE * 60));
    setup.key().await.unwrap();
    setup.fail(true);
    setup.at(MINUTE * 56);
    for _ in 0..5 {
        assert_eq!(setup.key().await.unwrap(), "KEY0");
    }
    assert_eq!(setup.fetches(), 2, "it is not asked again at once");
    setup.at(MINUTE * 56 + PAUSE_WITH_KEYS);
    assert_eq!((setup.key().await.unwrap(), setup.fetches()), ("KEY0".into(), 3));
    setup.at(MINUTE * 60);
    let failure = setup.key().await.unwrap_err();
    assert_eq!((failure.class, failure.sent), (Class::Credentials, false));
    assert!(!failure.message.contains("secret"), "the provider's own words stay out: {}", failure.message);
    setup.fail(false);
    setup.at(MINUTE * 60 + PAUSE_WITHOUT);
    assert_eq!(setup.key().await.unwrap(), "KEY4");
}

#[tokio::test]
async fn a_failed_fetch_is_not_repeated_for_every_call() {
    let setup = Setup::new(None);
    setup.fail(true);
    let calls = futures_util::future::join_all((0..50).map(|_| setup.key())).await;
    assert!(calls.iter().all(|key| key.as_ref().is_err_and(|failure| failure.class == Class::Credentials)));
    assert_eq!(setup.fetches(), 1);
    setup.fail(false);
    setup.at(PAUSE_WITHOUT);
    assert_eq!(setup.key().await.unwrap(), "KEY1");
}

#[tokio::test]
async fn a_forced_refresh_fetches_once_for_many_that_ask_at_once() {
    let setup = Setup::new(Some(MINUTE * 60));
    setup.key().await.unwrap();
    let asked = futures_util::future::join_all((0..20).map(|_| setup.cache.refresh())).await;
    assert!(asked.iter().all(Result::is_ok));
    assert_eq!((setup.key().await.unwrap(), setup.fetches()), ("KEY1".into(), 2));
    setup.fail(true);
    setup.cache.refresh().await.unwrap_err();
    assert_eq!(setup.key().await.unwrap(), "KEY1", "the old keys stay");
}

#[tokio::test]
async fn a_bearer_token_is_never_fetched_and_never_shown() {
    let env = |key: &str| (key == "AWS_BEARER_TOKEN_BEDROCK").then(|| " abc ".to_owned());
    let credentials = Credentials::from_env(&env).unwrap();
    assert_eq!(format!("{credentials:?}"), "Bearer(..)");
    let kept = Kept::new(credentials, Arc::new(|| START));
    let Authorization::Bearer(header) = kept.get(START).await.unwrap() else { panic!() };
    assert_eq!((header.as_bytes(), header.is_sensitive()), (&b"Bearer abc"[..], true));
    assert_eq!(kept.refresh().await.unwrap_err().class, Class::Credentials);
}

#[test]
fn without_an_api_key_the_chain_is_asked() {
    for value in [None, Some(""), Some(" ")] {
        let env = |key: &str| value.filter(|_| key == "AWS_BEARER_TOKEN_BEDROCK").map(str::to_owned);
        assert!(matches!(Credentials::from_env(&env), Ok(Credentials::Chain)));
    }
    assert_eq!(Credentials::bearer("a\nb").err(), Some(InvalidToken));
}

#[test]
fn trust_is_read_in_the_sdks_word() {
    let trust = |value: Option<&'static str>| {
        Trust::from_env(&move |key: &str| value.filter(|_| key == "AWS_CA_BUNDLE").map(str::to_owned))
    };
    assert_eq!(trust(None), Trust::Native);
    assert_eq!(trust(Some("")), Trust::Native);
    assert_eq!(trust(Some("/etc/ca.pem")), Trust::Bundle("/etc/ca.pem".into()));
}
