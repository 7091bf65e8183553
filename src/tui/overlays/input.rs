//! A text being typed for a [`Prompt`].

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use tui_textarea::TextArea;

use crate::core::model::command::Command;
use crate::core::model::untrusted::clean;
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::response::{Prompt, PromptSize, Reaction, Response, Submit};
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::{Heading, centred, framed};
use crate::tui::widgets::lines;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::wrap;

/// The editor of a prompt.
pub(super) struct TextInput {
    title: String,
    /// The text that it began with, which is no draft.
    start: String,
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
        area.insert_str(&text);
        Self { title, start: text, about, size, area, submit: Some(submit) }
    }
}

impl TextInput {
    /// Closes the prompt; a text that was typed is kept as a draft.
    fn leave(&self) -> Response {
        let close = Response::from(Reaction::Close);
        let Some(text) = self.changed() else { return close };
        if text.trim().is_empty() {
            return close.then(Reaction::DropDraft(self.title.clone()));
        }
        close.then(Reaction::KeepDraft { title: self.title.clone(), text })
    }

    /// The fate of the draft when the text is used: that of a command, which can be refused, is kept until the
    /// fleet has accepted it.
    fn sent_draft(&self, command: Option<&Command>) -> Reaction {
        let title = self.title.clone();
        match command {
            Some(command) if !self.text().trim().is_empty() => {
                let command = command.clone();
                Reaction::SendDraft { title, text: self.changed(), command }
            }
            _ => Reaction::DropDraft(title),
        }
    }

    fn text(&self) -> String {
        self.area.lines().join("\n")
    }

    /// The text, where it could be a draft and isn't what the prompt began with.
    fn changed(&self) -> Option<String> {
        let text = self.text();
        (self.size == PromptSize::Text && text != self.start).then_some(text)
    }
}

impl Component for TextInput {
    fn typed(&mut self, event: &KeyEvent, _: &Scene<'_>) -> Option<Response> {
        let new_line = event.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SHIFT);
        match event.code {
            KeyCode::Esc => return Some(self.leave()),
            KeyCode::Enter if !new_line => {
                let submit = self.submit.take();
                let sent = submit.map(|submit| submit(self.text())).unwrap_or_default();
                let draft = self.sent_draft(sent.command());
                let close = Response::from(Reaction::Close).then(draft);
                return Some(close.followed_by(sent));
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
    fn is_input(&self) -> bool {
        true
    }

    fn draft(&self) -> Option<(String, String)> {
        let text = self.changed().filter(|text| !text.trim().is_empty())?;
        Some((self.title.clone(), text))
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let theme = scene.theme;
        let (rows, help) = match self.size {
            PromptSize::Line { enter } => (4, format!("<Enter> {enter}  <Esc> Leave")),
            PromptSize::Text => (9, "<Enter> Send  <A-Enter> New line  <Esc> Leave".to_owned()),
        };
        let width = usize::from(area.width.min(72).saturating_sub(2));
        let text = |part| Line::from(piece(part, theme, Tone::Text));
        let heading = Heading::of(&self.title, width.saturating_sub(2), theme);
        let mut about = heading.lines;
        about.extend(self.about.iter().flat_map(|line| wrap(line, width)).map(text));
        let above = u16::try_from(about.len()).unwrap_or(0);
        let inner = framed(frame, centred(area, 72, above + rows), &heading.title, theme);
        let above = above.min(inner.height.saturating_sub(2));
        lines::draw(frame, Rect { height: above, ..inner }, about);
        let rest = inner.height.saturating_sub(above);
        let text = Rect { y: inner.y + above, height: rest.saturating_sub(1), ..inner };
        frame.render_widget(&self.area, text);
        let last = inner.bottom().saturating_sub(1);
        let below = Rect { y: last, height: 1.min(inner.height), ..inner };
        lines::draw(frame, below, [Line::from(piece(help, theme, Tone::Dim))]);
    }
}
