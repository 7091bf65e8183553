//! `afk`: the runtime with the cockpit on top.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::Failure;
use crate::runtime::Runtime;
use crate::tui::session;

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
    let runtime = Runtime::start(config, state, launcher, config_file).await?;
    let done = session::run(&runtime.handle).await;
    runtime.stop().await;
    done
}
