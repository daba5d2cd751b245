//! An explanation in words. What comes from the request is escaped, so that it cannot steer a terminal.

use std::{
    fmt::{Display, Formatter, Result},
    time::Duration,
};

use super::{ChosenBy, Decision, Explanation, FlagRead, Limits, Outcome, Rule, Target, Tier, Weight};
use crate::{bucket::BUCKETS, plan::MOST_PAID};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Explanation { environment, revision, caller, tenant, region, .. } = self;
        let asked = self.asked.escape_debug();
        write!(f, "`{caller}` of tenant `{tenant}` asks for `{asked}`")?;
        if !region.is_empty() {
            write!(f, " in {region}")?;
        }
        writeln!(f, ", under revision {revision} of `{environment}`.")?;
        match &self.decision {
            Some(decision) => decision.fmt(f),
            None => {
                writeln!(f, "No route of this name is open to this caller: the request is refused.")?;
                if !self.nearest.is_empty() {
                    writeln!(f, "Perhaps it means {}.", list(self.nearest.iter().map(|name| format!("`{name}`"))))?;
                }
                Ok(())
            }
        }
    }
}

impl Display for Decision {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.alias {
            Some(alias) => writeln!(f, "\nRoute `{}`, by its alias `{}`", self.route, alias.escape_debug())?,
            None => writeln!(f, "\nRoute `{}`, by its name", self.route)?,
        }
        self.rules.iter().try_for_each(|rule| writeln!(f, "  {rule}"))?;
        match &self.rule {
            Some(rule) => writeln!(f, "  So the tiers of rule `{rule}` hold.")?,
            None if self.rules.is_empty() => writeln!(f, "  It has no rules, so its own tiers hold.")?,
            None => writeln!(f, "  No rule matches, so the route's own tiers hold.")?,
        }
        if !self.flags.is_empty() {
            writeln!(f, "\nFlags")?;
            self.flags.iter().try_for_each(|flag| flag.fmt(f))?;
        }
        writeln!(f)?;
        self.tiers.iter().try_for_each(|tier| tier.fmt(f))?;
        match self.plan.steps.len() {
            0 => writeln!(f, "Nothing can be tried: no target is available, and no answer's condition holds.")?,
            _ => writeln!(
                f,
                "Steps are tried in the order of their numbers until one answers, at most {MOST_PAID} of them sent to \
                 a model, the last of these kept for the next tier."
            )?,
        }
        write!(f, "\n{}", self.limits)
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Rule { name, when, outcome, error } = self;
        match (outcome, error) {
            (Outcome::Matched, _) => write!(f, "rule `{name}` matches: {when}"),
            (Outcome::NotReached, _) => write!(f, "rule `{name}` is not reached: {when}"),
            (Outcome::Error, Some(error)) => {
                write!(f, "rule `{name}` is passed over, because {error}: {when}")
            }
            (Outcome::False | Outcome::Error, _) => {
                write!(f, "rule `{name}` is passed over, because it is false: {when}")
            }
        }
    }
}

impl Display for FlagRead {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "  `{}` is {} (variant `{}`, {}", self.name, self.value, self.variant, self.reason)?;
        if let Some(error) = self.error {
            write!(f, ": {error}")?;
        }
        if let Some(rule) = self.rule {
            write!(f, " by rule {rule}")?;
        }
        writeln!(f, ")")?;
        self.passed_over.iter().try_for_each(|why| writeln!(f, "    passed over {why}"))
    }
}

impl Display for Tier {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Tier::Models { number, models, chosen, chosen_by, key, bucket, targets, repeated } => {
                write!(f, "Tier {number}: ")?;
                match models.as_slice() {
                    [only] => writeln!(f, "`{}`", only.model)?,
                    models => {
                        writeln!(
                            f,
                            "{}",
                            list(models.iter().map(|Weight { model, weight }| format!("`{model}` {weight}")))
                        )?;
                        writeln!(f, "  `{chosen}` is first, {}", ByWords(*chosen_by, key.as_deref(), *bucket))?;
                    }
                }
                targets.iter().try_for_each(|target| writeln!(f, "  {}", TargetWords(target, chosen)))?;
                repeated.iter().try_for_each(|model| writeln!(f, "     `{model}` was in an earlier tier"))
            }
            Tier::Answer { number, when, step, error } => {
                write!(f, "Tier {number}: an answer of our own")?;
                if let Some(when) = when {
                    write!(f, " when {when}")?;
                }
                match (step, error) {
                    (Some(step), _) => writeln!(f, "\n  {step}. always answers"),
                    (None, Some(error)) => writeln!(f, "\n     left out, because {error}"),
                    (None, None) => writeln!(f, "\n     left out, because its condition is false"),
                }
            }
        }
    }
}

/// By what a model was chosen.
struct ByWords<'a>(ChosenBy, Option<&'a str>, Option<u32>);

impl Display for ByWords<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let ByWords(by, key, bucket) = self;
        let key = key.unwrap_or_default().escape_debug();
        match by {
            ChosenBy::OnlyOne => return write!(f, "because no other has a weight"),
            ChosenBy::TargetingKey => write!(f, "by the targeting key `{key}`")?,
            ChosenBy::Metadata => write!(f, "by the route's sticky key, of value `{key}`")?,
            ChosenBy::Caller => write!(f, "by the caller's name `{key}`")?,
            ChosenBy::RequestId => write!(f, "by the request's id `{key}`, because it has no sticky key")?,
            ChosenBy::Chance => write!(f, "by chance, because the request has neither sticky key nor id")?,
        }
        match bucket {
            Some(bucket) => write!(f, " (bucket {bucket} of {BUCKETS})"),
            None => Ok(()),
        }
    }
}

/// A target, and the model that its tier has chosen.
struct TargetWords<'a>(&'a Target, &'a str);

impl Display for TargetWords<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let TargetWords(Target { target, model, own_region, step }, chosen) = self;
        match step {
            Some(step) => write!(f, "{step}. {target}")?,
            None => write!(f, "   {target}")?,
        }
        let role = if model == chosen { "" } else { ", an alternative" };
        let region = if *own_region { ", in the node's own region" } else { "" };
        write!(f, " (`{model}`{role}{region})")?;
        match step {
            Some(_) => Ok(()),
            None => write!(f, " is left out, because it is unavailable"),
        }
    }
}

impl Display for Limits {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let ms = Duration::from_millis;
        writeln!(f, "Limits")?;
        writeln!(f, "  at most {} output tokens", self.max_output_tokens)?;
        match &self.guardrail {
            Some(guardrail) => writeln!(f, "  guardrail `{guardrail}`")?,
            None => writeln!(f, "  no guardrail")?,
        }
        match &self.residency {
            Some(residency) => writeln!(f, "  stays in {residency}")?,
            None => writeln!(f, "  may leave any geography")?,
        }
        if let Some(connect) = self.connect_ms {
            writeln!(f, "  connects within {:?}", ms(connect))?;
        }
        let (first, idle, total) = (ms(self.first_token_ms), ms(self.idle_ms), ms(self.total_ms));
        writeln!(f, "  first content of a stream within {first:?}, then at most {idle:?} between events")?;
        writeln!(f, "  the whole request within {total:?}")?;
        let broken = match self.on_broken_stream {
            "partial" => "ends as truncated",
            _ => "ends in an error",
        };
        writeln!(f, "  a stream that breaks after its first content {broken}")
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
