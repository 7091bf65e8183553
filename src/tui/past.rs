//! The past that a cockpit shows in place of the present, and the steps in it. `app` keeps it, and
//! describes it where it takes the place of the panes (`app/time_travel.rs`).

use std::sync::Arc;

use super::action::Action;
use super::component::Pane;
use super::past_keys;
use super::subject::Subject;
use crate::core::model::command::Role;
use crate::core::model::time::Timestamp;
use crate::journal::history::{History, Landmark, Moment};
use crate::runtime::Snapshot;

/// An hour in milliseconds.
const HOUR: i64 = 60 * 60_000;

/// The past that is shown, and the present that is put aside.
pub(crate) struct Past {
    pub(crate) history: Arc<History>,
    pub(crate) snapshot: Arc<Snapshot>,
    /// The time of the shown record.
    pub(crate) at: Timestamp,
    /// The moment that was asked for last.
    pub(crate) wanted: Moment,
    /// A fold is under way; at most one at a time.
    pub(crate) is_folding: bool,
    /// The panes of the present.
    pub(crate) panes: Vec<Box<dyn Pane>>,
    pub(crate) subject: Option<Subject>,
    /// The role of this client. In the past it is a viewer, so that panes offer nothing that acts.
    pub(crate) role: Role,
}

impl Past {
    /// The number of the shown record.
    pub(crate) fn seq(&self) -> i64 {
        self.snapshot.seq
    }

    /// The landmark at the shown record or the last one before it.
    pub(crate) fn landmark(&self) -> Option<&Landmark> {
        let landmarks = &self.history.landmarks;
        let after = landmarks.partition_point(|landmark| landmark.seq <= self.seq());
        landmarks.get(after.checked_sub(1)?)
    }

    /// The moment that a step leads to; none at the end of the journal in its direction.
    pub(crate) fn step(&self, action: Action) -> Option<Moment> {
        let seq = match self.wanted {
            Moment::Record(seq) => seq,
            Moment::Time(_) => self.seq(),
        };
        let landmarks = &self.history.landmarks;
        let (first, last) = (self.history.first.0, self.history.last.0);
        let to = match action {
            past_keys::FORWARD => seq + 1,
            past_keys::BACKWARD => seq - 1,
            past_keys::NEXT_MARK => {
                landmarks.get(landmarks.partition_point(|mark| mark.seq <= seq))?.seq
            }
            past_keys::PREVIOUS_MARK => {
                let before = landmarks.partition_point(|mark| mark.seq < seq);
                landmarks.get(before.checked_sub(1)?)?.seq
            }
            _ => {
                let hour = if action == past_keys::HOUR_FORWARD { HOUR } else { -HOUR };
                let from = match self.wanted {
                    Moment::Record(_) => self.at,
                    Moment::Time(at) => at,
                };
                let (begin, end) = (self.history.first.1, self.history.last.1);
                let to = from.plus(hour).clamp(begin.min(end), end);
                return (to != from).then_some(Moment::Time(to));
            }
        };
        (to != seq && (first..=last).contains(&to)).then_some(Moment::Record(to))
    }
}
