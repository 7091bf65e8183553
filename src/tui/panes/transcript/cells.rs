//! Records of a transcript as lines for a reader.

use ratatui::text::{Line, Span};

use crate::core::model::agent_event::AgentEvent;
use crate::core::model::approval::DecidedBy;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::Untrusted;
use crate::journal::transcript::TranscriptEntry;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::marks::diff_role;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{fit, wrap};

/// Lines of a tool's output that are shown when it is unfolded.
const OUTPUT: usize = 200;

/// How records are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cells<'a> {
    pub(super) width: usize,
    /// Thoughts and the output of tools are shown in full.
    pub(super) unfolded: bool,
    pub(super) theme: &'a Theme,
}

impl Cells<'_> {
    /// The lines of a whole text, each behind `lead`.
    fn block(&self, text: &Untrusted, role: Tone, lead: &str) -> Vec<Line<'static>> {
        let room = self.width.saturating_sub(lead.chars().count());
        let part = |line| {
            let lead = piece(lead, self.theme, Tone::Border);
            Line::from(vec![lead, piece(line, self.theme, role)])
        };
        text.clean().lines().flat_map(|line| wrap(line, room)).map(part).collect()
    }

    /// One line behind a mark; a longer text is cut.
    fn one(&self, mark: &str, role: Tone, text: &str, text_role: Tone) -> Vec<Line<'static>> {
        let room = self.width.saturating_sub(mark.chars().count() + 1);
        vec![Line::from(vec![
            piece(format!("{mark} "), self.theme, role),
            piece(fit(text, room, self.theme.marks.cut), self.theme, text_role),
        ])]
    }

    /// The lines of a record. They never change again, unless the record is the newest, which may
    /// still be going on.
    pub(super) fn lines(&self, entry: &TranscriptEntry, newest: bool) -> Vec<Line<'static>> {
        let Cells { width, unfolded, theme } = *self;
        let marks = &theme.marks;
        match &entry.event {
            AgentEvent::Prompt { text } => {
                let title = format!("turn {}", entry.turn);
                let mut lines = self.one("»", Tone::Accent, &title, Tone::Title);
                let all = self.block(text, Tone::Dim, "  ");
                let shown = if unfolded { all.len() } else { all.len().min(3) };
                let hidden = all.len() - shown;
                lines.extend(all.into_iter().take(shown));
                if hidden > 0 {
                    let more = format!("  {} {}", marks.cut, plural(hidden, "more line"));
                    lines.push(Line::from(piece(more, theme, Tone::Dim)));
                }
                lines
            }
            AgentEvent::SessionStarted { session, model, .. } => {
                let model = model.as_ref().map(Untrusted::clean_line).unwrap_or_default();
                let text =
                    format!("session {} {model}", Untrusted::from(session.as_str()).clean_line());
                self.one("·", Tone::Dim, &text, Tone::Dim)
            }
            AgentEvent::Text { text } => self.block(text, Tone::Text, ""),
            AgentEvent::Thought { text } if unfolded => self.block(text, Tone::Dim, "  "),
            AgentEvent::Thought { text } => self.one("~", Tone::Dim, &text.clean_line(), Tone::Dim),
            AgentEvent::ToolStart { title, .. } if newest => {
                self.one(marks.busy, Tone::Busy, &title.clean_line(), Tone::Text)
            }
            AgentEvent::ToolStart { .. } => Vec::new(),
            AgentEvent::ToolEnd { title, ok, code, output, .. } => {
                let (mark, role) =
                    if *ok { (marks.done, Tone::Good) } else { (marks.bad, Tone::Bad) };
                let code = code.map_or_else(
                    || if *ok { "ok".into() } else { "failed".into() },
                    |c| format!("exit code {c}"),
                );
                let count = output.clean().lines().count();
                let lines = match count {
                    0 => String::new(),
                    count => format!(" · {}", plural(count, "line")),
                };
                let text = format!("{}  {code}{lines}", title.clean_line());
                let mut lines = self.one(mark, role, &text, Tone::Text);
                if unfolded {
                    lines.extend(self.block(output, Tone::Dim, "  │ ").into_iter().take(OUTPUT));
                }
                lines
            }
            AgentEvent::Diff { path, diff } => {
                let text = diff.clean();
                let added =
                    text.lines().filter(|l| l.starts_with('+') && !l.starts_with("+++")).count();
                let removed =
                    text.lines().filter(|l| l.starts_with('-') && !l.starts_with("---")).count();
                let head = format!("{}  +{added} -{removed}", path.clean_line());
                let mut lines = self.one("±", Tone::Accent, &head, Tone::Text);
                let body = text.lines().skip_while(|line| !line.starts_with("@@"));
                for line in body.take(OUTPUT) {
                    let role = diff_role(line, Tone::Dim);
                    for part in wrap(line, width.saturating_sub(2)) {
                        lines.push(Line::from(vec![Span::raw("  "), piece(part, theme, role)]));
                    }
                }
                lines
            }
            AgentEvent::Plan { items } => items
                .iter()
                .flat_map(|item| {
                    let (mark, role) =
                        if item.done { (marks.done, Tone::Good) } else { (marks.open, Tone::Dim) };
                    self.one(mark, role, &item.text.clean_line(), Tone::Text)
                })
                .collect(),
            AgentEvent::PermissionRequest { request, .. } if newest => {
                let text = format!("asks permission: {}", request.title.clean_line());
                self.one(marks.human, Tone::Warn, &text, Tone::Warn)
            }
            // The line of its answer names the request.
            AgentEvent::PermissionRequest { .. } => Vec::new(),
            AgentEvent::Question { text, .. } => {
                let text = format!("asks: {}", text.clean_line());
                self.one(marks.human, Tone::Warn, &text, Tone::Warn)
            }
            // The tool's own line shows what the policy allows.
            AgentEvent::Resolved { by, answer, .. }
                if *by == DecidedBy::Policy && answer.as_received() == "approved" =>
            {
                Vec::new()
            }
            AgentEvent::Resolved { title, answer, by, .. } => {
                let by = Untrusted::from(by.as_str()).clean_line();
                let title = title.clean_line();
                let of = if title.is_empty() { String::new() } else { format!(": {title}") };
                let text = format!("{}, by {by}{of}", answer.clean_line());
                let refused = answer.as_received().starts_with("denied");
                let (mark, role) =
                    if refused { (marks.bad, Tone::Bad) } else { (marks.done, Tone::Accent) };
                self.one(mark, role, &text, Tone::Text)
            }
            AgentEvent::Steered { text, by } => {
                let text =
                    format!("{}: {}", Untrusted::from(by.as_str()).clean_line(), text.clean_line());
                self.one("»", Tone::Accent, &text, Tone::Accent)
            }
            AgentEvent::SteerTaken => {
                self.one(marks.done, Tone::Accent, "message taken", Tone::Dim)
            }
            AgentEvent::Usage(spend) => {
                let money = spend.summary();
                let text = format!("{} in, {} out, {money}", spend.tokens_in, spend.tokens_out);
                self.one("$", Tone::Dim, &text, Tone::Dim)
            }
            AgentEvent::Retry { attempt, delay_ms, status } => {
                let status = status.map_or_else(String::new, |s| format!(" after status {s}"));
                let text =
                    format!("retries the model in {delay_ms} ms (attempt {attempt}){status}");
                self.one("~", Tone::Warn, &text, Tone::Warn)
            }
            AgentEvent::Quiet { seconds, interrupted } => {
                let now = if *interrupted { "; it is interrupted" } else { "" };
                let text = format!("no output for {seconds} s{now}");
                self.one("~", Tone::Warn, &text, Tone::Warn)
            }
            AgentEvent::Exited { code: Some(0), stderr } if stderr.is_empty() => Vec::new(),
            AgentEvent::Exited { code, stderr } => {
                let code =
                    code.map_or_else(|| "stopped".to_owned(), |code| format!("exit code {code}"));
                let text = format!("{code}  {}", stderr.clean_line());
                let mut lines = self.one("·", Tone::Dim, text.trim_end(), Tone::Dim);
                if unfolded {
                    lines.extend(self.block(stderr, Tone::Dim, "  │ ").into_iter().take(OUTPUT));
                }
                lines
            }
            // Streamed text is no record: no transcript has it.
            AgentEvent::Piece { .. } => Vec::new(),
            AgentEvent::Equipped(_) | AgentEvent::Active | AgentEvent::RequestWithdrawn { .. } => {
                Vec::new()
            }
            AgentEvent::Notice { text } => self.block(text, Tone::Accent, "· "),
            AgentEvent::Raw { line } => self.one("?", Tone::Dim, &line.clean_line(), Tone::Dim),
            AgentEvent::TurnEnd(end) => self.one("«", Tone::Accent, &end.summary(), Tone::Dim),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::time::Timestamp;
    use crate::tui::widgets::span::plain;

    #[test]
    fn control_characters_of_an_agent_are_removed() {
        let theme = Theme::load("dark", false, true).unwrap();
        let event = AgentEvent::Text { text: "a\u{1b}[2Jb\u{7}\nc".into() };
        let lines = Cells { width: 10, unfolded: false, theme: &theme }
            .lines(&TranscriptEntry { at: Timestamp(0), turn: 1, event }, false);
        let text: Vec<String> = lines.iter().map(plain).collect();
        assert_eq!(text, ["ab", "c"]);
    }
}
