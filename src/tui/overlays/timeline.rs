//! The timeline: runs as bars over the last hours by repository, so that one sees where time went.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span as TextSpan};
use ratatui::widgets::Block;

use crate::core::model::time::Timestamp;
use crate::core::query::brief::long;
use crate::core::query::span::{RunSpans, Span, SpanKind, Timeline};
use crate::tui::action::{Action, BACK, HELP, PAGE_DOWN, TIMELINE};
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::keymap::KeyContext;
use crate::tui::motion::Motion;
use crate::tui::response::Response;
use crate::tui::subject::short_key;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::boxes::framed;
use crate::tui::widgets::scroll::Scroll;
use crate::tui::widgets::span::{empty, piece};
use crate::tui::widgets::text::{column, time_of_day, wrap};

pub(crate) const CONTEXT: KeyContext = KeyContext::new("timeline");

const SHORTER: Action = Action::new("timeline-shorter", "Fewer hours");
const LONGER: Action = Action::new("timeline-longer", "More hours");

pub(crate) const ACTIONS: &[Action] = &[SHORTER, LONGER];

const HOUR: i64 = 60 * 60_000;
/// The shortest time that is shown, in milliseconds.
const LEAST: i64 = 10 * 60_000;
/// The hours that can be shown.
const RANGES: [i64; 6] = [1, 2, 4, 8, 12, 24];
/// The range to begin with, in `RANGES`.
const FIRST: usize = 2;

/// The timeline and the part of it that is shown.
pub(super) struct TimelineView {
    timeline: Timeline,
    range: usize,
    scroll: Scroll,
    shown: Vec<Line<'static>>,
}

impl TimelineView {
    pub(super) const fn new(timeline: Timeline) -> Self {
        let scroll = Scroll::beginning();
        Self { timeline, range: FIRST, scroll, shown: Vec::new() }
    }

    /// The begin of the part that is shown: a fleet that is younger than the range begins at its first
    /// span, so that its bars don't crowd into the last column.
    fn from(&self) -> Timestamp {
        let until = self.timeline.until;
        let from = until.plus(-RANGES[self.range] * HOUR).max(self.timeline.since);
        let spans = self.timeline.runs.iter().flat_map(|run| &run.spans);
        let first = spans.map(|span| span.from).min();
        first.map_or(from, |first| from.max(first.min(until.plus(-LEAST))))
    }

    fn lines(&self, scene: &Scene<'_>, columns: usize) -> Vec<Line<'static>> {
        let (theme, fleet) = (scene.theme, &scene.snapshot.fleet);
        let (from, to) = (self.from(), self.timeline.until);
        let names = (columns / 5).clamp(10, 28);
        let cells = columns.saturating_sub(names + 2).max(1);
        let axis = Axis { from, to, cells };
        let mut lines = legend(theme, columns);
        let totals = self.timeline.totals(from, to);
        // A row of zero minutes would tell nothing.
        let told = totals.iter().filter(|(_, ms)| **ms >= 60_000);
        let totals: Vec<String> =
            told.map(|(kind, ms)| format!("{} {}", kind.as_str(), long(*ms))).collect();
        if !totals.is_empty() {
            let parts = wrap(&format!(" {}", totals.join(" · ")), columns);
            lines.extend(parts.into_iter().map(|part| Line::from(piece(part, theme, Tone::Text))));
        }
        lines.push(Line::from(piece(
            format!("{:names$}  {}", "", axis.labels()),
            theme,
            Tone::Dim,
        )));
        let mut repo = None;
        for run in self.timeline.runs.iter().filter(|run| run.spans.iter().any(|s| s.to > from)) {
            if repo != Some(&run.repo) {
                repo = Some(&run.repo);
                lines.push(Line::from(piece(format!(" {}", run.repo), theme, Tone::Title)));
            }
            let issue = run.issue.as_ref().map_or_else(String::new, |key| short_key(key, fleet));
            let name = column(&format!("  {} {issue}", run.run), names, theme.marks.cut);
            let mut spans = vec![piece(format!("{name}  "), theme, Tone::Text)];
            spans.extend(axis.bar(run, theme));
            lines.push(Line::from(spans));
        }
        if repo.is_none() {
            lines.extend(empty("no run did anything in these hours", theme));
        }
        lines
    }
}

/// The signs with their meanings.
fn legend(theme: &Theme, columns: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let (mut spans, mut used) = (Vec::new(), 0);
    for kind in SpanKind::ALL {
        let text = format!(" {}  ", kind.as_str());
        let wide = 2 + text.chars().count();
        if used + wide > columns && !spans.is_empty() {
            lines.push(Line::from(std::mem::take(&mut spans)));
            used = 0;
        }
        used += wide;
        spans.push(piece(format!(" {}", kind.sign()), theme, tone(kind)));
        spans.push(piece(text, theme, Tone::Dim));
    }
    lines.push(Line::from(spans));
    lines
}

const fn tone(kind: SpanKind) -> Tone {
    match kind {
        SpanKind::Queued | SpanKind::Worktree => Tone::Dim,
        SpanKind::Agent => Tone::Busy,
        SpanKind::Gate => Tone::Accent,
        SpanKind::Ci => Tone::Text,
        SpanKind::Deploy => Tone::Good,
        SpanKind::Human => Tone::Warn,
        SpanKind::Outage => Tone::Bad,
    }
}

/// A stretch of time on a number of cells.
struct Axis {
    from: Timestamp,
    to: Timestamp,
    cells: usize,
}

impl Axis {
    /// The begin of a cell.
    fn time(&self, cell: usize) -> Timestamp {
        let whole = i128::from(self.to.since(self.from));
        let cell = i128::try_from(cell).unwrap_or(0);
        let ms = whole * cell / i128::try_from(self.cells).unwrap_or(1).max(1);
        self.from.plus(i64::try_from(ms).unwrap_or(i64::MAX))
    }

    /// Times below which the bars stand, as many as have room.
    fn labels(&self) -> String {
        let mut labels = String::new();
        let step = (self.cells / 4).max(12);
        for cell in (0..self.cells.saturating_sub(5)).step_by(step) {
            labels.push_str(&" ".repeat(cell.saturating_sub(labels.len())));
            labels.push_str(&time_of_day(self.time(cell)));
        }
        labels
    }

    /// The signs of a run: the kind that took most of each cell. A wait for a human is shown however short
    /// it was.
    fn bar(&self, run: &RunSpans, theme: &Theme) -> Vec<TextSpan<'static>> {
        let mut pieces: Vec<(Option<SpanKind>, String)> = Vec::new();
        let mut spans = run.spans.as_slice();
        for cell in 0..self.cells {
            let (begin, end) = (self.time(cell), self.time(cell + 1));
            let passed = spans.iter().take_while(|span| span.to <= begin).count();
            spans = &spans[passed..];
            let kind = kind_in(spans, begin, end);
            let sign = kind.map_or(' ', SpanKind::sign);
            match pieces.last_mut() {
                Some((last, text)) if *last == kind => text.push(sign),
                _ => pieces.push((kind, sign.to_string())),
            }
        }
        let styled = |(kind, text): (Option<SpanKind>, String)| {
            piece(text, theme, kind.map_or(Tone::Dim, tone))
        };
        pieces.into_iter().map(styled).collect()
    }
}

/// The kind to show for a cell.
fn kind_in(spans: &[Span], begin: Timestamp, end: Timestamp) -> Option<SpanKind> {
    let within = spans.iter().take_while(|span| span.from < end);
    let share =
        |span: &&Span| (span.kind == SpanKind::Human, span.to.min(end).since(span.from.max(begin)));
    within.max_by_key(share).map(|span| span.kind)
}

impl Component for TimelineView {
    fn context(&self) -> KeyContext {
        CONTEXT
    }

    fn actions(&self, _: &Scene<'_>) -> Vec<Action> {
        vec![BACK, SHORTER, LONGER, PAGE_DOWN, HELP]
    }

    fn act(&mut self, action: Action, _: &Scene<'_>) -> Option<Response> {
        match action {
            SHORTER => self.range = self.range.saturating_sub(1),
            LONGER => self.range = (self.range + 1).min(RANGES.len() - 1),
            _ => return None,
        }
        Some(Response::none())
    }

    fn go(&mut self, motion: Motion, scene: &Scene<'_>) -> Response {
        self.scroll.go(motion, scene.page);
        Response::none()
    }
}

impl Overlay for TimelineView {
    fn opener(&self) -> Option<Action> {
        Some(TIMELINE)
    }

    fn prepare(&mut self, area: Rect, scene: &Scene<'_>) {
        let inside = Block::bordered().inner(area);
        self.shown = self.lines(scene, usize::from(inside.width));
        self.scroll.fit(self.shown.len(), usize::from(inside.height));
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let until = self.timeline.until;
        let (hours, span) = (RANGES[self.range], until.since(self.from()));
        // The axis of a young fleet is shorter than the range.
        let what = if span < hours * HOUR {
            format!("Timeline: {} of {hours} h", long(span))
        } else {
            format!("Timeline of {hours} h")
        };
        let title = format!("{what} until {}", time_of_day(until));
        let inner = framed(frame, area, &title, scene.theme);
        self.scroll.draw(frame, inner, &self.shown, scene.theme);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::id::{Repo, RunId};

    #[test]
    fn bar_shows_what_took_most_of_a_cell_and_every_wait_for_a_human() {
        let span = |kind, from, to| Span { kind, from: Timestamp(from), to: Timestamp(to) };
        let run = RunSpans {
            run: RunId(1),
            repo: Repo::parse("acme/pulse").unwrap(),
            issue: None,
            spans: vec![
                span(SpanKind::Queued, 0, 14),
                span(SpanKind::Agent, 14, 31),
                span(SpanKind::Human, 31, 32),
                span(SpanKind::Agent, 32, 50),
            ],
        };
        let axis = Axis { from: Timestamp(0), to: Timestamp(70), cells: 7 };
        let theme = Theme::load("dark", false, true).unwrap();
        let bar: String = axis.bar(&run, &theme).iter().map(|span| span.content.as_ref()).collect();
        assert_eq!(bar, ".aa?a  ");
    }

    #[test]
    fn young_fleet_begins_with_its_first_span_and_an_old_one_with_the_range() {
        let minute = 60_000;
        let view = |first: i64, until: i64| {
            let (from, to) = (Timestamp(first), Timestamp(until));
            let spans = vec![Span { kind: SpanKind::Agent, from, to }];
            let repo = Repo::parse("acme/pulse").unwrap();
            let runs = vec![RunSpans { run: RunId(1), repo, issue: None, spans }];
            TimelineView::new(Timeline { since: Timestamp(0), until: Timestamp(until), runs })
        };
        let day = 24 * HOUR;
        for (first, until, from) in [
            (day, day + minute, day - 9 * minute),
            (day, day + 30 * minute, day),
            (0, day, day - 4 * HOUR),
        ] {
            assert_eq!(view(first, until).from(), Timestamp(from), "{first} to {until}");
        }
    }
}
