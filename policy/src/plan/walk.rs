//! Walking a plan: which step comes next, given what was paid for.
//!
//! A failed attempt may have been paid for, because the model may have worked for it. So a request has three such
//! attempts in all, and the last of them is kept for the next tier: a tier whose targets all fail must not use up what
//! the tier below it was put there for.
//!
//! Pure: whether an attempt was sent, and where the next may go, is told by whoever makes the attempts.

use super::{Plan, Step, StepKind};
use crate::snapshot::TargetIndex;

/// Most attempts per request that may be paid for, over all tiers, repetitions and hedges included.
pub const MOST_PAID: u8 = 3;

/// A walk along one plan, always forwards: a target that was given or skipped does not come again.
///
/// ```text
/// while let Some(step) = walk.next_where(&plan, may_be_tried) {
///     match attempt(step) {
///         Sent    => walk.paid(),
///         NotSent => walk.unsent(),   // and perhaps walk.again(&plan)
///     }
/// }
/// ```
///
/// Every step that was given and is a target needs one `paid` or `unsent` per attempt; an answer needs neither.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Where in the plan the next step is looked for.
    position: usize,
    /// The step that was given last.
    current: Option<Step>,
    paid: u8,
    /// Tier of the last attempt that was paid for.
    paid_tier: Option<u16>,
    /// The current target had its attempt that was not sent; a second one counts as paid.
    had_unsent: bool,
    /// The current target was given again.
    repeated: bool,
}

impl Walk {
    /// A walk from the plan's first step.
    #[must_use]
    pub fn new() -> Self {
        Walk::default()
    }

    /// The next step; `None`: nothing is left, or nothing may be paid for any more.
    pub fn next(&mut self, plan: &Plan) -> Option<Step> {
        self.next_where(plan, |_| true)
    }

    /// The next step that is an answer or a target that may be tried, such as, after a throttle, one of another quota
    /// domain. Targets before it are skipped for good.
    ///
    /// With one paid attempt left, the tier that the last one was paid in is skipped too if a tier behind it has a
    /// target that may be tried; not across an answer, because nothing behind an answer is ever reached.
    pub fn next_where(&mut self, plan: &Plan, may_be_tried: impl Fn(TargetIndex) -> bool) -> Option<Step> {
        let rest = plan.steps.get(self.position..)?;
        let kept_from = self.tier_to_leave(rest, &may_be_tried);
        let place = rest.iter().position(|step| match step.kind {
            StepKind::Answer(_) => true,
            StepKind::Target(target) => self.paid < MOST_PAID && Some(step.tier) != kept_from && may_be_tried(target),
        })?;
        self.position += place + 1;
        self.current = Some(rest[place]);
        self.had_unsent = false;
        self.repeated = false;
        self.current
    }

    /// The current target once more, if it may be paid for: at most once per target, and not with the attempt that is
    /// kept for the next tier.
    pub fn again(&mut self, plan: &Plan) -> Option<Step> {
        let step = self.current.filter(|step| matches!(step.kind, StepKind::Target(_)))?;
        let rest = plan.steps.get(self.position..)?;
        let is_kept = self.tier_to_leave(rest, &|_| true) == Some(step.tier);
        if self.repeated || self.paid >= MOST_PAID || is_kept {
            return None;
        }
        self.repeated = true;
        Some(step)
    }

    /// The attempt at the current target was sent, so it may be paid for. Also for a hedge, which is an attempt too.
    pub fn paid(&mut self) {
        self.paid = self.paid.saturating_add(1);
        self.paid_tier = self.current.map(|step| step.tier);
    }

    /// The attempt at the current target was never sent. It costs nothing, once per target: the second counts as paid,
    /// so that a target which refuses connections cannot be knocked at for ever.
    pub fn unsent(&mut self) {
        if self.had_unsent {
            self.paid();
        }
        self.had_unsent = true;
    }

    /// How many attempts may have been paid for so far, 0 to 3.
    #[must_use]
    pub fn attempts_paid(&self) -> u8 {
        self.paid
    }

    /// The tier that must not have the last paid attempt.
    fn tier_to_leave(&self, rest: &[Step], may_be_tried: &impl Fn(TargetIndex) -> bool) -> Option<u16> {
        if self.paid + 1 != MOST_PAID {
            return None;
        }
        let tier = self.paid_tier?;
        rest.iter()
            .map_while(|step| match step.kind {
                StepKind::Target(target) => Some((step.tier, target)),
                StepKind::Answer(_) => None,
            })
            .any(|(other, target)| other > tier && may_be_tried(target))
            .then_some(tier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::AnswerIndex;

    /// A plan from its tiers: a letter is a target, `*` an answer.
    fn plan(text: &str) -> Plan {
        let steps = (0..).zip(text.split_whitespace()).flat_map(|(tier, steps)| {
            steps.bytes().map(move |step| {
                let kind = match step {
                    b'*' => StepKind::Answer(AnswerIndex(0)),
                    letter => StepKind::Target(TargetIndex(u32::from(letter - b'a'))),
                };
                Step { tier, kind }
            })
        });
        Plan { steps: steps.collect() }
    }

    fn letter(step: Step) -> char {
        match step.kind {
            StepKind::Answer(_) => '*',
            StepKind::Target(target) => char::from(b'a' + target.0 as u8),
        }
    }

    /// Walks a plan whose every attempt fails, those at upper-case `unsent` targets without being sent.
    fn check(tiers: &str, unsent: &str, expected: &str) {
        let plan = plan(tiers);
        let mut walk = Walk::new();
        let mut walked = String::new();
        while let Some(step) = walk.next(&plan) {
            walked.push(letter(step));
            match step.kind {
                StepKind::Answer(_) => {}
                StepKind::Target(_) if unsent.contains(letter(step)) => walk.unsent(),
                StepKind::Target(_) => walk.paid(),
            }
        }
        assert_eq!(walked, expected, "{tiers}, unsent: {unsent}");
    }

    #[test]
    fn at_most_three_attempts_are_paid_for_and_the_last_is_the_next_tiers() {
        check("abcd", "", "abc");
        check("abcd ef", "", "abe");
        check("ab cd", "", "abc");
        check("a bcd", "", "abc");
        check("a b c d", "", "abc");
        // Two tiers have had one each; the last goes to the third.
        check("a bc d", "", "abd");
        check("abcd *", "", "abc*");
        check("a", "", "a");
        check("", "", "");
    }

    #[test]
    fn unsent_attempts_and_answers_cost_nothing() {
        check("abcd ef", "a", "abce");
        check("abcdef", "abc", "abcdef");
        check("abcd ef", "abcd", "abcdef");
        // The last attempt is the second tier's, and it has it even where its first target was not reached.
        check("abc defg h", "d", "abde");
        check("* a", "", "*a");
    }

    #[test]
    fn nothing_is_kept_for_a_tier_behind_an_answer() {
        check("abcd * e", "", "abc*");
        check("abcd * e", "a", "abcd*");
    }

    #[test]
    fn skipped_targets_do_not_come_again_and_the_last_attempt_is_kept_for_those_that_may_be_tried() {
        let plan = plan("abcd ef");
        let not =
            |letters: &'static str| move |target: TargetIndex| !letters.contains(char::from(b'a' + target.0 as u8));
        let mut walk = Walk::new();
        assert_eq!(walk.next(&plan).map(letter), Some('a'));
        walk.paid();
        assert_eq!(walk.next_where(&plan, not("b")).map(letter), Some('c'));
        walk.paid();
        let mut other = walk.clone();
        assert_eq!(walk.next_where(&plan, not("e")).map(letter), Some('f'));
        // The next tier has nothing that may be tried, so nothing is kept for it.
        assert_eq!(other.next_where(&plan, not("ef")).map(letter), Some('d'));
    }

    #[test]
    fn a_target_may_be_tried_again_once_within_what_may_be_paid_for() {
        let plan = plan("ab c");
        let mut walk = Walk::new();
        assert_eq!(walk.again(&plan), None);
        walk.next(&plan);
        walk.unsent();
        assert_eq!(walk.again(&plan).map(letter), Some('a'));
        // The second attempt that was not sent is not free, and there is no third.
        walk.unsent();
        assert_eq!((walk.attempts_paid(), walk.again(&plan)), (1, None));
        assert_eq!(walk.next(&plan).map(letter), Some('b'));
        walk.paid();
        // The last attempt is the next tier's.
        assert_eq!(walk.again(&plan), None);
        assert_eq!(walk.next(&plan).map(letter), Some('c'));
        walk.paid();
        assert_eq!((walk.again(&plan), walk.next(&plan)), (None, None));
    }
}
