//! What the configuration allows, and who is armed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::id::Actor;
use crate::model::time::{MINUTE, Timestamp};
use crate::model::untrusted::Untrusted;

/// The rules of breakglass; none in the policy where it isn't configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakglassRules {
    /// The VM's name: what is typed to confirm.
    pub vm: String,
    /// The hypervisor's name among the pins.
    pub hypervisor: String,
    /// Hosts that a shell can be opened on.
    pub hosts: BTreeSet<String>,
    /// How long an arming lasts, in milliseconds.
    pub arm_ms: i64,
    /// Mutating verbs in ten minutes that need no second word.
    pub mutations: usize,
    /// How often the drill is due, in milliseconds; none is never.
    pub drill_ms: Option<i64>,
    /// The age of the last good drill that is an alarm, in milliseconds.
    pub drill_red_ms: i64,
    /// Whether an agent may be asked what may be wrong.
    pub diagnoses: bool,
}

/// In which mutating verbs are counted.
pub const WINDOW: i64 = 10 * MINUTE;

/// Who may use breakglass now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakglassArming {
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: Untrusted,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}
