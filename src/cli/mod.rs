//! The command line: one file per subcommand. Each parses its arguments, loads the instance that
//! `--config` and `--state` select, and talks to the runtime: in this process (`up`, `demo`), over the
//! attach socket (`attach`, `stop`, `submit`, `daily`, `breakglass`), or through the journal alone (`status`,
//! `explain`, `proof`, `capsule`, `verify`, `journal`). An error becomes a [`Failure`] with an exit code.

mod attach;
mod backup;
mod breakglass;
mod brief;
mod capsule;
mod complete;
mod config;
mod config_edit;
mod daily;
mod dash;
mod demo;
mod doctor;
mod explain;
mod export;
mod failure;
mod git_call;
mod init;
mod instance;
mod journal;
mod journal_lines;
mod log;
mod moment_arg;
mod outbox;
mod presence;
mod proof;
mod push_target;
mod replay;
mod run_arg;
mod service_manager;
mod shell_files;
mod status;
mod stop;
mod subject_arg;
mod submit;
mod submit_wait;
mod terminal;
mod timeline;
mod trial;
mod up;
mod verify;
mod watch;

use std::path::PathBuf;

use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;

use self::instance::InstanceArgs;
use crate::error::{Failure, FailureKind};
use crate::term::restorer;

/// Terminal cockpit for coding agents that work while you are away from the keyboard.
///
/// Without a command, afk opens the cockpit; its runtime keeps running when the terminal closes.
#[derive(Debug, Parser)]
#[command(version = crate::version::WHOLE, about, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    instance: InstanceArgs,
    #[command(subcommand)]
    command: Option<Subcommand>,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Run the whole way from issue to deploy on sample repositories, with a scripted agent
    Demo(demo::DemoArgs),
    /// Run the runtime in the foreground until a signal or `afk stop`, for a service
    Up(up::UpArgs),
    /// Open the cockpit of the running afk
    Attach(attach::AttachArgs),
    /// Show a read-only dashboard, for a spare monitor
    Dash(dash::DashArgs),
    /// Print a line for each event, without a screen
    Watch(watch::WatchArgs),
    /// Report what happened since a time: landed, frozen, waiting, spent, and what stood still
    Brief(brief::BriefArgs),
    /// Show the fleet as it was at a time or a journal record
    Replay(replay::ReplayArgs),
    /// Write a run as one HTML page, or its transcript as an asciicast
    Export(export::ExportArgs),
    /// End the runtime; its runs continue at the next start
    Stop(stop::StopArgs),
    /// Write a configuration for the current repository; it starts nothing
    Init(init::InitArgs),
    /// Check everything that a run needs, with a hint for each problem
    Doctor(doctor::DoctorArgs),
    /// Queue a prompt for an agent, in a throwaway clone
    Submit(submit::SubmitArgs),
    #[command(flatten)]
    Daily(daily::DailyCommand),
    /// Explain the state of an issue or a run
    Explain(explain::ExplainArgs),
    /// List the completion steps that are not done yet; retry, skip or edit one
    Outbox(outbox::OutboxArgs),
    /// Show all runs and issues in a few lines, or as JSON
    Status(status::StatusArgs),
    /// Show the proof chain of a run, as JSON
    Proof(proof::ProofArgs),
    /// Check and copy the evidence of a run that froze or needs a human
    Capsule(capsule::CapsuleArgs),
    /// Recover a wedged VM from its hypervisor
    Breakglass(breakglass::BreakglassArgs),
    /// Show which people and agents work where, as JSON
    Presence,
    /// Verify the hash chain of the journal
    Verify,
    /// Go on after the journal was damaged or lost
    Journal(journal::JournalArgs),
    /// Copy the journal, transcripts and evidence, also while afk runs, and verify the copy
    Backup(backup::BackupArgs),
    /// Restore a backup into a state folder without a journal
    Restore(backup::RestoreArgs),
    /// Show, check, edit and describe the configuration
    Config(config::ConfigArgs),
    /// Print completions for a shell
    Completions(shell_files::CompletionsArgs),
    /// Write man pages
    Man(shell_files::ManArgs),
    /// Carry out one turn in a pod, in its shared folder
    #[command(hide = true)]
    Worker {
        /// The folder of the turn
        folder: PathBuf,
    },
    /// Restores the terminal of a cockpit that crashed
    #[command(name = restorer::SUBCOMMAND, hide = true)]
    RestoreTerminal,
    /// The server of the breakglass agent's tools
    #[command(name = crate::runtime::breakglass::agent::TOOLS_COMMAND, hide = true)]
    BreakglassTools {
        /// The socket of the agent's session
        socket: PathBuf,
    },
    /// The scripted agent of the demo
    #[command(name = "__demo-agent", hide = true)]
    DemoAgent,
}

/// Answers a shell that asks for the completion of a line, and ends the program then; does nothing for any
/// other call.
pub fn complete() {
    CompleteEnv::with_factory(Cli::command).var("AFK_COMPLETE").complete();
}

/// Executes a command line.
///
/// # Errors
/// Returns the [`Failure`] that `main` prints, with its exit code.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let instance = cli.instance;
    match cli.command {
        Some(Subcommand::Worker { folder }) => {
            let launcher = own_program()?;
            block_on(async {
                let done = crate::executor::worker::run(folder, launcher).await;
                done.map_err(|why| Failure::new(FailureKind::System, why))
            })
        }
        Some(Subcommand::RestoreTerminal) => {
            restorer::run().map_err(|error| Failure::from_error(FailureKind::System, error))
        }
        Some(Subcommand::BreakglassTools { socket }) => block_on(breakglass::tools::serve(socket)),
        Some(Subcommand::DemoAgent) => {
            demo::agent::play().map_err(|why| Failure::new(FailureKind::Negative, why))
        }
        Some(Subcommand::Demo(args)) => block_on(demo::run(args)),
        Some(Subcommand::Up(args)) => {
            if args.background {
                // It fails only for the leader of a process group, which a new child is not.
                let _ = rustix::process::setsid();
            }
            block_on(up::run(&args, &instance))
        }
        Some(Subcommand::Attach(args)) => block_on(attach::run(&args, &instance)),
        Some(Subcommand::Dash(args)) => block_on(dash::run(&args, &instance)),
        Some(Subcommand::Watch(args)) => block_on(watch::run(&args, &instance)),
        Some(Subcommand::Brief(args)) => brief::run(&args, &instance),
        Some(Subcommand::Replay(args)) => replay::run(&args, &instance),
        Some(Subcommand::Export(args)) => block_on(export::run(&args, &instance)),
        Some(Subcommand::Stop(args)) => block_on(stop::run(&args, &instance)),
        Some(Subcommand::Init(args)) => block_on(init::run(&args, &instance)),
        Some(Subcommand::Doctor(args)) => block_on(doctor::run(&args, &instance)),
        Some(Subcommand::Submit(args)) => block_on(submit::run(args, &instance)),
        Some(Subcommand::Daily(command)) => block_on(daily::run(command, &instance)),
        Some(Subcommand::Explain(args)) => explain::run(&args, &instance),
        Some(Subcommand::Outbox(args)) => block_on(outbox::run(args, &instance)),
        Some(Subcommand::Status(args)) => status::run(&args, &instance),
        Some(Subcommand::Proof(args)) => proof::run(&args, &instance),
        Some(Subcommand::Capsule(args)) => capsule::run(&args, &instance),
        Some(Subcommand::Breakglass(args)) => block_on(breakglass::run(&args, &instance)),
        Some(Subcommand::Presence) => presence::run(&instance),
        Some(Subcommand::Verify) => block_on(verify::run(&instance)),
        Some(Subcommand::Journal(args)) => journal::run(&args, &instance),
        Some(Subcommand::Backup(args)) => backup::run(&args, &instance),
        Some(Subcommand::Restore(args)) => backup::restore(&args, &instance),
        Some(Subcommand::Config(args)) => config::run(&args, &instance),
        Some(Subcommand::Completions(args)) => {
            shell_files::completions(&args);
            Ok(())
        }
        Some(Subcommand::Man(args)) => shell_files::man(&args),
        None => match up::choose(&instance)? {
            up::FirstStep::Cockpit => block_on(up::open(&instance)),
            up::FirstStep::Demo => block_on(demo::run(demo::DemoArgs::default())),
            up::FirstStep::Init => block_on(init::run(&init::InitArgs::default(), &instance)),
            up::FirstStep::Leave => Ok(()),
        },
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FailureKind::System, "start the runtime").because(error))?;
    let done = runtime.block_on(work);
    // A blocking read of a terminal that has closed would delay the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

/// The path of this program, which launches children and the agent of the demo.
fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        Failure::new(FailureKind::System, "find the program of afk itself").because(error)
    })
}
