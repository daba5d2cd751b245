//! An earlier revision is assigned again.

use std::{sync::Arc, time::SystemTime};

use switchtower_policy::items;
use switchtower_proto::policy::v1;

use super::{
    MAX_ATTEMPTS, Readers, Refused, Revision, Revisions, RolledBack, RollingBack, blocking, compared, decide,
    head::Head, legible, named, understood,
};
use crate::{
    layout,
    store::{Outcome, Version},
};

/// How many revisions are looked through at a time: more than can be remembered as rolled back, so mostly one page.
const PAGE: usize = 101;

/// Where a rollback starts and where it goes.
struct Goal {
    /// The head as it is, at its version.
    head: Head,
    version: Version,
    /// The revision to go back to: whole, and understood by all connected nodes.
    target: Revision,
    items: Arc<[v1::Item]>,
}

impl Revisions {
    /// Assigns an earlier revision. `random` tells its event from others of the same moment.
    ///
    /// Two who go back at the same time go back once: who does not say where to, or from where, is told that the head
    /// moved.
    ///
    /// # Errors
    /// See [`Refused`].
    #[tracing::instrument(name = "rollback", skip_all, fields(environment = rolling.environment, number))]
    pub async fn rollback(
        &self,
        mut rolling: RollingBack,
        readers: &dyn Readers,
        now: SystemTime,
        random: u32,
    ) -> Result<RolledBack, Refused> {
        for _ in 0..MAX_ATTEMPTS {
            let Goal { head, version, target, items } = self.goal(&rolling, readers).await?;
            if rolling.to == 0 {
                rolling.from.get_or_insert(head.assignment.revision);
            }
            let (next, event) = decide::roll_back(&head, &target, &rolling, now)?;
            let key = layout::head(&rolling.environment);
            let transaction = compared(key.clone(), Some(version)).put(key, next.encode());
            let transaction = event.kept_in(transaction, random);
            if let Outcome::Committed(_) = self.store.commit(transaction).await? {
                tracing::Span::current().record("number", target.record.number);
                return Ok(RolledBack {
                    revision: target,
                    items,
                    assignment: next.assignment.number,
                    from: head.assignment.revision,
                    head: next,
                    event: Some(event),
                });
            }
        }
        Err(Refused::Contended)
    }

    /// What a rollback would do, and does nothing.
    ///
    /// # Errors
    /// As [`Revisions::rollback`].
    pub async fn preview_rollback(&self, rolling: RollingBack, readers: &dyn Readers) -> Result<RolledBack, Refused> {
        let Goal { head, target, items, .. } = self.goal(&rolling, readers).await?;
        // The time that it is decided with is not shown.
        let (next, _) = decide::roll_back(&head, &target, &rolling, SystemTime::UNIX_EPOCH)?;
        Ok(RolledBack {
            revision: target,
            items,
            assignment: 0,
            from: head.assignment.revision,
            head: next,
            event: None,
        })
    }

    async fn goal(&self, rolling: &RollingBack, readers: &dyn Readers) -> Result<Goal, Refused> {
        let environment = &rolling.environment;
        named(environment)?;
        legible(&rolling.author, &rolling.message)?;
        let missing = || Refused::NoRevision { environment: environment.clone(), number: 0 };
        let (head, version) = self.head_at(environment).await?.ok_or_else(missing)?;
        if let Some(from) = rolling.from {
            decide::unmoved(Some(&head), from)?;
        }
        let target = match rolling.to {
            0 => self.before(environment, &head).await?,
            to if to == head.assignment.revision => {
                return Err(Refused::NothingToRollBack(format!("revision {to} is assigned already")));
            }
            to => self.get(environment, to).await?,
        };
        let items: Arc<[v1::Item]> = self.content_of(&target).await?.into();
        let content = items.clone();
        let used = blocking(move || items::used(&content)).await?;
        // It is the way out of trouble, and what it leads to was assigned before: no node can veto it.
        if let Err(refused) = understood(readers, environment, &used) {
            tracing::warn!(environment, revision = target.record.number, %refused, "nodes do not understand all of it");
        }
        Ok(Goal { head, version, target, items })
    }

    /// The revision before the assigned one. Not simply the one that was assigned before: after a rollback that is the one
    /// that was bad, and whoever goes back twice would have it again.
    async fn before(&self, environment: &str, head: &Head) -> Result<Revision, Refused> {
        let assignment = &head.assignment;
        let good = |revision: &Revision| {
            let digest = revision.record.content_digest.as_slice();
            digest != assignment.content_digest && !head.was_rolled_back(digest)
        };
        if (1..assignment.revision).contains(&assignment.previous_revision) {
            let previous = self.get(environment, assignment.previous_revision).await?;
            if good(&previous) {
                return Ok(previous);
            }
        }
        let mut below = assignment.revision;
        while below > 1 {
            let page = self.list(environment, below, PAGE).await?;
            below = page.revisions.last().map_or(1, |revision| revision.record.number);
            if let Some(revision) = page.revisions.into_iter().find(good) {
                return Ok(revision);
            }
        }
        let message = "there is no earlier revision that was not rolled back itself: say which one to go back to";
        Err(Refused::NothingToRollBack(message.to_owned()))
    }
}
