//! The rollout: checked, stored, and not executed yet.

use super::{Compiler, limits::MAX_SHORT};
use crate::violation::quoted;

/// Longest bake time in seconds.
const MAX_BAKE: i64 = 24 * 3600;

impl Compiler<'_> {
    pub(super) fn rollout(&mut self) {
        let Some(rollout) = &self.policy.rollout else { return };
        self.not_executed("rollout", "the rollout");
        self.at_most("rollout.stages", rollout.stages.len(), MAX_SHORT);
        for (index, stage) in rollout.stages.iter().enumerate() {
            if !is_stage(stage) {
                let message = format!("{} is not a stage: write `1 node`, `2 regions` or `10%`", quoted(stage));
                self.error("bad_stage", format!("rollout.stages[{index}]"), message);
            }
        }
        if let Some(bake) = &rollout.bake {
            let (seconds, nanos) = (bake.seconds, bake.nanos);
            if !(0..=MAX_BAKE).contains(&seconds) || nanos < 0 || (seconds == MAX_BAKE && nanos > 0) {
                self.error("out_of_range", "rollout.bake", "a stage is watched for 0 to 24 hours");
            }
        }
        self.at_most("rollout.gates", rollout.gates.len(), MAX_SHORT);
        for (measure, bound) in &rollout.gates {
            let path = format!("rollout.gates.{measure}");
            self.name(&path, measure);
            if !is_bound(bound) {
                let message = format!("{} is not a bound: write `+1pp` (percentage points) or `1.3x`", quoted(bound));
                self.error("bad_gate", path, message);
            }
        }
    }
}

fn is_stage(stage: &str) -> bool {
    let percent = |text: &str| text.parse::<f64>().is_ok_and(|percent| percent > 0.0 && percent <= 100.0);
    match stage.split_once(' ') {
        None => stage.strip_suffix('%').is_some_and(percent),
        Some((count, unit)) => {
            count.parse::<u32>().is_ok_and(|count| count > 0) && matches!(unit, "node" | "nodes" | "region" | "regions")
        }
    }
}

fn is_bound(bound: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().is_ok_and(|number| number.is_finite() && number >= 0.0);
    match bound.strip_suffix("pp") {
        Some(points) => points.strip_prefix('+').is_some_and(number),
        None => bound.strip_suffix('x').is_some_and(|times| !times.starts_with('+') && number(times)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_and_bounds_are_written_in_one_way() {
        for stage in ["1 node", "3 nodes", "1 region", "10%", "0.5%", "100%"] {
            assert!(is_stage(stage), "{stage}");
        }
        for stage in ["", "node", "0 nodes", "1 house", "0%", "101%", "NaN%", "-1%", "1  node"] {
            assert!(!is_stage(stage), "{stage}");
        }
        for bound in ["+1pp", "+0.5pp", "1.3x", "2x"] {
            assert!(is_bound(bound), "{bound}");
        }
        for bound in ["", "1", "1pp", "+x", "x", "+1.3x", "-1x", "infx", "NaNx"] {
            assert!(!is_bound(bound), "{bound}");
        }
    }
}
