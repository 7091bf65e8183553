//! The circuit breaker's state: recent failures by cause, and whether pickup is paused.
//! `Fleet::apply` notes the end of each turn; `step::breaker` trips and resets it by events.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::agent_event::TurnEnd;
use crate::model::breaker::{Cause, RUNS, WINDOW};
use crate::model::id::RunId;
use crate::model::time::Timestamp;

/// How many recent failures stay remembered.
const REMEMBERED: usize = 64;

/// Recent failures, and the cause for which pickup is paused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Breaker {
    recent: VecDeque<(Timestamp, RunId, Cause)>,
    open: Option<(Cause, Timestamp)>,
}

impl Breaker {
    /// The cause for which pickup is paused, and since when.
    #[must_use]
    pub const fn open(&self) -> Option<&(Cause, Timestamp)> {
        self.open.as_ref()
    }

    /// Notes the end of a turn and forgets failures older than the window.
    pub fn note(&mut self, at: Timestamp, run: RunId, end: &TurnEnd) {
        let Some(cause) = Cause::of(end) else { return };
        self.recent.push_back((at, run, cause));
        while self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.retain(|(then, ..)| at.since(*then) <= WINDOW);
    }

    /// The runs that failed for `cause` within the window.
    #[must_use]
    pub fn runs(&self, cause: &Cause) -> BTreeSet<RunId> {
        self.recent.iter().filter(|(.., known)| known == cause).map(|(_, run, _)| *run).collect()
    }

    /// Whether enough runs share `cause` to open the closed breaker.
    #[must_use]
    pub fn trips(&self, cause: &Cause) -> bool {
        self.open.is_none() && self.runs(cause).len() >= RUNS
    }

    /// Opens the breaker, which pauses pickup.
    pub fn trip(&mut self, at: Timestamp, cause: Cause) {
        self.open = Some((cause, at));
    }

    /// Applies `back` to every time, because the clock was set back.
    pub(super) fn set_back(&mut self, back: &dyn Fn(&mut Timestamp)) {
        self.recent.iter_mut().for_each(|(at, ..)| back(at));
        self.open.iter_mut().for_each(|(_, at)| back(at));
    }

    /// Closes the breaker and forgets every failure.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_runs_with_one_cause_trip_the_breaker_and_one_run_alone_does_not() {
        let api = |status| TurnEnd::ApiError { status: Some(status), why: "x".into() };
        let mut breaker = Breaker::default();
        let cause = Cause::of(&api(529)).unwrap();
        for at in 0..5 {
            breaker.note(Timestamp(at), RunId(1), &api(529));
        }
        breaker.note(Timestamp(6), RunId(2), &api(529));
        breaker.note(Timestamp(7), RunId(3), &api(500));
        assert!(!breaker.trips(&cause));
        breaker.note(Timestamp(8), RunId(3), &api(529));
        assert!(breaker.trips(&cause));
        breaker.trip(Timestamp(8), cause.clone());
        assert!(!breaker.trips(&cause) && breaker.open().is_some());
        breaker.reset();
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn breaker_forgets_failures_outside_the_window() {
        let mut breaker = Breaker::default();
        for run in 1..=3 {
            breaker.note(
                Timestamp(i64::try_from(run).unwrap() * WINDOW),
                RunId(run),
                &TurnEnd::Silent,
            );
        }
        assert!(!breaker.trips(&Cause::of(&TurnEnd::Silent).unwrap()));
    }

    #[test]
    fn cause_leaves_out_paths_and_numbers() {
        let crashed = |why: &str| Cause::of(&TurnEnd::Crashed { why: why.into() });
        assert_eq!(crashed("code 1 at /w/wt-1/x pid 77"), crashed("code 2 at /w/wt-2/x pid 78"));
        assert_ne!(crashed("no space"), crashed("no memory"));
        assert_eq!(Cause::of(&TurnEnd::Done), None);
    }
}
