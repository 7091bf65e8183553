//! The wall around every program that isn't ours: what an agent, a test command or git in an
//! agent's tree can reach.
//!
//! ```text
//! Supervisor ─► launcher: user, mount, PID, IPC and UTS namespaces
//!                  └► init: new root from an allow-list, no capability, Landlock, seccomp
//!                       └► program, and whatever it starts; the end of init ends them all
//! ```
//!
//! A [`Sandbox`] says what one program may reach. The runtime derives it from the configuration
//! and the supervisor passes it to the launcher.

#[expect(dead_code, reason = "init serves it once the launcher builds network namespaces")]
mod relay;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How much of the wall stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// No wall: the program has every right of afk's user.
    None,
    /// Landlock and seccomp without namespaces.
    Landlock,
    /// Namespaces, a root of its own, Landlock and seccomp.
    Strong,
}

/// What a program may reach over the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkPolicy {
    /// Everything that afk's user reaches.
    #[default]
    Full,
    /// Only the hosts that afk's egress proxy allows.
    Proxy,
    /// Nothing beside a loopback device of its own.
    None,
}

/// What one program may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// How much of the wall stands.
    pub level: Level,
    /// What the program may reach over the network.
    pub network: NetworkPolicy,
    /// Files and folders that it may read and execute, where they exist, beside those of the
    /// system.
    pub read: Vec<PathBuf>,
    /// Files and folders that it may also write, where they exist.
    pub write: Vec<PathBuf>,
    /// The folder that it sees in place of the user's home.
    pub home: PathBuf,
    /// The socket of the egress proxy, for [`NetworkPolicy::Proxy`].
    pub proxy: Option<PathBuf>,
}
