//! The lock of a state folder: one process at a time may write its journal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::JournalError;

/// A held lock. The kernel releases it when it is dropped or the process ends, even by a crash.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock and writes our pid into its file.
    ///
    /// # Errors
    /// [`JournalError::Held`] with the pid of the holder, or [`JournalError::Io`].
    pub fn take(state: &Path) -> Result<Self, JournalError> {
        let path = state.join("afk.lock");
        let io = |source| JournalError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        // `owner` in another process holds it shared for an instant.
        let taken = (0..5).any(|attempt| {
            if attempt > 0 {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        });
        if !taken {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(io)?;
            let pid = pid.trim().to_owned();
            return Err(JournalError::Held { state: state.to_owned(), pid });
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// The pid of the process that holds the lock; `None` where it is free.
#[must_use]
pub(crate) fn owner(state: &Path) -> Option<String> {
    let mut file = File::open(state.join("afk.lock")).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut pid = String::new();
    file.read_to_string(&mut pid).ok()?;
    Some(pid.trim().to_owned())
}
