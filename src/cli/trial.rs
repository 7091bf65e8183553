//! Tries a test command once, as the gate would run it: in a clean checkout, behind the wall. `afk init`
//! tries the command that it proposes, `afk doctor` the one of the branch that runs begin from.
//!
//! ```text
//! repository or remote ── clone ──► STATE/trial/PID/tree ── sh -c COMMAND, walled ──► log
//!                                                                                      │
//!                                Trial: how it ended, the names of the tests, the end ◄┘
//! ```

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::signal::unix::SignalKind;
use tokio::time::timeout;

use super::git_call;
use crate::config::report::ReportFormat;
use crate::config::sandbox::SandboxConfig;
use crate::core::model::plural::plural;
use crate::core::model::test_report::{TestOutcome, TestReport};
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::error::chain;
use crate::process::output::CommandOutcome;
use crate::process::{Spec, Supervisor};
use crate::runtime::{Grants, Owner, Wall};
use crate::sandbox::{Level, NetworkPolicy};
use crate::test_report::{ReportError, ReportReader};
use crate::workspace::trash;

/// The folder of trials in the state folder. Each has one of its own there, named like its process.
const FOLDER: &str = "trial";
/// The owner of the trial's processes and of its home.
const OWNER: &str = "trial";
/// The longest time of the clone.
const CLONE: Duration = Duration::from_secs(60);
/// The time between TERM and KILL.
const GRACE: Duration = Duration::from_secs(2);
/// The largest output that is read for names.
const LARGEST_OUTPUT: u64 = 16 << 20;
/// The lines from the end of the output that are shown.
const SHOWN_LINES: usize = 15;
/// The failed tests that are named.
const SHOWN_TESTS: usize = 5;

/// How much later than a child this process hears of one Ctrl-C.
const SAME_KEY: Duration = Duration::from_millis(500);
/// The exit code after Ctrl-C.
const INTERRUPTED: i32 = 130;

/// A trial that ran, or that the user or the limit ended.
#[derive(Debug)]
pub(super) struct Trial {
    end: TrialEnd,
    seconds: u64,
    tests: Result<Option<TestReport>, ReportError>,
    /// Whether a run with a test would have named it.
    would_name: bool,
}

#[derive(Debug)]
enum TrialEnd {
    Ran(CommandOutcome),
    Interrupted,
}

/// The commit that is cloned for the trial.
#[derive(Debug)]
pub(super) enum TrialSource {
    /// The current commit of the repository at `top`, whose objects the clone borrows.
    Folder { top: PathBuf, objects: PathBuf },
    /// The newest commit of a branch of a remote.
    Remote { address: String, branch: String, ssh_command: Option<String> },
}

/// The command to try.
#[derive(Debug, Clone, Default)]
pub(super) struct TrialCommand {
    /// A line for `sh -c`.
    pub line: String,
    /// Where the names of the tests are.
    pub report: ReportFormat,
    /// The folder that it runs in, below the top.
    pub dir: Option<String>,
    pub env: BTreeMap<String, String>,
    /// What it may reach over the network; what `[sandbox]` says where there is none.
    pub network: Option<NetworkPolicy>,
}

/// A clean checkout in afk's state folder, which goes away with it.
#[derive(Debug)]
pub(super) struct TrialCheckout {
    folder: PathBuf,
    /// The state folder, where the trial has created it: the first start makes it again.
    new_state: Option<PathBuf>,
    source: TrialSource,
    /// The short name of the commit.
    pub commit: String,
}

impl Drop for TrialCheckout {
    fn drop(&mut self) {
        // The next trial removes a folder that can't be removed now, and another trial may have one too.
        let _ = trash::remove(&self.folder);
        let _ = self.folder.parent().map(std::fs::remove_dir);
        if let Some(state) = &self.new_state {
            // Another afk may have put something there.
            let _ = std::fs::remove_dir(state);
        }
    }
}

impl TrialCheckout {
    /// Clones the source into a folder of the trial's own below `state`.
    ///
    /// # Errors
    /// A line that says why it can't be cloned.
    pub(super) async fn new(state: &Path, source: TrialSource) -> Result<Self, String> {
        let all = state.join(FOLDER);
        discard_abandoned(&all);
        let folder = all.join(std::process::id().to_string());
        if let Err(error) = trash::remove(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(format!("delete {}: {error}", folder.display()));
        }
        let new_state = (!state.exists()).then(|| state.to_owned());
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        let mut this = Self { folder, new_state, source, commit: String::new() };
        made.map_err(|error| format!("create {}: {error}", this.folder.display()))?;
        this.commit = clone(&this.source, &this.tree()).await?;
        Ok(this)
    }

    /// The folder with the files.
    pub(super) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Runs a command once, in this checkout. `announce` receives the level of the wall, before the
    /// command starts.
    ///
    /// # Errors
    /// A line that says why it can't be tried.
    pub(super) async fn run(
        &self,
        command: &TrialCommand,
        sandbox: &SandboxConfig,
        limit: Duration,
        announce: impl FnOnce(Level),
    ) -> Result<Trial, String> {
        let tree = self.tree();
        let launcher = super::own_program().map_err(|failure| chain(&failure))?;
        let id = format!("{OWNER}-{}", std::process::id());
        let supervisor = Supervisor::new(launcher, id, GRACE);
        let wall = Wall::new(supervisor.clone(), self.folder.join("state"), sandbox);
        let level = wall.level()?;
        let read = match &self.source {
            TrialSource::Folder { objects, .. } => vec![objects.clone()],
            TrialSource::Remote { .. } => Vec::new(),
        };
        let write = vec![tree.clone()];
        let grants = Grants { read, write, network: command.network, ..Grants::default() };
        let cwd = command.dir.as_ref().map_or_else(|| tree.clone(), |dir| tree.join(dir));
        let mut spec = Spec::shell(OWNER, &command.line, &cwd);
        spec.env.clone_from(&command.env);
        spec.sandbox = wall.sandbox(Owner::Named(OWNER), grants)?;
        let reader = ReportReader::before_run(&command.report, &tree);
        let reader = reader.map_err(|error| chain(&error))?;
        // Caught before the announcement says that it can be pressed.
        let mut interrupts = tokio::signal::unix::signal(SignalKind::interrupt())
            .map_err(|error| format!("catch Ctrl-C: {error}"))?;
        announce(level);
        let log = self.folder.join("log");
        let begun = Instant::now();
        let end = tokio::select! {
            biased;
            _ = interrupts.recv() => {
                supervisor.end(OWNER).await;
                TrialEnd::Interrupted
            }
            ran = supervisor.run(&spec, &log, limit) => {
                let ran = ran.map_err(|error| format!("start the test command: {error}"))?;
                // Ctrl-C also ends a launcher that has no session of its own yet, and its end may be seen first.
                let is_killed = ran.code.is_none() && !ran.timed_out && ran.memory.is_none();
                if is_killed && timeout(SAME_KEY, interrupts.recv()).await.is_ok() {
                    TrialEnd::Interrupted
                } else {
                    TrialEnd::Ran(ran)
                }
            }
        };
        // Once caught, Ctrl-C would end nothing any more.
        tokio::spawn(async move {
            if interrupts.recv().await.is_some() {
                std::process::exit(INTERRUPTED);
            }
        });
        let seconds = begun.elapsed().as_secs();
        let mut output = Vec::new();
        if let Ok(file) = std::fs::File::open(&log) {
            let _ = file.take(LARGEST_OUTPUT).read_to_end(&mut output);
        }
        let tests = reader.after_run(&output);
        // Otherwise the folder below goes with the trial's.
        let _ = wall.forget(OWNER);
        let is_named = !matches!(command.report, ReportFormat::Auto | ReportFormat::None);
        let would_name = is_named || ran_no_test(&String::from_utf8_lossy(&output));
        Ok(Trial { end, seconds, tests, would_name })
    }
}

/// Removes the folders of trials whose process is gone.
fn discard_abandoned(all: &Path) {
    for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if pid.is_none_or(|pid: i32| crate::process::procfs::process(pid).is_none()) {
            // A folder that can't be removed takes room, and disturbs nothing.
            let _ = trash::remove(&entry.path());
        }
    }
}

/// Whether a runner that afk recognises prints that it had no test, and none that it had one: a suite can
/// have an empty part.
fn ran_no_test(output: &str) -> bool {
    let had_some = |line: &str| {
        let count = ["running ", "Ran ", "# tests ", "ℹ tests ", "1.."]
            .iter()
            .find_map(|start| line.trim().strip_prefix(start));
        let digits = count.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        digits.and_then(|digits| digits.parse::<u64>().ok()).is_some_and(|count| count > 0)
            || line.starts_with("ok  \t")
    };
    if output.lines().any(had_some) {
        return false;
    }
    let says = |line: &str| {
        let line = line.trim();
        ["running 0 tests", "# tests 0", "ℹ tests 0", "1..0"].contains(&line)
            || ["Ran 0 tests in ", "No tests found", "No test files found"]
                .iter()
                .any(|start| line.starts_with(start))
            || line.ends_with("[no test files]")
            || line.contains(" no tests ran ")
    };
    output.lines().any(says)
}

/// Clones the commit and returns its short name. The clone of a folder borrows the objects, so that it
/// costs no copy. No hook runs.
async fn clone(source: &TrialSource, tree: &Path) -> Result<String, String> {
    let ssh_command = match source {
        TrialSource::Folder { .. } => None,
        TrialSource::Remote { ssh_command, .. } => ssh_command.as_deref(),
    };
    let mut copy = git_call::command(ssh_command, None);
    copy.args(["clone", "--quiet", "--no-tags"]).env("GIT_LFS_SKIP_SMUDGE", "1");
    match source {
        TrialSource::Folder { top, .. } => {
            // `--quiet` prints nothing where there is no commit.
            short_head(top).await.map_err(|why| match why.as_str() {
                "" => "the repository has no commit yet".to_owned(),
                why => why.to_owned(),
            })?;
            copy.args(["--shared", "--"]).arg(top);
        }
        TrialSource::Remote { address, branch, .. } => {
            copy.args(["--depth", "1", "--branch", branch, "--", address]);
        }
    }
    let copied = git_call::output(copy.arg(tree), CLONE).await;
    copied.map_err(|why| format!("clone the repository: {why}"))?;
    short_head(tree).await
}

async fn short_head(dir: &Path) -> Result<String, String> {
    let head = ["rev-parse", "--short", "--verify", "--quiet", "HEAD^{commit}"];
    git_call::git(&head, Some(dir)).await
}

impl Trial {
    /// Whether the suite passed.
    pub(super) fn passed(&self) -> bool {
        matches!(&self.end, TrialEnd::Ran(outcome) if outcome.code == Some(0)) && self.tests.is_ok()
    }

    /// Whether it passed without a test.
    pub(super) fn proves_nothing(&self) -> bool {
        self.passed() && !self.has_names() && self.would_name
    }

    /// Whether its program is missing.
    pub(super) const fn is_missing(&self) -> bool {
        matches!(&self.end, TrialEnd::Ran(outcome) if matches!(outcome.code, Some(126 | 127)))
    }

    /// Whether the limit ended it.
    pub(super) const fn is_unfinished(&self) -> bool {
        matches!(&self.end, TrialEnd::Ran(outcome) if outcome.timed_out)
    }

    /// Whether the user ended it, who then needs no explanation.
    pub(super) const fn interrupted(&self) -> bool {
        matches!(self.end, TrialEnd::Interrupted)
    }

    /// How it ended, in one sentence without its subject: "passed in 3 s, with 12 tests by name".
    pub(super) fn summary(&self) -> String {
        let TrialEnd::Ran(outcome) = &self.end else { return "was interrupted".to_owned() };
        let seconds = plural(self.seconds, "second");
        let how = match outcome.code {
            Some(0) => format!("passed in {seconds}"),
            _ if outcome.timed_out => format!("was still running after {seconds} and was stopped"),
            Some(126 | 127) => format!("can't be run: {}", outcome.summary()),
            Some(code) => format!("failed in {seconds} with exit code {code}"),
            None => format!("was ended by a signal after {seconds}"),
        };
        clean_line(&format!("{how}{}", self.named()))
    }

    /// What the trial tells about the names of the tests.
    fn named(&self) -> String {
        match &self.tests {
            Ok(Some(report)) => {
                let failed = report.with(TestOutcome::Failed).count();
                let count = plural(report.len(), "test");
                match failed {
                    0 => format!(", with {count} by name"),
                    _ => format!(": {failed} of {count} failed"),
                }
            }
            Ok(None) => String::new(),
            Err(error) => format!("; {}", chain(error)),
        }
    }

    /// Whether the gate can compare tests by name.
    pub(super) const fn has_names(&self) -> bool {
        matches!(&self.tests, Ok(Some(_)))
    }

    /// The names of some failed tests, and how many more there are.
    pub(super) fn failed_tests(&self) -> Vec<String> {
        let Ok(Some(report)) = &self.tests else { return Vec::new() };
        let mut names: Vec<String> =
            report.with(TestOutcome::Failed).map(|name| name.0.clean_line()).collect();
        let more = names.len().saturating_sub(SHOWN_TESTS);
        names.truncate(SHOWN_TESTS);
        if more > 0 {
            names.push(format!("and {more} more"));
        }
        names
    }

    /// The last lines of the output.
    pub(super) fn end_of_log(&self) -> Vec<String> {
        let TrialEnd::Ran(CommandOutcome { tail, .. }) = &self.end else { return Vec::new() };
        last_lines(tail)
    }
}

fn last_lines(tail: &Untrusted) -> Vec<String> {
    let text = tail.clean();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(SHOWN_LINES);
    lines[from..].iter().map(|line| line.chars().take(200).collect()).collect()
}
