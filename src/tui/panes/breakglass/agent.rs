//! The row of the breakglass agent, and the list of its calls.

use crate::core::fleet::breakglass::BreakglassState;
use crate::core::model::breakglass::{AgentCall, AgentDecision, AgentLevel, AgentSession};
use crate::core::model::plural::plural;
use crate::core::model::time::Timestamp;
use crate::runtime::Snapshot;
use crate::tui::theme::Tone;
use crate::tui::widgets::text::age;

/// The session that works, or else the last one.
fn session(state: &BreakglassState) -> Option<&AgentSession> {
    state.agent.as_deref().or_else(|| state.past_agent.as_ref().map(|past| &past.0))
}

/// The name of the session's agent.
pub(super) fn name(state: &BreakglassState) -> &str {
    session(state).map_or("", |session| session.terms.agent.as_str())
}

/// Whether a call waits for an operator.
pub(super) fn is_asked(call: &AgentCall, snapshot: &Snapshot) -> bool {
    let AgentDecision::Asked { escalation } = call.decision else { return false };
    snapshot.fleet.escalations.get(&escalation).is_some_and(|asked| asked.open())
}

/// The session in one line.
pub(super) fn summary(state: &BreakglassState, now: Timestamp) -> (String, Tone) {
    let Some(session) = session(state) else { return (String::new(), Tone::Dim) };
    let terms = &session.terms;
    let calls = plural(session.open.len() + session.past.len(), "call");
    if state.agent.is_none() {
        let why = state.past_agent.as_ref().map(|past| past.1.clean_line()).unwrap_or_default();
        return (format!("{} by {}, {calls}: {why}", terms.level.as_str(), terms.by), Tone::Dim);
    }
    let left = match terms.level {
        AgentLevel::Act => format!(", {} left", plural(terms.mutations, "mutating verb")),
        AgentLevel::Read | AgentLevel::Ask => String::new(),
    };
    let since = age(now, session.since);
    (format!("{} for {}, {since}, {calls}{left}", terms.level.as_str(), terms.by), Tone::Busy)
}

/// The latest calls with their decisions and ends, oldest first.
pub(super) fn calls(snapshot: &Snapshot, now: Timestamp) -> Vec<String> {
    let state = snapshot.breakglass();
    let Some(session) = session(state) else { return Vec::new() };
    let mut lines = Vec::new();
    for call in session.past.iter().chain(session.open.values()) {
        let by = match &call.decision {
            AgentDecision::Allowed => "allowed".to_owned(),
            AgentDecision::Asked { escalation } => format!("asked in {escalation}"),
            AgentDecision::Refused { .. } => "refused".to_owned(),
        };
        lines.push(format!(
            "{} {} ({by}, {} ago)",
            call.id,
            call.tool.summary(),
            age(now, call.at)
        ));
        match &call.end {
            Some((_, said)) => lines.push(format!("    {}", said.clean_line())),
            None if is_asked(call, snapshot) => lines.push("    waits for your answer".to_owned()),
            None => lines.push("    under way".to_owned()),
        }
    }
    lines.push(String::new());
    lines.push(summary(state, now).0);
    lines
}
