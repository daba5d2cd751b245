//! A node with one route over a scripted provider.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use switchtower_data_plane::{
    auth::{Credentials, Keyring},
    call::{Call, Face, Refusal, Reply, new_request_id},
    current::Current,
    infer::Node,
    telemetry::{Telemetry, names},
    trace::TraceContext,
};
use switchtower_keys::{self as keys, Pepper, Peppers};
use switchtower_policy::{File, catalogue::Usage, load};
use switchtower_provider::{Operation, bedrock::request::Request, scripted::Scripted};
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
}

impl Tower {
    pub(crate) fn new() -> Self {
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
            telemetry: Arc::new(Telemetry::new(names::FIRST, None)),
            region: "us-east-1".into(),
        };
        Tower { node: Arc::new(node), provider, key: issued.bearer }
    }

    pub(crate) fn call(&self, route: &str, operation: Operation) -> Call {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", self.key)).unwrap());
        let body = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;
        Call {
            id: new_request_id(),
            face: Face::Bedrock,
            credentials: Credentials::of_headers(&headers),
            received: Instant::now(),
            deadline: None,
            trace: TraceContext::begun(),
            metadata: vec![("name".to_owned(), "Ada".to_owned())],
            route: route.to_owned(),
            operation,
            request: Ok(Request::read(operation, Bytes::from_static(body.as_bytes())).unwrap()),
        }
    }

    pub(crate) async fn whole(&self, route: &str) -> Result<Reply, Refusal> {
        self.node.infer(self.call(route, Operation::Converse)).await
    }

    pub(crate) async fn stream(&self, route: &str) -> Result<Reply, Refusal> {
        self.node.infer(self.call(route, Operation::ConverseStream)).await
    }

    /// How many requests of a route ended so, by the metrics.
    pub(crate) fn ended(&self, route: &str, outcome: &str) -> u64 {
        let line = format!(r#"switchtower_requests_total{{face="bedrock",route="{route}",outcome="{outcome}"}} "#);
        let text = self.node.telemetry.metrics.text();
        text.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
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
