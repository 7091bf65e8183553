//! The header: the state of the fleet in one line, and the problems below it.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use crate::core::model::time::Timestamp;
use crate::runtime::Snapshot;
use crate::tui::layout::PROBLEMS;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, fit, time_of_day, width as columns};

/// The facts that the header shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) theme: &'a Theme,
    pub(crate) now: Timestamp,
    /// The name of this machine, in the widest form only.
    pub(crate) host: &'a str,
    /// When the connection was lost, if it is.
    pub(crate) lost: Option<Timestamp>,
    /// The link takes frames slowly: some are skipped.
    pub(crate) slow: bool,
}

/// Draws the header, in the longest of three forms that fits: nothing in it is ever cut.
pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, header: &Header<'_>) {
    let Header { snapshot, theme, .. } = header;
    let fleet = &snapshot.fleet;
    let inbox = fleet.inbox().len();
    let (used, all, waiting) = (fleet.permits_used(), fleet.capacity(), fleet.queue.len());
    let (spent, clock) = (fleet.books.day(fleet.last_event).summary(), time_of_day(header.now));
    let killed = fleet.kill_switch();
    let paused = fleet.pauses_all();
    let (live, short) = link(header);
    let several = match snapshot.clients.len() {
        0 | 1 => String::new(),
        count => format!("  {count} attached"),
    };
    let state = |armed: &'static str, off: &'static str| match (killed, paused) {
        (true, _) if fleet.draining => " DRAINING ",
        (true, _) => off,
        (false, true) => " PAUSED ",
        (false, false) => armed,
    };
    let forms: [[String; 4]; 3] = [
        [
            format!(" afk {} ", header.host),
            format!("{} permits {used}/{all}  queue {waiting} ", state(" ARMED ", " KILL SWITCH ")),
            format!(" inbox {inbox} "),
            format!(" {spent} today{several}  {live}  {clock} "),
        ],
        [
            " afk ".into(),
            format!("{} {used}/{all}  queue {waiting} ", state(" ARMED ", " KILL SWITCH ")),
            format!(" inbox {inbox} "),
            format!(" {spent}  {live}  {clock} "),
        ],
        [
            " ".into(),
            format!("{} {used}/{all} q{waiting} ", state("ARMED", "KILLED")),
            format!(" !{inbox} "),
            format!(" {spent} {short}{clock} "),
        ],
    ];
    let width = usize::from(area.width);
    let size = |form: &[String; 4]| form.iter().map(|part| columns(part)).sum::<usize>();
    let [_, _, least] = &forms;
    let form = forms.iter().find(|form| size(form) <= width).unwrap_or(least);
    let [host, standing, asked, tail] = form;
    let gap = " ".repeat(width.saturating_sub(size(form)));
    let alarm = |on| if on { Tone::Alarm } else { Tone::Header };
    let line = Line::from(vec![
        piece(host.clone(), theme, Tone::Header),
        piece(standing.clone(), theme, alarm(killed || paused)),
        piece(asked.clone(), theme, alarm(inbox > 0)),
        piece(gap, theme, Tone::Header),
        piece(tail.clone(), theme, alarm(header.lost.is_some())),
    ]);
    frame.render_widget(Paragraph::new(line), area);
}

/// How fresh the screen is: `live`, or how old; and the same in few columns.
fn link(header: &Header<'_>) -> (String, String) {
    match header.lost {
        None if header.slow => ("slow link".into(), "slow ".into()),
        None => ("live".into(), String::new()),
        Some(since) => (format!("LOST, {} old", age(header.now, since)), "LOST ".into()),
    }
}

/// Draws the first problems, a line each, and how many more there are.
pub(crate) fn draw_problems(frame: &mut Frame<'_>, area: Rect, problems: &[String], theme: &Theme) {
    let cut = theme.marks.cut;
    let shown = problems.iter().take(PROBLEMS).enumerate();
    let more = problems.len().saturating_sub(PROBLEMS);
    for (at, problem) in shown {
        let more = if at + 1 == PROBLEMS && more > 0 {
            format!(" (and {more} more)")
        } else {
            String::new()
        };
        let room = usize::from(area.width).saturating_sub(2 + more.len());
        let text = format!(" {}{more} ", fit(problem, room, cut));
        let y = area.y + u16::try_from(at).unwrap_or(0);
        let spot = Rect { y, height: 1, ..area };
        let line = Line::styled(text, theme.style(Tone::Alarm));
        frame.render_widget(Paragraph::new(line), spot);
    }
}
