//! What happened: the journal's records. The fleet is a fold of them.
//!
//! An event's name and fields are a format on disk: a change needs a schema step in `journal`.

use serde::{Deserialize, Serialize};

use crate::model::agent_event::TurnEnd;
use crate::model::approval::{Answer, DecidedBy, Escalation};
use crate::model::breaker::Cause;
use crate::model::breakglass::BreakglassEvent;
use crate::model::budget::Spend;
use crate::model::capability::Equipment;
use crate::model::command::{CommandEnvelope, Refusal};
use crate::model::id::{Actor, EscalationId, IssueKey, OutboxId, Repo, RunId, Sha};
use crate::model::issue::{Issue, Priority};
use crate::model::ledger::Reason;
use crate::model::outbox::OutboxStep;
use crate::model::permission::{Grant, Permissions};
use crate::model::policy::Policy;
use crate::model::run::{Activity, Outcome, Retry, Work};
use crate::model::stage::{Phase, Stage, Stages};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;
use crate::model::verdict::{Evidence, ProbeSample};

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A runtime began to serve this journal.
    Started,
    /// The rules in force.
    PolicySet {
        /// All of them.
        policy: Box<Policy>,
    },
    /// The operator's kill switch.
    KillSwitch {
        /// On stops pickup.
        on: bool,
        /// Who threw it.
        by: Actor,
    },
    /// The semaphore's permits.
    Capacity {
        /// How many.
        permits: u32,
        /// Who set them.
        by: Actor,
    },
    /// An issue is new or differs from what was known.
    IssueSeen {
        /// As its tracker tells it.
        issue: Box<Issue>,
    },
    /// An issue is in its tracker no more.
    IssueGone {
        /// Which.
        key: IssueKey,
    },
    /// The ledger's reason for an issue changed.
    Considered {
        /// Which.
        key: IssueKey,
        /// To what.
        reason: Reason,
    },
    /// A run was claimed; for an issue this takes the repository's lock.
    Claimed {
        /// Its number.
        run: RunId,
        /// For what.
        work: Work,
        /// How urgent.
        priority: Option<Priority>,
        /// The term of the leader that claimed it.
        #[serde(default, skip_serializing_if = "is_zero")]
        term: u64,
    },
    /// A run got a permit.
    Admitted {
        /// Which.
        run: RunId,
    },
    /// A run began something.
    Began {
        /// Which.
        run: RunId,
        /// What.
        activity: Activity,
    },
    /// A restart found a turn elsewhere that goes on: it is followed, and is no new one.
    Followed {
        /// Of which run.
        run: RunId,
    },
    /// A run came further.
    Reached {
        /// Which.
        run: RunId,
        /// How far.
        phase: Phase,
    },
    /// A run has a worktree.
    WorktreeReady {
        /// Which run.
        run: RunId,
        /// Its folder.
        path: String,
        /// Its branch.
        branch: String,
        /// Where it begins.
        base: Sha,
        /// What it must pass.
        stages: Stages,
        /// What its agent may do without being asked.
        #[serde(default)]
        permissions: Box<Permissions>,
    },
    /// The agent told its conversation's name.
    SessionStarted {
        /// Which run.
        run: RunId,
        /// What resumes it.
        session: String,
    },
    /// The conversation is gone; the next turn begins another.
    SessionLost {
        /// Which run's.
        run: RunId,
    },
    /// Which agent takes a turn up.
    Equipped {
        /// In which run.
        run: RunId,
        /// Which, and what it can do.
        equipment: Box<Equipment>,
    },
    /// Nothing has been heard of an agent for a while.
    Quiet {
        /// In which run.
        run: RunId,
        /// Since when.
        since: Timestamp,
    },
    /// The model is being asked again.
    Retrying {
        /// In which run.
        run: RunId,
        /// How.
        retry: Retry,
    },
    /// The agent is active again after it was quiet or its model was asked again.
    #[serde(rename = "heard")]
    AgentActive {
        /// In which run.
        run: RunId,
    },
    /// An operator allowed something for the rest of a run.
    Granted {
        /// Which run.
        run: RunId,
        /// What.
        grant: Grant,
        /// Who.
        by: Actor,
    },
    /// A rule answered an agent's request, without a human.
    #[serde(rename = "settled")]
    RequestDecided {
        /// The run whose agent made the request.
        run: RunId,
        /// The agent's name for its request.
        request: String,
        /// The answer that the agent got.
        answer: Answer,
        /// The rule that decided.
        by: DecidedBy,
    },
    /// Nothing is picked up until the next start.
    Draining {
        /// Who wants it.
        by: Actor,
    },
    /// Several runs failed for one cause: pickup pauses.
    Tripped {
        /// Which.
        cause: Cause,
    },
    /// Pickup goes on.
    Reset,
    /// An operator is told that the day's soft limit is passed.
    SoftLimit,
    /// Tokens and money went.
    Spent {
        /// In which run.
        run: RunId,
        /// How much since the last.
        spend: Spend,
    },
    /// A turn ended.
    TurnEnded {
        /// In which run.
        run: RunId,
        /// How.
        end: TurnEnd,
    },
    /// The gate opened for a head.
    GateOpened {
        /// Which run.
        run: RunId,
        /// The commit that may be pushed.
        head: Sha,
        /// What was seen on the base.
        red: Evidence,
        /// What was seen on the head.
        green: Evidence,
    },
    /// The gate stayed closed.
    GateClosed {
        /// Which run.
        run: RunId,
        /// Why.
        why: Untrusted,
    },
    /// The remote has the run's head.
    Pushed {
        /// Which run.
        run: RunId,
        /// Which commit.
        head: Sha,
    },
    /// The remote refused, because it has moved on.
    PushRejected {
        /// Which run.
        run: RunId,
        /// What it said.
        why: Untrusted,
    },
    /// The run begins from another commit now.
    Rebased {
        /// Which run.
        run: RunId,
        /// From which.
        base: Sha,
    },
    /// CI, the deploy or the probes decided.
    Judged {
        /// Which run.
        run: RunId,
        /// Which of them.
        stage: Stage,
        /// What.
        link: Evidence,
    },
    /// A fix-forward attempt was granted.
    Attempt {
        /// Which run.
        run: RunId,
        /// Which, from 1.
        number: u32,
        /// After which verdict.
        stage: Stage,
    },
    /// Something could not be carried out.
    Failed {
        /// In which run.
        run: RunId,
        /// Why.
        why: Untrusted,
    },
    /// A run ended.
    Ended {
        /// Which.
        run: RunId,
        /// How.
        outcome: Outcome,
        /// Why.
        why: Untrusted,
    },
    /// A run that had ended without success goes on.
    Reopened {
        /// Which.
        run: RunId,
        /// By whom.
        by: Actor,
        /// With what guidance.
        guidance: Untrusted,
    },
    /// A job that ended long enough ago is known no more.
    Forgotten {
        /// Its run.
        run: RunId,
    },
    /// The lock of a frozen run was released.
    LockReleased {
        /// Which run held it.
        run: RunId,
        /// By whom.
        by: Actor,
    },
    /// The evidence of a freeze was kept.
    CapsuleKept {
        /// Of which run.
        run: RunId,
        /// Where.
        path: String,
    },
    /// A human is asked.
    Escalated {
        /// What.
        escalation: Box<Escalation>,
    },
    /// A human answered.
    Answered {
        /// Which escalation.
        escalation: EscalationId,
        /// What.
        answer: Answer,
        /// Who.
        by: Actor,
    },
    /// Nobody answered in time.
    Expired {
        /// Which escalation.
        escalation: EscalationId,
    },
    /// Nobody waits for an answer any more.
    Withdrawn {
        /// Which escalation.
        escalation: EscalationId,
        /// Why.
        why: String,
    },
    /// A message was sent to an agent.
    Steered {
        /// In which run.
        run: RunId,
        /// What.
        text: Untrusted,
        /// By whom.
        by: Actor,
    },
    /// A completion step is to be done.
    Posted {
        /// Its number.
        entry: OutboxId,
        /// What.
        step: OutboxStep,
        /// Not before this time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Timestamp>,
    },
    /// What is said once is handed over: until an answer comes nobody knows whether it arrived.
    Attempted {
        /// Which entry.
        entry: OutboxId,
    },
    /// A completion step is given up.
    GivenUp {
        /// Which.
        entry: OutboxId,
        /// Why.
        why: String,
    },
    /// An escalation was told again.
    Reminded {
        /// Which.
        escalation: EscalationId,
    },
    /// Somebody has seen an escalation: it is not told again.
    Acknowledged {
        /// Which.
        escalation: EscalationId,
        /// Who.
        by: Actor,
    },
    /// A completion step is done.
    Delivered {
        /// Which.
        entry: OutboxId,
    },
    /// A completion step failed and will be tried again.
    NotDelivered {
        /// Which.
        entry: OutboxId,
        /// Why.
        error: String,
        /// The least that is waited, in milliseconds.
        #[serde(default)]
        wait: i64,
    },
    /// A probe answered.
    Probed {
        /// Of which repository.
        repo: Repo,
        /// What.
        sample: ProbeSample,
    },
    /// Something about breakglass.
    Breakglass {
        /// What.
        what: Box<BreakglassEvent>,
    },
    /// A command was accepted; what it led to follows.
    Accepted {
        /// Which.
        command: Box<CommandEnvelope>,
    },
    /// A command was refused.
    Refused {
        /// Which.
        command: Box<CommandEnvelope>,
        /// Why.
        refusal: Refusal,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants it so.
const fn is_zero(term: &u64) -> bool {
    *term == 0
}
