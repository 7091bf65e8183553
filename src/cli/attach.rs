//! `afk attach`: the cockpit of the running afk. `afk` without a subcommand also starts an afk in the
//! background here, if none runs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::instance::{InstanceArgs, unwritable};
use super::run_arg;
use super::terminal::{self, print_line};
use crate::config::Config;
use crate::config::paths::Paths;
use crate::core::model::command::Role;
use crate::core::model::id::RunId;
use crate::core::model::plural::plural;
use crate::error::{Failure, FailureKind};
use crate::runtime::client::{Client, ConnectionState};
use crate::serve::attach::client;
use crate::serve::attach::connection::AttachError;
use crate::trusted_file;
use crate::tui::session::{self, Start};

/// The time within which a runtime in the background must listen.
const START: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// Attach read-only: afk refuses every command
    #[arg(long)]
    viewer: bool,
    /// The run to open first, for example r4
    #[arg(long)]
    run: Option<String>,
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        let hint = match &error {
            AttachError::NotRunning(_) => "`afk` starts one",
            AttachError::Refused(_) => "compare `afk --version` here and there",
            AttachError::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                "check that the state folder is yours"
            }
            AttachError::Io(_) => "see afk's log in the state folder for why it does not answer",
        };
        Self::from_error(FailureKind::System, error).hint(hint)
    }
}

pub(super) async fn run(args: &AttachArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let (config, paths) = instance.load()?;
    let role = if args.viewer { Role::Viewer } else { Role::Operator };
    let client = connect(&config, &paths, role, "tty").await?;
    let first = args.run.as_deref().map(run_arg::parse).transpose()?;
    show_cockpit(&client, &paths, first).await
}

/// Attaches to the running afk.
pub(super) async fn connect(
    config: &Config,
    paths: &Paths,
    role: Role,
    origin: &str,
) -> Result<Client, AttachError> {
    let hello = client::hello(config, role, origin, terminal::size());
    client::attach(&paths.state, config.clone(), hello).await
}

/// Shows the cockpit until the user leaves it; the runtime keeps running. `first` is the run to open.
pub(super) async fn show_cockpit(
    client: &Client,
    paths: &Paths,
    first: Option<RunId>,
) -> Result<(), Failure> {
    session::run(client, first.map_or(Start::Queue, Start::Run)).await?;
    if matches!(*client.connection.borrow(), ConnectionState::Lost { .. }) {
        // What was at work when the connection was lost may have ended with the runtime.
        print_line("detached: afk can't be reached, so its runs may have stopped");
        print_line("`afk` starts or shows it; its runs continue where they were");
        return Ok(());
    }
    let snapshot = client.snapshots.borrow().clone();
    let working: Vec<String> =
        snapshot.fleet.live_runs().filter(|run| run.busy()).map(|run| run.id.to_string()).collect();
    let state = paths.state.display();
    print_line(&match working.as_slice() {
        [] => format!("detached: afk keeps watching on {state}"),
        ids => format!(
            "detached: {} at work ({}) on {state}",
            plural(ids.len(), "run"),
            ids.join(", ")
        ),
    });
    print_line("`afk` shows it again; `afk stop` ends it");
    Ok(())
}

/// Starts an afk that outlives this terminal, and attaches to it.
pub(super) async fn start_in_background(config: &Config, paths: &Paths) -> Result<Client, Failure> {
    let system = |error: std::io::Error| unwritable(&paths.state, error);
    trusted_file::create_folder(&paths.state).map_err(system)?;
    trusted_file::check_folder(&paths.state)
        .map_err(|error| Failure::from_error(FailureKind::System, error))?;
    let log = paths.state.join("start.log");
    let program = super::own_program()?;
    let mut output = String::new();
    for in_scope in [true, false] {
        // At logout systemd ends the processes of the session. A scope of its own is not among them.
        if in_scope && !has_user_manager() {
            continue;
        }
        let child = spawn(&program, in_scope, paths, &log)?;
        if let Some(client) = await_listening(config, paths, child, &log).await? {
            return Ok(client);
        }
        output = std::fs::read_to_string(&log).unwrap_or_default();
    }
    let why = output.trim().trim_start_matches("afk: ");
    Err(Failure::new(FailureKind::System, format!("afk could not be started: {why}")))
}

/// Starts `afk up --background`, in a scope of systemd or directly, with its output in a log.
fn spawn(program: &Path, in_scope: bool, paths: &Paths, log: &Path) -> Result<Child, Failure> {
    let system = |error: std::io::Error| unwritable(&paths.state, error);
    let mut command = if in_scope {
        let mut command = Command::new("systemd-run");
        command.args(["--user", "--scope", "--quiet", "--collect", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    let out = File::create(log).map_err(system)?;
    if paths.config.exists() {
        command.arg("--config").arg(std::path::absolute(&paths.config)?);
    }
    command.arg("--state").arg(std::path::absolute(&paths.state)?);
    command.args(["up", "--background"]).current_dir("/").stdin(Stdio::null());
    command.stdout(out.try_clone().map_err(system)?).stderr(out);
    command.spawn().map_err(system)
}

/// Attaches once the new afk listens; `None` if it has exited instead.
async fn await_listening(
    config: &Config,
    paths: &Paths,
    mut child: Child,
    log: &Path,
) -> Result<Option<Client>, Failure> {
    let deadline = Instant::now() + START;
    loop {
        match connect(config, paths, Role::Operator, "tty").await {
            Ok(client) => return Ok(Some(client)),
            Err(AttachError::NotRunning(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if let Ok(Some(_)) = child.try_wait() {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            let why = format!("afk did not answer within {} s", START.as_secs());
            return Err(
                Failure::new(FailureKind::System, why).hint(format!("see {}", log.display()))
            );
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Whether this user has a service manager that can hold a scope.
fn has_user_manager() -> bool {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    folder.is_some_and(|folder| folder.join("systemd/private").exists())
        && crate::agent::vendor::on_path("systemd-run").is_some()
}
