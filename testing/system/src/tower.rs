//! A node before a fake Bedrock of two regions, as an operator would have set it up: policy in files, keys for callers,
//! AWS credentials with a session token, and spans going to a collector.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials as AwsCredentials;
use bytes::Bytes;
use http::{Request, request::Builder};
use serde_json::{Value, json};
use switchtower_data_plane::{
    auth::Keyring,
    server::tls,
    source::Files,
    start::{Keys, Options, Running, Source, start},
    telemetry::{Telemetry, names, spans::Spans},
};
use switchtower_fake_bedrock::{self as fake, Behaviour, FakeBedrock, Script};
use switchtower_keys::{IssuedKey, Pepper, Peppers, new_key, random};
use switchtower_provider::bedrock::{
    Bedrock, Config,
    credentials::{Credentials, SharedCredentialsProvider, Trust},
    endpoint::Endpoints,
};
use switchtower_telemetry::export::Exporter;
use tempfile::TempDir;

use crate::{
    collector::Collector,
    logs, until,
    wire::{self, Open, Reply, Version},
};

/// The policy that is served unless a test says otherwise.
pub const POLICY: &str = include_str!("../policy/tower.yaml");
/// The node's own region.
pub const EAST: &str = "us-east-1";
/// The other one.
pub const WEST: &str = "us-west-2";
/// The model of most routes of [`POLICY`].
pub const SONNET: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
/// The other model.
pub const NOVA: &str = "us.amazon.nova-lite-v1:0";
/// The caller that may use most routes.
pub const WEB: &str = "acme-web";
/// The caller that may use `night-batch` alone.
pub const BATCH: &str = "acme-batch";

/// What a tower is set up with.
pub struct Setup {
    /// Policy files: name and text.
    pub policy: Vec<(&'static str, String)>,
    /// What the upstream does at first.
    pub script: Script,
    /// TLS on the callers' port, under a certificate authority made for it.
    pub tls: bool,
    /// `OTEL_TRACES_SAMPLER` of a node that exports spans; `None`: it exports none.
    pub sampler: Option<&'static str>,
    /// Most bytes of a request's body.
    pub most_body_bytes: usize,
    /// The node's own AWS keys: id, secret, session token.
    pub aws: [String; 3],
    /// What stands in for Bedrock in [`EAST`]; `None`: the fake, as in [`WEST`].
    pub east: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            policy: vec![("tower.yaml", POLICY.to_owned())],
            script: Script::default(),
            tls: false,
            sampler: None,
            most_body_bytes: 1 << 20,
            aws: ["AKIDNODE".to_owned(), "node-secret".to_owned(), "node-session-token".to_owned()],
            east: None,
        }
    }
}

/// A node before a fake Bedrock.
pub struct Tower {
    /// What stands in for Bedrock.
    pub fake: FakeBedrock,
    /// The node.
    pub node: Running,
    /// Where the node's records go.
    pub telemetry: Arc<Telemetry>,
    /// Where its spans go, if it exports any.
    pub collector: Option<Collector>,
    keys: BTreeMap<&'static str, IssuedKey>,
    tls: bool,
    folder: TempDir,
}

impl Tower {
    /// A tower as it is by default.
    pub async fn up() -> Tower {
        Tower::start(Setup::default()).await
    }

    /// Starts one. When it returns, callers can call.
    ///
    /// # Panics
    /// It does not start: in a test there is nothing else to do about it.
    pub async fn start(setup: Setup) -> Tower {
        logs::keep();
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("policy")).expect("a folder in it");
        for (name, text) in &setup.policy {
            fs::write(folder.path().join("policy").join(name), text).expect("a file in it");
        }
        let fake = FakeBedrock::start(fake::Options {
            regions: vec![EAST.to_owned(), WEST.to_owned()],
            script: setup.script,
            ..fake::Options::default()
        });
        let fake = fake.await.expect("a fake Bedrock");
        let collector = match setup.sampler {
            Some(_) => Some(Collector::start().await.expect("a collector")),
            None => None,
        };
        let telemetry = Arc::new(telemetry(collector.as_ref(), setup.sampler));
        let (keyring, keys) = keyring();
        let options = Options {
            listen: ([127, 0, 0, 1], 0).into(),
            admin_listen: ([127, 0, 0, 1], 0).into(),
            tls: setup.tls.then(|| {
                let (certificates, key) = certificates(folder.path());
                tls::read(&certificates, &key).expect("the certificates that were just made")
            }),
            source: Source::Files { policy: Files(folder.path().join("policy")), keys: Keys::Fixed(Box::new(keyring)) },
            region: EAST.into(),
            provider: Arc::new(bedrock(&fake, setup.east, &setup.aws)),
            telemetry: telemetry.clone(),
            most_body_bytes: setup.most_body_bytes,
            drain: Duration::from_secs(5),
        };
        let node = start(options).await.expect("a node");
        Tower { fake, node, telemetry, collector, keys, tls: setup.tls, folder }
    }

    /// Where callers come in.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.node.address
    }

    /// What an AWS SDK is told as its endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address())
    }

    /// The certificate authority, for a tower with TLS.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The key of a caller.
    ///
    /// # Panics
    /// There is no such caller.
    #[must_use]
    pub fn key(&self, caller: &str) -> &IssuedKey {
        self.keys.get(caller).expect("one of the callers that have keys")
    }

    /// Replaces a policy file, as an editor does: whole, by renaming.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write_policy(&self, name: &str, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).expect("a file in a temporary folder");
        fs::rename(new, self.policy_folder().join(name)).expect("a file beside it");
    }

    /// Where the policy files are.
    #[must_use]
    pub fn policy_folder(&self) -> PathBuf {
        self.folder.path().join("policy")
    }

    /// Both regions do this from now on.
    pub fn everywhere(&self, behaviour: &Behaviour) {
        self.fake.behave(EAST, behaviour.clone());
        self.fake.behave(WEST, behaviour.clone());
    }

    /// A request by [`WEB`], as JSON; to be finished with a body.
    #[must_use]
    pub fn post(&self, path: &str) -> Builder {
        let key = format!("Bearer {}", self.key(WEB).bearer);
        Request::post(path).header("content-type", "application/json").header("authorization", key)
    }

    /// Converse on a route by [`WEB`].
    pub async fn converse(&self, route: &str, body: &Value) -> Reply {
        self.send(self.post(&format!("/model/{route}/converse")), body.to_string()).await
    }

    /// ConverseStream on a route by [`WEB`], to its end.
    pub async fn converse_stream(&self, route: &str, body: &Value) -> Reply {
        self.send(self.post(&format!("/model/{route}/converse-stream")), body.to_string()).await
    }

    /// ConverseStream on a route by [`WEB`], still open.
    pub async fn open_stream(&self, route: &str, body: &Value) -> Open {
        let request = self.post(&format!("/model/{route}/converse-stream"));
        wire::open(self.address(), Version::One, finished(request, body.to_string())).await
    }

    /// Sends a request over HTTP/1.1.
    pub async fn send(&self, request: Builder, body: impl Into<Bytes>) -> Reply {
        wire::send(self.address(), Version::One, finished(request, body)).await
    }

    /// Sends a request over HTTP/2.
    pub async fn send_two(&self, request: Builder, body: impl Into<Bytes>) -> Reply {
        wire::send(self.address(), Version::Two, finished(request, body)).await
    }

    /// A page of the admin port.
    pub async fn admin(&self, path: &str) -> Reply {
        wire::send(self.node.admin_address, Version::One, finished(Request::get(path), "")).await
    }

    /// The metrics, as text.
    pub async fn metrics(&self) -> String {
        String::from_utf8_lossy(&self.admin("/metrics").await.body).into_owned()
    }

    /// The value of a metric's line that begins so, labels included; 0 where there is none.
    pub async fn metric(&self, begins: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find(|line| line.strip_prefix(begins).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// Waits until the node has ended the record of every request.
    pub async fn at_rest(&self) {
        let node = &self.node;
        until("every record is ended", || {
            let text = node.node.telemetry.metrics.text();
            text.lines().filter(|line| line.starts_with("switchtower_requests_in_flight{")).all(|l| l.ends_with(" 0"))
        })
        .await;
    }

    /// Sends what spans are waiting.
    ///
    /// # Panics
    /// Never: flushing does not.
    pub async fn flush(&self) {
        let telemetry = self.telemetry.clone();
        tokio::task::spawn_blocking(move || telemetry.flush()).await.expect("flushing does not panic");
    }

    /// Where the spans came.
    ///
    /// # Panics
    /// The node exports none.
    #[must_use]
    pub fn collector(&self) -> &Collector {
        self.collector.as_ref().expect("a tower with a sampler")
    }

    /// Asserts that the node is as good as before: it answers a good request.
    ///
    /// # Panics
    /// It does not.
    pub async fn assert_serves(&self) {
        let reply = self.converse("chat", &prompt("still there?")).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
    }
}

/// A Converse body with one message.
#[must_use]
pub fn prompt(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": [{ "text": text }] }] })
}

/// What the fake answers to [`prompt`].
#[must_use]
pub fn echo(model: &str, region: &str, text: &str) -> String {
    format!("Hello from {model} in {region}: you said \"{text}\"")
}

/// The text of a whole Converse answer.
#[must_use]
pub fn said(answer: &Value) -> &str {
    answer["output"]["message"]["content"][0]["text"].as_str().unwrap_or_default()
}

fn finished(request: Builder, body: impl Into<Bytes>) -> Request<Bytes> {
    request.body(body.into()).expect("the parts of a request")
}

fn keyring() -> (Keyring, BTreeMap<&'static str, IssuedKey>) {
    let pepper = Pepper::new(random().expect("randomness"));
    let (mut records, mut keys) = (Vec::new(), BTreeMap::new());
    for caller in [WEB, BATCH] {
        let random = random().expect("randomness");
        let (record, key) = new_key(caller, &pepper, SystemTime::now(), None, &random).expect("a key");
        records.push(record);
        keys.insert(caller, key);
    }
    (Keyring::new(&records, &Peppers::first(pepper)).expect("a keyring"), keys)
}

fn telemetry(collector: Option<&Collector>, sampler: Option<&'static str>) -> Telemetry {
    let url = collector.map(Collector::url);
    let var = move |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => url.clone(),
        "OTEL_TRACES_SAMPLER" => sampler.map(str::to_owned),
        _ => None,
    };
    let exporter = Exporter::from_env(&var, "switchtower-node").expect("an exporter");
    Telemetry::new(names::FIRST, exporter.map(|exporter| Spans::new(exporter, names::FIRST)))
}

fn bedrock(fake: &FakeBedrock, east: Option<String>, [id, secret, token]: &[String; 3]) -> Bedrock {
    let keys = AwsCredentials::new(id, secret, Some(token.clone()), None, "system tests");
    let endpoints = Endpoints::default().everywhere(&east.unwrap_or_else(|| fake.endpoint(EAST)));
    let endpoints = endpoints.and_then(|endpoints| endpoints.region(WEST, &fake.endpoint(WEST)));
    let config = Config {
        endpoints: endpoints.expect("URLs of the fake"),
        credentials: Credentials::Provider(SharedCredentialsProvider::new(keys)),
        trust: Trust::Native,
        clock: Arc::new(SystemTime::now),
    };
    Bedrock::new(config).expect("plain HTTP needs no certificates")
}

/// Writes a certificate authority and a certificate by it; gives the paths of the certificate and its key.
fn certificates(folder: &Path) -> (PathBuf, PathBuf) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
    let mut of_ca = CertificateParams::new(Vec::new()).expect("no names");
    of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    of_ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    of_ca.distinguished_name.push(DnType::CommonName, "system tests");
    let ca = CertifiedIssuer::self_signed(of_ca, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let mut of_node = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    of_node.use_authority_key_identifier_extension = true;
    let certificate = of_node.signed_by(&key, &ca).expect("a certificate");
    let write = |name: &str, text: String| {
        fs::write(folder.join(name), text).expect("a file in a temporary folder");
        folder.join(name)
    };
    write("ca.pem", ca.pem());
    (write("node.pem", certificate.pem()), write("node.key", key.serialize_pem()))
}
