//! `afk transcript`: the transcript of a run as text or as JSON lines, from its file in the state folder.
//! `afk submit --follow` prints a transcript in the same way.

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::json;
use tokio::time::timeout;

use crate::cli::attach;
use crate::cli::complete;
use crate::cli::instance::InstanceArgs;
use crate::cli::subject_arg::find_run;
use crate::cli::terminal::{print_json, print_line};
use crate::core::model::agent_event::{AgentEvent, PlanItem};
use crate::core::model::command::Role;
use crate::core::model::id::RunId;
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::error::{Failure, FailureKind};
use crate::journal::transcript::{Reader, Store, TranscriptEntry};
use crate::runtime::client::Client;

/// Entries that are read at once.
const WINDOW: usize = 512;
/// A transcript is read this often at least while it is followed: its last entries may come after the end of
/// the run, without a word about it.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(in crate::cli) struct TranscriptArgs {
    /// The run, or the issue of the run: r2, owner/name#12, name#12 or #12
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::run))]
    run: String,
    /// Go on with each new entry until the run has ended
    #[arg(short, long)]
    follow: bool,
    /// Print only the last entries
    #[arg(long, value_name = "COUNT")]
    last: Option<usize>,
    /// Print each entry as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &TranscriptArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let run = find_run(&fleet, &args.run)?.id;
    let state = instance.paths()?.state;
    let client = if args.follow {
        let (config, paths) = instance.load()?;
        Some(attach::connect(&config, &paths, Role::Viewer, "transcript").await?)
    } else {
        None
    };
    let mut printer = TranscriptPrinter::open(&state, run, args.json)?;
    printer.skip_to_last(args.last)?;
    match client {
        Some(client) => follow(&client, run, &mut printer).await,
        None => printer.print(),
    }
}

/// Prints a transcript until its run has ended.
pub(in crate::cli) async fn follow(
    client: &Client,
    run: RunId,
    printer: &mut TranscriptPrinter,
) -> Result<(), Failure> {
    let mut transcripts = client.transcripts.clone();
    let mut snapshots = client.snapshots.clone();
    loop {
        let is_over = {
            let now = snapshots.borrow_and_update();
            now.fleet.runs.get(&run).is_some_and(|run| !run.live())
        };
        transcripts.borrow_and_update();
        printer.print()?;
        if is_over {
            return Ok(());
        }
        let changed = async {
            tokio::select! {
                changed = transcripts.changed() => changed.is_ok(),
                changed = snapshots.changed() => changed.is_ok(),
            }
        };
        if timeout(LOOK, changed).await == Ok(false) {
            return Err(Failure::new(FailureKind::System, "the connection to afk is lost"));
        }
    }
}

/// A transcript as far as it was printed.
pub(in crate::cli) struct TranscriptPrinter {
    reader: Reader,
    next: usize,
    json: bool,
}

impl TranscriptPrinter {
    pub(in crate::cli) fn open(
        state: &std::path::Path,
        run: RunId,
        json: bool,
    ) -> Result<Self, Failure> {
        let reader = Store::open(state)?.reader(run);
        Ok(Self { reader, next: 0, json })
    }

    fn skip_to_last(&mut self, last: Option<usize>) -> Result<(), Failure> {
        self.reader.refresh()?;
        self.next = last.map_or(0, |last| self.reader.len().saturating_sub(last));
        Ok(())
    }

    /// Prints the entries that are new.
    fn print(&mut self) -> Result<(), Failure> {
        self.reader.refresh()?;
        loop {
            let entries = self.reader.read(self.next, WINDOW)?;
            if entries.is_empty() {
                return Ok(());
            }
            self.next += entries.len();
            for entry in entries {
                if self.json {
                    print_json(&json!(entry));
                } else {
                    for line in lines(&entry) {
                        print_line(&line);
                    }
                }
            }
        }
    }
}

/// The lines of an entry; none for bookkeeping. The agent's own text begins at the margin, and everything
/// else behind a mark.
pub(in crate::cli) fn lines(entry: &TranscriptEntry) -> Vec<String> {
    match &entry.event {
        AgentEvent::Prompt { text } => {
            let mut lines = vec![format!("» turn {}", entry.turn)];
            lines.extend(behind("  ", text));
            lines
        }
        AgentEvent::SessionStarted { session, model, .. } => {
            let model = model.as_ref().map(Untrusted::clean_line).unwrap_or_default();
            vec![format!("· session {} {model}", clean_line(session)).trim_end().to_owned()]
        }
        AgentEvent::Text { text } => behind("", text),
        AgentEvent::Thought { text } => behind("~ ", text),
        AgentEvent::ToolEnd { title, ok, code, output, .. } => {
            let end = match (code, ok) {
                (Some(code), _) => format!("exit code {code}"),
                (None, true) => "ok".to_owned(),
                (None, false) => "failed".to_owned(),
            };
            let mark = if *ok { '+' } else { '!' };
            let mut lines = vec![format!("{mark} {}  ({end})", title.clean_line())];
            lines.extend(behind("  | ", output));
            lines
        }
        AgentEvent::Diff { path, diff } => {
            let mut lines = vec![format!("± {}", path.clean_line())];
            lines.extend(behind("  ", diff));
            lines
        }
        AgentEvent::Plan { items } => items.iter().map(plan_line).collect(),
        AgentEvent::PermissionRequest { request, .. } => {
            vec![format!("? asks permission: {}", request.title.clean_line())]
        }
        AgentEvent::Question { text, options, .. } => {
            let mut lines = vec![format!("? asks: {}", text.clean_line())];
            let options = options.iter().enumerate();
            lines.extend(options.map(|(at, text)| format!("  {}. {}", at + 1, text.clean_line())));
            lines
        }
        AgentEvent::Resolved { title, answer, by, .. } => {
            let title = title.clean_line();
            let of = if title.is_empty() { String::new() } else { format!(": {title}") };
            vec![format!("« {}, by {by}{of}", answer.clean_line())]
        }
        AgentEvent::Steered { text, by } => {
            vec![format!("» {}: {}", clean_line(by), text.clean_line())]
        }
        AgentEvent::SteerTaken => vec!["· message taken".into()],
        AgentEvent::Usage(spend) => {
            let (read, written, money) = (spend.tokens_in, spend.tokens_out, spend.summary());
            vec![format!("$ {read} in, {written} out, {money}")]
        }
        AgentEvent::Retry { attempt, delay_ms, .. } => {
            vec![format!("~ retries the model in {delay_ms} ms (attempt {attempt})")]
        }
        AgentEvent::Quiet { seconds, .. } => vec![format!("~ no output for {seconds} s")],
        AgentEvent::Exited { code: Some(0), stderr } if stderr.is_empty() => Vec::new(),
        AgentEvent::Exited { code, stderr } => {
            let code = code.map_or_else(|| "stopped".into(), |code| format!("exit code {code}"));
            let mut lines = vec![format!("· {code}")];
            lines.extend(behind("  | ", stderr));
            lines
        }
        AgentEvent::Notice { text } => behind("· ", text),
        AgentEvent::Raw { line } => vec![format!("· {}", line.clean_line())],
        AgentEvent::TurnEnd(end) => vec![format!("« {}", end.summary())],
        AgentEvent::Equipped(_)
        | AgentEvent::Piece { .. }
        | AgentEvent::ToolStart { .. }
        | AgentEvent::ToolRunning { .. }
        | AgentEvent::RequestWithdrawn { .. }
        | AgentEvent::ToolCall { .. }
        | AgentEvent::Context(_)
        | AgentEvent::Active => Vec::new(),
    }
}

fn plan_line(item: &PlanItem) -> String {
    format!("[{}] {}", if item.done { 'x' } else { ' ' }, item.text.clean_line())
}

/// The lines of a text from outside, each behind a mark.
fn behind(mark: &str, text: &Untrusted) -> Vec<String> {
    text.clean().lines().map(|line| format!("{mark}{line}")).collect()
}
