//! `afk submit`: an ad-hoc prompt for an agent, in a throwaway clone.

use std::path::Path;

use clap::Args;

use super::place::PlaceArgs;
use crate::config::Config;
use crate::core::fleet::volatile::Volatile;
use crate::core::model::command::{Accepted, Command, CommandEnvelope, Reply, Role};
use crate::core::model::id::Repo;
use crate::core::model::input::Input;
use crate::core::model::issue::Priority;
use crate::core::step::step;
use crate::error::{Failure, Kind};
use crate::journal::Journal;
use crate::runtime::clock::wall;
use crate::serve::attach::client;

/// Arguments of `afk submit`.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The repository, owner/name; it must be on the allowlist
    repo: String,
    /// What the agent is asked
    prompt: String,
    /// p0 to p9, high, medium or low
    #[arg(long)]
    priority: Option<String>,
}

/// Runs the command: through the afk that runs, else into the journal for the next one.
///
/// # Errors
/// [`Failure`].
pub async fn run(args: SubmitArgs, place: &PlaceArgs) -> Result<(), Failure> {
    let (config, paths) = place.load()?;
    let usage = |error: &dyn std::fmt::Display| Failure::new(Kind::Usage, error);
    let repo = Repo::parse(&args.repo).map_err(|e| usage(&e))?;
    let priority = match &args.priority {
        None => None,
        Some(word) => Some(Priority::from_label(word).ok_or_else(|| {
            usage(&format!("{word:?} is no priority")).hint("write p0 to p9, high, medium or low")
        })?),
    };
    let action = Command::Submit { repo, prompt: args.prompt.into(), priority, job: None };
    let (actor, origin) = (config.operator(), "cli".to_owned());
    let command = CommandEnvelope { id: 1, actor, role: Role::Operator, origin, action };
    let hello = client::hello(&config, Role::Operator, "cli", (0, 0));
    let sent = client::send_command(&paths.state, hello, command.action.clone()).await?;
    let reply = match sent {
        Some(reply) => reply,
        None => queue(&config, &paths.state, command)?,
    };
    match reply {
        Ok(Accepted::Queued { run, .. }) => {
            super::say(&format!("queued as {run}"));
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(refusal) => Err(Failure::new(Kind::No, refusal)),
    }
}

/// Writes the command into the journal; the next afk begins what it leads to.
fn queue(config: &Config, state: &Path, command: CommandEnvelope) -> Result<Reply, Failure> {
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
