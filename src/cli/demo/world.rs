//! The folder of a demo: bare remotes, issues and a configuration. It is created beside its final place and
//! renamed, so that an interrupted demo leaves no half folder.

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::machine::DemoMachine;

/// The file that marks the folder of a demo, and holds its ports: of the platform, and of the machine's
/// hypervisor and guest. afk removes no folder without it.
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

/// The folder of a demo.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) root: PathBuf,
    /// The port of its platform.
    pub(super) port: u16,
    /// The VM and its hypervisor; none in the folder of an earlier afk's demo.
    pub(super) machine: Option<DemoMachine>,
}

impl World {
    /// Opens the demo in `root`, or creates it. `agent` is the afk program; `pace` is the pause after each
    /// line of the agent, in milliseconds.
    pub(super) fn open(root: &Path, agent: &Path, pace: u64) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        if let Ok(text) = std::fs::read_to_string(root.join(MARK)) {
            let ports: Result<Vec<u16>, _> = text.split_whitespace().map(str::parse).collect();
            let ports = ports.map_err(io::Error::other)?;
            let port =
                ports.first().copied().ok_or_else(|| io::Error::other("no port is in it"))?;
            let machine = match ports[1..] {
                [hypervisor, guest, ..] => Some(DemoMachine::new(&root, [hypervisor, guest])),
                _ => None,
            };
            return Ok(Self { root, port, machine });
        }
        if root.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            let text = format!("{} is not empty and not the folder of a demo", root.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let unfinished = root.with_extension("new");
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished)?;
        }
        let [port, hypervisor, guest] = free_ports()?;
        let machine = Some(DemoMachine::new(&root, [hypervisor, guest]));
        let world = Self { root: root.clone(), port, machine };
        world.fill(&unfinished, agent, pace)?;
        if root.exists() {
            std::fs::remove_dir(&root)?;
        }
        std::fs::rename(&unfinished, &root)?;
        Ok(world)
    }

    fn fill(&self, unfinished: &Path, agent: &Path, pace: u64) -> io::Result<()> {
        for (name, files) in REPOSITORIES {
            let work = unfinished.join("work").join(name);
            for (path, text) in *files {
                let root = self.platform().display().to_string();
                let text = text
                    .replace("{{root}}", &root)
                    .replace("{{name}}", name)
                    .replace("{{port}}", &self.port.to_string());
                write(&work.join(path), &text)?;
            }
            std::fs::create_dir_all(unfinished.join("platform").join(name))?;
            let bare = unfinished.join("remotes").join(format!("{name}.git"));
            std::fs::create_dir_all(&bare)?;
            git(&bare, &["init", "--quiet", "--bare", "--initial-branch=master"])?;
            // The log of each push lets tests count pushes.
            git(&bare, &["config", "core.logAllRefUpdates", "true"])?;
            git(&work, &["init", "--quiet", "--initial-branch=master"])?;
            git(&work, &["add", "--all"])?;
            git(&work, &["commit", "--quiet", "-m", "Begin"])?;
            let address = bare.display().to_string();
            git(&work, &["push", "--quiet", &address, "master"])?;
        }
        for (name, text) in ISSUES {
            write(&unfinished.join("issues").join(name), text)?;
        }
        write(&unfinished.join("afk.toml"), &self.configuration(agent, pace))?;
        let mut mark = format!("{}\n", self.port);
        if let Some(machine) = &self.machine {
            DemoMachine::create(unfinished)?;
            for port in machine.ports() {
                mark.push_str(&format!("{port}\n"));
            }
        }
        write(&unfinished.join(MARK), &mark)
    }

    fn configuration(&self, agent: &Path, pace: u64) -> String {
        let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
        let mut text = format!(
            "# The configuration of the demo. docs/configuration.md explains each key.\n\
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
            text.push_str(&format!(
                "\n[repos.\"acme/{name}\"]\nremote = {}\ndeploy = {{ write = [{}] }}\n",
                quoted(&remote),
                quoted(&self.platform().join(name))
            ));
        }
        text.push_str(&self.machine.as_ref().map(DemoMachine::configuration).unwrap_or_default());
        text
    }

    pub(super) fn config(&self) -> PathBuf {
        self.root.join("afk.toml")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The folder that services are deployed to.
    pub(super) fn platform(&self) -> PathBuf {
        self.root.join("platform")
    }

    /// Removes the folder of a demo. Fails for any other folder.
    pub(super) fn remove(root: &Path) -> io::Result<()> {
        if !root.join(MARK).is_file() {
            let text = format!("{} is not the folder of a demo", root.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        std::fs::remove_dir_all(root)
    }
}

/// Finds free ports below the range of ephemeral ports, so that no connection takes one before the next
/// start of the demo.
fn free_ports<const COUNT: usize>() -> io::Result<[u16; COUNT]> {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let from = nanos.wrapping_add(std::process::id().wrapping_mul(7919)) % 12_000;
    let ports = (0..12_000).filter_map(|n| u16::try_from(20_000 + (from + n) % 12_000).ok());
    let free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let found: Vec<u16> = free.take(COUNT).collect();
    found.try_into().map_err(|_| {
        io::Error::new(io::ErrorKind::AddrInUse, "too few ports from 20000 to 31999 are free")
    })
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
    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    Err(io::Error::other(format!("git {}: {}", args[0], error.trim())))
}
