//! The rules that the configuration sets for the core: limits, retries and the repositories it may
//! touch. The runtime builds a [`Policy`] from the configuration and sends it as an input; the
//! fleet stores it. The default dispatches nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::breakglass::BreakglassRules;
use crate::model::budget::MicroUsd;
use crate::model::id::Repo;
use crate::model::notice::Notices;
use crate::model::outage::OutageRules;
use crate::model::time::MINUTE;

/// A remote executor that carries out a repository's turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteExecutor {
    /// The executor's name in the configuration.
    pub name: String,
    /// Whether it uses the worktrees of this machine and can therefore work on issues; otherwise it
    /// takes ad-hoc prompts only.
    pub issues: bool,
}

/// The rules in force; `assets/afk.toml` explains each of them to its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Whether the configuration stops all pickup. The operator has a second switch on a key.
    pub kill_switch: bool,
    /// The only repositories that afk ever touches.
    pub allowlist: BTreeSet<Repo>,
    /// The number of permits: runs that may work at once.
    pub capacity: u32,
    /// The largest number of runs that may wait for a permit.
    pub max_queue_depth: u32,
    /// The time for which the fleet keeps a finished job, in milliseconds.
    #[serde(default = "job_ttl_ms")]
    pub job_ttl_ms: i64,
    /// The spend that stops pickup for the rest of the UTC day; none for no limit.
    pub day_limit: Option<MicroUsd>,
    /// The day's spend at which afk notifies the operators; none for never.
    #[serde(default)]
    pub day_soft_limit: Option<MicroUsd>,
    /// The spend that stops one run; none for no limit.
    pub run_limit: Option<MicroUsd>,
    /// The worst case of one turn, reserved before it starts.
    pub turn_reserve: MicroUsd,
    /// The number of fix-forward attempts after a red verdict.
    pub fix_forward_attempts: u32,
    /// The time for fix-forward from the first red verdict, in milliseconds.
    pub fix_forward_ms: i64,
    /// The number of turns that the gate may send back before afk asks a human.
    pub gate_retries: u32,
    /// The number of turns that may crash or lose their model before afk asks a human.
    pub crash_retries: u32,
    /// The number of rejected pushes before afk asks a human.
    pub push_rejections: u32,
    /// The time for which an agent's request waits for a human, in milliseconds.
    pub answer_ms: i64,
    /// Repositories with a remote tracker: each of their issues has one progress comment that afk
    /// edits in place.
    #[serde(default)]
    pub remote: BTreeSet<Repo>,
    /// The name of each repository's git remote among the subjects of outages.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remote_names: BTreeMap<Repo, String>,
    /// How outages are handled.
    #[serde(default, skip_serializing_if = "OutageRules::is_default")]
    pub outages: OutageRules,
    /// The repositories whose turns a remote executor carries out.
    #[serde(default, rename = "elsewhere")]
    pub remote_executors: BTreeMap<Repo, RemoteExecutor>,
    /// The leader's term, recorded with every claim; 0 without leader election.
    #[serde(default)]
    pub term: u64,
    /// The sinks, quiet hours and reminders.
    #[serde(default)]
    pub notices: Notices,
    /// The rules of breakglass; none where it isn't configured.
    #[serde(default)]
    pub breakglass: Option<BreakglassRules>,
    /// The wait after which a run gains one step of priority, in milliseconds, so that none
    /// starves.
    pub aging_ms: i64,
}

/// One hour, the default of the HTTP service that afk replaces.
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
            remote_names: BTreeMap::new(),
            outages: OutageRules::default(),
            remote_executors: BTreeMap::new(),
            term: 0,
            notices: Notices::default(),
            breakglass: None,
            aging_ms: 30 * MINUTE,
        }
    }
}
