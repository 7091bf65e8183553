//! Decides about one call of the breakglass agent.
//!
//! | # | call | `ask` | `act` |
//! | --- | --- | --- | --- |
//! | 1 | no tool of afk, or an unreadable text | refuse | refuse |
//! | 2 | too many calls at once, or within a minute | refuse | refuse |
//! | 3 | a note | allow | allow |
//! | 4 | a mutating verb beside another one, or above the rate limit | refuse | refuse |
//! | 5 | a mutating verb before the session's forensics | refuse | refuse |
//! | 6 | a mutating verb, and none is left of those that a person allowed | – | refuse |
//! | 7 | a mutating verb of a VM about which the host warns | ask | ask |
//! | 8 | a kind that a person allowed for this session | allow | allow |
//! | 9 | any other command or verb | ask | allow |
//!
//! The rows before 7 also hold for a call that a person has just allowed. The evidence that the agent
//! reads is hostile, so no row depends on what the agent says about its call.

use crate::model::breakglass::{AgentGrant, AgentLevel, AgentSession, AgentTool, OPEN_CALLS};
use crate::model::plural::plural;
use crate::model::time::Timestamp;

/// What the decision depends on beside the session and the call.
#[derive(Debug, Clone)]
pub(crate) struct AgentFacts {
    pub at: Timestamp,
    /// The most calls within a minute.
    pub calls_a_minute: usize,
    /// The mutating verb in progress, in words.
    pub mutating: Option<String>,
    /// How many mutating verbs began within the rate limit's window, and how many it allows.
    pub mutations: (usize, usize),
    /// Whether the host warns about a lock, HA or the quorum.
    pub warned: bool,
}

/// The decision about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentVerdict {
    Allow,
    Ask,
    Refuse(String),
}

/// Decides about a call; `permitted` is one that a person has just allowed.
pub(crate) fn judge(
    session: &AgentSession,
    tool: &AgentTool,
    facts: &AgentFacts,
    permitted: bool,
) -> AgentVerdict {
    let refuse = |why: &str| AgentVerdict::Refuse(why.to_owned());
    if let Some(fault) = tool.fault() {
        return refuse(fault);
    }
    if !permitted {
        if session.open.len() >= OPEN_CALLS {
            return AgentVerdict::Refuse(format!("{} wait already", plural(OPEN_CALLS, "call")));
        }
        if session.calls_in_minute(facts.at) >= facts.calls_a_minute {
            let most = plural(facts.calls_a_minute, "call");
            return AgentVerdict::Refuse(format!("more than {most} within a minute: wait"));
        }
    }
    let mutates = match tool {
        AgentTool::Note { .. } => return AgentVerdict::Allow,
        AgentTool::Verb { verb } => verb.mutates(),
        AgentTool::Command { .. } | AgentTool::Unknown { .. } => false,
    };
    if mutates {
        if let Some(other) = &facts.mutating {
            return AgentVerdict::Refuse(format!("busy: {other} is still running"));
        }
        let (count, most) = facts.mutations;
        if count >= most {
            let count = plural(count, "mutating verb");
            return AgentVerdict::Refuse(format!(
                "{count} in ten minutes: no agent goes beyond that; ask an operator with a note"
            ));
        }
        if !session.has_forensics {
            return refuse("send the verb forensics first: the evidence is gone afterwards");
        }
        if session.terms.level == AgentLevel::Act && session.terms.mutations == 0 && !permitted {
            return refuse("no mutating verb is left of those that an operator allowed");
        }
    }
    if permitted {
        return AgentVerdict::Allow;
    }
    if mutates && facts.warned {
        return AgentVerdict::Ask;
    }
    if session.grants.iter().any(|grant: &AgentGrant| grant.covers(tool)) {
        return AgentVerdict::Allow;
    }
    match session.terms.level {
        AgentLevel::Act => AgentVerdict::Allow,
        AgentLevel::Read | AgentLevel::Ask => AgentVerdict::Ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::breakglass::{
        AgentCall, AgentCallId, AgentDecision, AgentTerms, ShellId, Verb,
    };
    use crate::model::id::Actor;

    fn session(level: AgentLevel) -> AgentSession {
        let terms = AgentTerms {
            id: ShellId(1),
            agent: "claude".into(),
            by: Actor("ana".into()),
            level,
            host: "devvm".into(),
            mutations: 1,
        };
        AgentSession { has_forensics: true, ..AgentSession::new(terms, Timestamp(0)) }
    }

    fn facts() -> AgentFacts {
        AgentFacts {
            at: Timestamp(1_000),
            calls_a_minute: 3,
            mutating: None,
            mutations: (0, 3),
            warned: false,
        }
    }

    fn verb(verb: Verb) -> AgentTool {
        AgentTool::Verb { verb }
    }

    fn command(text: &str) -> AgentTool {
        AgentTool::Command { command: text.into() }
    }

    fn word(verdict: &AgentVerdict) -> &'static str {
        match verdict {
            AgentVerdict::Allow => "allow",
            AgentVerdict::Ask => "ask",
            AgentVerdict::Refuse(_) => "refuse",
        }
    }

    #[test]
    fn every_row_of_the_table_holds() {
        let (ask, act) = (session(AgentLevel::Ask), session(AgentLevel::Act));
        let row = |tool: &AgentTool, facts: &AgentFacts, expected: [&str; 2]| {
            let found = [&ask, &act].map(|session| word(&judge(session, tool, facts, false)));
            assert_eq!(found, expected, "{tool:?} {facts:?}");
        };
        let calm = facts();
        for text in ["", " ", "a\u{1b}[2J", "a\u{0}", &"x".repeat(100_000)] {
            row(&command(text), &calm, ["refuse", "refuse"]);
        }
        row(&AgentTool::Unknown { call: "destroy".into() }, &calm, ["refuse", "refuse"]);
        row(&AgentTool::Note { text: "stalled".into() }, &calm, ["allow", "allow"]);
        row(&command("uptime"), &calm, ["ask", "allow"]);
        row(&verb(Verb::Status), &calm, ["ask", "allow"]);
        row(&verb(Verb::Cycle), &calm, ["ask", "allow"]);
        let busy = AgentFacts { mutating: Some("cycle by ana".into()), ..facts() };
        row(&verb(Verb::Stop), &busy, ["refuse", "refuse"]);
        row(&verb(Verb::Forensics), &busy, ["ask", "allow"]);
        let often = AgentFacts { mutations: (3, 3), ..facts() };
        row(&verb(Verb::Cycle), &often, ["refuse", "refuse"]);
        let warned = AgentFacts { warned: true, ..facts() };
        row(&verb(Verb::Cycle), &warned, ["ask", "ask"]);
        row(&command("uptime"), &warned, ["ask", "allow"]);
    }

    #[test]
    fn session_bounds_its_own_calls() {
        let cycle = verb(Verb::Cycle);
        let mut blind = session(AgentLevel::Act);
        blind.has_forensics = false;
        for permitted in [false, true] {
            assert_eq!(word(&judge(&blind, &cycle, &facts(), permitted)), "refuse");
        }
        let mut spent = session(AgentLevel::Act);
        spent.terms.mutations = 0;
        assert_eq!(word(&judge(&spent, &cycle, &facts(), false)), "refuse");
        let mut flood = session(AgentLevel::Act);
        flood.recent.extend([Timestamp(998), Timestamp(999), Timestamp(1_000)]);
        assert_eq!(word(&judge(&flood, &command("uptime"), &facts(), false)), "refuse");
        let later = AgentFacts { at: Timestamp(62_000), ..facts() };
        assert_eq!(word(&judge(&flood, &command("uptime"), &later, false)), "allow");
        let mut full = session(AgentLevel::Ask);
        for n in 0..8 {
            let (id, tool, at) = (AgentCallId(n), command("sleep 9"), Timestamp(0));
            let decision = AgentDecision::Allowed;
            full.open.insert(id, AgentCall { id, tool, at, decision, verb: None, end: None });
        }
        assert_eq!(word(&judge(&full, &command("uptime"), &facts(), false)), "refuse");
        assert_eq!(word(&judge(&full, &command("uptime"), &facts(), true)), "allow");
    }

    #[test]
    fn grant_allows_its_kind_and_no_warned_verb() {
        let mut granted = session(AgentLevel::Ask);
        granted.grants =
            [command("uptime"), verb(Verb::Cycle)].iter().filter_map(AgentGrant::of).collect();
        assert_eq!(word(&judge(&granted, &command("uptime"), &facts(), false)), "allow");
        assert_eq!(word(&judge(&granted, &command("reboot"), &facts(), false)), "ask");
        assert_eq!(word(&judge(&granted, &verb(Verb::Cycle), &facts(), false)), "allow");
        let warned = AgentFacts { warned: true, ..facts() };
        assert_eq!(word(&judge(&granted, &verb(Verb::Cycle), &warned, false)), "ask");
    }
}
