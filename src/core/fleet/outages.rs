//! The outages that hold: since when, how often afk has tried again, and which runs went on after
//! the latest recovery. `Fleet::apply` changes them; `step::outage` decides.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::id::{EscalationId, Repo, RunId};
use crate::model::outage::OutageReport;
use crate::model::outage::{OutageCause, OutageRules};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// One outage, from its first failure until a run has got past it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// The part of the environment that is away.
    pub cause: OutageCause,
    /// The error of the latest failure.
    pub why: Untrusted,
    /// The time of the first failure.
    pub since: Timestamp,
    /// The number of failed tries.
    pub failures: u32,
    /// The time of the next try.
    pub next_try: Timestamp,
    /// The repositories whose runs met it.
    pub repos: BTreeSet<Repo>,
    /// Whether the operators got the notice.
    pub noticed: bool,
    /// The question to a human, once it was asked. Outages of one kind share one.
    pub question: Option<EscalationId>,
    /// The recovery that no run has confirmed yet.
    pub recovery: Option<Recovery>,
}

/// A successful try, after which the held runs went on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The time of the try.
    pub at: Timestamp,
    /// The runs that went on. The first report of one of them confirms the recovery.
    pub runs: BTreeSet<RunId>,
}

impl Outage {
    /// Whether the outage holds runs back now.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.recovery.is_none()
    }

    /// The end of the time in which a further failure continues the outage; none while it holds.
    #[must_use]
    pub(crate) fn relapse_ends(&self, rules: &OutageRules) -> Option<Timestamp> {
        let recovery = self.recovery.as_ref()?;
        Some(recovery.at.plus(rules.relapse_ms(self.failures)))
    }
}

/// Every outage that is not over, in order of its cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Outages(Vec<Outage>);

impl Outages {
    /// Whether there is none, not even one that has just ended.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every outage, also those whose recovery no run has confirmed.
    pub fn all(&self) -> impl Iterator<Item = &Outage> {
        self.0.iter()
    }

    /// The outages that hold runs back now.
    pub fn holding(&self) -> impl Iterator<Item = &Outage> {
        self.0.iter().filter(|outage| outage.holds())
    }

    /// The outage of a cause.
    #[must_use]
    pub fn of(&self, cause: &OutageCause) -> Option<&Outage> {
        self.0.iter().find(|outage| outage.cause == *cause)
    }

    /// Whether the outage of a cause holds runs back now.
    #[must_use]
    pub fn holds(&self, cause: &OutageCause) -> bool {
        self.of(cause).is_some_and(Outage::holds)
    }

    pub(super) fn of_mut(&mut self, cause: &OutageCause) -> Option<&mut Outage> {
        self.0.iter_mut().find(|outage| outage.cause == *cause)
    }

    /// Begins an outage, or continues it after a further failure.
    pub(super) fn failed(
        &mut self,
        at: Timestamp,
        cause: &OutageCause,
        why: &Untrusted,
        repo: Option<&Repo>,
        next_try: Timestamp,
    ) {
        let place = match self.0.binary_search_by(|outage| outage.cause.cmp(cause)) {
            Ok(place) => place,
            Err(place) => {
                let begun = Outage {
                    cause: cause.clone(),
                    why: Untrusted::default(),
                    since: at,
                    failures: 0,
                    next_try,
                    repos: BTreeSet::new(),
                    noticed: false,
                    question: None,
                    recovery: None,
                };
                self.0.insert(place, begun);
                place
            }
        };
        let outage = &mut self.0[place];
        outage.why.clone_from(why);
        outage.failures += 1;
        outage.next_try = next_try;
        outage.recovery = None;
        outage.repos.extend(repo.cloned());
    }

    pub(super) fn ended(&mut self, cause: &OutageCause) {
        self.0.retain(|outage| outage.cause != *cause);
    }

    /// Applies `change` to every time.
    pub(super) fn times(&mut self, change: &dyn Fn(&mut Timestamp)) {
        for outage in &mut self.0 {
            change(&mut outage.since);
            change(&mut outage.next_try);
            outage.recovery.iter_mut().for_each(|recovery| change(&mut recovery.at));
        }
    }

    pub(super) fn reported(&mut self, report: &OutageReport) {
        for outage in self.0.iter_mut().filter(|outage| report.causes.contains(&outage.cause)) {
            outage.noticed = true;
            outage.question = report.question.or(outage.question);
        }
    }
}
