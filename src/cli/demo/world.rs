//! The demo's folder: bare remotes, issues, configuration. Made whole, or not at all.

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Marks a folder as a demo's: only such a one is ever removed.
const MARK: &str = ".afk-demo";

type Files = &'static [(&'static str, &'static str)];

macro_rules! asset {
    ($path:literal) => {
        include_str!(concat!("../../../assets/demo/", $path))
    };
}

const REPOSITORIES: &[(&str, Files)] = &[
    (
        "greeter",
        &[
            (".afk.toml", asset!("service.afk.toml")),
            ("README.md", asset!("greeter/README.md")),
            ("app.sh", asset!("greeter/app.sh")),
            ("deploy.files", asset!("greeter/deploy.files")),
            ("deploy.sh", asset!("deploy.sh")),
            ("test.sh", asset!("test.sh")),
            ("tests/hello.sh", asset!("greeter/tests/hello.sh")),
        ],
    ),
    (
        "ledger",
        &[
            (".afk.toml", asset!("library.afk.toml")),
            ("README.md", asset!("ledger/README.md")),
            ("ledger.sh", asset!("ledger/ledger.sh")),
            ("test.sh", asset!("test.sh")),
            ("tests/count.sh", asset!("ledger/tests/count.sh")),
        ],
    ),
    (
        "pulse",
        &[
            (".afk.toml", asset!("service.afk.toml")),
            ("README.md", asset!("pulse/README.md")),
            ("app.sh", asset!("pulse/app.sh")),
            ("deploy.files", asset!("pulse/deploy.files")),
            ("deploy.sh", asset!("deploy.sh")),
            ("test.sh", asset!("test.sh")),
            ("tests/beat.sh", asset!("pulse/tests/beat.sh")),
        ],
    ),
];

const ISSUES: Files = &[
    ("01-greet-by-name.md", asset!("issues/01-greet-by-name.md")),
    ("02-say-goodbye.md", asset!("issues/02-say-goodbye.md")),
    ("03-shout.md", asset!("issues/03-shout.md")),
    ("04-sum.md", asset!("issues/04-sum.md")),
    ("05-round.md", asset!("issues/05-round.md")),
    ("06-describe.md", asset!("issues/06-describe.md")),
    ("07-maybe.md", asset!("issues/07-maybe.md")),
    ("08-uptime.md", asset!("issues/08-uptime.md")),
    ("09-moon.md", asset!("issues/09-moon.md")),
    ("10-count.md", asset!("issues/10-count.md")),
    ("11-vault.md", asset!("issues/11-vault.md")),
];

/// A demo's folder.
#[derive(Debug, Clone)]
pub struct World {
    /// Where it lies.
    pub root: PathBuf,
    /// Where its services answer.
    pub port: u16,
}

impl World {
    /// Opens the demo in `root`, or makes it. `agent` is the afk program; `pace` the pause after
    /// each of the agent's words, in milliseconds.
    ///
    /// # Errors
    /// Where the folder holds something else, or can't be written.
    pub fn open(root: &Path, agent: &Path, pace: u64) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        if let Ok(text) = std::fs::read_to_string(root.join(MARK)) {
            let port = text.trim().parse().map_err(io::Error::other)?;
            return Ok(Self { root, port });
        }
        if root.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            let text = format!("{} holds something else than a demo", root.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        // Made aside, so that one that was cut is not taken for whole.
        let aside = root.with_extension("new");
        if aside.exists() {
            std::fs::remove_dir_all(&aside)?;
        }
        let port = free_port()?;
        let world = Self { root: root.clone(), port };
        world.fill(&aside, agent, pace)?;
        if root.exists() {
            std::fs::remove_dir(&root)?;
        }
        std::fs::rename(&aside, &root)?;
        Ok(world)
    }

    fn fill(&self, aside: &Path, agent: &Path, pace: u64) -> io::Result<()> {
        for (name, files) in REPOSITORIES {
            let work = aside.join("work").join(name);
            for (path, text) in *files {
                let root = self.platform().display().to_string();
                let text = text
                    .replace("{{root}}", &root)
                    .replace("{{name}}", name)
                    .replace("{{port}}", &self.port.to_string());
                write(&work.join(path), &text)?;
            }
            let bare = aside.join("remotes").join(format!("{name}.git"));
            std::fs::create_dir_all(&bare)?;
            git(&bare, &["init", "--quiet", "--bare", "--initial-branch=master"])?;
            // Each push leaves a line, so that what was pushed can be counted.
            git(&bare, &["config", "core.logAllRefUpdates", "true"])?;
            git(&work, &["init", "--quiet", "--initial-branch=master"])?;
            git(&work, &["add", "--all"])?;
            git(&work, &["commit", "--quiet", "-m", "Begin"])?;
            let address = bare.display().to_string();
            git(&work, &["push", "--quiet", &address, "master"])?;
        }
        for (name, text) in ISSUES {
            write(&aside.join("issues").join(name), text)?;
        }
        write(&aside.join("afk.toml"), &self.configuration(agent, pace))?;
        write(&aside.join(MARK), &format!("{}\n", self.port))
    }

    fn configuration(&self, agent: &Path, pace: u64) -> String {
        let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
        let mut text = format!(
            "# The demo's configuration. Everything in it is explained in docs/configuration.md.\n\
             kill_switch = false\n\
             allowlist = [\"acme/greeter\", \"acme/ledger\", \"acme/pulse\"]\n\
             trusted = [\"ana\", \"ben\"]\n\
             agent = \"scripted\"\n\
             capacity = 2\n\n\
             [tracker]\nfolder = \"issues\"\n\n\
             [budget]\nday_usd = 5.0\nturn_reserve_usd = 0.1\n\n\
             [fix_forward]\nattempts = 2\n\n\
             [agents.scripted]\ncommand = [{}, \"__demo-agent\"]\n\
             set = {{ AFK_DEMO_PACE = \"{pace}\" }}\n",
            quoted(agent)
        );
        for (name, _) in REPOSITORIES {
            let remote = self.root.join("remotes").join(format!("{name}.git"));
            text.push_str(&format!("\n[repos.\"acme/{name}\"]\nremote = {}\n", quoted(&remote)));
        }
        text
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("afk.toml")
    }

    /// The state folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Where the services are released to.
    #[must_use]
    pub fn platform(&self) -> PathBuf {
        self.root.join("platform")
    }

    /// Removes a demo's folder, and nothing that isn't one.
    ///
    /// # Errors
    /// Where it isn't a demo's, or can't be removed.
    pub fn remove(root: &Path) -> io::Result<()> {
        if !root.join(MARK).is_file() {
            let text = format!("{} is no demo's folder", root.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        std::fs::remove_dir_all(root)
    }
}

/// A free port below those that the system gives to connections: the demo must find it free again
/// at its next start.
fn free_port() -> io::Result<u16> {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let from = nanos.wrapping_add(std::process::id().wrapping_mul(7919)) % 12_000;
    let ports = (0..12_000).filter_map(|n| u16::try_from(20_000 + (from + n) % 12_000).ok());
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no port is free"))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)?;
    if path.extension().is_some_and(|end| end == "sh") {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))?;
    }
    Ok(())
}

fn git(dir: &Path, args: &[&str]) -> io::Result<()> {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(["-c", "user.name=demo", "-c", "user.email=demo@localhost"]);
    command.args(["-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null"]).args(args);
    let done = command.stdin(Stdio::null()).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    Err(io::Error::other(format!("git {}: {}", args[0], said.trim())))
}
