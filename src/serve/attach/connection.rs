//! A client's connection to the server: finding the socket, the hello, and lines in both directions.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::protocol::{FromClient, Hello, RESPONSE_LIMIT, ToClient};
use super::{check_socket, line, socket_path};

/// The longest time of a write.
const WRITE: Duration = Duration::from_secs(30);
/// The size of the read buffer, in bytes: snapshots are large.
const READ_BUFFER: usize = 64 * 1024;

/// Why a client could not attach.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No afk runs on this state folder.
    #[error("no afk runs on {}", .0.display())]
    NotRunning(PathBuf),
    /// The server rejected the client's hello.
    #[error("{0}")]
    Refused(String),
    /// The socket can't be used, or the connection broke.
    #[error("the connection to the running afk failed: {0}")]
    Io(#[from] io::Error),
}

/// A connection whose hello the server accepted.
pub(super) struct Connection {
    pub(super) from: mpsc::Receiver<ToClient>,
    pub(super) to: OwnedWriteHalf,
}

impl Connection {
    pub(super) async fn open(state: &Path, hello: &Hello) -> Result<Self, AttachError> {
        let socket = socket_path(state);
        let not_running = || AttachError::NotRunning(state.to_owned());
        match check_socket(&socket) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_running()),
            other => other?,
        }
        let stream = match UnixStream::connect(&socket).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(not_running());
            }
            other => other?,
        };
        if stream.peer_cred()?.uid() != rustix::process::getuid().as_raw() {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
        }
        let (from, to) = stream.into_split();
        let from = BufReader::with_capacity(READ_BUFFER, from);
        let (from, _) = line::spawn_reader(from, RESPONSE_LIMIT);
        let mut connection = Self { from, to };
        connection.send(&FromClient::Hello(hello.clone())).await?;
        match connection.from.recv().await {
            Some(ToClient::Welcome { .. }) => Ok(connection),
            Some(ToClient::Refused { why }) => Err(AttachError::Refused(why)),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }

    /// Opens a connection without snapshots; `None` if no afk runs.
    pub(super) async fn open_for_requests(
        state: &Path,
        hello: Hello,
    ) -> Result<Option<Self>, AttachError> {
        let hello = Hello { requests_only: true, ..hello };
        match Self::open(state, &hello).await {
            Ok(connection) => Ok(Some(connection)),
            Err(AttachError::NotRunning(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn send(&mut self, line: &FromClient) -> io::Result<()> {
        send(&mut self.to, line).await
    }

    /// Waits until the server ends the connection.
    pub(super) async fn closed(mut self) {
        while self.from.recv().await.is_some() {}
    }
}

pub(super) async fn send(to: &mut OwnedWriteHalf, line: &FromClient) -> io::Result<()> {
    line::send(to, line, WRITE).await
}
