//! The footer: the last message, else the chord that isn't finished, else the actions on offer.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::term::key::Key;
use crate::tui::action::Action;
use crate::tui::keymap::{KeyContext, Keymap};
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{fit, width as columns};

/// The state that the footer shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footer<'a> {
    pub(crate) theme: &'a Theme,
    pub(crate) keymap: &'a Keymap,
    /// Where keys are pressed now.
    pub(crate) context: KeyContext,
    pub(crate) message: Option<&'a str>,
    /// The keys of a chord that isn't finished.
    pub(crate) pending: &'a [Key],
    /// The actions on offer, the most wanted first.
    pub(crate) actions: &'a [Action],
}

impl Footer<'_> {
    pub(crate) fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        let width = usize::from(area.width);
        let line = match self.message {
            Some(message) => self.plain(&format!(" {message}"), width, Tone::Warn),
            None if !self.pending.is_empty() => self.plain(&self.chord(), width, Tone::Accent),
            None => self.offer(width),
        };
        frame.render_widget(Paragraph::new(line), area);
    }

    fn plain(&self, text: &str, width: usize, role: Tone) -> Line<'static> {
        Line::from(piece(fit(text, width, self.theme.marks.cut), self.theme, role))
    }

    /// The pressed keys, and the keys that can follow.
    fn chord(&self) -> String {
        let typed: Vec<String> = self.pending.iter().map(ToString::to_string).collect();
        let mut text = format!(" {}", typed.join(" "));
        for binding in self.keymap.active(self.context) {
            if binding.on.starts_with(self.pending) {
                let next = binding.on.get(self.pending.len()).map(ToString::to_string);
                text.push_str(&format!("   {} {}", next.unwrap_or_default(), binding.label()));
            }
        }
        text
    }

    /// As many of the actions with a key as fit.
    fn offer(&self, width: usize) -> Line<'static> {
        let bound = |action: &Action| {
            self.keymap.active(self.context).find(|binding| binding.action == *action)
        };
        let mut used = 0;
        let mut spans: Vec<Span<'static>> = Vec::new();
        for binding in self.actions.iter().filter_map(bound) {
            let (keys, label) = (binding.keys(), binding.label());
            used += 3 + columns(&keys) + columns(label);
            // The last label needs no space behind it.
            if used > width + 1 {
                break;
            }
            spans.push(piece(format!(" {keys}"), self.theme, Tone::Accent));
            spans.push(piece(format!(" {label} "), self.theme, Tone::Dim));
        }
        Line::from(spans)
    }
}
