//! A node with one route over a scripted provider.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use switchtower_data_plane::{
    auth::{Credentials, Keyring},
    call::{Arrival, Call, Face, Refusal, Reply, new_request_id},
    current::Current,
    infer::Node,
    record::Record,
    telemetry::{Telemetry, names, spans::Spans},
    trace::TraceContext,
};
use switchtower_keys::{self as keys, Pepper, Peppers};
use switchtower_policy::{File, catalogue::Usage, load};
use switchtower_provider::{Operation, bedrock::request::Request, scripted::Scripted};
use switchtower_telemetry::export::{Exporter, Sampler};
use tokio::time::Instant;

/// The targets of [`POLICY`], in the order of a request's plan from a node in us-east-1.
pub(crate) const A_EAST: &str = "bedrock/us-east-1/us.anthropic.claude-sonnet-4-5-20250929-v1:0";
pub(crate) const A_WEST: &str = "bedrock/us-west-2/us.anthropic.claude-sonnet-4-5-20250929-v1:0";
pub(crate) const B_EAST: &str = "bedrock/us-east-1/us.amazon.nova-lite-v1:0";

const POLICY: &str = r#"
environment: test
models:
  a: { bedrock: us.anthropic.claude-sonnet-4-5-20250929-v1:0, regions: [us-west-2, us-east-1] }
  b: { bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1] }
callers:
  app: { routes: [chat, plain, partial, guarded] }
  other: { routes: [plain] }
guardrails:
  g: { regions: { us-east-1: { id: ge, version: "1" }, us-west-2: { id: gw, version: "2" } } }
routes:
  guarded: { tiers: [a], guardrail: g }
  chat:
    tiers: [a, b, { answer: "Busy, {{ metadata.name }}." }]
    timeouts: { first_token: 2s, idle: 3s, total: 20s }
  plain:
    tiers: [a]
    timeouts: { first_token: 2s, idle: 3s, total: 20s }
  partial:
    tiers: [a]
    timeouts: { first_token: 2s, idle: 3s, total: 20s }
    on_broken_stream: partial
"#;

pub(crate) const USAGE: Usage = Usage { input: 10, output: 20, cache_read: 0, cache_write: 0 };

pub(crate) struct Tower {
    pub(crate) node: Arc<Node>,
    pub(crate) provider: Scripted,
    pub(crate) key: String,
    kept: Kept,
}

/// An exporter that keeps the spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(pub(crate) Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// An attribute of a span, as text; empty where it has none of this name.
pub(crate) fn attribute(span: &SpanData, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    found.map(|attribute| attribute.value.to_string()).unwrap_or_default()
}

impl Tower {
    pub(crate) fn new() -> Self {
        Self::of(Kept::default(), None)
    }

    /// A tower that keeps every span.
    pub(crate) fn watched() -> Self {
        let kept = Kept::default();
        let sampler = Sampler { ratio: 1.0, parent_based: false };
        let spans =
            Spans::new(Exporter::through(kept.clone(), sampler, Resource::builder_empty().build()), names::FIRST);
        Self::of(kept, Some(spans))
    }

    fn of(kept: Kept, spans: Option<Spans>) -> Self {
        let pepper = Pepper::new([7; 32]);
        let (record, issued) =
            keys::new_key("app", &pepper, SystemTime::now(), None, &[3; keys::KEY_RANDOM_BYTES]).unwrap();
        let provider = Scripted::new();
        let file = File { name: "test.yaml".to_owned(), bytes: POLICY.as_bytes().to_vec() };
        let current = Current::default();
        current.swap(Arc::new(load(&[file]).unwrap().snapshot));
        let node = Node {
            current,
            keys: ArcSwap::from_pointee(Keyring::new(&[record], &Peppers::first(pepper)).unwrap()),
            provider: Arc::new(provider.clone()),
            telemetry: Arc::new(Telemetry::new(names::FIRST, spans)),
            region: "us-east-1".into(),
        };
        Tower { node: Arc::new(node), provider, key: issued.bearer, kept }
    }

    pub(crate) fn record(&self, operation: Operation) -> Record {
        let (id, received, trace) = (new_request_id(), Instant::now(), TraceContext::begun());
        let arrival = Arrival { id, face: Face::Bedrock, operation, received, trace };
        Record::begin(arrival, SystemTime::now(), &self.node.telemetry)
    }

    pub(crate) fn call(&self, route: &str, operation: Operation) -> Call {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", self.key)).unwrap());
        let body = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;
        Call {
            credentials: Credentials::of_headers(&headers),
            deadline: None,
            metadata: vec![("name".to_owned(), "Ada".to_owned())],
            route: route.to_owned(),
            request: Ok(Request::read(operation, Bytes::from_static(body.as_bytes())).unwrap()),
        }
    }

    pub(crate) async fn infer(&self, call: Call, operation: Operation) -> Result<Reply, Refusal> {
        self.node.infer(call, self.record(operation)).await
    }

    pub(crate) async fn whole(&self, route: &str) -> Result<Reply, Refusal> {
        self.infer(self.call(route, Operation::Converse), Operation::Converse).await
    }

    pub(crate) async fn stream(&self, route: &str) -> Result<Reply, Refusal> {
        self.infer(self.call(route, Operation::ConverseStream), Operation::ConverseStream).await
    }

    /// How many requests of a route ended so, by the metrics.
    pub(crate) fn ended(&self, route: &str, outcome: &str) -> u64 {
        let line = format!(r#"switchtower_requests_total{{face="bedrock",route="{route}",outcome="{outcome}"}} "#);
        let text = self.node.telemetry.metrics.text();
        text.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }

    /// Face, route and outcome of the only request that there was.
    ///
    /// # Panics
    /// Metrics and spans do not tell of exactly one request, or not the same of it, or it has not ended.
    pub(crate) fn only_record(&self) -> (String, String, String) {
        assert!(self.in_flight().ends_with(" 0"), "{}", self.in_flight());
        let counted = self.metrics("switchtower_requests_total{");
        let [one] = counted.as_slice() else { panic!("one record: {counted:#?}") };
        let spans = self.spans(&SpanKind::Server);
        let [span] = spans.as_slice() else { panic!("one span: {spans:#?}") };
        let of = |name| attribute(span, name);
        let (face, route, outcome) = (of("switchtower.face"), of("switchtower.route"), of("switchtower.outcome"));
        let labels = format!(r#"switchtower_requests_total{{face="{face}",route="{route}",outcome="{outcome}"}} 1"#);
        assert_eq!(*one, labels);
        (face, route, outcome)
    }

    /// What became of the attempts, by their metric and by their spans: the word and the error's type.
    pub(crate) fn attempts(&self) -> (Vec<String>, Vec<String>) {
        let counted = self.metrics("switchtower_attempts_total{");
        let word = |line: &String| line.split("outcome=\"").nth(1).unwrap().replace("\"}", "");
        let spans = self.spans(&SpanKind::Client);
        let mut words: Vec<_> = counted.iter().map(word).collect();
        words.sort_unstable();
        (words, spans.iter().map(|span| attribute(span, "switchtower.failure")).collect())
    }

    /// The lines of the metrics that begin so.
    pub(crate) fn metrics(&self, begin: &str) -> Vec<String> {
        let text = self.node.telemetry.metrics.text();
        text.lines().filter(|line| line.starts_with(begin)).map(str::to_owned).collect()
    }

    /// The spans of a kind.
    pub(crate) fn spans(&self, kind: &SpanKind) -> Vec<SpanData> {
        self.node.telemetry.flush();
        self.kept.0.lock().unwrap().iter().filter(|span| span.span_kind == *kind).cloned().collect()
    }

    pub(crate) fn in_flight(&self) -> String {
        let text = self.node.telemetry.metrics.text();
        text.lines().find(|line| line.starts_with("switchtower_requests_in_flight{")).unwrap_or("none").to_owned()
    }
}

/// How long something took, in paused time.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = future.await;
    (value, start.elapsed())
}
