//! `[sandbox]`: the wall around agents and the commands of repositories (docs/security.md).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::HostPattern;
use crate::sandbox::cgroup::CgroupChoice;
use crate::sandbox::{Level, NetworkPolicy};

/// `[sandbox]`: how strong the wall is, and what everything behind it may reach beside its own
/// work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxConfig {
    /// The level that must be in force; the strongest that works here by default. Only a person
    /// can choose `none`, by writing it down.
    pub level: Option<Level>,
    /// What agents, and the commands of repositories, may reach over the network.
    pub network: NetworkPolicy,
    /// The hosts that they reach with the policy `proxy`, beside those of their preset.
    pub hosts: Vec<HostPattern>,
    /// Further files and folders that programs behind the wall may read.
    pub read: Vec<PathBuf>,
    /// Further files and folders that they may write.
    pub write: Vec<PathBuf>,
    /// Where afk makes a control group for each program. It is read at the start alone.
    pub cgroup: CgroupChoice,
}
