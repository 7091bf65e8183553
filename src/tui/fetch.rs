//! Requests that take time: commands, diffs, captures, recordings and shells are fetched by tasks,
//! and their results come back to the session's loop as [`Fetched`].

use std::path::Path;

use tokio::sync::mpsc;

use super::request::Request;
use super::unneeded;
use crate::breakglass::recording::{self, Asciicast};
use crate::breakglass::store::{self, Document};
use crate::core::model::breakglass::{BreakglassRequest, ShellId, VerbId};
use crate::core::model::command::{self, Accepted};
use crate::core::model::digest::Digest;
use crate::core::model::id::RunId;
use crate::core::model::untrusted::clean;
use crate::runtime::breakglass::console::Console;
use crate::runtime::client::Client;

/// A result for the session's loop.
pub(super) enum Fetched {
    /// A message for the footer.
    Text(String),
    /// A text to read.
    Document { title: String, lines: Vec<String> },
    /// A verb that this client asked for has started.
    VerbStarted(VerbId),
    /// A shell on a host is open.
    Shell { host: String, shell: ShellId, console: Console },
    /// A recording was read.
    Recording(String, Asciicast),
}

/// Starts tasks that fetch, and sends their results to the loop.
pub(super) struct Fetcher {
    pub(super) client: Client,
    pub(super) results: mpsc::Sender<Fetched>,
}

impl Fetcher {
    /// Starts the task of a request.
    pub(super) fn fetch(&self, request: Request) {
        match request {
            Request::Command(action) => self.command(action),
            Request::Diff(run) => self.diff(run),
            Request::OpenShell(host) => self.open_shell(host),
            Request::Capture(digest) => self.capture(digest),
            Request::CaptureDiff(old, new) => self.capture_diff(old, new),
            Request::Replay(file) => self.recording(file),
            // The loop itself carries these out.
            Request::Quit
            | Request::Shell(_)
            | Request::Copy(_)
            | Request::Mouse(_)
            | Request::Redraw => {}
        }
    }

    fn open_shell(&self, host: String) {
        let (client, results) = (self.client.clone(), self.results.clone());
        tokio::spawn(async move {
            let request = BreakglassRequest::Shell { host: host.clone() };
            let fetched = match client.command(command::Command::Breakglass { request }).await {
                Ok(Accepted::Shell { shell }) => match client.console(shell).await {
                    Ok(console) => Fetched::Shell { host, shell, console },
                    Err(why) => Fetched::Text(format!("shell on {host}: {why}")),
                },
                Ok(_) => return,
                Err(refusal) => Fetched::Text(format!("shell refused: {refusal}")),
            };
            let _ = results.send(fetched).await;
        });
    }

    fn capture(&self, digest: Digest) {
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
                lines.push("(cut here; the log on the host has the rest)".into());
            }
            let title = format!("Output of {}", document.verb.as_str());
            Ok(Fetched::Document { title, lines })
        });
    }

    fn capture_diff(&self, old: Digest, new: Digest) {
        self.read(move |state| {
            let (old, new) = (Document::read(state, &old)?, Document::read(state, &new)?);
            let text = clean(&store::diff(&old, &new));
            if text.is_empty() {
                return Ok(Fetched::Text("the two captures are equal".into()));
            }
            let title = "Changes since the capture before it".into();
            let lines = text.lines().map(str::to_owned).collect();
            Ok(Fetched::Document { title, lines })
        });
    }

    fn recording(&self, file: String) {
        self.read(move |state| {
            let played = recording::read(&recording::folder(state).join(&file))?;
            Ok(Fetched::Recording(file, played))
        });
    }

    /// Reads from the state folder on a thread for blocking work.
    fn read(&self, read: impl FnOnce(&Path) -> Result<Fetched, String> + Send + 'static) {
        let (state, results) = (self.client.store.state().to_owned(), self.results.clone());
        tokio::spawn(async move {
            let done = tokio::task::spawn_blocking(move || read(&state)).await;
            let fetched = match done {
                Ok(Ok(told)) => told,
                Ok(Err(why)) => Fetched::Text(why),
                Err(error) => Fetched::Text(error.to_string()),
            };
            let _ = results.send(fetched).await;
        });
    }

    fn command(&self, action: command::Command) {
        let word = action.as_str();
        let (client, results) = (self.client.clone(), self.results.clone());
        tokio::spawn(async move {
            let message = match client.command(action).await {
                Ok(Accepted::Verb { verb }) => {
                    let _ = results.send(Fetched::VerbStarted(verb)).await;
                    return;
                }
                Ok(Accepted::Ok) => format!("{word}: done"),
                Ok(Accepted::Queued { run, .. }) => format!("{word}: queued as {run}"),
                Ok(Accepted::Shell { shell }) => format!("{word}: {shell}"),
                Err(refusal) => format!("{word} refused: {refusal}"),
            };
            let _ = results.send(Fetched::Text(message)).await;
        });
    }

    fn diff(&self, run: RunId) {
        let (client, results) = (self.client.clone(), self.results.clone());
        tokio::spawn(async move {
            let fetched = match client.diff(run).await {
                Ok(text) if text.is_empty() => Fetched::Text(format!("{run} has no changes")),
                Ok(text) => {
                    let (text, snapshot) = (clean(&text), client.snapshots.borrow().clone());
                    let known = snapshot.fleet.runs.get(&run);
                    let places = known.map(|run| unneeded::places(run)).unwrap_or_default();
                    let lines = unneeded::marked(&text, &places);
                    Fetched::Document { title: format!("Diff of {run}"), lines }
                }
                Err(why) => Fetched::Text(why),
            };
            let _ = results.send(fetched).await;
        });
    }
}
