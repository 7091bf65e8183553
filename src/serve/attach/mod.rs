//! The protocol for clients on the same machine that run in another process: JSON lines over a Unix
//! socket in the state folder.
//!
//! ```text
//! client ── hello ─────────────────────▶ server
//! client ◀─ welcome, or refused ──────── server
//! client ◀─ snapshot ─────────────────── server   the whole fleet, once; again if the client lags
//! client ◀─ events, aside, notice ────── server   each batch once it is durable
//! client ── act, diff, size, stop ─────▶ server
//! client ◀─ reply, diff ──────────────── server   matched by id
//! client ── console ───────────────────▶ server   on a connection of its own: one shell
//! client ── typed ─▶  ◀─ output, shell_ended ──── server
//! ```
//!
//! The folder has mode 0700 and the socket 0600, and both sides check the user of their peer, so that
//! only the owner gets in. The core decides by the role of the connection which commands it permits.

pub mod client;
pub mod connection;
mod console;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod line;
pub mod protocol;
pub mod server;

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The path of the socket in a state folder.
#[must_use]
pub fn socket_path(state: &Path) -> PathBuf {
    state.join("afk.sock")
}

/// Checks that a path is a socket of this user's and no symbolic link, before a client trusts it.
///
/// # Errors
/// Returns `PermissionDenied` for anything else, and `NotFound` if there is no file.
fn check_socket(path: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    let user = rustix::process::getuid().as_raw();
    if !metadata.file_type().is_socket() || metadata.uid() != user {
        let message = format!("{} is not a socket of this user's: it was planted", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}
