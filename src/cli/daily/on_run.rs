//! `afk steer`, `afk interrupt`, `afk cancel`, `afk retry` and `afk release`: commands on one run, which
//! each answer names with its issue and title.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::send::{ReplyArgs, send};
use crate::cli::complete;
use crate::cli::instance::InstanceArgs;
use crate::cli::subject_arg::{find_run, long_name};
use crate::cli::terminal::text_or_input;
use crate::core::model::command::Command;
use crate::core::model::id::RunId;
use crate::error::Failure;

#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    /// The run, or the issue of the run: r2, owner/name#12, name#12 or #12
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::run))]
    run: String,
    #[command(flatten)]
    reply: ReplyArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SteerArgs {
    #[command(flatten)]
    run: RunArgs,
    /// The message for the agent; `-` reads standard input
    text: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RetryArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Guidance for the agent, which a run that is done needs; `-` reads standard input
    guidance: Option<String>,
}

pub(super) async fn steer(args: SteerArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let text = text_or_input(args.text)?;
    let command = |run| Command::Steer { run, text: text.into() };
    let done = |name: String| format!("sent to the agent of {name}");
    act(&args.run, instance, command, done).await
}

pub(super) async fn interrupt(args: &RunArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let done = |name: String| {
        format!("interrupting the agent of {name}; its conversation and worktree stay")
    };
    act(args, instance, |run| Command::Interrupt { run }, done).await
}

pub(super) async fn cancel(args: &RunArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let done = |name: String| format!("cancelled {name}; unpushed changes are kept as a commit");
    act(args, instance, |run| Command::Cancel { run }, done).await
}

pub(super) async fn retry(args: RetryArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let guidance = args.guidance.map(text_or_input).transpose()?.unwrap_or_default();
    let command = |run| Command::Retry { run, guidance: guidance.into() };
    let done = |name: String| format!("reopened {name} in the same conversation");
    act(&args.run, instance, command, done).await
}

pub(super) async fn release(args: &RunArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let done = |name: String| format!("released the lock of {name}; you repair the branch");
    act(args, instance, |run| Command::Release { run }, done).await
}

/// Sends a command about the run that the command line names.
async fn act(
    args: &RunArgs,
    instance: &InstanceArgs,
    command: impl FnOnce(RunId) -> Command,
    done: impl FnOnce(String) -> String,
) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let run = find_run(&fleet, &args.run)?;
    let done = done(long_name(run));
    send(instance, &args.reply, command(run.id), &done).await
}
