//! One client at a terminal: the loop between its keys, the snapshots and its frames.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossterm::event::Event;
use futures::StreamExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};

use super::draw::{Places, draw, places};
use super::fetch::{PIECES, Told};
use super::keymap::Keymap;
use super::overlays::inbox;
use super::panes::Pane;
use super::panes::breakglass::terminal::{Behind, Terminal};
use super::theme::{SHIPPED, Theme};
use super::update::{self, Request};
use super::view::{Overlay, Pager, View};
use crate::config::breakglass::BreakglassConfig;
use crate::core::model::breakglass::ShellId;
use crate::core::model::id::RunId;
use crate::core::model::time::Timestamp;
use crate::error::{Failure, Kind};
use crate::notify::terminal;
use crate::runtime::breakglass::console::FromShell;
use crate::runtime::client::{Client, Link};
use crate::runtime::{Snapshot, clock};
use crate::term::frames::Frames;
use crate::term::guard::{self, Guard, restore_on_panic};
use crate::term::screen::Screen;
use crate::term::wire::{Out, Wire};
use crate::term::{far, near};

/// A frame that takes longer shows that the link is slow.
const SLOW: Duration = Duration::from_millis(700);

/// Runs the cockpit at this terminal until it is left, with a run opened first.
///
/// # Errors
/// [`Failure`] where the theme or the keymap can't be read, or this is no terminal.
pub async fn run(client: &Client, open: Option<RunId>) -> Result<(), Failure> {
    let (width, height) = crossterm::terminal::size()?;
    let mut session = Session::new(client, width, height)?;
    if open.is_some() {
        session.view.chosen = open;
        session.view.focus = Pane::Transcript;
    }
    session.at_this_terminal().await
}

/// The same with a pane that has the whole screen first.
///
/// # Errors
/// As [`run`].
pub async fn run_at(client: &Client, pane: Pane) -> Result<(), Failure> {
    let (width, height) = crossterm::terminal::size()?;
    let mut session = Session::new(client, width, height)?;
    (session.view.focus, session.view.zoomed) = (pane, true);
    session.at_this_terminal().await
}
/// Runs the cockpit at a far terminal until it is left, or the terminal is gone. Takes its thread,
/// which is none of the runtime's and has entered it.
///
/// # Errors
/// [`Failure`] where the theme or the keymap can't be read.
pub fn run_far(
    client: &Client,
    events: far::Events,
    out: Out,
    (width, height): (u16, u16),
) -> Result<(), Failure> {
    let mut session = Session::new(client, width, height)?;
    // Leaving a far terminal stops nothing.
    session.view.detaches = true;
    let (entering, leaving) = (guard::entering(session.view.mouse)?, guard::leaving()?);
    let done = tokio::runtime::Handle::current().block_on(async {
        let mut wire = Wire::far(out);
        wire.send_raw(entering);
        let done = session.serve(Tty::Far { events, flow: Flow::default() }, &mut wire).await;
        wire.close(leaving).await;
        done
    });
    done.map_err(Failure::from)
}

/// Where a session's keys come from.
enum Tty {
    /// The terminal of this process.
    Near { guard: Guard, keys: far::Events },
    /// One that is reached through something.
    Far { events: far::Events, flow: Flow },
}

/// What is known of frames on their way to a far terminal. What lies between holds much, so that
/// a write says nothing: the terminal is asked after each frame.
#[derive(Debug, Default)]
struct Flow {
    /// When it was asked last, while the answer is out.
    asked: Option<Instant>,
    /// It has answered before; one that never does is not waited for again.
    answers: Option<bool>,
}

/// How long a terminal that never answered is waited for.
const MUTE: Duration = Duration::from_secs(10);

/// What came from a terminal.
enum Came {
    Event(Event),
    /// The last frame went over the whole link in this time.
    Taken(Duration),
}

impl Tty {
    async fn next(&mut self) -> Option<Came> {
        match self {
            Self::Near { keys, .. } => loop {
                // Nothing is asked of this one.
                if let far::Told::Event(event) = keys.next().await? {
                    return Some(Came::Event(event));
                }
            },
            Self::Far { events, flow } => loop {
                let limit = flow.asked.filter(|_| flow.answers.is_none()).map(|at| at + MUTE);
                let told = tokio::select! {
                    told = events.next() => told?,
                    () = reached(limit), if limit.is_some() => {
                        let took = MUTE;
                        (flow.asked, flow.answers) = (None, Some(false));
                        return Some(Came::Taken(took));
                    }
                };
                match told {
                    far::Told::Event(event) => return Some(Came::Event(event)),
                    far::Told::Taken => {
                        flow.answers = Some(true);
                        if let Some(asked) = flow.asked.take() {
                            return Some(Came::Taken(asked.elapsed()));
                        }
                    }
                }
            },
        }
    }

    /// Whether the link has taken all that was sent.
    const fn ready(&self) -> bool {
        match self {
            Self::Near { .. } => true,
            Self::Far { flow, .. } => flow.asked.is_none(),
        }
    }

    /// A frame is sent: what goes behind it.
    fn sent(&mut self, frame: &mut Vec<u8>) {
        if let Self::Far { flow, .. } = self
            && flow.answers != Some(false)
            && !frame.is_empty()
        {
            frame.extend_from_slice(far::ARE_YOU_THERE);
            flow.asked = Some(Instant::now());
        }
    }
}

pub(super) struct Session {
    pub(super) client: Client,
    pub(super) view: View,
    pub(super) screen: Screen,
    pub(super) frames: Frames,
    pub(super) told: mpsc::Receiver<Told>,
    pub(super) tell: mpsc::Sender<Told>,
    /// What shells write, each named.
    pub(super) piece: mpsc::Sender<(ShellId, FromShell)>,
    pub(super) pieces: mpsc::Receiver<(ShellId, FromShell)>,
}

impl Session {
    fn new(client: &Client, width: u16, height: u16) -> Result<Self, Failure> {
        let ui = &client.config.ui;
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let theme = Theme::load(&ui.theme, ui.ascii, colour)?;
        let keymap = Keymap::load(&ui.keymap)?;
        let mut view = View::new(keymap, theme, width, height);
        view.ascii = ui.ascii;
        view.colour = colour;
        view.mouse = ui.mouse;
        view.theme_at = SHIPPED.iter().position(|name| *name == ui.theme).unwrap_or(0);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        view.host = crate::core::model::untrusted::clean_line(&host);
        let (tell, told) = mpsc::channel(16);
        let screen = Screen::new(width, height)?;
        let frames = Frames::default();
        view.detaches = client.detaches;
        view.actor = client.actor.clone();
        view.cold = client.config.breakglass.as_ref().map(BreakglassConfig::cold_command);
        let (piece, pieces) = mpsc::channel(PIECES);
        Ok(Self { client: client.clone(), view, screen, frames, told, tell, piece, pieces })
    }

    /// Takes this terminal until it is left.
    async fn at_this_terminal(mut self) -> Result<(), Failure> {
        self.client.size(self.view.width, self.view.height);
        restore_on_panic();
        let guard = Guard::take(self.view.mouse).map_err(|error| {
            Failure::new(Kind::Usage, format!("this is no terminal: {error}"))
                .hint("afk needs one; `afk demo --headless` and `afk status --json` do not")
        })?;
        let mut wire = Wire::start(io::stdout())?;
        let near = Tty::Near { guard, keys: near::events()? };
        self.serve(near, &mut wire).await.map_err(Failure::from)
    }

    /// Whether this terminal has another size: what is typed behind it may be quicker than its signal.
    fn look_at_size(&mut self) -> io::Result<()> {
        let (width, height) = crossterm::terminal::size()?;
        if (width, height) != (self.view.width, self.view.height) {
            self.resized(width, height)?;
            self.frames.typed(Instant::now());
        }
        Ok(())
    }

    /// The terminal has another size. A shell knows it before it hears what is typed next.
    fn resized(&mut self, width: u16, height: u16) -> io::Result<()> {
        (self.view.width, self.view.height) = (width, height);
        let problems = self.client.snapshots.borrow().problems.len();
        let places = places(&self.view, problems);
        fit_shell(&mut self.view, &places);
        self.screen.resize(width, height)?;
        self.client.size(width, height);
        Ok(())
    }

    async fn serve(&mut self, mut tty: Tty, wire: &mut Wire) -> io::Result<()> {
        let mut snapshots = self.client.snapshots.clone();
        let mut transcripts = self.client.transcripts.clone();
        let mut link = self.client.link.clone();
        let mut notices = self.client.notices();
        let mut ends = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
        ];
        let mut sizes = signal(SignalKind::window_change())?;
        let mut bell = Vec::new();
        self.frames.typed(Instant::now());
        loop {
            let due = self.frames.due();
            let replay = match self.view.breakglass.front().map(|shown| &shown.behind) {
                Some(Behind::Replay(replay)) => replay.due(Instant::now()),
                _ => None,
            };
            let minute =
                Duration::from_millis(60_000 - clock::wall().0.rem_euclid(60_000).cast_unsigned());
            let [term, hup, int] = &mut ends;
            let near = matches!(tty, Tty::Near { .. });
            tokio::select! {
                biased;
                event = tty.next() => {
                    let event = match event {
                        None => return Ok(()),
                        Some(Came::Event(event)) => event,
                        Some(Came::Taken(took)) => {
                            if self.view.slow != (took > SLOW) {
                                self.view.slow = took > SLOW;
                                self.frames.changed(Instant::now());
                            }
                            continue;
                        }
                    };
                    self.frames.typed(Instant::now());
                    if near {
                        self.look_at_size()?;
                    }
                    let snapshot = snapshots.borrow().clone();
                    if let Event::Resize(width, height) = event {
                        self.resized(width, height)?;
                    }
                    for request in update::event(&mut self.view, &snapshot, &event) {
                        match request {
                            Request::Quit => return Ok(()),
                            Request::Mouse(on) => match &mut tty {
                                Tty::Near { guard, .. } => guard.set_mouse(on)?,
                                Tty::Far { .. } => bell.extend(guard::mouse(on)?),
                            },
                            Request::Redraw => self.screen.redraw()?,
                            Request::Copy(text) => bell.extend(clipboard(&text)?),
                            Request::Shell(path) => {
                                if let Tty::Far { .. } = tty {
                                    let why = "a shell is for the terminal of this machine alone";
                                    self.view.message = Some(why.into());
                                    continue;
                                }
                                // Not polling it would still take the shell's keys.
                                drop(tty);
                                self.shell(&path).await;
                                let guard = Guard::take(self.view.mouse)?;
                                tty = Tty::Near { guard, keys: near::events()? };
                                let (width, height) = crossterm::terminal::size()?;
                                self.resized(width, height)?;
                                self.screen.redraw()?;
                            }
                            Request::Act(action) => self.command(action),
                            Request::Diff(run) => self.diff(run),
                            Request::OpenShell(host) => self.open_shell(host),
                            Request::Capture(digest) => self.capture(digest),
                            Request::CaptureDiff(old, new) => self.capture_diff(old, new),
                            Request::Replay(file) => self.replay(file),
                        }
                    }
                }
                _ = sizes.recv(), if near => self.look_at_size()?,
                _ = term.recv(), if near => return Ok(()),
                _ = hup.recv(), if near => return Ok(()),
                _ = int.recv(), if near => return Ok(()),
                ok = wire.taken() => {
                    if !ok {
                        return Ok(());
                    }
                    if !bell.is_empty() {
                        wire.send_raw(std::mem::take(&mut bell));
                    }
                }
                Some(told) = self.told.recv() => {
                    self.told(told, &snapshots.borrow().clone());
                    self.frames.typed(Instant::now());
                }
                () = reached(replay) => {
                    if let Some(Terminal { behind: Behind::Replay(replay), emulator, .. }) =
                        self.view.breakglass.front_mut()
                    {
                        replay.advance(Instant::now(), emulator);
                    }
                    self.frames.changed(Instant::now());
                }
                () = reached(due), if wire.ready() && tty.ready() => {
                    let snapshot = snapshots.borrow_and_update().clone();
                    let _ = transcripts.borrow_and_update();
                    let mut frame = self.frame(&snapshot)?;
                    tty.sent(&mut frame);
                    wire.send(&frame);
                    // A frame without a change is nothing to wait for.
                    if !bell.is_empty() && wire.ready() {
                        wire.send_raw(std::mem::take(&mut bell));
                    }
                }
                // After the frame: a flood would keep it waiting for ever.
                Some((shell, piece)) = self.pieces.recv() => {
                    self.feed(shell, piece);
                    self.frames.changed(Instant::now());
                }
                changed = snapshots.changed(), if due.is_none() => {
                    if changed.is_err() { return Ok(()) }
                    self.frames.changed(Instant::now());
                }
                changed = transcripts.changed(), if due.is_none() => {
                    if changed.is_ok() { self.frames.changed(Instant::now()); }
                }
                changed = link.changed() => {
                    if changed.is_err() { return Ok(()) }
                    self.view.lost = match link.borrow_and_update().clone() {
                        Link::Live => None,
                        Link::Lost { since, why } => Some((since, why)),
                    };
                    self.frames.changed(Instant::now());
                }
                notice = notices.recv() => match notice {
                    Ok(shown) => {
                        bell.extend(terminal::bytes(&shown, &self.client.config.notify));
                        self.view.message = Some(shown.line);
                        self.frames.changed(Instant::now());
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                () = tokio::time::sleep(minute) => self.frames.changed(Instant::now()),
            }
        }
    }

    /// Draws a frame and gives its bytes: none where nothing changed.
    fn frame(&mut self, snapshot: &Arc<Snapshot>) -> io::Result<Vec<u8>> {
        let view = &mut self.view;
        view.now = Timestamp(clock::wall().0 / 60_000 * 60_000).max(snapshot.fleet.last_event);
        prepare(view, &self.client, snapshot);
        let view = &self.view;
        self.screen.terminal.draw(|frame| draw(frame, snapshot, view))?;
        self.frames.drawn(Instant::now());
        Ok(self.screen.take())
    }

    async fn shell(&mut self, path: &std::path::Path) {
        let shell = std::env::var("SHELL").unwrap_or_else(|_| "sh".into());
        let status = tokio::process::Command::new(&shell).current_dir(path).status().await;
        if let Err(error) = status {
            self.view.message = Some(format!("{shell} in {}: {error}", path.display()));
        }
    }
}

/// Waits until a frame is due; for ever where none is. One that is due already is not put to the
/// timer, whose ticks are a millisecond.
async fn reached(due: Option<Instant>) {
    match due {
        None => std::future::pending().await,
        Some(due) if due <= Instant::now() => {}
        Some(due) => tokio::time::sleep_until(due.into()).await,
    }
}

/// What a frame needs that isn't in the snapshot: the transcript's window, the inbox's bounds.
fn prepare(view: &mut View, client: &Client, snapshot: &Snapshot) {
    let places = places(view, snapshot.problems.len());
    fit_shell(view, &places);
    if let Some(inside) = places.inside(Pane::Transcript) {
        let run = view.run(snapshot);
        let (width, height) = (usize::from(inside.width), usize::from(inside.height));
        let theme = view.theme.clone();
        if let Err(error) = view.transcript.prepare(&client.store, run, width, height, &theme) {
            view.message = Some(format!("the transcript can't be read: {error}"));
        }
    }
    if let Some(Overlay::Pager(mut pager)) =
        view.overlays.pop_if(|o| matches!(o, Overlay::Pager(Pager { live: Some(_), .. })))
    {
        if let Some(lines) = pager.live {
            pager.lines = lines(snapshot, view);
        }
        view.overlays.push(Overlay::Pager(pager));
    }
    if let Some(Overlay::Inbox(mut state)) =
        view.overlays.pop_if(|o| matches!(o, Overlay::Inbox(_)))
    {
        inbox::settle(&mut state, snapshot, view, places.body);
        view.overlays.push(Overlay::Inbox(state));
    }
}

/// The shell in front has the size of its pane.
fn fit_shell(view: &mut View, places: &Places) {
    if let (Some(inside), Pane::Breakglass) = (places.inside(Pane::Breakglass), view.focus)
        && let Some(shown) = view.breakglass.front_mut()
    {
        shown.fit((inside.width, inside.height));
    }
}

fn clipboard(text: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    crossterm::execute!(bytes, crossterm::clipboard::CopyToClipboard::to_clipboard_from(text))?;
    Ok(bytes)
}
