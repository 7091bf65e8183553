//! Notices: messages to the operators about ends, questions and breakglass. [`crate::step`] decides
//! that a notice is due and posts it to the outbox; the rules here say which sinks take it, whether
//! quiet hours hold it back, and when a reminder follows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::approval::{Escalation, EscalationKind};
use crate::model::id::EscalationId;
use crate::model::run::Outcome;
use crate::model::time::Timestamp;

/// The kind of a notice, by which a sink's configuration selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// A run is done, cancelled, or a failed job.
    Done,
    /// An agent waits for an answer.
    Asked,
    /// A run, or the whole fleet, can't continue without a human.
    NeedsHuman,
    /// An agent has been silent for long.
    Stalled,
    /// A push broke something, and all attempts are spent.
    Frozen,
    /// A part of the environment is away, and afk waits for it.
    Outage,
    /// An operator used breakglass, or its drill is due.
    Breakglass,
}

impl NoticeKind {
    /// The kind's name in the configuration and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Asked => "asked",
            Self::NeedsHuman => "needs-human",
            Self::Stalled => "stalled",
            Self::Frozen => "frozen",
            Self::Outage => "outage",
            Self::Breakglass => "breakglass",
        }
    }

    /// The severity of a first notice of this kind.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::Done => Severity::Info,
            Self::Asked | Self::NeedsHuman | Self::Stalled | Self::Outage => Severity::Warning,
            Self::Frozen | Self::Breakglass => Severity::Urgent,
        }
    }

    const fn of(kind: EscalationKind) -> Self {
        match kind {
            EscalationKind::Question | EscalationKind::Permission => Self::Asked,
            EscalationKind::Stalled => Self::Stalled,
            EscalationKind::Frozen => Self::Frozen,
            EscalationKind::DrillDue | EscalationKind::Proposal => Self::Breakglass,
            EscalationKind::Outage => Self::Outage,
            EscalationKind::Approval
            | EscalationKind::Undelivered
            | EscalationKind::Replaced
            | EscalationKind::Edited
            | EscalationKind::NeedsHuman
            | EscalationKind::Guardrail
            | EscalationKind::OverBudget
            | EscalationKind::Breaker => Self::NeedsHuman,
        }
    }
}

/// The severity of a notice; only the highest passes quiet hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For information; nobody needs to act.
    Info,
    /// Somebody should look soon.
    Warning,
    /// Somebody should act now.
    Urgent,
}

/// The content of a notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "notice")]
pub enum Notice {
    /// A run reached its end.
    Ended {
        /// The outcome of the run.
        outcome: Outcome,
        /// The message in one line, cleaned for a screen.
        text: String,
        /// The escalation that the end raised, where it raised one.
        #[serde(default)]
        asked: Option<(EscalationId, EscalationKind)>,
    },
    /// afk or an agent asks an operator.
    Asked {
        /// The number of the escalation.
        escalation: EscalationId,
        /// The message in one line, cleaned for a screen.
        text: String,
        /// The escalation's kind; records without one are permission requests.
        #[serde(default = "permission")]
        kind: EscalationKind,
    },
    /// An escalation is still open.
    Reminder {
        /// The number of the escalation.
        escalation: EscalationId,
        /// The message in one line, cleaned for a screen.
        text: String,
        /// The escalation's kind, which decides the severity.
        kind: EscalationKind,
        /// The number of this reminder, from 1.
        times: u32,
    },
    /// A tracker changed something that afk goes on with, such as the name of a repository.
    Tracker {
        /// The text in one line.
        text: String,
    },
    /// A part of the environment is away, and afk waits for it.
    Outage {
        /// The message in one line, cleaned for a screen.
        text: String,
    },
    /// An operator used breakglass.
    Breakglass {
        /// The message in one line, cleaned for a screen.
        text: String,
    },
}

const fn permission() -> EscalationKind {
    EscalationKind::Permission
}

impl Notice {
    /// The kind by which sinks select it.
    #[must_use]
    pub const fn kind(&self) -> NoticeKind {
        match self {
            Self::Ended { asked: Some((_, kind)), .. }
            | Self::Asked { kind, .. }
            | Self::Reminder { kind, .. } => NoticeKind::of(*kind),
            Self::Outage { .. } => NoticeKind::Outage,
            Self::Breakglass { .. } => NoticeKind::Breakglass,
            Self::Tracker { .. } => NoticeKind::NeedsHuman,
            Self::Ended { outcome: Outcome::Frozen, .. } => NoticeKind::Frozen,
            Self::Ended { outcome: Outcome::NeedsHuman, .. } => NoticeKind::NeedsHuman,
            Self::Ended {
                outcome: Outcome::Done | Outcome::Cancelled | Outcome::Failed, ..
            } => NoticeKind::Done,
        }
    }

    /// The severity; a reminder of a warning is urgent.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match (self, self.kind().severity()) {
            (Self::Reminder { .. }, Severity::Warning) => Severity::Urgent,
            (_, severity) => severity,
        }
    }

    /// The message in one line, cleaned for a screen.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Ended { text, .. }
            | Self::Asked { text, .. }
            | Self::Reminder { text, .. }
            | Self::Tracker { text }
            | Self::Outage { text }
            | Self::Breakglass { text } => text,
        }
    }
}

/// The rules for notices. The default has no sink and reminds after half an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notices {
    /// The sinks by name, each with the kinds that it takes; none for every kind.
    pub sinks: BTreeMap<String, Option<BTreeSet<NoticeKind>>>,
    /// The quiet hours, from and to in minutes of the local day, when only urgent notices are sent.
    pub quiet: Option<(u16, u16)>,
    /// The offset of local time from UTC, in minutes.
    pub offset: i32,
    /// The wait before the first reminder of an escalation that nobody acknowledged, in
    /// milliseconds; each further wait doubles. 0 sends none.
    pub remind_ms: i64,
}

impl Default for Notices {
    fn default() -> Self {
        Self { sinks: BTreeMap::new(), quiet: None, offset: 0, remind_ms: 30 * 60_000 }
    }
}

/// The number of times that the wait for a reminder doubles.
const DOUBLINGS: u32 = 5;

impl Notices {
    /// The end of the quiet hours that contain `at`; none outside of them.
    #[must_use]
    pub(crate) fn quiet_until(&self, at: Timestamp) -> Option<Timestamp> {
        let (from, to) = self.quiet.map(|(from, to)| (i64::from(from), i64::from(to)))?;
        let local = at.0.div_euclid(60_000) + i64::from(self.offset);
        let minute = local.rem_euclid(24 * 60);
        let inside =
            if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to };
        let left = (to - minute).rem_euclid(24 * 60);
        inside.then(|| Timestamp((at.0.div_euclid(60_000) + left) * 60_000))
    }

    /// The time of the escalation's next reminder; none once it is answered or acknowledged, and for an
    /// outage, which withdraws its question by itself.
    #[must_use]
    pub fn next_reminder(&self, escalation: &Escalation) -> Option<Timestamp> {
        let waits = escalation.open()
            && escalation.acknowledged.is_none()
            && escalation.kind != EscalationKind::Outage;
        waits.then(|| self.reminder(escalation.notified, escalation.reminded)).flatten()
    }

    fn reminder(&self, notified: Timestamp, reminders: u32) -> Option<Timestamp> {
        (self.remind_ms > 0).then(|| notified.plus(self.remind_ms << reminders.min(DOUBLINGS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_until_gives_the_end_of_the_quiet_hours() {
        let minute = |text: i64| Timestamp(text * 60_000);
        let quiet = Notices { quiet: Some((22 * 60, 7 * 60)), ..Notices::default() };
        assert_eq!(quiet.quiet_until(minute(12 * 60)), None);
        assert_eq!(quiet.quiet_until(minute(23 * 60)), Some(minute(31 * 60)));
        assert_eq!(quiet.quiet_until(minute(3 * 60)), Some(minute(7 * 60)));
        assert_eq!(quiet.quiet_until(minute(7 * 60)), None);
        // Two hours ahead of UTC.
        let ahead = Notices { offset: 120, ..quiet };
        assert_eq!(ahead.quiet_until(minute(21 * 60)), Some(minute(29 * 60)));
        let day = Notices { quiet: Some((60, 120)), ..Notices::default() };
        assert_eq!(day.quiet_until(minute(90)), Some(minute(120)));
        assert_eq!(day.quiet_until(minute(130)), None);
    }

    #[test]
    fn reminder_intervals_double_to_a_bound() {
        let notices = Notices { remind_ms: 10, ..Notices::default() };
        let at = |reminded| notices.reminder(Timestamp(0), reminded).map(|t| t.0);
        assert_eq!((at(0), at(1), at(2), at(9)), (Some(10), Some(20), Some(40), Some(320)));
        let never = Notices { remind_ms: 0, ..Notices::default() };
        assert_eq!(never.reminder(Timestamp(0), 0), None);
    }

    #[test]
    fn reminder_of_a_warning_is_urgent() {
        let (escalation, kind) = (EscalationId(1), EscalationKind::Question);
        let asked = Notice::Asked { escalation, text: "x".into(), kind };
        assert_eq!((asked.kind(), asked.severity()), (NoticeKind::Asked, Severity::Warning));
        let again = Notice::Reminder { escalation, text: "x".into(), kind, times: 1 };
        assert_eq!(again.severity(), Severity::Urgent);
        let asked = Some((escalation, EscalationKind::Stalled));
        let ended = Notice::Ended { outcome: Outcome::NeedsHuman, text: "x".into(), asked };
        assert_eq!(ended.kind(), NoticeKind::Stalled);
    }
}
