//! The guardrails: actions that no policy and no operator's answer can allow an agent.
//! [`crate::tables::guardrail`] recognizes them in a permission request.

use serde::{Deserialize, Serialize};

/// A kind of action that afk always refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guardrail {
    /// A push that would overwrite or delete commits that others see.
    ForcePush,
    /// Rewriting the history of a shared branch.
    HistoryRewrite,
    /// A marker in a commit or a push that makes CI skip it.
    CiSkip,
    /// Deleting volumes, volume claims, or a namespace that holds them.
    DeleteVolume,
    /// Writing to a secret store, such as Vault or a Kubernetes Secret.
    SecretStore,
    /// Writing to a path outside the worktree.
    LeavesWorktree,
    /// Commits of a run that reached the remote past the gate.
    GateBypass,
    /// A command that is refused, and that the agent ran without asking.
    Unasked,
}

impl Guardrail {
    /// The rule in one line, which the agent and the operator read.
    #[must_use]
    pub const fn summary(self) -> &'static str {
        match self {
            Self::ForcePush => "a forced or deleting push is never allowed",
            Self::HistoryRewrite => "rewriting the history of a shared branch is never allowed",
            Self::CiSkip => "making CI skip a commit is never allowed",
            Self::DeleteVolume => "deleting volumes, claims or namespaces is never allowed",
            Self::SecretStore => "writing to a store of secrets is never allowed",
            Self::LeavesWorktree => "writing outside the worktree is never allowed",
            Self::Unasked => "running a refused command without asking is never allowed",
            Self::GateBypass => "pushing past the gate is never allowed",
        }
    }
}
