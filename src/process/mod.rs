//! Children as whole trees: marked, found, ended and reaped.
//!
//! Agents start shells in sessions of their own, so a process group is not enough. Every child
//! carries two names in its environment: `AFK_STATE`, the journal that it belongs to, and
//! `AFK_RUN`, its run. A walk through `/proc` finds all that carry them, whoever their parent is;
//! descendants that threw their environment away are found by parentage. afk makes itself the
//! subreaper, so that what is orphaned stays below it.

pub mod hide;
pub mod launch;
pub mod output;
pub mod procfs;
pub mod strays;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::lock::{LockExt, RwLockExt};
use rustix::process::{Pid, Signal, getpriority_process, setpriority_process};
use strays::Strays;
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// The journal that a child belongs to.
pub const STATE_NAME: &str = "AFK_STATE";
/// The run that a child belongs to.
pub const RUN_NAME: &str = "AFK_RUN";
/// The process that the launcher became; alive as long as the command itself runs.
pub const LEADER_NAME: &str = "AFK_LEADER";
/// On children whose own children may outlive them: deploy commands.
pub const DEPLOY_NAME: &str = "AFK_DEPLOY";

/// On our own calls of git: they are short, and one that is cut at the wrong moment leaves a lock
/// in somebody's repository.
pub const OWN_NAME: &str = "AFK_OWN";
/// How long such a call of an earlier life may take to end by itself.
const OWN_CALLS: Duration = Duration::from_secs(10);

/// What is started gives way: a key is answered, and what must be on the disk gets there, before an
/// agent or a test goes on. Beside our own niceness.
const NICENESS: i32 = 5;

/// Environment that every child gets from ours, where it is set.
pub const INHERITED: &[&str] = &[
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

/// What every child gets of our environment.
pub fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    INHERITED.iter().filter_map(|&name| Some((name, std::env::var_os(name)?)))
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Whose it is: a run's name, or another word of ours.
    pub owner: String,
    /// The program.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Where it runs.
    pub cwd: PathBuf,
    /// Environment beside [`INHERITED`] and the marks.
    pub env: BTreeMap<String, String>,
    /// What it starts may outlive it.
    pub leaves_children: bool,
}

impl Spec {
    /// A command line for `sh -c`.
    #[must_use]
    pub fn shell(owner: &str, line: &str, cwd: &Path) -> Self {
        Self {
            owner: owner.to_owned(),
            program: "sh".into(),
            args: vec!["-c".into(), line.into()],
            cwd: cwd.to_owned(),
            env: BTreeMap::new(),
            leaves_children: false,
        }
    }
}

/// What a child reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// What it is written.
    Piped,
    /// Nothing.
    Nothing,
}

impl Input {
    fn stdio(self) -> Stdio {
        match self {
            Self::Piped => Stdio::piped(),
            Self::Nothing => Stdio::null(),
        }
    }
}

/// A program by its name: a path as it is, a name by a PATH.
#[must_use]
pub fn on_path(program: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &PathBuf| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return Some(PathBuf::from(program)).filter(runs);
    }
    std::env::split_paths(path?).map(|folder| folder.join(program)).find(runs)
}

/// What the processes of an owner use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// How many there are.
    pub processes: usize,
    /// The lowest pid: the tree's first.
    pub pid: Option<i32>,
    /// CPU time so far, in clock ticks.
    pub cpu_ticks: u64,
    /// Resident memory, in bytes.
    pub memory: u64,
}

#[derive(Debug)]
struct Inner {
    launcher: PathBuf,
    state: String,
    grace: Duration,
    /// Of what is started.
    niceness: i32,
    /// We have a terminal, which no child may write to.
    terminal: bool,
    /// What no child may reach.
    hidden: RwLock<Vec<PathBuf>>,
    /// The folders in which an owner's children were started.
    folders: Mutex<BTreeMap<String, BTreeSet<PathBuf>>>,
}

/// Children that tokio waits for; every other zombie of ours is a stray to reap. They are the whole
/// process's, whichever supervisor began them.
#[derive(Debug, Default)]
struct Waited {
    /// Whose they are, by pid.
    known: BTreeMap<i32, String>,
    /// How many are being started, and are not known yet.
    starting: usize,
}

static WAITED: Mutex<Waited> = Mutex::new(Waited { known: BTreeMap::new(), starting: 0 });
static STARTED: Condvar = Condvar::new();
/// One that was waited for has ended.
static ENDED: Notify = Notify::const_new();

fn waited() -> std::sync::MutexGuard<'static, Waited> {
    WAITED.locked()
}

/// The same once nothing is being started: whatever is not known then is nobody's. None starts while
/// this is held.
fn settled() -> std::sync::MutexGuard<'static, Waited> {
    let settled = STARTED.wait_while(waited(), |waited| waited.starting > 0);
    settled.unwrap_or_else(PoisonError::into_inner)
}

/// Starts children and ends their trees. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Supervisor(Arc<Inner>);

/// How many processes an end took.
struct Ended {
    /// Were told to end.
    told: usize,
    /// Did not hear and were killed.
    killed: usize,
}

/// A started child; forget it only after `wait`.
#[derive(Debug)]
pub struct Started {
    /// tokio's handle.
    pub child: Child,
    pid: i32,
}

impl Drop for Started {
    fn drop(&mut self) {
        waited().known.remove(&self.pid);
        ENDED.notify_one();
    }
}

impl Supervisor {
    /// `launcher` is the afk program, `state` the journal's id, `grace` the time between TERM and
    /// KILL.
    #[must_use]
    pub fn new(launcher: PathBuf, state: String, grace: Duration) -> Self {
        // Without it orphans go to init and are found by their marks all the same.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let us = procfs::process(rustix::process::getpid().as_raw_nonzero().get());
        let terminal = us.is_none_or(|us| us.terminal != 0);
        let (hidden, folders) = (RwLock::default(), Mutex::default());
        // The kernel takes 19 for all that is more.
        let niceness = getpriority_process(None).unwrap_or(0) + NICENESS;
        Self(Arc::new(Inner { launcher, state, grace, niceness, terminal, hidden, folders }))
    }

    /// From now on no child reaches these files and folders.
    pub fn hide(&self, paths: Vec<PathBuf>) {
        *self.0.hidden.write_locked() = paths;
    }

    /// Whether a process is a child of ours, an agent or a test command, or below one. One that is
    /// gone is: nobody can say whose it was.
    #[must_use]
    pub fn is_below(&self, pid: i32) -> bool {
        let strays = Strays::of_this_process();
        let mut next = pid;
        // As deep as anybody nests, and no loop.
        for _ in 0..1000 {
            if next <= 1 {
                return false;
            }
            let Some(process) = procfs::process(next) else { return next == pid };
            if process.has(STATE_NAME, &self.0.state) {
                return true;
            }
            if process.parent == strays.us {
                return strays.has(&process) || settled().known.contains_key(&process.pid);
            }
            next = process.parent;
        }
        true
    }

    /// The command itself, in a group of its own, where nothing needs the launcher: nothing is to be
    /// hidden, there is no terminal to be kept from it, and its own children end with it.
    fn direct(&self, spec: &Spec) -> Option<Command> {
        let hidden = self.0.hidden.read_locked();
        if self.0.terminal || spec.leaves_children || !hidden.is_empty() {
            return None;
        }
        let path = spec.env.get("PATH").map(OsString::from).or_else(|| std::env::var_os("PATH"));
        // What is relative depends on the folder that it is started in.
        let program = on_path(&spec.program, path.as_deref()).filter(|path| path.is_absolute())?;
        let mut command = Command::new(program);
        command.arg0(&spec.program).process_group(0);
        Some(command)
    }

    /// The command by way of the launcher.
    fn launched(&self, spec: &Spec) -> Command {
        let mut command = Command::new(&self.0.launcher);
        command.arg(launch::WORD);
        for path in self.0.hidden.read_locked().iter() {
            command.arg(launch::HIDE).arg(path);
        }
        command.arg(&spec.program);
        command
    }

    /// Gives a command the marks and the allowed environment and nothing else.
    fn equip(&self, command: &mut Command, spec: &Spec) {
        command.args(&spec.args).current_dir(&spec.cwd).env_clear();
        command.envs(inherited()).envs(&spec.env).env("TERM", "dumb");
        command.env(STATE_NAME, &self.0.state).env(RUN_NAME, &spec.owner);
        if spec.leaves_children {
            command.env(DEPLOY_NAME, "1");
        }
    }

    /// Starts a child with three pipes, out of reach of our terminal.
    ///
    /// # Errors
    /// Where it can't be started; a program that isn't there is told by the launcher's exit
    /// code, 127.
    pub fn start(&self, spec: &Spec, input: Input) -> io::Result<Started> {
        {
            let mut folders = self.0.folders.locked();
            folders.entry(spec.owner.clone()).or_default().insert(spec.cwd.clone());
        }
        let begin = |mut command: Command| -> io::Result<Started> {
            self.equip(&mut command, spec);
            command.stdin(input.stdio()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let started = Self::spawn(&mut command, &spec.owner)?;
            if let Some(pid) = Pid::from_raw(started.pid) {
                // Without it it works as well.
                let _ = setpriority_process(Some(pid), self.0.niceness);
            }
            Ok(started)
        };
        // The launcher says what is wrong with one that does not start.
        match self.direct(spec).map(begin) {
            Some(Ok(started)) => Ok(started),
            Some(Err(_)) | None => begin(self.launched(spec)),
        }
    }

    /// Starts a command of ours (git) that needs no session and no allow-list, with the marks.
    ///
    /// # Errors
    /// Where it can't be started.
    pub fn start_own(&self, command: &mut Command, owner: &str) -> io::Result<Started> {
        command.env(STATE_NAME, &self.0.state).env(RUN_NAME, owner).env(OWN_NAME, "1");
        Self::spawn(command, owner)
    }

    fn spawn(command: &mut Command, owner: &str) -> io::Result<Started> {
        // So that a child that ends at once is not taken for a stray. The lock is not held meanwhile:
        // until a program is loaded takes about a millisecond, and others start theirs.
        waited().starting += 1;
        let child = command.spawn();
        let pid = child.as_ref().ok().and_then(Child::id).and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.unwrap_or(0);
        let mut waited = waited();
        waited.starting -= 1;
        if child.is_ok() {
            waited.known.insert(pid, owner.to_owned());
        }
        drop(waited);
        STARTED.notify_all();
        let child = child?;
        Ok(Started { child, pid })
    }

    fn marked(&self, process: &procfs::Process, owner: Option<&str>) -> bool {
        process.has(STATE_NAME, &self.0.state)
            && owner.is_none_or(|owner| process.has(RUN_NAME, owner))
    }

    /// Whether a process that threw its marks away was this owner's: orphaned to us, and in one of
    /// the folders in which the owner's children were started, or in none of anybody else's.
    fn strayed(&self, process: &procfs::Process, owner: &str) -> bool {
        let folders = self.0.folders.locked();
        let Some(cwd) = procfs::cwd(process.pid) else { return false };
        let within = |all: &BTreeSet<PathBuf>| all.iter().any(|folder| cwd.starts_with(folder));
        match folders.get(owner) {
            Some(own) if within(own) => true,
            // A deploy's children may stay; nobody else's orphan lives in no folder of ours.
            Some(_) => folders.len() == 1,
            None => false,
        }
    }

    /// All live processes but this one.
    fn others() -> Vec<procfs::Process> {
        let us = rustix::process::getpid().as_raw_nonzero().get();
        procfs::processes().filter(|p| p.pid != us && p.state != b'Z').collect()
    }

    /// All live processes of an owner: those that carry its marks, and their descendants.
    fn tree(&self, owner: &str, all: &[procfs::Process]) -> Vec<procfs::Process> {
        let mut ours: BTreeSet<i32> =
            all.iter().filter(|p| self.marked(p, Some(owner))).map(|p| p.pid).collect();
        let strays = Strays::of_this_process();
        let waited = settled().known.clone();
        ours.extend(
            all.iter()
                .filter(|p| strays.has(p) && !waited.contains_key(&p.pid))
                .filter(|p| p.get(STATE_NAME).is_none() && self.strayed(p, owner))
                .map(|p| p.pid),
        );
        // A deploy's children may stay once its command has ended.
        ours.retain(|pid| {
            all.iter().find(|p| p.pid == *pid).is_none_or(|p| !self.outlives(p, all))
        });
        loop {
            let more: Vec<i32> = all
                .iter()
                .filter(|p| ours.contains(&p.parent) && !ours.contains(&p.pid))
                .map(|p| p.pid)
                .collect();
            if more.is_empty() {
                break;
            }
            ours.extend(more);
        }
        all.iter().filter(|p| ours.contains(&p.pid)).cloned().collect()
    }

    fn outlives(&self, process: &procfs::Process, all: &[procfs::Process]) -> bool {
        process.get(DEPLOY_NAME).is_some()
            && process.get(LEADER_NAME).and_then(|pid| pid.parse::<i32>().ok()).is_none_or(
                |leader| !all.iter().any(|p| p.pid == leader && p.has(STATE_NAME, &self.0.state)),
            )
    }

    /// What an owner's processes use now.
    #[must_use]
    pub fn usage(&self, owner: &str) -> Usage {
        self.usages(&[owner]).pop().unwrap_or_default()
    }

    /// The same for several owners with one look.
    #[must_use]
    pub fn usages(&self, owners: &[&str]) -> Vec<Usage> {
        let all = Self::others();
        let used = owners.iter().map(|owner| {
            let tree = self.tree(owner, &all);
            Usage {
                processes: tree.len(),
                pid: tree.iter().map(|p| p.pid).min(),
                cpu_ticks: tree.iter().map(|p| p.cpu_ticks).sum(),
                memory: tree.iter().map(|p| p.memory).sum(),
            }
        });
        used.collect()
    }

    /// Ends an owner's whole tree: TERM, a grace, KILL, until nothing is left. Says how many
    /// processes had to be killed.
    pub async fn end(&self, owner: &str) -> usize {
        let killed = self.end_all(|| self.tree(owner, &Self::others())).await.killed;
        let mut folders = self.0.folders.locked();
        folders.remove(owner);
        killed
    }

    /// The same where what an owner started ended by itself and left nothing: what is orphaned comes
    /// to us, so that a look at our own children tells it, and all of `/proc` need not be read.
    pub async fn end_rest(&self, owner: &str) {
        let began = {
            let folders = self.0.folders.locked();
            folders.contains_key(owner)
        };
        if !began {
            return;
        }
        if Self::left_nothing(owner) {
            let mut folders = self.0.folders.locked();
            folders.remove(owner);
        } else {
            self.end(owner).await;
        }
    }

    /// Whether nothing that an owner started is left: no child of ours is its, and nothing was
    /// orphaned to us that might be.
    fn left_nothing(owner: &str) -> bool {
        let ended = waited().known.values().all(|whose| whose != owner);
        ended && strays::any() == Some(false)
    }

    async fn end_all(&self, find: impl Fn() -> Vec<procfs::Process>) -> Ended {
        let deadline = Instant::now() + self.0.grace;
        let mut termed = BTreeSet::new();
        let mut killed = BTreeSet::new();
        loop {
            let left = find();
            if left.is_empty() {
                break;
            }
            let late = Instant::now() >= deadline;
            for process in &left {
                if late {
                    procfs::signal(process, Signal::KILL);
                    killed.insert(process.pid);
                } else if termed.insert(process.pid) {
                    procfs::signal(process, Signal::TERM);
                    // A stopped process can't hear TERM.
                    procfs::signal(process, Signal::CONT);
                }
            }
            if Instant::now() >= deadline + Duration::from_secs(10) {
                tracing::error!(left = left.len(), "processes can't be killed");
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        strays::reap();
        Ended { told: termed.len(), killed: killed.len() }
    }

    /// Ends what an earlier life of this journal left behind. Says how many there were.
    pub async fn end_orphans(&self) -> usize {
        let us = rustix::process::getpid().as_raw_nonzero().get();
        let find = |own: bool| {
            let all: Vec<_> =
                procfs::processes().filter(|p| p.pid != us && p.state != b'Z').collect();
            let is_orphan = |p: &procfs::Process| self.marked(p, None) && !self.outlives(p, &all);
            let wanted = |p: &&procfs::Process| is_orphan(p) && (own || p.get(OWN_NAME).is_none());
            all.iter().filter(wanted).cloned().collect::<Vec<_>>()
        };
        let told = self.end_all(|| find(false)).await.told;
        // A push that goes on ends by itself, and is found in the remote.
        let give_up = Instant::now() + OWN_CALLS;
        while !find(true).is_empty() && Instant::now() < give_up {
            sleep(Duration::from_millis(10)).await;
        }
        told + self.end_all(|| find(true)).await.told
    }
}
