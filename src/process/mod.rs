//! Starts child processes, finds their whole trees, ends them and reaps them.
//!
//! Agents start shells in sessions of their own, so a process group does not cover all that an
//! agent leaves behind. Every child therefore carries two environment names (`marks`): the
//! journal that it belongs to and its owner, mostly a run. A walk through `/proc` finds every
//! process with these marks, also where its parent is another one; descendants that cleared their
//! environment are found by parentage, and after a crash by a number that they inherit (`lineage`). afk is the subreaper of its descendants, so their orphans become its own
//! children.
//!
//! ```text
//! Spec ─► Supervisor::start ─► launcher (control group, session, wall) ─► program
//!                │                                                        │
//!                ▼                                                        ▼
//!         ChildHandle (awaited by tokio)                 its children, and their orphans
//!                │                                                        │
//! Supervisor::end: marks ∪ descendants ∪ orphans in its folders ∪ groups ◄┘
//!                └► TERM, grace, KILL, cgroup.kill ─► orphans::reap
//! ```
//!
//! The agent driver, the gate, deploy and CI commands and our own calls of git start here; the
//! runtime ends trees and watches orphans.

mod children;
pub(crate) mod descriptors;
pub(crate) mod end_signals;
mod groups;
mod hide;
pub mod launch;
pub mod level;
mod lineage;
pub(crate) mod orphans;
pub(crate) mod output;
pub mod procfs;
mod socket_owner;
mod spec;
mod supervisor;
mod tree;
mod usage;

pub use children::ChildHandle;
pub use spec::{Spec, StdinMode};
pub(crate) use spec::{inherited, on_path};
pub use supervisor::Supervisor;
pub use usage::Usage;

/// The environment names that mark a child.
pub(crate) mod marks {
    /// The journal that a child belongs to.
    pub(crate) const STATE: &str = "AFK_STATE";
    /// The owner of a child: its run, or another word of afk's.
    pub(super) const RUN: &str = "AFK_RUN";
    /// The pid of the launcher, which became the command: it lives exactly as long as the command.
    pub(super) const LEADER: &str = "AFK_LEADER";
    /// Marks children whose own children may outlive them: deploy commands.
    pub(super) const DEPLOY: &str = "AFK_DEPLOY";
    /// Marks afk's own calls of git. They are short, and one that is killed at the wrong moment
    /// leaves a lock in somebody's repository.
    pub(super) const OWN: &str = "AFK_OWN";
}
