//! Models and their targets, with what the catalogue knows of them.

use std::sync::Arc;

use hashbrown::HashMap;
use switchtower_proto::policy::v1;

use super::{
    Compiler,
    geography::{self, REGIONS},
    limits::{MAX_ID, MAX_SHORT},
};
use crate::{
    catalogue::{Catalogue, Entry},
    snapshot::{Model, ModelIndex, Target, TargetIndex},
    violation::{Violation, quoted},
};

impl<'p> Compiler<'p> {
    /// Checks the policy's own entries; models take them up.
    pub(super) fn catalogue(&mut self) {
        for (id, facts) in &self.policy.catalogue {
            let path = format!("catalogue.{id}");
            if !is_model_id(id) {
                self.error("bad_name", &path, format!("{} is not a model id", quoted(id)));
            }
            for (field, value) in [("context", facts.context), ("max_output_tokens", facts.max_output_tokens)] {
                if value == Some(0) {
                    self.error("out_of_range", format!("{path}.{field}"), "this must be 1 or more");
                }
            }
            let prices = [
                ("input_price", facts.input_price),
                ("output_price", facts.output_price),
                ("cache_read_price", facts.cache_read_price),
                ("cache_write_price", facts.cache_write_price),
            ];
            for (field, price) in prices {
                if price.is_some_and(|price| !price.is_finite() || price < 0.0) {
                    let message = "a price is in US dollars per million tokens, 0 or more";
                    self.error("out_of_range", format!("{path}.{field}"), message);
                }
            }
            self.at_most(&format!("{path}.features"), facts.features.len(), 64);
            self.features(&format!("{path}.features"), &facts.features);
            let shipped = Catalogue::shipped().look_up(id).cloned().unwrap_or_default();
            if let Err(message) = shipped.replaced_by(facts) {
                self.error("required", &path, message);
            }
        }
    }

    /// Tells of names that are no features.
    pub(super) fn features(&mut self, path: &str, features: &[String]) {
        let known = Catalogue::shipped().features();
        for (index, feature) in features.iter().enumerate() {
            if !known.iter().any(|name| **name == **feature) {
                let names: Vec<&str> = known.iter().map(|name| &**name).collect();
                let message = format!("no feature is called {}; there are {}", quoted(feature), names.join(", "));
                self.unknown("unknown_feature", &format!("{path}[{index}]"), message, feature, names);
            }
        }
    }

    pub(super) fn models(&mut self) {
        let mut seen: HashMap<(&'p str, &'p str), &'p str> = HashMap::new();
        for (name, model) in &self.policy.models {
            let path = format!("models.{name}");
            self.name(&path, name);
            if name == "inherit" {
                let message = "no model can be called `inherit`: in a tier it stands for the route's own tiers";
                self.error("reserved_name", &path, message);
            }
            let known_id = self.bedrock_id(&path, &model.bedrock);
            self.regions(&path, model);
            for region in &model.regions {
                if let Some(other) =
                    seen.insert((&model.bedrock, region), name).filter(|other| known_id && *other != name)
                {
                    // Two names for it would be two targets: a plan would try it twice, and health would be split.
                    let message = format!(
                        "this is the same model in the same region ({region}) as {}: keep one of the two, and use its \
                         name",
                        quoted(other)
                    );
                    self.error("same_target", &path, message);
                }
            }
            if model.capacity_tokens_per_minute.is_some() {
                self.not_executed(format!("{path}.capacity_tokens_per_minute"), "a model's capacity");
            }
            let catalogue = Catalogue::shipped().entry_under(&self.policy.catalogue, &model.bedrock);
            if catalogue.is_none() && known_id {
                self.unknown_to_catalogue(&path, &model.bedrock);
            }
            self.add_model(name, model, catalogue);
        }
    }

    fn add_model(&mut self, name: &'p str, model: &v1::Model, catalogue: Option<Entry>) {
        let index = ModelIndex(self.models.len() as u32);
        let bedrock: Arc<str> = model.bedrock.as_str().into();
        let mut targets = Vec::with_capacity(model.regions.len());
        for region in &model.regions {
            let target = TargetIndex(self.targets.len() as u32);
            targets.push(target);
            self.targets.push(Arc::new(Target {
                index: target,
                model: index,
                region: region.as_str().into(),
                bedrock: bedrock.clone(),
                id: format!("bedrock/{region}/{bedrock}").into(),
            }));
        }
        self.model_names.insert(name, index);
        self.models.push(Model { name: name.into(), bedrock: model.bedrock.as_str().into(), targets, catalogue });
    }

    /// Whether this can be a model's id.
    fn bedrock_id(&mut self, path: &str, bedrock: &str) -> bool {
        let path = format!("{path}.bedrock");
        if !self.some_text(&path, "a Bedrock model id, inference profile id or ARN", bedrock, MAX_ID) {
            return false;
        }
        if !is_model_id(bedrock) {
            self.error("bad_model_id", &path, format!("{} is not a model id, profile id or ARN", quoted(bedrock)));
            return false;
        }
        if geography::arn(bedrock).is_some_and(|arn| arn.kind == "prompt") {
            let message = "a prompt's ARN takes no limit of output tokens, which every request is sent with: name the \
                           model itself";
            self.error("unsupported_model", &path, message);
            return false;
        }
        true
    }

    fn unknown_to_catalogue(&mut self, path: &str, bedrock: &str) {
        let meant = self.violations.nearest(bedrock, Catalogue::shipped().ids());
        let message = format!(
            "the catalogue does not know {}: it works, and its cost and limits are unknown; say them under `catalogue`",
            quoted(bedrock)
        );
        let warning = Violation::warning("unknown_model_id", format!("{path}.bedrock"), message);
        self.violations.push(warning.suggest(meant));
    }

    fn regions(&mut self, path: &str, model: &v1::Model) {
        let path = format!("{path}.regions");
        if !self.some_of(&path, "a list of at least one region", model.regions.len(), MAX_SHORT) {
            return;
        }
        let reach = geography::reach(&model.bedrock);
        let arn_region = geography::arn(&model.bedrock).map(|arn| arn.region).filter(|region| !region.is_empty());
        for (index, region) in model.regions.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if !self.region(&path, region) {
                continue;
            }
            if model.regions[..index].contains(region) {
                self.error("duplicate", &path, format!("{} stands twice: keep one", quoted(region)));
            }
            if REGIONS.contains(&region.as_str()) && !geography::offered(reach, region) {
                let message = format!("AWS does not offer this inference profile in {region}");
                self.warn("profile_region", &path, message);
            }
            if let Some(arn_region) = arn_region.filter(|arn_region| arn_region != region) {
                let message = format!("the ARN is of {arn_region}, and cannot be called in {region}");
                self.error("arn_region", &path, message);
            }
        }
    }

    /// Whether this can be a region; that it is none, or not one that is known, is told.
    pub(super) fn region(&mut self, path: &str, region: &str) -> bool {
        if !is_region(region) {
            self.unknown("bad_region", path, format!("{} is not a region", quoted(region)), region, REGIONS);
            return false;
        }
        if !REGIONS.contains(&region) {
            let meant = self.violations.nearest(region, REGIONS);
            let message = format!("{} is not a region that this version knows", quoted(region));
            self.violations.push(Violation::warning("unknown_region", path, message).suggest(meant));
        }
        true
    }
}

fn is_model_id(id: &str) -> bool {
    !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || "._:/-".contains(c))
}

fn is_region(region: &str) -> bool {
    let parts: Vec<&str> = region.split('-').collect();
    let words =
        parts.iter().all(|part| !part.is_empty() && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
    region.len() <= 32 && parts.len() >= 3 && words && region.ends_with(|c: char| c.is_ascii_digit())
}
