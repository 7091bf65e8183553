//! The output of one call of git, bounded in size and time. Both kinds of git collect it here.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::WorkspaceError;
use crate::core::model::untrusted::clean_line;
use crate::process::ChildHandle;
use crate::redact::without_credentials;

/// The most bytes that are kept of each output stream; git gets a broken pipe beyond it.
const OUTPUT_LIMIT: u64 = 8 * 1024 * 1024;

/// The lines that git prints after every failure of ssh; the line before them has the cause.
const BOILERPLATE: [&str; 2] =
    ["Please make sure you have the correct access rights", "and the repository exists."];

/// The starts of the lines that report git's progress.
const PROGRESS: [&str; 6] = [
    "Receiving objects:",
    "Resolving deltas:",
    "remote: Enumerating objects:",
    "remote: Counting objects:",
    "remote: Compressing objects:",
    "remote: Total",
];

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
        let has_cause = |line: &&str| {
            let is_progress = PROGRESS.iter().any(|start| line.starts_with(start));
            !line.is_empty() && !BOILERPLATE.contains(line) && !is_progress
        };
        let last: Vec<&str> = text.split(['\r', '\n']).map(str::trim).filter(has_cause).collect();
        let tail = last[last.len().saturating_sub(3)..].join("; ");
        // git repeats the address of the remote, with a token that stands in it.
        let tail = without_credentials(&tail);
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
    collect_showing(started, subcommand, deadline, &|_| {}).await
}

/// [`collect`], which passes each line of standard error on as soon as it is there. A line of
/// progress ends with a carriage return.
pub(super) async fn collect_showing(
    started: &mut ChildHandle,
    subcommand: &str,
    deadline: Duration,
    seen: &(dyn Fn(&str) + Send + Sync),
) -> Result<GitOutput, WorkspaceError> {
    let (stdout, stderr) = (started.child.stdout.take(), started.child.stderr.take());
    let work = async {
        let (out, err, status) =
            tokio::join!(read(stdout), read_lines(stderr, seen), started.child.wait());
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

/// Reads a pipe to its end, or to the limit, and passes its lines on.
async fn read_lines(
    pipe: Option<impl AsyncRead + Unpin>,
    seen: &(dyn Fn(&str) + Send + Sync),
) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(pipe) = pipe else { return Ok(bytes) };
    let mut pipe = pipe.take(OUTPUT_LIMIT);
    let mut passed = 0;
    while pipe.read_buf(&mut bytes).await? > 0 {
        while let Some(length) =
            bytes[passed..].iter().position(|byte| matches!(byte, b'\r' | b'\n'))
        {
            seen(&String::from_utf8_lossy(&bytes[passed..passed + length]));
            passed += length + 1;
        }
    }
    Ok(bytes)
}

/// Reads a pipe to its end, or to the limit, and closes it.
pub(super) async fn read(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_keeps_the_cause_and_drops_progress() {
        let err = "remote: Counting objects: 100% (9/9), done.\r\nReceiving objects:   1% (1/9)\r\
                   Receiving objects:   2% (2/9)\rfatal: early EOF\nfatal: fetch-pack: invalid index-pack output\n";
        let output = GitOutput { ok: false, out: Vec::new(), err: err.into() };
        assert_eq!(
            output.summary(),
            "fatal: early EOF; fatal: fetch-pack: invalid index-pack output"
        );
    }
}
