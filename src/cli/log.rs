//! afk's own log: a file a day in the state folder, never the screen.

use std::path::Path;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use crate::error::{Failure, FailureKind};

/// Begins to log; the lines are written out when the guard is dropped. `AFK_LOG` sets the filter.
///
/// # Errors
/// Where the folder can't be written.
pub fn start(state: &Path) -> Result<WorkerGuard, Failure> {
    std::fs::create_dir_all(state).map_err(|error| {
        Failure::new(FailureKind::System, state.display())
            .because(error)
            .hint("see that the state folder can be written")
    })?;
    let appender = tracing_appender::rolling::Builder::new()
        .rotation(tracing_appender::rolling::Rotation::DAILY)
        .filename_prefix("afk")
        .filename_suffix("log")
        .max_log_files(14)
        .build(state)
        .map_err(|error| {
            Failure::new(FailureKind::System, state.display())
                .because(error)
                .hint("see that the state folder can be written")
        })?;
    let (writer, guard) = tracing_appender::non_blocking(appender);
    let filter = EnvFilter::try_from_env("AFK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber =
        tracing_subscriber::fmt().with_writer(writer).with_ansi(false).with_env_filter(filter);
    // A second one in the same process keeps the first.
    let _ = subscriber.try_init();
    Ok(guard)
}
