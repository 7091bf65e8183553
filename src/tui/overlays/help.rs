//! Help: the keys that are active where it was opened, read from the keymap in force.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::keymap::KeyContext;
use crate::tui::motion::Motion;
use crate::tui::response::Response;
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::{centred, framed};
use crate::tui::widgets::scroll::Scroll;
use crate::tui::widgets::span::piece;

/// Columns of the box.
const WIDTH: u16 = 64;
/// Lines that a page key scrolls.
const PAGE: usize = 8;

/// The place in the list of keys.
#[derive(Debug)]
pub(super) struct Help {
    /// Where the keys would be pressed.
    context: KeyContext,
    scroll: Scroll,
}

impl Help {
    pub(super) fn new(context: KeyContext) -> Self {
        Self { context, scroll: Scroll::default() }
    }

    /// A line an action, with all of its keys.
    fn lines(&self, scene: &Scene<'_>) -> Vec<Line<'static>> {
        let mut found: Vec<(&str, String)> = Vec::new();
        for binding in scene.keymap.active(self.context) {
            match found.iter_mut().find(|(label, _)| *label == binding.label()) {
                Some((_, keys)) => keys.push_str(&format!("  {}", binding.keys())),
                None => found.push((binding.label(), binding.keys())),
            }
        }
        let line = |(label, keys)| {
            Line::from(vec![
                piece(format!(" {label:<30}"), scene.theme, Tone::Text),
                piece(keys, scene.theme, Tone::Accent),
            ])
        };
        found.into_iter().map(line).collect()
    }
}

/// The box in the middle of an area.
fn place(area: Rect, lines: usize) -> Rect {
    centred(area, WIDTH, u16::try_from(lines + 2).unwrap_or(u16::MAX))
}

impl Component for Help {
    fn go(&mut self, motion: Motion, _: &Scene<'_>) -> Response {
        self.scroll.go(motion, PAGE);
        Response::none()
    }
}

impl Overlay for Help {
    fn prepare(&mut self, area: Rect, scene: &Scene<'_>) {
        let lines = self.lines(scene).len();
        let height = place(area, lines).height.saturating_sub(2);
        self.scroll.fit(lines, usize::from(height));
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let lines = self.lines(scene);
        let inner = framed(frame, place(area, lines.len()), "Help", scene.theme);
        self.scroll.draw(frame, inner, &lines, scene.theme);
    }
}
