//! The log of afk itself: one file per day in the state folder, and standard error under `afk up`. `[log]`
//! sets its form; `AFK_LOG`, `-v` and `-q` say how much of it there is.

use std::path::{Path, PathBuf};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{Builder, Rotation};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::instance::unwritable;
use crate::config::log::{LogConfig, LogFormat};
use crate::error::{Failure, FailureKind};
use crate::redact::RedactingWriter;
use crate::trusted_file;

/// The most lines that wait for a slow disk or reader; further ones are lost. Their places exist from the start:
/// the 128,000 of the library took 4 MiB of each afk.
const WAITING_LINES: usize = 16_384;
/// The variable with the filter of the log.
const FILTER: &str = "AFK_LOG";

/// How much more or less than usual the log has: `-v` and `-q`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Verbosity {
    pub verbose: u8,
    pub quiet: u8,
}

impl Verbosity {
    /// The filter in the syntax of `AFK_LOG`.
    fn filter(self) -> &'static str {
        match i32::from(self.verbose) - i32::from(self.quiet) {
            i32::MIN..=-2 => "error",
            -1 => "warn",
            0 => "info",
            1 => "info,afk=debug",
            2.. => "info,afk=trace",
        }
    }
}

/// Writes what is left when it is dropped.
#[derive(Debug)]
pub(super) struct Log(#[allow(dead_code, reason = "only the drop matters")] Vec<WorkerGuard>);

/// Writes lines on a thread of its own.
fn non_blocking(to: impl std::io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).finish(to)
}

/// Starts to log into the state folder, and to standard error if `to_stderr`.
pub(super) fn start(
    state: &Path,
    config: &LogConfig,
    verbosity: Verbosity,
    to_stderr: bool,
) -> Result<Log, Failure> {
    let filter = filter(verbosity)?;
    trusted_file::create_folder(state).map_err(|error| unwritable(state, error))?;
    trusted_file::check_folder(state)
        .map_err(|error| Failure::from_error(FailureKind::System, error))?;
    let appender = Builder::new()
        .rotation(Rotation::DAILY)
        .filename_prefix("afk")
        .filename_suffix("log")
        .max_log_files(config.keep_days)
        .build(state)
        .map_err(|error| unwritable(state, error))?;
    let (file, guard) = non_blocking(RedactingWriter::new(appender));
    let mut guards = vec![guard];
    let stderr = to_stderr.then(|| {
        // A reader that has stopped to read must not hold afk up, so lines may be lost here.
        let stderr = RedactingWriter::new(std::io::stderr());
        let (writer, guard) = non_blocking(stderr);
        guards.push(guard);
        layer(config.format, writer)
    });
    let subscriber =
        tracing_subscriber::registry().with(filter).with(layer(config.format, file)).with(stderr);
    // A process that starts twice keeps its first subscriber.
    let _ = subscriber.try_init();
    Ok(Log(guards))
}

/// The filter of the environment, or else of the flags.
fn filter(verbosity: Verbosity) -> Result<EnvFilter, Failure> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let given = std::env::var(FILTER).ok().filter(|text| !text.trim().is_empty());
    match given {
        Some(text) => builder.parse(&text).map_err(|error| {
            Failure::new(FailureKind::Configuration, format!("{FILTER}={text:?}"))
                .because(error)
                .hint("a level such as `debug`, or `info,afk::agent=debug`")
        }),
        None => Ok(EnvFilter::new(verbosity.filter())),
    }
}

fn layer<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// The newest file of the log; none before the first start.
pub(super) fn newest(state: &Path) -> Option<PathBuf> {
    let is_log = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("afk.") && path.extension().is_some_and(|extension| extension == "log")
    };
    let files = std::fs::read_dir(state).ok()?.flatten().map(|entry| entry.path());
    files.filter(is_log).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_set_the_level() {
        let filter = |verbose, quiet| Verbosity { verbose, quiet }.filter();
        assert_eq!(filter(0, 0), "info");
        assert_eq!((filter(1, 0), filter(3, 0)), ("info,afk=debug", "info,afk=trace"));
        assert_eq!((filter(0, 1), filter(0, 2), filter(1, 1)), ("warn", "error", "info"));
    }

    #[test]
    fn newest_file_is_that_of_the_last_day() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(newest(state.path()), None);
        for name in ["afk.2026-11-29.log", "afk.2026-11-30.log", "start.log", "afk.toml"] {
            std::fs::write(state.path().join(name), "").unwrap();
        }
        assert_eq!(newest(state.path()), Some(state.path().join("afk.2026-11-30.log")));
    }
}
