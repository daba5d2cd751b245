//! Guardrails.

use switchtower_proto::policy::v1::guardrail::{StreamMode, Trace};

use super::{Compiler, limits::MAX_ID};
use crate::{snapshot::Guardrail, violation::quoted};

impl Compiler<'_> {
    pub(super) fn guardrails(&mut self) {
        for (name, guardrail) in &self.policy.guardrails {
            let path = format!("guardrails.{name}");
            self.name(&path, name);
            let id = format!("{path}.id");
            if self.some_text(&id, "the guardrail's id or ARN", &guardrail.id, MAX_ID)
                && !guardrail.id.chars().all(|c| c.is_ascii_alphanumeric() || "._:/-".contains(c))
            {
                self.error("bad_guardrail", &id, format!("{} is not a guardrail's id or ARN", quoted(&guardrail.id)));
            }
            let version = &guardrail.version;
            let is_number = !version.starts_with('0') && version.bytes().all(|c| c.is_ascii_digit());
            if self.some_text(&format!("{path}.version"), "a version number or `DRAFT`", version, 8)
                && version != "DRAFT"
                && !is_number
            {
                let message = format!("{} is not a version: write a number in quotes, or `DRAFT`", quoted(version));
                self.error("bad_guardrail", format!("{path}.version"), message);
            }
            let trace = match Trace::try_from(guardrail.trace) {
                Ok(Trace::Unspecified | Trace::Disabled) => "disabled",
                Ok(Trace::Enabled) => "enabled",
                Ok(Trace::EnabledFull) => "enabled_full",
                Err(_) => self.unknown_number(&format!("{path}.trace"), guardrail.trace),
            };
            let stream_mode = match StreamMode::try_from(guardrail.stream_mode) {
                Ok(StreamMode::Unspecified | StreamMode::Sync) => "sync",
                Ok(StreamMode::Async) => "async",
                Err(_) => self.unknown_number(&format!("{path}.stream_mode"), guardrail.stream_mode),
            };
            let guardrail = Guardrail {
                name: name.as_str().into(),
                id: guardrail.id.as_str().into(),
                version: version.as_str().into(),
                trace,
                stream_mode,
            };
            self.guardrails.insert(name, guardrail);
        }
    }

    /// Tells of a value that a newer version has written.
    pub(super) fn unknown_number(&mut self, path: &str, number: i32) -> &'static str {
        self.error("unknown_word", path, format!("this version knows no value number {number} here"));
        ""
    }

    /// The guardrail of this name, if there is one; that there is none is told. An empty name is none.
    pub(super) fn guardrail(&mut self, path: &str, name: &str) -> Option<Guardrail> {
        if name.is_empty() {
            return None;
        }
        if let Some(guardrail) = self.guardrails.get(name) {
            return Some(guardrail.clone());
        }
        let names: Vec<&str> = self.policy.guardrails.keys().map(String::as_str).collect();
        let message = format!("no guardrail is called {}; define it under `guardrails`", quoted(name));
        self.unknown("unknown_guardrail", path, message, name, names);
        None
    }
}
