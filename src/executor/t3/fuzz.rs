//! A fuzz target for the answers and events of a T3 Code server.

use std::collections::BTreeSet;

use super::thread::{Thread, ThreadSetup};
use crate::agent;
use crate::config::agent::Protocol;

/// Feeds lines of the link to a server.
pub(crate) fn thread(data: &[u8]) {
    let mut thread = Thread::new(ThreadSetup {
        name: "r1-t1".into(),
        instance: "claudeAgent".into(),
        model: "m".into(),
        approvals: true,
        version: None,
        seen_ids: BTreeSet::new(),
    });
    agent::fuzz::feed(&mut thread, Protocol::Text, data);
}
