//! A run: the work on one issue from dispatch to outcome, or on one ad-hoc prompt. [`crate::fleet`]
//! changes runs by applying events, [`crate::step`] decides those events, and the screen reads the
//! fields.

use serde::{Deserialize, Serialize};

use crate::model::activity::Activity;
use crate::model::agent_event::{ContextUse, TurnEnd};
use crate::model::brief::RunIssue;
use crate::model::budget::{MicroUsd, Spend};
use crate::model::capability::Equipment;
use crate::model::digest::Digest;
use crate::model::fallback::{PreferredAgent, UnaskedCommands};
use crate::model::id::{Actor, IssueKey, Repo, RunId, Sha};
use crate::model::issue::Priority;
use crate::model::job::{Job, JobCommits, JobStatus};
use crate::model::permission::{Grant, Permissions};
use crate::model::stage::{Phase, Stages};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;
use crate::model::verdict::Proof;

/// The issue or prompt that a run works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "work")]
pub enum Work {
    /// An issue, worked on until its deploy is healthy; the run holds the repository's lock.
    Issue {
        /// The repository and the issue's number.
        key: IssueKey,
        /// The issue's title when it was claimed.
        title: Untrusted,
    },
    /// A prompt in a throwaway clone; the run pushes nothing and holds no lock.
    Prompt {
        /// The repository to clone.
        repo: Repo,
        /// The prompt for the agent.
        prompt: Untrusted,
        /// The operator or caller who submitted it.
        by: Actor,
        /// The job's parameters, where a caller of the service submitted it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<Box<Job>>,
    },
}

impl Work {
    /// The repository that the run works in.
    #[must_use]
    pub const fn repo(&self) -> &Repo {
        match self {
            Self::Issue { key, .. } => &key.repo,
            Self::Prompt { repo, .. } => repo,
        }
    }

    /// The issue, where there is one.
    #[must_use]
    pub const fn issue(&self) -> Option<&IssueKey> {
        match self {
            Self::Issue { key, .. } => Some(key),
            Self::Prompt { .. } => None,
        }
    }

    /// The job's parameters, where a caller of the service submitted it.
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Prompt { job, .. } => job.as_deref(),
            Self::Issue { .. } => None,
        }
    }

    /// The issue's title, or the whole prompt.
    #[must_use]
    pub const fn title(&self) -> &Untrusted {
        match self {
            Self::Issue { title, .. } => title,
            Self::Prompt { prompt, .. } => prompt,
        }
    }
}

/// The outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The issue is deployed, healthy and closed, or the prompt was answered.
    Done,
    /// The run can't continue without a human, and it has pushed nothing.
    NeedsHuman,
    /// A push broke something, and all attempts are spent; everything stays as it is, including the
    /// lock.
    Frozen,
    /// An operator ended the run, or its tracker took the issue back before a push.
    Cancelled,
    /// A job failed; its caller reads the failure.
    Failed,
}

impl Outcome {
    /// Whether a run with this outcome gives its worktree back; the others continue in theirs.
    #[must_use]
    pub const fn returns_worktree(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }

    /// The outcome as records and the API spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NeedsHuman => "needs-human",
            Self::Frozen => "frozen",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// A retry of the model, which the agent has announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// The number of the coming attempt, from 1.
    pub attempt: u32,
    /// The time of that attempt.
    pub at: Timestamp,
    /// The HTTP status of the model's API, where the agent reports one.
    pub status: Option<u16>,
}

/// A run with everything that the fleet knows of it. Serialized as one flat object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The run's number in this journal.
    pub id: RunId,
    /// The issue or prompt that it works on.
    pub work: Work,
    /// The issue's urgency when it was claimed.
    pub priority: Option<Priority>,
    /// How far it has come, and the counters that bound its retries.
    #[serde(flatten)]
    pub progress: RunProgress,
    /// The version of its issue that it works on, and what its tracker changed since.
    #[serde(flatten)]
    pub issue: RunIssue,
    /// Its worktree, its branch and the commits that matter.
    #[serde(flatten)]
    pub workspace: RunWorkspace,
    /// Its agent, the conversation with it, and what it may do.
    #[serde(flatten)]
    pub agent: RunAgent,
    /// The tokens and money that it has spent.
    #[serde(flatten)]
    pub spend: RunSpend,
    /// The evidence for each link of its proof chain.
    pub proof: Proof,
}

/// How far a run has come, and the counters that bound its retries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProgress {
    /// The phase that it has reached.
    pub phase: Phase,
    /// The activity that is under way.
    pub activity: Activity,
    /// The number of activities begun; a report with another epoch is stale and ignored.
    pub epoch: u32,
    /// The outcome; none while the run is live.
    pub outcome: Option<Outcome>,
    /// The reason for the outcome, or for the latest failure.
    pub why: Untrusted,
    /// The arming of its issue when it was claimed or reopened, by the tracker's clock. Only a
    /// later arming starts the issue again.
    #[serde(default)]
    pub armed: Option<Timestamp>,
    /// The time at which it was claimed or last reopened.
    pub claimed: Timestamp,
    /// The time of its latest permit; none while it waits.
    pub admitted: Option<Timestamp>,
    /// The time at which it ended.
    pub ended: Option<Timestamp>,
    /// The time at which it first reached each phase.
    pub reached: Vec<(Phase, Timestamp)>,
    /// The time since the push in which nobody could look at CI or a rollout, in milliseconds:
    /// their deadlines don't count it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unseen_ms: i64,
    /// The end of a job's time limit, once an outage has held the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// The number of fix-forward attempts begun.
    pub attempts: u32,
    /// The time of the first red verdict, from which the time for fix-forward counts.
    pub first_red: Option<Timestamp>,
    /// The number of turns that the gate sent back since the last push.
    pub gate_closed: u32,
    /// The places in its commits that the gate found at last and that must not be pushed: secrets,
    /// huge files, links out of the repository. Each is one line without the value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<Untrusted>,
    /// The digest of a change that an operator approved; it holds until that change is pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<Digest>,
    /// The change that waits for an operator's approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_approve: Option<Digest>,
    /// The number of consecutive failures of the current activity, or of turns.
    pub failures: u32,
    /// The number of rejected pushes since the last accepted one.
    pub push_rejections: u32,
    /// The operator's guidance from the latest reopening, which the next turn's prompt includes.
    pub guidance: Option<Untrusted>,
    /// The directory of its capsule, once it is frozen.
    pub capsule: Option<String>,
    /// The time at which an operator had afk look at it again, while afk does so. Until then it gets no
    /// turn: the look ends it as done, or frozen as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks_again: Option<Timestamp>,
}

/// The worktree of a run, its branch, and the commits that matter for its push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunWorkspace {
    /// The path of its worktree.
    pub worktree: Option<String>,
    /// The path of the worktree that it returned when it ended; its conversation can be resumed
    /// only there.
    pub home: Option<String>,
    /// The branch that it commits to.
    pub branch: Option<String>,
    /// The commit that its branch begins from, updated by each rebase.
    pub base: Option<Sha>,
    /// The stages that it must pass after its push.
    pub stages: Stages,
    /// The latest head that the gate opened for, the only one that may be pushed.
    pub gated: Option<Sha>,
    /// The latest head that was read back from the remote.
    pub pushed: Option<Sha>,
    /// The reason why its base may be older than the remote's branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_base: Option<Untrusted>,
    /// The commits of a job that its repository lacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collected: Option<Box<JobCommits>>,
}

/// The agent of a run: its conversation, its health, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAgent {
    /// The agent of its latest turn, with its capabilities.
    pub equipment: Option<Equipment>,
    /// The repository's policy on its agent's permission requests.
    pub permissions: Permissions,
    /// The permissions that an operator granted for the rest of it.
    pub grants: Vec<Grant>,
    /// The time at which a restart found its remote turn still running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<Timestamp>,
    /// The time of its agent's last event, while the agent is silent for long.
    pub quiet: Option<Timestamp>,
    /// The tool that its agent has been running for a while, and the time of its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<(Untrusted, Timestamp)>,
    /// The model's retry that its agent waits for.
    pub retry: Option<Retry>,
    /// The identifier with which the agent resumes its conversation.
    pub session: Option<String>,
    /// The agent that takes its turns in place of the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// The configured agent, while another one takes its turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<PreferredAgent>,
    /// The refused commands that its agents ran without asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unasked: Option<UnaskedCommands>,
    /// How much of the model's context its conversation fills, where the agent reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextUse>,
    /// The number of conversations that outgrew the model's context since its last turn that was done.
    #[serde(default, skip_serializing_if = "is_zero_count")]
    pub overflows: u32,
    /// The number of turns begun.
    pub turns: u32,
    /// The end of its latest turn; none while the turn is under way.
    #[serde(default)]
    pub turn_end: Option<TurnEnd>,
}

/// The tokens and money of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpend {
    /// The tokens and money that it has spent.
    #[serde(rename = "spend")]
    pub total: Spend,
    /// The money that it had spent when an operator last reopened it; its limit counts from there.
    #[serde(rename = "spent_before")]
    pub before: MicroUsd,
    /// The tokens and money of its latest turn.
    #[serde(rename = "turn_spend")]
    pub turn: Spend,
    /// The cost of that conversation so far, for agents that report only the total.
    #[serde(rename = "session_cost")]
    pub session: MicroUsd,
}

impl Run {
    /// A run just after its claim.
    #[must_use]
    pub fn claimed(id: RunId, work: Work, priority: Option<Priority>, at: Timestamp) -> Self {
        Self {
            id,
            work,
            priority,
            progress: RunProgress {
                phase: Phase::Queued,
                activity: Activity::Waiting,
                epoch: 0,
                outcome: None,
                why: Untrusted::default(),
                armed: None,
                claimed: at,
                admitted: None,
                ended: None,
                reached: vec![(Phase::Queued, at)],
                unseen_ms: 0,
                attempts: 0,
                due: None,
                first_red: None,
                gate_closed: 0,
                leaks: Vec::new(),
                approved: None,
                to_approve: None,
                failures: 0,
                push_rejections: 0,
                guidance: None,
                capsule: None,
                looks_again: None,
            },
            issue: RunIssue::default(),
            workspace: RunWorkspace {
                worktree: None,
                home: None,
                branch: None,
                base: None,
                stages: Stages::default(),
                gated: None,
                pushed: None,
                stale_base: None,
                collected: None,
            },
            agent: RunAgent {
                equipment: None,
                permissions: Permissions::default(),
                grants: Vec::new(),
                followed: None,
                quiet: None,
                tool: None,
                retry: None,
                session: None,
                instead: None,
                preferred: None,
                unasked: None,
                context: None,
                overflows: 0,
                turns: 0,
                turn_end: None,
            },
            spend: RunSpend {
                total: Spend::default(),
                before: MicroUsd(0),
                turn: Spend::default(),
                session: MicroUsd(0),
            },
            proof: Proof::default(),
        }
    }

    /// Describes the current activity for the screen. A pending retry, a tool that runs for long and a
    /// long silence come first.
    #[must_use]
    pub fn doing(&self, now: Timestamp) -> String {
        let place = self.agent.equipment.as_ref().and_then(|equipment| equipment.place.as_ref());
        let word = match (place, &self.progress.activity) {
            (Some(place), Activity::Turn { .. }) => {
                format!("{} at {place}", self.progress.activity.as_str())
            }
            (_, Activity::Held { cause, .. }) => format!("waiting: {}", cause.summary()),
            _ => self.progress.activity.as_str().to_owned(),
        };
        let word = match self.progress.looks_again {
            Some(_) => format!("looking again: {word}"),
            None => word,
        };
        let word = match (self.agent.in_place(), &self.progress.activity) {
            (Some((first, instead)), Activity::Turn { .. }) => {
                format!("{word} ({instead} in place of {first})")
            }
            _ => word,
        };
        let word = match &self.agent.unasked {
            Some(unasked) => format!("{word}; {}", unasked.summary()),
            None => word,
        };
        if let Some(retry) = self.agent.retry {
            let status = retry.status.map_or_else(|| "the model failed".into(), |s| s.to_string());
            let seconds = retry.at.since(now).max(0) / 1000;
            format!("{status}: retry {} in {seconds} s", retry.attempt)
        } else if let Some((title, since)) = &self.agent.tool {
            format!("running {} for {} s; {word}", title.clean_line(), now.since(*since) / 1000)
        } else if let Some(since) = self.agent.quiet {
            format!("silent for {} s; {word}", now.since(since) / 1000)
        } else {
            word
        }
    }

    /// The run's spending limit: `limit`, or its job's budget where that is lower.
    #[must_use]
    pub fn limit(&self, limit: Option<MicroUsd>) -> Option<MicroUsd> {
        limit.into_iter().chain(self.work.job().and_then(|job| job.budget)).min()
    }

    /// The money left before afk asks an operator; none for no limit.
    #[must_use]
    pub fn left(&self, limit: Option<MicroUsd>) -> Option<MicroUsd> {
        self.limit(limit).map(|limit| {
            MicroUsd(limit.0.saturating_add(self.spend.before.0) - self.spend.total.usd.0)
        })
    }

    /// Whether the run has not ended.
    #[must_use]
    pub const fn live(&self) -> bool {
        self.progress.outcome.is_none()
    }

    /// The path of its worktree, unless that went back to the pool, where another run may have it.
    #[must_use]
    pub fn own_worktree(&self) -> Option<&str> {
        let outcome = self.progress.outcome;
        let keeps = !outcome.is_some_and(Outcome::returns_worktree);
        self.workspace.worktree.as_deref().filter(|_| keeps)
    }

    /// The time at which it first left the queue.
    #[must_use]
    pub fn started(&self) -> Option<Timestamp> {
        let worked = self.progress.reached.iter().find(|(phase, _)| *phase > Phase::Queued);
        worked.map(|(_, at)| *at)
    }

    /// Whether the run holds a permit.
    #[must_use]
    pub const fn has_permit(&self) -> bool {
        self.live() && self.progress.admitted.is_some()
    }

    /// Whether an effect is under way that a stop must end.
    #[must_use]
    pub const fn busy(&self) -> bool {
        !matches!(
            self.progress.activity,
            Activity::Waiting | Activity::Backoff { .. } | Activity::Held { .. } | Activity::Ended
        )
    }

    /// The status of the job that this run works on, for its caller.
    #[must_use]
    pub const fn job_status(&self) -> JobStatus {
        match (self.progress.outcome, &self.agent.turn_end) {
            (None, _) if self.progress.admitted.is_none() && self.progress.due.is_none() => {
                JobStatus::Queued
            }
            (None, _) => JobStatus::Running,
            (Some(Outcome::Done), _) => JobStatus::Completed,
            (Some(Outcome::Cancelled), _) => JobStatus::Error,
            (Some(_), Some(TurnEnd::TimedOut)) => JobStatus::Timeout,
            (Some(_), None) if self.agent.turns == 0 => JobStatus::Error,
            (Some(_), Some(TurnEnd::NotStarted { .. })) => JobStatus::Error,
            (Some(_), _) => JobStatus::Failed,
        }
    }

    /// The run's rank among those that wait: priority, improved by waiting, then age, then number.
    /// The lowest is first.
    #[must_use]
    pub fn rank(&self, now: Timestamp, aging_ms: i64) -> (i64, Timestamp, RunId) {
        let priority = urgency(self.priority);
        let steps = now.since(self.progress.claimed) / aging_ms.max(1);
        (priority - steps, self.progress.claimed, self.id)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(ms: &i64) -> bool {
    *ms == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero_count(count: &u32) -> bool {
    *count == 0
}

/// The rank of "no priority": after every label.
const NO_PRIORITY: i64 = 10;

/// A priority as a rank; the lowest is the most urgent.
#[must_use]
pub(crate) fn urgency(priority: Option<Priority>) -> i64 {
    priority.map_or(NO_PRIORITY, |p| i64::from(p.0))
}
