//! What an operator may ask of the fleet, and how it is answered.

use serde::{Deserialize, Serialize};

use crate::model::approval::{Answer, EscalationState};
use crate::model::breakglass::{BreakglassRefusal, BreakglassRequest, ShellId, VerbId};
use crate::model::digest::Digest;
use crate::model::guardrail::Guardrail;
use crate::model::id::{Actor, EscalationId, IssueKey, Repo, RunId};
use crate::model::issue::Priority;
use crate::model::job::{Job, JobId};
use crate::model::untrusted::Untrusted;

/// The two roles. A viewer can change nothing; the core refuses, whatever a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May act.
    Operator,
    /// May look.
    Viewer,
}

/// A command with who sent it and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandEnvelope {
    /// Pairs the reply with the command; unique among those in flight.
    pub id: u64,
    /// Who.
    pub actor: Actor,
    /// As what.
    pub role: Role,
    /// From where: `tty`, `cli`, …
    pub origin: String,
    /// What the operator wants.
    #[serde(rename = "action")]
    pub command: Command,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Command {
    /// Throws or lifts the operator's kill switch.
    SetKillSwitch {
        /// On stops all pickup.
        on: bool,
    },
    /// Sets the semaphore's permits.
    SetCapacity {
        /// From 0.
        permits: u32,
    },
    /// Answers an escalation, exactly as it was shown.
    Answer {
        /// Which.
        escalation: EscalationId,
        /// Of what was shown.
        digest: Digest,
        /// How.
        answer: Answer,
    },
    /// Says that somebody has seen an escalation and will see to it: it is not told again.
    Acknowledge {
        /// Which.
        escalation: EscalationId,
    },
    /// Sends a message to a live agent.
    Steer {
        /// In which run.
        run: RunId,
        /// What.
        text: Untrusted,
    },
    /// Ends a live agent's turn and keeps its conversation.
    Interrupt {
        /// In which run.
        run: RunId,
    },
    /// Picks nothing up until the next start.
    Drain,
    /// Stops a run for good.
    Cancel {
        /// Which.
        run: RunId,
    },
    /// Sends a run that ended on, in the same conversation, with guidance if there is any.
    Retry {
        /// Which.
        run: RunId,
        /// What the agent is told.
        guidance: Untrusted,
    },
    /// Releases the lock that a frozen run keeps.
    Release {
        /// Which.
        run: RunId,
    },
    /// Asks something of breakglass.
    Breakglass {
        /// The request, with its reason or confirmation.
        #[serde(rename = "ask")]
        request: BreakglassRequest,
    },
    /// Queues an ad-hoc prompt.
    Submit {
        /// Where.
        repo: Repo,
        /// What.
        prompt: Untrusted,
        /// How urgent.
        priority: Option<Priority>,
        /// What a caller of the service asked for beside it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<Box<Job>>,
    },
}

impl Command {
    /// Its name in the record.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::SetKillSwitch { .. } => "kill-switch",
            Self::SetCapacity { .. } => "capacity",
            Self::Answer { .. } => "answer",
            Self::Acknowledge { .. } => "acknowledge",
            Self::Steer { .. } => "steer",
            Self::Interrupt { .. } => "interrupt",
            Self::Drain => "drain",
            Self::Cancel { .. } => "cancel",
            Self::Retry { .. } => "retry",
            Self::Release { .. } => "release",
            Self::Breakglass { request } => request.as_str(),
            Self::Submit { .. } => "submit",
        }
    }
}

/// Why a command was refused; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "refusal")]
pub enum Refusal {
    /// A viewer.
    #[error("a viewer can look and not act")]
    Viewer,
    /// Another afk leads.
    #[error("this afk follows and changes nothing: {leader}")]
    Follows {
        /// Who, in words.
        leader: String,
    },
    /// No such run.
    #[error("there is no run {run}")]
    NoRun {
        /// Which.
        run: RunId,
    },
    /// No such escalation.
    #[error("there is no escalation {escalation}")]
    NoEscalation {
        /// Which.
        escalation: EscalationId,
    },
    /// Somebody else was first, or time, or the world.
    #[error("{escalation} is no longer open: {}", state_line(state))]
    NotOpen {
        /// Which.
        escalation: EscalationId,
        /// Where it stands.
        state: EscalationState,
    },
    /// The digest isn't that of what is asked.
    #[error("{escalation} is not what you were shown any more; read it again")]
    Stale {
        /// Which.
        escalation: EscalationId,
    },
    /// The answer doesn't go with the question.
    #[error("that is not an answer to a {kind} escalation")]
    WrongAnswer {
        /// Of which kind it is.
        kind: String,
    },
    /// The run ended.
    #[error("{run} has ended")]
    Ended {
        /// Which.
        run: RunId,
    },
    /// The run goes on, so there is nothing to retry or release.
    #[error("{run} has not ended")]
    NotEnded {
        /// Which.
        run: RunId,
    },
    /// A done run.
    #[error("{run} is done; say what is to be done beside, or arm its issue anew")]
    Done {
        /// Which.
        run: RunId,
    },
    /// Not frozen.
    #[error("{run} holds no lock")]
    NoLock {
        /// Which.
        run: RunId,
    },
    /// No agent is at work in it.
    #[error("no agent is at work in {run}")]
    NoTurn {
        /// Which.
        run: RunId,
    },
    /// The agent can't do that.
    #[error("the agent of {run} can't {what}")]
    CanNot {
        /// In which run.
        run: RunId,
        /// What.
        what: String,
    },
    /// Not even an operator can allow it.
    #[error("{}", rule.summary())]
    Guarded {
        /// Which rule.
        rule: Guardrail,
    },
    /// Another run has the repository.
    #[error("{holder} has the repository; end or release it first")]
    Locked {
        /// Which.
        holder: RunId,
    },
    /// The configuration's kill switch is on.
    #[error("the kill switch is on in the configuration; set `kill_switch = false` there")]
    SetInConfiguration,
    /// Not on the allowlist.
    #[error("{repo} is not on the allowlist")]
    NotAllowed {
        /// Which.
        repo: Repo,
    },
    /// There is such a job already.
    #[error("there is a job {job} already")]
    JobKnown {
        /// Which.
        job: JobId,
    },
    /// As many wait as may.
    #[error("the queue is full")]
    QueueFull,
    /// The kill switch is on.
    #[error("the kill switch is on")]
    KillSwitch,
    /// Breakglass refused.
    #[error("{reason}")]
    Breakglass {
        /// The rule of breakglass that refused.
        #[serde(rename = "no")]
        reason: BreakglassRefusal,
    },
    /// Nothing in it.
    #[error("there is no text in it")]
    Empty,
    /// The runtime is ending.
    #[error("afk is shutting down")]
    ShuttingDown,
    /// The connection to it is lost.
    #[error("afk can't be reached; nothing was sent")]
    Unreachable,
    /// The connection was lost before the answer came.
    #[error("the connection was lost before the answer came; look whether it took effect")]
    Unanswered,
}

fn state_line(state: &EscalationState) -> String {
    match state {
        EscalationState::Open => "it is open".into(),
        EscalationState::Answered { answer, by, .. } => {
            format!("{by} was first and {}", answer.summary())
        }
        EscalationState::Expired { .. } => "it expired".into(),
        EscalationState::Withdrawn { why, .. } => why.clone(),
    }
}

/// What a command led to.
pub type Reply = Result<Accepted, Refusal>;

/// An accepted command; durable in the journal before it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "accepted")]
pub enum Accepted {
    /// Done.
    Ok,
    /// A run was queued.
    Queued {
        /// Which.
        run: RunId,
        /// For which issue, if any.
        issue: Option<IssueKey>,
    },
    /// A verb is sent to the hypervisor.
    Verb {
        /// Its number.
        verb: VerbId,
    },
    /// A shell is opened.
    Shell {
        /// Its number.
        shell: ShellId,
    },
}
