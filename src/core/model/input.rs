//! The facts and commands that the runtime feeds to [`crate::step::step`], one at a time and each
//! with the time of its arrival. Everything that the core learns comes through here; it asks
//! nobody.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::agent_event::AgentEvent;
use crate::model::breakglass;
use crate::model::command::CommandEnvelope;
use crate::model::gate_report::GateReport;
use crate::model::id::{IssueKey, OutboxId, Repo, RunId, Sha};
use crate::model::issue::{Issue, RepoIdentity};
use crate::model::job::JobCommits;
use crate::model::outage::OutageCause;
use crate::model::outbox::FailedDelivery;
use crate::model::policy::Policy;
use crate::model::untrusted::Untrusted;
use crate::model::verdict::{Fact, ProbeSample, Verdict};
use crate::model::worktree::PreparedWorktree;

/// A fact or a command from outside the core.
#[derive(Debug, Clone)]
pub enum Input {
    /// The clock advanced; sent whenever one of the fleet's deadlines is due.
    Tick,
    /// The runtime started, so no earlier effect is under way any more.
    Started {
        /// The rules in force, from the configuration.
        policy: Box<Policy>,
    },
    /// The runtime started for breakglass only: runs stay as they are, and nothing is picked up.
    BreakglassOnly {
        /// The rules in force, from the configuration.
        policy: Box<Policy>,
    },
    /// The configuration was loaded again, with these rules.
    Policy(Box<Policy>),
    /// The complete list of issues from the trackers. A failed fetch is never sent as an empty
    /// list; it isn't sent at all.
    Issues(Vec<Issue>),
    /// The list without the repositories that could not be read: their known issues stay, and none
    /// of them is started.
    PartialIssues {
        /// The issues of all other repositories.
        issues: Vec<Issue>,
        /// The repositories that could not be read, each with the error.
        unread: BTreeMap<Repo, String>,
    },
    /// An issue was read right before its claim; ok without an issue where the tracker has none. An
    /// error has the tracker asked again.
    IssueRead {
        /// The issue that was read.
        key: IssueKey,
        /// The issue as it is now.
        read: Result<Option<Box<Issue>>, String>,
    },
    /// These repositories have no clone yet. Their runs get a permit only after it, so that a slow
    /// clone holds none.
    Uncloned(BTreeSet<Repo>),
    /// The first clone of a repository ended.
    Cloned {
        /// The repository that was cloned.
        repo: Repo,
        /// How the clone ended.
        end: CloneEnd,
    },
    /// The trackers identified these repositories.
    Identified(BTreeMap<Repo, RepoIdentity>),
    /// A client sent a command.
    Command(CommandEnvelope),
    /// A run's effect reports; ignored when `epoch` is no longer the run's.
    Run {
        /// The run that the report is about.
        run: RunId,
        /// The run's epoch when the effect began.
        epoch: u32,
        /// The report of the effect.
        fact: RunFact,
    },
    /// The runtime reports about a breakglass task.
    Breakglass(breakglass::BreakglassReport),
    /// A repository's probe returned a sample.
    Probe {
        /// The repository whose probe it is.
        repo: Repo,
        /// The probe's result and latency.
        sample: ProbeSample,
    },
    /// The evidence of a freeze is stored in a capsule.
    Capsule {
        /// The run that was frozen.
        run: RunId,
        /// The directory of the capsule.
        path: String,
    },
    /// A part of the environment is away, as a task without a run has found.
    Unavailable {
        /// The part that is away.
        cause: OutageCause,
        /// The repository that needs it, where the task was about one.
        repo: Option<Repo>,
        /// The error with its causes.
        failure: TryFailure,
    },
    /// A try whether an outage is over has ended.
    OutageTried {
        /// The part of the environment.
        cause: OutageCause,
        /// The error, if the outage goes on.
        failure: Option<TryFailure>,
    },
    /// Time passed in which afk could do nothing, since the machine slept, or the clock was set.
    TimeSkipped {
        /// The time in milliseconds; negative where the clock was set back.
        ms: i64,
    },
    /// An outbox entry was not delivered, because another afk claimed its issue first.
    ClaimLost {
        /// The entry, which writes a progress comment.
        entry: OutboxId,
    },
    /// An outbox entry was delivered.
    Delivered {
        /// The number of the entry.
        entry: OutboxId,
    },
    /// An outbox entry can never be delivered.
    GivenUp {
        /// The number of the entry.
        entry: OutboxId,
        /// The reason for giving up.
        why: String,
    },
    /// The delivery of an outbox entry failed.
    NotDelivered(FailedDelivery),
}

/// How the first clone of a repository ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneEnd {
    /// The repository has its clone now.
    Done,
    /// It failed. A run gets its permit all the same, and its own task reports the error.
    Failed,
    /// It was given up, since its run is gone or the repository has another address now. The next run
    /// begins it again.
    Abandoned,
}

/// Why a part of the environment could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TryFailure {
    /// The error with its causes.
    pub why: Untrusted,
    /// The shortest wait before the next try, in milliseconds, where the service demands one;
    /// otherwise 0.
    pub wait_ms: i64,
}

/// The report of a run's effect.
#[derive(Debug, Clone)]
pub enum RunFact {
    /// The run's worktree is ready.
    WorktreeReady(PreparedWorktree),
    /// The remote could not be fetched from; a job works on the last commit that was.
    BaseStale {
        /// The error of the fetch, and the commit.
        why: Untrusted,
    },
    /// The commits of a job are taken in; none if it made none.
    Collected {
        /// The commits, and where they are.
        commits: Option<Box<JobCommits>>,
    },
    /// The base proves nothing: its tests are red without any change, or they can't run. No turn
    /// is worth its money.
    BaseUnfit {
        /// The state of the base, with the end of the log.
        why: Untrusted,
    },
    /// The setup of the run's workspace failed, so that no turn may begin.
    SetupFailed {
        /// The reason in one line.
        why: Untrusted,
        /// The last lines of its log; empty if nothing ran.
        log: Untrusted,
    },
    /// The agent emitted an event that concerns the core.
    Agent(AgentEvent),
    /// The gate saw the new tests fail on the base; the head is next.
    RedSeen {
        /// The base commit that was tested.
        base: Sha,
    },
    /// The gate finished both of its sides.
    Gated(Box<GateReport>),
    /// The remote has this head, by this push or by an earlier one.
    Pushed {
        /// The commit that the remote has.
        head: Sha,
    },
    /// The remote's branch has a commit of this run that afk did not push.
    GateBypassed {
        /// The newest such commit.
        sha: Sha,
    },
    /// The agent ran a command in its shell. Where the policy or a guardrail refuses such a command, it
    /// ran unasked.
    CommandRan {
        /// The command, as the agent names it.
        command: Untrusted,
    },
    /// The remote rejected the push, because its branch has moved on.
    PushRejected {
        /// The message from the remote.
        why: Untrusted,
    },
    /// The run's commits were rebased onto the new base.
    Rebased {
        /// The commit that they begin from now.
        base: Sha,
    },
    /// The rebase stopped at a conflict.
    Conflict {
        /// The message from git.
        why: Untrusted,
    },
    /// A stage after the push reached a verdict.
    Judged {
        /// The commit that was judged.
        sha: Sha,
        /// The verdict of the stage.
        verdict: Verdict,
        /// The verdict's reason in one line.
        detail: Untrusted,
        /// The last lines of the failing log; empty without a failure.
        log: Untrusted,
        /// The facts that the verdict rests on.
        facts: Vec<Fact>,
    },
    /// The remote refuses the push for good, so that a retry would not help.
    PushRefused {
        /// The message from the remote.
        why: Untrusted,
    },
    /// The commits of the run can't be pushed, and only a human can decide what to do: somebody
    /// rewrote the branch, or they contain work of others.
    NeedsHuman {
        /// The reason in a few words.
        line: String,
        /// The commits, and what the human can do.
        detail: Untrusted,
    },
    /// The effect could not be carried out because a part of the environment is away. The run is
    /// not at fault, and waits.
    Unavailable {
        /// The part that is away.
        cause: OutageCause,
        /// The error with its causes.
        failure: TryFailure,
    },
    /// The effect could not be carried out.
    Failed {
        /// The cause, and how to fix it.
        why: Untrusted,
    },
}

impl RunFact {
    /// Applies `change` to every text in the report that came from outside, so that secrets can be
    /// redacted before the journal stores it.
    pub fn texts(&mut self, change: &mut dyn FnMut(&mut Untrusted)) {
        match self {
            Self::Agent(event) => event.texts(change),
            Self::Gated(report) => report.texts(change),
            Self::PushRejected { why }
            | Self::Conflict { why }
            | Self::PushRefused { why }
            | Self::BaseUnfit { why }
            | Self::BaseStale { why }
            | Self::NeedsHuman { detail: why, .. }
            | Self::Failed { why } => change(why),
            Self::Unavailable { failure, .. } => change(&mut failure.why),
            Self::SetupFailed { why, log } => {
                change(why);
                change(log);
            }
            Self::Judged { detail, log, facts, .. } => {
                change(detail);
                change(log);
                for fact in facts {
                    change(&mut fact.value);
                    fact.link.iter_mut().for_each(&mut *change);
                }
            }
            Self::CommandRan { command } => change(command),
            Self::Collected { commits } => {
                let problem = commits.iter_mut().filter_map(|commits| commits.problem.as_mut());
                problem.for_each(change);
            }
            Self::WorktreeReady(_)
            | Self::RedSeen { .. }
            | Self::GateBypassed { .. }
            | Self::Pushed { .. }
            | Self::Rebased { .. } => {}
        }
    }
}
