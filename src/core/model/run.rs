//! A run: one issue from dispatch to its end, or one ad-hoc prompt.

use serde::{Deserialize, Serialize};

use crate::model::agent_event::TurnEnd;
use crate::model::budget::{MicroUsd, Spend};
use crate::model::capability::Equipment;
use crate::model::id::{Actor, IssueKey, Repo, RunId, Sha};
use crate::model::issue::Priority;
use crate::model::job::{Job, JobStatus};
use crate::model::permission::{Grant, Permissions};
use crate::model::stage::{Phase, Stage, Stages, by_name};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;
use crate::model::verdict::Proof;

/// What a run works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "work")]
pub enum Work {
    /// An issue, to a healthy deploy; holds the repository's lock.
    Issue {
        /// Which.
        key: IssueKey,
        /// Its title when it was claimed.
        title: Untrusted,
    },
    /// A prompt in a throwaway clone; nothing is pushed and no lock is held.
    Prompt {
        /// Where.
        repo: Repo,
        /// What is asked.
        prompt: Untrusted,
        /// By whom.
        by: Actor,
        /// What a caller of the service asked for beside it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<Box<Job>>,
    },
}

impl Work {
    /// The repository.
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

    /// The job, where a caller of the service asked for it.
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Prompt { job, .. } => job.as_deref(),
            Self::Issue { .. } => None,
        }
    }

    /// One line: the issue's title or the prompt.
    #[must_use]
    pub const fn title(&self) -> &Untrusted {
        match self {
            Self::Issue { title, .. } => title,
            Self::Prompt { prompt, .. } => prompt,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Healthy and closed; or an ad-hoc prompt that was answered.
    Done,
    /// Nothing was pushed and the run can't go on.
    NeedsHuman,
    /// Pushed, broken, and the attempts are spent: kept as it is, lock and all.
    Frozen,
    /// Stopped by an operator.
    Cancelled,
    /// A job of the service that was not answered; its caller is told.
    Failed,
}

impl Outcome {
    /// As it is written everywhere.
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

/// What is being done for a run right now: exactly one effect is under way for each but
/// `Waiting`, `Backoff` and `Ended`, and it is begun again after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "doing")]
pub enum Activity {
    /// For a permit.
    Waiting,
    /// Fetching and switching a worktree.
    Worktree,
    /// The agent is at work.
    Turn {
        /// What it was told.
        prompt: TurnPrompt,
    },
    /// The red-first gate runs the tests.
    Gate,
    /// Laying the run's commits over what others pushed.
    Rebase,
    /// Pushing, or reading the remote back.
    Push,
    /// The run waits, then begins `then`.
    Backoff {
        /// The time at which the wait is over.
        until: Timestamp,
        /// The activity that begins then.
        then: Box<Activity>,
    },
    /// The run has ended.
    Ended,
    /// A stage after the push decides. Recorded as `"doing": "ci"`, so it must stay last: serde
    /// tries an untagged variant after all others.
    #[serde(untagged)]
    Stage {
        /// The stage that decides.
        #[serde(rename = "doing")]
        stage: Stage,
    },
}

impl Activity {
    /// One word or two for a row.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waits for a permit",
            Self::Worktree => "prepares worktree",
            Self::Turn { prompt } => prompt.as_str(),
            Self::Gate => "runs the tests",
            Self::Rebase => "rebases",
            Self::Push => "pushes",
            Self::Stage { stage } => stage.doing(),
            Self::Backoff { .. } => "tries again soon",
            Self::Ended => "ended",
        }
    }
}

/// What a turn is begun with; the runtime makes the words of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "prompt")]
pub enum TurnPrompt {
    /// The issue.
    Implement,
    /// An ad-hoc prompt.
    Adhoc,
    /// The gate did not open.
    GateClosed {
        /// Why, with the end of the log.
        why: Untrusted,
    },
    /// CI or the deploy went red: an attempt.
    FixForward {
        /// The stage that is red.
        #[serde(rename = "what", with = "by_name")]
        stage: Stage,
        /// The end of the failing log.
        log: Untrusted,
    },
    /// The run's commits don't go onto what others pushed.
    Conflict {
        /// What git said.
        why: Untrusted,
    },
    /// The process was lost in the middle of a turn.
    Continue {
        /// How.
        why: Untrusted,
        /// What it had been told, or was about to be.
        of: Box<TurnPrompt>,
    },
    /// An operator sent the run on.
    Guidance {
        /// What they typed; may be empty.
        text: Untrusted,
    },
}

impl TurnPrompt {
    /// The same turn once more, after it was lost.
    #[must_use]
    pub fn again(self, why: Untrusted) -> Self {
        let of = match self {
            Self::Continue { of, .. } => of,
            other => Box::new(other),
        };
        Self::Continue { why, of }
    }

    /// For a row.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Implement => "implements",
            Self::Adhoc => "works on a prompt",
            Self::GateClosed { .. } => "mends what the gate refused",
            Self::FixForward { .. } => "fixes forward",
            Self::Conflict { .. } => "resolves a conflict",
            Self::Continue { .. } => "goes on after a stop",
            Self::Guidance { .. } => "goes on as told",
        }
    }
}

/// The model failed and is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Which try.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// The API's status, where there is one.
    pub status: Option<u16>,
}

/// One run; see the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// What it works on.
    pub work: Work,
    /// The issue's urgency when it was claimed.
    pub priority: Option<Priority>,
    /// How far it has come.
    pub phase: Phase,
    /// What is being done.
    pub activity: Activity,
    /// Counts the activities begun; a report of another one is stale and ignored.
    pub epoch: u32,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
    /// Why it ended so.
    pub why: Untrusted,
    /// When its issue had been armed as it was claimed or sent on, by the tracker's clock: that
    /// arming is used up.
    #[serde(default)]
    pub armed: Option<Timestamp>,
    /// When it was claimed, or sent on by an operator.
    pub claimed: Timestamp,
    /// When it last got a permit; none while it waits.
    pub admitted: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// When each phase was reached first.
    pub reached: Vec<(Phase, Timestamp)>,
    /// Folder of its worktree.
    pub worktree: Option<String>,
    /// The folder that it gave back when it ended: the conversation knows no other.
    pub home: Option<String>,
    /// Its branch.
    pub branch: Option<String>,
    /// The commit that it began from, or was last rebased onto.
    pub base: Option<Sha>,
    /// The stages it must pass.
    pub stages: Stages,
    /// The last head that the gate opened for; the only one that may be pushed.
    pub gated: Option<Sha>,
    /// The last head that the remote was seen to have.
    pub pushed: Option<Sha>,
    /// What its agent may do without being asked.
    pub permissions: Permissions,
    /// What an operator allowed for the rest of it.
    pub grants: Vec<Grant>,
    /// The agent of its latest turn.
    pub equipment: Option<Equipment>,
    /// When its turn elsewhere was found again after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<Timestamp>,
    /// Since when nothing was heard of its agent, where that is long.
    pub quiet: Option<Timestamp>,
    /// The model is being asked again.
    pub retry: Option<Retry>,
    /// Resumes the agent's conversation.
    pub session: Option<String>,
    /// What that conversation has cost: some agents tell only the sum.
    pub session_cost: MicroUsd,
    /// Turns begun.
    pub turns: u32,
    /// Fix-forward attempts begun.
    pub attempts: u32,
    /// When the first verdict went red; fix-forward's clock.
    pub first_red: Option<Timestamp>,
    /// Turns that the gate sent back since the last push.
    pub gate_closed: u32,
    /// Failures in a row of the activity that is under way, or of turns.
    pub failures: u32,
    /// Rejected pushes since the last one that landed.
    pub push_rejections: u32,
    /// What it cost.
    pub spend: Spend,
    /// What it had cost when an operator last sent it on: its limit counts from there.
    pub spent_before: MicroUsd,
    /// What its latest turn cost.
    pub turn_spend: Spend,
    /// How its latest turn ended, once it has.
    #[serde(default)]
    pub turn_end: Option<TurnEnd>,
    /// The proof chain.
    pub proof: Proof,
    /// Where the evidence of a freeze lies.
    pub capsule: Option<String>,
    /// What an operator said when they sent it on; told at the next turn.
    pub guidance: Option<Untrusted>,
}

impl Run {
    /// A run that was just claimed.
    #[must_use]
    pub fn claimed(id: RunId, work: Work, priority: Option<Priority>, at: Timestamp) -> Self {
        Self {
            id,
            work,
            priority,
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
            worktree: None,
            home: None,
            branch: None,
            base: None,
            stages: Stages::default(),
            gated: None,
            pushed: None,
            permissions: Permissions::default(),
            grants: Vec::new(),
            equipment: None,
            followed: None,
            quiet: None,
            retry: None,
            session: None,
            session_cost: MicroUsd(0),
            turns: 0,
            attempts: 0,
            first_red: None,
            gate_closed: 0,
            failures: 0,
            push_rejections: 0,
            spend: Spend::default(),
            spent_before: MicroUsd(0),
            turn_spend: Spend::default(),
            turn_end: None,
            proof: Proof::default(),
            capsule: None,
            guidance: None,
        }
    }

    /// What is being done; what is unusual comes first: how long nothing was heard, or when the
    /// model is asked again.
    #[must_use]
    pub fn doing(&self, now: Timestamp) -> String {
        let place = self.equipment.as_ref().and_then(|equipment| equipment.place.as_ref());
        let word = match (place, &self.activity) {
            (Some(place), Activity::Turn { .. }) => {
                format!("{} at {place}", self.activity.as_str())
            }
            _ => self.activity.as_str().to_owned(),
        };
        if let Some(retry) = self.retry {
            let status = retry.status.map_or_else(|| "it failed".into(), |s| s.to_string());
            let seconds = retry.at.since(now).max(0) / 1000;
            format!("{status}: asks again in {seconds} s, try {}", retry.attempt)
        } else if let Some(since) = self.quiet {
            format!("silent for {} s; {word}", now.since(since) / 1000)
        } else {
            word
        }
    }

    /// What it may cost: `limit`, or less where its caller allowed less.
    #[must_use]
    pub fn limit(&self, limit: Option<MicroUsd>) -> Option<MicroUsd> {
        limit.into_iter().chain(self.work.job().and_then(|job| job.budget)).min()
    }

    /// What it may still cost before an operator is asked.
    #[must_use]
    pub fn left(&self, limit: Option<MicroUsd>) -> Option<MicroUsd> {
        self.limit(limit)
            .map(|limit| MicroUsd(limit.0.saturating_add(self.spent_before.0) - self.spend.usd.0))
    }

    /// Not ended.
    #[must_use]
    pub const fn live(&self) -> bool {
        self.outcome.is_none()
    }

    /// When it first got a permit and was worked on.
    #[must_use]
    pub fn started(&self) -> Option<Timestamp> {
        let worked = self.reached.iter().find(|(phase, _)| *phase > Phase::Queued);
        worked.map(|(_, at)| *at)
    }

    /// Holds a permit.
    #[must_use]
    pub const fn has_permit(&self) -> bool {
        self.live() && self.admitted.is_some()
    }

    /// Has an effect under way that a stop must end.
    #[must_use]
    pub const fn busy(&self) -> bool {
        !matches!(self.activity, Activity::Waiting | Activity::Backoff { .. } | Activity::Ended)
    }

    /// How a run stands for the caller of the service whose job it is.
    #[must_use]
    pub const fn job_status(&self) -> JobStatus {
        match (self.outcome, &self.turn_end) {
            (None, _) if self.admitted.is_none() => JobStatus::Queued,
            (None, _) => JobStatus::Running,
            (Some(Outcome::Done), _) => JobStatus::Completed,
            (Some(Outcome::Cancelled), _) => JobStatus::Error,
            (Some(_), Some(TurnEnd::TimedOut)) => JobStatus::Timeout,
            (Some(_), None) if self.turns == 0 => JobStatus::Error,
            (Some(_), Some(TurnEnd::NotStarted { .. })) => JobStatus::Error,
            (Some(_), _) => JobStatus::Failed,
        }
    }

    /// Rank among those that wait: priority, improved by waiting, then age, then number.
    #[must_use]
    pub fn rank(&self, now: Timestamp, aging_ms: i64) -> (i64, Timestamp, RunId) {
        let priority = urgency(self.priority);
        let steps = now.since(self.claimed) / aging_ms.max(1);
        (priority - steps, self.claimed, self.id)
    }
}

/// The rank of "no priority": after every label.
const NO_PRIORITY: i64 = 10;

/// A priority as a rank: the lowest is the most urgent.
#[must_use]
pub fn urgency(priority: Option<Priority>) -> i64 {
    priority.map_or(NO_PRIORITY, |p| i64::from(p.0))
}
