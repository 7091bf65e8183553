//! What the core is told.

use std::collections::BTreeMap;

use crate::model::agent_event::AgentEvent;
use crate::model::breakglass;
use crate::model::command::CommandEnvelope;
use crate::model::id::{OutboxId, Repo, RunId, Sha};
use crate::model::issue::Issue;
use crate::model::permission::Permissions;
use crate::model::policy::Policy;
use crate::model::stage::Stages;
use crate::model::untrusted::Untrusted;
use crate::model::verdict::{Fact, GateReport, ProbeSample, Verdict};

/// One thing that happened outside.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed.
    Tick,
    /// The runtime began; nothing of an earlier life is under way any more.
    Started {
        /// The configuration in force.
        policy: Box<Policy>,
    },
    /// A runtime that carries breakglass alone: runs stay as they are, and nothing is picked up.
    BreakglassOnly {
        /// The configuration in force.
        policy: Box<Policy>,
    },
    /// The configuration was read again.
    Policy(Box<Policy>),
    /// A tracker's whole list. A failed fetch is never an empty list: it isn't sent at all.
    Issues(Vec<Issue>),
    /// The same, but for repositories that could not be read, with why: what is known of their
    /// issues stays, and none of them is started.
    PartialIssues {
        /// Of the others.
        issues: Vec<Issue>,
        /// The repositories.
        unread: BTreeMap<Repo, String>,
    },
    /// An operator or a viewer asks for something.
    Command(CommandEnvelope),
    /// Something about a run; ignored when `epoch` isn't the run's any more.
    Run {
        /// Which.
        run: RunId,
        /// The run's epoch when the effect was begun.
        epoch: u32,
        /// What.
        fact: RunFact,
    },
    /// Something about breakglass.
    Breakglass(breakglass::BreakglassReport),
    /// A sample of a repository's probe.
    Probe {
        /// Whose.
        repo: Repo,
        /// What.
        sample: ProbeSample,
    },
    /// The evidence of a freeze lies somewhere.
    Capsule {
        /// Of which run.
        run: RunId,
        /// Its folder.
        path: String,
    },
    /// An outbox entry was delivered.
    Delivered {
        /// Which.
        entry: OutboxId,
    },
    /// An outbox entry will never be delivered.
    GivenUp {
        /// Which.
        entry: OutboxId,
        /// Why.
        why: String,
    },
    /// An outbox entry was not delivered.
    NotDelivered {
        /// Which.
        entry: OutboxId,
        /// Why.
        error: String,
        /// The least to wait, in milliseconds: where the other side told it.
        wait: i64,
    },
}

/// What an effect reports.
#[derive(Debug, Clone)]
pub enum RunFact {
    /// A worktree is there.
    WorktreeReady {
        /// Its folder.
        path: String,
        /// Its branch.
        branch: String,
        /// Where it begins.
        base: Sha,
        /// What `.afk.toml` on the base asks for.
        stages: Stages,
        /// What it lets the agent do.
        permissions: Box<Permissions>,
    },
    /// The agent said something that concerns the core.
    Agent(AgentEvent),
    /// The new tests failed on the base, so far.
    RedSeen {
        /// On which base.
        base: Sha,
    },
    /// The gate has looked.
    Gated(Box<GateReport>),
    /// The remote has this head: pushed now, or found there.
    Pushed {
        /// Which.
        head: Sha,
    },
    /// The remote has moved on.
    PushRejected {
        /// What it said.
        why: Untrusted,
    },
    /// The run's commits are on the new base.
    Rebased {
        /// Where they begin now.
        base: Sha,
    },
    /// They don't go onto it.
    Conflict {
        /// What git said.
        why: Untrusted,
    },
    /// CI, the deploy command or the probes decided.
    Judged {
        /// About which commit.
        sha: Sha,
        /// What.
        verdict: Verdict,
        /// In a line.
        detail: Untrusted,
        /// The end of the log.
        log: Untrusted,
        /// What it rests on.
        facts: Vec<Fact>,
    },
    /// The remote says no to a push, and pushing again would not help.
    PushRefused {
        /// Why.
        why: Untrusted,
    },
    /// The effect could not be carried out.
    Failed {
        /// Why, and what to do.
        why: Untrusted,
    },
}
