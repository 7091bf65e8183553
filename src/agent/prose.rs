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

/// Where the parts end that can be emitted of a text that still grows.
///
/// Paragraphs read better than lines. A long one is split at the end of a line or a word. A block of code
/// or a table stays whole up to [`LINES_LENGTH`]: a part of it alone would be read as prose.
fn part_end(text: &str) -> Option<usize> {
    let long = text.len() > PART_LENGTH;
    let (mut fence, mut end, mut at) = (false, None, 0);
    for line in text.split_inclusive('\n') {
        let begin = at;
        at += line.len();
        let is_table = line.starts_with('|');
        let parted = text[..begin].ends_with("\n\n") || (long && !is_table);
        if begin > 0 && !fence && parted {
            end = Some(begin - 1);
        }
        if line.trim_start().starts_with("```") {
            fence = !fence;
        }
    }
    if !fence && text.ends_with("\n\n") {
        return Some(text.len() - 1);
    }
    if end.is_none() && text.len() > LINES_LENGTH {
        return text.rfind('\n').or_else(|| text.rfind(' '));
    }
    let one_line = !text.contains('\n') && !text.starts_with(['|', '`']);
    end.or_else(|| (long && one_line).then(|| text.rfind(' ')).flatten())
}

/// The longest message whose repetition is noticed, in bytes.
const MESSAGE_KEPT: usize = 64 * 1024;

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
    /// The text of the current message so far, and of one before it that may come again.
    message: String,
    repeated: String,
    /// Pieces that repeat the beginning of that text.
    held: String,
}

impl Default for Prose {
    fn default() -> Self {
        Self {
            kind: ProseKind::Text,
            pending: String::new(),
            stream: false,
            message: String::new(),
            repeated: String::new(),
            held: String::new(),
        }
    }
}

impl Prose {
    /// Whether each piece of text is emitted at once, as an [`AgentEvent::Piece`], in addition. The
    /// events of the text then are whole lines with their line breaks, and together they are the text
    /// as the agent wrote it.
    pub(crate) const fn stream_pieces(&mut self, stream: bool) {
        self.stream = stream;
    }

    /// Begins another message. One `again` may repeat the text of the last one, which broke off: what is
    /// there already is not emitted twice.
    pub(crate) fn begin_message(&mut self, again: bool) {
        let before = std::mem::take(&mut self.message);
        let is_known = before.len() <= MESSAGE_KEPT;
        if again && is_known {
            // The stream may break off twice.
            if before.len() > self.repeated.len() {
                self.repeated = before;
            }
        } else {
            self.repeated.clear();
        }
        self.held.clear();
    }

    /// Appends a piece and emits the paragraphs that are complete.
    pub(crate) fn push(&mut self, kind: ProseKind, piece: &str, events: &mut Vec<AgentEvent>) {
        if kind != ProseKind::Text {
            return self.append(kind, piece, events);
        }
        if self.message.len() <= MESSAGE_KEPT {
            self.message.push_str(piece);
        }
        if self.repeated.is_empty() {
            return self.append(kind, piece, events);
        }
        self.held.push_str(piece);
        if self.held.len() < self.repeated.len() && self.repeated.starts_with(&self.held) {
            return;
        }
        let held = std::mem::take(&mut self.held);
        let repeated = std::mem::take(&mut self.repeated);
        let new = held.strip_prefix(&repeated).unwrap_or(&held);
        self.append(kind, new, events);
    }

    fn append(&mut self, kind: ProseKind, piece: &str, events: &mut Vec<AgentEvent>) {
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
        if let Some(end) = part_end(&self.pending) {
            let rest = self.pending.split_off(end);
            self.flush(events);
            rest.trim_start_matches(['\n', ' ']).clone_into(&mut self.pending);
        }
    }

    /// Emits the incomplete paragraph.
    pub(crate) fn flush(&mut self, events: &mut Vec<AgentEvent>) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            // A whole message that is shorter than the last one repeats nothing.
            self.repeated.clear();
            self.append(ProseKind::Text, &held, events);
        }
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
    fn code_and_tables_stay_whole() {
        let code = format!("```rust\n{}\n\nfn b() {{}}\n```\n", "fn a() {}\n".repeat(60));
        let table = format!("| a | b |\n|---|---|\n{}", "| one | two |\n".repeat(60));
        let text = format!("So:\n\n{code}\nThen:\n\n{table}\nEnd.");
        let (mut prose, mut events) = (Prose::default(), Vec::new());
        for piece in text.as_bytes().chunks(7) {
            prose.push(ProseKind::Text, std::str::from_utf8(piece).unwrap(), &mut events);
        }
        prose.flush(&mut events);
        let parts: Vec<&str> = events
            .iter()
            .map(|event| match event {
                AgentEvent::Text { text } => text.as_received(),
                other => panic!("{other:?}"),
            })
            .collect();
        let trimmed = |text: &str| text.trim_end().to_owned();
        assert_eq!(parts, ["So:", &trimmed(&code), "Then:", &trimmed(&table), "End."]);
        // An endless block is emitted in parts all the same.
        let (mut prose, mut events) = (Prose::default(), Vec::new());
        prose.push(ProseKind::Text, "```\n", &mut events);
        for _ in 0..LINES_LENGTH / 50 {
            prose.push(ProseKind::Text, &format!("{}\n", "x".repeat(99)), &mut events);
        }
        assert!(!events.is_empty());
    }

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
    fn message_that_broke_off_is_shown_once() {
        let shown = |second: &[&str]| {
            let (mut prose, mut events) = (Prose::default(), Vec::new());
            prose.begin_message(false);
            prose.push(ProseKind::Text, "I will fix", &mut events);
            prose.flush(&mut events);
            prose.begin_message(true);
            for piece in second {
                prose.push(ProseKind::Text, piece, &mut events);
            }
            let texts = |events: &[AgentEvent]| {
                let text = |event: &AgentEvent| match event {
                    AgentEvent::Text { text } => text.as_received().trim().to_owned(),
                    other => panic!("{other:?}"),
                };
                events.iter().map(text).collect::<Vec<_>>()
            };
            // It breaks off again.
            let mut twice = events.clone();
            prose.begin_message(true);
            prose.push(ProseKind::Text, "I will fix it.", &mut twice);
            prose.flush(&mut twice);
            texts(&twice)
        };
        assert_eq!(shown(&["I wi"]), ["I will fix", "it."]);
        let shown = |second: &[&str]| {
            let (mut prose, mut events) = (Prose::default(), Vec::new());
            prose.begin_message(false);
            prose.push(ProseKind::Text, "I will fix", &mut events);
            prose.flush(&mut events);
            prose.begin_message(true);
            for piece in second {
                prose.push(ProseKind::Text, piece, &mut events);
            }
            prose.flush(&mut events);
            let texts = events.iter().map(|event| match event {
                AgentEvent::Text { text } => text.as_received().trim().to_owned(),
                other => panic!("{other:?}"),
            });
            texts.collect::<Vec<_>>()
        };
        assert_eq!(shown(&["I will", " fix the", " parser."]), ["I will fix", "the parser."]);
        assert_eq!(shown(&["Let me", " see."]), ["I will fix", "Let me see."]);
        assert_eq!(shown(&["I will."]), ["I will fix", "I will."]);
        assert_eq!(shown(&["I will fix"]), ["I will fix"]);
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
