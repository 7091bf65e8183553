//! Outages: faults of the environment that hold back every task which depends on the same thing. A
//! remote, a service, a login or a limit of this machine is one cause, however many runs it stops.
//! The runtime reports a cause from a typed error, [`crate::fleet::outages`] keeps it, and
//! [`crate::step`] holds the runs, tries again and asks a human at most once.
//!
//! The [breaker](crate::model::breaker) is for causes that only a count of failed turns can reveal;
//! an outage is known from its first error.

use serde::{Deserialize, Serialize};

use crate::model::id::EscalationId;
use crate::model::time::{MINUTE, Timestamp};

/// The time after which the runs that an outage holds return their permits, in milliseconds.
pub(crate) const PERMIT_MS: i64 = MINUTE;
/// The first pause before afk tries again, in milliseconds.
const FIRST_PAUSE: i64 = 2_000;
/// The shortest time after a recovery in which a further failure continues the same outage, in
/// milliseconds.
const RELAPSE: i64 = MINUTE;

/// The time after which a human is asked about a login or a right that only a human can mend, in
/// milliseconds.
const LOGIN_ASK: i64 = 2 * MINUTE;

/// The part of the environment that is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutageKind {
    /// A git remote; the subject is its host, or the path of a local one.
    Remote,
    /// The API of a code forge, which is the tracker and the source of CI's checks.
    Forge,
    /// The server of a CI.
    Ci,
    /// The API of a Kubernetes cluster.
    Cluster,
    /// The rights of afk's account in a Kubernetes cluster; the subject is the context.
    ClusterLogin,
    /// The store of afk's secrets; the subject is its address.
    Secrets,
    /// The place where the turns of a repository run; the subject is its name in the configuration.
    Executor,
    /// A login that a service doesn't accept at present.
    Credential,
    /// A disk with too little free space.
    Disk,
    /// The limit of file descriptors.
    Descriptors,
    /// The limit of processes or of memory for another one.
    Processes,
    /// The usage limit of an agent's plan; the subject is the agent.
    UsageLimit,
    /// The login of an agent at its model; the subject is the agent.
    AgentLogin,
}

impl OutageKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Remote,
        Self::Forge,
        Self::Ci,
        Self::Cluster,
        Self::ClusterLogin,
        Self::Secrets,
        Self::Executor,
        Self::Credential,
        Self::Disk,
        Self::Descriptors,
        Self::Processes,
        Self::UsageLimit,
        Self::AgentLogin,
    ];

    /// The kind's name in records and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Forge => "forge",
            Self::Ci => "ci",
            Self::Cluster => "cluster",
            Self::ClusterLogin => "cluster-login",
            Self::Secrets => "secrets",
            Self::Executor => "executor",
            Self::Credential => "credential",
            Self::Disk => "disk",
            Self::Descriptors => "descriptors",
            Self::Processes => "processes",
            Self::UsageLimit => "usage-limit",
            Self::AgentLogin => "agent-login",
        }
    }

    /// Whether it is about the model of an agent, which only a turn shows.
    #[must_use]
    pub const fn is_of_agent(self) -> bool {
        matches!(self, Self::UsageLimit | Self::AgentLogin)
    }

    /// Whether it is a limit of this machine, which every run needs.
    #[must_use]
    pub const fn is_of_machine(self) -> bool {
        matches!(self, Self::Disk | Self::Descriptors | Self::Processes)
    }
}

/// One fault of the environment. Equal causes are equal values, whichever task met them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutageCause {
    /// The part that is away.
    pub kind: OutageKind,
    /// Its name without credentials: a host, an origin, a path, a context.
    pub subject: String,
}

impl OutageCause {
    /// The cause of a kind with its subject.
    #[must_use]
    pub fn new(kind: OutageKind, subject: impl Into<String>) -> Self {
        Self { kind, subject: subject.into() }
    }

    /// Whether one question to a human is about both: they are of one kind, or they are the API and the
    /// git of one forge.
    #[must_use]
    pub(crate) fn shares_question(&self, other: &Self) -> bool {
        let of_forge = |api: &Self, git: &Self| {
            (api.kind, git.kind) == (OutageKind::Forge, OutageKind::Remote)
                && api.subject.ends_with(&git.subject)
        };
        self.kind == other.kind || of_forge(self, other) || of_forge(other, self)
    }

    /// The cause in one line, cleaned for a screen.
    #[must_use]
    pub fn summary(&self) -> String {
        let subject = crate::model::untrusted::clean_line(&self.subject);
        match self.kind {
            OutageKind::Remote => format!("the remote {subject} can't be reached"),
            OutageKind::Forge => format!("{subject} doesn't answer as it should"),
            OutageKind::Ci => format!("CI at {subject} can't be read"),
            OutageKind::Cluster => format!("the cluster {subject} can't be read"),
            OutageKind::ClusterLogin => {
                format!("the cluster {subject} doesn't let afk see its rollouts")
            }
            OutageKind::Secrets => format!("Vault at {subject} gives no secrets"),
            OutageKind::Executor => format!("the executor {subject} can't be reached"),
            OutageKind::Credential => format!("{subject} doesn't accept the login"),
            OutageKind::Disk => format!("the disk of {subject} has too little free space"),
            OutageKind::Descriptors => "afk is short of file descriptors".into(),
            OutageKind::Processes => "this machine can't start another process".into(),
            OutageKind::UsageLimit => format!("{subject} has reached its usage limit"),
            OutageKind::AgentLogin => format!("the model of {subject} doesn't accept its login"),
        }
    }
}

/// The rules for outages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageRules {
    /// The time after which a human is asked about an outage, once, in milliseconds.
    pub ask_ms: i64,
    /// The longest pause between two tries, in milliseconds.
    pub longest_pause_ms: i64,
}

impl Default for OutageRules {
    fn default() -> Self {
        Self { ask_ms: 30 * MINUTE, longest_pause_ms: 5 * MINUTE }
    }
}

impl OutageRules {
    /// Whether the rules are the default ones, which records leave out.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The time after which a human is asked about an outage of a kind, in milliseconds; none for a
    /// kind that ends at a known time. A login needs a human mostly, and a few tries show it.
    #[must_use]
    pub(crate) fn ask_ms_of(&self, kind: OutageKind) -> Option<i64> {
        match kind {
            OutageKind::UsageLimit => None,
            OutageKind::AgentLogin | OutageKind::ClusterLogin => Some(self.ask_ms.min(LOGIN_ASK)),
            _ => Some(self.ask_ms),
        }
    }

    /// The time after which an outage sends a notice, in milliseconds: shorter ones are nobody's
    /// concern.
    #[must_use]
    pub(crate) fn notice_ms(&self) -> i64 {
        MINUTE.min(self.ask_ms)
    }

    /// The pause before the next try after so many failures, in milliseconds: it doubles to the
    /// bound. A part that follows from the time keeps several afks from trying together.
    #[must_use]
    pub(crate) fn pause_ms(&self, failures: u32, at: Timestamp) -> i64 {
        let doubled = FIRST_PAUSE << failures.saturating_sub(1).min(16);
        let pause = doubled.min(self.longest_pause_ms).max(1);
        // Odd, so that the times of a minute's grid differ too.
        pause + at.0.wrapping_mul(7919).rem_euclid(pause / 4 + 1)
    }

    /// The time after a recovery in which a further failure continues the outage, in milliseconds.
    #[must_use]
    pub(crate) fn relapse_ms(&self, failures: u32) -> i64 {
        RELAPSE.max(2 * self.pause_ms(failures, Timestamp(0)))
    }
}

/// The outages that afk has told its operators of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageReport {
    /// The parts that are away.
    pub causes: Vec<OutageCause>,
    /// The question that is about all of them; none for a notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<EscalationId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_with_a_part_that_differs() {
        let rules = OutageRules { longest_pause_ms: 60_000, ..OutageRules::default() };
        let mut last = 0;
        for failures in 1..40 {
            let pause = rules.pause_ms(failures, Timestamp(0));
            assert!(pause >= last && pause <= 75_000, "{failures}: {pause}");
            last = pause;
        }
        assert_eq!(rules.pause_ms(1, Timestamp(0)), FIRST_PAUSE);
        let differs: std::collections::BTreeSet<i64> =
            (0..20).map(|at| rules.pause_ms(9, Timestamp(at * 1000))).collect();
        assert!(differs.len() > 10, "{differs:?}");
    }
}
