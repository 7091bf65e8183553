//! The log of afk itself: one file per day in the state folder, and never the screen.

use std::path::Path;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use super::instance::unwritable;
use crate::error::{Failure, FailureKind};
use crate::redact::RedactingWriter;
use crate::trusted_file;

/// Starts to log. Dropping the guard flushes the last lines. `AFK_LOG` sets the filter; the last 14 files
/// are kept.
pub(super) fn start(state: &Path) -> Result<WorkerGuard, Failure> {
    trusted_file::create_folder(state).map_err(|error| unwritable(state, error))?;
    trusted_file::check_folder(state)
        .map_err(|error| Failure::from_error(FailureKind::System, error))?;
    let appender = tracing_appender::rolling::Builder::new()
        .rotation(tracing_appender::rolling::Rotation::DAILY)
        .filename_prefix("afk")
        .filename_suffix("log")
        .max_log_files(14)
        .build(state)
        .map_err(|error| unwritable(state, error))?;
    let (writer, guard) = tracing_appender::non_blocking(RedactingWriter::new(appender));
    let filter = EnvFilter::try_from_env("AFK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber =
        tracing_subscriber::fmt().with_writer(writer).with_ansi(false).with_env_filter(filter);
    // A process that starts twice keeps its first subscriber.
    let _ = subscriber.try_init();
    Ok(guard)
}
