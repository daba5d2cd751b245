//! Class -> what it means for breaker, quota, the same target and the others. One table, read row by row.

use super::Class;

/// Whether the caller has been given content of this attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing but, at most, held-back lifecycle frames: the attempt can be replaced.
    BeforeContent,
    /// Something: the attempt cannot be replaced by anything any more.
    AfterContent,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// For the target's breaker.
    pub breaker: Breaker,
    /// For the quota state of the target's quota domain.
    pub quota: Quota,
    /// Whether the same target may be tried again, once at most, if no other target is left before it.
    pub same_target: SameTarget,
    /// Whether the plan's next step may be tried.
    pub other_target: OtherTarget,
}

/// What a failure counts as in a target's breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breaker {
    /// Nothing: neither failure nor success.
    Neutral,
    /// A failure in the rate; not one of those in a row, which trip it alone. For failures that a single hard request
    /// can cause on a healthy target.
    Rate,
    /// A failure in the rate, and one of those in a row.
    Both,
}

/// What a failure means for a quota domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quota {
    /// Nothing.
    None,
    /// The provider has no room; let less in for a while.
    SoftOverload,
    /// The quota is used up: shrink what we think it is, and hold off.
    Shrink,
}

/// When the same target may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SameTarget {
    /// Not for this request.
    Never,
    /// Once, at once: it was never sent.
    OnceAtOnce,
    /// Once, after a jittered backoff.
    AfterBackoff,
    /// Once its quota domain's hold-off is over, if the deadline allows.
    AfterHoldOff,
    /// Once, after the credentials were refreshed.
    AfterRefresh,
}

/// Whether another target may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OtherTarget {
    /// None, and no `answer` tier either: the failure goes to the caller.
    Never,
    /// The next.
    Yes,
    /// The next, if what is left of the deadline is enough for its first content.
    IfDeadline,
    /// The next of another quota domain: of another region or another model.
    OtherQuotaDomain,
    /// The next, and an operator is told: waiting will not mend this one.
    WithAlarm,
}

/// What a failure means in this phase.
#[must_use]
pub fn consequence(class: Class, phase: Phase) -> Consequence {
    let before = before_content(class);
    match phase {
        Phase::BeforeContent => before,
        // A cut stream may be the model's doing as well as the target's, so it is never one of those in a row.
        Phase::AfterContent => Consequence {
            breaker: if before.breaker == Breaker::Neutral { Breaker::Neutral } else { Breaker::Rate },
            quota: before.quota,
            same_target: SameTarget::Never,
            other_target: OtherTarget::Never,
        },
    }
}

#[rustfmt::skip]
fn before_content(class: Class) -> Consequence {
    let row = |breaker, quota, same_target, other_target| Consequence { breaker, quota, same_target, other_target };
    match class {
        // Unsent, so always safe to send again.
        Class::Connect => row(Breaker::Both, Quota::None, SameTarget::OnceAtOnce, OtherTarget::Yes),
        Class::Internal => row(Breaker::Both, Quota::None, SameTarget::AfterBackoff, OtherTarget::Yes),
        // No retry: overload must not be amplified.
        Class::Unavailable => row(Breaker::Both, Quota::SoftOverload, SameTarget::Never, OtherTarget::Yes),
        // Slow and paid for: the same prompt will be as slow here again.
        Class::ModelTimeout => row(Breaker::Rate, Quota::None, SameTarget::Never, OtherTarget::IfDeadline),
        Class::ModelError => row(Breaker::Rate, Quota::None, SameTarget::Never, OtherTarget::IfDeadline),
        Class::ModelRefused => row(Breaker::Neutral, Quota::None, SameTarget::Never, OtherTarget::Never),
        Class::Throttled => row(Breaker::Neutral, Quota::Shrink, SameTarget::AfterHoldOff, OtherTarget::OtherQuotaDomain),
        Class::QuotaExceeded => row(Breaker::Neutral, Quota::Shrink, SameTarget::Never, OtherTarget::OtherQuotaDomain),
        Class::ModelNotReady => row(Breaker::Rate, Quota::None, SameTarget::AfterBackoff, OtherTarget::Yes),
        // It fails wherever it is sent.
        Class::Invalid => row(Breaker::Neutral, Quota::None, SameTarget::Never, OtherTarget::Never),
        Class::ContextTooLong => row(Breaker::Neutral, Quota::None, SameTarget::Never, OtherTarget::Never),
        Class::Misconfigured => row(Breaker::Neutral, Quota::None, SameTarget::Never, OtherTarget::WithAlarm),
        // Another region may take what this one does not (a session token of the global endpoint, for one).
        Class::Credentials => row(Breaker::Neutral, Quota::None, SameTarget::AfterRefresh, OtherTarget::WithAlarm),
        // A long prompt is slow on a healthy target too. A dead one shows in the rate, and in its connections.
        Class::FirstTokenTimeout => row(Breaker::Rate, Quota::None, SameTarget::Never, OtherTarget::IfDeadline),
        Class::IdleTimeout => row(Breaker::Rate, Quota::None, SameTarget::Never, OtherTarget::IfDeadline),
        Class::TotalTimeout => row(Breaker::Rate, Quota::None, SameTarget::Never, OtherTarget::IfDeadline),
        // Shorter than our own timers: says nothing of the target, and a caller could otherwise close it for all.
        Class::CallerDeadline => row(Breaker::Neutral, Quota::None, SameTarget::Never, OtherTarget::Never),
        // Sent, so it may be paid for: elsewhere, rather than twice here.
        Class::Broken => row(Breaker::Both, Quota::None, SameTarget::Never, OtherTarget::Yes),
        Class::Protocol => row(Breaker::Both, Quota::None, SameTarget::Never, OtherTarget::Yes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error table of the reliability research, row by row, in its own short words, for a reader to hold beside
    /// it: class, breaker, quota, same target, other target.
    const TABLE: &str = "
        connect              both     -             once_at_once   yes
        internal             both     -             after_backoff  yes
        unavailable          both     soft_overload never          yes
        model_timeout        rate     -             never          if_deadline
        model_error          rate     -             never          if_deadline
        model_refused        neutral  -             never          never
        throttled            neutral  shrink        after_hold_off other_quota_domain
        quota_exceeded       neutral  shrink        never          other_quota_domain
        model_not_ready      rate     -             after_backoff  yes
        invalid              neutral  -             never          never
        context_too_long     neutral  -             never          never
        misconfigured        neutral  -             never          with_alarm
        credentials          neutral  -             after_refresh  with_alarm
        first_token_timeout  rate     -             never          if_deadline
        idle_timeout         rate     -             never          if_deadline
        total_timeout        rate     -             never          if_deadline
        caller_deadline      neutral  -             never          never
        broken               both     -             never          yes
        protocol             both     -             never          yes
    ";

    fn words(class: Class, consequence: Consequence) -> String {
        let breaker = match consequence.breaker {
            Breaker::Neutral => "neutral",
            Breaker::Rate => "rate",
            Breaker::Both => "both",
        };
        let quota = match consequence.quota {
            Quota::None => "-",
            Quota::SoftOverload => "soft_overload",
            Quota::Shrink => "shrink",
        };
        let same = match consequence.same_target {
            SameTarget::Never => "never",
            SameTarget::OnceAtOnce => "once_at_once",
            SameTarget::AfterBackoff => "after_backoff",
            SameTarget::AfterHoldOff => "after_hold_off",
            SameTarget::AfterRefresh => "after_refresh",
        };
        let other = match consequence.other_target {
            OtherTarget::Never => "never",
            OtherTarget::Yes => "yes",
            OtherTarget::IfDeadline => "if_deadline",
            OtherTarget::OtherQuotaDomain => "other_quota_domain",
            OtherTarget::WithAlarm => "with_alarm",
        };
        format!("{} {breaker} {quota} {same} {other}", class.as_str())
    }

    #[test]
    fn before_content_every_class_means_what_the_table_says() {
        let expected: Vec<String> = TABLE
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|line| !line.is_empty())
            .collect();
        let actual: Vec<String> =
            Class::ALL.into_iter().map(|class| words(class, consequence(class, Phase::BeforeContent))).collect();
        assert_eq!(actual, expected);
    }

    #[test]
    fn after_content_nothing_is_tried_again_and_no_failure_counts_as_one_in_a_row() {
        for class in Class::ALL {
            let (before, after) = (consequence(class, Phase::BeforeContent), consequence(class, Phase::AfterContent));
            assert_eq!(after.same_target, SameTarget::Never, "{class:?}");
            assert_eq!(after.other_target, OtherTarget::Never, "{class:?}");
            assert_ne!(after.breaker, Breaker::Both, "{class:?}");
            assert_eq!(after.breaker == Breaker::Neutral, before.breaker == Breaker::Neutral, "{class:?}");
            assert_eq!(after.quota, before.quota, "{class:?}");
        }
    }

    #[test]
    fn throttling_never_moves_a_breaker_and_a_callers_fault_moves_nothing() {
        for class in Class::ALL {
            let consequence = consequence(class, Phase::BeforeContent);
            if consequence.quota == Quota::Shrink {
                assert_eq!(consequence.breaker, Breaker::Neutral, "{class:?}");
            }
            if consequence.other_target == OtherTarget::Never {
                assert_eq!((consequence.breaker, consequence.quota), (Breaker::Neutral, Quota::None), "{class:?}");
            }
        }
    }
}
