//! The dashboard: a fleet on a spare monitor, readable from three metres, whose only key leaves it.
//! It cycles through the live runs, and shifts by a cell now and then so that nothing burns in.

use futures::StreamExt;
use std::io;
use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyModifiers};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use tokio::signal::unix::{SignalKind, signal};

use super::clock::until_next_minute;
use super::colour::ColourDepth;
use super::ground;
use super::plain_cells;
use super::signals::{self, TerminalSignals};
use super::theme::{Theme, Tone};
use super::tty;
use super::widgets::marks::run_mark;
use super::widgets::span::piece;
use super::widgets::text::{age, fit, time_of_day, width as columns};
use crate::core::model::id::RunId;
use crate::core::model::run::Run;
use crate::core::model::stage::Phase;
use crate::core::model::time::Timestamp;
use crate::core::query::condition::{Urgency, condition};
use crate::error::{Failure, FailureKind};
use crate::runtime::client::{Client, ConnectionState};
use crate::runtime::{Snapshot, clock};
use crate::term::event;
use crate::term::guard::{Guard, restore_on_panic};
use crate::term::local;
use crate::term::screen::Screen;
use crate::term::wire::FrameWire;
use crate::tui::widgets::lines;

/// How long one run has the middle of the screen.
const TURN: Duration = Duration::from_secs(8);
/// Open questions that are listed.
const ASKED: usize = 4;
/// Milliseconds between two shifts by a cell.
const SHIFT: i64 = 7 * 60_000;
/// The offsets that the shifts go through.
const SHIFTS: [(u16, u16); 4] = [(0, 0), (1, 0), (1, 1), (0, 1)];
/// Digits of five rows.
const FIGURES: [[&str; 5]; 10] = [
    ["███", "█ █", "█ █", "█ █", "███"],
    [" █ ", "██ ", " █ ", " █ ", "███"],
    ["███", "  █", "███", "█  ", "███"],
    ["███", "  █", "███", "  █", "███"],
    ["█ █", "█ █", "███", "  █", "  █"],
    ["███", "█  ", "███", "  █", "███"],
    ["███", "█  ", "███", "█ █", "███"],
    ["███", "  █", "  █", "  █", "  █"],
    ["███", "█ █", "███", "█ █", "███"],
    ["███", "█ █", "███", "  █", "███"],
];

/// The state that is drawn beside the snapshot.
#[derive(Debug)]
struct Dash {
    theme: Theme,
    /// The name of the shown machine.
    host: String,
    now: Timestamp,
    /// Counts the runs that had the middle of the screen.
    turn: usize,
    /// When the connection was lost, if it is.
    lost: Option<Timestamp>,
}

/// The runs to cycle through: those at work, else those that wait for a human.
fn moving(snapshot: &Snapshot) -> Vec<RunId> {
    let fleet = &snapshot.fleet;
    let live: Vec<RunId> = fleet.live_runs().filter(|r| r.has_permit()).map(|r| r.id).collect();
    if !live.is_empty() {
        return live;
    }
    let mut asked: Vec<RunId> = fleet.inbox().iter().filter_map(|asked| asked.run).collect();
    asked.dedup();
    asked
}

/// Draws the dashboard; a pure function.
fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, dash: &Dash) {
    let whole = frame.area();
    let step = usize::try_from(dash.now.0 / SHIFT).unwrap_or(0) % SHIFTS.len();
    let (x, y) = SHIFTS[step];
    let area = Rect {
        x: whole.x + x.min(whole.width.saturating_sub(1)),
        y: whole.y + y.min(whole.height.saturating_sub(1)),
        width: whole.width.saturating_sub(2),
        height: whole.height.saturating_sub(1),
    };
    let (theme, fleet) = (&dash.theme, &snapshot.fleet);
    let inbox = fleet.inbox().len();
    let mut lines: Vec<Line<'static>> = Vec::new();
    let condition = condition(fleet, dash.now);
    let standing = if dash.lost.is_some() { "LOST" } else { condition.word };
    let old = dash.lost.map_or_else(String::new, |since| format!(", {} old", age(dash.now, since)));
    let tone = match condition.urgency {
        _ if dash.lost.is_some() => Tone::Alarm,
        Urgency::Well => Tone::Header,
        Urgency::Attention => Tone::Attention,
        Urgency::Alarm => Tone::Alarm,
    };
    let spent = fleet.books.day(fleet.last_event).summary();
    lines.push(Line::from(vec![
        piece(format!(" {} ", dash.host), theme, Tone::Title),
        piece(format!(" {standing}{old} "), theme, tone),
        piece(format!("  {}", condition.text), theme, Tone::Text),
        piece(format!("  {spent} today  {}", time_of_day(dash.now)), theme, Tone::Dim),
    ]));
    lines.push(Line::default());
    let counts = [
        ("AT WORK", fleet.count_at_work(), Tone::Busy),
        ("QUEUED", fleet.queue.len(), Tone::Text),
        ("ASKED", inbox, if inbox > 0 { Tone::Alarm } else { Tone::Text }),
    ];
    lines.extend(figures(&counts, usize::from(area.width), usize::from(area.height), theme));
    lines.push(Line::default());
    let all = moving(snapshot);
    let focus = (!all.is_empty()).then(|| all[dash.turn % all.len()]);
    if let Some(run) = focus.and_then(|id| fleet.runs.get(&id)) {
        lines.extend(focused(run, snapshot, dash, usize::from(area.width)));
    } else {
        lines.push(Line::from(piece(" nothing is at work", theme, Tone::Dim)));
    }
    lines.push(Line::default());
    for asked in fleet.inbox().into_iter().take(ASKED) {
        let name = asked.issue.as_ref().map_or_else(|| asked.subject(), ToString::to_string);
        let (title, waits) = (asked.title.clean_line(), age(dash.now, asked.raised));
        let text = format!(" {name}  {}: {title}  {waits}", asked.kind.as_str());
        let text = fit(&text, usize::from(area.width).saturating_sub(2), theme.marks.cut);
        lines.push(Line::from(vec![
            piece(format!(" {}", theme.marks.human), theme, Tone::Warn),
            piece(text, theme, Tone::Warn),
        ]));
    }
    let mut ended: Vec<_> =
        fleet.runs.values().filter(|run| run.progress.ended.is_some()).collect();
    ended.sort_by_key(|run| std::cmp::Reverse(run.progress.ended));
    let room = usize::from(area.height).saturating_sub(lines.len());
    for run in ended.into_iter().take(room) {
        let (mark, role) = run_mark(run, false, &theme.marks);
        let when = run.progress.ended.map_or_else(String::new, |at| age(dash.now, at));
        let name = run.work.issue().map_or_else(|| run.id.to_string(), ToString::to_string);
        let text = format!(" {name}  {}  {when}", run.progress.why.clean_line());
        lines.push(Line::from(vec![
            piece(format!(" {mark}"), theme, role),
            piece(
                fit(&text, usize::from(area.width).saturating_sub(2), theme.marks.cut),
                theme,
                Tone::Text,
            ),
        ]));
    }
    lines::draw(frame, area, lines);
    ground::paint(frame.buffer_mut(), theme);
    plain_cells::settle(frame.buffer_mut(), theme.is_ascii());
}

/// Three counts in large figures, or in plain ones where there is no room.
fn figures(
    counts: &[(&str, usize, Tone); 3],
    width: usize,
    height: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    if width < 60 || height < 18 {
        return counts
            .iter()
            .map(|(name, count, role)| {
                Line::from(piece(format!(" {count:>3} {name}"), theme, *role))
            })
            .collect();
    }
    let cell = width / counts.len();
    let mut lines: Vec<Line<'static>> = (0..5)
        .map(|row| {
            let parts = counts.iter().map(|(_, count, role)| {
                let figure = |digit: char| {
                    let at = usize::try_from(digit.to_digit(10).unwrap_or(0)).unwrap_or(0);
                    FIGURES[at][row]
                };
                let digits: Vec<&str> = count.to_string().chars().map(figure).collect();
                let text = format!("  {}", digits.join(" "));
                let pad = cell.saturating_sub(columns(&text));
                // An alarm is a filled block; here the figure itself is the sign.
                let role = if *role == Tone::Alarm { Tone::Bad } else { *role };
                piece(format!("{text}{}", " ".repeat(pad)), theme, role)
            });
            Line::from(parts.collect::<Vec<_>>())
        })
        .collect();
    let names = counts.iter().map(|(name, _, role)| {
        let text = format!("  {name}");
        let pad = cell.saturating_sub(columns(&text));
        piece(format!("{text}{}", " ".repeat(pad)), theme, *role)
    });
    lines.push(Line::from(names.collect::<Vec<_>>()));
    lines
}

/// The run in the middle of the screen: its title, its phase and its activity.
fn focused(run: &Run, snapshot: &Snapshot, dash: &Dash, width: usize) -> Vec<Line<'static>> {
    let theme = &dash.theme;
    let name = run.work.issue().map_or_else(|| run.work.repo().to_string(), ToString::to_string);
    let asks = snapshot.fleet.waits_for_human(run);
    let (mark, role) = run_mark(run, asks, &theme.marks);
    let title = format!(" {} {name}: {}", run.id, run.work.title().clean_line());
    let mut bar = vec![piece("  ", theme, Tone::Text)];
    for phase in Phase::ALL {
        let (sign, role) = if phase < run.progress.phase || run.progress.phase == Phase::Healthy {
            (theme.marks.done, Tone::Good)
        } else if phase == run.progress.phase {
            (mark, role)
        } else {
            (theme.marks.open, Tone::Dim)
        };
        bar.push(piece(format!("{sign} {}  ", phase.as_str()), theme, role));
    }
    let question = snapshot.fleet.waiting_for_human();
    let doing = match run.progress.outcome {
        None if let Some(asked) = question.get(&run.id) => {
            format!("{}: {}", asked.kind.as_str(), asked.title.clean_line())
        }
        None => snapshot.doing(run, snapshot.fleet.last_event),
        Some(outcome) => format!("{}: {}", outcome.as_str(), run.progress.why.clean_line()),
    };
    let facts = format!(
        "  {doing}  ·  {}  ·  {}",
        age(dash.now, run.progress.claimed),
        run.spend.total.summary()
    );
    vec![
        Line::from(vec![
            piece(format!(" {mark}"), theme, role),
            piece(fit(&title, width.saturating_sub(2), theme.marks.cut), theme, Tone::Title),
        ]),
        Line::default(),
        Line::from(bar),
        Line::default(),
        Line::from(piece(fit(&facts, width, theme.marks.cut), theme, Tone::Text)),
    ]
}

/// Shows the dashboard until the operator leaves it.
///
/// # Errors
/// [`Failure`] where the theme can't be read, or this is no terminal.
pub(crate) async fn run(client: &Client) -> Result<(), Failure> {
    tty::check()?;
    let ui = &client.config.ui;
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let theme = Theme::load(&ui.theme, ui.ascii, colour)?.at_depth(ColourDepth::of_environment());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = crate::core::model::untrusted::clean_line(&host);
    let dash = Dash { theme, host, now: clock::wall(), turn: 0, lost: None };
    restore_on_panic();
    let guard = Guard::take(false)
        .map_err(|error| Failure::new(FailureKind::Usage, "this is no terminal").because(error))?;
    serve(client, dash, guard).await.map_err(Failure::from)
}

async fn serve(client: &Client, mut dash: Dash, mut guard: Guard) -> io::Result<()> {
    let (width, height) = crossterm::terminal::size()?;
    client.resize(width, height);
    let mut screen = Screen::new(width, height)?;
    let mut wire = FrameWire::start(io::stdout())?;
    if dash.theme.asks_background() && tty::answers() {
        wire.send_raw(event::BACKGROUND.to_vec());
    }
    let mut keys = local::events()?;
    let mut sizes = signal(SignalKind::window_change())?;
    let mut snapshots = client.snapshots.clone();
    let mut link = client.connection.clone();
    let mut ends = TerminalSignals::new()?;
    let mut stops = signals::stop_requests()?;
    let mut stopped = false;
    let mut turned = Instant::now();
    let mut dirty = true;
    loop {
        if std::mem::take(&mut stopped) {
            signals::settle(&mut wire).await;
            drop((guard, keys));
            signals::stop().await?;
            (guard, keys) = (Guard::take(false)?, local::events()?);
            let (width, height) = crossterm::terminal::size()?;
            screen.resize(width, height)?;
            screen.redraw()?;
            dirty = true;
        }
        let several = moving(&snapshots.borrow()).len() > 1;
        let next = turned + TURN;
        tokio::select! {
            biased;
            event = keys.next() => match event {
                None => return Ok(()),
                Some(event::TerminalEvent::Input(Event::Key(key))) => {
                    let c = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                    let z = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('z');
                    stopped = z;
                    if c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                        return Ok(());
                    }
                }
                Some(event::TerminalEvent::Background(r, g, b)) => {
                    if let Ok(theme) = dash.theme.on_background((r, g, b)) {
                        dash.theme = theme;
                        dirty = true;
                    }
                }
                Some(_) => {}
            },
            _ = sizes.recv() => {
                let (width, height) = crossterm::terminal::size()?;
                screen.resize(width, height)?;
                client.resize(width, height);
                dirty = true;
            }
            () = ends.received() => return Ok(()),
            _ = stops.recv() => stopped = true,
            ok = wire.written() => if !ok { return Ok(()) },
            // One frame in flight, and a few a second at most: nobody types here.
            () = tokio::time::sleep(Duration::from_millis(100)), if dirty && wire.ready() => {
                dirty = false;
                let snapshot = snapshots.borrow_and_update().clone();
                dash.now = Timestamp(clock::wall().0 / 60_000 * 60_000).max(snapshot.fleet.last_event);
                screen.terminal.draw(|frame| draw(frame, &snapshot, &dash))?;
                wire.send(&screen.take());
            }
            changed = snapshots.changed(), if !dirty => {
                if changed.is_err() { return Ok(()) }
                dirty = true;
            }
            changed = link.changed() => {
                if changed.is_err() { return Ok(()) }
                dash.lost = match link.borrow_and_update().clone() {
                    ConnectionState::Live => None,
                    ConnectionState::Lost { since, .. } => Some(since),
                };
                dirty = true;
            }
            () = tokio::time::sleep_until(next.into()), if several => {
                turned = Instant::now();
                dash.turn = dash.turn.wrapping_add(1);
                dirty = true;
            }
            () = tokio::time::sleep(until_next_minute()), if !dirty => dirty = true,
        }
    }
}
