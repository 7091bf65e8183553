//! The `command` protocol: afk's own JSON lines, for any program (docs/agents.md). The lines are
//! defined in [`super::wire`].

use super::wire::{ToAgent, WireDecision, translate};
use super::{AgentProtocol, ProtocolOutput, TurnSpec};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::approval::{Answer, DecidedBy};
use crate::core::model::capability::{Capabilities, Cost, Steer};

#[derive(Debug, Default)]
pub(crate) struct CommandProtocol {
    /// Whether the agent is offered tools of afk.
    has_tools: bool,
}

impl AgentProtocol for CommandProtocol {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            steer: Steer::MidTurn,
            interrupt: true,
            permissions: true,
            edits: true,
            reads_refusals: true,
            questions: true,
            plan: true,
            diffs: true,
            cost: Cost::Usd,
            budget: false,
            resume: true,
        }
    }

    fn begin(&mut self, spec: &TurnSpec, out: &mut ProtocolOutput) {
        self.has_tools = spec.tool_server.is_some();
        let prompt = spec.prompt.as_received();
        write(out, &ToAgent::Prompt { prompt, session: spec.resume.as_deref() });
    }

    fn receive_line(&mut self, line: &[u8], cut: bool, out: &mut ProtocolOutput) {
        match translate(line, cut) {
            AgentEvent::TurnEnd(end) => out.end = Some(end),
            AgentEvent::ToolCall { id, .. } if !self.has_tools => {
                let text = "afk offers no tools here";
                write(out, &ToAgent::ToolResult { id: &id, ok: false, text });
            }
            event => out.emit(event),
        }
    }

    fn steer(&mut self, text: &str, out: &mut ProtocolOutput) {
        write(out, &ToAgent::Steer { text });
    }

    fn follow_up(&mut self, text: &str, out: &mut ProtocolOutput) {
        write(out, &ToAgent::Steer { text });
    }

    fn answer(
        &mut self,
        request: &str,
        answer: &Answer,
        _by: &DecidedBy,
        out: &mut ProtocolOutput,
    ) {
        let (decision, text) = match answer {
            Answer::Approve | Answer::ApproveRun => (WireDecision::Allow, ""),
            Answer::Edit { command } => (WireDecision::Edit, command.as_received()),
            Answer::Deny { reason } => (WireDecision::Deny, reason.as_received()),
            Answer::Text { text } => (WireDecision::Text, text.as_received()),
        };
        write(out, &ToAgent::Answer { id: request, decision, text });
    }

    fn tool_result(&mut self, id: &str, ok: bool, text: &str, out: &mut ProtocolOutput) {
        write(out, &ToAgent::ToolResult { id, ok, text });
    }

    fn interrupt(&mut self, out: &mut ProtocolOutput) {
        write(out, &ToAgent::Interrupt);
    }
}

/// Queues one line for the agent.
fn write(out: &mut ProtocolOutput, line: &ToAgent<'_>) {
    // Serializing strings can't fail.
    out.lines.extend(serde_json::to_vec(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_call_without_offered_tools_is_refused_at_once() {
        let line = br#"{"type":"tool_call","id":"1","tool":"verb","arguments":{"verb":"stop"}}"#;
        let (mut protocol, mut out) = (CommandProtocol::default(), ProtocolOutput::default());
        protocol.receive_line(line, false, &mut out);
        assert!(out.events.is_empty(), "{:?}", out.events);
        let refused = String::from_utf8(out.lines.remove(0)).unwrap();
        assert!(refused.contains(r#""type":"tool_result","id":"1","ok":false"#), "{refused}");
        protocol.has_tools = true;
        protocol.receive_line(line, false, &mut out);
        let AgentEvent::ToolCall { id, tool, arguments } = &out.events[0] else {
            panic!("{:?}", out.events)
        };
        assert_eq!((id.as_str(), tool.as_str()), ("1", "verb"));
        assert_eq!(arguments.as_received(), r#"{"verb":"stop"}"#);
    }
}
