//! Transcript: what the agent says, as a person would want to read it. The text stays in its
//! file; here is a window of it.

use crate::core::model::approval::DecidedBy;
use std::io;

use ratatui::text::{Line, Span};

use super::super::theme::{Role, Theme};
use super::super::widgets::text::{fit, wrap};
use super::piece;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::id::RunId;
use crate::core::model::untrusted::Untrusted;
use crate::journal::transcript::{Entry, Reader, Store};

/// Lines of a tool's output that are shown when it is unfolded.
const OUTPUT: usize = 200;

/// Where a window begins: a record, and a line of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Place {
    record: usize,
    line: usize,
}

/// The window; see the module.
#[derive(Debug, Default)]
pub struct Transcript {
    run: Option<RunId>,
    reader: Option<Reader>,
    top: Place,
    /// Stays at the end as it grows.
    pub follow: bool,
    /// Tools' output and thoughts are shown.
    pub unfolded: bool,
    /// The record that a search found.
    pub hit: Option<usize>,
    lines: Vec<Line<'static>>,
    height: usize,
    width: usize,
}

impl Transcript {
    /// The lines to draw, as last prepared.
    #[must_use]
    pub fn lines(&self) -> &[Line<'static>] {
        &self.lines
    }

    /// Records in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.reader.as_ref().map_or(0, Reader::len)
    }

    /// No record in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record at the top of the window.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.top.record
    }

    /// Reads what the window shows. A run that was not shown before is shown from its end.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn prepare(
        &mut self,
        store: &Store,
        run: Option<RunId>,
        width: usize,
        height: usize,
        theme: &Theme,
    ) -> io::Result<()> {
        if self.run != run {
            let unfolded = self.unfolded;
            let reader = run.map(|run| store.reader(run));
            *self = Self { run, reader, follow: true, unfolded, ..Self::default() };
        }
        (self.width, self.height) = (width, height);
        self.lines.clear();
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.refresh()?;
        if self.follow {
            self.show_end(theme)?;
        }
        self.fill(theme)
    }

    fn fill(&mut self, theme: &Theme) -> io::Result<()> {
        let Some(reader) = &self.reader else { return Ok(()) };
        let mut skip = self.top.line;
        let mut record = self.top.record;
        while self.lines.len() < self.height && record < reader.len() {
            let entries = reader.read(record, self.height.max(16))?;
            let count = entries.len();
            for entry in entries {
                let newest = record + 1 == reader.len();
                let mut cell = cell(&entry, self.width, self.unfolded, newest, theme);
                if self.hit == Some(record)
                    && let Some(first) = cell.first_mut()
                {
                    first.spans.insert(0, piece(">", theme, Role::Accent));
                }
                self.lines.extend(cell.into_iter().skip(skip));
                skip = 0;
                record += 1;
            }
            if count == 0 {
                break;
            }
        }
        self.lines.truncate(self.height);
        Ok(())
    }

    /// Puts the window so that the last line is at its end.
    fn show_end(&mut self, theme: &Theme) -> io::Result<()> {
        let Some(reader) = &self.reader else { return Ok(()) };
        self.top = self.back(Place { record: reader.len(), line: 0 }, self.height, theme)?;
        Ok(())
    }

    /// The place `lines` above another.
    fn back(&self, from: Place, lines: usize, theme: &Theme) -> io::Result<Place> {
        let Some(reader) = &self.reader else { return Ok(from) };
        if from.line >= lines {
            return Ok(Place { line: from.line - lines, ..from });
        }
        let mut left = lines - from.line;
        let mut end = from.record;
        while end > 0 {
            let begin = end.saturating_sub(64);
            let entries = reader.read(begin, end - begin)?;
            for (at, entry) in entries.iter().enumerate().rev() {
                let newest = begin + at + 1 == reader.len();
                let height = cell(entry, self.width, self.unfolded, newest, theme).len();
                if height >= left {
                    return Ok(Place { record: begin + at, line: height - left });
                }
                left -= height;
            }
            end = begin;
        }
        Ok(Place::default())
    }

    /// The place `lines` below another.
    fn forward(&self, from: Place, lines: usize, theme: &Theme) -> io::Result<Place> {
        let Some(reader) = &self.reader else { return Ok(from) };
        let (mut record, mut left) = (from.record, from.line + lines);
        while record < reader.len() {
            for entry in reader.read(record, 64)? {
                let newest = record + 1 == reader.len();
                let height = cell(&entry, self.width, self.unfolded, newest, theme).len();
                if height > left {
                    return Ok(Place { record, line: left });
                }
                left -= height;
                record += 1;
            }
        }
        Ok(Place { record, line: 0 })
    }

    /// Scrolls by lines; the end is followed once it is reached.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn scroll(&mut self, by: isize, theme: &Theme) -> io::Result<()> {
        self.hit = None;
        if by < 0 {
            self.follow = false;
            self.top = self.back(self.top, by.unsigned_abs(), theme)?;
        } else {
            let bottom = self.back(Place { record: self.len(), line: 0 }, self.height, theme)?;
            let to = self.forward(self.top, by.unsigned_abs(), theme)?;
            self.follow = (to.record, to.line) >= (bottom.record, bottom.line);
            self.top = if self.follow { bottom } else { to };
        }
        Ok(())
    }

    /// Scrolls by windows.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn page(&mut self, by: isize, theme: &Theme) -> io::Result<()> {
        let height = isize::try_from(self.height.saturating_sub(1).max(1)).unwrap_or(1);
        self.scroll(by * height, theme)
    }

    /// To the first line.
    pub fn show_top(&mut self) {
        self.follow = false;
        self.top = Place::default();
    }

    /// To the next hit from the one before, or from the window. False where there is none.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn search(&mut self, text: &str, backwards: bool) -> io::Result<bool> {
        let Some(reader) = &self.reader else { return Ok(false) };
        let found = match (self.hit, backwards) {
            (Some(0), true) => None,
            (Some(hit), true) => reader.search(text, hit - 1, true)?,
            (Some(hit), false) => reader.search(text, hit + 1, false)?,
            (None, true) => reader.search(text, reader.len(), true)?,
            (None, false) => match reader.search(text, self.top.record, false)? {
                None => reader.search(text, 0, false)?,
                found => found,
            },
        };
        if let Some(record) = found {
            self.hit = found;
            self.follow = false;
            self.top = Place { record: record.saturating_sub(2), line: 0 };
        }
        Ok(found.is_some())
    }

    /// The window as text.
    #[must_use]
    pub fn text(&self) -> String {
        let line =
            |line: &Line<'_>| line.spans.iter().map(|s| s.content.as_ref()).collect::<String>();
        self.lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn block(
    text: &Untrusted,
    width: usize,
    theme: &Theme,
    role: Role,
    lead: &str,
) -> Vec<Line<'static>> {
    let room = width.saturating_sub(lead.chars().count());
    text.clean()
        .lines()
        .flat_map(|line| wrap(line, room))
        .map(|line| Line::from(vec![piece(lead, theme, Role::Border), piece(line, theme, role)]))
        .collect()
}

fn one(
    mark: &str,
    role: Role,
    text: &str,
    text_role: Role,
    width: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let room = width.saturating_sub(mark.chars().count() + 1);
    vec![Line::from(vec![
        piece(format!("{mark} "), theme, role),
        piece(fit(text, room, theme.marks.cut), theme, text_role),
    ])]
}

/// A record as lines for a width. Immutable but for the newest, which may still be going on.
fn cell(
    entry: &Entry,
    width: usize,
    unfolded: bool,
    newest: bool,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let marks = &theme.marks;
    match &entry.event {
        AgentEvent::Prompt { text } => {
            let title = format!("turn {}", entry.turn);
            let mut lines = one("»", Role::Accent, &title, Role::Title, width, theme);
            let all = block(text, width, theme, Role::Dim, "  ");
            let shown = if unfolded { all.len() } else { all.len().min(3) };
            let hidden = all.len() - shown;
            lines.extend(all.into_iter().take(shown));
            if hidden > 0 {
                let more = format!("  {} {hidden} lines more", marks.cut);
                lines.push(Line::from(piece(more, theme, Role::Dim)));
            }
            lines
        }
        AgentEvent::SessionStarted { session, model, .. } => {
            let model = model.as_ref().map(Untrusted::clean_line).unwrap_or_default();
            let text =
                format!("session {} {model}", Untrusted::from(session.as_str()).clean_line());
            one("·", Role::Dim, &text, Role::Dim, width, theme)
        }
        AgentEvent::Text { text } => block(text, width, theme, Role::Text, ""),
        AgentEvent::Thought { text } if unfolded => block(text, width, theme, Role::Dim, "  "),
        AgentEvent::Thought { text } => {
            one("~", Role::Dim, &text.clean_line(), Role::Dim, width, theme)
        }
        AgentEvent::ToolStart { title, .. } if newest => {
            one(marks.busy, Role::Busy, &title.clean_line(), Role::Text, width, theme)
        }
        AgentEvent::ToolStart { .. } => Vec::new(),
        AgentEvent::ToolEnd { title, ok, code, output, .. } => {
            let (mark, role) = if *ok { (marks.done, Role::Good) } else { (marks.bad, Role::Bad) };
            let code = code.map_or_else(
                || if *ok { "ok".into() } else { "failed".into() },
                |c| format!("exit {c}"),
            );
            let count = output.clean().lines().count();
            let lines = match count {
                0 => String::new(),
                1 => " · 1 line".into(),
                count => format!(" · {count} lines"),
            };
            let text = format!("{}  {code}{lines}", title.clean_line());
            let mut lines = one(mark, role, &text, Role::Text, width, theme);
            if unfolded {
                lines.extend(
                    block(output, width, theme, Role::Dim, "  │ ").into_iter().take(OUTPUT),
                );
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
            let mut lines = one("±", Role::Accent, &head, Role::Text, width, theme);
            let body = text.lines().skip_while(|line| !line.starts_with("@@"));
            for line in body.take(OUTPUT) {
                let role = diff_role(line);
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
                    if item.done { (marks.done, Role::Good) } else { (marks.open, Role::Dim) };
                one(mark, role, &item.text.clean_line(), Role::Text, width, theme)
            })
            .collect(),
        AgentEvent::PermissionRequest { request: ask, .. } if newest => {
            let text = format!("asks leave: {}", ask.title.clean_line());
            one(marks.human, Role::Warn, &text, Role::Warn, width, theme)
        }
        // Its answer tells what was asked.
        AgentEvent::PermissionRequest { .. } => Vec::new(),
        AgentEvent::Question { text, .. } => {
            let text = format!("asks: {}", text.clean_line());
            one(marks.human, Role::Warn, &text, Role::Warn, width, theme)
        }
        // What the policy allows is in the tool's own line.
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
                if refused { (marks.bad, Role::Bad) } else { (marks.done, Role::Accent) };
            one(mark, role, &text, Role::Text, width, theme)
        }
        AgentEvent::Steered { text, by } => {
            let text =
                format!("{}: {}", Untrusted::from(by.as_str()).clean_line(), text.clean_line());
            one("»", Role::Accent, &text, Role::Accent, width, theme)
        }
        AgentEvent::SteerTaken => {
            one(marks.done, Role::Accent, "taken up", Role::Dim, width, theme)
        }
        AgentEvent::Usage(spend) => {
            let money = spend.summary();
            let text = format!("{} in, {} out, {money}", spend.tokens_in, spend.tokens_out);
            one("$", Role::Dim, &text, Role::Dim, width, theme)
        }
        AgentEvent::Retry { attempt, delay_ms, status } => {
            let status = status.map_or_else(String::new, |s| format!(" after status {s}"));
            let text = format!("asks the model again in {delay_ms} ms (try {attempt}){status}");
            one("~", Role::Warn, &text, Role::Warn, width, theme)
        }
        AgentEvent::Quiet { seconds, interrupted } => {
            let now = if *interrupted { "; it is interrupted" } else { "" };
            let text = format!("nothing heard for {seconds} s{now}");
            one("~", Role::Warn, &text, Role::Warn, width, theme)
        }
        AgentEvent::Exited { code: Some(0), stderr } if stderr.is_empty() => Vec::new(),
        AgentEvent::Exited { code, stderr } => {
            let code = code.map_or_else(|| "stopped".to_owned(), |code| format!("exit {code}"));
            let text = format!("{code}  {}", stderr.clean_line());
            let mut lines = one("·", Role::Dim, text.trim_end(), Role::Dim, width, theme);
            if unfolded {
                lines.extend(
                    block(stderr, width, theme, Role::Dim, "  │ ").into_iter().take(OUTPUT),
                );
            }
            lines
        }
        // No transcript has it.
        AgentEvent::Piece { .. } => Vec::new(),
        AgentEvent::Equipped(_) | AgentEvent::Active | AgentEvent::RequestWithdrawn { .. } => {
            Vec::new()
        }
        AgentEvent::Notice { text } => block(text, width, theme, Role::Accent, "· "),
        AgentEvent::Raw { line } => {
            one("?", Role::Dim, &line.clean_line(), Role::Dim, width, theme)
        }
        AgentEvent::TurnEnd(end) => one("«", Role::Accent, &end.summary(), Role::Dim, width, theme),
    }
}

/// The colour of a line of a unified diff; its sign says the same.
#[must_use]
pub fn diff_role(line: &str) -> Role {
    match line.as_bytes().first() {
        Some(b'+') => Role::Good,
        Some(b'-') => Role::Bad,
        Some(b'@') => Role::Accent,
        _ => Role::Dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::time::Timestamp;

    fn store(count: usize) -> (tempfile::TempDir, Store, Theme) {
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(state.path()).unwrap();
        let entry = |n: usize| Entry {
            at: Timestamp(0),
            turn: 1,
            event: AgentEvent::Text { text: format!("line {n}").into() },
        };
        store.append(RunId(1), &(0..count).map(entry).collect::<Vec<_>>()).unwrap();
        (state, store, Theme::load("dark", false, true).unwrap())
    }

    #[test]
    fn it_follows_and_scrolls_and_finds() {
        let (_state, store, theme) = store(1000);
        let mut window = Transcript::default();
        let run = Some(RunId(1));
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().ends_with("line 999") && window.lines().len() == 10);
        window.scroll(-5, &theme).unwrap();
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().ends_with("line 994") && !window.follow);
        window.scroll(5, &theme).unwrap();
        assert!(window.follow);
        window.show_top();
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().starts_with("line 0\n"));
        assert!(window.search("line 777", false).unwrap());
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().contains(">line 777"));
        assert!(!window.search("line 778x", false).unwrap());
        window.page(-1, &theme).unwrap();
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().contains("line 770"));
    }

    #[test]
    fn what_an_agent_says_moves_nothing() {
        let theme = Theme::load("dark", false, true).unwrap();
        let event = AgentEvent::Text { text: "a\u{1b}[2Jb\u{7}\nc".into() };
        let lines = cell(&Entry { at: Timestamp(0), turn: 1, event }, 10, false, false, &theme);
        let text: Vec<String> =
            lines.iter().map(|l| l.spans.iter().map(|s| s.content.as_ref()).collect()).collect();
        assert_eq!(text, ["ab", "c"]);
    }
}
