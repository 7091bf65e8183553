//! The sections `[budget]`, `[fix_forward]`, `[outages]` and `[limits]`: bounds of money, attempts, time, memory and
//! disk. Money and attempts become rules of the core; the rest bounds the tasks of the runtime.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[budget]`: limits of spending, in US dollars.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// The spending of a UTC day that stops pickup.
    pub day_usd: Option<f64>,
    /// The spending of a UTC day that sends a notice and stops nothing.
    pub day_soft_usd: Option<f64>,
    /// The spending of a run that stops the run.
    pub run_usd: Option<f64>,
    /// The worst case of a turn, reserved before the turn starts.
    pub turn_reserve_usd: f64,
}

/// `[fix_forward]`: how often and how long a run may fix its own red verdicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FixForwardConfig {
    /// The number of attempts of each run.
    pub attempts: u32,
    /// Minutes that the attempts may take, from the first red verdict on.
    pub minutes: u32,
    /// Overrides `minutes` if `AFK_FIX_FORWARD_MAX_SECONDS` is set.
    #[serde(skip)]
    pub seconds: Option<u32>,
}

impl Default for FixForwardConfig {
    fn default() -> Self {
        Self { attempts: 5, minutes: 60, seconds: None }
    }
}

/// `[outages]`: how long afk waits for a part of the environment that is away before it asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutagesConfig {
    /// Minutes of an outage after which afk asks a human, once.
    pub ask_minutes: u32,
    /// The longest pause between two tries, in seconds; pauses grow to it.
    pub longest_pause_seconds: u32,
}

impl Default for OutagesConfig {
    fn default() -> Self {
        Self { ask_minutes: 30, longest_pause_seconds: 300 }
    }
}

/// `[limits]`: every wait, process and worktree has a bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The longest turn of an agent, in minutes.
    pub turn_minutes: u64,
    /// Seconds of silence after which afk shows an agent as silent; it interrupts the agent after
    /// twice as long, and stops it after three times as long.
    pub silence_seconds: u64,
    /// Minutes that a single tool call may be silent.
    pub tool_minutes: u64,
    /// Memory of an agent's whole process tree, in MiB.
    pub memory_mib: u64,
    /// The longest run of the test command, in minutes.
    pub test_minutes: u64,
    /// The longest time until CI has ended, in minutes.
    pub ci_minutes: u64,
    /// The longest deploy, in minutes.
    pub deploy_minutes: u64,
    /// The longest call of git to a remote, in seconds.
    pub git_seconds: u64,
    /// The longest first clone of a repository, in minutes.
    pub clone_minutes: u64,
    /// The longest setup command of a repository, in minutes.
    pub setup_minutes: u64,
    /// Seconds between two looks at the upstream of an idle repository, whose new commits afk tests
    /// before a run needs it; 0 never looks.
    pub baseline_seconds: u64,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u64,
    /// Free disk space in MiB below which afk creates no worktree.
    pub disk_free_mib: u64,
    /// Hours after which an unanswered question of an agent expires.
    pub answer_hours: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            turn_minutes: 45,
            silence_seconds: 200,
            tool_minutes: 15,
            memory_mib: 8192,
            test_minutes: 15,
            ci_minutes: 60,
            deploy_minutes: 15,
            git_seconds: 120,
            clone_minutes: 120,
            setup_minutes: 15,
            baseline_seconds: 300,
            grace_seconds: 5,
            disk_free_mib: 256,
            answer_hours: 8,
        }
    }
}
