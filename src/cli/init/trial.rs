//! Tries a proposed test command once, as the gate would run it: in a clean checkout, behind the wall.
//!
//! ```text
//! repository ── clone, borrowing its objects ──► STATE/init-trial/tree ── sh -c COMMAND, walled ──► log
//!                                                                                                    │
//!                                              Trial: how it ended, the names of the tests, the end ◄┘
//! ```

use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::signal::unix::SignalKind;
use tokio::time::timeout;

use super::suite::ProposedSuite;
use crate::config::report::ReportFormat;
use crate::config::sandbox::SandboxConfig;
use crate::core::model::plural::plural;
use crate::core::model::test_report::{TestOutcome, TestReport};
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::error::chain;
use crate::process::output::CommandOutcome;
use crate::process::{Spec, Supervisor};
use crate::runtime::{Grants, Owner, Wall};
use crate::test_report::{ReportError, ReportReader};
use crate::workspace::trash;

/// The owner of the trial's processes and of its home.
const OWNER: &str = "init";
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

/// A trial that ran, or that the user or the limit ended.
#[derive(Debug)]
pub(super) struct Trial {
    end: TrialEnd,
    seconds: u64,
    tests: Result<Option<TestReport>, ReportError>,
}

#[derive(Debug)]
enum TrialEnd {
    Ran(CommandOutcome),
    Interrupted,
}

/// Where and how long the trial runs.
#[derive(Debug)]
pub(super) struct TrialPlace {
    /// The repository's top folder.
    pub top: PathBuf,
    /// The folder with the repository's objects.
    pub objects: PathBuf,
    /// afk's state folder.
    pub state: PathBuf,
    /// The program of afk itself.
    pub launcher: PathBuf,
    pub limit: Duration,
}

/// Runs a suite once. `announce` receives the level of the wall and the commit, before the suite starts.
///
/// # Errors
/// A line that says why it can't be tried.
pub(super) async fn run(
    place: &TrialPlace,
    suite: &ProposedSuite,
    announce: impl FnOnce(&str),
) -> Result<Trial, String> {
    let folder = place.state.join("init-trial");
    let cleared = |folder: &Path| match trash::remove(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("delete {}: {error}", folder.display()))
        }
        _ => Ok(()),
    };
    cleared(&folder)?;
    let had_state = place.state.exists();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| format!("create {}: {error}", folder.display()))?;
    let tried = run_in(&folder, place, suite, announce).await;
    let removed = cleared(&folder);
    if !had_state {
        // The first start makes it again; another afk may have put something there.
        let _ = std::fs::remove_dir(&place.state);
    }
    let trial = tried?;
    removed?;
    Ok(trial)
}

async fn run_in(
    folder: &Path,
    place: &TrialPlace,
    suite: &ProposedSuite,
    announce: impl FnOnce(&str),
) -> Result<Trial, String> {
    let tree = folder.join("tree");
    let commit = clone(&place.top, &tree).await?;
    let supervisor =
        Supervisor::new(place.launcher.clone(), format!("init-{}", std::process::id()), GRACE);
    let wall = Wall::new(supervisor.clone(), folder.join("state"), &SandboxConfig::default());
    let level = wall.level()?;
    let grants = Grants {
        read: vec![place.objects.clone()],
        write: vec![tree.clone()],
        ..Grants::default()
    };
    let mut spec = Spec::shell(OWNER, &suite.command(), &tree);
    spec.sandbox = wall.sandbox(Owner::Named(OWNER), grants)?;
    let format = suite.report.map(|text| ReportFormat::try_from(text.to_owned()));
    let format = format.transpose()?.unwrap_or_default();
    let reader = ReportReader::before_run(&format, &tree).map_err(|error| chain(&error))?;
    // Caught before the announcement says that it can be pressed.
    let mut interrupts = tokio::signal::unix::signal(SignalKind::interrupt())
        .map_err(|error| format!("catch Ctrl-C: {error}"))?;
    announce(&format!("on a clean checkout of {commit}, behind the wall ({level})"));
    let log = folder.join("log");
    let begun = Instant::now();
    let end = tokio::select! {
        ran = supervisor.run(&spec, &log, place.limit) => {
            TrialEnd::Ran(ran.map_err(|error| format!("start the test command: {error}"))?)
        }
        _ = interrupts.recv() => {
            supervisor.end(OWNER).await;
            TrialEnd::Interrupted
        }
    };
    let seconds = begun.elapsed().as_secs();
    let mut output = Vec::new();
    if let Ok(file) = std::fs::File::open(&log) {
        let _ = file.take(LARGEST_OUTPUT).read_to_end(&mut output);
    }
    let tests = reader.after_run(&output);
    // Otherwise the folder below goes with the trial's.
    let _ = wall.forget(OWNER);
    Ok(Trial { end, seconds, tests })
}

/// Clones the current commit and returns its short name. The clone borrows the objects, so that it
/// costs no copy, and runs no hook.
async fn clone(top: &Path, tree: &Path) -> Result<String, String> {
    let mut head = git();
    head.arg("-C").arg(top);
    head.args(["rev-parse", "--short", "--verify", "--quiet", "HEAD^{commit}"]);
    // `--quiet` prints nothing where there is no commit.
    let commit = output(head).await.map_err(|why| match why.as_str() {
        "" => "the repository has no commit yet".to_owned(),
        why => why.to_owned(),
    })?;
    let mut copy = git();
    copy.args(["clone", "--quiet", "--shared", "--no-tags", "--"]).arg(top).arg(tree);
    output(copy).await.map_err(|why| format!("clone the repository: {why}"))?;
    Ok(commit)
}

fn git() -> Command {
    let mut command = Command::new("git");
    command
        .args(["-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    command
}

async fn output(mut command: Command) -> Result<String, String> {
    match timeout(CLONE, command.output()).await {
        Err(_) => Err(format!("git took longer than {} s", CLONE.as_secs())),
        Ok(Err(error)) => Err(format!("start git: {error}")),
        Ok(Ok(out)) if out.status.success() => {
            Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
        }
        Ok(Ok(out)) => Err(clean_line(String::from_utf8_lossy(&out.stderr).trim())),
    }
}

impl Trial {
    /// Whether the suite passed.
    pub(super) fn passed(&self) -> bool {
        matches!(&self.end, TrialEnd::Ran(outcome) if outcome.code == Some(0)) && self.tests.is_ok()
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
