//! The `command` agent: any program that reads its prompt and speaks JSON lines
//! (docs/agents.md).

use super::wire::{ToAgent, translate};
use super::{Conversation, Said, TurnSpec};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::approval::Answer;
use crate::core::model::approval::DecidedBy;
use crate::core::model::capability::{Capabilities, Cost, Steer};

/// See the module.
#[derive(Debug, Default)]
pub struct Command;

impl Conversation for Command {
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

    fn begin(&mut self, spec: &TurnSpec, said: &mut Said) {
        let prompt = spec.prompt.as_received();
        tell(said, &ToAgent::Prompt { prompt, session: spec.resume.as_deref() });
    }

    fn hear(&mut self, line: &[u8], cut: bool, said: &mut Said) {
        match translate(line, cut) {
            AgentEvent::TurnEnd(end) => said.end = Some(end),
            event => said.event(event),
        }
    }

    fn steer(&mut self, text: &str, said: &mut Said) {
        tell(said, &ToAgent::Steer { text });
    }

    fn follow(&mut self, text: &str, said: &mut Said) {
        tell(said, &ToAgent::Steer { text });
    }

    fn answer(&mut self, request: &str, answer: &Answer, _by: &DecidedBy, said: &mut Said) {
        let (decision, text) = match answer {
            Answer::Approve | Answer::ApproveRun => ("allow", ""),
            Answer::Edit { command } => ("edit", command.as_received()),
            Answer::Deny { reason } => ("deny", reason.as_received()),
            Answer::Text { text } => ("text", text.as_received()),
        };
        tell(said, &ToAgent::Answer { id: request, decision, text });
    }

    fn interrupt(&mut self, said: &mut Said) {
        tell(said, &ToAgent::Interrupt);
    }
}

fn tell(said: &mut Said, line: &ToAgent<'_>) {
    // Names and texts only: this can't fail.
    said.lines.extend(serde_json::to_vec(line));
}
