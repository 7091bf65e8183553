//! A small world for one repository: a bare remote, a tracker's folder, a configuration, and an
//! agent that is a few lines of shell.

use std::path::{Path, PathBuf};
use std::time::Duration;

use afk::config::Config;
use afk::core::fleet::Fleet;
use afk::core::model::command::{Command, CommandEnvelope, Reply, Role};
use afk::core::model::id::{Actor, IssueKey, RunId};
use afk::core::model::run::Run;
use afk::runtime::{Runtime, RuntimeError, Snapshot};

use super::pty::Terminal;
use super::{AFK, git};

/// The longest wait for anything in a test.
const LIMIT: Duration = Duration::from_secs(60);

/// Shell: writes a test and the change that makes it pass, and commits both.
pub const WORK: &str = "\
mkdir -p tests && echo 'grep -q done state' > tests/state.sh && git add tests && git $US commit -qm 'Test it'
echo done > state && git add state && git $US commit -qm 'Do it'";

/// Shell: ends a turn successfully.
pub const END: &str = "echo '{\"type\":\"end\",\"status\":\"done\"}'";

/// Shell functions of a Claude Code double.
const CLAUDE: &str = include_str!("claude.sh");

pub struct World {
    pub dir: tempfile::TempDir,
    more: String,
    /// Additional lines of the agent's section.
    agent: String,
    /// The agent's command, where it isn't the script.
    command: Option<String>,
    /// The repository's URL, where it isn't the local folder.
    address: Option<String>,
    /// Additional lines of the tracker's section.
    tracker: String,
    /// Additional lines of the repository's section.
    repo: String,
    /// Whether the kill switch is on.
    held: bool,
    /// Whether the configuration is of the breakglass role: without a repository and its tracker.
    breakglass_role: bool,
    /// Additional lines of the sandbox's section.
    sandbox: String,
    /// Whether programs behind the wall reach only what they need, and not this world's folder.
    walled: bool,
    /// Folders beside this world's that programs behind the wall may read, and those that they may
    /// write too.
    readable: Vec<PathBuf>,
    writable: Vec<PathBuf>,
}

impl World {
    /// A world whose agent runs `script` in a shell that has already read the prompt's line.
    pub fn new(script: &str) -> Self {
        Self::build(
            &format!(
                "#!/bin/sh\nUS='-c user.name=agent -c user.email=agent@localhost -c commit.gpgSign=false'\nread -r prompt\n{script}\n"
            ),
            "",
        )
    }

    /// A world whose agent speaks Claude Code's protocol; `script` uses the functions of
    /// `claude.sh`.
    pub fn claude(script: &str) -> Self {
        Self::build(&format!("{CLAUDE}\n{script}\n"), "preset = 'claude'")
    }

    /// A world whose agent [`World::preset`] will set.
    pub fn without_agent() -> Self {
        Self::build("", "")
    }

    /// Makes the agent a preset with this command.
    pub fn preset(mut self, name: &str, command: &[&str], more: &str) -> Self {
        let words: Vec<String> = command.iter().map(|word| format!("'{word}'")).collect();
        self.command = Some(format!("[{}]", words.join(", ")));
        self.agent = format!("preset = '{name}'\n{more}");
        self
    }

    /// Replaces the command of the agent, whose protocol and settings stay.
    pub fn runs(mut self, command: &[&str]) -> Self {
        let words: Vec<String> = command.iter().map(|word| format!("'''{word}'''")).collect();
        self.command = Some(format!("[{}]", words.join(", ")));
        self
    }

    fn build(script: &str, agent: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Self {
            dir,
            more: String::new(),
            agent: agent.to_owned(),
            command: None,
            address: None,
            tracker: String::new(),
            repo: String::new(),
            held: false,
            breakglass_role: false,
            sandbox: String::new(),
            walled: false,
            readable: Vec::new(),
            writable: Vec::new(),
        };
        // A folder that an agent shares with the test, where it isn't behind the wall alone.
        let out = format!("#!/bin/sh\nOUT='{}'\n", world.root().display());
        let script = script.replacen("#!/bin/sh\n", &out, 1);
        std::fs::write(world.path("agent.sh"), script).unwrap();
        let work = world.path("work");
        std::fs::create_dir_all(&work).unwrap();
        std::fs::create_dir_all(world.path("issues")).unwrap();
        git(world.root(), &["init", "-q", "--bare", "--initial-branch=master", "remote.git"]);
        git(world.root(), &["-C", "remote.git", "config", "core.logAllRefUpdates", "true"]);
        git(&work, &["init", "-q", "--initial-branch=master"]);
        std::fs::write(
            work.join(".afk.toml"),
            "test = \"for t in tests/*.sh; do sh $t || exit 1; done\"\n",
        )
        .unwrap();
        std::fs::create_dir_all(work.join("tests")).unwrap();
        std::fs::write(work.join("tests/first.sh"), "true\n").unwrap();
        world.commit("Begin");
        world.issue(1, "Do it", "armed_by = 'ana'");
        world
    }

    /// Adds lines to the configuration.
    pub fn with(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self.more.push('\n');
        self
    }

    /// Adds lines to the sandbox's section.
    pub fn sandbox(mut self, more: &str) -> Self {
        self.sandbox.push_str(more);
        self.sandbox.push('\n');
        self
    }

    /// Takes the right to use this world's folder from programs behind the wall. Most tests give it
    /// to them, since their scripts leave files there for the test.
    pub fn walled(mut self) -> Self {
        self.walled = true;
        self
    }

    /// Grants a folder to programs behind the wall for reading.
    pub fn readable(mut self, folder: &Path) -> Self {
        self.readable.push(folder.to_owned());
        self
    }

    /// Grants a folder to programs behind the wall for writing.
    pub fn writable(mut self, folder: &Path) -> Self {
        self.writable.push(folder.to_owned());
        self
    }

    /// Turns the kill switch on, so that nothing is picked up.
    pub fn with_kill_switch(mut self) -> Self {
        self.held = true;
        self
    }

    /// Makes the configuration one of the breakglass role, in which an agent may use tools.
    pub fn in_breakglass_role(mut self) -> Self {
        self.breakglass_role = true;
        self.with_kill_switch()
    }

    /// Adds lines to the repository's section.
    pub fn repo(mut self, more: &str) -> Self {
        self.repo.push_str(more);
        self
    }

    /// Adds lines to the tracker's section.
    pub fn tracker(mut self, more: &str) -> Self {
        self.tracker.push_str(more);
        self
    }

    /// Puts the repository on a GitHub double that is polled every second.
    pub fn on(mut self, github: &super::github::GitHub) -> Self {
        std::fs::remove_file(self.path("issues/1.md")).unwrap();
        let token = self.path("token");
        std::fs::write(&token, "tok-afk\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&token, mode).unwrap();
        self.address = Some(format!("{}/acme/thing.git", github.address));
        let section =
            format!("[github]\napi = '{}'\ntoken = 'file:{}'", github.address, token.display());
        self.with(&section).tracker("poll_seconds = 1")
    }

    /// Puts the repository at another address than its folder.
    pub fn at(mut self, address: String) -> Self {
        self.address = Some(address);
        self
    }

    /// Adds lines to the agent's section.
    pub fn agent(mut self, more: &str) -> Self {
        self.agent.push('\n');
        self.agent.push_str(more);
        self
    }

    /// Adds lines to the repository's `.afk.toml`.
    pub fn rules(self, more: &str) -> Self {
        let path = self.path("work/.afk.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}{more}\n")).unwrap();
        self.commit("Rules");
        self
    }

    /// Starts the cockpit on this world in a terminal of 120x30.
    pub fn cockpit(&self) -> Terminal {
        self.config();
        let (config, state) = (self.path("afk.toml"), self.state());
        let places = ["--config", config.to_str().unwrap(), "--state", state.to_str().unwrap()];
        Terminal::start(&[&places[..], &["up", "--cockpit"]].concat(), 120, 30, self.root())
    }

    /// The flags for this world's configuration and state.
    pub fn places(&self) -> Vec<String> {
        let (config, state) = (self.path("afk.toml"), self.state());
        let text = |path: PathBuf| path.display().to_string();
        vec!["--config".into(), text(config), "--state".into(), text(state)]
    }

    /// Runs a command of afk on this world in a terminal.
    pub fn terminal(&self, words: &[&str], columns: u16, rows: u16) -> Terminal {
        let places = self.places();
        let args: Vec<&str> =
            places.iter().map(String::as_str).chain(words.iter().copied()).collect();
        Terminal::start(&args, columns, rows, self.root())
    }

    /// Runs `afk up` in the background until the guard is dropped.
    pub fn up(&self) -> Up {
        let (up, lines) = self.up_with_lines(1);
        assert!(lines[0].starts_with("afk runs on"), "{}", lines[0]);
        up
    }

    /// Like `up`, with the first `count` lines of its output.
    pub fn up_with_lines(&self, count: usize) -> (Up, Vec<String>) {
        self.up_with_env(&[], count)
    }

    /// Like `start`, with more variables in its environment.
    pub fn up_with_env(&self, env: &[(&str, &str)], count: usize) -> (Up, Vec<String>) {
        self.config();
        let places = self.places();
        let args: Vec<&str> = places.iter().map(String::as_str).chain(["up"]).collect();
        let mut command = super::afk(&args);
        command.envs(env.iter().copied());
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let out = std::io::BufReader::new(child.stdout.take().unwrap());
        let lines = std::io::BufRead::lines(out).map_while(Result::ok).take(count).collect();
        (Up(child), lines)
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub fn remote(&self) -> PathBuf {
        self.path("remote.git")
    }

    /// Commits everything in the work folder and pushes it.
    pub fn commit(&self, message: &str) {
        let work = self.path("work");
        git(&work, &["add", "--all"]);
        git(&work, &["commit", "-q", "-m", message]);
        git(&work, &["push", "-q", self.remote().to_str().unwrap(), "master"]);
    }

    pub fn issue(&self, number: u64, title: &str, more: &str) {
        let text = format!(
            "+++\nrepo = 'acme/thing'\nnumber = {number}\ntitle = '{title}'\nlabels = ['ready-for-agent']\n{more}\n+++\n\nDo it.\n"
        );
        std::fs::write(self.path(&format!("issues/{number}.md")), text).unwrap();
    }

    pub fn config(&self) -> Config {
        let script = format!("['sh', '{}']", self.path("agent.sh").display());
        let repository = format!(
            "[tracker]\nfolder = 'issues'\n{}\n[repos.'acme/thing']\nremote = '{}'\n{}\n",
            self.tracker,
            self.address.clone().unwrap_or_else(|| self.remote().display().to_string()),
            self.repo
        );
        let (allowlist, repository) =
            if self.breakglass_role { ("", "") } else { ("'acme/thing'", repository.as_str()) };
        let text = format!(
            "kill_switch = {}\nallowlist = [{allowlist}]\ntrusted = ['ana']\nagent = 'shell'\n{}\n\
             [sandbox]\nread = [{}]\nwrite = [{}]\n{}\n\
             [agents.shell]\ncommand = {}\n{}\n{repository}",
            self.held,
            self.more,
            list(if self.walled { "agent.sh" } else { "." }, &self.readable),
            list(if self.walled { "" } else { "." }, &self.writable),
            self.sandbox,
            self.command.as_ref().unwrap_or(&script),
            self.agent,
        );
        let path = self.path("afk.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path, &|_| None).unwrap()
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub async fn start(&self) -> Runtime {
        self.try_start(self.config(), None).await.unwrap()
    }

    pub async fn try_start(
        &self,
        config: Config,
        file: Option<PathBuf>,
    ) -> Result<Runtime, RuntimeError> {
        // As in `main`; another test of this process may have done it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Runtime::start(config, &self.state(), AFK.into(), file).await
    }

    /// The transcript of a run as text.
    pub fn transcript(&self, run: u64) -> String {
        std::fs::read_to_string(self.state().join(format!("transcripts/r{run}.jsonl")))
            .unwrap_or_default()
    }
}

/// Paths as the items of a TOML array, after `first` unless it is empty.
fn list(first: &str, more: &[PathBuf]) -> String {
    let first = (!first.is_empty()).then(|| first.to_owned());
    let paths = first.into_iter().chain(more.iter().map(|path| path.display().to_string()));
    paths.map(|path| format!("'{path}'")).collect::<Vec<_>>().join(", ")
}

/// A runtime that a test started and whose drop ends it.
pub struct Up(pub std::process::Child);

impl Up {
    /// Kills the runtime with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed())
            && self.0.try_wait().is_ok_and(|ended| ended.is_none())
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = self.0.wait();
        }
    }
}

/// Waits until `fits` returns a value for a snapshot, and returns it.
pub async fn until<T>(
    runtime: &Runtime,
    what: &str,
    fits: impl FnMut(&Snapshot) -> Option<T>,
) -> T {
    until_within(runtime, what, LIMIT, fits).await
}

/// Like `until`, with a limit of its own.
pub async fn until_within<T>(
    runtime: &Runtime,
    what: &str,
    limit: Duration,
    mut fits: impl FnMut(&Snapshot) -> Option<T>,
) -> T {
    let mut snapshots = runtime.handle.snapshots.clone();
    let waiting = async {
        loop {
            if let Some(found) = fits(&snapshots.borrow_and_update()) {
                return found;
            }
            snapshots.changed().await.unwrap();
        }
    };
    if let Ok(found) = tokio::time::timeout(limit, waiting).await {
        return found;
    }
    let snapshot = runtime.handle.snapshots.borrow();
    panic!("{what} did not come: {:#?} {:?}", snapshot.fleet.runs, snapshot.problems);
}

/// Waits until a condition outside of the runtime holds.
pub async fn wait_until(what: &str, is: impl Fn() -> bool) {
    let waiting = async {
        let mut every = tokio::time::interval(Duration::from_millis(20));
        while !is() {
            every.tick().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waiting).await.is_ok(), "{what} did not come");
}

/// Waits until the run of the first issue has ended and all of its steps are delivered.
pub async fn ended(runtime: &Runtime) -> Run {
    ended_within(runtime, LIMIT).await
}

/// Like `ended`, with a limit of its own.
pub async fn ended_within(runtime: &Runtime, limit: Duration) -> Run {
    until_within(runtime, "the end of the run", limit, |s| {
        let run = run_of(&s.fleet, 1)?;
        (run.progress.outcome.is_some() && s.fleet.outbox.is_empty()).then(|| run.clone())
    })
    .await
}

pub fn run_of(fleet: &Fleet, number: u64) -> Option<&Run> {
    let key = IssueKey::parse(&format!("acme/thing#{number}")).unwrap();
    fleet.last_run.get(&key).and_then(|id: &RunId| fleet.runs.get(id)).map(AsRef::as_ref)
}

pub async fn command(runtime: &Runtime, action: Command) -> Reply {
    as_role(runtime, Role::Operator, action).await
}

pub async fn as_role(runtime: &Runtime, role: Role, action: Command) -> Reply {
    let actor = Actor("ana".into());
    runtime
        .handle
        .command(CommandEnvelope { id: 1, actor, role, origin: "test".into(), command: action })
        .await
}
