//! Escalations: questions to a human, bound to a digest, answered once, refused when stale.

use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::guardrail::Guardrail;
use crate::model::id::{Actor, EscalationId, IssueKey, RunId};
use crate::model::permission::{Grant, PermissionRequest};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// Why a human is asked. The order is the inbox's: the most severe last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EscalationKind {
    /// An agent asks something.
    Question,
    /// An agent asks leave.
    Permission,
    /// Nothing was pushed and the run can't go on.
    NeedsHuman,
    /// An agent tried what is never allowed, and was refused.
    Guardrail,
    /// A limit on spend was reached, or is near.
    OverBudget,
    /// Nothing is heard of an agent, or an operator interrupted it.
    Stalled,
    /// The way to the hypervisor was not proved for too long.
    DrillDue,
    /// Runs fail for one cause: pickup is paused.
    Breaker,
    /// An agent that looked at a wedged VM would use a verb.
    Proposal,
    /// Pushed, broken, and the attempts are spent.
    Frozen,
}

impl EscalationKind {
    /// As it is written everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::Permission => "permission",
            Self::NeedsHuman => "needs-human",
            Self::Guardrail => "guardrail",
            Self::OverBudget => "over-budget",
            Self::Stalled => "stalled",
            Self::DrillDue => "drill-due",
            Self::Breaker => "breaker",
            Self::Proposal => "proposal",
            Self::Frozen => "frozen",
        }
    }

    /// An agent waits for the answer; when its turn is over nobody does.
    #[must_use]
    pub const fn agent_waits(self) -> bool {
        matches!(self, Self::Question | Self::Permission)
    }

    /// What `approve` does, said before it is pressed.
    #[must_use]
    pub const fn approve_means(self) -> Option<&'static str> {
        match self {
            Self::Permission => Some("let the agent do exactly this, once"),
            Self::Question => None,
            Self::Frozen => Some("release the repository's lock: you take over on master"),
            Self::Guardrail => Some("acknowledge: it was refused, and the run goes on"),
            Self::DrillDue => Some("run the drill now: status, then forensics"),
            Self::Proposal => Some("acknowledge: nothing is run; the verb is yours to press"),
            Self::Breaker => Some("resume pickup now, before a run shows that it works again"),
            Self::NeedsHuman | Self::OverBudget | Self::Stalled => {
                Some("acknowledge: you take over; the worktree is kept")
            }
        }
    }

    /// What `deny` does.
    #[must_use]
    pub const fn deny_means(self) -> Option<&'static str> {
        match self {
            Self::Permission => Some("refuse, with a reason that the agent reads"),
            Self::Question => Some("decline to answer; the agent decides alone"),
            _ => None,
        }
    }

    /// What a typed answer does.
    #[must_use]
    pub const fn text_means(self) -> Option<&'static str> {
        match self {
            Self::Permission
            | Self::Guardrail
            | Self::Breaker
            | Self::DrillDue
            | Self::Proposal => None,
            Self::Question => Some("answer the agent"),
            _ => Some("send the run on, with what you type as guidance"),
        }
    }
}

/// What a human answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// Yes.
    Approve,
    /// Yes, and to the same again for the rest of the run.
    ApproveRun,
    /// Yes, to another command than the one that was asked for.
    Edit {
        /// Which the agent runs instead.
        command: Untrusted,
    },
    /// No.
    Deny {
        /// Read by the agent.
        reason: Untrusted,
    },
    /// In words.
    Text {
        /// Read by the agent.
        text: Untrusted,
    },
}

/// Who or what answered an agent. Written as one string: a rule's name, or a person's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum DecidedBy {
    /// The repository's policy in `.afk.toml`.
    Policy,
    /// What an operator granted for the rest of the run.
    Grant,
    /// A guardrail, which no policy and no operator can loosen.
    Guardrail,
    /// The rule that a job of the service has no human to ask.
    Service,
    /// afk itself: nobody answered in time.
    Afk,
    /// An operator, by name.
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

    /// Whether a person gave the answer, and not a rule of afk's.
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
    /// One line for the record.
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

    /// Whether this kind of escalation takes this kind of answer.
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

/// Where an escalation stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum EscalationState {
    /// Waits for a human.
    Open,
    /// Answered; the first answer counts.
    Answered {
        /// What.
        answer: Answer,
        /// By whom.
        by: Actor,
        /// When.
        at: Timestamp,
    },
    /// Nobody answered in time.
    Expired {
        /// When.
        at: Timestamp,
    },
    /// The world changed: nobody waits for an answer any more.
    Withdrawn {
        /// When.
        at: Timestamp,
        /// How.
        why: String,
    },
}

/// What a human is to be asked, before it has a number.
#[derive(Debug, Clone)]
pub struct EscalationDraft {
    /// Why.
    pub kind: EscalationKind,
    /// In a line.
    pub title: Untrusted,
    /// In full.
    pub detail: Untrusted,
    /// Answers offered.
    pub options: Vec<Untrusted>,
    /// What the agent calls its request.
    pub request_id: Option<String>,
    /// The permission that the agent requests.
    pub permission: Option<Box<PermissionRequest>>,
    /// Which guardrail refused it.
    pub guardrail: Option<Guardrail>,
}

impl EscalationDraft {
    /// One that no agent waits for.
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

/// One question to a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// Its number.
    pub id: EscalationId,
    /// About which run; none where it is about none.
    pub run: Option<RunId>,
    /// About which issue.
    pub issue: Option<IssueKey>,
    /// Why.
    pub kind: EscalationKind,
    /// In a line.
    pub title: Untrusted,
    /// In full: the command, the diff, the end of the log.
    pub detail: Untrusted,
    /// Answers offered.
    pub options: Vec<Untrusted>,
    /// What the agent calls its request.
    #[serde(rename = "request")]
    pub request_id: Option<String>,
    /// The permission that the agent requests, or that a guardrail refused.
    #[serde(default, rename = "ask")]
    pub permission: Option<Box<PermissionRequest>>,
    /// Which guardrail refused it.
    #[serde(default)]
    pub guardrail: Option<Guardrail>,
    /// The run's epoch when it was raised.
    pub epoch: u32,
    /// When.
    pub raised: Timestamp,
    /// When nobody need answer any more.
    pub expires: Option<Timestamp>,
    /// What exactly is answered: see [`Escalation::digest_of`].
    pub digest: Digest,
    /// Where it stands.
    pub state: EscalationState,
    /// When an operator was last told of it.
    #[serde(default, rename = "told")]
    pub notified: Timestamp,
    /// How often they were told again.
    #[serde(default)]
    pub reminded: u32,
    /// Who has seen it, and when: they are told no more.
    #[serde(default)]
    pub acknowledged: Option<(Actor, Timestamp)>,
}

impl Escalation {
    /// One that is about no run yet, bound to what it asks.
    #[must_use]
    pub fn raise(id: EscalationId, draft: EscalationDraft, at: Timestamp) -> Self {
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

    /// What it is about, in a word.
    #[must_use]
    pub fn subject(&self) -> String {
        self.run.map_or_else(|| "breakglass".into(), |run| run.to_string())
    }

    /// Binds an answer to everything that the human was shown and to the run's epoch, so that it
    /// can't be used for anything else, or after the run went on.
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

    /// What "for this run" would allow; none where that can't be asked.
    #[must_use]
    pub fn grant(&self) -> Option<Grant> {
        self.permission
            .as_ref()
            .filter(|_| self.kind == EscalationKind::Permission)
            .map(|request| Grant::of(request))
    }

    /// The command that may be edited before it is allowed.
    #[must_use]
    pub fn editable(&self) -> Option<&Untrusted> {
        let request =
            self.permission.as_ref().filter(|_| self.kind == EscalationKind::Permission)?;
        request.targets.first().filter(|_| request.editable)
    }

    /// Waits for a human.
    #[must_use]
    pub const fn open(&self) -> bool {
        matches!(self.state, EscalationState::Open)
    }
}
