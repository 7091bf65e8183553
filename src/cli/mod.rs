//! The command line: one file a subcommand.

pub mod attach;
pub mod breakglass;
pub mod capsule;
pub mod demo;
pub mod doctor;
pub mod explain;
mod failure;
pub mod init;
mod log;
pub mod place;
pub mod presence;
pub mod proof;
pub mod status;
pub mod submit;
pub mod timeline;
pub mod up;
pub mod verify;

use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use self::place::PlaceArgs;
use crate::error::{Failure, FailureKind};

/// Terminal cockpit for coding agents that work while you are away from the keyboard.
///
/// Without a command it opens the cockpit, on an afk that goes on when the terminal closes.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(subcommand)]
    command: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Watch the whole loop on sample repositories, for real
    Demo(demo::DemoArgs),
    /// Run without a cockpit until told to end, for a service
    Up(up::UpArgs),
    /// Open the cockpit of the afk that runs
    Attach(attach::AttachArgs),
    /// A read-only dashboard for a spare monitor
    Dash(attach::DashArgs),
    /// End the afk that runs; its runs go on at the next start
    Stop(attach::StopArgs),
    /// Write a configuration for the repository you are in; it starts nothing
    Init(init::InitArgs),
    /// Check everything that a run needs, and say how to mend what isn't right
    Doctor,
    /// Queue a prompt for an agent, in a throwaway clone
    Submit(submit::SubmitArgs),
    /// Say why an issue or a run stands where it stands
    Explain(explain::ExplainArgs),
    /// The fleet in a few lines, or as JSON
    Status(status::StatusArgs),
    /// The proof chain of a run, as JSON
    Proof(proof::ProofArgs),
    /// Copy the evidence of a freeze, and check that it is as it was kept
    Capsule(capsule::CapsuleArgs),
    /// Recover a wedged VM from its hypervisor
    Breakglass(breakglass::BreakglassArgs),
    /// Who and what is working where, as JSON
    Presence,
    /// Walk the journal's hash chain
    Verify,
    /// Carry one turn out in a pod, in its shared folder
    #[command(hide = true)]
    Worker {
        /// The folder of the turn
        folder: PathBuf,
    },
    /// The demo's scripted agent
    #[command(name = "__demo-agent", hide = true)]
    DemoAgent,
}

/// Runs a command line.
///
/// # Errors
/// [`Failure`].
pub fn run(cli: Cli) -> Result<(), Failure> {
    let place = cli.place;
    match cli.command {
        Some(Verb::Worker { folder }) => {
            let launcher = own_program()?;
            wait_for(async {
                let done = crate::executor::worker::run(folder, launcher).await;
                done.map_err(|why| Failure::new(FailureKind::System, why))
            })
        }
        Some(Verb::DemoAgent) => {
            demo::agent::play().map_err(|why| Failure::new(FailureKind::Negative, why))
        }
        Some(Verb::Demo(args)) => wait_for(demo::run(args)),
        Some(Verb::Up(args)) => {
            if args.background {
                // Fails only for a group's leader, which a fresh child is not.
                let _ = rustix::process::setsid();
            }
            wait_for(up::run(&args, &place))
        }
        Some(Verb::Attach(args)) => wait_for(attach::run(&args, &place)),
        Some(Verb::Dash(args)) => wait_for(attach::dash(&args, &place)),
        Some(Verb::Stop(args)) => wait_for(attach::stop(&args, &place)),
        Some(Verb::Init(args)) => init::run(&args, &place),
        Some(Verb::Doctor) => wait_for(doctor::run(&place)),
        Some(Verb::Submit(args)) => wait_for(submit::run(args, &place)),
        Some(Verb::Explain(args)) => explain::run(&args, &place),
        Some(Verb::Status(args)) => status::run(&args, &place),
        Some(Verb::Proof(args)) => proof::run(&args, &place),
        Some(Verb::Capsule(args)) => capsule::run(&args, &place),
        Some(Verb::Breakglass(args)) => wait_for(breakglass::run(&args, &place)),
        Some(Verb::Presence) => presence::run(&place),
        Some(Verb::Verify) => verify::run(&place),
        None => match up::choose(&place)? {
            up::Choice::Up => wait_for(up::open(&place)),
            up::Choice::Demo => wait_for(demo::run(demo::DemoArgs::default())),
            up::Choice::Init => init::run(&init::InitArgs { dir: ".".into() }, &place),
            up::Choice::Leave => Ok(()),
        },
    }
}

fn wait_for(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FailureKind::System, "start the runtime").because(error))?;
    let done = runtime.block_on(work);
    // A blocking read of a terminal that is gone would hold the end up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

/// One line to standard output. A reader that went away is no error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The path of this program, for children that are begun through it.
fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        Failure::new(FailureKind::System, "find the program of afk itself").because(error)
    })
}
