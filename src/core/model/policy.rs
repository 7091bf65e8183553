//! The rules that configuration gives the core. The default dispatches nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::breakglass::BreakglassRules;
use crate::model::budget::MicroUsd;
use crate::model::id::Repo;
use crate::model::notice::Notices;
use crate::model::time::MINUTE;

/// Where the turns of a repository are carried out, if not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteExecutor {
    /// Its name in the configuration.
    pub name: String,
    /// It works in the worktrees of this machine, and so on issues; otherwise on prompts alone.
    pub issues: bool,
}

/// See the fields; `assets/afk.toml` explains each to its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Stops all pickup, from the configuration. An operator has a second one, by key.
    pub kill_switch: bool,
    /// The only repositories that are ever touched.
    pub allowlist: BTreeSet<Repo>,
    /// Permits of the semaphore.
    pub capacity: u32,
    /// How many runs may wait for a permit.
    pub max_queue_depth: u32,
    /// How long a job that ended is known, in milliseconds.
    #[serde(default = "job_ttl_ms")]
    pub job_ttl_ms: i64,
    /// Spend that stops pickup for the rest of the UTC day; none is no limit.
    pub day_limit: Option<MicroUsd>,
    /// Spend on a day at which an operator is told; none is never.
    #[serde(default)]
    pub day_soft_limit: Option<MicroUsd>,
    /// Spend that stops one run; none is no limit.
    pub run_limit: Option<MicroUsd>,
    /// The worst case of one turn, set aside before it starts.
    pub turn_reserve: MicroUsd,
    /// Fix-forward turns after a red verdict.
    pub fix_forward_attempts: u32,
    /// Time for fix-forward, from the first red verdict.
    pub fix_forward_ms: i64,
    /// Turns that the gate may send back before a human is asked.
    pub gate_retries: u32,
    /// Turns that may crash, or lose their model, before a human is asked.
    pub crash_retries: u32,
    /// Rejected pushes before a human is asked.
    pub push_rejections: u32,
    /// How long an escalation that an agent waits for stays open.
    pub answer_ms: i64,
    /// Repositories whose tracker is remote: each issue has one comment that is edited in place.
    #[serde(default)]
    pub remote: BTreeSet<Repo>,
    /// The repositories whose turns are carried out elsewhere.
    #[serde(default, rename = "elsewhere")]
    pub remote_executors: BTreeMap<Repo, RemoteExecutor>,
    /// The leader's term, which every claim carries; 0 where there is one afk alone.
    #[serde(default)]
    pub term: u64,
    /// Where notices go and when.
    #[serde(default)]
    pub notices: Notices,
    /// Breakglass; none where it isn't configured.
    #[serde(default)]
    pub breakglass: Option<BreakglassRules>,
    /// A waiting run gains one step of priority each time this passes, so that none starves.
    pub aging_ms: i64,
}

/// An hour, as of the service that this one takes the place of.
const fn job_ttl_ms() -> i64 {
    60 * MINUTE
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            kill_switch: true,
            allowlist: BTreeSet::new(),
            capacity: 3,
            max_queue_depth: 100,
            job_ttl_ms: job_ttl_ms(),
            day_limit: None,
            day_soft_limit: None,
            run_limit: None,
            turn_reserve: MicroUsd(0),
            fix_forward_attempts: 5,
            fix_forward_ms: 60 * MINUTE,
            gate_retries: 2,
            crash_retries: 2,
            push_rejections: 5,
            answer_ms: 8 * 60 * MINUTE,
            remote: BTreeSet::new(),
            remote_executors: BTreeMap::new(),
            term: 0,
            notices: Notices::default(),
            breakglass: None,
            aging_ms: 30 * MINUTE,
        }
    }
}
