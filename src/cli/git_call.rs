//! One short call of git for a command of afk's, outside of the workspaces: `afk doctor` and `afk init` look
//! at remotes and clones with it. It has the user's settings, no prompt and a deadline.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::core::model::untrusted::clean_line;
use crate::error::chain;

/// The longest time of a call.
const CALL: Duration = Duration::from_secs(20);

/// The variables that name another repository than the one that git is started in.
const REPOSITORY_VARIABLES: [&str; 7] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
];

/// Calls git, in a folder if one is given, and returns its output; the error is one line.
pub(super) async fn git(args: &[&str], dir: Option<&Path>) -> Result<String, String> {
    git_by(None, args, dir).await
}

/// [`git`] with a command in place of `ssh`.
pub(super) async fn git_by(
    ssh_command: Option<&str>,
    args: &[&str],
    dir: Option<&Path>,
) -> Result<String, String> {
    let mut command = command(ssh_command, dir);
    output(command.args(args), CALL).await
}

/// A call of git without its arguments. The settings of a repository that afk only looks at start nothing.
pub(super) fn command(ssh_command: Option<&str>, dir: Option<&Path>) -> Command {
    let mut command = Command::new("git");
    // The shell of a hook or of a rebase names a repository, which is not the one to check.
    for name in REPOSITORY_VARIABLES {
        command.env_remove(name);
    }
    if let Some(ssh_command) = ssh_command {
        command.env("GIT_SSH_COMMAND", ssh_command);
    }
    command.args(["-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null"]);
    command.args(["-c", "core.fsmonitor=false"]);
    if let Some(dir) = dir {
        command.arg("-C").arg(dir);
    }
    command.env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a call until a limit, and returns its output; the error is one line.
pub(super) async fn output(command: &mut Command, limit: Duration) -> Result<String, String> {
    match timeout(limit, command.output()).await {
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
        Ok(Err(error)) => Err(format!("start git: {}", chain(&error))),
        Ok(Ok(out)) if out.status.success() => {
            Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
        }
        Ok(Ok(out)) => Err(clean_line(String::from_utf8_lossy(&out.stderr).trim())),
    }
}
