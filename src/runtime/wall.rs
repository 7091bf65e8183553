//! Derives the sandbox of each program that isn't ours from the configuration.
//!
//! ```text
//! [sandbox], [repos.X], the agent's preset ─┐
//! the program's own folders (Grants) ───────┼─► Wall::sandbox ─► Spec ─► Supervisor ─► launcher
//! the level that works here (tried once) ───┘
//! ```

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, OnceLock, RwLock};

use super::agent_home::{self, Seed};
use crate::config::Config;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::config::network::HostPattern;
use crate::config::repos::DeployAccess;
use crate::config::sandbox::SandboxConfig;
use crate::egress::{EgressPolicy, EgressProxy};
use crate::error::chain;
use crate::lock::{LockExt, RwLockExt};
use crate::process::Supervisor;
use crate::process::level::{Probe, strongest};
use crate::sandbox::cgroup::{CgroupChoice, GroupLimits, Subtree};
use crate::sandbox::{Level, NetworkPolicy, Sandbox, user_home};
use crate::workspace::pool::Sandboxes;
use crate::workspace::{submodules, trash};

/// Toolchains and programs below a home that every program behind the wall may read.
const TOOLCHAINS: &[&str] = &[
    ".asdf",
    ".bun/bin",
    ".cargo/bin",
    ".cargo/config.toml",
    ".cargo/env",
    ".deno/bin",
    ".jabba",
    ".local/bin",
    ".local/lib",
    ".local/pipx",
    ".local/share/mise",
    ".local/share/uv",
    ".nvm",
    ".npm-global",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".rvm",
    ".sdkman",
    ".volta",
    "go/bin",
];

/// What one program needs beside what every program may reach.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    pub read: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
    /// What the owner grants to this program alone.
    pub needs: DeployAccess,
    /// A home of the owner's choice, which outlives the run.
    pub home: Option<PathBuf>,
    /// The files that the program's home starts with: a login, and settings.
    pub seeds: Vec<Seed>,
    /// What of a private home is deleted before.
    pub forget: Vec<String>,
    /// The network policy; that of `[sandbox]` if none.
    pub network: Option<NetworkPolicy>,
    /// Hosts that the program must reach with the policy `proxy`.
    pub hosts: Vec<HostPattern>,
}

/// Whose home and temporary files a program gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner<'a> {
    /// Those of a run, a job or a conversation, which its later programs find again.
    Named(&'a str),
    /// Nobody's: they end with the program.
    Nobody,
}

/// The wall of one runtime.
#[derive(Debug)]
pub(crate) struct Wall {
    supervisor: Supervisor,
    /// The state folder, which no program behind the wall sees as a whole.
    state: PathBuf,
    config: RwLock<SandboxConfig>,
    /// The level that works here, tried once.
    probe: OnceLock<Probe>,
    /// The egress proxies of owners, with their hosts.
    proxies: Mutex<BTreeMap<String, (Vec<HostPattern>, EgressProxy)>>,
}

impl Wall {
    pub(crate) fn new(supervisor: Supervisor, state: PathBuf, config: &SandboxConfig) -> Self {
        let config = RwLock::new(config.clone());
        Self { supervisor, state, config, probe: OnceLock::new(), proxies: Mutex::default() }
    }

    /// The state folder.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// Puts another configuration in force, for programs that start from now on.
    pub(super) fn configure(&self, config: &SandboxConfig) {
        *self.config.write_locked() = config.clone();
    }

    fn config(&self) -> SandboxConfig {
        self.config.read_locked().clone()
    }

    /// The level in force. The first call tries what works, which takes some hundredths of a
    /// second.
    ///
    /// # Errors
    /// A line that says why the configured level doesn't work here, or that none does.
    pub(crate) fn level(&self) -> Result<Level, String> {
        let wanted = self.config().level;
        if wanted == Some(Level::None) {
            return Ok(Level::None);
        }
        self.probe.get_or_init(|| strongest(self.supervisor.launcher())).in_force(wanted)
    }

    /// What a person should know of the wall: that there is none, or why no program starts.
    pub(super) fn problem(&self) -> Option<String> {
        match self.level() {
            Ok(Level::None) => {
                let line = "SANDBOX NONE, as configured: programs have every right of this user";
                Some(line.to_owned())
            }
            Ok(_) => None,
            Err(why) => Some(why),
        }
    }

    /// The sandbox of a program of `owner`; none at level `none`.
    ///
    /// # Errors
    /// As [`Wall::level`]; or the program's own folders can't be made.
    pub(crate) fn sandbox(
        &self,
        owner: Owner<'_>,
        grants: Grants,
    ) -> Result<Option<Sandbox>, String> {
        let level = self.level()?;
        if level == Level::None {
            return Ok(None);
        }
        let config = self.config();
        let network = grants.network.unwrap_or(config.network);
        if network != NetworkPolicy::Full && level != Level::Strong {
            return Err(format!(
                "the network policy needs the level strong, and {level} is in force"
            ));
        }
        // What is written to a missing folder would land in the program's own `/tmp` and be lost.
        let mut granted = grants.needs.write.iter().chain(&config.write);
        if let Some(missing) = granted.find(|path| !path.exists()) {
            return Err(format!(
                "{} is granted for writing and doesn't exist: create it, or drop it from `write`",
                missing.display()
            ));
        }
        let made = |path: PathBuf| match std::fs::create_dir_all(&path) {
            Ok(()) => Ok(path),
            Err(error) => Err(format!("create {}: {error}", path.display())),
        };
        let (home, temporary) = match owner {
            Owner::Nobody => (None, None),
            Owner::Named(owner) => {
                let private = self.private(owner);
                let is_private = grants.home.is_none();
                let home = made(grants.home.unwrap_or_else(|| private.join("home")))?;
                if is_private {
                    agent_home::forget(&home, &grants.forget);
                }
                agent_home::plant(&home, &grants.seeds)?;
                (Some(home), Some(made(private.join("tmp"))?))
            }
        };
        let proxy = match owner {
            Owner::Named(owner) if network == NetworkPolicy::Proxy => {
                let hosts = [&config.hosts[..], &grants.hosts].concat();
                Some(self.proxy(owner, hosts)?)
            }
            _ => None,
        };
        let mut read = grants.read;
        read.extend(grants.needs.read);
        read.extend(config.read.iter().cloned());
        read.extend(tools());
        let mut write = grants.write;
        write.extend(grants.needs.write);
        write.extend(config.write.iter().cloned());
        Ok(Some(Sandbox {
            level,
            network,
            read,
            write,
            hidden: vec![self.state.clone()],
            home,
            temporary,
            proxy,
            leaves_children: false,
        }))
    }

    /// The socket of the proxy through which an owner reaches only these hosts.
    fn proxy(&self, owner: &str, hosts: Vec<HostPattern>) -> Result<PathBuf, String> {
        let path = self.private(owner).join("egress/socket");
        let mut proxies = self.proxies.locked();
        if proxies.get(owner).is_none_or(|(known, _)| *known != hosts) {
            let policy = EgressPolicy {
                run: owner.to_owned(),
                list: "`hosts` of [sandbox] in afk.toml".to_owned(),
                hosts: hosts.clone(),
            };
            // The old socket goes before the new one takes its path.
            proxies.remove(owner);
            let proxy = EgressProxy::open(&path, policy).map_err(|error| chain(&error))?;
            proxies.insert(owner.to_owned(), (hosts, proxy));
        }
        Ok(path)
    }

    /// The folder with the home and the temporary files of an owner.
    fn private(&self, owner: &str) -> PathBuf {
        self.state.join("private").join(owner)
    }

    /// Deletes the home and the temporary files of an owner, also folders that a program closed.
    ///
    /// # Errors
    /// Something can't be deleted.
    pub(crate) fn forget(&self, owner: &str) -> std::io::Result<()> {
        if let Some((_, proxy)) = self.proxies.locked().remove(owner) {
            let refused = proxy.refusals().total;
            if refused > 0 {
                tracing::info!(owner, refused, "the egress proxy refused connections");
            }
        }
        trash::remove(&self.private(owner))
    }

    /// The sandbox of git in a tree that borrows the objects of a repository of ours.
    ///
    /// # Errors
    /// A line that says why the wall can't be built. git must not run then.
    pub(super) fn git_sandbox(
        &self,
        tree: &Path,
        repository: &Path,
    ) -> Result<Option<Sandbox>, String> {
        let grants = Grants {
            read: borrowed_objects(repository),
            write: vec![tree.to_owned()],
            // git has nothing to fetch there. Without namespaces there is no such policy.
            network: (self.level()? == Level::Strong).then_some(NetworkPolicy::None),
            ..Grants::default()
        };
        self.sandbox(Owner::Nobody, grants)
    }
}

impl Sandboxes for Wall {
    fn of(&self, workspace: &Path) -> Result<Option<Sandbox>, String> {
        self.git_sandbox(workspace, workspace.parent().unwrap_or(workspace))
    }
}

/// Puts each program behind the wall into a control group of its own, where the system lets afk make
/// them.
///
/// # Errors
/// The configuration names a folder for them that can't be used.
pub(super) fn use_groups(
    supervisor: &Supervisor,
    config: &Config,
    journal_id: &str,
) -> Result<(), String> {
    let choice = &config.sandbox.cgroup;
    match Subtree::open(choice, journal_id) {
        Ok(subtree) => {
            tracing::info!(folder = subtree.summary(), "programs get control groups");
            supervisor.limit(group_limits(config));
            supervisor.use_groups(subtree);
        }
        Err(error) if matches!(choice, CgroupChoice::Folder(_)) => {
            return Err(format!("sandbox.cgroup: {}", chain(&error)));
        }
        Err(error) => tracing::info!(why = chain(&error), "programs get no control groups"),
    }
    Ok(())
}

/// The bounds of a program's control group.
pub(super) fn group_limits(config: &Config) -> GroupLimits {
    let memory = config.limits.memory_mib.checked_mul(1024 * 1024);
    GroupLimits { memory, ..GroupLimits::default() }
}

/// The objects that the workspaces of a repository borrow from its base clone, and from the mirrors
/// of its submodules.
pub(super) fn borrowed_objects(repository: &Path) -> Vec<PathBuf> {
    vec![repository.join("base.git/objects"), submodules::mirrors(repository)]
}

/// The toolchains in the user's home, and the folders of `PATH`.
fn tools() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut tools: Vec<PathBuf> = std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute() && folder != Path::new("/"))
        .collect();
    if let Some(home) = user_home() {
        // A folder above the home would show all of it.
        tools.retain(|folder| !home.starts_with(folder));
        tools.extend(TOOLCHAINS.iter().map(|name| home.join(name)));
    }
    tools
}

/// Writes a new file below a folder that a program can write to, without following a link there.
pub(super) fn write_below(folder: &Path, name: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let parent = make_below(folder, name.parent().unwrap_or(Path::new("")))?;
    let name = name.file_name().unwrap_or_default();
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::from(0o600))?;
    std::fs::File::from(file).write_all(bytes)
}

/// Writes a file below a folder that a program can write to, in place of whatever file or link is
/// there.
pub(super) fn replace_below(folder: &Path, name: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let parent = make_below(folder, name.parent().unwrap_or(Path::new("")))?;
    let old = name.file_name().unwrap_or_default();
    match rustix::fs::unlinkat(parent, old, rustix::fs::AtFlags::empty()) {
        Err(error) if error != rustix::io::Errno::NOENT => return Err(error.into()),
        _ => {}
    }
    write_below(folder, name, bytes)
}

/// Makes a folder below one that a program can write to, maybe at this moment, and opens it. A link
/// on the way is refused: it would have us make a folder anywhere.
fn make_below(folder: &Path, name: &Path) -> std::io::Result<OwnedFd> {
    let folder_only = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(folder, folder_only, Mode::empty())?;
    for part in name.components() {
        let part = match part {
            Component::Normal(part) => part,
            Component::CurDir => continue,
            _ => return Err(std::io::Error::other("the path leads out of its folder")),
        };
        match rustix::fs::mkdirat(&at, part, Mode::from(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = rustix::fs::openat(&at, part, folder_only | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn make_below_follows_no_link_that_races_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (shared, outside) = (dir.path().join("shared"), dir.path().join("outside"));
        std::fs::create_dir_all(shared.join("deep")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, shared.join("link")).unwrap();
        assert!(make_below(&shared, Path::new("link/one")).is_err());
        assert!(write_below(&shared, Path::new("link/one"), b"x").is_err());
        assert!(make_below(&shared, Path::new("../one")).is_err());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let swap = |from: &str, to: &str| {
                    let _ = std::fs::rename(shared.join(from), shared.join(to));
                };
                while !over.load(Ordering::Relaxed) {
                    swap("deep", "aside");
                    swap("link", "deep");
                    swap("deep", "link");
                    swap("aside", "deep");
                }
            });
            for number in 0..2000 {
                let name = format!("deep/{number}");
                let _ = make_below(&shared, Path::new(&name));
                let _ = write_below(&shared, Path::new(&format!("deep/f{number}")), b"x");
            }
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert!(make_below(&shared, Path::new("a/b")).is_ok() && shared.join("a/b").is_dir());
    }
}
