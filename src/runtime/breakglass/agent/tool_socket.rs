//! The socket through which the tool server in the agent's sandbox passes calls on.
//!
//! It lies in the private folder that the sandbox has as `/tmp`, so that no other program reaches it.
//! A connection carries one call: a line of JSON with the tool and its arguments, and a line with the
//! answer.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::desk::AgentDesk;
use super::tool_request::ToolRequest;
use crate::core::model::breakglass::ShellId;
use crate::process::output::read_line;
use crate::runtime::Context;

/// The socket's name in the private folder.
pub(super) const NAME: &str = "afk-tools.sock";
/// The connections that are open at once; a further one waits in the socket's queue.
const CONNECTIONS: usize = 16;
/// The longest line of a call, in bytes.
const LINE: usize = 256 * 1024;
/// The time for a whole call to arrive, and for an answer to be taken.
const TRANSFER: Duration = Duration::from_secs(10);
/// The pause after a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens in a folder that no program uses yet.
pub(super) fn listen(folder: &Path) -> io::Result<UnixListener> {
    let folder = std::fs::File::open(folder)?;
    // The path through the descriptor is short enough for a socket's address.
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Serves calls until the future is dropped, which ends the connections as well.
pub(super) async fn serve(context: &Arc<Context>, session: ShellId, listener: &UnixListener) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let context = context.clone();
                    open.spawn(async move { answer(&context, session, stream).await });
                }
                Err(error) => {
                    tracing::debug!(%error, "a call of the breakglass agent was not accepted");
                    sleep(PAUSE).await;
                }
            },
            Some(ended) = open.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a call of the breakglass agent failed");
                }
            }
        }
    }
}

async fn answer(context: &Arc<Context>, session: ShellId, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let Ok(Ok(Some(cut))) = timeout(TRANSFER, read_line(&mut reader, LINE, &mut line)).await else {
        return;
    };
    let request = if cut { None } else { serde_json::from_slice::<ToolRequest>(&line).ok() };
    let request = request.unwrap_or_else(|| {
        let start: String = String::from_utf8_lossy(&line).chars().take(200).collect();
        ToolRequest::new("unreadable".into(), start.into())
    });
    let mut more = [0];
    let answer = tokio::select! {
        answer = AgentDesk::call(context, session, &request) => answer,
        // The tool server sends nothing after its call: this is its end, and the call's.
        _ = reader.read(&mut more) => return,
    };
    let line = json!({"ok": answer.ok, "text": answer.text}).to_string() + "\n";
    // The caller may have gone away.
    let _ = timeout(TRANSFER, writer.write_all(line.as_bytes())).await;
}
