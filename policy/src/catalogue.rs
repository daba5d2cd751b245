//! What the models are, and what they cost: facts that ship with the program, each of which a policy may replace.
//!
//! The shipped list is `data/bedrock-models.json`; the README beside it says where it comes from. Prices are that
//! source's reading and not AWS's word: they decide between models and warn of bills, they are not a bill. Only models
//! of the runtime endpoint (Converse and InvokeModel) are taken in: the ids of other endpoints are not callable there.

use std::{collections::BTreeMap, sync::OnceLock};

use hashbrown::HashMap;
use switchtower_proto::policy::v1;

mod wire;

const SHIPPED: &str = include_str!("../data/bedrock-models.json");

/// What is known of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Most input tokens.
    pub context: Option<u32>,
    /// Most output tokens.
    pub max_output_tokens: Option<u32>,
    /// Streaming is possible; `None`: not stated.
    pub streaming: Option<bool>,
    /// The model takes Converse calls, the ones that carry a guardrail; `None`: not stated.
    pub converse: Option<bool>,
    /// Features by the catalogue's names; empty: not stated.
    pub features: Vec<Box<str>>,
    /// Prices; `None`: not known.
    pub price: Option<Price>,
    /// Regions in which the model called by its bare id differs.
    pub regional: Vec<Regional>,
}

/// What differs in one region.
#[derive(Clone, Debug, PartialEq)]
pub struct Regional {
    /// The region.
    pub region: Box<str>,
    /// Most input tokens there; `None`: as everywhere.
    pub context: Option<u32>,
    /// Prices there; `None`: as everywhere.
    pub price: Option<Price>,
}

/// US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Input.
    pub input: f64,
    /// Output.
    pub output: f64,
    /// Read from the prompt cache; `None`: not stated.
    pub cache_read: Option<f64>,
    /// Written to the prompt cache; `None`: not stated.
    pub cache_write: Option<f64>,
    /// What holds for a long prompt; `None`: the same.
    pub over: Option<Over>,
}

/// Prices of a request whose prompt is long: all of its tokens cost these, not only those above the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Over {
    /// The prompt, cached tokens included, is longer than this many tokens.
    pub above: u64,
    /// Input.
    pub input: f64,
    /// Output.
    pub output: f64,
    /// Read from the prompt cache; `None`: not stated.
    pub cache_read: Option<f64>,
    /// Written to the prompt cache; `None`: not stated.
    pub cache_write: Option<f64>,
}

/// Tokens used by one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens, without cached ones.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Read from the prompt cache.
    pub cache_read: u64,
    /// Written to the prompt cache.
    pub cache_write: u64,
}

impl Price {
    /// What the usage costs in US dollars. Cached tokens of a model whose cache prices are not stated cost what input
    /// costs: reads never cost more.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> f64 {
        let prompt = usage.input.saturating_add(usage.cache_read).saturating_add(usage.cache_write);
        let (input, output, read, write) = match self.over {
            Some(over) if prompt > over.above => (over.input, over.output, over.cache_read, over.cache_write),
            _ => (self.input, self.output, self.cache_read, self.cache_write),
        };
        let dollars = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
        dollars(usage.input, input)
            + dollars(usage.output, output)
            + dollars(usage.cache_read, read.unwrap_or(input))
            + dollars(usage.cache_write, write.unwrap_or(input))
    }
}

impl Entry {
    /// What the usage costs in US dollars, where no region differs; `None`: the price is not known.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Option<f64> {
        self.price.map(|price| price.cost(usage))
    }

    /// What the usage costs in US dollars at an endpoint of this region; `None`: the price is not known.
    #[must_use]
    pub fn cost_in(&self, region: &str, usage: &Usage) -> Option<f64> {
        let regional = self.in_region(region).and_then(|regional| regional.price);
        regional.or(self.price).map(|price| price.cost(usage))
    }

    /// Most input tokens at an endpoint of this region; `None`: not known.
    #[must_use]
    pub fn context_in(&self, region: &str) -> Option<u32> {
        self.in_region(region).and_then(|regional| regional.context).or(self.context)
    }

    fn in_region(&self, region: &str) -> Option<&Regional> {
        self.regional.iter().find(|regional| &*regional.region == region)
    }

    /// With what a policy says instead. What it says of prices holds in every region and for prompts of any length.
    ///
    /// # Errors
    /// A sentence: one price alone makes no price where none was known.
    pub(crate) fn replaced_by(mut self, facts: &v1::ModelFacts) -> Result<Self, String> {
        self.context = facts.context.or(self.context);
        if facts.context.is_some() {
            self.regional.iter_mut().for_each(|regional| regional.context = None);
        }
        self.max_output_tokens = facts.max_output_tokens.or(self.max_output_tokens);
        if !facts.features.is_empty() {
            self.features = facts.features.iter().map(|feature| feature.as_str().into()).collect();
        }
        let said = [facts.input_price, facts.output_price, facts.cache_read_price, facts.cache_write_price];
        if said.iter().all(Option::is_none) {
            return Ok(self);
        }
        let (Some(input), Some(output)) = (
            facts.input_price.or(self.price.map(|price| price.input)),
            facts.output_price.or(self.price.map(|price| price.output)),
        ) else {
            return Err("no price of this model is shipped: give both `input_price` and `output_price`".to_owned());
        };
        self.price = Some(Price {
            input,
            output,
            cache_read: facts.cache_read_price.or(self.price.and_then(|price| price.cache_read)),
            cache_write: facts.cache_write_price.or(self.price.and_then(|price| price.cache_write)),
            over: None,
        });
        self.regional.iter_mut().for_each(|regional| regional.price = None);
        Ok(self)
    }
}

/// The shipped entries, by model id and inference profile id.
#[derive(Debug)]
pub struct Catalogue {
    entries: HashMap<String, Entry>,
    /// Base id by inference profile id.
    bases: HashMap<String, String>,
    features: Vec<Box<str>>,
}

impl Catalogue {
    /// What ships with this program.
    ///
    /// # Panics
    /// Never: the shipped list is part of the program, and a test reads it.
    #[must_use]
    pub fn shipped() -> &'static Catalogue {
        static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
        CATALOGUE.get_or_init(|| Catalogue::parse(SHIPPED).expect("the shipped catalogue is read by a test"))
    }

    fn parse(json: &str) -> serde_json::Result<Catalogue> {
        let mut catalogue = Catalogue { entries: HashMap::new(), bases: HashMap::new(), features: Vec::new() };
        for model in serde_json::from_str::<Vec<wire::Model>>(json)? {
            if model.api == "runtime" {
                catalogue.add(model);
            }
        }
        catalogue.features.sort();
        catalogue.features.dedup();
        Ok(catalogue)
    }

    fn add(&mut self, model: wire::Model) {
        let base = model.entry();
        self.features.extend(base.features.iter().cloned());
        for profile in &model.profiles {
            let entry = Entry {
                context: profile.ctx.or(base.context),
                max_output_tokens: profile.max_out.or(base.max_output_tokens),
                price: profile.price.as_ref().map_or(base.price, wire::Price::price),
                regional: Vec::new(),
                ..base.clone()
            };
            self.bases.insert(profile.id.clone(), model.id.clone());
            self.entries.insert(profile.id.clone(), entry);
        }
        self.entries.insert(model.id, base);
    }

    /// What is known of a model id, inference profile id, or the ARN of either. Application inference profiles and
    /// what else hides its model are not known.
    #[must_use]
    pub fn look_up(&self, bedrock: &str) -> Option<&Entry> {
        self.entries.get(visible_id(bedrock))
    }

    /// The base id of an inference profile id, or the id itself.
    #[must_use]
    pub fn base<'a>(&'a self, bedrock: &'a str) -> &'a str {
        let id = visible_id(bedrock);
        self.bases.get(id).map_or(id, String::as_str)
    }

    /// Every name of a feature that any entry has, sorted.
    #[must_use]
    pub fn features(&self) -> &[Box<str>] {
        &self.features
    }

    /// Every model id and inference profile id, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let mut ids: Vec<&str> = self.entries.keys().map(String::as_str).collect();
        ids.sort_unstable();
        ids.into_iter()
    }

    /// The entry for a model, a policy's own entries first: one for exactly this id, else one for its base id. An own
    /// entry that makes no price changes nothing; compiling has refused it where it stands.
    pub(crate) fn entry_under(&self, own: &BTreeMap<String, v1::ModelFacts>, bedrock: &str) -> Option<Entry> {
        let shipped = self.look_up(bedrock);
        let keys = [bedrock, visible_id(bedrock), self.base(bedrock)];
        match keys.into_iter().find_map(|key| own.get(key)) {
            Some(facts) => shipped.cloned().unwrap_or_default().replaced_by(facts).ok().or_else(|| shipped.cloned()),
            None => shipped.cloned(),
        }
    }
}

/// The model or profile id that an ARN ends in; anything else as it is.
fn visible_id(bedrock: &str) -> &str {
    if !bedrock.starts_with("arn:") {
        return bedrock;
    }
    match bedrock.rsplit_once('/') {
        Some((head, id)) if head.ends_with(":foundation-model") || head.ends_with(":inference-profile") => id,
        _ => bedrock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn million(input: u64, output: u64, cache_read: u64, cache_write: u64) -> Usage {
        Usage { input, output, cache_read, cache_write }
    }

    #[test]
    fn the_shipped_catalogue_is_readable_and_knows_the_runtime_models() {
        let catalogue = Catalogue::parse(SHIPPED).unwrap();
        assert!(catalogue.entries.len() > 300, "{}", catalogue.entries.len());
        assert!(catalogue.entries.values().filter(|entry| entry.price.is_some()).count() > 300);
        assert!(catalogue.features().iter().any(|feature| &**feature == "tools"));
    }

    #[track_caller]
    fn check_price(bedrock: &str, region: &str, usage: Usage, dollars: f64) {
        let entry = Catalogue::shipped().look_up(bedrock).unwrap_or_else(|| panic!("{bedrock} is not known"));
        let cost = entry.cost_in(region, &usage).unwrap();
        assert!((cost - dollars).abs() < 1e-9, "{bedrock} in {region}: {cost}, not {dollars}");
    }

    #[test]
    fn a_cost_follows_profile_region_cache_and_prompt_length() {
        let m = 1_000_000;
        check_price("amazon.nova-lite-v1:0", "us-east-1", million(m, m, 0, 0), 0.06 + 0.24);
        check_price("amazon.nova-lite-v1:0", "us-gov-west-1", million(m, m, 0, 0), 0.072 + 0.288);
        check_price("us.amazon.nova-lite-v1:0", "us-east-1", million(m, m, m, 0), 0.06 + 0.24 + 0.015);
        check_price("eu.amazon.nova-lite-v1:0", "eu-west-1", million(m, 0, 0, 0), 0.078);
        check_price(
            "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.amazon.nova-lite-v1:0",
            "eu-west-1",
            million(m, 0, 0, 0),
            0.078,
        );
        let sonnet = "anthropic.claude-sonnet-4-5-20250929-v1:0";
        check_price(sonnet, "us-east-1", million(200_000, 0, 0, 0), 0.6);
        check_price(sonnet, "us-east-1", million(200_000, 0, 1, 0), 1.2 + 0.6 / 1e6);
        // No price for writing to the cache is stated: it costs what input costs.
        check_price("amazon.nova-lite-v1:0", "us-east-1", million(0, 0, 0, m), 0.06);
    }

    #[test]
    fn what_hides_its_model_is_not_known() {
        for id in [
            "nobody.knows-v1",
            "arn:aws:bedrock:us-east-1:1:application-inference-profile/amazon.nova-lite-v1:0",
            "arn:aws:bedrock:us-east-1:1:prompt/amazon.nova-lite-v1:0",
            "arn:",
            "",
        ] {
            assert_eq!(Catalogue::shipped().look_up(id), None, "{id}");
        }
        let id = "us.amazon.nova-lite-v1:0";
        let meant = crate::violation::nearest("us.amazon.nova-light-v1:0", Catalogue::shipped().ids());
        assert_eq!(meant.as_deref(), Some(id));
    }

    #[test]
    fn a_policy_replaces_what_it_names_and_nothing_else() {
        let facts = v1::ModelFacts { input_price: Some(1.0), context: Some(5), ..Default::default() };
        let shipped = Catalogue::shipped().look_up("amazon.nova-lite-v1:0").unwrap().clone();
        let entry = shipped.clone().replaced_by(&facts).unwrap();
        assert_eq!(entry.price.map(|price| (price.input, price.output)), Some((1.0, 0.24)));
        assert_eq!((entry.context, entry.max_output_tokens), (Some(5), shipped.max_output_tokens));
        assert_eq!(entry.cost_in("us-gov-west-1", &million(1_000_000, 0, 0, 0)), Some(1.0));
        assert!(Entry::default().replaced_by(&facts).unwrap_err().contains("output_price"));

        let own = BTreeMap::from([("amazon.nova-lite-v1:0".to_owned(), facts)]);
        let under = Catalogue::shipped().entry_under(&own, "eu.amazon.nova-lite-v1:0").unwrap();
        assert_eq!(under.context, Some(5));
    }
}
