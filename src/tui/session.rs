//! One client at a terminal: the loop between its keys, the snapshots and its frames.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossterm::event::Event;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};

use super::app::{self, App};
use super::clipboard;
use super::clock::{reached, until_next_minute};
use super::colour::ColourDepth;
use super::component::{PaneMessage, PaneSetup};
use super::drafts::Drafts;
use super::fetch::{Fetched, Fetcher};
use super::input;
use super::last_look::LastLook;
use super::panes;
use super::request::Request;
use super::response::{Dialog, TextView};
use super::saved_layout::SavedLayouts;
use super::signals::{self, TerminalSignals};
use super::theme::Theme;
use super::theme_file;
use super::tty::{self, TerminalInput, Tty};
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

/// How long a held answer may take while the operator leaves.
const LEAVING: Duration = Duration::from_secs(2);

/// How long the loop takes output of shells at once: keys and frames come in between.
const FEED: Duration = Duration::from_millis(4);
/// Pieces of output of shells that may wait for the loop.
const PIECES: usize = 4;

/// The first screen of a cockpit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Queue,
    /// The queue of a demo, which offers its tour.
    Demo,
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
    tty::check()?;
    let size = crossterm::terminal::size()?;
    let mut session = Session::new(client, size, client.detaches, ColourDepth::of_environment())?;
    match start {
        Start::Queue => session.begin_with_brief(),
        Start::Demo => {
            session.app.say("This is a demo: F1 shows you around in seven steps, ? shows the keys");
        }
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
    (term, colorterm): (&str, &str),
) -> Result<(), Failure> {
    // Leaving a remote terminal stops nothing.
    let mut session = Session::new(client, size, true, ColourDepth::of(colorterm, term))?;
    let (entering, leaving) =
        (guard::enter_sequence(session.app.mouse())?, guard::leave_sequence()?);
    let done = tokio::runtime::Handle::current().block_on(async {
        let mut wire = FrameWire::remote(out);
        wire.send_raw([entering, session.question()].concat());
        session.begin_with_brief();
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
    look: LastLook,
    /// The operator was away for so long that the brief is shown at the begin.
    brief_is_due: bool,
    /// What the files of the operator held at the begin.
    loaded: (SavedLayouts, Drafts),
    /// The commands that have no answer yet.
    under_way: usize,
}

impl Session {
    fn new(
        client: &Client,
        size: (u16, u16),
        detaches: bool,
        depth: ColourDepth,
    ) -> Result<Self, Failure> {
        let ui = &client.config.ui;
        let state = client.store.state();
        let loaded = (SavedLayouts::load(state), Drafts::load(state, &client.actor));
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let app = App::new(app::AppSetup {
            theme: Theme::load(&ui.theme, ui.ascii, colour)?.at_depth(depth),
            keymap: app::catalog::keymap(&ui.keymap)?,
            size,
            host: clean_line(&rustix::system::uname().nodename().to_string_lossy()),
            actor: client.actor.clone(),
            role: client.role,
            mouse: ui.mouse,
            detaches,
            layouts: loaded.0.clone(),
            drafts: loaded.1.clone(),
            panes: PaneSetup {
                cold_path: client.config.breakglass.as_ref().map(BreakglassConfig::cold_command),
            },
        });
        let screen = Screen::new(size.0, size.1)?;
        let (results, fetched) = mpsc::channel(16);
        theme_file::follow(app.theme(), results.clone());
        let (piece, pieces) = mpsc::channel(PIECES);
        let (client, frames) = (client.clone(), FrameLimiter::default());
        let (look, brief_is_due) =
            LastLook::read(client.store.state(), &client.actor, clock::wall());
        let since = look.since();
        let fetcher = Fetcher { client: client.clone(), results, history: None, since };
        Ok(Self {
            client,
            app,
            screen,
            frames,
            fetched,
            fetcher,
            pieces,
            piece,
            look,
            brief_is_due,
            loaded,
            under_way: 0,
        })
    }

    /// Shows the brief where the operator was away for long.
    fn begin_with_brief(&self) {
        if self.brief_is_due {
            self.fetcher.fetch(Request::Brief);
        }
    }

    /// Notes a key, and names the brief after a long absence.
    fn note_key(&mut self) {
        if let Some(away) = self.look.note_key(clock::wall()) {
            self.fetcher.since = self.look.since();
            self.app.note_absence(away);
        }
    }

    /// The bytes that ask the terminal for its background, where that chooses the theme.
    fn question(&self) -> Vec<u8> {
        let asks = self.app.theme().asks_background();
        if asks { event::BACKGROUND.to_vec() } else { Vec::new() }
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
        if tty::answers() {
            wire.send_raw(self.question());
        }
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

    /// Serves the terminal until the operator leaves, and then sends the answers that were held.
    async fn serve(&mut self, tty: Tty, wire: &mut FrameWire) -> io::Result<()> {
        self.look.keep(clock::wall());
        let done = self.serve_terminal(tty, wire).await;
        self.look.keep(clock::wall());
        self.send_held().await;
        self.take_answers().await;
        self.save_layouts();
        self.save_drafts();
        done
    }

    /// Keeps what the operator has not sent for the next time, where that changed.
    fn save_drafts(&self) {
        let (state, actor) = (self.client.store.state(), &self.client.actor);
        if let Err(error) = self.app.drafts().save(&self.loaded.1, state, actor) {
            tracing::warn!(%error, "the drafts of the cockpit can't be saved");
        }
    }

    /// Keeps the layouts for the next time, where the operator changed one.
    fn save_layouts(&mut self) {
        let state = self.client.store.state().to_owned();
        if let Err(error) = self.app.layouts().save(&self.loaded.0, &state) {
            tracing::warn!(%error, "the layouts of the cockpit can't be saved");
        }
    }

    /// Sends the answers that were held: the operator leaves the screen on which they could be undone.
    async fn send_held(&mut self) {
        for command in self.app.take_held() {
            // A runtime that is gone takes no answer; nobody is left to read its refusal.
            let answer = tokio::time::timeout(LEAVING, self.client.command(command.clone())).await;
            if answer.is_ok_and(|answer| answer.is_ok()) {
                self.app.accepted(&command);
            }
        }
    }

    /// Takes the answers to the commands that the operator has sent before leaving: a text that was accepted is
    /// no draft any more.
    async fn take_answers(&mut self) {
        let until = tokio::time::Instant::now() + LEAVING;
        while self.under_way > 0 {
            let fetched = tokio::time::timeout_at(until, self.fetched.recv()).await;
            let Ok(Some(fetched)) = fetched else { return };
            if fetched.answers_command() {
                let snapshot = self.client.snapshots.borrow().clone();
                self.show(fetched, &snapshot);
            }
        }
    }

    /// Starts what a request asks for.
    fn fetch(&mut self, request: Request) {
        self.under_way += usize::from(request.is_command());
        self.fetcher.fetch(request);
    }

    /// Takes input, snapshots and notices, and sends frames, until the operator leaves.
    async fn serve_terminal(&mut self, mut tty: Tty, wire: &mut FrameWire) -> io::Result<()> {
        let mut snapshots = self.client.snapshots.clone();
        let mut transcripts = self.client.transcripts.clone();
        let mut link = self.client.connection.clone();
        let mut notices = self.client.notices();
        let mut ends = TerminalSignals::new()?;
        let mut stops = signals::stop_requests()?;
        let mut sizes = signal(SignalKind::window_change())?;
        let mut bell = Vec::new();
        self.frames.typed(Instant::now());
        loop {
            let due = self.frames.due();
            let moving = self.app.due(Instant::now());
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
                        Some(TerminalInput::Background(colour)) => {
                            self.app.set_background(colour);
                            self.frames.changed(Instant::now());
                            continue;
                        }
                    };
                    self.frames.typed(Instant::now());
                    if local {
                        self.check_size()?;
                    }
                    let live = snapshots.borrow().clone();
                    let snapshot = self.app.past_snapshot().unwrap_or(live);
                    self.app.set_instant(Instant::now());
                    if let Event::Resize(width, height) = event {
                        self.resize((width, height))?;
                    }
                    let requests = input::take(&mut self.app, &snapshot, &event);
                    if matches!(event, Event::Key(_)) {
                        self.note_key();
                    }
                    for request in requests {
                        match request {
                            Request::Quit => return Ok(()),
                            Request::Suspend => tty = self.suspend(tty, wire).await?,
                            Request::Shell(path) => tty = self.run_shell(tty, &path).await?,
                            Request::Mouse(on) => bell.extend(tty.set_mouse(on)?),
                            Request::Copy(text) => bell.extend(self.copy(&text, local)?),
                            Request::Redraw => self.screen.redraw()?,
                            request => self.fetch(request),
                        }
                    }
                }
                _ = sizes.recv(), if local => self.check_size()?,
                () = ends.received(), if local => return Ok(()),
                _ = stops.recv(), if local => tty = self.suspend(tty, wire).await?,
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
                    for request in self.app.tick(Instant::now()) {
                        self.fetch(request);
                    }
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
        if fetched.answers_command() {
            self.under_way = self.under_way.saturating_sub(1);
        }
        let message = match fetched {
            Fetched::Text(text) | Fetched::ReviewRefused(text) => return self.app.say(text),
            Fetched::Accepted { command, message } => {
                self.app.accepted(&command);
                return self.app.say(message);
            }
            Fetched::Refused { command, why } => return self.app.refused(&command, &why),
            Fetched::Theme(Ok(theme)) => return self.app.set_theme(*theme),
            Fetched::Theme(Err(error)) => return self.app.refuse(error),
            Fetched::Refusal(why) => return self.app.refuse(why),
            Fetched::Document { title, lines } => {
                return self.app.show(Dialog::Text(TextView::fixed(title, lines)));
            }
            Fetched::Brief(brief) => return self.app.show(Dialog::Brief(brief)),
            Fetched::Timeline(timeline) => return self.app.show(Dialog::Timeline(timeline)),
            Fetched::Compare(compared) => return self.app.show(Dialog::Compare(compared)),
            Fetched::Review(diff) => return self.app.show(Dialog::Review(diff)),
            Fetched::ReviewSent(run, comments) => return self.app.review_sent(run, comments),
            Fetched::History(history, past) => {
                self.fetcher.history = Some(history.clone());
                return self.app.enter_past(history, *past);
            }
            Fetched::Past(moment, past) => {
                if let Some(request) = self.app.show_past(moment, past) {
                    self.fetch(request);
                }
                return;
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
            self.fetch(request);
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
        let past = self.app.past_snapshot();
        if past.is_none() {
            // A history keeps whole fleets.
            self.fetcher.history = None;
        }
        let snapshot = past.as_ref().unwrap_or(snapshot);
        let minute = Timestamp(clock::wall().0 / 60_000 * 60_000);
        let last = snapshot.fleet.last_event;
        self.app.set_instant(Instant::now());
        self.app.set_now(if past.is_some() { last } else { minute.max(last) });
        self.app.prepare(snapshot, &self.client.store);
        let app = &self.app;
        self.screen.terminal.draw(|frame| app.draw(frame, snapshot))?;
        self.frames.drawn(Instant::now());
        Ok(self.screen.take())
    }

    /// Stops this process and those of its group, as Ctrl-Z does in any program, and takes the terminal
    /// again once the shell continues it.
    async fn suspend(&mut self, tty: Tty, wire: &mut FrameWire) -> io::Result<Tty> {
        if !tty.is_local() {
            self.app.say("only a cockpit at a terminal of this machine can be suspended");
            return Ok(tty);
        }
        self.send_held().await;
        signals::settle(wire).await;
        // This restores the terminal. The shell that gets it shows that the job has stopped.
        drop(tty);
        signals::stop().await?;
        let tty = Tty::local(Guard::take(self.app.mouse())?, local::events()?);
        self.resize(crossterm::terminal::size()?)?;
        self.screen.redraw()?;
        self.frames.typed(Instant::now());
        Ok(tty)
    }

    /// The bytes that put a text into the clipboard. tmux keeps them to itself as it is shipped, so it is
    /// also handed the text by its own command.
    fn copy(&mut self, text: &str, local: bool) -> io::Result<Vec<u8>> {
        let plain = clipboard::sequence(text)?;
        if !local || !clipboard::in_tmux() {
            return Ok(plain);
        }
        self.fetcher.copy_to_tmux(text.to_owned());
        Ok([plain.clone(), clipboard::through_tmux(&plain)].concat())
    }

    /// Runs a shell of this machine in the cockpit's place, and returns the terminal after it.
    async fn run_shell(&mut self, tty: Tty, path: &Path) -> io::Result<Tty> {
        if !tty.is_local() {
            self.app.say("a shell opens only at a terminal of this machine");
            return Ok(tty);
        }
        self.send_held().await;
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
