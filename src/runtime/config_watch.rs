//! Puts changes of the configuration in force while afk runs.
//!
//! ```text
//!   afk.toml (watcher, HUP) ─┐
//!   control values ──────────┼─▶ overlay ──▶ Services, Context::config, Input::Policy
//!   local time (quiet hours) ┘                     └──▶ tracker_watch reads again
//! ```
//!
//! A file that can't be parsed, or is empty, becomes a problem, and the last good configuration stays
//! in force. A file that has only lost its end may be in the middle of a write: it counts once it has
//! stayed so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::Watcher as _;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::control::{self, ControlValues};
use super::services::Services;
use super::side_state::ProblemSource;
use super::wall::group_limits;
use super::{Context, first_clones, known_secrets};
use crate::config::{Config, ConfigError, restart};
use crate::core::model::input::Input;
use crate::lock::RwLockExt;
use crate::trusted_file;

/// Changes within this time are taken over together.
const SETTLE: Duration = Duration::from_millis(50);
/// How long a file that has only lost its end must stay so.
const CUT_OFF: Duration = Duration::from_secs(5);
/// The time between two checks of local time, if quiet hours depend on it.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// The sources of the configuration.
pub(super) struct ConfigSource {
    /// The file with the environment laid over it.
    pub base: Config,
    /// The path of the file; a configuration without one never changes.
    pub file: Option<PathBuf>,
    /// The control values at the start.
    pub values: ControlValues,
}

/// Starts watching until the context is cancelled, and has the tracker read after each change.
pub(super) fn start(
    context: &Arc<Context>,
    source: ConfigSource,
    tracker_changed: mpsc::Sender<()>,
) {
    let (sender, values) = watch::channel(source.values.clone());
    control::follow(context, sender);
    tokio::spawn(follow(context.clone(), source, values, tracker_changed));
}

async fn follow(
    context: Arc<Context>,
    mut source: ConfigSource,
    mut values: watch::Receiver<ControlValues>,
    tracker_changed: mpsc::Sender<()>,
) {
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = source.file.as_ref().map(|path| watch_file(path, changed));
    if let (Some(Err(error)), Some(path)) = (&watcher, &source.file) {
        let line = format!("{} can't be watched: {error}; restart after a change", path.display());
        context.report_problems(ProblemSource::Configuration, vec![line]).await;
    }
    let (_, problem) = control::overlay(&source.base, &source.values);
    context.report_problems(ProblemSource::Control, problem.into_iter().collect()).await;
    report_wall(&context).await;
    let at_start = source.base.clone();
    let mut text = source.file.as_ref().and_then(|path| trusted_file::read(path).ok());
    loop {
        let quiet = context.config().notify.quiet.is_some();
        let change = async {
            tokio::select! {
                Some(()) = changes.recv() => {}
                () = context.reload.notified() => {}
            }
        };
        tokio::select! {
            () = change => {
                sleep(SETTLE).await;
                while changes.try_recv().is_ok() {}
                let Some(path) = &source.file else { continue };
                match read_again(path, text.as_deref()).await {
                    Ok((config, read)) => {
                        context.report_problems(ProblemSource::Configuration, Vec::new()).await;
                        let line = restart_line(path, &restart::needed(&at_start, &config));
                        let lines = line.into_iter().collect();
                        context.report_problems(ProblemSource::Restart, lines).await;
                        (source.base, text) = (config, Some(read));
                    }
                    Err(error) => {
                        let line = format!("{error}; the last good configuration stays in force");
                        context.report_problems(ProblemSource::Configuration, vec![line]).await;
                        continue;
                    }
                }
            }
            Ok(()) = values.changed() => {}
            // Daylight saving time begins and ends while afk runs.
            () = sleep(CLOCK_INTERVAL), if quiet => {}
            () = context.cancel.cancelled() => return,
        }
        let (config, problem) = control::overlay(&source.base, &values.borrow_and_update());
        context.report_problems(ProblemSource::Control, problem.into_iter().collect()).await;
        put_in_force(&context, config).await;
        // A full queue means that a read is due anyway.
        let _ = tracker_changed.try_send(());
    }
}

/// Reads the file after a change, with its text.
async fn read_again(path: &Path, before: Option<&str>) -> Result<(Config, String), String> {
    let read = || trusted_file::read(path).map_err(|error| ConfigError::from(error).to_string());
    let mut text = read()?;
    let is_cut = |text: &str| {
        before.is_some_and(|before| text.len() < before.len() && before.starts_with(text))
    };
    if is_cut(&text) && !text.trim().is_empty() {
        sleep(CUT_OFF).await;
        text = read()?;
    }
    // Comments alone set nothing either.
    if toml::from_str::<toml::Table>(&text).is_ok_and(|table| table.is_empty()) {
        return Err(format!("{} is empty", path.display()));
    }
    let config = Config::from_text(path, &text, &|name| std::env::var(name).ok());
    config.map(|config| (config, text)).map_err(|error| error.to_string())
}

/// The line about changed keys that afk reads only at its start.
fn restart_line(file: &Path, keys: &[String]) -> Option<String> {
    let keys = (!keys.is_empty()).then(|| keys.join(", "))?;
    Some(format!("{}: the change of {keys} needs a restart", file.display()))
}

/// Tells clients that there is no wall, or why no program starts.
async fn report_wall(context: &Context) {
    let problem = context.wall.problem();
    context.report_problems(ProblemSource::Sandbox, problem.into_iter().collect()).await;
}

async fn put_in_force(context: &Context, config: Config) {
    let policy = Box::new(config.policy());
    if *context.config() != config {
        known_secrets::remember(&config);
        match Services::new(&config, &context.journal_id, Some(&context.services())) {
            Ok(services) => {
                context.report_problems(ProblemSource::Services, Vec::new()).await;
                *context.services.write_locked() = Arc::new(services);
            }
            Err(why) => context.report_problems(ProblemSource::Services, vec![why]).await,
        }
        context.supervisor.hide(super::breakglass::hidden(&config, &context.state));
        context.wall.configure(&config.sandbox);
        context.supervisor.limit(group_limits(&config));
        *context.config.write_locked() = Arc::new(config);
    }
    report_wall(context).await;
    // Also without a difference: a secret that the file names may have changed.
    context.config_changes.send_replace(());
    context.send(Input::Uncloned(first_clones::missing(context))).await;
    context.send(Input::Policy(policy)).await;
}

fn watch_file(
    path: &Path,
    changed: mpsc::Sender<()>,
) -> notify::Result<notify::RecommendedWatcher> {
    // Editors replace the file, so its folder is watched.
    let name = path.file_name().map(std::ffi::OsStr::to_owned);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let ours = |event: &notify::Event| {
            !event.kind.is_access() && event.paths.iter().any(|p| p.file_name() == name.as_deref())
        };
        if event.is_ok_and(|event| ours(&event)) {
            // A full queue already holds a change.
            let _ = changed.try_send(());
        }
    })?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
