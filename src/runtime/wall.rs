//! Derives the sandbox of each program that isn't ours from the configuration.
//!
//! ```text
//! [sandbox], [repos.X], the agent's preset ─┐
//! the program's own folders (Grants) ───────┼─► Wall::sandbox ─► Spec ─► Supervisor ─► launcher
//! the level that works here (tried once) ───┘
//! ```

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, RwLock};

use crate::config::network::HostPattern;
use crate::config::repos::DeployAccess;
use crate::config::sandbox::SandboxConfig;
use crate::egress::{EgressPolicy, EgressProxy};
use crate::error::chain;
use crate::lock::{LockExt, RwLockExt};
use crate::process::Supervisor;
use crate::process::level::{Probe, strongest};
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
    /// Files below the user's home that the program's own home starts with: a login.
    pub seeds: Vec<String>,
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
    pub(super) fn new(supervisor: Supervisor, state: PathBuf, config: &SandboxConfig) -> Self {
        let config = RwLock::new(config.clone());
        Self { supervisor, state, config, probe: OnceLock::new(), proxies: Mutex::default() }
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
                let home = made(grants.home.unwrap_or_else(|| private.join("home")))?;
                seed(&home, &grants.seeds);
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
}

impl Sandboxes for Wall {
    fn of(&self, workspace: &Path) -> Result<Option<Sandbox>, String> {
        let grants = Grants {
            read: workspace.parent().map(borrowed_objects).unwrap_or_default(),
            write: vec![workspace.to_owned()],
            // git has nothing to fetch there. Without namespaces there is no such policy.
            network: (self.level()? == Level::Strong).then_some(NetworkPolicy::None),
            ..Grants::default()
        };
        self.sandbox(Owner::Nobody, grants)
    }
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

/// Copies files of the user's home into a private one, unless they are there. A login that the
/// program renews stays its own. A link that the program left in its home is not followed.
fn seed(home: &Path, seeds: &[String]) {
    let Some(user) = user_home() else { return };
    for name in seeds {
        let (from, to) = (user.join(name), home.join(name));
        if to.symlink_metadata().is_ok() || !from.is_file() {
            continue;
        }
        let copied =
            std::fs::read(&from).and_then(|bytes| write_below(home, Path::new(name), &bytes));
        if let Err(error) = copied {
            tracing::warn!(path = %from.display(), %error, "a login can't be copied");
        }
    }
}

/// Writes a new file below a folder that a program can write to, without following a link there.
/// The program doesn't run meanwhile.
pub(super) fn write_below(folder: &Path, name: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut at = folder.to_owned();
    let parents = name.parent().into_iter().flat_map(Path::components);
    for part in parents {
        at.push(part);
        match at.symlink_metadata() {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(std::io::Error::other("a link or a file is in the way")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir(&at)?;
            }
            Err(error) => return Err(error),
        }
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(folder.join(name))?.write_all(bytes)
}
