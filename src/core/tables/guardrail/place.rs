//! The folder in which a command works, and whether a path from there lies outside the worktree.

use std::sync::Arc;

/// The longest working folder that is followed, in bytes.
const FOLDER_LIMIT: usize = 512;
/// The devices that a command may write.
const DEVICES: [&str; 14] = [
    "null", "zero", "full", "stdin", "stdout", "stderr", "tty", "ptmx", "fd", "pts", "shm", "tcp",
    "udp", "random",
];

/// The working folder of a command. Symbolic links are not resolved.
#[derive(Debug, Clone)]
pub(super) struct WorkingFolder<'a> {
    worktree: &'a str,
    path: Arc<str>,
    /// Whether `path` lies outside the worktree.
    outside: bool,
    previous: Option<(Arc<str>, bool)>,
    /// The command runs on another machine, whose paths are not judged.
    remote: bool,
}

impl<'a> WorkingFolder<'a> {
    pub(super) fn at(worktree: &'a str) -> Self {
        Self { worktree, path: worktree.into(), outside: false, previous: None, remote: false }
    }

    /// The folder of a command on another machine.
    pub(super) fn remote(&self) -> Self {
        Self { remote: true, ..self.clone() }
    }

    /// Follows a `cd`.
    pub(super) fn enter(&mut self, path: &str) {
        let (path, outside) = if path == "-" {
            self.previous.take().unwrap_or_else(|| (self.worktree.into(), false))
        } else if self.path.starts_with('$') && !path.starts_with(['/', '~', '$']) {
            // A folder below an unknown one lies where that one lies.
            return;
        } else {
            let path = joined(&self.path, path);
            // No folder is that long; its name is unknown, as that of a variable.
            let path = if path.len() > FOLDER_LIMIT { "$".to_owned() } else { path };
            let outside = is_outside(&path, self.worktree);
            (path.into(), outside)
        };
        self.previous = Some((std::mem::replace(&mut self.path, path), self.outside));
        self.outside = outside;
    }

    /// Whether a path that a command names lies outside the worktree.
    pub(super) fn is_outside(&self, path: &str) -> bool {
        if self.remote {
            return false;
        }
        let absolute = path.starts_with(['/', '~', '$']);
        if !absolute && !path.split('/').any(|part| part == "..") {
            return self.outside;
        }
        is_outside(&joined(&self.path, path), self.worktree)
    }
}

/// An absolute or relative path from `folder`, with `.` and `..` resolved; symbolic links are not.
fn joined(folder: &str, path: &str) -> String {
    let from_here = ["$PWD/", "${PWD}/"].iter().find_map(|prefix| path.strip_prefix(prefix));
    let whole = match from_here {
        None if path.starts_with(['/', '~', '$']) => path.to_owned(),
        None => format!("{folder}/{path}"),
        Some(rest) => format!("{folder}/{rest}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if whole.starts_with('/') { format!("/{}", parts.join("/")) } else { parts.join("/") }
}

/// Whether a path lies outside the worktree and outside the shared scratch directories.
pub(super) fn is_outside(path: &str, worktree: &str) -> bool {
    let path = joined(worktree, path);
    if path.starts_with('~') || path.starts_with("$HOME") || path.starts_with("${HOME}") {
        return true;
    }
    if path.starts_with('$') {
        // Only the shell can expand this variable; TMPDIR and the like are common.
        return false;
    }
    let within = |folder: &str| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let device = path.strip_prefix("/dev/").map(|rest| rest.split('/').next().unwrap_or(rest));
    !(within(worktree)
        || within("/tmp")
        || within("/var/tmp")
        || device.is_some_and(|name| DEVICES.contains(&name)))
}
