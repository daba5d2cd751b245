//! What the fake is told to do: one behaviour per region, and others for single models in it.
//!
//! A script is read strictly, because a misspelt fault is a test that proves nothing: unknown members, values out of
//! range and members that contradict each other are refused, all of them at once.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{exception::Exception, frame::StreamException};

/// The whole script.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// The model ids that exist. Empty: every id does.
    pub known_models: Vec<String>,
    /// What each region does; a region that is not named answers at once and without a fault.
    pub regions: BTreeMap<String, RegionScript>,
}

/// What one region does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegionScript {
    /// For all models but those below.
    pub behaviour: Behaviour,
    /// For single models, by id, in place of the region's own behaviour; an outage of the region's connections hits
    /// them all the same.
    pub models: BTreeMap<String, Behaviour>,
}

/// How requests are answered. The default answers at once with an echo of what was said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// From the request to the head of the answer, errors included.
    #[serde(with = "crate::duration")]
    pub latency: Duration,
    /// From the head of a stream to its first event; an answer in one piece waits as long.
    #[serde(with = "crate::duration")]
    pub first_token_delay: Duration,
    /// How fast text comes; absent: as fast as it is read. An answer in one piece takes as long as its stream would.
    pub tokens_per_second: Option<f64>,
    /// What is said. Absent: an echo of the prompt. A token is a word here.
    pub text: Option<String>,
    /// Say this many words, whatever they are; not with `text`.
    pub words: Option<u32>,
    /// What the model thinks before it speaks.
    pub reasoning: Option<String>,
    /// Into how many pieces the text of a stream is cut; absent: one for each word.
    pub chunks: Option<u32>,
    /// How many bytes each piece of the text has; not with `chunks`.
    pub chunk_bytes: Option<u32>,
    /// Write the whole stream at once, as benchmarks want it; not with `tokens_per_second`.
    pub coalesce: bool,
    /// The usage to report, in place of the counted one.
    pub usage: Option<Usage>,
    /// The quota; what goes beyond it is refused with `ThrottlingException`.
    pub throttle: Option<Throttle>,
    /// Answer with an error.
    pub fail: Option<Fail>,
    /// Break streams after their head.
    pub in_stream: Option<InStream>,
    /// Be out of order as a server; a single model can only `hang`.
    pub outage: Option<Outage>,
}

/// Token counts to report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    /// Without those of the cache.
    pub input_tokens: u32,
    /// What the model said.
    pub output_tokens: u32,
    /// Absent: the member is not sent.
    pub cache_read_input_tokens: Option<u32>,
    /// Absent: the member is not sent.
    pub cache_write_input_tokens: Option<u32>,
}

/// A quota that refills evenly. It starts full, and belongs to the behaviour: models without one of their own share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// Input and output together; from 1.
    pub tokens_per_minute: u32,
}

/// An error in place of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// Which one.
    pub error: Exception,
    /// How many of a hundred requests, chosen by the seed; 0 to 100.
    #[serde(default = "always")]
    pub percent: u8,
    /// How many requests fail at most, counted from the moment of scripting; absent: no end.
    #[serde(default)]
    pub times: Option<u32>,
    /// Sent as `x-amz-retry-after` in milliseconds and as `retry-after` in whole seconds, rounded up.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// In place of the usual words.
    #[serde(default)]
    pub message: Option<String>,
    /// What the model itself answered; only for `ModelErrorException` and `ModelStreamErrorException`.
    #[serde(default)]
    pub original_status: Option<u16>,
}

/// A stream that breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InStream {
    /// How many events come first; absent: all before `messageStop`. A shorter stream breaks at its end.
    #[serde(default)]
    pub after_events: Option<u32>,
    /// How it breaks.
    pub error: Break,
    /// How many of a hundred streams, chosen by the seed; 0 to 100.
    #[serde(default = "always")]
    pub percent: u8,
    /// How many streams break at most, counted from the moment of scripting; absent: no end.
    #[serde(default)]
    pub times: Option<u32>,
    /// In place of the usual words of an exception.
    #[serde(default)]
    pub message: Option<String>,
    /// What the model itself answered; only for `modelStreamErrorException`.
    #[serde(default)]
    pub original_status: Option<u16>,
}

/// How a stream breaks. In scripts an exception has the name of its frame, such as `throttlingException`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BreakName", into = "BreakName")]
pub enum Break {
    /// An exception frame, then the end.
    Exception(StreamException),
    /// An error frame of no modelled kind, then the end.
    UnmodelledError,
    /// The connection ends between two frames (over HTTP/2 the stream is reset).
    Cut,
    /// The connection ends in the middle of a frame.
    CutInsideFrame,
    /// The next frame's last checksum is wrong; what follows is right.
    BadChecksum,
    /// The checksum of the next frame's prelude is wrong; what follows is right.
    BadPreludeChecksum,
    /// A prelude, right in itself, announces a frame of 2 GiB.
    AbsurdLength,
    /// Nothing comes any more.
    Hang,
    /// A clean end, too early.
    EndWithoutStop,
    /// A clean end after `messageStop`: the usage is never told.
    EndWithoutMetadata,
}

/// How a region is out of order. Connections that are open when it begins suffer it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// Nothing listens: connections are refused.
    Refuse,
    /// Connections are accepted and reset.
    Reset,
    /// Connections are accepted and closed.
    Close,
    /// Connections are accepted, and nothing is read or written on them until it is over.
    BlackHole,
    /// Requests are read and counted, and never answered.
    Hang,
}

/// The flat list that serde reads `Break` from.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BreakName {
    #[serde(rename = "internalServerException")]
    InternalServer,
    #[serde(rename = "modelStreamErrorException")]
    ModelStreamError,
    #[serde(rename = "validationException")]
    Validation,
    #[serde(rename = "throttlingException")]
    Throttling,
    #[serde(rename = "serviceUnavailableException")]
    ServiceUnavailable,
    UnmodelledError,
    Cut,
    CutInsideFrame,
    BadChecksum,
    BadPreludeChecksum,
    AbsurdLength,
    Hang,
    EndWithoutStop,
    EndWithoutMetadata,
}

impl From<BreakName> for Break {
    fn from(name: BreakName) -> Break {
        match name {
            BreakName::InternalServer => Break::Exception(StreamException::InternalServer),
            BreakName::ModelStreamError => Break::Exception(StreamException::ModelStreamError),
            BreakName::Validation => Break::Exception(StreamException::Validation),
            BreakName::Throttling => Break::Exception(StreamException::Throttling),
            BreakName::ServiceUnavailable => Break::Exception(StreamException::ServiceUnavailable),
            BreakName::UnmodelledError => Break::UnmodelledError,
            BreakName::Cut => Break::Cut,
            BreakName::CutInsideFrame => Break::CutInsideFrame,
            BreakName::BadChecksum => Break::BadChecksum,
            BreakName::BadPreludeChecksum => Break::BadPreludeChecksum,
            BreakName::AbsurdLength => Break::AbsurdLength,
            BreakName::Hang => Break::Hang,
            BreakName::EndWithoutStop => Break::EndWithoutStop,
            BreakName::EndWithoutMetadata => Break::EndWithoutMetadata,
        }
    }
}

impl From<Break> for BreakName {
    fn from(value: Break) -> BreakName {
        match value {
            Break::Exception(StreamException::InternalServer) => BreakName::InternalServer,
            Break::Exception(StreamException::ModelStreamError) => BreakName::ModelStreamError,
            Break::Exception(StreamException::Validation) => BreakName::Validation,
            Break::Exception(StreamException::Throttling) => BreakName::Throttling,
            Break::Exception(StreamException::ServiceUnavailable) => BreakName::ServiceUnavailable,
            Break::UnmodelledError => BreakName::UnmodelledError,
            Break::Cut => BreakName::Cut,
            Break::CutInsideFrame => BreakName::CutInsideFrame,
            Break::BadChecksum => BreakName::BadChecksum,
            Break::BadPreludeChecksum => BreakName::BadPreludeChecksum,
            Break::AbsurdLength => BreakName::AbsurdLength,
            Break::Hang => BreakName::Hang,
            Break::EndWithoutStop => BreakName::EndWithoutStop,
            Break::EndWithoutMetadata => BreakName::EndWithoutMetadata,
        }
    }
}

impl Break {
    /// The outcome that a stream which broke so is counted under.
    #[must_use]
    pub fn outcome(self) -> &'static str {
        match self {
            Break::Exception(exception) => exception.member(),
            Break::UnmodelledError => "unmodelled_error",
            Break::Cut => "cut",
            Break::CutInsideFrame => "cut_inside_frame",
            Break::BadChecksum => "bad_checksum",
            Break::BadPreludeChecksum => "bad_prelude_checksum",
            Break::AbsurdLength => "absurd_length",
            Break::Hang => "hang",
            Break::EndWithoutStop => "end_without_stop",
            Break::EndWithoutMetadata => "end_without_metadata",
        }
    }
}

impl Fail {
    /// This error on every request.
    #[must_use]
    pub fn with(error: Exception) -> Fail {
        Fail { error, percent: 100, times: None, retry_after_ms: None, message: None, original_status: None }
    }
}

impl InStream {
    /// Every stream breaks so, before its `messageStop`.
    #[must_use]
    pub fn with(error: Break) -> InStream {
        InStream { after_events: None, error, percent: 100, times: None, message: None, original_status: None }
    }

    /// Every stream breaks so, after this many events.
    #[must_use]
    pub fn after(events: u32, error: Break) -> InStream {
        InStream { after_events: Some(events), ..InStream::with(error) }
    }
}

fn always() -> u8 {
    100
}

/// Why a script cannot be followed. One line for each reason, with the place it stands at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub(crate) String);

/// In one piece, and with every byte escaped, it still fits the payload of a frame.
const LONGEST_TEXT_BYTES: usize = 1 << 20;
/// A header's value, as which an unmodelled error's words travel, holds no more than 32 KiB.
const LONGEST_MESSAGE_BYTES: usize = 4096;
/// Beyond this an answer is no answer any more, and its frames would fill memory.
const MOST_WORDS: u32 = 500_000;

impl Script {
    /// Reads JSON (where the text begins with a brace) or YAML.
    ///
    /// # Errors
    /// All that is wrong with it, where the text has a script's form at all.
    pub fn read(text: &str) -> Result<Script, Invalid> {
        let script: Script = read(text)?;
        script.check(None)?;
        Ok(script)
    }

    /// Checks ranges and contradictions, and, where `regions` are given, that no other is named.
    pub(crate) fn check(&self, regions: Option<&[String]>) -> Result<(), Invalid> {
        let mut wrong = Vec::new();
        for (name, region) in &self.regions {
            if let Some(regions) = regions.filter(|known| !known.contains(name)) {
                wrong.push(format!("regions.{name}: there is no such region here, only {}", regions.join(", ")));
            }
            region.behaviour.collect_wrong(&format!("regions.{name}.behaviour"), false, &mut wrong);
            for (model, behaviour) in &region.models {
                behaviour.collect_wrong(&format!("regions.{name}.models[{model}]"), true, &mut wrong);
            }
        }
        refuse(wrong)
    }

    /// The same script without its faults; pace and words stay.
    pub(crate) fn healed(mut self) -> Script {
        for region in self.regions.values_mut() {
            region.behaviour.heal();
            region.models.values_mut().for_each(Behaviour::heal);
        }
        self
    }
}

impl Behaviour {
    /// Reads JSON (where the text begins with a brace) or YAML.
    ///
    /// # Errors
    /// What is wrong with its form; ranges are checked where it is put to use.
    pub fn read(text: &str) -> Result<Behaviour, Invalid> {
        read(text)
    }

    pub(crate) fn check(&self, of_a_model: bool) -> Result<(), Invalid> {
        let mut wrong = Vec::new();
        self.collect_wrong("behaviour", of_a_model, &mut wrong);
        refuse(wrong)
    }

    fn heal(&mut self) {
        self.throttle = None;
        self.fail = None;
        self.in_stream = None;
        self.outage = None;
    }

    fn collect_wrong(&self, at: &str, of_a_model: bool, wrong: &mut Vec<String>) {
        let mut refuse_if = |is_wrong: bool, member: &str, why: &str| {
            if is_wrong {
                wrong.push(format!("{at}.{member}: {why}"));
            }
        };
        let pace = self.tokens_per_second;
        refuse_if(pace.is_some_and(|n| !(0.01..=1e9).contains(&n)), "tokens_per_second", "must be 0.01 to 1e9");
        refuse_if(pace.is_some() && self.coalesce, "coalesce", "does not go with tokens_per_second");
        refuse_if(self.text.is_some() && self.words.is_some(), "words", "does not go with text");
        let too_long = |text: &Option<String>| text.as_ref().is_some_and(|t| t.len() > LONGEST_TEXT_BYTES);
        refuse_if(too_long(&self.text), "text", "must not be longer than 1 MiB");
        refuse_if(too_long(&self.reasoning), "reasoning", "must not be longer than 1 MiB");
        refuse_if(self.text.as_deref() == Some(""), "text", "must not be empty");
        refuse_if(self.reasoning.as_deref() == Some(""), "reasoning", "must not be empty");
        refuse_if(self.words.is_some_and(|n| n == 0 || n > MOST_WORDS), "words", "must be 1 to 500000");
        refuse_if(self.chunks == Some(0), "chunks", "must be at least 1");
        refuse_if(self.chunk_bytes == Some(0), "chunk_bytes", "must be at least 1");
        refuse_if(self.chunks.is_some() && self.chunk_bytes.is_some(), "chunk_bytes", "does not go with chunks");
        let no_quota = self.throttle.is_some_and(|t| t.tokens_per_minute == 0);
        refuse_if(no_quota, "throttle.tokens_per_minute", "must be at least 1");
        if let Some(fail) = &self.fail {
            refuse_if(fail.percent > 100, "fail.percent", "must be 0 to 100");
            refuse_if(fail.times == Some(0), "fail.times", "must be at least 1");
            let no_member = fail.original_status.is_some() && !fail.error.has_original_status();
            refuse_if(no_member, "fail.original_status", "only model errors have one");
            let status = fail.original_status.is_some_and(|status| !(100..600).contains(&status));
            refuse_if(status, "fail.original_status", "must be a status, 100 to 599");
        }
        if let Some(broken) = &self.in_stream {
            refuse_if(broken.percent > 100, "in_stream.percent", "must be 0 to 100");
            refuse_if(broken.times == Some(0), "in_stream.times", "must be at least 1");
            let at_its_own = broken.error == Break::EndWithoutMetadata && broken.after_events.is_some();
            refuse_if(at_its_own, "in_stream.after_events", "end_without_metadata has its own place");
            let wordless = !matches!(broken.error, Break::Exception(_) | Break::UnmodelledError);
            let long = broken.message.as_ref().is_some_and(|message| message.len() > LONGEST_MESSAGE_BYTES);
            refuse_if(long, "in_stream.message", "must not be longer than 4 KiB");
            refuse_if(broken.message.is_some() && wordless, "in_stream.message", "only exceptions have one");
            let model_error = broken.error == Break::Exception(StreamException::ModelStreamError);
            let no_member = broken.original_status.is_some() && !model_error;
            refuse_if(no_member, "in_stream.original_status", "only modelStreamErrorException has one");
            let status = broken.original_status.is_some_and(|status| !(100..600).contains(&status));
            refuse_if(status, "in_stream.original_status", "must be a status, 100 to 599");
        }
        let of_connections = self.outage.is_some_and(|outage| outage != Outage::Hang);
        refuse_if(of_a_model && of_connections, "outage", "connections belong to the region; a model can only hang");
    }
}

fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Invalid> {
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| Invalid(error.to_string()))
    } else {
        serde_saphyr::from_str(text).map_err(|error| Invalid(error.to_string()))
    }
}

fn refuse(wrong: Vec<String>) -> Result<(), Invalid> {
    if wrong.is_empty() { Ok(()) } else { Err(Invalid(wrong.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_behaviour_reads_from_json_and_yaml_alike() {
        let expected = Behaviour {
            latency: Duration::from_millis(250),
            fail: Some(Fail { times: Some(3), ..Fail::with(Exception::ModelErrorException) }),
            in_stream: Some(InStream::after(2, Break::Exception(StreamException::Throttling))),
            outage: Some(Outage::BlackHole),
            ..Behaviour::default()
        };
        let yaml = "latency: 250ms\nfail: { error: ModelErrorException, times: 3 }\n\
                    in_stream: { after_events: 2, error: throttlingException }\noutage: black_hole";
        assert_eq!(Behaviour::read(yaml).unwrap(), expected);
        let json = serde_json::to_string(&expected).unwrap();
        assert_eq!(Behaviour::read(&json).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let check = |behaviour: &str, expected: &str| {
            let text = format!("regions: {{ here: {{ behaviour: {behaviour} }} }}");
            let refusal = Script::read(&text).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{behaviour}: {refusal}");
        };
        check("{ latencyy: 1s }", "latencyy");
        check("{ latency: 250 }", "250ms");
        check("{ fail: { error: NoSuchException } }", "NoSuchException");
        check("{ fail: { error: ThrottlingException, percent: 101 } }", "regions.here.behaviour.fail.percent");
        check("{ fail: { error: ThrottlingException, original_status: 500 } }", "only model errors");
        check("{ fail: { error: ModelErrorException, original_status: 5 } }", "100 to 599");
        check("{ in_stream: { error: modelTimeoutException } }", "modelTimeoutException");
        check("{ in_stream: { error: end_without_metadata, after_events: 1 } }", "its own place");
        check("{ in_stream: { error: cut, message: why } }", "only exceptions");
        check("{ text: a, words: 3 }", "does not go with text");
        check("{ text: '' }", "must not be empty");
        check("{ words: 0 }", "1 to 500000");
        check("{ chunks: 2, chunk_bytes: 2 }", "does not go with chunks");
        check("{ coalesce: true, tokens_per_second: 5 }", "does not go with tokens_per_second");
        check("{ tokens_per_second: .nan }", "0.01");
        check("{ throttle: { tokens_per_minute: 0 } }", "at least 1");
        check("{ text: a, words: 3, chunks: 0 }", "chunks: must be at least 1");
    }

    #[test]
    fn a_model_cannot_refuse_connections() {
        let model = Behaviour { outage: Some(Outage::Refuse), ..Behaviour::default() };
        assert!(model.check(true).is_err());
        assert!(model.check(false).is_ok());
    }

    #[test]
    fn healing_takes_the_faults_and_leaves_the_pace() {
        let text = "regions: { here: { behaviour: { latency: 1s, outage: hang }, \
                    models: { m: { text: a, fail: { error: ConflictException } } } } }";
        let healed = Script::read(text).unwrap().healed();
        let expected = "regions: { here: { behaviour: { latency: 1s }, models: { m: { text: a } } } }";
        assert_eq!(healed, Script::read(expected).unwrap());
    }
}
