//! `afk` and `afk up`: the runtime, and the cockpit on top of it.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::attach;
use super::place::PlaceArgs;
use crate::config::Config;
use crate::core::model::command::Role;
use crate::error::{Failure, Kind};
use crate::journal::Journal;
use crate::runtime::Runtime;
use crate::runtime::client::Client;
use crate::runtime::leader::Leadership;
use crate::serve::attach::client::{self, AttachError};
use crate::serve::attach::server;
use crate::serve::{http, ssh};
use crate::tui::session;

/// What a newcomer without a configuration chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Open the cockpit of the configuration.
    Up,
    /// Show the demo.
    Demo,
    /// Write a configuration.
    Init,
    /// Nothing.
    Leave,
}

/// Asks a newcomer at a terminal what to do where there is no configuration yet.
///
/// # Errors
/// [`Failure`] where there is none and nobody to ask.
pub fn choose(place: &PlaceArgs) -> Result<Choice, Failure> {
    let paths = place.paths()?;
    if paths.config.exists() {
        return Ok(Choice::Up);
    }
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return place.load().map(|_| Choice::Up);
    }
    super::say(&format!("There is no configuration yet ({}).", paths.config.display()));
    super::say(
        "  d  see the demo: issues become healthy deploys, for real, on sample repositories",
    );
    super::say("  i  write a configuration for the repository you are in (it starts nothing)");
    super::say("  q  leave");
    let mut out = std::io::stdout();
    write!(out, "d, i or q: ").and_then(|()| out.flush())?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(match line.trim() {
        "d" => Choice::Demo,
        "i" => Choice::Init,
        _ => Choice::Leave,
    })
}

/// Opens the cockpit on the afk that runs for this configuration, and starts one in the background
/// where none does.
///
/// # Errors
/// [`Failure`].
pub async fn open(place: &PlaceArgs) -> Result<(), Failure> {
    terminal()?;
    let (config, paths) = place.load()?;
    let client = match attach::join(&config, &paths, Role::Operator, "tty").await {
        Err(AttachError::NotRunning(_)) => attach::begin(&config, &paths).await?,
        other => other?,
    };
    attach::look(&client, &paths).await
}

/// Arguments of `afk up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Show the cockpit in this process: it ends with the terminal
    #[arg(long)]
    pub cockpit: bool,
    /// Wait until the afk that runs there has nothing at work, and take its place
    #[arg(long, conflicts_with = "cockpit")]
    pub take_over: bool,
    /// Begin a session of its own
    #[arg(long, hide = true)]
    pub background: bool,
}

/// Runs the runtime in this process until it is told to end.
///
/// # Errors
/// [`Failure`].
pub async fn run(args: &UpArgs, place: &PlaceArgs) -> Result<(), Failure> {
    let (config, paths) = place.load()?;
    let launcher = super::own_program()?;
    if args.cockpit {
        return cockpit(config, &paths.state, launcher, Some(paths.config)).await;
    }
    if args.take_over {
        let hello = client::hello(&config, Role::Operator, "take-over", (0, 0));
        if client::make_room(&paths.state, hello).await? {
            super::say("the afk that ran there has ended");
        }
    }
    let _log = super::log::start(&paths.state)?;
    let mut config = config;
    let leadership = lead(&mut config, &paths.state, &launcher).await?;
    let runtime = Runtime::start(config, &paths.state, launcher, Some(paths.config)).await?;
    server::start(&runtime.handle, &paths.state).map_err(|error| {
        let socket = crate::serve::attach::socket_path(&paths.state);
        Failure::new(Kind::System, format!("{}: {error}", socket.display()))
            .hint("a socket's path may have 100 bytes: use a state folder with a shorter one")
    })?;
    let ssh = &runtime.handle.config.ssh.clone();
    if ssh.enabled {
        let keys = ssh.authorized_keys.clone();
        let show: ssh::server::RunCockpit = Arc::new(show_far);
        let bound = ssh::server::start(&runtime.handle, ssh.listen, keys, &paths.state, show).await;
        let bound = bound.map_err(|why| {
            Failure::new(Kind::System, why).hint("see [ssh] in the configuration")
        })?;
        super::say(&format!("ssh on {bound}"));
    }
    let config = runtime.handle.config.clone();
    if config.http.enabled {
        let (bound, _) = http::start(&runtime.handle, &config).await.map_err(|why| {
            Failure::new(Kind::System, why).hint("see [http] in the configuration")
        })?;
        super::say(&format!("http on {bound}"));
    }
    super::say(&format!("afk runs on {}", paths.state.display()));
    tracing::info!(process = std::process::id(), "up");
    let [mut term, mut int, mut hup] = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    ];
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            // A terminal that goes is no reason to end.
            _ = hup.recv() => {}
            () = runtime.handle.asked_to_end() => break,
            () = lost(leadership.as_ref()) => break,
        }
    }
    tracing::info!("down");
    runtime.stop().await;
    if let Some(leadership) = leadership {
        let led = leadership.term == Journal::newest_term(&paths.state) && !leadership.is_lost();
        leadership.release().await;
        if !led {
            return Err(Failure::new(Kind::Busy, "another afk leads now: this one has ended")
                .hint("start it again to follow"));
        }
    }
    // Clients see the end; nobody finds a socket that nobody serves.
    let _ = std::fs::remove_file(crate::serve::attach::socket_path(&paths.state));
    Ok(())
}

/// Waits until this afk leads, where there are several. Meanwhile it follows: over HTTP it shows what
/// the leader does, and changes nothing.
async fn lead(
    config: &mut Config,
    state: &Path,
    launcher: &Path,
) -> Result<Option<Leadership>, Failure> {
    let Some(leader) = config.leader.clone() else { return Ok(None) };
    let (told, standing) = tokio::sync::watch::channel(String::new());
    let follower = Runtime::follow(config, state, launcher.to_owned(), standing)?;
    let mut served = None;
    if config.http.enabled {
        let started = http::start(&follower.handle, config).await.map_err(|why| {
            Failure::new(Kind::System, why).hint("see [http] in the configuration")
        })?;
        super::say(&format!("http on {}", started.0));
        served = Some(started.1);
    }
    let cluster = config.kubernetes.clone();
    let floor = || Journal::newest_term(state);
    let follows = |who: &str| {
        super::say(&format!("follows: {who}"));
        told.send_replace(who.to_owned());
    };
    let leadership = tokio::select! {
        leadership = Leadership::take(leader, cluster, floor, follows) => leadership,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(Kind::No, "ended before it led"));
        }
    };
    follower.stop().await;
    if let Some(served) = served {
        // A panic in it was reported by its hook.
        let _ = served.await;
    }
    super::say(&format!("leads in term {}", leadership.term));
    config.term = Some(leadership.term);
    Ok(Some(leadership))
}

async fn lost(leadership: Option<&Leadership>) {
    match leadership {
        Some(leadership) => leadership.lost().await,
        None => std::future::pending().await,
    }
}

/// The cockpit on a terminal that came over SSH.
fn show_far(client: &Client, far: ssh::server::RemoteTerminal) {
    if let Err(failure) = session::run_far(client, far.events, far.out, far.size) {
        tracing::warn!(%failure, "an ssh session ended badly");
    }
}

fn terminal() -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return Ok(());
    }
    Err(Failure::new(Kind::Usage, "standard output is no terminal")
        .hint("`afk up`, `afk demo --headless`, `afk status --json` and `afk explain` need none"))
}

/// Runs the runtime with the cockpit on top until it is left; the runs go on at the next start.
///
/// # Errors
/// [`Failure`].
pub async fn cockpit(
    config: Config,
    state: &Path,
    launcher: PathBuf,
    config_file: Option<PathBuf>,
) -> Result<(), Failure> {
    terminal()?;
    let _log = super::log::start(state)?;
    let runtime = Runtime::start(config, state, launcher, config_file).await?;
    if let Err(error) = server::start(&runtime.handle, state) {
        tracing::warn!(%error, "other commands can't reach this afk");
    }
    let actor = runtime.handle.config.operator();
    let size = crossterm::terminal::size()?;
    let client = Client::near(&runtime.handle, actor, Role::Operator, "tty", size);
    let done = tokio::select! {
        done = session::run(&client, None) => done,
        () = runtime.handle.asked_to_end() => Ok(()),
    };
    drop(client);
    runtime.stop().await;
    done
}
