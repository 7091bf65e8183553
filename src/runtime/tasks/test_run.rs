//! One run of a repository's test command in a fresh checkout, behind the wall.

use std::convert::Infallible;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use git2::Oid;
use tokio::time::sleep;

use super::TaskError;
use super::command_context::CommandContext;
use super::setup::{Ready, SetupFailure, TreeUse};
use crate::config::report::ReportFormat;
use crate::config::repository::RepositoryRules;
use crate::core::model::gate_report::{GateRun, TestExit, TestRun};
use crate::core::model::id::Sha;
use crate::core::model::plural::plural;
use crate::core::model::test_report::{TestOutcome, TestReport};
use crate::error::chain;
use crate::process::Spec;
use crate::runtime::wall::Grants;
use crate::sandbox::{Level, NetworkPolicy};
use crate::test_report::ReportReader;
use crate::workspace::pool::Pool;

/// The most output of a test command that is searched for names, in bytes.
const OUTPUT_LIMIT: u64 = 64 * 1024 * 1024;
/// The most output that is searched for the number of tests on the row, in bytes.
const COUNT_LIMIT: u64 = 4 * 1024 * 1024;
/// The pause between two counts of the tests on the row.
const COUNT_PAUSE: Duration = Duration::from_secs(1);
/// How much longer the pause is than the count before it took.
const COUNT_SHARE: u32 = 20;
/// The words of a test command that stand for the changed test files.
const TESTS: &str = "{tests}";

/// What to check out.
#[derive(Debug)]
pub(super) struct Checkout<'a> {
    /// The commit that is checked out.
    pub commit: &'a Sha,
    /// The files, if they differ from the commit's.
    pub tree: Option<Oid>,
    /// The test files that a command with `{tests}` runs alone; all of them if empty.
    pub test_files: &'a [Vec<u8>],
    /// How many tests an earlier run of all of them has named, for the row.
    pub known_tests: Option<usize>,
}

/// Gets a fresh checkout ready and runs the test command in it. The inner error is a line for the
/// agent, whose commits can't be checked out as they are.
pub(super) async fn run(
    commands: &CommandContext,
    pool: &Pool,
    rules: &RepositoryRules,
    run: GateRun,
    checkout: &Checkout<'_>,
) -> Result<Result<TestRun, String>, TaskError> {
    let ready = match prepare(commands, pool, rules, run, checkout).await {
        Ok(ready) => ready,
        Err(failure) if failure.outage.is_some() => return Err(failure.into()),
        Err(failure) => return Ok(failure.into_test_exit().map(TestRun::new)),
    };
    let names = NameReader::before_run(&rules.gate.report, &ready.tree).await?;
    let command = command(&rules.test, rules.setup.dir.as_deref(), checkout.test_files);
    let mut spec = Spec::shell(&commands.owner, &command, &ready.folder);
    spec.env.clone_from(&ready.env);
    spec.sandbox = commands.ready_sandbox(&ready, needs(rules))?;
    let limit = Duration::from_secs(60 * commands.config.limits.test_minutes);
    let started = Instant::now();
    let log = commands.log(&run.log_name());
    let what = run.summary();
    commands.show(Some(&format!("testing {what}"))).await;
    let finished = tokio::select! {
        finished = commands.runtime.supervisor.run(&spec, &log, limit) => finished,
        never = show_count(commands, &what, &names, &log, checkout.known_tests) => match never {},
    };
    commands.show(None).await;
    let finished = finished.map_err(|error| format!("the test command: {error}"))?;
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let passed = finished.code == Some(0);
    let (names, unread) = match names.after_run(log).await? {
        Ok(names) => (names, None),
        // A command that failed early, as at a compiler's error, writes no report.
        Err(_) if !passed => (None, None),
        Err(why) => (None, Some(why)),
    };
    let exit = match finished.code {
        Some(0) => match unread {
            None => TestExit::Passed,
            Some(why) => TestExit::Broken { why: why.into() },
        },
        Some(126 | 127) => {
            let tail = finished.tail.as_received();
            let why = format!("the test command `{command}`: {}\n{tail}", finished.summary());
            TestExit::Missing { why: why.into() }
        }
        Some(code) => TestExit::Failed { code, log: finished.tail },
        None => TestExit::Died { how: finished.summary().into(), log: finished.tail },
    };
    Ok(Ok(TestRun { exit, names, took_ms }))
}

/// Checks out, lays the files of the run over the commit, and gets the tree ready.
async fn prepare(
    commands: &CommandContext,
    pool: &Pool,
    rules: &RepositoryRules,
    run: GateRun,
    checkout: &Checkout<'_>,
) -> Result<Ready, SetupFailure> {
    let tree = commands.check_out(pool, rules, &commands.proving_tree(), checkout.commit).await?;
    if let Some(files) = checkout.tree {
        tree.fill(files).await?;
    }
    commands.get_ready(pool, rules, tree, checkout.commit, TreeUse::Proof(run.name())).await
}

/// Shows on the run's row how many tests the output names so far, for as long as the caller waits.
async fn show_count(
    commands: &CommandContext,
    what: &str,
    names: &NameReader,
    log: &Path,
    known: Option<usize>,
) -> Infallible {
    let mut shown = 0;
    let mut pause = COUNT_PAUSE;
    loop {
        sleep(pause).await;
        let begun = Instant::now();
        let count = names.count_so_far(log.to_owned()).await;
        // Each count reads the whole output again.
        pause = COUNT_PAUSE.max(begun.elapsed() * COUNT_SHARE);
        if count <= shown {
            continue;
        }
        shown = count;
        let of = known.filter(|known| *known >= count).map(|known| format!(" of {known}"));
        let text = format!("tested {count}{}: {what}", of.unwrap_or_default());
        commands.show(Some(&text)).await;
    }
}

/// Reads the names of the tests, off the runtime's threads.
struct NameReader {
    reader: Arc<ReportReader>,
    /// Whether the configuration names a format, so that a run without names proves nothing.
    is_configured: bool,
}

impl NameReader {
    async fn before_run(format: &ReportFormat, tree: &Path) -> Result<Self, TaskError> {
        let is_configured = !matches!(format, ReportFormat::Auto | ReportFormat::None);
        let (format, tree) = (format.clone(), tree.to_owned());
        let prepare = move || ReportReader::before_run(&format, &tree);
        let reader = tokio::task::spawn_blocking(prepare).await.map_err(|e| e.to_string())?;
        let reader = Arc::new(reader.map_err(|error| chain(&error))?);
        Ok(Self { reader, is_configured })
    }

    /// How many tests the output of an unfinished run names; 0 where report files will name them.
    async fn count_so_far(&self, log: PathBuf) -> usize {
        let reader = self.reader.clone();
        let count = move || {
            let mut output = Vec::new();
            File::open(&log).ok()?.take(COUNT_LIMIT).read_to_end(&mut output).ok()?;
            Some(reader.so_far(&output))
        };
        tokio::task::spawn_blocking(count).await.ok().flatten().unwrap_or(0)
    }

    /// The names, or the reason why those that the configuration asks for can't be read.
    async fn after_run(
        self,
        log: PathBuf,
    ) -> Result<Result<Option<TestReport>, String>, TaskError> {
        let read = move || {
            let mut output = Vec::new();
            let file = File::open(&log).map_err(|error| format!("{}: {error}", log.display()))?;
            let read = file.take(OUTPUT_LIMIT).read_to_end(&mut output);
            read.map_err(|error| format!("{}: {error}", log.display()))?;
            let names = self.reader.after_run(&output).map_err(|error| chain(&error))?;
            if names.is_none() && self.is_configured {
                return Err("no test ran: neither the report nor the output names one".to_owned());
            }
            Ok(names)
        };
        Ok(tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?)
    }
}

/// The test command for some files: `{tests}` becomes their names in the folder `dir`, or nothing
/// where all tests run.
fn command(template: &str, dir: Option<&str>, files: &[Vec<u8>]) -> String {
    let quoted = |file: &Vec<u8>| {
        let name = std::str::from_utf8(file).ok()?;
        let name = match dir {
            Some(dir) => name.strip_prefix(dir)?.strip_prefix('/')?,
            None => name,
        };
        Some(format!("'{}'", name.replace('\'', "'\\''")))
    };
    // A name that is no text, or lies elsewhere, can't be passed on; then all tests run.
    let names: Option<Vec<String>> = files.iter().map(quoted).collect();
    template.replace(TESTS, &names.unwrap_or_default().join(" "))
}

/// What the test command may reach beside its tree.
fn needs(rules: &RepositoryRules) -> Grants {
    let network = (!rules.gate.network).then_some(NetworkPolicy::None);
    Grants { network, ..Grants::default() }
}

/// The level of the sandbox in which the tests run, for the proof.
pub(super) fn sandbox_summary(
    commands: &CommandContext,
    rules: &RepositoryRules,
) -> Result<String, TaskError> {
    let sandbox = commands.command_sandbox(&commands.proving_tree(), needs(rules))?;
    Ok(sandbox.map_or_else(
        || Level::None.to_string(),
        |sandbox| {
            let network = match sandbox.network {
                NetworkPolicy::Full => "full network",
                NetworkPolicy::Proxy => "network by proxy",
                NetworkPolicy::None => "no network",
            };
            format!("{}, {network}", sandbox.level)
        },
    ))
}

/// A run in one line, for the transcript.
pub(super) fn summary(run: &TestRun) -> String {
    let count = |outcome| run.names.iter().flat_map(|names| names.with(outcome)).count();
    let names = match (count(TestOutcome::Passed), count(TestOutcome::Failed)) {
        (0, 0) => String::new(),
        (passed, failed) => format!(" ({} passed, {failed} failed)", plural(passed, "test")),
    };
    let how = match &run.exit {
        TestExit::Passed => "the tests pass".into(),
        TestExit::Failed { code, .. } => format!("the tests fail, exit code {code}"),
        TestExit::Died { how, .. } => format!("the test command {}", how.clean_line()),
        TestExit::Missing { .. } | TestExit::Broken { .. } => "the tests can't be run".into(),
    };
    format!("{how}{names}, {}", run.seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholder_becomes_the_quoted_names() {
        let files = [b"tests/a b.sh".to_vec(), b"it's".to_vec()];
        assert_eq!(command("run {tests}", None, &files), "run 'tests/a b.sh' 'it'\\''s'");
        assert_eq!(command("run {tests}", None, &[]), "run ");
        assert_eq!(command("run {tests}", None, &[b"caf\xe9".to_vec()]), "run ");
        assert_eq!(command("run {tests}", Some("web"), &[b"web/a.js".to_vec()]), "run 'a.js'");
        assert_eq!(command("run {tests}", Some("web"), &[b"webber/a.js".to_vec()]), "run ");
        assert_eq!(command("./test.sh", None, &files), "./test.sh");
    }
}
