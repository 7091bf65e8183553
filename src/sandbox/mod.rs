//! The wall around every program that isn't ours: what an agent, a test command or git in an
//! agent's tree can reach.
//!
//! ```text
//! Supervisor ─► launcher ─► outer: user, mount, PID, IPC and UTS namespaces
//!                             └► init: a root of its own from an allow-list, no capability,
//!                                      │ Landlock, seccomp
//!                                      └► program, and whatever it starts
//! ```
//!
//! A [`Sandbox`] says what one program may reach; the runtime derives it from the configuration,
//! and the supervisor passes it to the launcher. `outer` stays beside init and ends it once afk is
//! gone; the kernel then ends everything below init. At [`Level::Landlock`] the launcher itself
//! becomes the program, behind Landlock and seccomp alone.

mod capabilities;
pub mod cgroup;
mod init;
mod landlock;
mod limits;
mod loopback;
mod namespaces;
mod outer;
mod relay;
mod root;
mod seccomp;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use init::become_init;
pub(crate) use outer::become_program;

/// The first argument that makes afk the init of a sandbox.
pub const INIT_WORD: &str = "__init";

/// How much of the wall stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// No wall: the program has every right of afk's user.
    None,
    /// Landlock and seccomp without namespaces.
    Landlock,
    /// Namespaces, a root of its own, Landlock and seccomp.
    Strong,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Landlock => "landlock",
            Self::Strong => "strong",
        })
    }
}

/// What a program may reach over the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// What one program may reach. Paths that don't exist are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// How much of the wall stands.
    pub level: Level,
    /// What the program may reach over the network.
    pub network: NetworkPolicy,
    /// Absolute paths of files and folders that it may read and execute, beside those of the
    /// system.
    pub read: Vec<PathBuf>,
    /// Absolute paths of files and folders that it may also write.
    pub write: Vec<PathBuf>,
    /// Absolute paths below those above that it must not reach all the same.
    pub hidden: Vec<PathBuf>,
    /// The folder that it sees in place of the user's home; an empty one that ends with it if none.
    pub home: Option<PathBuf>,
    /// The folder that it sees as `/tmp` and `/var/tmp`; an empty one that ends with it if none.
    pub temporary: Option<PathBuf>,
    /// The socket of the egress proxy, for [`NetworkPolicy::Proxy`].
    pub proxy: Option<PathBuf>,
    /// Whether processes that the program leaves behind may outlive it, as those of a deploy may.
    /// They then have no PID namespace whose end would end them.
    pub leaves_children: bool,
}

impl Sandbox {
    /// A sandbox that grants nothing beside the system.
    #[must_use]
    pub const fn granting_nothing(level: Level) -> Self {
        Self {
            level,
            network: NetworkPolicy::Full,
            read: Vec::new(),
            write: Vec::new(),
            hidden: Vec::new(),
            home: None,
            temporary: None,
            proxy: None,
            leaves_children: false,
        }
    }
}

/// The user's own home, if it is a folder of its own. The program sees its own one at this path.
pub(crate) fn user_home() -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    (home.is_absolute() && home != Path::new("/")).then_some(home)
}

/// A part of the wall can't be set up, so that the program must not start.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// The kernel refuses one step.
    #[error("can't {step}")]
    Step {
        /// The step, as the words after "can't".
        step: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Landlock refuses the rules.
    #[error("can't restrict the program by Landlock")]
    Landlock(#[from] ::landlock::RulesetError),
    /// The kernel has no Landlock.
    #[error("the kernel has no Landlock, or it is switched off")]
    NoLandlock,
    /// The filter of system calls can't be built or installed.
    #[error("can't filter the program's system calls")]
    Seccomp(#[from] seccompiler::Error),
    /// Such a filter can't be compiled for this machine.
    #[error("can't compile the filter of system calls")]
    Filter(#[from] seccompiler::BackendError),
}

impl WallError {
    /// An error of one step, for `map_err`.
    fn step<E: Into<std::io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        let step = step.into();
        |source| Self::Step { step, source: source.into() }
    }
}
