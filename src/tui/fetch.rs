//! What a session fetches for its view: answers to commands, diffs, captures, recordings, shells.

use std::time::{Duration, Instant};

use super::panes::Pane;
use super::panes::breakglass;
use super::panes::breakglass::terminal::{Behind, Terminal};
use super::session::Session;
use super::view::{Input, Overlay, Pager, Purpose};
use crate::breakglass::recording::{self, Played};
use crate::breakglass::ssh::KeyChange;
use crate::breakglass::store::{self, Document};
use crate::core::model::breakglass::{BreakglassRequest, ShellId, VerbId};
use crate::core::model::command::{Accepted, Command};
use crate::core::model::digest::Digest;
use crate::core::model::untrusted::clean;
use crate::runtime::Snapshot;
use crate::runtime::breakglass::console::{Console, FromShell};

/// Answers that come back to the loop.
pub(super) enum Told {
    Message(String),
    Pager(Pager),
    /// A verb of ours is under way.
    Verb(VerbId),
    /// A shell was opened on a host.
    Shell(String, ShellId, Console),
    /// A recording was read.
    Replay(String, Played),
}

/// Time that output of shells takes at once: keys and frames come in between.
const FEED: Duration = Duration::from_millis(4);
/// Pieces of their output that may wait.
pub(super) const PIECES: usize = 4;

impl Session {
    pub(super) fn told(&mut self, told: Told, snapshot: &Snapshot) {
        match told {
            Told::Message(text) => self.view.message = Some(text),
            Told::Pager(pager) => self.view.overlays.push(Overlay::Pager(pager)),
            Told::Verb(verb) => {
                self.view.breakglass.reading = Some(verb);
                breakglass::keys::read_live(&mut self.view, snapshot);
            }
            Told::Shell(host, id, console) => {
                self.view.focus = Pane::Breakglass;
                self.view.overlays.clear();
                let Console { to, mut from } = console;
                let pieces = self.piece.clone();
                tokio::spawn(async move {
                    while let Some(piece) = from.recv().await {
                        if pieces.send((id, piece)).await.is_err() {
                            break;
                        }
                    }
                });
                let size = (self.view.width, self.view.height);
                self.view.breakglass.show(Terminal::shell(host, id, to, size));
            }
            Told::Replay(name, played) => {
                self.view.breakglass.show(Terminal::replay(name, played));
            }
        }
    }

    /// Takes what shells wrote, for a short while.
    pub(super) fn feed(&mut self, shell: ShellId, piece: FromShell) {
        let until = Instant::now() + FEED;
        let mut next = Some((shell, piece));
        while let Some((shell, piece)) = next {
            let of = |shown: &&mut Terminal| matches!(shown.behind, Behind::Shell { id, .. } if id == shell);
            if let Some(shown) = self.view.breakglass.terminals.iter_mut().find(of) {
                match piece {
                    FromShell::Bytes(bytes) => shown.feed(&bytes),
                    FromShell::Ended(end) => {
                        if let Some(change) = end.key.clone() {
                            self.view.overlays.push(trust(change));
                        }
                        shown.end(end);
                    }
                }
            }
            next = if Instant::now() < until { self.pieces.try_recv().ok() } else { None };
        }
    }

    pub(super) fn open_shell(&self, host: String) {
        let (client, tell) = (self.client.clone(), self.tell.clone());
        tokio::spawn(async move {
            let ask = BreakglassRequest::Shell { host: host.clone() };
            let told = match client.command(Command::Breakglass { request: ask }).await {
                Ok(Accepted::Shell { shell }) => match client.console(shell).await {
                    Ok(console) => Told::Shell(host, shell, console),
                    Err(why) => Told::Message(format!("shell on {host}: {why}")),
                },
                Ok(_) => return,
                Err(refusal) => Told::Message(format!("shell refused: {refusal}")),
            };
            let _ = tell.send(told).await;
        });
    }

    pub(super) fn capture(&self, digest: Digest) {
        self.read(move |state| {
            let document = Document::read(state, &digest)?;
            let mut lines = vec![
                format!("{} of {}: {}", document.verb.as_str(), document.vm, document.result),
                format!("took {} ms; {digest}", document.ms),
                String::new(),
            ];
            let text = |text: &str| {
                let text = clean(text);
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            };
            lines.extend(text(&document.stdout));
            if !document.stderr.is_empty() {
                lines.extend([String::new(), "stderr".into()]);
                lines.extend(text(&document.stderr));
            }
            if document.cut {
                lines.push("(there was more; the host's log has it)".into());
            }
            let title = format!("What {} wrote", document.verb.as_str());
            Ok(Told::Pager(Pager { title, lines, scroll: 0, live: None }))
        });
    }

    pub(super) fn capture_diff(&self, old: Digest, new: Digest) {
        self.read(move |state| {
            let (old, new) = (Document::read(state, &old)?, Document::read(state, &new)?);
            let text = clean(&store::diff(&old, &new));
            if text.is_empty() {
                return Ok(Told::Message("the two captures wrote the same".into()));
            }
            let title = "What differs from the forensics before".into();
            let lines = text.lines().map(str::to_owned).collect();
            Ok(Told::Pager(Pager { title, lines, scroll: 0, live: None }))
        });
    }

    pub(super) fn replay(&self, file: String) {
        self.read(move |state| {
            let played = recording::read(&recording::folder(state).join(&file))?;
            Ok(Told::Replay(file, played))
        });
    }

    /// Reads something of the state folder aside.
    pub(super) fn read(
        &self,
        read: impl FnOnce(&std::path::Path) -> Result<Told, String> + Send + 'static,
    ) {
        let (state, tell) = (self.client.store.state().to_owned(), self.tell.clone());
        tokio::spawn(async move {
            let done = tokio::task::spawn_blocking(move || read(&state)).await;
            let told = match done {
                Ok(Ok(told)) => told,
                Ok(Err(why)) => Told::Message(why),
                Err(error) => Told::Message(error.to_string()),
            };
            let _ = tell.send(told).await;
        });
    }

    pub(super) fn command(&self, action: crate::core::model::command::Command) {
        let word = action.as_str();
        let (client, tell) = (self.client.clone(), self.tell.clone());
        tokio::spawn(async move {
            let message = match client.command(action).await {
                Ok(Accepted::Verb { verb }) => {
                    let _ = tell.send(Told::Verb(verb)).await;
                    return;
                }
                Ok(Accepted::Ok) => format!("{word}: done"),
                Ok(Accepted::Queued { run, .. }) => format!("{word}: queued as {run}"),
                Ok(Accepted::Shell { shell }) => format!("{word}: {shell}"),
                Err(refusal) => format!("{word} refused: {refusal}"),
            };
            let _ = tell.send(Told::Message(message)).await;
        });
    }

    pub(super) fn diff(&self, run: crate::core::model::id::RunId) {
        let (client, tell) = (self.client.clone(), self.tell.clone());
        tokio::spawn(async move {
            let told = match client.diff(run).await {
                Ok(text) if text.is_empty() => Told::Message(format!("{run} has changed nothing")),
                Ok(text) => {
                    let lines = crate::core::model::untrusted::clean(&text);
                    let lines = lines.lines().map(str::to_owned).collect();
                    Told::Pager(Pager {
                        title: format!("Diff of {run}"),
                        lines,
                        scroll: 0,
                        live: None,
                    })
                }
                Err(why) => Told::Message(why),
            };
            let _ = tell.send(told).await;
        });
    }
}

/// The question whether a host's new key is right.
fn trust(change: KeyChange) -> Overlay {
    // On a line of its own, so that it stands whole at 80 columns.
    let print = |text: &str| format!(" {}", text.rsplit(' ').next().unwrap_or(text));
    let about = vec![
        format!("The key of {} is not the pinned one. Nothing was sent to it.", change.host),
        "pinned:".into(),
        print(change.old.as_deref().unwrap_or("nothing")),
        "offered:".into(),
        print(&change.new),
        "A VM that was built anew has a new key; so has somebody in between.".into(),
        format!("Compare it on its console, and type {} to trust the new one.", change.host),
    ];
    let title = format!("{} has another key", change.host);
    let input = Input { about, ..Input::new(title, Purpose::Trust(Box::new(change))) };
    Overlay::Input(Box::new(input))
}
