//! All regions of one fake, and what is done to them together.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;

use crate::{
    counts::{Captured, Counts, Ring},
    door::Door,
    region::Region,
    script::{Behaviour, Invalid, RegionScript, Script},
};

#[derive(Debug)]
pub(crate) struct Fleet {
    /// In the order in which they were asked for.
    pub(crate) names: Vec<String>,
    pub(crate) regions: BTreeMap<String, (Arc<Region>, Arc<Door>)>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) known_models: Arc<ArcSwap<Vec<String>>>,
    /// The script that was given last as a whole: what healing goes back to.
    pub(crate) given: ArcSwap<Script>,
}

impl Fleet {
    pub(crate) fn play(&self, script: Script) -> Result<(), Invalid> {
        script.check(Some(&self.names))?;
        self.set(&script);
        self.given.store(Arc::new(script));
        Ok(())
    }

    pub(crate) fn heal(&self) {
        let given = Script::clone(&self.given.load());
        self.set(&given.healed());
    }

    pub(crate) fn behave(&self, region: &str, model: Option<&str>, behaviour: Behaviour) -> Result<(), Invalid> {
        let Some((region, door)) = self.regions.get(region) else {
            return Err(Invalid(format!("there is no region {region} here, only {}", self.names.join(", "))));
        };
        region.behave(model, behaviour)?;
        follow(region, door);
        Ok(())
    }

    /// What a region, or a model in it, does now; `None`: there is no such region.
    pub(crate) fn behaviour(&self, region: &str, model: Option<&str>) -> Option<Behaviour> {
        let mut script = self.regions.get(region)?.0.script();
        Some(match model {
            None => script.behaviour,
            Some(model) => script.models.remove(model).unwrap_or_default(),
        })
    }

    pub(crate) fn script(&self) -> Script {
        Script {
            known_models: self.known_models.load().to_vec(),
            regions: self.regions.iter().map(|(name, (region, _))| (name.clone(), region.script())).collect(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let regions = self.regions.iter().map(|(name, (region, _))| (name.clone(), region.tally.read()));
        Counts { regions: regions.collect() }
    }

    pub(crate) fn requests(&self, last: usize) -> Vec<Captured> {
        self.ring.last(last)
    }

    pub(crate) fn reset_counts(&self) {
        self.ring.clear();
        self.regions.values().for_each(|(region, _)| region.tally.reset());
    }

    fn set(&self, script: &Script) {
        let nothing = RegionScript::default();
        self.known_models.store(Arc::new(script.known_models.clone()));
        for (name, (region, door)) in &self.regions {
            region.play(script.regions.get(name).unwrap_or(&nothing));
            follow(region, door);
        }
    }
}

fn follow(region: &Region, door: &Door) {
    let outage = *region.outage.borrow();
    if let Err(error) = door.follow(outage) {
        tracing::warn!(%error, region = %region.name, "the port does not follow at once");
    }
}
