//! The output of one call of git, bounded in size and time. Both kinds of git collect it here.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::WorkspaceError;
use crate::core::model::untrusted::clean_line;
use crate::process::ChildHandle;

/// The most bytes that are kept of each output stream; git gets a broken pipe beyond it.
const OUTPUT_LIMIT: u64 = 8 * 1024 * 1024;

/// The lines that git prints after every failure of ssh; the line before them has the cause.
const BOILERPLATE: [&str; 2] =
    ["Please make sure you have the correct access rights", "and the repository exists."];

/// The output of one call. Paths and file contents have any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitOutput {
    /// Whether git ended with 0.
    pub ok: bool,
    /// The bytes of standard output.
    pub out: Vec<u8>,
    /// The bytes of standard error.
    pub err: Vec<u8>,
}

impl GitOutput {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Both streams as text, for a search in messages.
    #[must_use]
    pub fn all_text(&self) -> String {
        format!("{}{}", self.text(), String::from_utf8_lossy(&self.err))
    }

    /// The last lines of standard error, or of standard output where that is empty, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let (out, err) = (self.text(), String::from_utf8_lossy(&self.err).into_owned());
        let text = if err.trim().is_empty() { out } else { err };
        let has_cause =
            |line: &&str| !line.trim().is_empty() && !BOILERPLATE.contains(&line.trim());
        let last: Vec<&str> = text.lines().filter(has_cause).collect();
        let tail = last[last.len().saturating_sub(3)..].join("; ");
        clean_line(tail.get(tail.len().saturating_sub(400)..).unwrap_or(&tail))
    }

    /// Standard output, if git ended with 0.
    pub(super) fn success(self, subcommand: &str) -> Result<Vec<u8>, WorkspaceError> {
        if self.ok {
            return Ok(self.out);
        }
        let message = self.summary();
        Err(WorkspaceError::Git { subcommand: subcommand.to_owned(), message })
    }
}

/// The first argument of a call, for errors.
pub(super) fn subcommand<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> String {
    let first = args.first().map(|word| word.as_ref().to_string_lossy().into_owned());
    first.unwrap_or_default()
}

/// The error of a git that can't be started or read.
pub(super) fn failed(source: std::io::Error) -> WorkspaceError {
    WorkspaceError::Io { path: PathBuf::from("git"), source }
}

/// Reads both streams of a call to their ends and waits for it. Kills it at the deadline.
pub(super) async fn collect(
    started: &mut ChildHandle,
    subcommand: &str,
    deadline: Duration,
) -> Result<GitOutput, WorkspaceError> {
    let (stdout, stderr) = (started.child.stdout.take(), started.child.stderr.take());
    let work = async {
        let (out, err, status) = tokio::join!(read(stdout), read(stderr), started.child.wait());
        Ok::<_, std::io::Error>(GitOutput { ok: status?.success(), out: out?, err: err? })
    };
    if let Ok(output) = timeout(deadline, work).await {
        return output.map_err(failed);
    }
    // It may have ended in this moment.
    let _ = started.child.kill().await;
    let (subcommand, seconds) = (subcommand.to_owned(), deadline.as_secs());
    Err(WorkspaceError::Deadline { subcommand, seconds })
}

/// Reads a pipe to its end, or to the limit, and closes it.
pub(super) async fn read(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}
