//! Assembles an agent's prose, which arrives in small pieces, into paragraphs for the transcript.
//!
//! Every adapter whose agent streams its text pushes the pieces here, and flushes before an event
//! that must come after the text.

use crate::core::model::agent_event::AgentEvent;

use super::bounded;

/// A longer paragraph is emitted in parts, in bytes, so that an operator can follow it.
const PART_LENGTH: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProseKind {
    /// The answer to the user.
    Text,
    /// The model's reasoning.
    Thought,
}

#[derive(Debug)]
pub(crate) struct Prose {
    kind: ProseKind,
    pending: String,
    /// Emit each piece at once, in addition.
    stream: bool,
}

impl Default for Prose {
    fn default() -> Self {
        Self { kind: ProseKind::Text, pending: String::new(), stream: false }
    }
}

impl Prose {
    /// Whether each piece of text is emitted at once, as an [`AgentEvent::Piece`], in addition.
    pub(crate) const fn stream_pieces(&mut self, stream: bool) {
        self.stream = stream;
    }

    /// Appends a piece and emits the paragraphs that are complete.
    pub(crate) fn push(&mut self, kind: ProseKind, piece: &str, events: &mut Vec<AgentEvent>) {
        if kind != self.kind {
            self.flush(events);
            self.kind = kind;
        }
        if self.stream && kind == ProseKind::Text && !piece.is_empty() {
            events.push(AgentEvent::Piece { text: bounded(piece) });
        }
        self.pending.push_str(piece);
        // Paragraphs read better than lines. A long one is split at the end of a line or a word.
        let end = self.pending.rfind("\n\n").or_else(|| {
            (self.pending.len() > PART_LENGTH)
                .then(|| self.pending.rfind('\n').or_else(|| self.pending.rfind(' ')))
                .flatten()
        });
        if let Some(end) = end {
            let rest = self.pending.split_off(end);
            self.flush(events);
            rest.trim_start_matches(['\n', ' ']).clone_into(&mut self.pending);
        }
    }

    /// Emits the incomplete paragraph.
    pub(crate) fn flush(&mut self, events: &mut Vec<AgentEvent>) {
        let text = std::mem::take(&mut self.pending);
        let text = text.trim_end();
        if !text.trim().is_empty() {
            let text = bounded(text);
            events.push(match self.kind {
                ProseKind::Text => AgentEvent::Text { text },
                ProseKind::Thought => AgentEvent::Thought { text },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_joins_pieces_to_paragraphs() {
        let (mut prose, mut events) = (Prose::default(), Vec::new());
        for piece in ["Hel", "lo.\n", "\nSecond ", "one"] {
            prose.push(ProseKind::Text, piece, &mut events);
        }
        assert_eq!(events, [AgentEvent::Text { text: "Hello.".into() }]);
        prose.push(ProseKind::Thought, "hm", &mut events);
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
    fn push_splits_a_long_line_without_loss() {
        let (mut prose, mut events) = (Prose::default(), Vec::new());
        for _ in 0..300 {
            prose.push(ProseKind::Text, "word ", &mut events);
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
