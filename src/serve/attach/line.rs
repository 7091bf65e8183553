//! Sending one line of the protocol, in either direction.

use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::timeout;

use super::{FromClient, ToClient};

/// A message that travels as one line of JSON.
pub(super) trait Line: Serialize {
    /// The longest that the other side may take to receive it.
    const TIMEOUT: Duration;
}

impl Line for FromClient {
    const TIMEOUT: Duration = Duration::from_secs(30);
}

impl Line for ToClient {
    /// A snapshot over a slow connection takes long; a client that is stopped must still go away.
    const TIMEOUT: Duration = Duration::from_secs(15 * 60);
}

/// Writes a message within its time limit.
///
/// # Errors
/// The connection is lost, or the other side does not read.
pub(super) async fn send_line<L: Line>(to: &mut OwnedWriteHalf, line: &L) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    timeout(L::TIMEOUT, to.write_all(&bytes)).await.map_err(io::Error::from)?
}
