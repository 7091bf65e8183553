//! Describes a child before it is started: program, arguments, folder, environment, standard input.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::sandbox::Sandbox;

/// The environment names that every child inherits from ours, where they are set.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "TZ",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "CARGO_HOME",
    "RUSTUP_HOME",
];

/// The part of our environment that every child inherits.
pub(crate) fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    INHERITED.iter().filter_map(|&name| Some((name, std::env::var_os(name)?)))
}

/// A child to be started by [`super::Supervisor::start`].
#[derive(Debug, Clone)]
pub struct Spec {
    /// The owner that the child is marked with: a run's name, or another word of ours.
    pub owner: String,
    /// A path, or a name that is searched for on the child's `PATH`.
    pub program: OsString,
    /// The arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// The working directory; the owner's orphans are recognized by it.
    pub cwd: PathBuf,
    /// Environment in addition to the inherited names and the marks.
    pub env: BTreeMap<String, String>,
    /// Whether processes that the child starts may outlive it, as those of a deploy may.
    pub leaves_children: bool,
    /// What the child can reach; none runs it with every right of ours.
    pub sandbox: Option<Sandbox>,
}

impl Spec {
    /// Runs a command line with `sh -c`.
    #[must_use]
    pub fn shell(owner: &str, line: &str, cwd: &Path) -> Self {
        Self {
            owner: owner.to_owned(),
            program: "sh".into(),
            args: vec!["-c".into(), line.into()],
            cwd: cwd.to_owned(),
            env: BTreeMap::new(),
            leaves_children: false,
            sandbox: None,
        }
    }

    /// Whether processes that the child starts may outlive it, with or without a sandbox.
    pub(super) fn may_leave_children(&self) -> bool {
        self.leaves_children || self.sandbox.as_ref().is_some_and(|wall| wall.leaves_children)
    }
}

/// The standard input of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdinMode {
    /// A pipe that the caller writes to.
    Piped,
    /// `/dev/null`: the child reads an end at once.
    Null,
}

impl StdinMode {
    pub(super) fn stdio(self) -> Stdio {
        match self {
            Self::Piped => Stdio::piped(),
            Self::Null => Stdio::null(),
        }
    }
}

/// Finds an executable: a path is taken as it is, a bare name is searched for in `path`.
pub(crate) fn on_path(program: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    let is_executable = |path: &PathBuf| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return Some(PathBuf::from(program)).filter(is_executable);
    }
    std::env::split_paths(path?).map(|folder| folder.join(program)).find(is_executable)
}
