//! `afk`: the runtime with the cockpit on top.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::place::PlaceArgs;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::runtime::Runtime;
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

/// Opens the cockpit of the configuration.
///
/// # Errors
/// [`Failure`].
pub async fn run(place: &PlaceArgs) -> Result<(), Failure> {
    let (config, paths) = place.load()?;
    let launcher = super::own_program()?;
    cockpit(config, &paths.state, launcher, Some(paths.config)).await
}

/// Runs the cockpit until it is left; the runs go on at the next start.
///
/// # Errors
/// [`Failure`].
pub async fn cockpit(
    config: Config,
    state: &Path,
    launcher: PathBuf,
    config_file: Option<PathBuf>,
) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() {
        return Err(Failure::new(Kind::Usage, "standard output is no terminal")
            .hint("`afk demo --headless`, `afk status --json` and `afk explain` need none"));
    }
    let _log = super::log::start(state)?;
    let runtime = Runtime::start(config, state, launcher, config_file).await?;
    let control = crate::serve::control::start(&runtime.handle, state);
    if let Err(error) = &control {
        tracing::warn!(%error, "other commands can't reach this afk");
    }
    let done = session::run(&runtime.handle).await;
    runtime.stop().await;
    done
}
