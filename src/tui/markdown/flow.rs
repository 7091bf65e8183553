//! A run of styled text that is wrapped at words.

use ratatui::style::Style;
use ratatui::text::Span;

use crate::core::model::untrusted::push_clean;
use crate::tui::widgets::text::{width, wrap};

/// Text in pieces of one style each.
#[derive(Debug, Default)]
pub(super) struct StyledText {
    text: String,
    /// Where each piece ends in the text.
    pieces: Vec<(usize, Style)>,
}

impl StyledText {
    /// Appends a text, cleaned: the parser has decoded its entities since the whole text was.
    pub(super) fn push(&mut self, text: &str, style: Style) {
        // `wrap` replaces tabs, and the pieces count bytes.
        push_clean(&mut self.text, &text.replace('\t', "    "));
        match self.pieces.last_mut() {
            Some((end, known)) if *known == style => *end = self.text.len(),
            _ => self.pieces.push((self.text.len(), style)),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether the text from a place on is exactly this one.
    pub(super) fn ends_with(&self, from: usize, text: &str) -> bool {
        self.text.get(from..) == Some(text)
    }

    pub(super) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// The columns of its longest line.
    pub(super) fn widest(&self) -> usize {
        self.text.lines().map(width).max().unwrap_or(0)
    }

    /// The lines in pieces of at most `columns`, and whether each continues the one above it.
    pub(super) fn wrapped(&self, columns: usize) -> Vec<(Vec<Span<'static>>, bool)> {
        let mut out = Vec::new();
        let mut at = 0;
        let mut piece = 0;
        for line in self.text.trim_end_matches('\n').split('\n') {
            for (nth, part) in wrap(line, columns).into_iter().enumerate() {
                let end = at + part.len();
                let mut spans = Vec::new();
                while at < end {
                    while self.pieces.get(piece).is_some_and(|(to, _)| *to <= at) {
                        piece += 1;
                    }
                    let (to, style) =
                        self.pieces.get(piece).copied().unwrap_or((end, Style::default()));
                    let to = to.clamp(at + 1, end);
                    let Some(text) = self.text.get(at..to) else { break };
                    spans.push(Span::styled(text.to_owned(), style));
                    at = to;
                }
                at = end;
                out.push((spans, nth > 0));
            }
            // The line break.
            at += 1;
        }
        out
    }
}
