//! The connection to one replica of the control plane.

use std::{error::Error, net::IpAddr, time::Duration};

use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{Options, Token};

/// To open a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two pings, also while nothing else is sent: what is in between forgets a connection that is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A connection whose ping is not answered by then is lost.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// As much as a part of an update, so that one does not wait for the other end's permission.
const STREAM_WINDOW: u32 = 1 << 20;
/// Twice that: a heartbeat gets through beside it.
const CONNECTION_WINDOW: u32 = 2 << 20;

/// Checks the URL of a control plane. `plaintext`: it may be reached in the clear wherever it is.
///
/// # Errors
/// A sentence about what is wrong.
pub fn check_url(url: &str, plaintext: bool) -> Result<(), String> {
    let parsed = url.parse::<http::Uri>().ok();
    let host = parsed.as_ref().and_then(http::Uri::host).filter(|host| !host.is_empty());
    let scheme = parsed.as_ref().and_then(http::Uri::scheme_str);
    match (scheme, host) {
        (Some("https"), Some(_)) => Ok(()),
        (Some("http"), Some(host)) if plaintext || is_loopback(host) => Ok(()),
        (Some("http"), Some(_)) => Err(format!(
            "--control-plane {url} is not loopback, and the token and the policy would travel in the clear: write \
             https://, or give --plaintext where something in between does TLS"
        )),
        _ => Err(format!("--control-plane `{url}`: write https://HOST[:PORT]")),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// How to reach each replica.
///
/// # Errors
/// A sentence about the one that cannot be used, or about the certificates.
pub(super) fn endpoints(options: &Options) -> Result<Vec<Endpoint>, String> {
    let tls = match &options.ca {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    let endpoint = |url: &String| {
        let wrong = |error: tonic::transport::Error| format!("--control-plane {url}: {}", chain(&error));
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(wrong)?
            .user_agent(concat!("switchtower-node/", env!("CARGO_PKG_VERSION")))
            .map_err(wrong)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        match endpoint.uri().scheme_str() {
            Some("https") => endpoint.tls_config(tls.clone()).map_err(wrong),
            _ => Ok(endpoint),
        }
    };
    options.endpoints.iter().map(endpoint).collect()
}

/// Connects to a replica.
///
/// # Errors
/// A sentence.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<Channel, String> {
    // The endpoint's own timeout ends with TCP and TLS; HTTP/2 comes after.
    match tokio::time::timeout(CONNECT_TIMEOUT * 2, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err("no connection within ten seconds".to_owned()),
    }
}

/// What the node shows, as metadata.
///
/// # Errors
/// A sentence, which does not quote it.
pub(super) async fn authorization(token: &Token) -> Result<MetadataValue<Ascii>, String> {
    let read = match token {
        Token::Fixed(token) => token.clone(),
        Token::File(path) => tokio::fs::read_to_string(path)
            .await
            .map_err(|error| format!("the token file {} cannot be read: {error}", path.display()))?,
    };
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", read.trim())
        .parse()
        .map_err(|_| "the token is not one line of printable ASCII".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// An error with its causes.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_told = cause.to_string();
        // Some say their cause's words as their own.
        if !told.ends_with(&cause_told) {
            told = format!("{told}: {cause_told}");
        }
        next = cause.source();
    }
    told.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_is_reached_in_the_clear_on_loopback_only_unless_told() {
        let check = |url: &str, plaintext: bool, problem: &str| {
            let checked = check_url(url, plaintext);
            assert_eq!(checked.is_ok(), problem.is_empty(), "{url}: {checked:?}");
            assert!(checked.err().unwrap_or_default().contains(problem), "{url}");
        };
        check("https://control.example:7443", false, "");
        check("http://127.0.0.1:7000", false, "");
        check("http://[::1]:7000", false, "");
        check("http://localhost:7000", false, "");
        check("http://control.example", false, "in the clear");
        check("http://localhost.example", false, "in the clear");
        check("http://10.0.0.1", true, "");
        check("control.example:7000", false, "write https://");
        check("ftp://control.example", true, "write https://");
        check("", true, "write https://");
    }

    #[tokio::test]
    async fn a_token_is_one_line_and_is_never_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, " secret-token\n").unwrap();
        let value = authorization(&Token::File(file.clone())).await.unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer secret-token");
        assert!(!format!("{value:?}").contains("secret"));
        std::fs::write(&file, "secret\ntoken").unwrap();
        let error = authorization(&Token::File(file)).await.unwrap_err();
        assert!(!error.contains("secret"), "{error}");
        assert!(!format!("{:?}", Token::Fixed("secret".to_owned())).contains("secret"));
    }
}
