//! Errors of git and of the machine that are not the run's fault: the remote is away, it doesn't
//! accept the login at present, or the machine has reached a limit.
//!
//! Only afk's own git is judged here. git in an agent's tree prints whatever the agent wants.

use std::io::ErrorKind;

use super::WorkspaceError;
use super::call::GitOutput;
use crate::config::repos::remote_name;
use crate::core::model::outage::{OutageCause, OutageKind};

/// The subject of causes about the disk: all of afk's folders lie on one.
pub(crate) const DISK: &str = "afk's folders";
/// The subject of the other causes about this machine.
pub(crate) const MACHINE: &str = "this machine";

/// Parts of the messages with which the remote answers and refuses: it doesn't have the repository,
/// hides it, or forbids the push; and a host that ssh doesn't trust. Nothing goes on by itself then.
const REFUSED: [&str; 9] = [
    "Host key verification failed",
    "Repository not found",
    "not exported",
    "error: 403",
    "HTTP 403",
    "error: 404",
    "HTTP 404",
    "[rejected]",
    "[remote rejected]",
];
/// Parts of the messages about a login that the remote doesn't accept.
const LOGIN: [&str; 6] = [
    "Authentication failed",
    "error: 401",
    "HTTP 401",
    "Permission denied (publickey",
    "could not read Username",
    "could not read Password",
];
/// Parts of the messages about a remote that can't be reached or fails to answer.
const AWAY: [&str; 32] = [
    "Could not resolve host",
    "Temporary failure in name resolution",
    "Name or service not known",
    "unable to look up",
    "Failed to connect to",
    "Couldn't connect to server",
    "Could not connect",
    "unable to connect to",
    "Connection refused",
    "onnection timed out",
    "Operation timed out",
    "Connection reset",
    "Connection closed",
    "onnection was reset",
    "Network is unreachable",
    "No route to host",
    "Empty reply from server",
    "transfer closed with",
    "Recv failure",
    "Send failure",
    "TLS connect error",
    "SSL_ERROR_SYSCALL",
    "SSL certificate problem",
    "gnutls_handshake",
    "early EOF",
    "unexpected disconnect",
    "the remote end hung up",
    "error: 429",
    "error: 408",
    "HTTP 429",
    "Could not read from remote repository",
    "does not appear to be a git repository",
];
/// Parts of the messages about a full disk.
const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// The outage that a failed call to a remote shows; none where the remote answered as it should.
pub(super) fn of_remote(output: &GitOutput, address: &str) -> Option<OutageCause> {
    let text = output.all_text();
    // The remote's own words, such as those of its hooks, prove nothing about the way to it.
    let ours: Vec<&str> = text
        .split(['\n', '\r'])
        .map(str::trim_start)
        .filter(|line| !line.starts_with("remote:"))
        .collect();
    let has = |part: &&str| ours.iter().any(|line| line.contains(*part));
    if let Some(cause) = of_machine(&ours.join("\n")) {
        return Some(cause);
    }
    let server_error =
        || ours.iter().any(|line| line.contains("error: 5") || line.contains("HTTP 5"));
    let kind = if REFUSED.iter().any(&has) {
        return None;
    } else if LOGIN.iter().any(&has) {
        OutageKind::Credential
    } else if AWAY.iter().any(has) || server_error() {
        OutageKind::Remote
    } else {
        return None;
    };
    Some(OutageCause::new(kind, remote_name(address)))
}

/// The limit of this machine that a message of git's is about.
fn of_machine(text: &str) -> Option<OutageCause> {
    if FULL.iter().any(|part| text.contains(part)) {
        Some(OutageCause::new(OutageKind::Disk, DISK))
    } else if text.contains("Too many open files") {
        Some(OutageCause::new(OutageKind::Descriptors, MACHINE))
    } else if text.contains("cannot fork") || text.contains("unable to fork") {
        Some(OutageCause::new(OutageKind::Processes, MACHINE))
    } else {
        None
    }
}

/// The result of a call to a remote.
pub(super) fn reached(
    output: GitOutput,
    subcommand: &str,
    address: &str,
) -> Result<GitOutput, WorkspaceError> {
    let cause = if output.ok { None } else { of_remote(&output, address) };
    match cause {
        Some(cause) => {
            let (subcommand, message) = (subcommand.to_owned(), output.summary());
            Err(WorkspaceError::Unavailable { cause, subcommand, message })
        }
        None => Ok(output),
    }
}

/// An error of afk's own git in a local repository, with the limit of the machine that it shows.
pub(super) fn local(error: WorkspaceError) -> WorkspaceError {
    match error {
        WorkspaceError::Git { subcommand, message } => match of_machine(&message) {
            Some(cause) => WorkspaceError::Unavailable { cause, subcommand, message },
            None => WorkspaceError::Git { subcommand, message },
        },
        error => error,
    }
}

impl WorkspaceError {
    /// The outage that the error shows; none where the error is about the repository or the run.
    #[must_use]
    pub fn outage(&self) -> Option<OutageCause> {
        match self {
            Self::Unavailable { cause, .. } => Some(cause.clone()),
            Self::DiskFull { .. } => Some(OutageCause::new(OutageKind::Disk, DISK)),
            Self::Io { path, source } => of_io(source, path.as_os_str() == "git"),
            _ => None,
        }
    }
}

/// The limit of the machine that an error of the system shows, for a file or for a new process.
fn of_io(error: &std::io::Error, is_process: bool) -> Option<OutageCause> {
    use rustix::io::Errno;
    let machine = |kind| Some(OutageCause::new(kind, MACHINE));
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some(OutageCause::new(OutageKind::Disk, DISK))
        }
        _ if is(Errno::MFILE) || is(Errno::NFILE) => machine(OutageKind::Descriptors),
        _ if is_process && (is(Errno::AGAIN) || is(Errno::NOMEM)) => machine(OutageKind::Processes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(err: &str) -> GitOutput {
        GitOutput { ok: false, out: Vec::new(), err: err.into() }
    }

    fn kind(err: &str) -> Option<OutageKind> {
        of_remote(&output(err), "https://git.acme.com/a.git").map(|cause| cause.kind)
    }

    #[test]
    fn messages_of_git_are_told_apart() {
        let away = Some(OutageKind::Remote);
        for (message, expected) in [
            (
                "fatal: unable to access 'https://git.acme.com/a.git/': Failed to connect to git.acme.com port 443 after 0 ms: Couldn't connect to server",
                away,
            ),
            ("fatal: unable to access 'https://x/': Could not resolve host: x", away),
            ("fatal: unable to access 'https://x/': The requested URL returned error: 503", away),
            (
                "error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502\nfatal: the remote end hung up unexpectedly",
                away,
            ),
            (
                "fatal: unable to connect to 127.0.0.1:\n127.0.0.1[0: 127.0.0.1]: errno=Connection refused",
                away,
            ),
            (
                "ssh: connect to host x port 22: Connection timed out\nfatal: Could not read from remote repository.",
                away,
            ),
            (
                "fatal: '/srv/a.git' does not appear to be a git repository\nfatal: Could not read from remote repository.",
                away,
            ),
            ("fatal: early EOF\nfatal: fetch-pack: invalid index-pack output", away),
            ("fatal: Authentication failed for 'https://x/'", Some(OutageKind::Credential)),
            (
                "git@x: Permission denied (publickey).\nfatal: Could not read from remote repository.",
                Some(OutageKind::Credential),
            ),
            ("ERROR: Repository not found.\nfatal: Could not read from remote repository.", None),
            ("fatal: unable to access 'https://x/': The requested URL returned error: 403", None),
            (
                "error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403\nsend-pack: unexpected disconnect while reading sideband packet\nfatal: the remote end hung up unexpectedly",
                None,
            ),
            ("Host key verification failed.\nfatal: Could not read from remote repository.", None),
            ("fatal: bad object refs/remotes/origin/master", None),
            (" ! [rejected] master -> master (fetch first)", None),
            ("remote: fatal: Connection refused by policy\n ! [remote rejected] master", None),
            ("fatal: write error: No space left on device", Some(OutageKind::Disk)),
            (
                "error: cannot fork to run index-pack: Resource temporarily unavailable",
                Some(OutageKind::Processes),
            ),
        ] {
            assert_eq!(kind(message), expected, "{message}");
        }
    }

    #[test]
    fn errors_of_the_system_are_told_apart() {
        use rustix::io::Errno;
        let of = |errno: Errno, path: &str| {
            let source = std::io::Error::from_raw_os_error(errno.raw_os_error());
            WorkspaceError::Io { path: path.into(), source }.outage().map(|cause| cause.kind)
        };
        assert_eq!(of(Errno::NOSPC, "/w/x"), Some(OutageKind::Disk));
        assert_eq!(of(Errno::MFILE, "/w/x"), Some(OutageKind::Descriptors));
        assert_eq!(of(Errno::AGAIN, "git"), Some(OutageKind::Processes));
        assert_eq!(of(Errno::AGAIN, "/w/x"), None);
        assert_eq!(of(Errno::NOENT, "git"), None);
    }
}
