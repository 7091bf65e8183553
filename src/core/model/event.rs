//! The journal's records. [`crate::fleet::Fleet::apply`] alone folds them into the fleet.
//!
//! The serialized names and fields are a format on disk: a change needs a schema step in `journal`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::activity::Activity;
use crate::model::agent_event::{ContextUse, TurnEnd};
use crate::model::approval::{Answer, DecidedBy, Escalation};
use crate::model::breaker::Cause;
use crate::model::breakglass::BreakglassEvent;
use crate::model::budget::Spend;
use crate::model::capability::Equipment;
use crate::model::command::{CommandEnvelope, Refusal};
use crate::model::digest::Digest;
use crate::model::id::{Actor, EscalationId, IssueKey, OutboxId, Repo, RunId, Sha};
use crate::model::issue::{Issue, Priority, RepoIdentity};
use crate::model::job::JobCommits;
use crate::model::ledger::Reason;
use crate::model::outage::{OutageCause, OutageReport};
use crate::model::outbox::{FailedDelivery, OutboxStep};
use crate::model::permission::Grant;
use crate::model::policy::Policy;
use crate::model::run::{Outcome, Retry, Work};
use crate::model::stage::{Phase, Stage};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;
use crate::model::verdict::{Evidence, ProbeSample};
use crate::model::worktree::PreparedWorktree;

/// A recorded change of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A runtime began to serve this journal.
    Started,
    /// The configuration changed the rules in force.
    PolicySet {
        /// The complete rules, not a difference.
        policy: Box<Policy>,
    },
    /// An operator turned the kill switch on or off.
    KillSwitch {
        /// Whether the kill switch stops pickup.
        on: bool,
        /// The operator who turned it.
        by: Actor,
    },
    /// An operator set the number of permits.
    Capacity {
        /// The number of runs that may work at once.
        permits: u32,
        /// The operator who set it.
        by: Actor,
    },
    /// An issue is new, or differs from its last version.
    IssueSeen {
        /// The issue as its tracker reports it.
        issue: Box<Issue>,
    },
    /// An issue has disappeared from its tracker.
    IssueGone {
        /// The issue that disappeared.
        key: IssueKey,
    },
    /// The ledger's reason for an issue changed.
    Considered {
        /// The issue in question.
        key: IssueKey,
        /// The reason that holds now.
        reason: Reason,
    },
    /// A run was claimed; for an issue, this takes the repository's lock.
    Claimed {
        /// The number of the new run.
        run: RunId,
        /// The issue or prompt that it works on.
        work: Work,
        /// The urgency of the issue or prompt.
        priority: Option<Priority>,
        /// The term of the leader that claimed it; 0 without a leader election.
        #[serde(default, skip_serializing_if = "is_zero")]
        term: u64,
    },
    /// A run works on this version of its issue from now on: the one that the fleet knows, and that
    /// was judged to be armed.
    Briefed {
        /// The run in question.
        run: RunId,
        /// The digest of the version.
        digest: Digest,
    },
    /// Somebody who may not arm issues edited the run's issue, or somebody edited it after the
    /// push. The run keeps the version that it has.
    EditDeclined {
        /// The run in question.
        run: RunId,
        /// The digest of the version that it does not work on.
        digest: Digest,
    },
    /// The push of a run waits, because its tracker does not name the editor of the issue's text.
    EditUnjudged {
        /// The run in question.
        run: RunId,
        /// The digest of the edited version.
        digest: Digest,
    },
    /// The tracker no longer asks for the work of a live run.
    IssueWithdrawn {
        /// The run in question.
        run: RunId,
        /// The change in the tracker, in one line.
        why: String,
    },
    /// An operator reopened a run although its issue is closed or not armed.
    Detached {
        /// The run in question.
        run: RunId,
    },
    /// A run received a permit.
    Admitted {
        /// The run that received it.
        run: RunId,
    },
    /// A run began an activity.
    Began {
        /// The run in question.
        run: RunId,
        /// The activity that began.
        activity: Activity,
    },
    /// After a restart, afk found a remote turn still running, and follows it instead of beginning
    /// another.
    Followed {
        /// The run whose turn it is.
        run: RunId,
    },
    /// A run reached a phase.
    Reached {
        /// The run in question.
        run: RunId,
        /// The phase that it reached.
        phase: Phase,
    },
    /// A run has its worktree.
    WorktreeReady {
        /// The run that uses it.
        run: RunId,
        /// The worktree and what its repository asks for.
        #[serde(flatten)]
        worktree: PreparedWorktree,
    },
    /// The agent reported its conversation's identifier.
    SessionStarted {
        /// The run whose agent reported it.
        run: RunId,
        /// The identifier with which a later turn resumes the conversation.
        session: String,
    },
    /// The conversation no longer exists; the next turn begins another one.
    SessionLost {
        /// The run that lost it.
        run: RunId,
    },
    /// The conversation outgrew the model's context; the next turn begins another one.
    ContextOverflowed {
        /// The run whose conversation it was.
        run: RunId,
    },
    /// Another agent takes the run's turns, in a conversation of its own.
    FellBack {
        /// The run in question.
        run: RunId,
        /// The name of the agent in the configuration.
        agent: String,
        /// The outage because of which the one before can't.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<OutageCause>,
    },
    /// The configured agent takes the run's turns again, in a conversation of its own.
    AgentRestored {
        /// The run in question.
        run: RunId,
    },
    /// The agent ran a refused command without asking.
    RanUnasked {
        /// The run in question.
        run: RunId,
        /// The command, as the agent names it.
        command: Untrusted,
    },
    /// An agent reported how much of the model's context its conversation fills.
    ContextUsed {
        /// The run whose agent reported it.
        run: RunId,
        /// The tokens in use, and the size of the context.
        context: ContextUse,
    },
    /// An agent takes a run's turn.
    Equipped {
        /// The run in question.
        run: RunId,
        /// The agent and its capabilities.
        equipment: Box<Equipment>,
    },
    /// An agent has emitted nothing for a while.
    Quiet {
        /// The run whose agent is silent.
        run: RunId,
        /// The time of its last event.
        since: Timestamp,
    },
    /// An agent's tool has been running for a while.
    ToolRunning {
        /// The run whose agent uses it.
        run: RunId,
        /// The command or the path that the tool works on.
        title: Untrusted,
        /// The time of its start.
        since: Timestamp,
    },
    /// The model failed, and the agent will ask it again.
    Retrying {
        /// The run whose agent retries.
        run: RunId,
        /// The attempt's number and time.
        retry: Retry,
    },
    /// The agent is active again after it was quiet or its model was asked again.
    #[serde(rename = "heard")]
    AgentActive {
        /// The run whose agent is active.
        run: RunId,
    },
    /// An operator granted a permission for the rest of a run.
    Granted {
        /// The run that received it.
        run: RunId,
        /// The permission that was granted.
        grant: Grant,
        /// The operator who granted it.
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
    /// An operator stopped pickup until the next start.
    Draining {
        /// The operator who requested it.
        by: Actor,
    },
    /// Several runs failed for the same cause: the breaker opened, and pickup is paused.
    Tripped {
        /// The cause that they share.
        cause: Cause,
    },
    /// The breaker closed, and pickup continues.
    Reset,
    /// A part of the environment is away, or a further try failed.
    Unavailable {
        /// The part that is away.
        cause: OutageCause,
        /// The error with its causes.
        why: Untrusted,
        /// The repository that met it, where the task was about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repo: Option<Repo>,
        /// The time of the next try.
        next: Timestamp,
    },
    /// A run met an outage and waits in its activity.
    Held {
        /// The run that waits.
        run: RunId,
        /// The part of the environment that is away.
        cause: OutageCause,
        /// What it does afterwards; none repeats what could not begin.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then: Option<Box<Activity>>,
    },
    /// A run that an outage holds for long returned its permit, and waits for another one.
    PermitReturned {
        /// The run in question.
        run: RunId,
    },
    /// A try succeeded: the runs that an outage held go on.
    Resumed {
        /// The part of the environment that is back.
        cause: OutageCause,
        /// The runs that go on.
        runs: BTreeSet<RunId>,
    },
    /// An outage is over.
    OutageEnded {
        /// The part of the environment that is back.
        cause: OutageCause,
    },
    /// afk notified the operators of outages, or asked a human about them.
    OutageReported(OutageReport),
    /// Time passed in which afk could do nothing, since the machine slept or afk did not run, or the
    /// clock was set back.
    TimeSkipped {
        /// The time in milliseconds; negative where the clock was set back.
        ms: i64,
    },
    /// afk notified the operators that the day's soft limit is passed.
    SoftLimit,
    /// A run spent tokens and money.
    Spent {
        /// The run that spent them.
        run: RunId,
        /// The amount since the previous record of the run.
        spend: Spend,
    },
    /// An agent's turn ended.
    TurnEnded {
        /// The run whose turn it was.
        run: RunId,
        /// The end, as the agent or afk reports it.
        end: TurnEnd,
    },
    /// The gate opened for a head.
    GateOpened {
        /// The run in question.
        run: RunId,
        /// The only commit that may be pushed.
        head: Sha,
        /// The evidence that the new tests fail on the base.
        red: Evidence,
        /// The evidence that they pass on the head.
        green: Evidence,
    },
    /// The gate stayed closed, and the agent gets another turn.
    GateClosed {
        /// The run in question.
        run: RunId,
        /// The explanation that the agent reads.
        why: Untrusted,
        /// The places in its commits that must not be pushed, each in one line.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        leaks: Vec<Untrusted>,
    },
    /// The gate can't decide on a change alone: a human must approve it before the push.
    ApprovalNeeded {
        /// The run in question.
        run: RunId,
        /// The digest of the concerns and of the difference that they are about.
        digest: Digest,
    },
    /// An operator approved such a change.
    ChangeApproved {
        /// The run in question.
        run: RunId,
        /// The digest of the concerns and the difference that the operator saw.
        digest: Digest,
        /// The operator who approved it.
        by: Actor,
    },
    /// The remote was read back and has the run's head.
    Pushed {
        /// The run in question.
        run: RunId,
        /// The commit that the remote has.
        head: Sha,
    },
    /// The remote rejected a push, because its branch has moved on.
    PushRejected {
        /// The run in question.
        run: RunId,
        /// The message from the remote.
        why: Untrusted,
    },
    /// A job works on a base that may be older than the remote's branch.
    BaseStale {
        /// The run in question.
        run: RunId,
        /// The error of the fetch, and the commit.
        why: Untrusted,
    },
    /// The commits of a job were taken in.
    Collected {
        /// The run in question.
        run: RunId,
        /// The commits, and where they are.
        commits: Box<JobCommits>,
    },
    /// The run's commits were rebased.
    Rebased {
        /// The run in question.
        run: RunId,
        /// The commit that they begin from now.
        base: Sha,
    },
    /// A stage after the push reached a verdict.
    Judged {
        /// The run in question.
        run: RunId,
        /// The stage that judged.
        stage: Stage,
        /// The verdict with its evidence.
        link: Evidence,
    },
    /// A run was granted a fix-forward attempt.
    Attempt {
        /// The run in question.
        run: RunId,
        /// The attempt's number, from 1.
        number: u32,
        /// The stage whose red verdict needs fixing.
        stage: Stage,
    },
    /// An activity of a run failed.
    Failed {
        /// The run in question.
        run: RunId,
        /// The cause, and how to fix it.
        why: Untrusted,
    },
    /// A run reached its end.
    Ended {
        /// The run that ended.
        run: RunId,
        /// The outcome of the run.
        outcome: Outcome,
        /// The reason for the outcome.
        why: Untrusted,
    },
    /// An operator reopened a run that had ended.
    Reopened {
        /// The run that goes on.
        run: RunId,
        /// The operator who reopened it.
        by: Actor,
        /// The guidance for the agent; may be empty.
        guidance: Untrusted,
    },
    /// An operator has afk read CI and deploy of a frozen run again.
    LookedAgain {
        /// The run in question.
        run: RunId,
        /// The operator who asked for it.
        by: Actor,
    },
    /// A job's time to live is over, and the fleet dropped it.
    Forgotten {
        /// The run of the job.
        run: RunId,
    },
    /// An operator released the lock of a frozen run.
    LockReleased {
        /// The run that held it.
        run: RunId,
        /// The operator who released it.
        by: Actor,
    },
    /// The evidence of a freeze was stored in a capsule.
    CapsuleKept {
        /// The run that was frozen.
        run: RunId,
        /// The directory of the capsule.
        path: String,
    },
    /// afk asks a human.
    Escalated {
        /// The question with its digest and deadline.
        escalation: Box<Escalation>,
    },
    /// A human answered an escalation.
    Answered {
        /// The escalation that was answered.
        escalation: EscalationId,
        /// The answer that was given.
        answer: Answer,
        /// The operator who answered.
        by: Actor,
    },
    /// An escalation reached its deadline without an answer.
    Expired {
        /// The escalation that expired.
        escalation: EscalationId,
    },
    /// An escalation was closed, because no answer is needed any more.
    Withdrawn {
        /// The escalation that was closed.
        escalation: EscalationId,
        /// The change that made the answer unnecessary.
        why: String,
    },
    /// An operator sent a message to an agent.
    Steered {
        /// The run whose agent receives it.
        run: RunId,
        /// The message for the agent.
        text: Untrusted,
        /// The operator who sent it.
        by: Actor,
    },
    /// A completion step entered the outbox.
    Posted {
        /// The number of the outbox entry.
        entry: OutboxId,
        /// The step to carry out.
        step: OutboxStep,
        /// The earliest time of delivery; none for at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Timestamp>,
    },
    /// A step that must not be repeated was handed to its adapter. Until a report arrives, its
    /// delivery is unknown.
    Attempted {
        /// The number of the outbox entry.
        entry: OutboxId,
    },
    /// A completion step on a tracker can't be done: retries won't help, and an operator decides.
    DeliveryHeld {
        /// The number of the outbox entry.
        entry: OutboxId,
        /// The reason with its causes.
        why: String,
    },
    /// An operator asked for another delivery of a completion step.
    DeliveryRetried {
        /// The number of the outbox entry.
        entry: OutboxId,
        /// The operator who asked for it.
        by: Actor,
    },
    /// An operator replaced the text of a comment that is not delivered yet.
    DeliveryEdited {
        /// The number of the outbox entry.
        entry: OutboxId,
        /// The text of the comment.
        text: String,
        /// The operator who wrote it.
        by: Actor,
    },
    /// afk gave up a completion step.
    GivenUp {
        /// The number of the outbox entry.
        entry: OutboxId,
        /// The reason for giving up.
        why: String,
    },
    /// afk reminded the operators of an escalation.
    Reminded {
        /// The escalation in question.
        escalation: EscalationId,
    },
    /// An operator acknowledged an escalation, which ends its reminders.
    Acknowledged {
        /// The escalation in question.
        escalation: EscalationId,
        /// The operator who acknowledged it.
        by: Actor,
    },
    /// A completion step was delivered.
    Delivered {
        /// The number of the outbox entry.
        entry: OutboxId,
    },
    /// A completion step failed, and afk will retry it.
    NotDelivered(FailedDelivery),
    /// A repository of a tracker was identified, or has another name now.
    RepositoryIdentified {
        /// The repository as the configuration names it.
        repo: Repo,
        /// Its identity in the tracker.
        identity: RepoIdentity,
    },
    /// Another repository has the name of a known one, and afk asks about it.
    RepositoryReplaced {
        /// The number of the question.
        escalation: EscalationId,
        /// The repository as the configuration names it.
        repo: Repo,
        /// The identity of the repository that has the name now.
        identity: RepoIdentity,
    },
    /// A probe returned a sample.
    Probed {
        /// The repository whose probe it is.
        repo: Repo,
        /// The probe's result and latency.
        sample: ProbeSample,
    },
    /// Breakglass changed its state.
    Breakglass {
        /// The recorded change of breakglass.
        what: Box<BreakglassEvent>,
    },
    /// A command was accepted; the events that it caused follow.
    Accepted {
        /// The command with its sender.
        command: Box<CommandEnvelope>,
    },
    /// A command was refused and changed nothing.
    Refused {
        /// The command with its sender.
        command: Box<CommandEnvelope>,
        /// The rule that refused it.
        refusal: Refusal,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(term: &u64) -> bool {
    *term == 0
}
