//! Guardrails: what Bedrock calls them, in every region in which a target carries one.
//!
//! Bedrock makes a guardrail in one region, and its id is known there alone. A call with an unknown one is refused, so an
//! id that is missing in a region would make failing over to that region an outage.

use switchtower_proto::policy::v1::{
    self,
    guardrail::{StreamMode, Trace},
};

use super::{
    Compiler, geography,
    limits::{MAX_ID, MAX_LONG},
};
use crate::{
    snapshot::{Guardrail, GuardrailId, GuardrailIds, Model, ModelIndex},
    violation::quoted,
};

impl Compiler<'_> {
    pub(super) fn guardrails(&mut self) {
        for (name, guardrail) in &self.policy.guardrails {
            let path = format!("guardrails.{name}");
            self.name(&path, name);
            let ids = self.guardrail_ids(&path, guardrail);
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
            self.guardrails.insert(name, Guardrail { name: name.as_str().into(), ids, trace, stream_mode });
        }
    }

    fn guardrail_ids(&mut self, path: &str, guardrail: &v1::Guardrail) -> GuardrailIds {
        if guardrail.regions.is_empty() {
            let what = "the guardrail's id or ARN, or one for each region under `regions`,";
            return GuardrailIds::Everywhere(self.guardrail_id(path, what, &guardrail.id, &guardrail.version));
        }
        for (field, value) in [("id", &guardrail.id), ("version", &guardrail.version)] {
            if !value.is_empty() {
                let message = format!("`{field}` stands under `regions` for each region: remove this one");
                self.error("bad_guardrail", format!("{path}.{field}"), message);
            }
        }
        let path = format!("{path}.regions");
        self.at_most(&path, guardrail.regions.len(), MAX_LONG);
        let mut regions = Vec::with_capacity(guardrail.regions.len());
        for (region, regional) in &guardrail.regions {
            let path = format!("{path}.{region}");
            self.region(&path, region);
            let id = self.guardrail_id(&path, "the guardrail's id or ARN", &regional.id, &regional.version);
            if let Some(other) = arn_region(&id.id).filter(|other| other != region) {
                let message = format!("the ARN is of {other}, and cannot be called in {region}");
                self.error("arn_region", format!("{path}.id"), message);
            }
            regions.push((region.as_str().into(), id));
        }
        GuardrailIds::Regions(regions)
    }

    fn guardrail_id(&mut self, path: &str, what: &str, id: &str, version: &str) -> GuardrailId {
        let id_path = format!("{path}.id");
        if self.some_text(&id_path, what, id, MAX_ID)
            && !id.chars().all(|c| c.is_ascii_alphanumeric() || "._:/-".contains(c))
        {
            self.error("bad_guardrail", &id_path, format!("{} is not a guardrail's id or ARN", quoted(id)));
        }
        let version_path = format!("{path}.version");
        let is_number = !version.starts_with('0') && version.bytes().all(|c| c.is_ascii_digit());
        if version == "DRAFT" {
            let message = "`DRAFT` changes with every edit of the guardrail, for all requests at once: name a version";
            self.warn("guardrail_draft", version_path, message);
        } else if self.some_text(&version_path, "a version number or `DRAFT`", version, 8) && !is_number {
            let message = format!("{} is not a version: write a number in quotes, or `DRAFT`", quoted(version));
            self.error("bad_guardrail", version_path, message);
        }
        GuardrailId { id: id.into(), version: version.into() }
    }

    /// What keeps a model's targets from carrying a guardrail: code and message.
    pub(super) fn not_carried(&self, guardrail: &Guardrail, model: &Model) -> Option<(&'static str, String)> {
        let regions = model.targets.iter().map(|target| &*self.targets[target.0 as usize].region);
        let (name, model) = (quoted(&guardrail.name), quoted(&model.name));
        let path = format!("guardrails.{}.regions", guardrail.name);
        let arn = match &guardrail.ids {
            GuardrailIds::Everywhere(id) => arn_region(&id.id),
            GuardrailIds::Regions(_) => None,
        };
        let lacking: Vec<&str> = match arn {
            Some(arn) => regions.filter(|region| *region != arn).collect(),
            None => regions.filter(|region| !guardrail.is_in(region)).collect(),
        };
        if lacking.is_empty() {
            return None;
        }
        let lacking = lacking.join(", ");
        Some(match arn {
            Some(arn) => (
                "arn_region",
                format!(
                    "the ARN of the guardrail {name} is of {arn}, and {model} is called in {lacking} too: give an id for \
                     each region under `{path}`"
                ),
            ),
            None => (
                "guardrail_region",
                format!(
                    "{model} is called in {lacking}, where the guardrail {name} has no id: add it under `{path}`, or take \
                     the region from the model"
                ),
            ),
        })
    }

    /// Remembers where a guardrail is called that has the same id everywhere.
    pub(super) fn guardrail_used(&mut self, guardrail: &Guardrail, models: impl Iterator<Item = ModelIndex>) {
        if !matches!(guardrail.ids, GuardrailIds::Everywhere(_)) {
            return;
        }
        let used = self.guardrail_regions.entry(guardrail.name.clone()).or_default();
        for model in models {
            let targets = &self.models[model.0 as usize].targets;
            used.extend(targets.iter().map(|target| self.targets[target.0 as usize].region.clone()));
        }
    }

    /// Tells of ids that are called in several regions, once all routes are known.
    pub(super) fn guardrails_over_regions(&mut self) {
        for (name, regions) in std::mem::take(&mut self.guardrail_regions) {
            let Some(Guardrail { ids: GuardrailIds::Everywhere(id), .. }) = self.guardrails.get(&*name) else {
                continue;
            };
            if regions.len() < 2 || id.id.is_empty() || geography::arn(&id.id).is_some() {
                continue;
            }
            let regions = regions.iter().map(|region| &**region).collect::<Vec<_>>().join(", ");
            let message = format!(
                "{} is called in {regions}, and Bedrock makes a guardrail in one region, with an id of its own: where it \
                 does not exist every call is refused; give an id for each region under `guardrails.{name}.regions`",
                quoted(&id.id)
            );
            self.warn("guardrail_regions", format!("guardrails.{name}.id"), message);
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

/// The region that a guardrail's ARN says; `None`: it is no ARN, or says none.
fn arn_region(id: &str) -> Option<&str> {
    geography::arn(id).map(|arn| arn.region).filter(|region| !region.is_empty())
}
