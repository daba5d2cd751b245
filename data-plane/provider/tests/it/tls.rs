//! TLS, with certificates that only a bundle vouches for.

use std::sync::Arc;

use aws_sdk_bedrockruntime::config::SharedCredentialsProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use switchtower_policy::failure::Class;
use switchtower_provider::{
    Answer, Operation, Provider,
    bedrock::{
        Bedrock, Config, Unusable,
        credentials::{Credentials, Trust},
        endpoint::Endpoints,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    server::whole,
    setup::{MODEL, attempt, keys, lean_with},
};

/// A TLS server for `localhost` that answers every request with `{}`; its address and its certificate.
async fn server() -> (String, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = certified.cert.pem();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut socket) = acceptor.accept(socket).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n{}") {
                socket.read_buf(&mut request).await.unwrap();
            }
            socket.write_all(&whole(200, &[], "{}")).await.unwrap();
            let _ = socket.shutdown().await;
        }
    });
    (url, pem)
}

fn signed() -> Credentials {
    Credentials::Provider(SharedCredentialsProvider::new(keys()))
}

#[tokio::test]
async fn a_bundle_is_trusted_and_nothing_else_is() {
    let (url, pem) = server().await;
    let (_, other) = server().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, pem).unwrap();
    let answer =
        lean_with(&url, signed(), Trust::Bundle(path.clone())).attempt(attempt(MODEL, Operation::Converse, "{}")).await;
    assert!(matches!(answer, Ok(Answer::Whole(whole)) if whole.body == "{}"));
    std::fs::write(&path, other).unwrap();
    let failure =
        lean_with(&url, signed(), Trust::Bundle(path)).attempt(attempt(MODEL, Operation::Converse, "{}")).await;
    let failure = failure.expect_err("another's certificate");
    assert_eq!((failure.class, failure.sent), (Class::Connect, false));
    assert!(failure.message.contains("certificate"), "{}", failure.message);
}

#[test]
fn a_bundle_that_holds_nothing_is_found_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for path in [empty, directory.path().join("missing.pem")] {
        let config = Config {
            endpoints: Endpoints::default(),
            credentials: signed(),
            trust: Trust::Bundle(path.clone()),
            clock: Arc::new(std::time::SystemTime::now),
        };
        let error = Bedrock::new(config).expect_err("it holds nothing");
        assert!(matches!(&error, Unusable::Bundle { path: named, .. } if *named == path));
    }
}
