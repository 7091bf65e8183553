//! Escalations: questions that afk asks a human. An escalation is bound to a digest of everything
//! the human was shown, takes one answer, and refuses an answer to a stale version.
//!
//! [`crate::step`] raises them, the inbox shows them, and `Command::Answer` closes them.

use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::guardrail::Guardrail;
use crate::model::id::{Actor, EscalationId, IssueKey, RunId};
use crate::model::permission::{Grant, PermissionRequest};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// Why afk asks a human. Ordered by severity, as the inbox sorts: the most severe is last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EscalationKind {
    /// An agent asks a question and waits.
    Question,
    /// An agent requests a permission and waits.
    Permission,
    /// The gate proved a change as far as it can, and a human must approve it before the push.
    Approval,
    /// Completion steps on an issue can't be done, and retries won't help.
    Undelivered,
    /// Somebody who may not arm issues edited the issue of a run that has pushed nothing.
    Edited,
    /// Another repository has the name of one that afk knows.
    Replaced,
    /// The run can't continue, and it has pushed nothing.
    NeedsHuman,
    /// An agent requested something that a guardrail forbids; afk refused.
    Guardrail,
    /// A spending limit is reached or near.
    OverBudget,
    /// An agent is silent, or an operator interrupted it.
    Stalled,
    /// The last good drill of the path to the hypervisor is too old.
    DrillDue,
    /// Several runs failed for the same cause, and pickup is paused.
    Breaker,
    /// A part of the environment has been away for long, and the runs that need it wait.
    Outage,
    /// An agent that diagnosed a wedged VM proposes a verb.
    Proposal,
    /// The push broke something, and all fix-forward attempts are spent.
    Frozen,
}

impl EscalationKind {
    /// The kind's name in records, in the API and on the screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::Permission => "permission",
            Self::Approval => "approval",
            Self::Undelivered => "undelivered",
            Self::Edited => "edited",
            Self::Replaced => "another-repository",
            Self::NeedsHuman => "needs-human",
            Self::Guardrail => "guardrail",
            Self::OverBudget => "over-budget",
            Self::Stalled => "stalled",
            Self::DrillDue => "drill-due",
            Self::Breaker => "breaker",
            Self::Outage => "outage",
            Self::Proposal => "proposal",
            Self::Frozen => "frozen",
        }
    }

    /// Whether an agent waits for the answer, so that the escalation closes when its turn ends.
    #[must_use]
    pub(crate) const fn agent_waits(self) -> bool {
        matches!(self, Self::Question | Self::Permission)
    }

    /// The consequence of `approve`, shown before the operator presses it; none where `approve`
    /// doesn't apply.
    #[must_use]
    pub const fn approve_means(self) -> Option<&'static str> {
        match self {
            Self::Permission => Some("allow exactly this, once"),
            Self::Question => None,
            Self::Approval => Some("push exactly this change, once its tests have passed again"),
            Self::Undelivered => Some("try the steps again"),
            Self::Edited => Some("continue with the text that was armed, without the edit"),
            Self::Replaced => Some("work with the repository that has the name now"),
            Self::Frozen => Some("release the repository's lock: you repair master"),
            Self::Guardrail => Some("acknowledge: afk refused it, and the run continues"),
            Self::DrillDue => Some("run the drill now: status, then forensics"),
            Self::Proposal => Some("acknowledge: afk runs nothing; send the verb yourself"),
            Self::Outage => Some("try again now; afk also tries by itself"),
            Self::Breaker => Some("resume pickup now, before a run has proved that it works"),
            Self::NeedsHuman | Self::OverBudget | Self::Stalled => {
                Some("acknowledge: you take over; the worktree is kept")
            }
        }
    }

    /// The consequence of `deny`; none where `deny` doesn't apply.
    #[must_use]
    pub const fn deny_means(self) -> Option<&'static str> {
        match self {
            Self::Permission => Some("deny, with a reason that the agent reads"),
            Self::Question => Some("decline to answer; the agent decides alone"),
            Self::Undelivered => Some("skip the steps: they are not done"),
            _ => None,
        }
    }

    /// The consequence of a typed answer; none where text doesn't apply.
    #[must_use]
    pub const fn text_means(self) -> Option<&'static str> {
        match self {
            Self::Permission
            | Self::Guardrail
            | Self::Breaker
            | Self::Outage
            | Self::DrillDue
            | Self::Proposal
            | Self::Replaced
            | Self::Undelivered => None,
            Self::Question => Some("answer the agent"),
            _ => Some("reopen the run with your text as guidance"),
        }
    }
}

/// An answer to an escalation, from an operator or from a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// Allows the request once, or acknowledges the escalation.
    Approve,
    /// Allows the same request for the rest of the run.
    ApproveRun,
    /// Allows a different command than the one requested.
    Edit {
        /// The command that the agent runs instead.
        command: Untrusted,
    },
    /// Refuses the request, with an optional reason.
    Deny {
        /// The reason, which the agent reads; may be empty.
        reason: Untrusted,
    },
    /// Answers a question or guides the run in words.
    Text {
        /// The text that the agent reads.
        text: Untrusted,
    },
}

/// The person or the rule that answered an agent. Serialized as one string: the rule's name or the
/// person's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum DecidedBy {
    /// The repository's policy in `.afk.toml`.
    Policy,
    /// A grant that an operator gave for the rest of the run.
    Grant,
    /// A guardrail, which no policy and no operator can loosen.
    Guardrail,
    /// The rule that a job of the service is refused, because it has no human to ask.
    Service,
    /// afk itself, because nobody answered in time.
    Afk,
    /// An operator, identified by name.
    Operator(Actor),
}

impl DecidedBy {
    const RULES: [(&'static str, Self); 5] = [
        ("policy", Self::Policy),
        ("granted for this run", Self::Grant),
        ("guardrail", Self::Guardrail),
        ("service", Self::Service),
        ("afk", Self::Afk),
    ];

    /// The name that records and the screen show.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Operator(actor) => &actor.0,
            rule => {
                Self::RULES.iter().find(|(_, known)| known == rule).map_or("", |(name, _)| name)
            }
        }
    }

    /// Whether a person answered, rather than one of afk's rules.
    #[must_use]
    pub const fn is_person(&self) -> bool {
        matches!(self, Self::Operator(_))
    }
}

impl From<String> for DecidedBy {
    fn from(name: String) -> Self {
        let rule = Self::RULES.into_iter().find(|(known, _)| *known == name);
        rule.map_or_else(|| Self::Operator(Actor(name)), |(_, rule)| rule)
    }
}

impl From<DecidedBy> for String {
    fn from(by: DecidedBy) -> Self {
        by.as_str().to_owned()
    }
}

impl From<Actor> for DecidedBy {
    fn from(actor: Actor) -> Self {
        Self::Operator(actor)
    }
}

impl std::fmt::Display for DecidedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::model::untrusted::clean_line(self.as_str()))
    }
}

impl Answer {
    /// The answer in one line, for records.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Approve => "approved".into(),
            Self::ApproveRun => "approved for this run".into(),
            Self::Edit { command } => format!("changed to: {}", command.clean_line()),
            Self::Deny { reason } if reason.is_empty() => "denied".into(),
            Self::Deny { reason } => format!("denied: {}", reason.clean_line()),
            Self::Text { text } => format!("answered: {}", text.clean_line()),
        }
    }

    /// Whether an escalation of this kind accepts this answer.
    #[must_use]
    pub const fn fits(&self, kind: EscalationKind) -> bool {
        match self {
            Self::Approve => kind.approve_means().is_some(),
            Self::ApproveRun | Self::Edit { .. } => matches!(kind, EscalationKind::Permission),
            Self::Deny { .. } => kind.deny_means().is_some(),
            Self::Text { .. } => kind.text_means().is_some(),
        }
    }
}

/// The state of an escalation; only `Open` accepts an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum EscalationState {
    /// The escalation waits for a human.
    Open,
    /// A human answered; the first answer counts.
    Answered {
        /// The answer that was given.
        answer: Answer,
        /// The operator who answered.
        by: Actor,
        /// The time of the answer.
        at: Timestamp,
    },
    /// Nobody answered before the deadline.
    Expired {
        /// The time of the expiry.
        at: Timestamp,
    },
    /// The situation changed, and no answer is needed any more.
    Withdrawn {
        /// The time of the withdrawal.
        at: Timestamp,
        /// The change that made the answer unnecessary.
        why: String,
    },
}

/// The content of an escalation before the core numbers and binds it.
#[derive(Debug, Clone)]
pub(crate) struct EscalationDraft {
    /// Why afk asks a human.
    pub kind: EscalationKind,
    /// The question in one line.
    pub title: Untrusted,
    /// The whole text that the human reads before answering.
    pub detail: Untrusted,
    /// The answers that the agent offers; empty for none.
    pub options: Vec<Untrusted>,
    /// The agent's identifier for its request, where an agent waits.
    pub request_id: Option<String>,
    /// The permission that the agent requests, or that a guardrail refused.
    pub permission: Option<Box<PermissionRequest>>,
    /// The guardrail that refused it, where one did.
    pub guardrail: Option<Guardrail>,
}

impl EscalationDraft {
    /// A draft that no agent waits for.
    #[must_use]
    pub fn new(
        kind: EscalationKind,
        title: impl Into<Untrusted>,
        detail: impl Into<Untrusted>,
    ) -> Self {
        let (title, detail) = (title.into(), detail.into());
        Self {
            kind,
            title,
            detail,
            options: vec![],
            request_id: None,
            permission: None,
            guardrail: None,
        }
    }
}

/// A question to a human, with its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// The escalation's number in this journal.
    pub id: EscalationId,
    /// The run in question; none for an escalation about the fleet or breakglass.
    pub run: Option<RunId>,
    /// The run's issue, where it has one.
    pub issue: Option<IssueKey>,
    /// Why afk asks a human.
    pub kind: EscalationKind,
    /// The question in one line.
    pub title: Untrusted,
    /// The whole text: the command, the diff, the end of the log.
    pub detail: Untrusted,
    /// The answers that the agent offers; empty for none.
    pub options: Vec<Untrusted>,
    /// The agent's identifier for its request, where an agent waits.
    #[serde(rename = "request")]
    pub request_id: Option<String>,
    /// The permission that the agent requests, or that a guardrail refused.
    #[serde(default, rename = "ask")]
    pub permission: Option<Box<PermissionRequest>>,
    /// The guardrail that refused it, where one did.
    #[serde(default)]
    pub guardrail: Option<Guardrail>,
    /// The run's epoch when it was raised.
    pub epoch: u32,
    /// The time at which afk raised it.
    pub raised: Timestamp,
    /// The time at which an unanswered escalation expires; none for never.
    pub expires: Option<Timestamp>,
    /// The digest that an answer must repeat; see [`Escalation::digest_of`].
    pub digest: Digest,
    /// Whether it is open, answered, expired or withdrawn.
    pub state: EscalationState,
    /// The time of the latest notice or reminder.
    #[serde(default, rename = "told")]
    pub notified: Timestamp,
    /// The number of reminders sent so far.
    #[serde(default)]
    pub reminded: u32,
    /// The operator who acknowledged it and the time; afk then sends no more reminders.
    #[serde(default)]
    pub acknowledged: Option<(Actor, Timestamp)>,
}

impl Escalation {
    /// An open escalation, bound to the content of its draft. The caller fills in the run and binds
    /// it again.
    #[must_use]
    pub(crate) fn raise(id: EscalationId, draft: EscalationDraft, at: Timestamp) -> Self {
        let EscalationDraft { kind, title, detail, options, request_id, permission, guardrail } =
            draft;
        let mut escalation = Self {
            id,
            run: None,
            issue: None,
            kind,
            title,
            detail,
            options,
            request_id,
            permission,
            guardrail,
            epoch: 0,
            raised: at,
            expires: None,
            digest: Digest::ZERO,
            state: EscalationState::Open,
            notified: at,
            reminded: 0,
            acknowledged: None,
        };
        escalation.digest = escalation.digest_of();
        escalation
    }

    /// The run's number; without a run the issue, the trackers, `afk` for an outage, or `breakglass`.
    #[must_use]
    pub fn subject(&self) -> String {
        match (self.run, &self.issue) {
            (Some(run), _) => run.to_string(),
            (None, Some(issue)) => issue.to_string(),
            (None, None) if self.kind == EscalationKind::Replaced => "trackers".into(),
            (None, None) if self.kind == EscalationKind::Outage => "afk".into(),
            (None, None) => "breakglass".into(),
        }
    }

    /// Digests everything that the human was shown together with the run's epoch, so that an answer
    /// can't be replayed for another question or after the run has moved on.
    #[must_use]
    pub fn digest_of(&self) -> Digest {
        let mut parts: Vec<Vec<u8>> = vec![
            self.id.to_string().into_bytes(),
            self.run.map(|run| run.to_string()).unwrap_or_default().into_bytes(),
            self.kind.as_str().into(),
            self.title.as_received().into(),
            self.detail.as_received().into(),
            self.request_id.clone().unwrap_or_default().into_bytes(),
            self.epoch.to_be_bytes().to_vec(),
        ];
        let targets = self.permission.iter().flat_map(|request| &request.targets);
        parts.extend(targets.map(|target| target.as_received().as_bytes().to_vec()));
        parts.extend(self.options.iter().map(|o| o.as_received().as_bytes().to_vec()));
        Digest::of(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// The grant that "approve for this run" would give; none where the escalation is no permission
    /// request.
    #[must_use]
    pub fn grant(&self) -> Option<Grant> {
        self.permission
            .as_ref()
            .filter(|_| self.kind == EscalationKind::Permission)
            .map(|request| if self.run.is_some() { Grant::of(request) } else { Grant::Session })
    }

    /// The command that an operator may edit before allowing it; none where the agent takes no
    /// edits.
    #[must_use]
    pub fn editable(&self) -> Option<&Untrusted> {
        let request =
            self.permission.as_ref().filter(|_| self.kind == EscalationKind::Permission)?;
        request.targets.first().filter(|_| request.editable)
    }

    /// Whether the escalation still waits for a human.
    #[must_use]
    pub const fn open(&self) -> bool {
        matches!(self.state, EscalationState::Open)
    }
}
