//! Hands the credential for a remote to git for one command, through a pipe with a name.
//!
//! The environment and the arguments of a process are readable by others of the same user, and a
//! file would outlive a crash. The pipe lies in a folder of its own that only we can enter, holds
//! the answer in the kernel's memory, and goes away with the command
//! (docs/adr/0016-credentials-on-a-pipe.md).

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use rustix::fs::{FileType, Mode};
use secrecy::{ExposeSecret, SecretString};

use super::WorkspaceError;

/// How often git may ask for the same credential: it asks again after a redirect.
const ANSWERS: usize = 3;
/// The longest answer; all answers together fit into a pipe, so that writing never waits.
const ANSWER_LIMIT: usize = 16 * 1024;

/// A login at a host.
#[derive(Debug, Clone)]
pub struct RemoteLogin {
    /// The start of the addresses that it is for, such as `https://forge.example`.
    pub host: String,
    /// The name of the user.
    pub username: String,
    /// The password or token.
    pub password: SecretString,
}

/// What one call needs to reach a remote.
#[derive(Debug, Clone, Default)]
pub struct RemoteAccess {
    /// The command in place of `ssh`.
    pub ssh_command: Option<String>,
    /// The login, where git should not find one by itself.
    pub login: Option<RemoteLogin>,
}

/// Supplies the credentials for a remote, before each call since tokens expire.
pub trait Credentials: std::fmt::Debug + Send + Sync {
    /// The access to a remote; an error is one line for a person.
    fn of<'a>(&'a self, remote: &'a str) -> BoxFuture<'a, Result<RemoteAccess, String>>;
}

/// A pipe that answers git's credential helper. The pipe goes away with it.
#[derive(Debug)]
pub(super) struct ServedLogin {
    folder: PathBuf,
    host: String,
    /// Keeps the pipe and its content open.
    _pipe: std::fs::File,
}

impl ServedLogin {
    /// Creates the pipe in a folder below `parent`, with the answers in it.
    pub(super) fn serve(parent: &Path, login: &RemoteLogin) -> Result<Self, WorkspaceError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("credential-{}-{number}", std::process::id()));
        let mut private = std::fs::DirBuilder::new();
        private.mode(0o700).create(&folder).map_err(WorkspaceError::io(&folder))?;
        let pipe = folder.join("pipe");
        let opened = Self::fill(&pipe, login);
        if opened.is_err() {
            // The error below says why.
            let _ = std::fs::remove_dir_all(&folder);
        }
        let opened = opened.map_err(WorkspaceError::io(&pipe))?;
        Ok(Self { folder, host: login.host.clone(), _pipe: opened })
    }

    fn fill(pipe: &Path, login: &RemoteLogin) -> std::io::Result<std::fs::File> {
        let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidInput, what);
        let password = login.password.expose_secret();
        let answer = format!("username={}\npassword={password}\n\n", login.username);
        if answer.len() > ANSWER_LIMIT || answer.matches('\n').count() != 3 {
            return Err(invalid("the credential is too long or has more than one line"));
        }
        rustix::fs::mknodat(rustix::fs::CWD, pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // Reading as well keeps the opening from waiting for a reader.
        let mut options = std::fs::OpenOptions::new();
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        let mut file =
            options.read(true).write(true).custom_flags(flags.bits().cast_signed()).open(pipe)?;
        file.write_all(answer.repeat(ANSWERS).as_bytes())?;
        Ok(file)
    }

    /// The settings that make git ask this pipe and nobody else. The helper reads line by line, so
    /// that one answer stays for the next call.
    pub(super) fn settings(&self) -> [String; 2] {
        let pipe = self.folder.join("pipe").display().to_string().replace('\'', "'\\''");
        let helper = format!(
            "!f() {{ test \"$1\" = get || exit 0; while IFS= read -r line && test -n \"$line\"; do \
             printf '%s\\n' \"$line\"; done < '{pipe}'; }}; f"
        );
        let key = format!("credential.{}.helper", self.host);
        // The empty helper switches every other one off.
        [format!("{key}="), format!("{key}={helper}")]
    }
}

impl Drop for ServedLogin {
    fn drop(&mut self) {
        // The next start of the pool removes a folder that can't be removed now.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn served_login_answers_git_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let login = RemoteLogin {
            host: "https://forge.example".into(),
            username: "x".into(),
            password: "p'w\"d $HOME".to_owned().into(),
        };
        let served = ServedLogin::serve(dir.path(), &login).unwrap();
        for _ in 0..ANSWERS {
            let mut git = std::process::Command::new("git");
            for setting in served.settings() {
                git.arg("-c").arg(setting);
            }
            git.args(["credential", "fill"]).env("GIT_TERMINAL_PROMPT", "0");
            git.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
            let mut git = git.spawn().unwrap();
            let ask = b"protocol=https\nhost=forge.example\npath=a/b\n\n";
            git.stdin.take().unwrap().write_all(ask).unwrap();
            let out = String::from_utf8(git.wait_with_output().unwrap().stdout).unwrap();
            assert!(out.contains("username=x\npassword=p'w\"d $HOME\n"), "{out}");
        }
        drop(served);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let two_lines = RemoteLogin { password: "a\nb".to_owned().into(), ..login };
        assert!(ServedLogin::serve(dir.path(), &two_lines).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
