//! Tiers: models by weight, answers, and `inherit` replaced by what it stands for.

use std::collections::BTreeMap;

use switchtower_proto::policy::v1::{self, tier::Kind};

use super::{
    Compiler,
    limits::{MAX_SHORT, MAX_TEMPLATE, MAX_WEIGHT},
    requirements::Keep,
};
use crate::{
    snapshot::{ModelIndex, Tier},
    violation::{Violation, quoted},
};

/// The tiers of one list.
pub(super) struct Tiers<'k, 'p> {
    pub(super) keep: &'k Keep<'p>,
    /// What `inherit` stands for; `None`: these are the route's own tiers, where it would stand for itself.
    pub(super) own: Option<&'k [Tier]>,
    /// Every model that was named, with where it stands first.
    pub(super) models: &'k mut BTreeMap<ModelIndex, String>,
}

impl<'p> Compiler<'p> {
    pub(super) fn tiers(&mut self, path: &str, tiers: &'p [v1::Tier], mut within: Tiers<'_, 'p>) -> Vec<Tier> {
        let mut compiled = Vec::with_capacity(tiers.len());
        self.some_of(path, "a list of at least one tier", tiers.len(), MAX_SHORT);
        let mut inherited = false;
        for (index, tier) in tiers.iter().take(MAX_SHORT).enumerate() {
            let path = format!("{path}[{index}]");
            match &tier.kind {
                None => self.error("required", path, "a tier is a model's name, a `split`, an `answer` or `inherit`"),
                Some(Kind::Inherit(_)) => match within.own {
                    None => {
                        let message = "`inherit` stands for the route's own tiers, and these are they: a cycle; it belongs \
                                       in the tiers of a rule";
                        self.error("inherit_cycle", path, message);
                    }
                    Some(_) if inherited => {
                        self.error("inherit_twice", path, "`inherit` stands here a second time: keep one");
                    }
                    Some(own) => {
                        inherited = true;
                        compiled.extend(own.iter().cloned());
                    }
                },
                Some(Kind::Model(name)) => {
                    compiled.extend(self.model(&path, name, &mut within).map(|model| Tier::Models(vec![(model, 1)])));
                }
                Some(Kind::Split(split)) => compiled.extend(self.split(&format!("{path}.split"), split, &mut within)),
                Some(Kind::Answer(answer)) => compiled.extend(self.answer(&path, answer)),
            }
        }
        compiled
    }

    /// The model of this name, which must keep what the route asks for.
    fn model(&mut self, path: &str, name: &str, within: &mut Tiers<'_, 'p>) -> Option<ModelIndex> {
        let Some(index) = self.model_names.get(name).copied() else {
            let names: Vec<&str> = self.model_names.keys().copied().chain(["inherit"]).collect();
            let message = format!("no model is called {}; models are defined under `models`", quoted(name));
            self.unknown("unknown_model", path, message, name, names);
            return None;
        };
        within.models.entry(index).or_insert_with(|| path.to_owned());
        self.kept_by(path, within.keep, index);
        Some(index)
    }

    fn split(&mut self, path: &str, split: &v1::Split, within: &mut Tiers<'_, 'p>) -> Option<Tier> {
        if !self.some_of(path, "at least one model with its weight", split.weights.len(), MAX_SHORT) {
            return None;
        }
        let mut models = Vec::with_capacity(split.weights.len());
        for (name, weight) in &split.weights {
            let path = format!("{path}.{name}");
            if *weight > MAX_WEIGHT {
                self.error("out_of_range", &path, format!("a weight is 0 to {MAX_WEIGHT}"));
            }
            models.extend(self.model(&path, name, within).map(|model| (model, *weight)));
        }
        if split.weights.values().all(|weight| *weight == 0) {
            self.error("zero_weights", path, "all weights are 0: no model would be chosen; give one a weight");
        }
        Some(Tier::Models(models))
    }

    fn answer(&mut self, path: &str, answer: &'p v1::Answer) -> Option<Tier> {
        let when = match answer.when.as_str() {
            "" => None,
            text => Some(self.condition(&format!("{path}.when"), text)),
        };
        let path = format!("{path}.answer");
        if !self.some_text(&path, "the text of the answer", &answer.template, MAX_TEMPLATE) {
            return None;
        }
        match self.answers.add(&answer.template) {
            Ok(index) => match when {
                Some(condition) => Some(Tier::Answer { answer: index, when: Some(condition?) }),
                None => Some(Tier::Answer { answer: index, when: None }),
            },
            Err(error) => {
                let line = error.line.map(|line| format!(" in its line {line}")).unwrap_or_default();
                let message = format!("this template is wrong{line}: {}", error.message);
                self.violations.push(Violation::error("bad_template", path, message).suggest(error.suggestion));
                None
            }
        }
    }
}
