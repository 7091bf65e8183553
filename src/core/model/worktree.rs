//! A prepared worktree, as the runtime reports it and the journal keeps it.

use serde::{Deserialize, Serialize};

use crate::model::id::Sha;
use crate::model::permission::Permissions;
use crate::model::stage::Stages;

/// A worktree in which a run can begin, and what `.afk.toml` on its base commit asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedWorktree {
    /// The worktree's absolute path.
    pub path: String,
    /// The branch that the run commits to.
    pub branch: String,
    /// The commit that the branch begins from.
    pub base: Sha,
    /// The stages that the run must pass after its push.
    pub stages: Stages,
    /// The repository's policy on the agent's permission requests.
    #[serde(default)]
    pub permissions: Box<Permissions>,
}
