//! `afk submit --wait` and `--follow`: waits for the end of a prompt's run and prints the agent's answer.
//! Ending the command doesn't end the run.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::daily::transcript::{self, TranscriptPrinter};
use super::status::spend_json;
use super::terminal::{print_json, print_line, print_remark};
use crate::core::fleet::Fleet;
use crate::core::model::id::{EscalationId, RunId};
use crate::core::model::run::{Outcome, Run};
use crate::core::model::untrusted::clean;
use crate::error::{Failure, FailureKind};
use crate::journal::job_output;
use crate::runtime::client::{Client, ConnectionState};

/// What is printed of a run that is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitOutput {
    /// The transcript while it grows, instead of the answer at the end.
    pub(super) follow: bool,
    pub(super) json: bool,
}

/// Waits until a run has ended, without a limit: the run has limits of its own.
///
/// # Errors
/// A negative answer if the run ended otherwise than done.
pub(super) async fn wait(
    client: &Client,
    state: &Path,
    id: RunId,
    output: WaitOutput,
) -> Result<(), Failure> {
    let run = if output.follow {
        let mut printer = TranscriptPrinter::open(state, id, output.json)?;
        let printing = transcript::follow(client, id, &mut printer);
        tokio::try_join!(ended(client, id), printing)?.0
    } else {
        ended(client, id).await?
    };
    let outcome = run.progress.outcome;
    if !output.follow {
        let answer = job_output::read(client.store.reader(id)).result;
        if output.json {
            print_json(&json!({
                "run": id,
                "outcome": outcome,
                "why": run.progress.why.clean_line(),
                "answer": answer,
                "spend": spend_json(&run.spend.total),
            }));
        } else if !answer.is_empty() {
            print_line(clean(&answer).trim_end());
        }
    }
    if outcome == Some(Outcome::Done) {
        return Ok(());
    }
    let outcome = outcome.map_or("unknown", Outcome::as_str);
    let why = format!("{id} ended as {outcome}: {}", run.progress.why.clean_line());
    Err(Failure::new(FailureKind::Negative, why).hint(format!("`afk transcript {id}` shows it")))
}

/// Resolves to the run once it has ended, and names its questions meanwhile.
async fn ended(client: &Client, id: RunId) -> Result<Run, Failure> {
    let mut snapshots = client.snapshots.clone();
    let mut connection = client.connection.clone();
    let mut named = BTreeSet::new();
    let mut is_known = false;
    loop {
        {
            let snapshot = snapshots.borrow_and_update();
            match snapshot.fleet.runs.get(&id) {
                Some(run) if !run.live() => return Ok(run.as_ref().clone()),
                Some(_) => is_known = true,
                None if is_known => {
                    let why = format!("afk has forgotten {id}, which has ended");
                    return Err(Failure::new(FailureKind::System, why));
                }
                // The snapshot with the run comes after the reply.
                None => {}
            }
            name_questions(&snapshot.fleet, id, &mut named);
        }
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return Err(Failure::new(FailureKind::System, "the connection to afk is lost"));
                }
            }
            Ok(()) = connection.changed() => {
                if let ConnectionState::Lost { why, .. } = &*connection.borrow_and_update() {
                    print_remark(why);
                }
            }
        }
    }
}

/// Prints a remark for each open question of the run that has none yet.
fn name_questions(fleet: &Fleet, id: RunId, named: &mut BTreeSet<EscalationId>) {
    for open in fleet.inbox() {
        if open.run == Some(id) && named.insert(open.id) {
            let (title, open) = (open.title.clean_line(), open.id);
            print_remark(&format!("{id} asks: {title} (`afk show {open}` shows {open} whole)"));
        }
    }
}
