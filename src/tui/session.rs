//! One client at a terminal: the loop between its keys, the snapshots and its frames.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossterm::event::Event;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};

use super::app::{self, App};
use super::clock::{reached, until_next_minute};
use super::component::{PaneMessage, PaneSetup};
use super::fetch::{Fetched, Fetcher};
use super::input;
use super::panes;
use super::request::Request;
use super::response::{Dialog, TextView};
use super::theme::Theme;
use super::tty::{TerminalInput, Tty};
use crate::config::breakglass::BreakglassConfig;
use crate::core::model::breakglass::ShellId;
use crate::core::model::id::RunId;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::error::{Failure, FailureKind};
use crate::runtime::breakglass::console::{Console, FromShell};
use crate::runtime::client::{Client, ConnectionState};
use crate::runtime::{Snapshot, clock};
use crate::term::frames::FrameLimiter;
use crate::term::guard::{self, Guard, restore_on_panic};
use crate::term::screen::Screen;
use crate::term::wire::{FrameWire, RemoteOutput};
use crate::term::{event, local};

/// A frame that takes longer shows that the link is slow.
const SLOW: Duration = Duration::from_millis(700);

/// How long the loop takes output of shells at once: keys and frames come in between.
const FEED: Duration = Duration::from_millis(4);
/// Pieces of output of shells that may wait for the loop.
const PIECES: usize = 4;

/// The first screen of a cockpit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Queue,
    /// The transcript of a run.
    Run(RunId),
    /// Breakglass, on the whole screen.
    Breakglass,
}

/// Runs the cockpit at this terminal until the operator leaves it.
///
/// # Errors
/// [`Failure`] where the theme or the keymap can't be read, or this is no terminal.
pub(crate) async fn run(client: &Client, start: Start) -> Result<(), Failure> {
    let size = crossterm::terminal::size()?;
    let mut session = Session::new(client, size, client.detaches)?;
    match start {
        Start::Queue => {}
        Start::Run(run) => session.app.open_transcript(run),
        Start::Breakglass => session.app.zoom_to(panes::breakglass::ID),
    }
    session.at_this_terminal().await
}

/// Runs the cockpit at a remote terminal until the operator leaves it, or the terminal is gone.
/// Blocks its thread, which is none of the runtime's and has entered it.
///
/// # Errors
/// [`Failure`] where the theme or the keymap can't be read.
pub(crate) fn run_remote(
    client: &Client,
    events: event::TerminalEvents,
    out: RemoteOutput,
    size: (u16, u16),
) -> Result<(), Failure> {
    // Leaving a remote terminal stops nothing.
    let mut session = Session::new(client, size, true)?;
    let (entering, leaving) =
        (guard::enter_sequence(session.app.mouse())?, guard::leave_sequence()?);
    let done = tokio::runtime::Handle::current().block_on(async {
        let mut wire = FrameWire::remote(out);
        wire.send_raw(entering);
        let done = session.serve(Tty::remote(events), &mut wire).await;
        wire.close(leaving).await;
        done
    });
    done.map_err(Failure::from)
}

/// The loop with all that it owns.
struct Session {
    client: Client,
    app: App,
    screen: Screen,
    frames: FrameLimiter,
    fetched: mpsc::Receiver<Fetched>,
    fetcher: Fetcher,
    /// The output of shells.
    pieces: mpsc::Receiver<(ShellId, FromShell)>,
    piece: mpsc::Sender<(ShellId, FromShell)>,
}

impl Session {
    fn new(client: &Client, size: (u16, u16), detaches: bool) -> Result<Self, Failure> {
        let ui = &client.config.ui;
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let app = App::new(app::AppSetup {
            theme: Theme::load(&ui.theme, ui.ascii, colour)?,
            keymap: app::catalog::keymap(&ui.keymap)?,
            size,
            host: clean_line(&rustix::system::uname().nodename().to_string_lossy()),
            actor: client.actor.clone(),
            mouse: ui.mouse,
            detaches,
            panes: PaneSetup {
                cold_path: client.config.breakglass.as_ref().map(BreakglassConfig::cold_command),
            },
        });
        let screen = Screen::new(size.0, size.1)?;
        let (results, fetched) = mpsc::channel(16);
        let (piece, pieces) = mpsc::channel(PIECES);
        let (client, frames) = (client.clone(), FrameLimiter::default());
        let fetcher = Fetcher { client: client.clone(), results };
        Ok(Self { client, app, screen, frames, fetched, fetcher, pieces, piece })
    }

    /// Takes this terminal until the operator leaves it.
    async fn at_this_terminal(mut self) -> Result<(), Failure> {
        let (width, height) = self.app.size();
        self.client.resize(width, height);
        restore_on_panic();
        let guard = Guard::take(self.app.mouse()).map_err(|error| {
            Failure::new(FailureKind::Usage, "this is no terminal")
                .because(error)
                .hint("afk needs one; `afk demo --headless` and `afk status --json` do not")
        })?;
        let mut wire = FrameWire::start(io::stdout())?;
        let tty = Tty::local(guard, local::events()?);
        self.serve(tty, &mut wire).await.map_err(Failure::from)
    }

    /// Takes a new size of this terminal at once: a key behind it may be faster than the signal.
    fn check_size(&mut self) -> io::Result<()> {
        let size = crossterm::terminal::size()?;
        if size != self.app.size() {
            self.resize(size)?;
            self.frames.typed(Instant::now());
        }
        Ok(())
    }

    /// Takes a new size. A shell learns it before it receives the next key.
    fn resize(&mut self, (width, height): (u16, u16)) -> io::Result<()> {
        let problems = self.client.snapshots.borrow().problems.len();
        self.app.resize((width, height), problems);
        self.screen.resize(width, height)?;
        self.client.resize(width, height);
        Ok(())
    }

    /// Takes input, snapshots and notices, and sends frames, until the operator leaves.
    async fn serve(&mut self, mut tty: Tty, wire: &mut FrameWire) -> io::Result<()> {
        let mut snapshots = self.client.snapshots.clone();
        let mut transcripts = self.client.transcripts.clone();
        let mut link = self.client.connection.clone();
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
            let moving = self.app.due(Instant::now());
            let [term, hup, int] = &mut ends;
            let local = tty.is_local();
            tokio::select! {
                biased;
                input = tty.next() => {
                    let event = match input {
                        None => return Ok(()),
                        Some(TerminalInput::Event(event)) => event,
                        Some(TerminalInput::FrameShown(took)) => {
                            if self.app.set_slow(took > SLOW) {
                                self.frames.changed(Instant::now());
                            }
                            continue;
                        }
                    };
                    self.frames.typed(Instant::now());
                    if local {
                        self.check_size()?;
                    }
                    let snapshot = snapshots.borrow().clone();
                    if let Event::Resize(width, height) = event {
                        self.resize((width, height))?;
                    }
                    for request in input::take(&mut self.app, &snapshot, &event) {
                        match request {
                            Request::Quit => return Ok(()),
                            Request::Shell(path) => tty = self.run_shell(tty, &path).await?,
                            Request::Mouse(on) => bell.extend(tty.set_mouse(on)?),
                            Request::Copy(text) => bell.extend(clipboard(&text)?),
                            Request::Redraw => self.screen.redraw()?,
                            request => self.fetcher.fetch(request),
                        }
                    }
                }
                _ = sizes.recv(), if local => self.check_size()?,
                _ = term.recv(), if local => return Ok(()),
                _ = hup.recv(), if local => return Ok(()),
                _ = int.recv(), if local => return Ok(()),
                ok = wire.written() => {
                    if !ok {
                        return Ok(());
                    }
                    if !bell.is_empty() {
                        wire.send_raw(std::mem::take(&mut bell));
                    }
                }
                Some(fetched) = self.fetched.recv() => {
                    self.show(fetched, &snapshots.borrow().clone());
                    self.frames.typed(Instant::now());
                }
                () = reached(moving) => {
                    self.app.tick(Instant::now());
                    self.frames.changed(Instant::now());
                }
                () = reached(due), if wire.ready() && tty.ready() => {
                    let snapshot = snapshots.borrow_and_update().clone();
                    let _ = transcripts.borrow_and_update();
                    let mut frame = self.frame(&snapshot)?;
                    tty.finish(&mut frame);
                    wire.send(&frame);
                    // An empty frame leaves the wire free.
                    if !bell.is_empty() && wire.ready() {
                        wire.send_raw(std::mem::take(&mut bell));
                    }
                }
                // After the frame, which a flood of output would delay forever.
                Some((shell, piece)) = self.pieces.recv() => {
                    self.feed(shell, piece, &snapshots.borrow().clone());
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
                    self.app.set_lost(match &*link.borrow_and_update() {
                        ConnectionState::Live => None,
                        ConnectionState::Lost { since, .. } => Some(*since),
                    });
                    self.frames.changed(Instant::now());
                }
                notice = notices.recv() => match notice {
                    Ok(shown) => {
                        bell.extend(shown.sound(&self.client.config.notify));
                        self.app.say(shown.line);
                        self.frames.changed(Instant::now());
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                () = tokio::time::sleep(until_next_minute()) => self.frames.changed(Instant::now()),
            }
        }
    }

    /// Shows a result, or hands it to the pane that waits for it.
    fn show(&mut self, fetched: Fetched, snapshot: &Snapshot) {
        let message = match fetched {
            Fetched::Text(text) => return self.app.say(text),
            Fetched::Document { title, lines } => {
                return self.app.open(Dialog::Text(TextView::fixed(title, lines)));
            }
            Fetched::VerbStarted(verb) => PaneMessage::VerbStarted(verb),
            Fetched::Recording(name, played) => PaneMessage::Recording(name, played),
            Fetched::Shell { host, shell: id, console: Console { to, mut from } } => {
                let pieces = self.piece.clone();
                tokio::spawn(async move {
                    while let Some(piece) = from.recv().await {
                        if pieces.send((id, piece)).await.is_err() {
                            break;
                        }
                    }
                });
                PaneMessage::ShellOpened { host, id, to, size: self.app.size() }
            }
        };
        self.send(message, snapshot);
    }

    fn send(&mut self, message: PaneMessage, snapshot: &Snapshot) {
        for request in self.app.receive(message, snapshot) {
            self.fetcher.fetch(request);
        }
    }

    /// Takes output of shells for a short while.
    fn feed(&mut self, shell: ShellId, piece: FromShell, snapshot: &Snapshot) {
        let until = Instant::now() + FEED;
        let mut next = Some((shell, piece));
        while let Some((shell, piece)) = next {
            self.send(PaneMessage::ShellOutput(shell, piece), snapshot);
            next = if Instant::now() < until { self.pieces.try_recv().ok() } else { None };
        }
    }

    /// Draws a frame and returns its bytes: none where nothing changed.
    fn frame(&mut self, snapshot: &Arc<Snapshot>) -> io::Result<Vec<u8>> {
        let minute = Timestamp(clock::wall().0 / 60_000 * 60_000);
        self.app.set_now(minute.max(snapshot.fleet.last_event));
        self.app.prepare(snapshot, &self.client.store);
        let app = &self.app;
        self.screen.terminal.draw(|frame| app.draw(frame, snapshot))?;
        self.frames.drawn(Instant::now());
        Ok(self.screen.take())
    }

    /// Runs a shell of this machine in the cockpit's place, and returns the terminal after it.
    async fn run_shell(&mut self, tty: Tty, path: &Path) -> io::Result<Tty> {
        if !tty.is_local() {
            self.app.say("a shell opens only at a terminal of this machine");
            return Ok(tty);
        }
        // Even without being polled it would take the shell's keys.
        drop(tty);
        writeln!(
            io::stdout(),
            "This shell is outside of the sandbox: what you run in {} has every right of your user. \
             Its git configuration, hooks and scripts are the agent's. `exit` leads back.",
            clean_line(&path.display().to_string())
        )?;
        let shell = std::env::var("SHELL").unwrap_or_else(|_| "sh".into());
        let status = tokio::process::Command::new(&shell).current_dir(path).status().await;
        if let Err(error) = status {
            self.app.say(format!("can't run {shell} in {}: {error}", path.display()));
        }
        let tty = Tty::local(Guard::take(self.app.mouse())?, local::events()?);
        self.resize(crossterm::terminal::size()?)?;
        self.screen.redraw()?;
        Ok(tty)
    }
}

fn clipboard(text: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    crossterm::execute!(bytes, crossterm::clipboard::CopyToClipboard::to_clipboard_from(text))?;
    Ok(bytes)
}
