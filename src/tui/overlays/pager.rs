//! A text to read: a diff, a capture, an explanation, or lines that follow the fleet.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Block;

use crate::tui::action::{Action, BACK, COPY, HELP, PAGE_DOWN};
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::motion::Motion;
use crate::tui::response::{Response, TextSource, TextView};
use crate::tui::run_actions::offered_on;
use crate::tui::subject::Subject;
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::framed;
use crate::tui::widgets::marks::diff_role;
use crate::tui::widgets::scroll::Scroll;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::wrap_marked;

/// A document and the place in it.
pub(super) struct Pager {
    title: String,
    content: TextSource,
    scroll: Scroll,
    subject: Option<Subject>,
    /// The lines as wrapped for the last frame.
    wrapped: Vec<Line<'static>>,
}

impl Pager {
    pub(super) fn new(document: TextView) -> Self {
        let TextView { title, content, at_end, subject } = document;
        let scroll = if at_end { Scroll::end() } else { Scroll::default() };
        Self { title, content, scroll, subject, wrapped: Vec::new() }
    }
}

impl Component for Pager {
    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        let mut actions = vec![BACK, PAGE_DOWN];
        actions.extend(offered_on(self.subject.as_ref(), scene.snapshot));
        actions.extend([COPY, HELP]);
        actions
    }

    fn subject(&self, _: &Scene<'_>) -> Option<Subject> {
        self.subject.clone()
    }

    fn go(&mut self, motion: Motion, scene: &Scene<'_>) -> Response {
        self.scroll.go(motion, scene.page);
        Response::none()
    }

    fn copy(&self, scene: &Scene<'_>) -> Option<String> {
        Some(match &self.content {
            TextSource::Fixed(lines) => lines.join("\n"),
            TextSource::Live(lines) => lines(scene.snapshot, scene.now).join("\n"),
        })
    }
}

impl Overlay for Pager {
    fn prepare(&mut self, area: Rect, scene: &Scene<'_>) {
        let computed;
        let lines = match &self.content {
            TextSource::Fixed(lines) => lines,
            TextSource::Live(live) => {
                computed = live(scene.snapshot, scene.now);
                &computed
            }
        };
        let inside = Block::bordered().inner(area);
        let width = usize::from(inside.width);
        let mark = scene.theme.marks.wrap;
        self.wrapped = lines
            .iter()
            .flat_map(|line| {
                wrap_marked(line, width, mark).into_iter().map(move |part| (line, part))
            })
            .map(|(line, part)| Line::from(piece(part, scene.theme, diff_role(line, Tone::Text))))
            .collect();
        self.scroll.fit(self.wrapped.len(), usize::from(inside.height));
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let inner = framed(frame, area, &self.title, scene.theme);
        self.scroll.draw(frame, inner, &self.wrapped, scene.theme);
    }
}
