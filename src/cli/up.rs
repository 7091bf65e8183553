//! `afk up`: the runtime in this process, with its ways in. Also `afk` without a subcommand: the cockpit on
//! a runtime in the background, or the first step of a user who has no configuration yet.
//!
//! ```text
//! afk up ─▶ lead (follow until elected) ─▶ Runtime::start ─▶ attach, ssh, http ─▶ wait for a signal
//! ```

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio::task::JoinHandle;

use super::attach;
use super::instance::InstanceArgs;
use super::log::Verbosity;
use super::service_manager;
use super::terminal::{self, ask, print_line};
use crate::config::Config;
use crate::config::paths::Paths;
use crate::core::model::command::Role;
use crate::error::{Failure, FailureKind};
use crate::journal::Journal;
use crate::process::Supervisor;
use crate::process::end_signals::{EndSignal, EndSignals};
use crate::runtime::client::Client;
use crate::runtime::leader::Leadership;
use crate::runtime::{Handle, Runtime};
use crate::serve::attach::client;
use crate::serve::attach::connection::AttachError;
use crate::serve::attach::server;
use crate::serve::{http, ssh};
use crate::tui::session::{self, Start};
use crate::version;

/// The next step of `afk` without a subcommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstStep {
    Cockpit,
    Demo,
    Init,
    Leave,
}

/// Chooses the cockpit if there is a configuration, and asks the user otherwise.
pub(super) fn choose(instance: &InstanceArgs) -> Result<FirstStep, Failure> {
    let paths = instance.paths()?;
    if paths.config.exists() || instance.needs_no_file(&paths) {
        return Ok(FirstStep::Cockpit);
    }
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return instance.load().map(|_| FirstStep::Cockpit);
    }
    print_line(&format!("There is no configuration yet ({}).", paths.config.display()));
    print_line("  d  watch the demo: issues of sample repositories become healthy deploys");
    print_line("  i  write a configuration for the repository you are in (it starts nothing)");
    print_line("  q  leave");
    Ok(match ask(std::io::stdout(), "d, i or q: ")?.as_str() {
        "d" => FirstStep::Demo,
        "i" => FirstStep::Init,
        _ => FirstStep::Leave,
    })
}

/// Opens the cockpit on the afk that runs for this configuration. Starts one in the background if none
/// runs.
pub(super) async fn open(instance: &InstanceArgs) -> Result<(), Failure> {
    terminal::require(WITHOUT_TERMINAL)?;
    let (config, paths) = instance.load()?;
    let client = match attach::connect(&config, &paths, Role::Operator, "tty").await {
        Err(AttachError::NotRunning(_)) => attach::start_in_background(&config, &paths).await?,
        other => other?,
    };
    attach::show_cockpit(&client, &paths, None).await
}

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// Show the cockpit in this process, which ends with the terminal
    #[arg(long)]
    pub(super) cockpit: bool,
    /// Drain the running afk, wait for its end, and take its place
    #[arg(long, conflicts_with = "cockpit")]
    pub(super) take_over: bool,
    /// Start a session of its own
    #[arg(long, hide = true)]
    pub(super) background: bool,
}

/// Runs the runtime in this process until a signal or `afk stop` ends it.
pub(super) async fn run(args: &UpArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let (config, paths) = instance.load()?;
    let launcher = super::own_program()?;
    if args.cockpit {
        let file = existing(paths.config);
        return cockpit(config, &paths.state, launcher, file, Start::Queue).await;
    }
    let mut signals = EndSignals::listen()?;
    if args.take_over {
        let hello = client::hello(&config, Role::Operator, "take-over", (0, 0));
        let room = tokio::select! {
            room = client::make_room(&paths.state, hello) => room?,
            _ = signals.end() => return Ok(()),
        };
        if room {
            print_line("the earlier afk has ended");
        }
    }
    crate::process::descriptors::raise_limit();
    // In the background nobody reads standard error, and its file has no bound.
    let to_stderr = config.log.stderr && !args.background;
    let _log = super::log::start(&paths.state, &config.log, instance.verbosity(), to_stderr)?;
    let mut config = config;
    let leadership = match lead(&mut config, &paths, &launcher, &mut signals).await? {
        Election::None => None,
        Election::Won(leadership) => Some(leadership),
        Election::Ended => return Ok(()),
    };
    let file = existing(paths.config);
    let runtime = Runtime::start(config, &paths.state, launcher, file).await?;
    start_ways_in(&runtime.handle, &paths.state).await?;
    print_line(&format!("afk runs on {}", paths.state.display()));
    tracing::info!(process = std::process::id(), version = version::WHOLE, "afk has started");
    service_manager::ready("works on the issues");
    let _watchdog = service_manager::start_watchdog(&runtime.handle);
    wait_for_end(&runtime.handle, leadership.as_ref(), &mut signals).await;
    service_manager::stopping();
    stop(runtime, &mut signals).await;
    if let Some(leadership) = leadership {
        let still_leads =
            leadership.term == Journal::newest_term(&paths.state) && !leadership.is_lost();
        leadership.release().await;
        if !still_leads {
            return Err(Failure::new(
                FailureKind::Busy,
                "another afk leads now, so this one has ended",
            )
            .hint("start it again to follow"));
        }
    }
    // A client must not find a socket that no process serves.
    let _ = std::fs::remove_file(crate::serve::attach::socket_path(&paths.state));
    Ok(())
}

/// Starts the attach socket, and SSH and HTTP if the configuration enables them.
async fn start_ways_in(handle: &Handle, state: &Path) -> Result<(), Failure> {
    server::start(handle, state).map_err(|error| {
        let socket = crate::serve::attach::socket_path(state);
        Failure::new(FailureKind::System, socket.display())
            .because(error)
            .hint("the path of a socket may have 100 bytes: use a state folder with a shorter path")
    })?;
    let ssh = &handle.config.ssh;
    if ssh.enabled {
        let keys = ssh.authorized_keys.clone();
        let run_cockpit: ssh::server::RunCockpit = Arc::new(run_remote_cockpit);
        let bound = ssh::server::start(handle, ssh.listen, keys, state, run_cockpit).await;
        let bound = bound.map_err(|why| {
            Failure::new(FailureKind::System, why).hint("check [ssh] in the configuration")
        })?;
        print_line(&format!("ssh on {bound}"));
    }
    let config = handle.config.clone();
    if config.http.enabled {
        drop(start_http(handle, &config).await?);
    }
    Ok(())
}

/// Waits for a signal, a request to stop, or the loss of an election.
async fn wait_for_end(handle: &Handle, leadership: Option<&Leadership>, signals: &mut EndSignals) {
    loop {
        let why = tokio::select! {
            signal = signals.next() => match signal {
                // The runtime outlives the terminal.
                EndSignal::HangUp => {
                    tracing::info!("SIGHUP: the configuration is read again");
                    service_manager::reloading();
                    handle.reload();
                    service_manager::ready("works on the issues");
                    continue;
                }
                signal => signal.name(),
            },
            () = handle.stop_requested() => "`afk stop`",
            () = lost(leadership) => "another afk leads",
        };
        tracing::info!(why, "afk is ending");
        return;
    }
}

/// Ends the runtime. A second signal cuts short the grace that agents and commands have to end.
async fn stop(runtime: Runtime, signals: &mut EndSignals) {
    let supervisor = runtime.supervisor();
    let stopping = runtime.stop();
    tokio::pin!(stopping);
    loop {
        tokio::select! {
            () = &mut stopping => return,
            signal = signals.end() => {
                tracing::warn!(signal = signal.name(), "a second signal ends the agents at once");
                supervisor.iter().for_each(Supervisor::hasten);
            }
        }
    }
}

/// What became of the election.
enum Election {
    /// None is configured.
    None,
    Won(Leadership),
    /// A signal ended the afk that followed.
    Ended,
}

/// The configuration file that afk follows; none where the environment alone configures it.
fn existing(file: PathBuf) -> Option<PathBuf> {
    file.exists().then_some(file)
}

/// Waits until this afk is elected, if `[leader]` is set. Until then it follows: it serves reads over HTTP
/// and refuses commands.
async fn lead(
    config: &mut Config,
    paths: &Paths,
    launcher: &Path,
    signals: &mut EndSignals,
) -> Result<Election, Failure> {
    let Some(leader) = config.leader.clone() else { return Ok(Election::None) };
    let (leader_name, follows) = tokio::sync::watch::channel(String::new());
    let (state, file) = (&paths.state, Some(paths.config.clone()));
    let follower = Runtime::follow(config, state, launcher.to_owned(), file, follows)?;
    let mut http_server = None;
    if config.http.enabled {
        http_server = Some(start_http(&follower.handle, config).await?);
    }
    // It serves reads, and may follow for months.
    service_manager::ready("follows another afk");
    let watchdog = service_manager::start_watchdog(&follower.handle);
    let cluster = config.kubernetes.clone();
    let newest_term = || Journal::newest_term(state);
    let follow = |leader: &str| {
        print_line(&format!("follows: {leader}"));
        leader_name.send_replace(leader.to_owned());
    };
    let leadership = tokio::select! {
        leadership = Leadership::take(leader, cluster, newest_term, follow) => leadership,
        signal = signals.end() => {
            tracing::info!(why = signal.name(), "afk is ending; it followed");
            follower.stop().await;
            if let Some(server) = http_server {
                let _ = server.await;
            }
            return Ok(Election::Ended);
        }
    };
    let last_good = follower.handle.present_config();
    follower.stop().await;
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    // The configuration may have changed while this afk followed. If it can't be read, the callers of the
    // last good one stay.
    match Config::load(&paths.config, &|name| std::env::var(name).ok()) {
        Ok(present) => *config = present,
        Err(error) => {
            print_line(&format!("{error}; the last good configuration stays in force"));
            config.http = last_good.http.clone();
        }
    }
    if let Some(server) = http_server {
        // Waits for the port. The panic hook has reported a panic of this task.
        let _ = server.await;
    }
    print_line(&format!("leads in term {}", leadership.term));
    config.term = Some(leadership.term);
    Ok(Election::Won(leadership))
}

/// Starts the HTTP server. The task ends once the port is free again.
async fn start_http(handle: &Handle, config: &Config) -> Result<JoinHandle<()>, Failure> {
    let (bound, task) = http::start(handle, config).await.map_err(|why| {
        Failure::new(FailureKind::System, why).hint("check [http] in the configuration")
    })?;
    print_line(&format!("http on {bound}"));
    Ok(task)
}

/// Waits until another afk leads; forever if there is no election.
async fn lost(leadership: Option<&Leadership>) {
    match leadership {
        Some(leadership) => leadership.lost().await,
        None => std::future::pending().await,
    }
}

/// Runs the cockpit on the terminal of an SSH client.
fn run_remote_cockpit(client: &Client, terminal: ssh::server::RemoteTerminal) {
    let described = (terminal.term.as_str(), terminal.colorterm.as_str());
    let done = session::run_remote(client, terminal.events, terminal.out, terminal.size, described);
    if let Err(failure) = done {
        tracing::warn!(%failure, "an SSH session failed");
    }
}

/// The hint of a cockpit that has no terminal.
const WITHOUT_TERMINAL: &str =
    "`afk up`, `afk demo --headless`, `afk status --json` and `afk explain` need none";

/// Runs the runtime and the cockpit in this process until the user leaves; the runs continue at the next
/// start.
pub(super) async fn cockpit(
    config: Config,
    state: &Path,
    launcher: PathBuf,
    config_file: Option<PathBuf>,
    start: Start,
) -> Result<(), Failure> {
    terminal::require(WITHOUT_TERMINAL)?;
    // The screen is the cockpit's.
    let _log = super::log::start(state, &config.log, Verbosity::default(), false)?;
    let runtime = Runtime::start(config, state, launcher, config_file).await?;
    if let Err(error) = server::start(&runtime.handle, state) {
        tracing::warn!(%error, "other commands can't reach this afk");
    }
    let actor = runtime.handle.config.operator();
    let size = crossterm::terminal::size()?;
    let client = Client::local(&runtime.handle, actor, Role::Operator, "tty", size);
    let done = tokio::select! {
        done = session::run(&client, start) => done,
        () = runtime.handle.stop_requested() => Ok(()),
    };
    drop(client);
    runtime.stop().await;
    done
}
