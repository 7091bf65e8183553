//! The events whose texts belong together: a secret can arrive in two lines or two pieces.

use crate::core::model::agent_event::AgentEvent;
use crate::core::model::untrusted::Untrusted;
use crate::redact::Split;

impl Split for AgentEvent {
    fn parts(&mut self, change: &mut dyn FnMut(&str, &mut String)) {
        let (key, text) = match self {
            Self::Text { text } => ("text", text),
            Self::Piece { text } => ("piece", text),
            Self::Thought { text } => ("thought", text),
            Self::Notice { text } => ("notice", text),
            Self::Raw { line } => ("raw", line),
            _ => return,
        };
        let mut clean = text.as_received().to_owned();
        change(key, &mut clean);
        if clean != text.as_received() {
            *text = Untrusted::new(clean);
        }
    }
}
