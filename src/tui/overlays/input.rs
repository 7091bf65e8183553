//! A text being typed for a [`Prompt`].

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;
use tui_textarea::TextArea;

use crate::core::model::untrusted::clean;
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::response::{Prompt, PromptSize, Reaction, Response, Submit};
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::{centred, framed};
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::wrap;

/// The editor of a prompt.
pub(super) struct TextInput {
    title: String,
    about: Vec<String>,
    size: PromptSize,
    area: TextArea<'static>,
    /// Taken when the text is sent.
    submit: Option<Submit>,
}

impl TextInput {
    pub(super) fn new(prompt: Prompt) -> Self {
        let Prompt { title, about, text, size, submit } = prompt;
        let mut area = TextArea::default();
        area.set_cursor_line_style(Style::default());
        area.insert_str(text);
        Self { title, about, size, area, submit: Some(submit) }
    }
}

impl Component for TextInput {
    fn typed(&mut self, event: &KeyEvent, _: &Scene<'_>) -> Option<Response> {
        let new_line = event.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SHIFT);
        match event.code {
            KeyCode::Esc => return Some(Reaction::Close.into()),
            KeyCode::Enter if !new_line => {
                let text = self.area.lines().join("\n");
                let sent = self.submit.take().map(|submit| submit(text));
                return Some(Response::from(Reaction::Close).followed_by(sent.unwrap_or_default()));
            }
            KeyCode::Enter => self.area.insert_newline(),
            _ => {
                self.area.input(*event);
            }
        }
        Some(Response::none())
    }

    fn paste(&mut self, text: &str) -> Response {
        self.area.insert_str(clean(text));
        Response::none()
    }
}

impl Overlay for TextInput {
    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let theme = scene.theme;
        let (rows, help) = match self.size {
            PromptSize::Line { enter } => (4, format!("<Enter> {enter}  <Esc> Cancel")),
            PromptSize::Text => (9, "<Enter> Send  <A-Enter> New line  <Esc> Cancel".to_owned()),
        };
        let width = usize::from(area.width.min(72).saturating_sub(2));
        let text = |part| Line::from(piece(part, theme, Tone::Text));
        let about: Vec<Line<'_>> =
            self.about.iter().flat_map(|line| wrap(line, width)).map(text).collect();
        let above = u16::try_from(about.len()).unwrap_or(0);
        let inner = framed(frame, centred(area, 72, above + rows), &self.title, theme);
        let above = above.min(inner.height.saturating_sub(2));
        frame.render_widget(Paragraph::new(about), Rect { height: above, ..inner });
        let rest = inner.height.saturating_sub(above);
        let text = Rect { y: inner.y + above, height: rest.saturating_sub(1), ..inner };
        frame.render_widget(&self.area, text);
        let last = inner.bottom().saturating_sub(1);
        let below = Rect { y: last, height: 1.min(inner.height), ..inner };
        frame.render_widget(Paragraph::new(Line::from(piece(help, theme, Tone::Dim))), below);
    }
}
