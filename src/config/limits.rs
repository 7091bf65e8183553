//! Limits of money and time.

use serde::Deserialize;

/// Limits in US dollars.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// A UTC day's.
    pub day_usd: Option<f64>,
    /// A UTC day's at which an operator is told, and nothing is stopped.
    pub day_soft_usd: Option<f64>,
    /// One run's.
    pub run_usd: Option<f64>,
    /// The worst case of one turn, set aside before it starts.
    pub turn_reserve_usd: f64,
}

/// Caps of fix-forward.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FixForward {
    /// Attempts a run.
    pub attempts: u32,
    /// Minutes from the first red verdict.
    pub minutes: u32,
    /// The same in seconds, from outside of the file.
    #[serde(skip)]
    pub seconds: Option<u32>,
}

impl Default for FixForward {
    fn default() -> Self {
        Self { attempts: 5, minutes: 60, seconds: None }
    }
}

/// Time limits; every wait has one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// One turn of an agent.
    pub turn_minutes: u64,
    /// Silence of an agent that is shown, in seconds; twice as long is interrupted, three times
    /// as long is stopped.
    pub silence_seconds: u64,
    /// One tool of an agent, in which silence is nothing unusual.
    pub tool_minutes: u64,
    /// Memory of an agent's whole process tree, in MiB.
    pub memory_mib: u64,
    /// One run of the test command.
    pub test_minutes: u64,
    /// CI.
    pub ci_minutes: u64,
    /// The deploy command.
    pub deploy_minutes: u64,
    /// One call of git that talks to a remote.
    pub git_seconds: u64,
    /// Between TERM and KILL.
    pub grace_seconds: u64,
    /// Free space, in MiB, below which no worktree is made.
    pub disk_free_mib: u64,
    /// Hours until a question of an agent expires.
    pub answer_hours: u32,
}

impl Default for Limits {
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
            grace_seconds: 5,
            disk_free_mib: 256,
            answer_hours: 8,
        }
    }
}
