//! Lines in colours, to read: the brief, spend, and two runs compared. They are computed for each frame, as
//! wide as it is.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Block;

use crate::tui::action::{Action, BACK, COPY, HELP, PAGE_DOWN};
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::motion::Motion;
use crate::tui::response::Response;
use crate::tui::widgets::boxes::framed;
use crate::tui::widgets::scroll::Scroll;
use crate::tui::widgets::span::plain;

/// Computes the lines for a number of columns.
type SheetLines = Box<dyn Fn(&Scene<'_>, usize) -> Vec<Line<'static>>>;

/// The columns of a copied text.
const COPIED: usize = 120;

/// The lines and the place in them.
pub(super) struct Sheet {
    title: String,
    opener: Option<Action>,
    lines: SheetLines,
    scroll: Scroll,
    /// The lines as computed for the last frame.
    shown: Vec<Line<'static>>,
}

impl Sheet {
    pub(super) fn new(
        title: impl Into<String>,
        opener: Option<Action>,
        lines: impl Fn(&Scene<'_>, usize) -> Vec<Line<'static>> + 'static,
    ) -> Self {
        let (title, lines) = (title.into(), Box::new(lines));
        Self { title, opener, lines, scroll: Scroll::default(), shown: Vec::new() }
    }
}

impl Component for Sheet {
    fn actions(&self, _: &Scene<'_>) -> Vec<Action> {
        vec![BACK, PAGE_DOWN, COPY, HELP]
    }

    fn go(&mut self, motion: Motion, scene: &Scene<'_>) -> Response {
        self.scroll.go(motion, scene.page);
        Response::none()
    }

    fn copy(&self, scene: &Scene<'_>) -> Option<String> {
        let lines = (self.lines)(scene, COPIED);
        let lines: Vec<String> =
            lines.iter().map(|line| plain(line).trim_end().to_owned()).collect();
        Some(lines.join("\n"))
    }
}

impl Overlay for Sheet {
    fn opener(&self) -> Option<Action> {
        self.opener
    }

    fn prepare(&mut self, area: Rect, scene: &Scene<'_>) {
        let inside = Block::bordered().inner(area);
        self.shown = (self.lines)(scene, usize::from(inside.width));
        self.scroll.fit(self.shown.len(), usize::from(inside.height));
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let inner = framed(frame, area, &self.title, scene.theme);
        self.scroll.draw(frame, inner, &self.shown, scene.theme);
    }
}
