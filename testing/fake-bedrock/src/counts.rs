//! What reached the fake: numbers, and the last requests themselves.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All numbers since the start, or since they were reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// By region.
    pub regions: BTreeMap<String, RegionCounts>,
}

/// The numbers of one region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionCounts {
    /// Connections accepted, those that an outage ended at once included. Never those that were refused.
    pub connections: u64,
    /// Requests whose body arrived.
    pub requests: u64,
    /// Requests that are not answered to the end, at this moment.
    pub open: u64,
    /// Streams whose head is sent and whose end is not, at this moment.
    pub open_streams: u64,
    /// The most that `open` ever was.
    pub max_concurrent: u64,
    /// Requests whose client left before the end of the answer.
    pub cancelled: u64,
    /// How requests ended: model id, then operation (`converse`, `converse_stream` or `unknown`), then outcome.
    ///
    /// An outcome is `ok`, the name of an exception, how a stream broke (as scripts write it), or `cancelled`.
    pub outcomes: BTreeMap<String, BTreeMap<String, BTreeMap<String, u64>>>,
}

impl Counts {
    /// One region's numbers; all zero where nothing came.
    #[must_use]
    pub fn region(&self, region: &str) -> RegionCounts {
        self.regions.get(region).cloned().unwrap_or_default()
    }

    /// Requests of all regions.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.regions.values().map(|region| region.requests).sum()
    }

    /// Requests of all regions whose client left before the end.
    #[must_use]
    pub fn cancelled(&self) -> u64 {
        self.regions.values().map(|region| region.cancelled).sum()
    }

    /// How many requests ended so, over all regions, models and operations.
    #[must_use]
    pub fn outcome(&self, outcome: &str) -> u64 {
        self.regions.values().map(|region| region.outcome(outcome)).sum()
    }
}

impl RegionCounts {
    /// How many requests ended so, over all models and operations.
    #[must_use]
    pub fn outcome(&self, outcome: &str) -> u64 {
        self.outcomes.values().flat_map(BTreeMap::values).filter_map(|outcomes| outcomes.get(outcome)).sum()
    }

    /// How many requests of one model ended, however they did.
    #[must_use]
    pub fn ended(&self, model: &str) -> u64 {
        self.outcomes.get(model).into_iter().flat_map(BTreeMap::values).flat_map(BTreeMap::values).sum()
    }
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Captured {
    /// Where it arrived.
    pub region: String,
    /// Such as `POST`.
    pub method: String,
    /// As it was sent, percent-encoding and query included.
    pub path: String,
    /// By lower-case name; several of one name are joined by `, `. Of `authorization` only the scheme and the id of
    /// the credential are kept, of a session token only that there was one.
    pub headers: BTreeMap<String, String>,
    /// The body; `null` where it is not JSON, or larger than 256 KiB.
    pub body: Value,
    /// The size of the body.
    pub body_bytes: usize,
}

/// What is done to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Converse,
    ConverseStream,
    Unknown,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Converse => "converse",
            Operation::ConverseStream => "converse_stream",
            Operation::Unknown => "unknown",
        }
    }
}

/// One region's numbers, as they are counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Mutex<RegionCounts>,
}

impl Tally {
    pub(crate) fn read(&self) -> RegionCounts {
        self.lock().clone()
    }

    /// What is going on goes on being counted.
    pub(crate) fn reset(&self) {
        let mut counts = self.lock();
        let RegionCounts { open, open_streams, .. } = *counts;
        *counts = RegionCounts { open, open_streams, max_concurrent: open, ..RegionCounts::default() };
    }

    pub(crate) fn connected(&self) {
        self.lock().connections += 1;
    }

    fn lock(&self) -> MutexGuard<'_, RegionCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered. Dropped without an outcome, it was cancelled.
#[derive(Debug)]
pub(crate) struct Ticket {
    tally: Arc<Tally>,
    model: String,
    operation: Operation,
    is_open_stream: bool,
    outcome: Option<&'static str>,
}

impl Ticket {
    pub(crate) fn begin(tally: &Arc<Tally>, model: String, operation: Operation) -> Ticket {
        let mut counts = tally.lock();
        counts.requests += 1;
        counts.open += 1;
        counts.max_concurrent = counts.max_concurrent.max(counts.open);
        drop(counts);
        Ticket { tally: Arc::clone(tally), model, operation, is_open_stream: false, outcome: None }
    }

    pub(crate) fn stream_opened(&mut self) {
        self.tally.lock().open_streams += 1;
        self.is_open_stream = true;
    }

    pub(crate) fn end(mut self, outcome: &'static str) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.tally.lock();
        counts.open -= 1;
        counts.open_streams -= u64::from(self.is_open_stream);
        counts.cancelled += u64::from(self.outcome.is_none());
        let outcome = self.outcome.unwrap_or("cancelled");
        // Looked up before it is made: names are allocated once, not with every request.
        let known =
            counts.outcomes.get_mut(&self.model).and_then(|operations| operations.get_mut(self.operation.name()));
        match known.and_then(|outcomes| outcomes.get_mut(outcome)) {
            Some(count) => *count += 1,
            None => {
                let operations = counts.outcomes.entry(std::mem::take(&mut self.model)).or_default();
                operations.entry(self.operation.name().to_owned()).or_default().insert(outcome.to_owned(), 1);
            }
        }
    }
}

/// The last requests. Headers are reduced and bodies read when somebody looks, which in a benchmark nobody does.
#[derive(Debug)]
pub(crate) struct Ring {
    /// How many are kept; 0: none.
    size: usize,
    kept: Mutex<VecDeque<Raw>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) region: Arc<str>,
    pub(crate) method: http::Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) body_bytes: usize,
}

/// Larger bodies are images and documents; a full ring of them would be gigabytes.
const LARGEST_KEPT_BODY_BYTES: usize = 256 << 10;

impl Ring {
    pub(crate) fn new(size: usize) -> Ring {
        Ring { size, kept: Mutex::default() }
    }

    pub(crate) fn keep(&self, request: impl FnOnce() -> Raw) {
        if self.size == 0 {
            return;
        }
        let mut request = request();
        if request.body.len() > LARGEST_KEPT_BODY_BYTES {
            request.body = Bytes::new();
        }
        let mut kept = self.lock();
        if kept.len() == self.size {
            kept.pop_front();
        }
        kept.push_back(request);
    }

    /// The last of them, the oldest first.
    pub(crate) fn last(&self, count: usize) -> Vec<Captured> {
        let kept = self.lock();
        let raw: Vec<Raw> = kept.iter().skip(kept.len().saturating_sub(count)).cloned().collect();
        drop(kept);
        raw.into_iter().map(Raw::reduced).collect()
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Raw>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Raw {
    fn reduced(self) -> Captured {
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in &self.headers {
            let value = match name.as_str() {
                "authorization" => credential(&String::from_utf8_lossy(value.as_bytes())),
                "x-amz-security-token" => "(present)".to_owned(),
                _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
            };
            headers
                .entry(name.as_str().to_owned())
                .and_modify(|joined| *joined = format!("{joined}, {value}"))
                .or_insert(value);
        }
        Captured {
            region: self.region.as_ref().to_owned(),
            method: self.method.as_str().to_owned(),
            path: self.path,
            headers,
            body: serde_json::from_slice(&self.body).unwrap_or(Value::Null),
            body_bytes: self.body_bytes,
        }
    }
}

/// `AWS4-HMAC-SHA256 AKID` of a signature; of any other authorization the scheme alone.
fn credential(authorization: &str) -> String {
    let scheme = authorization.split(' ').next().unwrap_or_default();
    let id = authorization.split_once("Credential=").and_then(|(_, scope)| scope.split(['/', ',']).next());
    match id {
        Some(id) if scheme.starts_with("AWS4-") => format!("{scheme} {id}"),
        _ => scheme.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_authorization_only_the_scheme_and_the_id_are_kept() {
        let check = |header: &str, expected: &str| assert_eq!(credential(header), expected);
        let signature = "AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1/bedrock/aws4_request, \
                         SignedHeaders=host, Signature=00";
        check(signature, "AWS4-HMAC-SHA256 AKID");
        check("Bearer secret", "Bearer");
        check("Bearer Credential=secret", "Bearer");
        check("", "");
    }

    #[test]
    fn a_ticket_that_is_dropped_was_cancelled() {
        let tally = Arc::new(Tally::default());
        let begin = || Ticket::begin(&tally, "m".into(), Operation::ConverseStream);
        begin().end("ok");
        let mut stream = begin();
        stream.stream_opened();
        let other = begin();
        let counts = tally.read();
        assert_eq!((counts.open, counts.open_streams, counts.max_concurrent), (2, 1, 2));
        drop((stream, other));
        let counts = tally.read();
        assert_eq!((counts.requests, counts.open, counts.open_streams, counts.cancelled), (3, 0, 0, 2));
        assert_eq!((counts.outcome("ok"), counts.outcome("cancelled"), counts.ended("m")), (1, 2, 3));
    }
}
