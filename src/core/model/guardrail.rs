//! The lines that no policy and no operator's answer lets an agent cross.

use serde::{Deserialize, Serialize};

/// A line that is not crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guardrail {
    /// A push that would overwrite or delete what others see.
    ForcePush,
    /// Another history for master.
    HistoryRewrite,
    /// Telling CI to look away.
    CiSkip,
    /// Deleting volumes, their claims, or a namespace with them.
    DeleteVolume,
    /// Writing to a store of secrets.
    SecretStore,
    /// Writing outside the worktree.
    LeavesWorktree,
}

impl Guardrail {
    /// What is refused, in a line that the agent and the operator read.
    #[must_use]
    pub const fn summary(self) -> &'static str {
        match self {
            Self::ForcePush => "a forced or deleting push is never allowed",
            Self::HistoryRewrite => "rewriting the history of a shared branch is never allowed",
            Self::CiSkip => "telling CI to skip a commit is never allowed",
            Self::DeleteVolume => "deleting volumes, claims or namespaces is never allowed",
            Self::SecretStore => "writing to a store of secrets is never allowed",
            Self::LeavesWorktree => "writing outside the worktree is never allowed",
        }
    }
}
