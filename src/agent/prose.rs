//! Assembles an agent's prose, which arrives in small pieces, into paragraphs for the transcript.
//! For the caller of a job, the transcript keeps every byte of it instead.
//!
//! Every adapter whose agent streams its text pushes the pieces here, and flushes before an event
//! that must come after the text.

use crate::core::model::agent_event::AgentEvent;

use super::{TEXT_LIMIT, bounded};

/// A longer paragraph is emitted in parts, in bytes, so that an operator can follow it.
const PART_LENGTH: usize = 400;

/// The most bytes of one event with whole lines, or with a piece. Only a longer line is cut.
const LINES_LENGTH: usize = TEXT_LIMIT / 2;

/// Emits text in events of whole lines.
fn emit_lines(text: &str, events: &mut Vec<AgentEvent>) {
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len();
        if end > LINES_LENGTH {
            let most = rest.floor_char_boundary(LINES_LENGTH);
            let line = rest[..most].rfind('\n').or_else(|| rest.find('\n'));
            end = line.map_or(end, |line| line + 1);
        }
        let (lines, after) = rest.split_at(end);
        events.push(AgentEvent::Text { text: bounded(lines) });
        rest = after;
    }
}

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
    /// Emit each piece at once, in addition, and keep every byte.
    stream: bool,
}

impl Default for Prose {
    fn default() -> Self {
        Self { kind: ProseKind::Text, pending: String::new(), stream: false }
    }
}

impl Prose {
    /// Whether each piece of text is emitted at once, as an [`AgentEvent::Piece`], in addition. The
    /// events of the text then are whole lines with their line breaks, and together they are the text
    /// as the agent wrote it.
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
            let mut rest = piece;
            while !rest.is_empty() {
                let (part, after) = rest.split_at(rest.floor_char_boundary(LINES_LENGTH));
                events.push(AgentEvent::Piece { text: part.into() });
                rest = after;
            }
        }
        self.pending.push_str(piece);
        if self.stream && kind == ProseKind::Text {
            // A caller may parse the text, so that it is cut at the end of a line alone.
            if self.pending.len() > PART_LENGTH
                && let Some(end) = self.pending.rfind('\n')
            {
                let rest = self.pending.split_off(end + 1);
                emit_lines(&self.pending, events);
                self.pending = rest;
            }
            return;
        }
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
        if self.stream && self.kind == ProseKind::Text {
            return emit_lines(&text, events);
        }
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
    fn text_of_a_job_is_cut_at_line_ends_alone_and_keeps_every_byte() {
        let json = format!("{{\n    \"a\": \"{}\",\n\n\t\"b\": 1\n}}\n", "word ".repeat(300));
        let long = format!("{json}{}", "line\n".repeat(TEXT_LIMIT / 4));
        for (json, size) in [(&json, 1), (&json, 7), (&json, 5000), (&long, usize::MAX)] {
            let (mut prose, mut events) = (Prose::default(), Vec::new());
            prose.stream_pieces(true);
            for piece in json.as_bytes().chunks(size) {
                prose.push(ProseKind::Text, std::str::from_utf8(piece).unwrap(), &mut events);
            }
            prose.flush(&mut events);
            let (mut whole, mut pieces) = (String::new(), String::new());
            for event in &events {
                match event {
                    AgentEvent::Text { text } => {
                        assert!(whole.is_empty() || whole.ends_with('\n'), "{whole:?}");
                        whole.push_str(text.as_received());
                    }
                    AgentEvent::Piece { text } => pieces.push_str(text.as_received()),
                    other => panic!("{other:?}"),
                }
            }
            assert!(&whole == json && &pieces == json, "{size}: {} {}", whole.len(), pieces.len());
        }
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
