//! The daily job from the command line: read what waits for a human, answer it, and act on runs, with the
//! same commands, roles and digests as the cockpit's keys.
//!
//! ```text
//! inbox, show, log, transcript ◀─ the journal and the transcripts, also while no afk runs
//! diff ◀────────────────────────── the running afk
//! approve, deny, answer ───────────────────┐
//! steer, interrupt, cancel, retry, release ┴▶ send ─▶ the running afk, which checks each command
//! kill-switch ─▶ the running afk, or the journal for the next one
//! ```

mod answer;
mod diff;
mod inbox;
mod kill_switch;
mod log;
mod on_run;
mod send;
mod show;
pub(super) mod transcript;

use super::instance::InstanceArgs;
use crate::error::Failure;

#[derive(Debug, clap::Subcommand)]
pub(super) enum DailyCommand {
    /// List the open questions
    Inbox(inbox::InboxArgs),
    /// Show a question with the commands that answer it, a run or an issue
    Show(show::ShowArgs),
    /// Approve what a question asks, as it was read
    Approve(answer::ApproveArgs),
    /// Deny what a question asks, with a reason for the agent
    Deny(answer::DenyArgs),
    /// Answer a question in words, or with one of its options
    Answer(answer::AnswerArgs),
    /// Send a message to the agent of a running turn
    Steer(on_run::SteerArgs),
    /// End the agent's turn and keep its conversation
    Interrupt(on_run::RunArgs),
    /// End a run for good; work that is not pushed is kept as a commit
    Cancel(on_run::RunArgs),
    /// Reopen a run that has ended, with guidance for its agent
    Retry(on_run::RetryArgs),
    /// Release the repository's lock of a frozen run
    Release(on_run::RunArgs),
    /// Show the kill switch, which stops all pickup, or turn it on or off
    KillSwitch(kill_switch::KillSwitchArgs),
    /// Print the events of the journal, all or those of a run or an issue
    Log(log::LogArgs),
    /// Print the transcript of a run
    Transcript(transcript::TranscriptArgs),
    /// Print the changes of a run since its base commit
    Diff(diff::DiffArgs),
}

pub(super) async fn run(command: DailyCommand, instance: &InstanceArgs) -> Result<(), Failure> {
    match command {
        DailyCommand::Inbox(args) => inbox::run(&args, instance),
        DailyCommand::Show(args) => show::run(&args, instance),
        DailyCommand::Approve(args) => answer::approve(args, instance).await,
        DailyCommand::Deny(args) => answer::deny(args, instance).await,
        DailyCommand::Answer(args) => answer::answer(args, instance).await,
        DailyCommand::Steer(args) => on_run::steer(args, instance).await,
        DailyCommand::Interrupt(args) => on_run::interrupt(&args, instance).await,
        DailyCommand::Cancel(args) => on_run::cancel(&args, instance).await,
        DailyCommand::Retry(args) => on_run::retry(args, instance).await,
        DailyCommand::Release(args) => on_run::release(&args, instance).await,
        DailyCommand::KillSwitch(args) => kill_switch::run(&args, instance).await,
        DailyCommand::Log(args) => log::run(&args, instance).await,
        DailyCommand::Transcript(args) => transcript::run(&args, instance).await,
        DailyCommand::Diff(args) => diff::run(&args, instance).await,
    }
}
