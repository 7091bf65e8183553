//! The footer: the chord that isn't finished, else the actions on offer.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::term::key::Key;
use crate::tui::action::{Action, UNDO};
use crate::tui::keymap::{Binding, KeyContext, Keymap};
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::lines;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{fit, width as columns};

/// The state that the footer shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footer<'a> {
    pub(crate) theme: &'a Theme,
    pub(crate) keymap: &'a Keymap,
    /// Where keys are pressed now.
    pub(crate) context: KeyContext,
    /// The keys of a chord that isn't finished.
    pub(crate) pending: &'a [Key],
    /// The actions on offer, the most wanted first.
    pub(crate) actions: &'a [Action],
    /// The name of the one thing that keys act on.
    pub(crate) subject: Option<&'a str>,
    /// The answer that can still be taken back, in words.
    pub(crate) undo: Option<&'a str>,
}

impl Footer<'_> {
    pub(crate) fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        let width = usize::from(area.width);
        let line = if self.pending.is_empty() {
            self.offer(width)
        } else {
            Line::from(piece(
                fit(&self.chord(), width, self.theme.marks.cut),
                self.theme,
                Tone::Accent,
            ))
        };
        lines::draw(frame, area, [line]);
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

    /// As many of the actions with a key as fit, each with the name of the thing that it acts on.
    fn offer(&self, width: usize) -> Line<'static> {
        let bound = |action: &Action| {
            self.keymap.active(self.context).find(|binding| binding.action == *action)
        };
        let label = |binding: &Binding| match self.subject {
            _ if binding.action == UNDO => self.undo.map(str::to_owned),
            Some(subject) if !binding.has_own_words() => binding.action.label_on(subject),
            _ => None,
        };
        let mut used = 0;
        let mut spans: Vec<Span<'static>> = Vec::new();
        let undo = self.undo.map(|_| UNDO);
        for binding in undo.iter().chain(self.actions).filter_map(bound) {
            let keys = binding.keys();
            let label = label(binding).unwrap_or_else(|| binding.label().to_owned());
            let wide = 3 + columns(&keys) + columns(&label);
            // The last label needs no space behind it. A long name leaves room for shorter ones.
            if used + wide > width + 1 {
                continue;
            }
            used += wide;
            spans.push(piece(format!(" {keys}"), self.theme, Tone::Accent));
            spans.push(piece(format!(" {label} "), self.theme, Tone::Dim));
        }
        Line::from(spans)
    }
}
