//! Records of a transcript as lines for a reader.

use ratatui::text::Line;

use super::index::Index;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::approval::DecidedBy;
use crate::core::model::plural::plural;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::Untrusted;
use crate::journal::transcript::TranscriptEntry;
use crate::tui::markdown::{self, TextLine};
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::marks::diff_role;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, duration, fit, time_of_day, wrap, wrap_marked};

/// What a row takes of a text, in bytes: more than the widest terminal shows.
const HEAD: usize = 4 * 1024;
/// Lines of a tool's output that are shown when it is unfolded.
const OUTPUT: usize = 200;
/// Lines of a failed tool's output that are always shown.
const FAILURE: usize = 6;
/// Columns of a subagent's name.
const SUBAGENT: usize = 24;

/// How records are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cells<'a> {
    pub(super) width: usize,
    /// Thoughts and the output of tools are shown in full.
    pub(super) unfolded: bool,
    /// Nothing is cut or left out: a search found something in the record.
    pub(super) whole: bool,
    pub(super) theme: &'a Theme,
    /// What is known beyond the record.
    pub(super) index: &'a Index,
    pub(super) now: Timestamp,
}

/// A line of a record on the screen.
#[derive(Debug)]
pub(super) struct CellLine {
    pub(super) line: Line<'static>,
    /// Characters in front of the text.
    pub(super) lead: usize,
    /// The line continues the text of the line above it.
    pub(super) continues: bool,
}

impl Cells<'_> {
    /// The lines of a whole text, each behind `lead`.
    fn block(&self, text: &Untrusted, role: Tone, lead: &str) -> Vec<CellLine> {
        let room = self.width.saturating_sub(lead.chars().count());
        let text = text.clean();
        let pieces = |line| wrap(line, room).into_iter().enumerate();
        let part = |(at, part): (usize, String)| CellLine {
            line: Line::from(vec![
                piece(lead, self.theme, Tone::Border),
                piece(part, self.theme, role),
            ]),
            lead: lead.chars().count(),
            continues: at > 0,
        };
        text.lines().flat_map(pieces).map(part).collect()
    }

    /// The lines of a diff or of a program's output behind `lead`, at most [`OUTPUT`] unless the record
    /// is whole. A piece of a wrapped line is marked, so that it doesn't look like a line of its own.
    fn exact<'t>(
        &self,
        lines: impl Iterator<Item = &'t str>,
        role: impl Fn(&str) -> Tone,
        lead: &str,
    ) -> Vec<CellLine> {
        let (theme, room) = (self.theme, self.width.saturating_sub(lead.chars().count()));
        let most = if self.whole { usize::MAX } else { OUTPUT };
        let mut cells = Vec::new();
        for line in lines.take(most) {
            for (at, part) in wrap_marked(line, room, theme.marks.wrap).into_iter().enumerate() {
                let mark = if at > 0 { theme.marks.wrap.chars().count() + 1 } else { 0 };
                cells.push(CellLine {
                    line: Line::from(vec![
                        piece(lead, theme, Tone::Border),
                        piece(part, theme, role(line)),
                    ]),
                    lead: lead.chars().count() + mark,
                    continues: at > 0,
                });
            }
        }
        cells
    }

    /// The beginning of a text for one line; all of it where the record is whole.
    fn head_of(&self, text: &Untrusted) -> String {
        if self.whole { text.clean_line() } else { text.clean_head(HEAD) }
    }

    /// One line behind a mark; a longer text is cut, unless the record is whole.
    fn one(&self, mark: &str, role: Tone, text: &str, text_role: Tone) -> Vec<CellLine> {
        let lead = mark.chars().count() + 1;
        let room = self.width.saturating_sub(lead);
        let parts =
            if self.whole { wrap(text, room) } else { vec![fit(text, room, self.theme.marks.cut)] };
        let cell = |(at, part): (usize, String)| {
            let mark = if at == 0 { format!("{mark} ") } else { " ".repeat(lead) };
            let line =
                Line::from(vec![piece(mark, self.theme, role), piece(part, self.theme, text_role)]);
            CellLine { line, lead, continues: at > 0 }
        };
        parts.into_iter().enumerate().map(cell).collect()
    }

    /// The lines of prose in Markdown; `fence` is the language of the code block that it begins in.
    fn prose(&self, text: &Untrusted, fence: Option<&str>) -> Vec<CellLine> {
        let text = text.clean();
        let text = match fence {
            Some(language) => format!("```{language}\n{text}"),
            None => text,
        };
        let cell = |text: TextLine| {
            let TextLine { line, lead, continues } = text;
            CellLine { line, lead, continues }
        };
        markdown::lines(&text, self.width, self.theme).into_iter().map(cell).collect()
    }

    /// The head of a turn: when it began, how long it took so far, and what it cost.
    fn turn(&self, turn: u32) -> String {
        let dot = self.theme.marks.dot;
        let Some(facts) = self.index.turn(turn) else { return format!("turn {turn}") };
        let (began, usd) = (time_of_day(facts.began), facts.usd);
        let took = age(facts.last, facts.began);
        let cost = if usd.0 > 0 { format!(" {dot} {usd}") } else { String::new() };
        format!("turn {turn} {dot} {began} {dot} {took}{cost}")
    }

    /// The mark and the title of a tool; one that a subagent used is indented and names it.
    fn tool(&self, id: &str, mark: &str, title: &str) -> (String, String) {
        match self.index.subagent_of(id) {
            Some(name) => {
                let name = fit(name, SUBAGENT, self.theme.marks.cut);
                (format!("  {mark}"), format!("{name} {} {title}", self.theme.marks.folded))
            }
            None => (mark.to_owned(), title.to_owned()),
        }
    }

    /// The last lines of a failed tool's output, with the number of those before them.
    fn failure(&self, output: &str) -> Vec<CellLine> {
        let count = output.lines().count();
        let hidden = count.saturating_sub(FAILURE);
        let mut lines = Vec::new();
        if hidden > 0 {
            let text = format!("  │ {} {} before", self.theme.marks.cut, plural(hidden, "line"));
            let line = Line::from(piece(text, self.theme, Tone::Dim));
            lines.push(CellLine { line, lead: 4, continues: false });
        }
        lines.extend(self.exact(output.lines().skip(hidden), |_| Tone::Dim, "  │ "));
        lines
    }

    /// The lines of a record. They never change again, unless the record is the newest, which may
    /// still be going on.
    pub(super) fn lines(
        &self,
        record: usize,
        entry: &TranscriptEntry,
        newest: bool,
    ) -> Vec<CellLine> {
        let Cells { theme, whole, .. } = *self;
        let unfolded = self.unfolded || whole;
        let marks = &theme.marks;
        match &entry.event {
            AgentEvent::Prompt { text } => {
                let title = self.turn(entry.turn);
                let mut lines = self.one("»", Tone::Accent, &title, Tone::Title);
                let all = self.block(text, Tone::Dim, "  ");
                let shown = if unfolded { all.len() } else { all.len().min(3) };
                let hidden = all.len() - shown;
                lines.extend(all.into_iter().take(shown));
                if hidden > 0 {
                    let more = format!("  {} {}", marks.cut, plural(hidden, "more line"));
                    let line = Line::from(piece(more, theme, Tone::Dim));
                    lines.push(CellLine { line, lead: 0, continues: false });
                }
                lines
            }
            AgentEvent::SessionStarted { session, model, .. } => {
                let model = model.as_ref().map(Untrusted::clean_line).unwrap_or_default();
                let text =
                    format!("session {} {model}", Untrusted::from(session.as_str()).clean_line());
                self.one("·", Tone::Dim, &text, Tone::Dim)
            }
            AgentEvent::Text { text } => self.prose(text, self.index.fence(record)),
            AgentEvent::Thought { text } if unfolded => self.block(text, Tone::Dim, "  "),
            AgentEvent::Thought { text } => {
                self.one("~", Tone::Dim, &self.head_of(text), Tone::Dim)
            }
            AgentEvent::ToolStart { id, title, .. } if newest => {
                let (mark, mut title) = self.tool(id, marks.busy, &self.head_of(title));
                if let Some(since) = self.index.since(id).filter(|at| self.now.since(*at) >= 60_000)
                {
                    title.push_str(&format!(" {} {}", marks.dot, age(self.now, since)));
                }
                self.one(&mark, Tone::Busy, &title, Tone::Text)
            }
            AgentEvent::ToolStart { .. } => Vec::new(),
            AgentEvent::ToolEnd { id, title, ok, code, output } => {
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
                let took = match self.index.since(id).map(|since| entry.at.since(since)) {
                    Some(took) if took >= 1000 => format!(" {} {}", marks.dot, duration(took)),
                    _ => String::new(),
                };
                let (mark, title) = self.tool(id, mark, &self.head_of(title));
                let text = format!("{title}  {code}{took}{lines}");
                let mut lines =
                    self.one(&mark, role, &text, if *ok { Tone::Text } else { Tone::Bad });
                let output = output.clean();
                if unfolded {
                    lines.extend(self.exact(output.lines(), |_| Tone::Dim, "  │ "));
                } else if !ok {
                    lines.extend(self.failure(&output));
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
                lines.extend(self.exact(body, |line| diff_role(line, Tone::Dim), "  "));
                lines
            }
            // The row of the run shows both.
            AgentEvent::Context(_) | AgentEvent::ToolRunning { .. } => Vec::new(),
            AgentEvent::Plan { items } => items
                .iter()
                .flat_map(|item| {
                    let (mark, role) =
                        if item.done { (marks.done, Tone::Good) } else { (marks.open, Tone::Dim) };
                    self.one(mark, role, &item.text.clean_line(), Tone::Text)
                })
                .collect(),
            AgentEvent::PermissionRequest { request, .. } if newest => {
                let text = format!("asks permission: {}", self.head_of(&request.title));
                self.one(marks.human, Tone::Warn, &text, Tone::Warn)
            }
            // The line of its answer names the request.
            AgentEvent::PermissionRequest { .. } => Vec::new(),
            AgentEvent::Question { text, .. } => {
                let text = format!("asks: {}", self.head_of(text));
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
                    let stderr = stderr.clean();
                    lines.extend(self.exact(stderr.lines(), |_| Tone::Dim, "  │ "));
                }
                lines
            }
            // Streamed text is no record: no transcript has it.
            AgentEvent::Piece { .. } => Vec::new(),
            AgentEvent::Equipped(_)
            | AgentEvent::Active
            | AgentEvent::RequestWithdrawn { .. }
            | AgentEvent::ToolCall { .. } => Vec::new(),
            AgentEvent::Notice { text } => self.block(text, Tone::Accent, "· "),
            AgentEvent::Raw { line } => self.one("?", Tone::Dim, &self.head_of(line), Tone::Dim),
            AgentEvent::TurnEnd(end) => self.one("«", Tone::Accent, &end.summary(), Tone::Dim),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::widgets::span::plain;

    #[test]
    fn control_characters_of_an_agent_are_removed() {
        let theme = Theme::load("dark", false, true).unwrap();
        let event = AgentEvent::Text { text: "a\u{1b}[2Jb\u{7}\nc".into() };
        let (index, now) = (Index::default(), Timestamp(0));
        let cells =
            Cells { width: 10, unfolded: false, whole: false, theme: &theme, index: &index, now };
        let lines = cells.lines(0, &TranscriptEntry { at: now, turn: 1, event }, false);
        let text: Vec<String> = lines.iter().map(|cell| plain(&cell.line)).collect();
        assert_eq!(text, ["ab", "c"]);
    }
}
