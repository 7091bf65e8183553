//! Requests that take time: commands, diffs, captures, recordings and shells are fetched by tasks,
//! and their results come back to the session's loop as [`Fetched`].

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::clipboard;
use super::request::Request;
use super::response::{ComparedRuns, ReviewedDiff};
use super::review::ReviewComment;
use super::theme::Theme;
use super::unneeded;
use crate::breakglass::recording::{self, Asciicast};
use crate::breakglass::store::{self, Document};
use crate::core::model::breakglass::{BreakglassRequest, ShellId, VerbId};
use crate::core::model::command::{self, Accepted};
use crate::core::model::digest::Digest;
use crate::core::model::id::RunId;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::{clean, clean_line};
use crate::core::query::brief::FleetBrief;
use crate::core::query::span::Timeline;
use crate::error::chain;
use crate::journal::Journal;
use crate::journal::history::{History, Moment, PastFleet};
use crate::runtime::breakglass::console::Console;
use crate::runtime::client::Client;
use crate::runtime::clock;

/// How far back a timeline goes, in milliseconds.
const TIMELINE: i64 = 24 * 60 * 60_000;

/// Opens the journal of a state folder for reading.
fn open(state: &Path) -> Result<Journal, String> {
    Journal::open_read_only(state).map_err(|error| chain(&error))
}

/// A result for the session's loop.
pub(super) enum Fetched {
    /// A message for the footer.
    Text(String),
    /// The reason why a request can't be carried out.
    Refusal(String),
    /// A text to read.
    Document { title: String, lines: Vec<String> },
    /// What happened since the operator last looked.
    Brief(Box<FleetBrief>),
    /// What each run did over the last hours.
    Timeline(Box<Timeline>),
    /// Two runs to compare.
    Compare(Box<ComparedRuns>),
    /// The changes of a run.
    Review(Box<ReviewedDiff>),
    /// The fleet has accepted a command, with a message for the footer.
    Accepted { command: Box<command::Command>, message: String },
    /// The reason why a command was not accepted.
    Refused { command: Box<command::Command>, why: String },
    /// The fleet has accepted these comments on a run.
    ReviewSent(RunId, Vec<ReviewComment>),
    /// The reason why comments were not accepted.
    ReviewRefused(String),
    /// The journal was read, and the past begins at its end.
    History(Arc<History>, Box<PastFleet>),
    /// The fleet of the moment that was asked for; none if the journal can't be read.
    Past(Moment, Option<Box<PastFleet>>),
    /// A verb that this client asked for has started.
    VerbStarted(VerbId),
    /// A shell on a host is open.
    Shell { host: String, shell: ShellId, console: Console },
    /// A recording was read.
    Recording(String, Asciicast),
    /// The operator's theme file has changed: its theme, or why it can't be read.
    Theme(Result<Box<Theme>, String>),
}

impl Fetched {
    /// Whether it is the one answer to a command.
    pub(super) const fn answers_command(&self) -> bool {
        matches!(
            self,
            Self::Accepted { .. }
                | Self::Refused { .. }
                | Self::ReviewSent(..)
                | Self::ReviewRefused(_)
                | Self::VerbStarted(_)
        )
    }
}

/// Starts tasks that fetch, and sends their results to the loop.
pub(super) struct Fetcher {
    pub(super) client: Client,
    pub(super) results: mpsc::Sender<Fetched>,
    /// The journal as it was read for the past that is shown.
    pub(super) history: Option<Arc<History>>,
    /// The begin of the brief.
    pub(super) since: Timestamp,
}

impl Fetcher {
    /// Starts the task of a request.
    pub(super) fn fetch(&self, request: Request) {
        match request {
            Request::Command(action) => self.command(action),
            Request::Diff(run) => self.diff(run),
            Request::Review(run, comments, action) => self.review(run, comments, action),
            Request::Compare(one, other) => self.compare([one, other]),
            Request::Brief => self.brief(),
            Request::Timeline => self.timeline(),
            Request::TimeTravel => self.time_travel(),
            Request::Past(moment) => self.past(moment),
            Request::OpenShell(host) => self.open_shell(host),
            Request::Capture(digest) => self.capture(digest),
            Request::CaptureDiff(old, new) => self.capture_diff(old, new),
            Request::Replay(file) => self.recording(file),
            // The loop itself carries these out.
            Request::Quit
            | Request::Suspend
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
                    Err(why) => Fetched::Refusal(format!("shell on {host}: {why}")),
                },
                Ok(_) => return,
                Err(refusal) => Fetched::Refusal(format!("shell refused: {refusal}")),
            };
            let _ = results.send(fetched).await;
        });
    }

    fn brief(&self) {
        let since = self.since;
        self.read(move |state| {
            let brief = open(state)?.brief(since, clock::wall()).map_err(|error| chain(&error))?;
            Ok(Fetched::Brief(Box::new(brief)))
        });
    }

    fn timeline(&self) {
        self.read(|state| {
            let now = clock::wall();
            let timeline = open(state)?.timeline(now.plus(-TIMELINE), now);
            let timeline = timeline.map_err(|error| chain(&error))?;
            Ok(Fetched::Timeline(Box::new(timeline)))
        });
    }

    fn time_travel(&self) {
        self.read(|state| {
            let history = History::read(state).map_err(|error| chain(&error))?;
            let last = history.at(Moment::Record(history.last.0)).map_err(|error| chain(&error))?;
            Ok(Fetched::History(Arc::new(history), Box::new(last)))
        });
    }

    fn past(&self, moment: Moment) {
        let Some(history) = self.history.clone() else { return };
        let results = self.results.clone();
        self.read(move |_| match history.at(moment) {
            Ok(past) => Ok(Fetched::Past(moment, Some(Box::new(past)))),
            Err(error) => {
                // The cockpit waits for an answer before it asks again.
                let _ = results.blocking_send(Fetched::Past(moment, None));
                Err(chain(&error))
            }
        });
    }

    fn compare(&self, runs: [RunId; 2]) {
        let (client, results) = (self.client.clone(), self.results.clone());
        tokio::spawn(async move {
            let [one, other] = runs;
            let (one, other) = tokio::join!(client.diff(one), client.diff(other));
            let diffs = [one, other].map(|diff| match diff {
                Ok(diff) => Ok(clean(&diff)),
                Err(why) => Err(clean_line(&why)),
            });
            let compared = Box::new(ComparedRuns { runs, diffs });
            let _ = results.send(Fetched::Compare(compared)).await;
        });
    }

    fn review(&self, run: RunId, comments: Vec<ReviewComment>, action: command::Command) {
        let (client, results) = (self.client.clone(), self.results.clone());
        tokio::spawn(async move {
            let fetched = match client.command(action).await {
                Ok(_) => Fetched::ReviewSent(run, comments),
                Err(refusal) => Fetched::ReviewRefused(format!(
                    "the comments were refused and stay here: {refusal}"
                )),
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
                Ok(Err(why)) => Fetched::Refusal(why),
                Err(error) => Fetched::Refusal(error.to_string()),
            };
            let _ = results.send(fetched).await;
        });
    }

    /// Hands a copied text to tmux, and says so where it takes none.
    pub(super) fn copy_to_tmux(&self, text: String) {
        let results = self.results.clone();
        tokio::spawn(async move {
            if let Err(why) = clipboard::copy_to_tmux(&text).await {
                let _ = results.send(Fetched::Refusal(why)).await;
            }
        });
    }

    fn command(&self, action: command::Command) {
        let word = action.as_str();
        let switched = match action {
            command::Command::SetKillSwitch { on } => Some(on),
            _ => None,
        };
        let (client, results) = (self.client.clone(), self.results.clone());
        tokio::spawn(async move {
            let command = Box::new(action.clone());
            let message = match client.command(action).await {
                Ok(Accepted::Verb { verb }) => {
                    let _ = results.send(Fetched::VerbStarted(verb)).await;
                    return;
                }
                Ok(Accepted::Ok) => match switched {
                    Some(true) => "Kill switch ON: nothing new starts; live runs go on".to_owned(),
                    Some(false) => "Kill switch off: eligible issues start again".to_owned(),
                    None => format!("{word}: done"),
                },
                Ok(Accepted::Queued { run, .. }) => format!("{word}: queued as {run}"),
                Ok(Accepted::Shell { shell }) => format!("{word}: {shell}"),
                Err(refusal) => {
                    let why = format!("{word} refused: {refusal}");
                    let _ = results.send(Fetched::Refused { command, why }).await;
                    return;
                }
            };
            let _ = results.send(Fetched::Accepted { command, message }).await;
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
                    Fetched::Review(Box::new(ReviewedDiff { run, lines }))
                }
                Err(why) => Fetched::Refusal(why),
            };
            let _ = results.send(fetched).await;
        });
    }
}
