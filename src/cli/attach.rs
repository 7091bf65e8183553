//! `afk attach` and `afk stop`: at the runtime that goes on in the background.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use super::place::PlaceArgs;
use crate::config::Config;
use crate::config::paths::Paths;
use crate::core::model::command::{Command, Role};
use crate::core::model::id::RunId;
use crate::error::{Failure, Kind};
use crate::runtime::client::Client;
use crate::serve::attach::client::{self, AttachError};
use crate::tui::session;

/// How long a runtime in the background may take to listen.
const START: Duration = Duration::from_secs(30);
/// How long a runtime may take to end.
const STOP: Duration = Duration::from_secs(120);

/// Arguments of `afk attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Look and don't touch: every command is refused
    #[arg(long)]
    viewer: bool,
    /// The run to open first, like r4
    #[arg(long)]
    run: Option<String>,
}

/// Arguments of `afk dash`.
#[derive(Debug, Args)]
pub struct DashArgs {
    /// The state folder of the afk to look at, or its socket
    #[arg(long, value_name = "PATH", conflicts_with = "ssh")]
    attach: Option<std::path::PathBuf>,
    /// A host that is reached with ssh and has an afk
    #[arg(long, value_name = "HOST")]
    ssh: Option<String>,
}

/// Runs `afk dash`: it waits for an afk that is not there, and for a network that is gone.
///
/// # Errors
/// [`Failure`].
pub async fn dash(args: &DashArgs, place: &PlaceArgs) -> Result<(), Failure> {
    if let Some(host) = &args.ssh {
        return over_ssh(host).await;
    }
    let (config, state) = if let Some(path) = &args.attach {
        let socket = path.extension().is_some_and(|end| end == "sock");
        let state = if socket { path.parent() } else { Some(path.as_path()) };
        // Its looks only: a machine that just looks needs no configuration.
        let config = place.load().map(|(config, _)| config).unwrap_or_default();
        (config, state.unwrap_or(path).to_owned())
    } else {
        let (config, paths) = place.load()?;
        (config, paths.state)
    };
    let size = crossterm::terminal::size().unwrap_or((80, 24));
    let hello = client::hello(&config, Role::Viewer, "dash", size);
    let client = client::attach_when_running(&state, config, hello)?;
    crate::tui::dash::run(&client).await
}

/// The dashboard of another machine, again and again until it is left by its key.
async fn over_ssh(host: &str) -> Result<(), Failure> {
    if host.starts_with('-') {
        return Err(Failure::new(Kind::Usage, format!("{host:?} is no host")));
    }
    let mut pause = Duration::from_secs(1);
    loop {
        let keep = ["-t", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3", "--"];
        let mut ssh = tokio::process::Command::new("ssh");
        let began = Instant::now();
        let ended = ssh.args(keep).args([host, "afk", "dash"]).status().await;
        let ended = ended.map_err(|error| {
            Failure::new(Kind::System, format!("ssh: {error}")).hint("install OpenSSH's client")
        })?;
        // Left by its key, or told so by a person; anything else is the network or the machine.
        if ended.success() || ended.code() == Some(130) {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(60) {
            pause = Duration::from_secs(1);
        }
        super::say(&format!("{host} can't be reached; again in {} s", pause.as_secs()));
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(Duration::from_secs(60)),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// Arguments of `afk stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Pick nothing up, and wait until no run is at work
    #[arg(long, conflicts_with = "cancel")]
    drain: bool,
    /// Cancel every run first; what is not pushed is kept as a commit
    #[arg(long)]
    cancel: bool,
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        let hint = match &error {
            AttachError::NotRunning(_) => "`afk` starts one",
            AttachError::Refused(_) => "see `afk --version` here and there",
            AttachError::Io(_) => "see that the state folder is yours, and that afk answers",
        };
        Self::new(Kind::System, error).hint(hint)
    }
}

/// Runs `afk attach`.
///
/// # Errors
/// [`Failure`] where none runs.
pub async fn run(args: &AttachArgs, place: &PlaceArgs) -> Result<(), Failure> {
    let (config, paths) = place.load()?;
    let role = if args.viewer { Role::Viewer } else { Role::Operator };
    let client = join(&config, &paths, role, "tty").await?;
    let open = match &args.run {
        None => None,
        Some(text) => Some(super::proof::find(text).ok_or_else(|| super::proof::no_run(text))?),
    };
    look_at(&client, &paths, open).await
}

/// Attaches to the afk that runs.
pub(super) async fn join(
    config: &Config,
    paths: &Paths,
    role: Role,
    origin: &str,
) -> Result<Client, AttachError> {
    let size = crossterm::terminal::size().unwrap_or((80, 24));
    client::attach(&paths.state, config.clone(), client::hello(config, role, origin, size)).await
}

/// Shows the cockpit until it is left; the runtime goes on.
pub(super) async fn look(client: &Client, paths: &Paths) -> Result<(), Failure> {
    look_at(client, paths, None).await
}

async fn look_at(client: &Client, paths: &Paths, open: Option<RunId>) -> Result<(), Failure> {
    session::run(client, open).await?;
    let snapshot = client.snapshots.borrow().clone();
    let working: Vec<String> =
        snapshot.fleet.live_runs().filter(|run| run.busy()).map(|run| run.id.to_string()).collect();
    let goes_on = match working.as_slice() {
        [] => "afk goes on and watches".to_owned(),
        runs => format!("{} go on", runs.join(", ")),
    };
    super::say(&format!("detached: {goes_on} on {}", paths.state.display()));
    super::say("`afk` shows it again; `afk stop` ends it");
    Ok(())
}

/// Starts an afk that outlives this terminal, and attaches to it.
pub(super) async fn begin(config: &Config, paths: &Paths) -> Result<Client, Failure> {
    let system = |error: std::io::Error| {
        Failure::new(Kind::System, format!("{}: {error}", paths.state.display()))
            .hint("see that the state folder can be written")
    };
    std::fs::create_dir_all(&paths.state).map_err(system)?;
    let said = paths.state.join("start.log");
    let program = super::own_program()?;
    let absolute = |path: &std::path::Path| std::path::absolute(path);
    let (file, state) = (absolute(&paths.config)?, absolute(&paths.state)?);
    let mut last = None;
    for scope in [true, false] {
        // Logging out ends what stays in the login's group: a scope of its own is not in it.
        if scope && !user_manager() {
            continue;
        }
        let mut command = if scope {
            let mut command = tokio::process::Command::new("systemd-run");
            command.args(["--user", "--scope", "--quiet", "--collect", "--"]).arg(&program);
            command
        } else {
            tokio::process::Command::new(&program)
        };
        let out = File::create(&said).map_err(system)?;
        command.arg("--config").arg(&file).arg("--state").arg(&state).args(["up", "--background"]);
        command.current_dir("/").stdin(Stdio::null());
        command.stdout(out.try_clone().map_err(system)?).stderr(out);
        let mut child = command.spawn().map_err(system)?;
        let end = Instant::now() + START;
        loop {
            match join(config, paths, Role::Operator, "tty").await {
                Ok(client) => return Ok(client),
                Err(AttachError::NotRunning(_)) => {}
                Err(error) => return Err(error.into()),
            }
            if let Ok(Some(_)) = child.try_wait() {
                break;
            }
            if Instant::now() >= end {
                let why = format!("afk did not answer in {} s", START.as_secs());
                return Err(Failure::new(Kind::System, why).hint(format!("see {}", said.display())));
            }
            sleep(Duration::from_millis(10)).await;
        }
        last = std::fs::read_to_string(&said).ok();
    }
    let text = last.unwrap_or_default();
    let why = text.trim().trim_start_matches("afk: ").to_owned();
    Err(Failure::new(Kind::System, format!("afk could not be started: {why}")))
}

/// Whether this user has a service manager that can hold a scope.
fn user_manager() -> bool {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(std::path::PathBuf::from);
    folder.is_some_and(|folder| folder.join("systemd/private").exists())
        && crate::agent::vendor::on_path("systemd-run").is_some()
}

/// Runs `afk stop`.
///
/// # Errors
/// [`Failure`] where none runs, or it does not end.
pub async fn stop(args: &StopArgs, place: &PlaceArgs) -> Result<(), Failure> {
    let (config, paths) = place.load()?;
    let hello = || client::hello(&config, Role::Operator, "cli", (0, 0));
    if args.cancel || args.drain {
        let client = client::attach(&paths.state, config.clone(), hello()).await?;
        if args.cancel {
            let live = client.snapshots.borrow().fleet.live.clone();
            for run in live {
                if let Err(refusal) = client.command(Command::Cancel { run }).await {
                    super::say(&format!("{run}: {refusal}"));
                }
            }
        } else {
            drain(&client).await?;
        }
    }
    if client::stop(&paths.state, hello(), STOP).await? {
        super::say("afk has ended; its runs go on at the next start");
        Ok(())
    } else {
        Err(AttachError::NotRunning(paths.state).into())
    }
}

/// Stops pickup, and waits until nothing is at work. The pause is not kept: the next start picks
/// up again.
async fn drain(client: &Client) -> Result<(), Failure> {
    client.command(Command::Drain).await.map_err(|refusal| Failure::new(Kind::No, refusal))?;
    let mut snapshots = client.snapshots.clone();
    let mut told = usize::MAX;
    loop {
        let working = snapshots.borrow_and_update().fleet.permits_used();
        if working == 0 {
            return Ok(());
        }
        if working != told {
            super::say(&format!("{working} at work; waits"));
            told = working;
        }
        if snapshots.changed().await.is_err() {
            return Err(Failure::new(Kind::System, "the connection is lost"));
        }
    }
}
