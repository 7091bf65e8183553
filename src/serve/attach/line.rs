//! The framing of the protocol on both sides: one JSON value per line, with a length limit for reading
//! and a time limit for writing.

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::process::output::read_line;

/// The number of lines that may wait between the reader and its session.
const WAITING: usize = 64;
/// The size in bytes above which a read buffer is freed instead of kept for the next line.
const LARGE: usize = 1024 * 1024;

/// Writes a value as a line, within a time limit.
pub(super) async fn send(
    to: &mut OwnedWriteHalf,
    line: &impl Serialize,
    limit: Duration,
) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    timeout(limit, to.write_all(&bytes)).await.map_err(io::Error::from)?
}

/// Reads lines in a task of its own, since a `select!` that drops a half-read line would lose it.
///
/// The channel closes at the end of the stream, and at the first line that is too long or unknown:
/// a peer that speaks another protocol is disconnected.
pub(super) fn spawn_reader<T: DeserializeOwned + Send + 'static>(
    mut from: BufReader<OwnedReadHalf>,
    limit: usize,
) -> (mpsc::Receiver<T>, AbortHandle) {
    let (lines, received) = mpsc::channel(WAITING);
    let task = tokio::spawn(async move {
        let mut line = Vec::new();
        while let Ok(Some(false)) = read_line(&mut from, limit, &mut line).await {
            match serde_json::from_slice(&line) {
                Ok(value) => {
                    if lines.send(value).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    // Either side may be of another version; the other one reports what it lacks.
                    tracing::warn!(%error, "a line on the attach socket can't be read");
                    break;
                }
            }
            if line.capacity() > LARGE {
                line = Vec::new();
            }
        }
    });
    (received, task.abort_handle())
}
