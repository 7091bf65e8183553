//! A prison for one attack: a folder with a workspace that the program may use, and beside it what
//! it must not reach.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use afk::process::level::strongest;
use afk::sandbox::{Level, NetworkPolicy, Sandbox};

/// The text that no attack may get.
pub const SECRET: &str = "the-text-that-nobody-may-read";
/// An ordinary user for the tests, which needs no entry in the list of users.
pub const ORDINARY: u32 = 54_321;

/// Who runs the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The user of the tests.
    Same,
    /// An ordinary one, where that user is root.
    Ordinary,
}

pub struct Prison {
    dir: tempfile::TempDir,
    level: Level,
    user: User,
    pub network: NetworkPolicy,
}

/// The pairs of level and user that this machine allows. At least one level must work: without any,
/// afk would start no agent here either.
pub fn places() -> Vec<(Level, User)> {
    let mut places = Vec::new();
    let users = if rustix::process::geteuid().is_root() {
        vec![User::Same, User::Ordinary]
    } else {
        vec![User::Same]
    };
    let found = strongest(Path::new(env!("CARGO_BIN_EXE_afk")));
    for refused in &found.refused {
        eprintln!("!!! SKIPPED on this machine: {refused}");
    }
    for level in [Level::Strong, Level::Landlock] {
        if level <= found.level {
            places.extend(users.iter().map(|user| (level, *user)));
        }
    }
    assert!(!places.is_empty(), "no level of the wall works here: {:?}", found.refused);
    places
}

impl Prison {
    pub fn new(level: Level, user: User) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let prison = Self { dir, level, user, network: NetworkPolicy::Full };
        for name in ["work", "home", "tmp", "beside", "real-home", "real-home/.ssh"] {
            std::fs::create_dir(prison.path(name)).unwrap();
        }
        for name in ["beside/key", "real-home/.ssh/id_ed25519"] {
            std::fs::write(prison.path(name), format!("{SECRET}\n")).unwrap();
        }
        // An ordinary user can't enter the folder of the build.
        let launcher = prison.path("afk");
        if std::fs::hard_link(env!("CARGO_BIN_EXE_afk"), &launcher).is_err() {
            std::fs::copy(env!("CARGO_BIN_EXE_afk"), &launcher).unwrap();
        }
        prison.own_all();
        prison
    }

    /// Gives everything to the prison's user, beside the launcher: that file is the build's.
    pub fn own_all(&self) {
        if self.user == User::Ordinary {
            let launcher = self.path("afk");
            for path in walk(self.dir.path()).into_iter().filter(|path| *path != launcher) {
                std::os::unix::fs::lchown(&path, Some(ORDINARY), Some(ORDINARY)).unwrap();
            }
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A word that only processes of this prison have among their arguments.
    pub fn mark(&self) -> String {
        format!("mark-{}", self.path("").display()).replace('/', "_")
    }

    pub fn sandbox(&self) -> Sandbox {
        Sandbox {
            network: self.network,
            write: vec![self.path("work")],
            home: Some(self.path("home")),
            temporary: Some(self.path("tmp")),
            ..Sandbox::granting_nothing(self.level)
        }
    }

    /// The launcher with a program behind the wall.
    pub fn command(&self, sandbox: &Sandbox, program: &[&str]) -> Command {
        let plan = serde_json::to_string(sandbox).unwrap();
        let mut command = Command::new(self.path("afk"));
        command.args(["__launch", "--sandbox", &plan]).args(program);
        self.prepare(&mut command);
        command
    }

    /// Sets the folder, the environment and the user of a command.
    pub fn prepare(&self, command: &mut Command) {
        command
            .current_dir(self.path("work"))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.path("real-home"))
            .env("ROOT", self.dir.path())
            .stdin(Stdio::null());
        if self.user == User::Ordinary {
            command.uid(ORDINARY).gid(ORDINARY);
        }
    }

    /// Runs a script behind the wall.
    pub fn run(&self, script: &str) -> Output {
        self.run_with(&self.sandbox(), script)
    }

    pub fn run_with(&self, sandbox: &Sandbox, script: &str) -> Output {
        self.command(sandbox, &["sh", "-c", script]).output().unwrap()
    }
}

pub fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            all.extend(walk(&path));
        } else {
            all.push(path);
        }
    }
    all
}

/// What a program printed, on both streams.
pub fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The processes whose command line contains a text.
pub fn living(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(mark)).count()
}
