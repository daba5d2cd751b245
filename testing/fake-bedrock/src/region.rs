//! One region: what it plays now, for which model, and what it counted.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, time::Instant};

use crate::{
    answer::{Answer, Frames},
    counts::{Ring, Tally},
    play::Pace,
    script::{Behaviour, Fail, InStream, Invalid, Outage, RegionScript},
    throttle::Bucket,
};

#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) name: Arc<str>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) ring: Arc<Ring>,
    /// The model ids that exist, shared by all regions; empty: every id does.
    pub(crate) known_models: Arc<ArcSwap<Vec<String>>>,
    /// What connections do; the door and every connection watch it.
    pub(crate) outage: watch::Sender<Option<Outage>>,
    stage: ArcSwap<Stage>,
    /// Serialises changes of the stage: two at once must both hold.
    changes: Mutex<()>,
    seed: u64,
    drawn: AtomicU64,
}

#[derive(Clone, Debug)]
struct Stage {
    others: Arc<Scene>,
    models: HashMap<String, Arc<Scene>>,
}

/// A behaviour with what it has used up of itself, and with what can be made ready of it.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) behaviour: Behaviour,
    /// Set where every prompt gets the same answer.
    pub(crate) ready: Option<Ready>,
    failed: AtomicU32,
    broken: AtomicU32,
    quota: Option<Mutex<Bucket>>,
}

#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) answer: Answer,
    pub(crate) frames: Arc<Frames>,
    /// The members `output` and `stopReason` of an answer in one piece.
    pub(crate) members: String,
}

impl Region {
    pub(crate) fn new(
        name: &str,
        script: &RegionScript,
        known_models: Arc<ArcSwap<Vec<String>>>,
        ring: Arc<Ring>,
        seed: u64,
    ) -> Region {
        Region {
            name: name.into(),
            tally: Arc::default(),
            ring,
            known_models,
            outage: watch::Sender::new(script.behaviour.outage),
            stage: ArcSwap::from_pointee(Stage::new(script)),
            changes: Mutex::new(()),
            seed,
            drawn: AtomicU64::new(0),
        }
    }

    pub(crate) fn scene(&self, model: &str) -> Arc<Scene> {
        let stage = self.stage.load();
        Arc::clone(stage.models.get(model).unwrap_or(&stage.others))
    }

    /// Replaces all that is played.
    pub(crate) fn play(&self, script: &RegionScript) {
        let _changing = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        self.stage.store(Arc::new(Stage::new(script)));
        self.tell_connections(script.behaviour.outage);
    }

    /// Replaces the behaviour of one model, or of all that have none of their own.
    pub(crate) fn behave(&self, model: Option<&str>, behaviour: Behaviour) -> Result<(), Invalid> {
        behaviour.check(model.is_some())?;
        let _changing = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stage = Stage::clone(&self.stage.load());
        let outage = behaviour.outage;
        let scene = Arc::new(Scene::new(behaviour));
        match model {
            Some(model) => {
                stage.models.insert(model.to_owned(), scene);
                self.stage.store(Arc::new(stage));
            }
            None => {
                stage.others = scene;
                self.stage.store(Arc::new(stage));
                self.tell_connections(outage);
            }
        }
        Ok(())
    }

    /// What is played now.
    pub(crate) fn script(&self) -> RegionScript {
        let stage = self.stage.load();
        RegionScript {
            behaviour: stage.others.behaviour.clone(),
            models: stage.models.iter().map(|(model, scene)| (model.clone(), scene.behaviour.clone())).collect(),
        }
    }

    /// A number that the seed and the count of draws decide.
    pub(crate) fn draw(&self) -> u64 {
        let count = self.drawn.fetch_add(1, Ordering::Relaxed);
        fastrand::Rng::with_seed(self.seed ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..)
    }

    pub(crate) fn failure<'a>(&self, scene: &'a Scene) -> Option<&'a Fail> {
        let fail = scene.behaviour.fail.as_ref()?;
        (self.strikes(fail.percent) && counts_up(&scene.failed, fail.times)).then_some(fail)
    }

    pub(crate) fn stream_break<'a>(&self, scene: &'a Scene) -> Option<&'a InStream> {
        let broken = scene.behaviour.in_stream.as_ref()?;
        (self.strikes(broken.percent) && counts_up(&scene.broken, broken.times)).then_some(broken)
    }

    fn strikes(&self, percent: u8) -> bool {
        percent >= 100 || self.draw() % 100 < u64::from(percent)
    }

    fn tell_connections(&self, outage: Option<Outage>) {
        self.outage.send_if_modified(|current| std::mem::replace(current, outage) != outage);
    }
}

/// Whether this is one of the first so many.
fn counts_up(count: &AtomicU32, times: Option<u32>) -> bool {
    let next = |n: u32| (times.is_none_or(|times| n < times)).then(|| n.saturating_add(1));
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
}

impl Stage {
    fn new(script: &RegionScript) -> Stage {
        let scene = |behaviour: &Behaviour| Arc::new(Scene::new(behaviour.clone()));
        Stage {
            others: scene(&script.behaviour),
            models: script.models.iter().map(|(model, behaviour)| (model.clone(), scene(behaviour))).collect(),
        }
    }
}

impl Scene {
    fn new(behaviour: Behaviour) -> Scene {
        let ready = Answer::scripted(&behaviour).map(|answer| Ready {
            frames: Arc::new(answer.frames(behaviour.pieces())),
            members: members(&answer),
            answer,
        });
        let quota = behaviour.throttle.map(|throttle| Bucket::new(throttle.tokens_per_minute, Instant::now()));
        Scene { behaviour, ready, failed: AtomicU32::new(0), broken: AtomicU32::new(0), quota: quota.map(Mutex::new) }
    }

    /// Takes the tokens out of the quota; false where they are more than is left.
    pub(crate) fn admit(&self, tokens: u32) -> bool {
        let Some(quota) = &self.quota else { return true };
        quota.lock().unwrap_or_else(PoisonError::into_inner).take(tokens, Instant::now())
    }

    pub(crate) fn pace(&self, output_tokens: u32, paced_events: u32) -> Pace {
        let speaking = self.speaking(output_tokens);
        Pace {
            first: self.behaviour.first_token_delay,
            between: speaking / paced_events.max(1),
            coalesce: self.behaviour.coalesce,
        }
    }

    /// How long so many tokens take.
    pub(crate) fn speaking(&self, output_tokens: u32) -> Duration {
        match self.behaviour.tokens_per_second {
            Some(pace) => Duration::from_secs_f64(f64::from(output_tokens) / pace),
            None => Duration::ZERO,
        }
    }
}

pub(crate) fn members(answer: &Answer) -> String {
    format!(r#""output":{},"stopReason":"{}""#, answer.output(), answer.stop_reason)
}
