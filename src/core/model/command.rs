//! The commands that an operator or a client sends to the fleet, and the replies.
//!
//! ```text
//! cockpit, CLI, HTTP, SSH → CommandEnvelope → Input::Command → step
//!                         ← Reply (Accepted or Refusal), once the journal is durable
//! ```

use serde::{Deserialize, Serialize};

use crate::model::approval::{Answer, EscalationState};
use crate::model::breakglass::{BreakglassRefusal, BreakglassRequest, ShellId, VerbId};
use crate::model::digest::Digest;
use crate::model::guardrail::Guardrail;
use crate::model::id::{Actor, EscalationId, IssueKey, OutboxId, Repo, RunId};
use crate::model::issue::Priority;
use crate::model::job::{Job, JobId};
use crate::model::untrusted::Untrusted;

/// The two roles. The core refuses every command of a viewer, whatever the client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May send every command.
    Operator,
    /// May read everything and change nothing.
    Viewer,
}

/// A command with its sender, role and origin, as the journal records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandEnvelope {
    /// The client's number for the command, which the reply carries; unique among those in flight.
    pub id: u64,
    /// The person or program that sent it.
    pub actor: Actor,
    /// The role of the connection that it came through.
    pub role: Role,
    /// The sender's location: `tty`, `cli`, `http`, …
    pub origin: String,
    /// The command that was sent.
    #[serde(rename = "action")]
    pub command: Command,
}

/// A change that an operator requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Command {
    /// Turns the operator's kill switch on or off.
    SetKillSwitch {
        /// Whether the kill switch stops all pickup.
        on: bool,
    },
    /// Sets the number of permits.
    SetCapacity {
        /// The number of runs that may work at once; 0 admits none.
        permits: u32,
    },
    /// Answers an escalation, bound to the version that was shown.
    Answer {
        /// The number of the escalation.
        escalation: EscalationId,
        /// The digest of the version that the operator was shown.
        digest: Digest,
        /// The answer to give.
        answer: Answer,
    },
    /// Acknowledges an escalation, so that afk sends no more reminders of it.
    Acknowledge {
        /// The number of the escalation.
        escalation: EscalationId,
    },
    /// Sends a message to the agent of a running turn.
    Steer {
        /// The run whose agent receives it.
        run: RunId,
        /// The message for the agent.
        text: Untrusted,
    },
    /// Ends the agent's current turn and keeps its conversation.
    Interrupt {
        /// The run whose agent is interrupted.
        run: RunId,
    },
    /// Stops pickup until the next start.
    Drain,
    /// Ends a run for good.
    Cancel {
        /// The run to end.
        run: RunId,
    },
    /// Reopens a run that ended, in the same conversation, with optional guidance.
    Retry {
        /// The run to reopen.
        run: RunId,
        /// The operator's guidance for the agent; may be empty.
        guidance: Untrusted,
    },
    /// Reads CI and deploy of a frozen run again, without a turn, a push or an attempt.
    LookAgain {
        /// The run to look at.
        run: RunId,
    },
    /// Tries a step of the outbox again now.
    RetryStep {
        /// The number of the outbox entry.
        entry: OutboxId,
    },
    /// Drops a step of the outbox, which is then not done.
    SkipStep {
        /// The number of the outbox entry.
        entry: OutboxId,
    },
    /// Replaces the text of a comment that is not delivered yet, and tries it again.
    EditStep {
        /// The number of the outbox entry.
        entry: OutboxId,
        /// The text of the comment.
        text: Untrusted,
    },
    /// Releases the repository lock of a frozen run.
    Release {
        /// The run that holds the lock.
        run: RunId,
    },
    /// Sends a request to breakglass.
    Breakglass {
        /// The request, with its reason or confirmation.
        #[serde(rename = "ask")]
        request: BreakglassRequest,
    },
    /// Queues an ad-hoc prompt as a run without an issue.
    Submit {
        /// The repository to work in.
        repo: Repo,
        /// The prompt for the agent.
        prompt: Untrusted,
        /// The urgency in the queue; none ranks last.
        priority: Option<Priority>,
        /// The job's parameters, where a caller of the service submitted it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<Box<Job>>,
    },
}

impl Command {
    /// The command's name in records.
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
            Self::LookAgain { .. } => "look-again",
            Self::RetryStep { .. } => "retry-step",
            Self::SkipStep { .. } => "skip-step",
            Self::EditStep { .. } => "edit-step",
            Self::Release { .. } => "release",
            Self::Breakglass { request } => request.as_str(),
            Self::Submit { .. } => "submit",
        }
    }
}

/// The reason why a command was refused. A refused command changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "refusal")]
pub enum Refusal {
    /// The sender is a viewer, and viewers are read-only.
    #[error("viewers are read-only")]
    Viewer,
    /// Another afk leads this fleet, so this one accepts no commands.
    #[error("this afk is a read-only follower: {leader}")]
    #[serde(rename = "follows")]
    Follower {
        /// The leader's description, ready to show.
        leader: String,
    },
    /// The fleet has no run with this number.
    #[error("there is no run {run}")]
    NoRun {
        /// The number in the command.
        run: RunId,
    },
    /// The fleet has no escalation with this number.
    #[error("there is no escalation {escalation}")]
    NoEscalation {
        /// The number in the command.
        escalation: EscalationId,
    },
    /// The escalation was answered, has expired or was withdrawn.
    #[error("{escalation} is no longer open: {}", state_line(state))]
    NotOpen {
        /// The escalation in question.
        escalation: EscalationId,
        /// Its state at the time of the answer.
        state: EscalationState,
    },
    /// The digest in the answer belongs to another version.
    #[error("{escalation} has changed since you read it; read it again")]
    Stale {
        /// The escalation in question.
        escalation: EscalationId,
    },
    /// A part of the request is missing, so that nobody could know what an approval allows.
    #[error("{escalation} is too long to be shown as a whole, so it can only be denied")]
    Cut {
        /// The escalation in question.
        escalation: EscalationId,
    },
    /// An escalation of this kind doesn't accept this answer.
    #[error("{kind} escalations don't take this answer")]
    WrongAnswer {
        /// The escalation's kind, as text.
        kind: String,
    },
    /// The run has already ended.
    #[error("{run} has ended")]
    Ended {
        /// The run in question.
        run: RunId,
    },
    /// The run is still live, so it can be neither retried nor released.
    #[error("{run} has not ended")]
    NotEnded {
        /// The run in question.
        run: RunId,
    },
    /// The run is done, so that reopening it needs guidance.
    #[error("{run} is done; add guidance for more work, or arm its issue again")]
    Done {
        /// The run in question.
        run: RunId,
    },
    /// The run is not frozen, so that it has no verdict to read again.
    #[error("{run} is not frozen: there is no verdict of it to read again")]
    NotFrozen {
        /// The run in question.
        run: RunId,
    },
    /// The outbox has no step with this number.
    #[error("the outbox has no step {entry}: it is done, or was dropped")]
    NoStep {
        /// The number in the command.
        entry: OutboxId,
    },
    /// The step is being delivered, so its outcome is not known yet.
    #[error("{entry} is being delivered now; try again in a moment")]
    StepUnderWay {
        /// The step in question.
        entry: OutboxId,
    },
    /// The step is no comment, so it has no text to edit.
    #[error("{entry} is no comment, so it has no text to edit")]
    NoComment {
        /// The step in question.
        entry: OutboxId,
    },
    /// The run holds no repository lock to release.
    #[error("{run} holds no lock")]
    NoLock {
        /// The run in question.
        run: RunId,
    },
    /// No turn is under way in the run.
    #[error("no agent is working in {run}")]
    NoTurn {
        /// The run in question.
        run: RunId,
    },
    /// The run's agent lacks the capability.
    #[error("the agent of {run} can't {what}")]
    #[serde(rename = "can_not")]
    Unsupported {
        /// The run in question.
        run: RunId,
        /// The missing capability, as a verb phrase.
        what: String,
    },
    /// A guardrail forbids it, even to an operator.
    #[error("{}", rule.summary())]
    Guarded {
        /// The guardrail that refused.
        rule: Guardrail,
    },
    /// Another run holds the repository's lock.
    #[error("{holder} holds the repository's lock; end or release it first")]
    Locked {
        /// The run that holds the lock.
        holder: RunId,
    },
    /// The kill switch is on in the configuration, where no command can turn it off.
    #[error("the kill switch is on in the configuration; set `kill_switch = false` there")]
    SetInConfiguration,
    /// The repository is not on the allowlist.
    #[error("{repo} is not on the allowlist")]
    NotAllowed {
        /// The repository in the command.
        repo: Repo,
    },
    /// A job with this identifier exists already.
    #[error("job {job} exists already")]
    JobKnown {
        /// The identifier in the command.
        job: JobId,
    },
    /// The number of waiting runs has reached `max_queue_depth`.
    #[error("the queue is full")]
    QueueFull,
    /// The kill switch stops pickup, so the fleet takes no jobs.
    #[error("the kill switch is on")]
    KillSwitch,
    /// A rule of breakglass refused the request.
    #[error("{reason}")]
    Breakglass {
        /// The rule of breakglass that refused.
        #[serde(rename = "no")]
        reason: BreakglassRefusal,
    },
    /// The command needs a text, and its text is empty.
    #[error("the text is empty")]
    Empty,
    /// The runtime is shutting down and accepts no commands.
    #[error("afk is shutting down")]
    ShuttingDown,
    /// The client has no connection, so it sent nothing.
    #[error("afk is unreachable; nothing was sent")]
    Unreachable,
    /// The connection broke after sending, so the outcome is unknown.
    #[error("the connection was lost before the reply; check whether the command took effect")]
    Unanswered,
}

fn state_line(state: &EscalationState) -> String {
    match state {
        EscalationState::Open => "it is open".into(),
        EscalationState::Answered { answer, by, .. } => {
            format!("{by} answered first: {}", answer.summary())
        }
        EscalationState::Expired { .. } => "it expired".into(),
        EscalationState::Withdrawn { why, .. } => why.clone(),
    }
}

/// The outcome of a command, as its client receives it.
pub type Reply = Result<Accepted, Refusal>;

/// An accepted command. The journal holds it durably before the client receives this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "accepted")]
pub enum Accepted {
    /// The command took effect.
    Ok,
    /// The command queued a run.
    Queued {
        /// The number of the new run.
        run: RunId,
        /// The run's issue, where it has one.
        issue: Option<IssueKey>,
    },
    /// afk is sending a verb to the hypervisor.
    Verb {
        /// The number of the verb's run.
        verb: VerbId,
    },
    /// afk is opening a shell.
    Shell {
        /// The number of the shell, which the client attaches to.
        shell: ShellId,
    },
}
