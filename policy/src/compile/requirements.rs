//! What every target of a route must keep: guardrail, residency, needs, context and the limit of output tokens.
//!
//! The policy's requirements and the route's own come together here. A guardrail rides on Converse calls, so a model that
//! is known to take none cannot carry one. What the catalogue does not say cannot be kept: a need of a model that it does
//! not know is an error, because the operator asked for certainty, and can give it under `catalogue`.

use std::collections::BTreeMap;

use switchtower_proto::policy::v1;

use super::{
    Compiler,
    geography::{self, RESIDENCIES},
};
use crate::{
    snapshot::{Guardrail, ModelIndex},
    violation::quoted,
};

/// Output tokens per request where neither route nor catalogue says how many.
const DEFAULT_OUTPUT_TOKENS: u32 = 4096;

/// What a route's targets must keep.
pub(super) struct Keep<'p> {
    pub(super) guardrail: Option<Guardrail>,
    pub(super) residency: Option<&'p str>,
    /// Features that exist; what is none is told, once.
    needs: Vec<&'p str>,
    min_context: Option<u32>,
}

impl<'p> Compiler<'p> {
    /// Checks the requirements themselves, once.
    pub(super) fn requirements(&mut self) {
        let Some(required) = &self.policy.requirements else { return };
        self.guardrail("requirements.guardrail", &required.guardrail);
        self.residency("requirements.residency", &required.residency);
        if required.max_output_tokens == Some(0) {
            self.error("out_of_range", "requirements.max_output_tokens", "this must be 1 or more");
        }
    }

    /// What the targets of a route must keep.
    pub(super) fn keep(&mut self, path: &str, route: &'p v1::Route) -> Keep<'p> {
        let required = self.policy.requirements.as_ref();
        let required_guardrail = required.map_or("", |required| required.guardrail.as_str());
        let guardrail_path = format!("{path}.guardrail");
        let own = self.guardrail(&guardrail_path, &route.guardrail);
        if !required_guardrail.is_empty() && !route.guardrail.is_empty() && route.guardrail != required_guardrail {
            let message = format!(
                "`requirements` sets the guardrail {} on every route: leave it out here, or name the same",
                quoted(required_guardrail)
            );
            self.error("guardrail_conflict", &guardrail_path, message);
        }
        let guardrail = self.guardrails.get(required_guardrail).cloned().or(own);
        self.features(&format!("{path}.needs"), &route.needs);
        self.at_most(&format!("{path}.needs"), route.needs.len(), 64);
        let features = crate::catalogue::Catalogue::shipped().features();
        let needs =
            route.needs.iter().map(String::as_str).filter(|need| features.iter().any(|known| **known == **need));
        Keep {
            guardrail,
            residency: self.route_residency(path, route),
            needs: needs.collect(),
            min_context: route.min_context,
        }
    }

    fn route_residency(&mut self, path: &str, route: &'p v1::Route) -> Option<&'p str> {
        let path = format!("{path}.residency");
        let required = self.policy.requirements.as_ref().map(|required| required.residency.as_str());
        let required = required.filter(|required| RESIDENCIES.contains(required));
        let own = self.residency(&path, &route.residency);
        match (required, own) {
            (Some(required), Some(own)) if !geography::within(own, required) => {
                let message = format!("`requirements` keeps every route in `{required}`, and `{own}` is not within it");
                self.error("residency_conflict", &path, message);
                None
            }
            (required, own) => own.or(required),
        }
    }

    /// The geography of this name, if it is one; that it is none is told. An empty name is none.
    fn residency(&mut self, path: &str, name: &'p str) -> Option<&'p str> {
        if name.is_empty() {
            return None;
        }
        if RESIDENCIES.contains(&name) {
            return Some(name);
        }
        let message = format!("{} is not a geography; there are {}", quoted(name), RESIDENCIES.join(", "));
        self.unknown("unknown_residency", path, message, name, RESIDENCIES);
        None
    }

    /// Tells what a model at a tier cannot keep.
    pub(super) fn kept_by(&mut self, path: &str, keep: &Keep<'p>, model: ModelIndex) {
        let mut wrong: Vec<(&'static str, String)> = Vec::new();
        let model = &self.models[model.0 as usize];
        let name = quoted(&model.name);
        let entry = model.catalogue.as_ref();
        if let Some(guardrail) = &keep.guardrail
            && entry.is_some_and(|entry| entry.converse == Some(false))
        {
            let guardrail = quoted(&guardrail.name);
            let message = format!(
                "{name} takes no Converse calls, so it cannot carry the guardrail {guardrail}: use another model here"
            );
            wrong.push(("guardrail_unsupported", message));
        }
        if let Some(guardrail) = &keep.guardrail {
            wrong.extend(self.not_carried(guardrail, model));
        }
        let regions = || model.targets.iter().map(|target| &*self.targets[target.0 as usize].region);
        if let Some(residency) = keep.residency {
            let reach = geography::reach(&model.bedrock);
            for why in regions().filter_map(|region| geography::leaves(reach, region, residency)) {
                wrong.push(("residency", format!("{name} leaves `{residency}`: {why}")));
                if reach == geography::Reach::Hidden {
                    break;
                }
            }
        }
        for need in &keep.needs {
            let has = entry.is_some_and(|entry| entry.features.iter().any(|feature| **feature == **need));
            if !has {
                let said = entry.is_some_and(|entry| !entry.features.is_empty());
                let why = if said { "cannot do" } else { "is not known by the catalogue to do" };
                let message = format!("{name} {why} {}, which this route needs", quoted(need));
                wrong.push(("needs_not_met", message));
            }
        }
        if let Some(min) = keep.min_context {
            let context = |region| entry.and_then(|entry| entry.context_in(region));
            let smallest = regions().map(context).min().flatten();
            if smallest.is_none_or(|context| context < min) && !model.targets.is_empty() {
                let has = match smallest {
                    Some(context) => format!("a context of {context}"),
                    None => "a context that the catalogue does not know".to_owned(),
                };
                let message = format!("{name} has {has}, and this route asks for {min} tokens");
                wrong.push(("context_too_small", message));
            }
        }
        for (code, message) in wrong {
            self.error(code, path, message);
        }
    }

    /// Output tokens per request, given all models of a route with where they stand.
    pub(super) fn output_tokens(
        &mut self,
        path: &str,
        route: &v1::Route,
        models: &BTreeMap<ModelIndex, String>,
    ) -> u32 {
        let limit = |index: &ModelIndex| {
            let model = &self.models[index.0 as usize];
            Some((model.catalogue.as_ref()?.max_output_tokens?, model.name.clone()))
        };
        let smallest = models.keys().filter_map(limit).min();
        let path = format!("{path}.max_output_tokens");
        let own = match (route.max_output_tokens, smallest) {
            (Some(0), _) => {
                self.error("out_of_range", path, "this must be 1 or more");
                DEFAULT_OUTPUT_TOKENS
            }
            (Some(own), Some((limit, name))) if own > limit => {
                let message =
                    format!("{} gives at most {limit} output tokens: lower this, or use another model", quoted(&name));
                self.error("max_output_tokens", path, message);
                limit
            }
            (Some(own), _) => own,
            (None, Some((limit, _))) => limit,
            (None, None) => DEFAULT_OUTPUT_TOKENS,
        };
        let required = self.policy.requirements.as_ref().and_then(|required| required.max_output_tokens);
        required.map_or(own, |required| own.min(required)).max(1)
    }
}
