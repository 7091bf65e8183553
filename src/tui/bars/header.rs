//! The header: how the fleet stands, in one sentence with the key that helps; the facts behind it;
//! and the problems below.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::core::model::command::Role;
use crate::core::model::time::Timestamp;
use crate::core::query::condition::{FleetCondition, Remedy, Urgency, condition, questions};
use crate::runtime::Snapshot;
use crate::tui::action::{INBOX, KILL_SWITCH, PERMIT_MORE};
use crate::tui::keymap::{KeyContext, Keymap};
use crate::tui::layout::PROBLEMS;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::lines;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, fit, time_of_day, width as columns};

/// The facts that the header shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) theme: &'a Theme,
    pub(crate) keymap: &'a Keymap,
    pub(crate) role: Role,
    pub(crate) now: Timestamp,
    /// The name of this machine, in the widest form only.
    pub(crate) host: &'a str,
    /// When the connection was lost, if it is.
    pub(crate) lost: Option<Timestamp>,
    /// The link takes frames slowly: some are skipped.
    pub(crate) slow: bool,
}

/// Draws how the fleet stands, in the longest form that fits, and the facts behind it in a
/// second line where there is one.
pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, header: &Header<'_>) {
    let Header { snapshot, theme, .. } = header;
    let fleet = &snapshot.fleet;
    let FleetCondition { urgency, word, text, remedy } = match header.lost {
        None => condition(fleet, header.now),
        Some(since) => FleetCondition {
            urgency: Urgency::Alarm,
            word: "LOST",
            text: format!("afk can't be reached for {}: this is old", age(header.now, since)),
            remedy: None,
        },
    };
    let alone = area.height < 2;
    let tone = match urgency {
        Urgency::Well => Tone::Header,
        Urgency::Attention => Tone::Attention,
        Urgency::Alarm => Tone::Alarm,
    };
    let help = remedy.map_or_else(String::new, |remedy| {
        let (action, verb) = match remedy {
            Remedy::Answer => (INBOX, "answers"),
            Remedy::LiftKillSwitch => (KILL_SWITCH, "lifts it"),
            Remedy::AddPermit => (PERMIT_MORE, "adds one"),
        };
        let key = header.keymap.key_of(KeyContext::GLOBAL, action);
        format!(" {} {key} {verb}", theme.marks.dot)
    });
    let (spent, clock) = (fleet.books.day(fleet.last_event).summary(), time_of_day(header.now));
    let (live, short) = link(header);
    let viewer = if header.role == Role::Viewer { "  VIEWER" } else { "" };
    let forms: [[String; 4]; 5] = [
        [
            format!(" afk {} ", header.host),
            format!(" {word} "),
            format!(" {text}{help} "),
            format!(" {spent} today{viewer}  {live}  {clock} "),
        ],
        [
            " afk ".into(),
            format!(" {word} "),
            format!(" {text}{help} "),
            format!(" {spent}{viewer}  {live}  {clock} "),
        ],
        [
            String::new(),
            format!(" {word} "),
            format!(" {text}{help} "),
            format!(" {spent}{viewer} {short}{clock} "),
        ],
        [
            String::new(),
            format!(" {word} "),
            format!(" {text} "),
            format!(" {spent}{viewer} {short}{clock} "),
        ],
        [
            String::new(),
            format!(" {word} "),
            if alone { String::new() } else { " ".into() },
            format!(" {spent}{viewer} {short}{clock} "),
        ],
    ];
    let width = usize::from(area.width);
    // In one line alone the counts stand beside the word.
    let counts = if alone { format!(" {} ", self::counts(header).1) } else { String::new() };
    let size = |form: &[String; 4]| {
        form.iter().map(|part| columns(part)).sum::<usize>() + columns(&counts)
    };
    let [.., least] = &forms;
    let form = forms.iter().find(|form| size(form) <= width).unwrap_or(least);
    let [host, word, text, tail] = form;
    let gap = " ".repeat(width.saturating_sub(size(form)));
    let alarm = |on| if on { Tone::Alarm } else { Tone::Header };
    let line = Line::from(vec![
        piece(host.clone(), theme, Tone::Header),
        piece(word.clone(), theme, tone),
        piece(counts, theme, Tone::Header),
        piece(text.clone(), theme, Tone::Header),
        piece(gap, theme, Tone::Header),
        piece(tail.clone(), theme, alarm(header.lost.is_some())),
    ]);
    let mut lines = vec![line];
    if !alone {
        lines.push(facts(header, width));
    }
    lines::draw(frame, area, lines);
}

/// The counts, in words and in few columns.
fn counts(header: &Header<'_>) -> (String, String) {
    let fleet = &header.snapshot.fleet;
    let (used, all, queue) = (fleet.permits_used(), fleet.capacity(), fleet.queue.len());
    let inbox = fleet.inbox().len();
    (
        format!("permits {used}/{all}  queue {queue}  inbox {inbox}"),
        format!("{used}/{all} q{queue} !{inbox}"),
    )
}

/// The second line: the counts, the clients, and the open questions with what they hold up.
fn facts(header: &Header<'_>, width: usize) -> Line<'static> {
    let Header { snapshot, theme, .. } = header;
    let several = match snapshot.clients.len() {
        0 | 1 => String::new(),
        count => format!("  {count} attached"),
    };
    let facts = format!(" {}{several}", counts(header).0);
    let asked = questions(&snapshot.fleet).map_or_else(String::new, |asked| {
        let (mark, oldest) = (theme.marks.human, age(header.now, asked.oldest));
        format!("   {mark} {}, the oldest for {oldest}", asked.summary())
    });
    let room = width.saturating_sub(columns(&facts));
    Line::from(vec![
        piece(fit(&facts, width, theme.marks.cut), theme, Tone::Dim),
        piece(fit(&asked, room, theme.marks.cut), theme, Tone::Warn),
    ])
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
        lines::draw(frame, spot, [line]);
    }
}
