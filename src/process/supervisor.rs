//! The supervisor: starts children with marks, a reduced environment and a lower priority.
//!
//! Its second half, which finds and ends the trees of these children, is in `tree`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard};
use std::time::Duration;

use rustix::process::{Pid, getpriority_process, setpriority_process};
use tokio::process::Command;

use super::children::{ChildHandle, awaited_when_settled};
use super::groups::{ChildGroup, Groups};
use super::orphans::OrphanTest;
use super::spec::{Spec, StdinMode, inherited, on_path};
use super::usage::LatestWalk;
use super::{descriptors, launch, lineage, marks, procfs};
use crate::lock::{LockExt, RwLockExt};

/// Added to our own niceness for every child, so that answering a key and syncing the journal go
/// before an agent or a test.
const NICENESS: i32 = 5;
/// The most ancestors that [`Supervisor::is_below`] follows: deeper than real trees, and finite.
const MAX_ANCESTORS: usize = 1000;

/// Folders in which the children of each owner were started.
pub(super) type OwnerFolders = BTreeMap<String, BTreeSet<PathBuf>>;

#[derive(Debug)]
struct Inner {
    /// The afk program.
    afk: PathBuf,
    /// The program that launches for it, found at the first launch.
    launcher: OnceLock<PathBuf>,
    state: String,
    grace: Duration,
    /// Whether the grace is cut short, since afk itself must end at once.
    hastened: AtomicBool,
    /// The absolute niceness of the children.
    niceness: i32,
    /// Whether we have a controlling terminal, which no child may write to.
    terminal: bool,
    /// Files and folders that no child may reach.
    hidden: RwLock<Vec<PathBuf>>,
    folders: Mutex<OwnerFolders>,
    groups: Groups,
    latest_walk: LatestWalk,
}

/// Starts children and ends their trees. A clone is cheap and shares everything.
#[derive(Debug, Clone)]
pub struct Supervisor(Arc<Inner>);

impl Supervisor {
    /// `afk` is the afk program, `state` the journal's id, `grace` the time between TERM and
    /// KILL. Makes this process the subreaper of its descendants.
    #[must_use]
    pub fn new(afk: PathBuf, state: String, grace: Duration) -> Self {
        // Without a subreaper orphans go to init, and are still found by their marks.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let this = procfs::process(procfs::own_pid());
        let terminal = this.is_none_or(|this| this.terminal != 0);
        let (hidden, folders) = (RwLock::default(), Mutex::default());
        let (groups, latest_walk) = (Groups::default(), LatestWalk::default());
        let launcher = OnceLock::new();
        // The kernel clamps a niceness above 19.
        let niceness = getpriority_process(None).unwrap_or(0) + NICENESS;
        Self(Arc::new(Inner {
            afk,
            launcher,
            state,
            grace,
            hastened: AtomicBool::new(false),
            niceness,
            terminal,
            hidden,
            folders,
            groups,
            latest_walk,
        }))
    }

    /// The path of afk itself.
    pub(crate) fn program(&self) -> &Path {
        &self.0.afk
    }

    /// The program that starts others behind the wall: `afk-launch`, or afk itself.
    pub(crate) fn launcher(&self) -> &Path {
        self.0.launcher.get_or_init(|| launch::launcher_of(&self.0.afk))
    }

    /// Hides these files and folders from every child that starts from now on.
    pub(crate) fn hide(&self, paths: Vec<PathBuf>) {
        *self.0.hidden.write_locked() = paths;
    }

    fn hidden(&self) -> RwLockReadGuard<'_, Vec<PathBuf>> {
        self.0.hidden.read_locked()
    }

    pub(super) fn folders(&self) -> MutexGuard<'_, OwnerFolders> {
        self.0.folders.locked()
    }

    pub(super) fn groups(&self) -> &Groups {
        &self.0.groups
    }

    pub(super) fn latest_walk(&self) -> &LatestWalk {
        &self.0.latest_walk
    }

    pub(super) fn grace(&self) -> Duration {
        self.0.grace
    }

    /// Cuts short the grace of every tree that is ending or will end.
    pub(crate) fn hasten(&self) {
        self.0.hastened.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_hastened(&self) -> bool {
        self.0.hastened.load(Ordering::Relaxed)
    }

    /// Whether a process carries the mark of this supervisor's journal.
    pub(super) fn is_ours(&self, process: &procfs::Process) -> bool {
        process.has(marks::STATE, &self.0.state)
    }

    /// Whether a process descends from a child of this journal's afk, of whatever life, and has cleared its
    /// environment.
    pub(super) fn descends(&self, process: &procfs::Process) -> bool {
        let number = lineage::number_of(&self.0.state);
        number.is_some()
            && process.get(marks::STATE).is_none()
            && lineage::carried(process.pid) == number
    }

    /// Whether a process is a child of ours (an agent, a test command) or a descendant of one. A
    /// process that has ended counts as one, since its owner can't be determined any more.
    pub(crate) fn is_below(&self, pid: i32) -> bool {
        let orphan_test = OrphanTest::of_this_process();
        let mut next = pid;
        for _ in 0..MAX_ANCESTORS {
            if next <= 1 {
                return false;
            }
            let Some(process) = procfs::process(next) else { return next == pid };
            if self.is_ours(&process) {
                return true;
            }
            if process.parent == orphan_test.own_pid {
                return orphan_test.matches(&process)
                    || awaited_when_settled().owners.contains_key(&process.pid);
            }
            next = process.parent;
        }
        true
    }

    /// The command itself in a process group of its own, for children that don't need the launcher:
    /// no path is hidden, we have no terminal to protect, and their own children end with them.
    fn direct_command(&self, spec: &Spec) -> Option<Command> {
        let behind_wall = spec.sandbox.is_some();
        if self.0.terminal || spec.leaves_children || behind_wall || !self.hidden().is_empty() {
            return None;
        }
        let path = spec.env.get("PATH").map(OsString::from).or_else(|| std::env::var_os("PATH"));
        // A relative path would depend on the child's working directory.
        let program = on_path(&spec.program, path.as_deref()).filter(|path| path.is_absolute())?;
        let mut command = Command::new(program);
        command.arg0(&spec.program).process_group(0);
        Some(command)
    }

    /// The command behind the launcher, which enters the control group, starts a session and hides the
    /// hidden paths.
    fn launcher_command(&self, spec: &Spec, group: Option<&ChildGroup>) -> io::Result<Command> {
        let mut command = Command::new(self.launcher());
        command.arg(launch::WORD);
        if let Some(soft) = descriptors::original_limit() {
            command.arg(launch::DESCRIPTORS).arg(soft.to_string());
        }
        if let Some(group) = group {
            command.arg(launch::GROUP).arg(group.group().folder());
        }
        let hidden = self.hidden();
        match &spec.sandbox {
            Some(sandbox) => {
                let mut sandbox = sandbox.clone();
                sandbox.hidden.extend(hidden.iter().cloned());
                sandbox.leaves_children |= spec.leaves_children;
                let plan = serde_json::to_string(&sandbox).map_err(io::Error::other)?;
                command.arg(launch::SANDBOX).arg(plan);
            }
            None => {
                for path in hidden.iter() {
                    command.arg(launch::HIDE).arg(path);
                }
            }
        }
        command.arg(&spec.program);
        Ok(command)
    }

    /// Sets the arguments, the folder, the marks and the allowed environment, and nothing else.
    fn configure(&self, command: &mut Command, spec: &Spec) {
        command.args(&spec.args).current_dir(&spec.cwd).env_clear();
        command.envs(inherited()).envs(&spec.env).env("TERM", "dumb");
        command.env(marks::STATE, &self.0.state).env(marks::RUN, &spec.owner);
        if spec.leaves_children {
            command.env(marks::DEPLOY, "1");
        }
    }

    /// Starts a child with three pipes and no access to our terminal.
    ///
    /// # Errors
    /// The child can't be started. A program that doesn't exist may instead show as the launcher's
    /// exit code 127.
    pub fn start(&self, spec: &Spec, stdin: StdinMode) -> io::Result<ChildHandle> {
        self.folders().entry(spec.owner.clone()).or_default().insert(spec.cwd.clone());
        let begin = |mut command: Command| -> io::Result<ChildHandle> {
            self.configure(&mut command, spec);
            command.stdin(stdin.stdio()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let started = ChildHandle::spawn(&mut command, &spec.owner)?;
            if !spec.may_leave_children() {
                lineage::give(Pid::from_raw(started.pid), lineage::number_of(&self.0.state));
            }
            if let Some(pid) = Pid::from_raw(started.pid) {
                // A failure costs only the lower priority.
                let _ = setpriority_process(Some(pid), self.0.niceness);
            }
            Ok(started)
        };
        // The launcher explains in the child's own output why a program does not start.
        if let Some(Ok(started)) = self.direct_command(spec).map(begin) {
            return Ok(started);
        }
        let group = self.group_for(spec)?;
        let mut started = begin(self.launcher_command(spec, group.as_ref())?)?;
        started.group = group;
        Ok(started)
    }

    /// Starts a command of our own (git) with the marks, but without a session of its own and with
    /// the environment that the caller set.
    pub(crate) fn start_own(&self, command: &mut Command, owner: &str) -> io::Result<ChildHandle> {
        command.env(marks::OWN, "1");
        self.start_interruptible(command, owner)
    }

    /// [`Supervisor::start_own`] for a command that the end of afk may interrupt at any time.
    pub(crate) fn start_interruptible(
        &self,
        command: &mut Command,
        owner: &str,
    ) -> io::Result<ChildHandle> {
        command.env(marks::STATE, &self.0.state).env(marks::RUN, owner);
        ChildHandle::spawn(command, owner)
    }
}
