//! The environment and the settings of afk's own git: nothing of the user's that would change the
//! result of a call, and all that a call needs to reach a remote.
//!
//! A call without a remote gets a search path and a folder for temporary files. A call to a remote
//! also gets the names in [`REMOTE`], and from the user's git configuration the keys that
//! [`reaches`] lists, in a file of afk's own.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use super::WorkspaceError;

/// The settings of every call. Hooks, file-system monitors and `ext::` remotes would run commands
/// that a repository names; automatic maintenance would continue after the call; attributes and
/// excludes of the user would change which content git sees. git doesn't sync loose objects by
/// itself, and a power cut would take a commit that the journal already names. These settings reach the
/// git program alone: `repository::open_for_writing` makes libgit2 sync what it writes.
pub(super) const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.fsync=committed,reference",
    "core.fsyncMethod=batch",
    "core.pager=cat",
    "protocol.ext.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "commit.gpgSign=false",
    "submodule.recurse=false",
];

/// The names that every call inherits.
const LOCAL: &[&str] = &["PATH", "TMPDIR"];

/// The names that a call to a remote inherits besides: the home and the agent of ssh, proxies,
/// certificates, and what programs that answer for credentials need to find the user's session.
const REMOTE: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "SSH_AUTH_SOCK",
    "SSH_ASKPASS",
    "GIT_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "KRB5CCNAME",
    "GNUPGHOME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// The variables that afk sets for its own git, whatever the call.
const SET: &[(&str, &str)] = &[
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_EDITOR", "true"),
    ("LC_ALL", "C"),
];

/// The variables of afk's own that also hold for git inside the sandbox.
pub(super) fn set() -> impl Iterator<Item = (&'static str, &'static str)> {
    SET.iter().copied()
}

/// The whole environment of a call that stays on this machine.
pub(super) fn local() -> Vec<(OsString, OsString)> {
    let mut env = inherited(LOCAL);
    env.extend(SET.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    env.push(("GIT_CONFIG_GLOBAL".into(), "/dev/null".into()));
    env
}

/// The whole environment of a call that reaches a remote, with `config` in place of the user's
/// configuration.
pub(super) fn remote(config: &Path) -> Vec<(OsString, OsString)> {
    let mut env = local();
    env.extend(inherited(REMOTE));
    env.push(("GIT_CONFIG_GLOBAL".into(), config.into()));
    env
}

fn inherited(names: &[&str]) -> Vec<(OsString, OsString)> {
    let set = |name: &&str| Some(((*name).into(), std::env::var_os(name)?));
    names.iter().filter_map(set).collect()
}

/// Whether a key of the user's configuration says how to reach a remote, and nothing else.
fn reaches(key: &str) -> bool {
    let section = key.split('.').next().unwrap_or_default();
    let whole = ["core.sshcommand", "core.askpass", "core.gitproxy", "ssh.variant"];
    ["credential", "http", "https", "url", "safe"].contains(&section)
        || (section == "protocol" && !key.starts_with("protocol.ext."))
        || whole.contains(&key)
}

/// Writes those keys of the user's and the system's configuration that say how to reach a remote
/// into `file`, which only we can read: a header among them may be a secret.
pub(super) fn write_remote_config(file: &Path) -> Result<(), WorkspaceError> {
    let text = match git2::Config::open_default().and_then(|mut all| all.snapshot()) {
        Ok(config) => remote_config(&config),
        // A broken configuration file must not stop a fetch that doesn't need it.
        Err(error) => {
            tracing::warn!(%error, "the user's git configuration can't be read");
            String::new()
        }
    };
    if std::fs::read(file).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    let new = file.with_extension("new");
    // Only a crash leaves it.
    let _ = std::fs::remove_file(&new);
    write_private(&new, text.as_bytes()).map_err(WorkspaceError::io(&new))?;
    std::fs::rename(&new, file).map_err(WorkspaceError::io(file))
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

fn remote_config(config: &git2::Config) -> String {
    let mut text = String::new();
    let Ok(mut entries) = config.entries(None) else { return text };
    while let Some(Ok(entry)) = entries.next() {
        let Ok(key) = std::str::from_utf8(entry.name_bytes()) else { continue };
        if !reaches(key) {
            continue;
        }
        let Some((section, name)) = key.rsplit_once('.') else { continue };
        // Writing to a string can't fail.
        let _ = match section.split_once('.') {
            Some((section, sub)) => writeln!(text, "[{section} \"{}\"]", escaped(sub)),
            None => writeln!(text, "[{section}]"),
        };
        let _ = match entry.has_value().then(|| std::str::from_utf8(entry.value_bytes())) {
            Some(Ok(value)) => writeln!(text, "\t{name} = \"{}\"", escaped(value)),
            Some(Err(_)) => Ok(()),
            None => writeln!(text, "\t{name}"),
        };
    }
    text
}

/// A value or a subsection as it stands between quotes in a configuration file.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_config_keeps_only_keys_that_reach_a_remote() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("theirs");
        std::fs::write(
            &theirs,
            "[credential \"https://Forge.example\"]\n\thelper = \n\thelper = \"!f() { echo \\\"a\\\"; }; f\"\n\
             [url \"ssh://git@forge/\"]\n\tinsteadOf = https://forge/\n[http]\n\tproxy = http://p:1\n\tsslVerify\n\
             [core]\n\tsshCommand = ssh -4\n\tautocrlf = true\n\texcludesFile = /x\n\
             [status]\n\tshowUntrackedFiles = no\n[filter \"lfs\"]\n\tclean = x\n\
             [protocol \"ext\"]\n\tallow = always\n[init]\n\tdefaultRefFormat = reftable\n",
        )
        .unwrap();
        let text = remote_config(&git2::Config::open(&theirs).unwrap());
        let ours = dir.path().join("ours");
        std::fs::write(&ours, &text).unwrap();
        let list = |file: &Path| {
            let mut git = std::process::Command::new("git");
            git.args(["config", "--list", "--file"]).arg(file);
            String::from_utf8(git.output().unwrap().stdout).unwrap()
        };
        assert_eq!(
            list(&ours),
            "credential.https://Forge.example.helper=\n\
             credential.https://Forge.example.helper=!f() { echo \"a\"; }; f\n\
             url.ssh://git@forge/.insteadof=https://forge/\nhttp.proxy=http://p:1\nhttp.sslverify\n\
             core.sshcommand=ssh -4\n"
        );
    }
}
