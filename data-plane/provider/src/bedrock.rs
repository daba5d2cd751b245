//! Bedrock Runtime's Converse and ConverseStream on a lean transport.
//!
//! The AWS SDK finds the credentials and is what the tests hold this against, request by request, error by error and
//! frame by frame; it does not make the calls, because its call path costs several times the CPU, decodes what is only
//! passed on, and retries where only the plan may.
//!
//! One attempt is one request: it is never sent twice from here. Its path, in file order: `endpoint` (where),
//! `credentials` and `sign` (as whom), `transport` (there and back), then `whole` or `events`, or `error`.

use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{Answer, Attempt, Events, Failure, Operation, Provider, TraceHeaders};

pub mod credentials;
pub mod endpoint;
mod error;
mod events;
pub mod request;
mod sign;
pub mod stream;
mod transport;
mod usage;
mod whole;

use credentials::{Authorization, Credentials, Kept, Trust};
use endpoint::{Endpoint, Endpoints};
use sign::{CONTENT_TYPE, Signer};
use transport::{Connector, Pool};

/// Tells the time of day, for signatures and the expiry of keys.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// How Bedrock is reached.
#[derive(Clone)]
pub struct Config {
    /// Where.
    pub endpoints: Endpoints,
    /// As whom.
    pub credentials: Credentials,
    /// Whose certificates are trusted.
    pub trust: Trust,
    /// The time; in production the system's.
    pub clock: Clock,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { endpoints, credentials, trust, clock: _ } = self;
        f.debug_struct("Config")
            .field("endpoints", endpoints)
            .field("credentials", credentials)
            .field("trust", trust)
            .finish_non_exhaustive()
    }
}

/// Why Bedrock cannot be reached at all.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file of certificates cannot be used.
    #[error("no certificates were read from {}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why; `None`: it holds none.
        source: Option<rustls::pki_types::pem::Error>,
    },
    /// The operating system trusts no certificate.
    #[error("the operating system trusts no certificates: install its ca-certificates, or set AWS_CA_BUNDLE")]
    NoRoots,
    /// The TLS library refuses its own settings.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// Bedrock Runtime.
pub struct Bedrock {
    endpoints: Endpoints,
    credentials: Kept,
    clock: Clock,
    connector: Connector,
    /// By region; a region is added at its first call, and there are as many as policies name.
    regions: ArcSwap<HashMap<Box<str>, Arc<Region>>>,
}

/// One region: where it is, the signer with its key of the day, and the connections that are kept.
struct Region {
    endpoint: Endpoint,
    signer: Signer,
    pool: Arc<Pool>,
}

impl fmt::Debug for Bedrock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bedrock").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Bedrock {
    /// Connects nowhere yet, and asks for no credentials yet. Reads the trusted certificates, unless every endpoint is
    /// plain HTTP.
    ///
    /// # Errors
    /// TLS is needed and cannot be set up.
    pub fn new(config: Config) -> Result<Self, Unusable> {
        let Config { endpoints, credentials, trust, clock } = config;
        let roots = if endpoints.need_tls() { roots(&trust)? } else { rustls::RootCertStore::empty() };
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Unusable::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Bedrock {
            endpoints,
            credentials: Kept::new(credentials, Arc::clone(&clock)),
            clock,
            connector: Connector::new(tls),
            regions: ArcSwap::default(),
        })
    }

    /// Fetches credentials again, whatever is kept: for when a call failed as [`Class::Credentials`] although some were
    /// kept. Many at once cost one fetch.
    ///
    /// # Errors
    /// They were not fetched; the old ones stay. A Bedrock API key cannot be fetched again.
    ///
    /// [`Class::Credentials`]: switchtower_policy::failure::Class::Credentials
    pub async fn refresh(&self) -> Result<(), Failure> {
        self.credentials.refresh().await
    }

    async fn call(&self, attempt: Attempt) -> Result<Answer, Failure> {
        let Attempt { target, operation, body, connect_timeout, trace } = attempt;
        let region = self.region(&target.region)?;
        let request = self.request(&region, &target.bedrock, operation, body, trace).await?;
        let (head, body) = region.pool.send(request, connect_timeout).await?;
        if !head.status.is_success() {
            return Err(error::of_answer(&head, body).await);
        }
        match operation {
            Operation::Converse => whole::read(body).await.map(Answer::Whole),
            Operation::ConverseStream => Ok(Answer::Stream(Events::new(events::Source::new(&head, body)?))),
        }
    }

    async fn request(
        &self,
        region: &Region,
        model: &str,
        operation: Operation,
        body: Bytes,
        trace: Option<TraceHeaders>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let path = region.endpoint.path(model, operation);
        let now = (self.clock)();
        let authorization = self.credentials.get(now).await?;
        let uri: http::Uri =
            path.wire.parse().map_err(|_| error::misconfigured("The model's id is too long for a path."))?;
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.reserve(8);
        headers.insert(header::HOST, region.endpoint.host.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::USER_AGENT, USER_AGENT);
        match authorization {
            Authorization::Bearer(token) => {
                headers.insert(header::AUTHORIZATION, token);
            }
            Authorization::Sign(keys) => {
                let parts = sign::Parts { host: &region.endpoint.host, path: &path.canonical, body: &body };
                let signature = region.signer.sign(&keys, now, parts);
                headers.insert(X_AMZ_DATE, signature.date);
                headers.insert(header::AUTHORIZATION, signature.authorization);
                if let Some(token) = &keys.session_token {
                    headers.insert(X_AMZ_SECURITY_TOKEN, token.clone());
                }
            }
        }
        if let Some(TraceHeaders { parent, state }) = trace {
            headers.insert(TRACEPARENT, parent);
            if let Some(state) = state {
                headers.insert(TRACESTATE, state);
            }
        }
        Ok(request)
    }

    fn region(&self, name: &str) -> Result<Arc<Region>, Failure> {
        if let Some(region) = self.regions.load().get(name) {
            return Ok(Arc::clone(region));
        }
        let endpoint = self.endpoints.of(name).map_err(|invalid| error::misconfigured(invalid.to_string()))?;
        let pool = Pool::new(endpoint.uri.clone(), self.connector.clone());
        let new = Arc::new(Region { signer: Signer::new(name), endpoint, pool });
        self.regions.rcu(|regions| {
            let mut regions = HashMap::clone(regions);
            // Another call may have been faster; then its region, and its connections, stay.
            regions.entry(name.into()).or_insert_with(|| Arc::clone(&new));
            regions
        });
        Ok(self.regions.load().get(name).map_or(new, Arc::clone))
    }
}

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("switchtower/", env!("CARGO_PKG_VERSION")));
const X_AMZ_DATE: http::HeaderName = http::HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: http::HeaderName = http::HeaderName::from_static("x-amz-security-token");
const TRACEPARENT: http::HeaderName = http::HeaderName::from_static("traceparent");
const TRACESTATE: http::HeaderName = http::HeaderName::from_static("tracestate");

impl Provider for Bedrock {
    fn attempt(&self, attempt: Attempt) -> BoxFuture<'_, Result<Answer, Failure>> {
        Box::pin(self.call(attempt))
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(Bedrock::refresh(self))
    }
}

fn roots(trust: &Trust) -> Result<rustls::RootCertStore, Unusable> {
    let mut roots = rustls::RootCertStore::empty();
    match trust {
        Trust::Native => {
            // One that cannot be read is passed over: systems ship such, and the others are as good as ever.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Unusable::NoRoots);
            }
        }
        Trust::Bundle(path) => {
            let unusable = |source| Unusable::Bundle { path: path.clone(), source };
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|source| unusable(Some(source)))?;
            roots.add_parsable_certificates(certificates);
            if roots.is_empty() {
                return Err(unusable(None));
            }
        }
    }
    Ok(roots)
}
