//! Sends a command to the running afk and prints its reply, as a line or as JSON.

use clap::Args;
use serde_json::json;

use crate::cli::instance::InstanceArgs;
use crate::cli::terminal::{print_json, print_line};
use crate::core::model::command::{Command, Refusal, Reply, Role};
use crate::error::{Failure, FailureKind};
use crate::serve::attach::client;
use crate::serve::attach::connection::AttachError;

/// The flags of every command that changes something.
#[derive(Debug, Args)]
pub(super) struct ReplyArgs {
    /// Print the reply as one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Send the command as a viewer: afk refuses it
    #[arg(long)]
    pub(super) viewer: bool,
}

impl ReplyArgs {
    pub(super) const fn role(&self) -> Role {
        if self.viewer { Role::Viewer } else { Role::Operator }
    }
}

/// Sends a command. `done` is the line for a command that took effect.
pub(super) async fn send(
    instance: &InstanceArgs,
    args: &ReplyArgs,
    command: Command,
    done: &str,
) -> Result<(), Failure> {
    let (config, paths) = instance.load()?;
    let hello = client::hello(&config, args.role(), "cli", (0, 0));
    let sent = client::send_command(&paths.state, hello, command.clone()).await?;
    let reply = sent.ok_or(AttachError::NotRunning(paths.state))?;
    report(args, &command, reply, done)
}

/// Prints the reply to a command.
///
/// # Errors
/// The refusal, as a negative answer.
pub(super) fn report(
    args: &ReplyArgs,
    command: &Command,
    reply: Reply,
    done: &str,
) -> Result<(), Failure> {
    match reply {
        Ok(_) => {
            if args.json {
                print_json(&json!({ "accepted": true, "command": command }));
            } else {
                print_line(done);
            }
            Ok(())
        }
        Err(refusal) => {
            if args.json {
                print_json(&json!({
                    "accepted": false,
                    "command": command,
                    "refusal": refusal,
                    "message": refusal.to_string(),
                }));
            }
            let hint = hint(&refusal);
            let mut failure = Failure::new(FailureKind::Negative, refusal);
            failure.hint = hint;
            Err(failure)
        }
    }
}

/// The operator's next step after a refusal, where there is one.
fn hint(refusal: &Refusal) -> Option<String> {
    Some(match refusal {
        Refusal::Viewer => "an operator sends it without --viewer".into(),
        Refusal::Stale { escalation } | Refusal::Cut { escalation } => {
            format!("`afk show {escalation}` shows it as it is now")
        }
        Refusal::WrongAnswer { .. } => "`afk show` lists the answers that it takes".into(),
        Refusal::NotOpen { .. } => "`afk inbox` lists the open questions".into(),
        Refusal::Ended { run } => format!("`afk retry {run} GUIDANCE` reopens it"),
        Refusal::NotEnded { run } => format!("`afk steer {run} TEXT` or `afk cancel {run}`"),
        Refusal::Done { run } => format!("`afk retry {run} GUIDANCE` reopens it"),
        Refusal::NoTurn { run } => format!("`afk show {run}` shows the state of the run"),
        Refusal::Locked { holder } => format!("`afk show {holder}` shows why it holds the lock"),
        _ => return None,
    })
}
