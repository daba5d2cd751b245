//! The shipped list as it is written; `data/README.md` says what each field means.

use serde::Deserialize;

use super::{Entry, Over, Regional};

#[derive(Deserialize)]
pub(super) struct Model {
    pub(super) id: String,
    pub(super) api: String,
    mode: String,
    ctx: Option<u32>,
    max_out: Option<u32>,
    converse: Option<bool>,
    streaming: Option<bool>,
    #[serde(default)]
    features: Vec<Box<str>>,
    price: Price,
    #[serde(default)]
    pub(super) profiles: Vec<Profile>,
    #[serde(default)]
    regions: Vec<Region>,
}

#[derive(Deserialize)]
pub(super) struct Profile {
    pub(super) id: String,
    pub(super) ctx: Option<u32>,
    pub(super) max_out: Option<u32>,
    pub(super) price: Option<Price>,
}

#[derive(Deserialize)]
struct Region {
    region: Box<str>,
    ctx: Option<u32>,
    price: Option<Price>,
}

#[derive(Deserialize)]
pub(super) struct Price {
    #[serde(rename = "in")]
    input: Option<f64>,
    #[serde(rename = "out")]
    output: Option<f64>,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    #[serde(default)]
    over: Vec<LongPrompt>,
}

#[derive(Deserialize)]
struct LongPrompt {
    above: u64,
    #[serde(rename = "in")]
    input: Option<f64>,
    #[serde(rename = "out")]
    output: Option<f64>,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
}

impl Model {
    pub(super) fn entry(&self) -> Entry {
        // Embedding and rerank models answer InvokeModel alone. Of a chat model, "no" in the list only means that its
        // source prefers InvokeModel: many of them take Converse, and its guardrail, all the same.
        let converse = if self.mode == "chat" { self.converse.filter(|converse| *converse) } else { Some(false) };
        let regional = |region: &Region| Regional {
            region: region.region.clone(),
            context: region.ctx,
            price: region.price.as_ref().and_then(Price::price),
        };
        Entry {
            context: self.ctx,
            max_output_tokens: self.max_out,
            streaming: self.streaming,
            converse,
            features: self.features.clone(),
            price: self.price.price(),
            regional: self.regions.iter().map(regional).collect(),
        }
    }
}

impl Price {
    /// `None` where tokens are not what is paid for.
    pub(super) fn price(&self) -> Option<super::Price> {
        let (input, output) = (self.input?, self.output?);
        let over = self.over.first().map(|long| Over {
            above: long.above,
            input: long.input.unwrap_or(input),
            output: long.output.unwrap_or(output),
            cache_read: long.cache_read.or(self.cache_read),
            cache_write: long.cache_write.or(self.cache_write),
        });
        Some(super::Price { input, output, cache_read: self.cache_read, cache_write: self.cache_write, over })
    }
}
