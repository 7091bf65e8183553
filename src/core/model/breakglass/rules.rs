//! The limits that the configuration sets for breakglass, and the record of the operator who is
//! armed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::agent::AgentRules;
use crate::model::id::Actor;
use crate::model::time::{MINUTE, Timestamp};
use crate::model::untrusted::Untrusted;

/// The rules of breakglass from `[breakglass]` in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakglassRules {
    /// The VM's name, which an operator types to confirm.
    pub vm: String,
    /// The hypervisor's name among the pins.
    pub hypervisor: String,
    /// The hosts on which an operator can open a shell.
    pub hosts: BTreeSet<String>,
    /// The duration of an arming, in milliseconds.
    pub arm_ms: i64,
    /// The number of mutating verbs in ten minutes that need only one confirmation.
    pub mutations: usize,
    /// The interval after which a drill is due, in milliseconds; none for never.
    pub drill_ms: Option<i64>,
    /// The age of the last good drill that raises an alarm, in milliseconds.
    pub drill_red_ms: i64,
    /// Whether an operator may ask an agent for a diagnosis.
    pub diagnoses: bool,
    /// The limits of the breakglass agent; none where none is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentRules>,
}

/// The span over which the rate limit counts mutating verbs, in milliseconds.
pub(crate) const WINDOW: i64 = 10 * MINUTE;

/// The operator who may use breakglass now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakglassArming {
    /// The operator who armed it.
    pub by: Actor,
    /// The reason that the operator gave.
    pub reason: Untrusted,
    /// The time of the first arming.
    pub since: Timestamp,
    /// The time at which it ends by itself.
    pub until: Timestamp,
}
