//! `afk submit`: an ad-hoc prompt for an agent, in a throwaway clone. The command goes to the running
//! afk, or into the journal for the next one. With `--wait` or `--follow` an afk must run, and the command
//! lasts as long as the run (`submit_wait`).

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::attach;
use super::instance::InstanceArgs;
use super::submit_wait::{self, WaitOutput};
use super::terminal::{print_json, print_line, print_remark};
use crate::config::Config;
use crate::core::fleet::volatile::Volatile;
use crate::core::model::command::{Accepted, Command, CommandEnvelope, Reply, Role};
use crate::core::model::id::Repo;
use crate::core::model::input::Input;
use crate::core::model::issue::Priority;
use crate::core::step::step;
use crate::error::{Failure, FailureKind};
use crate::journal::Journal;
use crate::runtime::clock::wall;
use crate::serve::attach::client;

#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    /// The repository, owner/name; it must be on the allowlist
    repo: String,
    /// The prompt for the agent
    prompt: String,
    /// p0 to p9, high, medium or low
    #[arg(long)]
    priority: Option<String>,
    /// Wait until the run has ended, and print the agent's answer
    #[arg(long)]
    wait: bool,
    /// Print the transcript until the run has ended
    #[arg(long)]
    follow: bool,
    /// Print one JSON object; with --follow one for each entry of the transcript
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: SubmitArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let (config, paths) = instance.load()?;
    let usage = |error: &dyn std::fmt::Display| Failure::new(FailureKind::Usage, error);
    let repo = Repo::parse(&args.repo).map_err(|e| usage(&e))?;
    let priority = match &args.priority {
        None => None,
        Some(label) => Some(Priority::from_label(label).ok_or_else(|| {
            usage(&format!("{label:?} is not a priority"))
                .hint("write p0 to p9, high, medium or low")
        })?),
    };
    let action = Command::Submit { repo, prompt: args.prompt.into(), priority, job: None };
    if args.wait || args.follow {
        let client = attach::connect(&config, &paths, Role::Operator, "cli").await?;
        return match client.command(action).await {
            Ok(Accepted::Queued { run, .. }) => {
                let output = WaitOutput { follow: args.follow, json: args.json };
                print_remark(&format!("queued as {run}"));
                submit_wait::wait(&client, &paths.state, run, output).await
            }
            Ok(_) => Ok(()),
            Err(refusal) => Err(Failure::new(FailureKind::Negative, refusal)),
        };
    }
    let (actor, origin) = (config.operator(), "cli".to_owned());
    let command = CommandEnvelope { id: 1, actor, role: Role::Operator, origin, command: action };
    let hello = client::hello(&config, Role::Operator, "cli", (0, 0));
    let sent = client::send_command(&paths.state, hello, command.command.clone()).await?;
    let reply = match sent {
        Some(reply) => reply,
        None => write_to_journal(&config, &paths.state, command)?,
    };
    match reply {
        Ok(Accepted::Queued { run, .. }) => {
            if args.json {
                print_json(&json!({ "run": run }));
            } else {
                print_line(&format!("queued as {run}"));
            }
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(refusal) => Err(Failure::new(FailureKind::Negative, refusal)),
    }
}

/// Writes the command into the journal; the next afk starts the run.
pub(super) fn write_to_journal(
    config: &Config,
    state: &Path,
    command: CommandEnvelope,
) -> Result<Reply, Failure> {
    let mut journal = Journal::open(state)?;
    let mut fleet = journal.fold()?;
    let at = wall();
    let mut volatile = Volatile::default();
    let policy = Input::Policy(Box::new(config.policy()));
    let mut events = step(&mut fleet, &mut volatile, at, policy).events;
    let out = step(&mut fleet, &mut volatile, at, Input::Command(command));
    events.extend(out.events);
    let batch: Vec<_> = events.into_iter().map(|event| (out.at, event)).collect();
    journal.append(&batch)?;
    Ok(out.reply.map_or(Ok(Accepted::Ok), |(_, reply)| reply))
}
