//! `afk outbox`: the completion steps that are not done yet, and the decisions of an operator about
//! one of them. The command goes to the running afk, or into the journal for the next one.

use clap::Args;

use super::instance::InstanceArgs;
use super::submit::write_to_journal;
use super::terminal::print_line;
use crate::core::model::command::{Command, CommandEnvelope, Role};
use crate::core::model::id::OutboxId;
use crate::core::query::outbox;
use crate::error::{Failure, FailureKind};
use crate::serve::attach::client;

#[derive(Debug, Args)]
pub(super) struct OutboxArgs {
    #[command(subcommand)]
    decision: Option<StepDecision>,
}

#[derive(Debug, clap::Subcommand)]
enum StepDecision {
    /// Try a step again now
    Retry {
        /// The step, like o12
        step: String,
    },
    /// Drop a step; it is not done then
    Skip {
        /// The step, like o12
        step: String,
    },
    /// Replace the text of a comment that is not delivered yet, and try it again
    Edit {
        /// The step, like o12
        step: String,
        /// The text of the comment
        text: String,
    },
}

pub(super) async fn run(args: OutboxArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let Some(decision) = args.decision else { return list(instance) };
    let command = match decision {
        StepDecision::Retry { step } => Command::RetryStep { entry: parse(&step)? },
        StepDecision::Skip { step } => Command::SkipStep { entry: parse(&step)? },
        StepDecision::Edit { step, text } => {
            Command::EditStep { entry: parse(&step)?, text: text.into() }
        }
    };
    let (config, paths) = instance.load()?;
    let hello = client::hello(&config, Role::Operator, "cli", (0, 0));
    let sent = client::send_command(&paths.state, hello, command.clone()).await?;
    let reply = if let Some(reply) = sent {
        reply
    } else {
        let (actor, origin) = (config.operator(), "cli".to_owned());
        let envelope = CommandEnvelope { id: 1, actor, role: Role::Operator, origin, command };
        write_to_journal(&config, &paths.state, envelope)?
    };
    match reply {
        Ok(_) => Ok(()),
        Err(refusal) => {
            Err(Failure::new(FailureKind::Negative, refusal).hint("`afk outbox` lists the steps"))
        }
    }
}

fn list(instance: &InstanceArgs) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    for entry in fleet.outbox.values() {
        print_line(&outbox::summary(entry));
    }
    if fleet.outbox.is_empty() {
        print_line("every completion step is done");
    }
    Ok(())
}

/// Parses the number of a step: `o12`, as every screen shows it, or `12`.
fn parse(text: &str) -> Result<OutboxId, Failure> {
    let number = text.trim().trim_start_matches('o').parse();
    number.map(OutboxId).map_err(|_| {
        Failure::new(FailureKind::Usage, format!("{text:?} is no step of the outbox"))
            .hint("write its number, like o12; `afk outbox` lists the steps")
    })
}
