//! Prose that comes in pieces, told as whole lines.

use crate::core::model::agent_event::AgentEvent;

use super::bounded;

/// A line that goes on for longer is told in parts, so that it can be watched.
const LONG: usize = 400;

/// What kind of prose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For a reader.
    Text,
    /// The model's reasoning.
    Thought,
}

/// Collects pieces; see the module.
#[derive(Debug)]
pub struct Prose {
    kind: Kind,
    pending: String,
    /// Tell each piece as it comes as well.
    pieces: bool,
}

impl Default for Prose {
    fn default() -> Self {
        Self { kind: Kind::Text, pending: String::new(), pieces: false }
    }
}

impl Prose {
    /// Tells each piece of text as it comes as well, where somebody listens.
    pub const fn tell_pieces(&mut self, tell: bool) {
        self.pieces = tell;
    }

    /// Takes a piece; tells the lines that are whole now.
    pub fn push(&mut self, kind: Kind, piece: &str, events: &mut Vec<AgentEvent>) {
        if kind != self.kind {
            self.flush(events);
            self.kind = kind;
        }
        if self.pieces && kind == Kind::Text && !piece.is_empty() {
            events.push(AgentEvent::Piece { text: bounded(piece) });
        }
        self.pending.push_str(piece);
        // Whole paragraphs read better than lines; a long one is told at a line or word.
        let end = self.pending.rfind("\n\n").or_else(|| {
            (self.pending.len() > LONG)
                .then(|| self.pending.rfind('\n').or_else(|| self.pending.rfind(' ')))
                .flatten()
        });
        if let Some(end) = end {
            let rest = self.pending.split_off(end);
            self.flush(events);
            rest.trim_start_matches(['\n', ' ']).clone_into(&mut self.pending);
        }
    }

    /// Tells what is left.
    pub fn flush(&mut self, events: &mut Vec<AgentEvent>) {
        let text = std::mem::take(&mut self.pending);
        let text = text.trim_end();
        if !text.trim().is_empty() {
            let text = bounded(text);
            events.push(match self.kind {
                Kind::Text => AgentEvent::Text { text },
                Kind::Thought => AgentEvent::Thought { text },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_paragraphs() {
        let (mut prose, mut events) = (Prose::default(), Vec::new());
        for piece in ["Hel", "lo.\n", "\nSecond ", "one"] {
            prose.push(Kind::Text, piece, &mut events);
        }
        assert_eq!(events, [AgentEvent::Text { text: "Hello.".into() }]);
        prose.push(Kind::Thought, "hm", &mut events);
        prose.flush(&mut events);
        prose.flush(&mut events);
        assert_eq!(
            events[1..],
            [
                AgentEvent::Text { text: "Second one".into() },
                AgentEvent::Thought { text: "hm".into() }
            ]
        );
    }

    #[test]
    fn a_long_line_is_told_as_it_comes_and_loses_nothing() {
        let (mut prose, mut events) = (Prose::default(), Vec::new());
        for _ in 0..300 {
            prose.push(Kind::Text, "word ", &mut events);
        }
        assert!(events.len() > 2);
        prose.flush(&mut events);
        let words: usize = events
            .iter()
            .map(|event| match event {
                AgentEvent::Text { text } => text.as_received().split_whitespace().count(),
                _ => 0,
            })
            .sum();
        assert_eq!(words, 300);
    }
}
