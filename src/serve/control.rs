//! A socket in the state folder for commands of the same user: one JSON line in, one out.
//!
//! The folder is 0700 and the socket 0600, and the peer's user is checked, so the role is operator.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::core::command::{Command, Reply, Role};
use crate::process::output::read_line;
use crate::runtime::Handle;

/// Longest command, in bytes.
const LINE: usize = 1024 * 1024;
/// Longest time of one exchange.
const EXCHANGE: Duration = Duration::from_secs(30);

/// The socket of a state folder.
#[must_use]
pub fn path(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// Listens until the runtime ends. What lies there from an earlier life is replaced; the
/// journal's lock says that nobody else uses it.
///
/// # Errors
/// Where the socket can't be made.
pub fn start(handle: &Handle, state: &Path) -> io::Result<()> {
    let path = path(state);
    std::fs::set_permissions(state, std::fs::Permissions::from_mode(0o700))?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let handle = handle.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handle = handle.clone();
            tokio::spawn(async move {
                // A client that goes away in the middle is no concern of ours.
                let _ = timeout(EXCHANGE, serve(stream, handle)).await;
            });
        }
    });
    Ok(())
}

async fn serve(stream: UnixStream, handle: Handle) -> io::Result<()> {
    let ours = rustix::process::getuid().as_raw();
    if stream.peer_cred()?.uid() != ours {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    let (from, mut to) = stream.into_split();
    let mut line = Vec::new();
    if read_line(&mut BufReader::new(from), LINE, &mut line).await? != Some(false) {
        return Ok(());
    }
    let command: Command = serde_json::from_slice(&line)?;
    let reply = handle.command(Command { role: Role::Operator, ..command }).await;
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    to.write_all(&bytes).await
}

/// Sends a command to the afk that has a state folder; none where none listens.
///
/// # Errors
/// Where one listens and the exchange fails.
pub async fn send(state: &Path, command: &Command) -> io::Result<Option<Reply>> {
    let Ok(stream) = UnixStream::connect(path(state)).await else { return Ok(None) };
    let exchange = async {
        let (from, mut to) = stream.into_split();
        let mut bytes = serde_json::to_vec(command)?;
        bytes.push(b'\n');
        to.write_all(&bytes).await?;
        let mut line = Vec::new();
        read_line(&mut BufReader::new(from), LINE, &mut line).await?;
        Ok(Some(serde_json::from_slice(&line)?))
    };
    timeout(EXCHANGE, exchange).await.map_err(io::Error::from)?
}
