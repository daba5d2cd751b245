//! What both clients need before their first call: a connection that notices its own end, and a credential.

use std::{fmt, time::Duration};

use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Endpoint},
};

/// Most bytes of a message, as at the servers. The default of gRPC libraries, 4 MB, is less than some answers have.
pub(crate) const MESSAGE_BYTES: usize = 25_000_000;
/// How long connecting may take unless told.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that has gone silent is found out within this and [`KEEP_ALIVE_TIMEOUT`], so that a call without a
/// deadline does not wait for ever on a path that is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to connect, and how.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    pub(crate) endpoint: String,
    pub(crate) ca: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) user_agent: Option<String>,
}

/// What of it cannot be used.
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) message: &'static str,
    pub(crate) source: Option<tonic::transport::Error>,
}

impl Unusable {
    pub(crate) fn new(message: &'static str) -> Self {
        Unusable { message, source: None }
    }

    fn because(message: &'static str, source: tonic::transport::Error) -> Self {
        Unusable { message, source: Some(source) }
    }
}

impl Transport {
    pub(crate) fn new(endpoint: String) -> Self {
        Transport { endpoint, ca: None, connect_timeout: CONNECT_TIMEOUT, user_agent: None }
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint, Unusable> {
        let own = concat!("switchtower-rust/", env!("CARGO_PKG_VERSION"));
        let user_agent = match &self.user_agent {
            Some(user_agent) => format!("{user_agent} {own}"),
            None => own.to_owned(),
        };
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|error| Unusable::because("the endpoint is not a URI", error))?
            .user_agent(user_agent)
            .map_err(|error| Unusable::because("the user agent is not printable ASCII", error))?
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .http2_adaptive_window(true);
        match endpoint.uri().scheme_str() {
            Some("http") if self.ca.is_none() => Ok(endpoint),
            Some("http") => Err(Unusable::new("certificates are given, but the endpoint is http://")),
            Some("https") => {
                let tls = match &self.ca {
                    Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                    None => ClientTlsConfig::new().with_native_roots(),
                };
                endpoint.tls_config(tls).map_err(|error| Unusable::because("the certificates cannot be used", error))
            }
            _ => Err(Unusable::new("the endpoint must begin with https:// or http://")),
        }
    }
}

/// What shows a credential with a call. It is in no debug text.
pub(crate) fn bearer(credential: &str, what_is_wrong: &'static str) -> Result<MetadataValue<Ascii>, Unusable> {
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {credential}").parse().map_err(|_| Unusable::new(what_is_wrong))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether there is one, for debug texts.
pub(crate) struct Hidden(pub(crate) bool);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "(hidden)" } else { "None" })
    }
}
