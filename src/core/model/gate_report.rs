//! What the gate observes of a run's commits: the change, and each run of the test command. The
//! table [`crate::tables::gate`] decides on a report, and says which run comes next.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::id::Sha;
use crate::model::test_report::TestReport;
use crate::model::untrusted::Untrusted;

/// A run of the test command that the gate can ask for, each in a fresh checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateRun {
    /// The base commit as it is.
    Baseline,
    /// The base commit with the new and changed tests of the run laid over it.
    Red,
    /// The head as it is.
    Green,
    /// The head with the tests and the protected files of the base.
    OldTests,
    /// The head less one group of source hunks, by its index in [`ProposedChange::hunks`].
    Without(usize),
}

impl GateRun {
    /// The run in a few words, for the row and the transcript.
    #[must_use]
    pub fn summary(self) -> String {
        match self {
            Self::Baseline => "the base as it is".into(),
            Self::Red => "the new tests on the base".into(),
            Self::Green => "the head".into(),
            Self::OldTests => "the head with the tests of the base".into(),
            Self::Without(index) => format!("the head without change {}", index + 1),
        }
    }

    /// The kind of the run in one word, for the names of logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Red => "base",
            Self::Green => "head",
            Self::OldTests => "old-tests",
            Self::Without(_) => "without",
        }
    }

    /// The name of its log file.
    #[must_use]
    pub fn log_name(self) -> String {
        match self {
            Self::Without(index) => format!("gate-without-{}", index + 1),
            run => format!("gate-{}", run.name()),
        }
    }
}

/// How a test command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum TestExit {
    /// It exited with 0.
    Passed,
    /// It exited with another code.
    Failed {
        /// The exit code of the command.
        code: i32,
        /// The last lines of its output.
        log: Untrusted,
    },
    /// It exceeded its time limit, or a signal ended it.
    Died {
        /// Which of both, as the words after "the test command".
        how: Untrusted,
        /// The last lines of its output.
        log: Untrusted,
    },
    /// A program in it is missing or can't be executed, exit code 126 or 127.
    Missing {
        /// The command with the end of its output.
        why: Untrusted,
    },
    /// It proves nothing: its dependencies can't be installed, or no test ran at all.
    Broken {
        /// The cause, and how to fix it.
        why: Untrusted,
    },
}

/// One run of the test command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestRun {
    /// How the command ended.
    pub exit: TestExit,
    /// The results by name, where the command tells them.
    pub names: Option<TestReport>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl TestRun {
    /// A run that reports no names and took no time to speak of.
    #[must_use]
    pub const fn new(exit: TestExit) -> Self {
        Self { exit, names: None, took_ms: 0 }
    }

    /// How long it took, in seconds, for a person.
    #[must_use]
    pub fn seconds(&self) -> String {
        let tenths = self.took_ms / 100;
        format!("{}.{} s", tenths / 10, tenths % 10)
    }

    /// Whether the command exited with 0.
    #[must_use]
    pub const fn passed(&self) -> bool {
        matches!(self.exit, TestExit::Passed)
    }

    /// The results by name, where there is at least one.
    #[must_use]
    pub fn named(&self) -> Option<&TestReport> {
        self.names.as_ref().filter(|names| !names.is_empty())
    }
}

/// The class of work that an issue's label or front matter states. It decides which proof the gate
/// asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeClass {
    /// Behaviour changes: a test fails without the change and passes with it.
    #[default]
    Behaviour,
    /// Behaviour stays, as in a refactoring or a newer dependency: no new test is asked for, and
    /// none is lost.
    Refactor,
    /// Behaviour changes on purpose where it was tested: old tests may change.
    TestsChange,
    /// Something is removed with its tests: no new test is asked for, and a human approves.
    Removal,
    /// A chore that no test can show: a human approves.
    NoTest,
}

impl ChangeClass {
    /// The class that a label states, if it states one.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        match label.trim().to_ascii_lowercase().as_str() {
            "refactor" | "refactoring" | "dependencies" | "dependency" | "deps" => {
                Some(Self::Refactor)
            }
            "tests-change" => Some(Self::TestsChange),
            "removal" | "remove" => Some(Self::Removal),
            "no-test" | "chore" => Some(Self::NoTest),
            _ => None,
        }
    }

    /// The class of an issue with these labels: the one that asks a human more, if several state
    /// one.
    #[must_use]
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<Self> = labels.into_iter().filter_map(Self::from_label).collect();
        let order = [Self::NoTest, Self::Removal, Self::Refactor, Self::TestsChange];
        order.into_iter().find(|class| known.contains(class)).unwrap_or_default()
    }

    /// Whether it is the class of an issue that states none.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    #[must_use]
    pub fn is_behaviour(&self) -> bool {
        *self == Self::Behaviour
    }

    /// The class as a label spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Behaviour => "behaviour",
            Self::Refactor => "refactor",
            Self::TestsChange => "tests-change",
            Self::Removal => "removal",
            Self::NoTest => "no-test",
        }
    }
}

/// A state of the commits in which no test is worth a run: the agent must change it first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Unready {
    /// The branch has no commit and no changed file.
    NoChange,
    /// A commit message makes CI skip the commit.
    CiSkipped,
    /// The workspace or its commits can't be proven as they are.
    Unfit {
        /// The state, with the paths, and what the agent can do.
        why: Untrusted,
    },
    /// The commits hold something that must not be pushed: a secret, a huge file, a link out of the
    /// repository.
    Leaks {
        /// Each place in one line: the commit, the path, the line and the kind; never the value.
        places: Vec<Untrusted>,
    },
}

/// The files and hunks that differ between base and head, by their meaning for the gate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProposedChange {
    /// New and changed test files.
    pub tests: Vec<Untrusted>,
    /// Test files of the base that the change edits or deletes.
    pub old_tests: Vec<Untrusted>,
    /// Those of them that the change deletes and that no new test file holds unchanged.
    #[serde(default)]
    pub deleted_tests: Vec<Untrusted>,
    /// Files that decide what the test command does: its own script, configuration of tests and CI.
    pub protected: Vec<Untrusted>,
    /// Every other file that is not exempt.
    pub sources: Vec<Untrusted>,
    /// Where each group of source hunks lies, such as `src/lib.rs:12`.
    pub hunks: Vec<Untrusted>,
    /// Whether hunks outside the test files are tests.
    pub inline_tests: bool,
    /// Whether some of those can be laid over the base alone.
    pub inline_alone: bool,
    /// The difference of tests and protected files, or the whole one where a human judges it whole.
    pub diff: Untrusted,
}

impl ProposedChange {
    /// Whether only files changed that need no test.
    #[must_use]
    pub fn is_exempt(&self) -> bool {
        [&self.tests, &self.old_tests, &self.protected, &self.sources].iter().all(|f| f.is_empty())
    }
}

/// What the gate holds a change against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateRules {
    /// The class of the work.
    pub class: ChangeClass,
    /// How often a run that disagrees with what is expected is repeated.
    pub reruns: u32,
    /// Whether the report names the hunks that no test needs.
    pub needed: bool,
    /// Names of tests, with `*` for any text, that a change may remove.
    pub allow_removed: Vec<String>,
    /// The digest of the change that an operator approved.
    pub approved: Option<Digest>,
}

impl Default for GateRules {
    fn default() -> Self {
        let (class, allow_removed) = (ChangeClass::default(), Vec::new());
        Self { class, reruns: 2, needed: true, allow_removed, approved: None }
    }
}

/// The observations of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReport {
    /// The commit that the run began from.
    pub base: Sha,
    /// The commit that is to be pushed.
    pub head: Sha,
    /// What must change before a test is worth a run; none if nothing must.
    pub unready: Option<Unready>,
    /// The files and hunks that differ.
    pub change: ProposedChange,
    /// What the change is held against.
    pub rules: GateRules,
    /// The runs of the test command so far, each with its repetitions in order.
    pub runs: BTreeMap<GateRun, Vec<TestRun>>,
    /// The level of the sandbox in which the tests ran, and its network policy, for the proof.
    pub sandbox: String,
}

impl GateReport {
    /// A report without observations.
    #[must_use]
    pub fn new(base: Sha, head: Sha, rules: GateRules) -> Self {
        let (change, runs, sandbox) = (ProposedChange::default(), BTreeMap::new(), String::new());
        Self { base, head, unready: None, change, rules, runs, sandbox }
    }

    /// Adds a run of the test command.
    pub fn record(&mut self, run: GateRun, result: TestRun) {
        self.runs.entry(run).or_default().push(result);
    }

    /// The repetitions of a run, in order.
    #[must_use]
    pub fn of(&self, run: GateRun) -> &[TestRun] {
        self.runs.get(&run).map_or(&[], Vec::as_slice)
    }

    /// The places that must not be pushed, where the gate found some.
    #[must_use]
    pub(crate) fn leaks(&self) -> &[Untrusted] {
        match &self.unready {
            Some(Unready::Leaks { places }) => places,
            _ => &[],
        }
    }

    /// Applies `change` to every text that came from outside.
    pub(crate) fn texts(&mut self, change: &mut dyn FnMut(&mut Untrusted)) {
        let files = &mut self.change;
        for list in [
            &mut files.tests,
            &mut files.old_tests,
            &mut files.protected,
            &mut files.sources,
            &mut files.hunks,
        ] {
            list.iter_mut().for_each(&mut *change);
        }
        change(&mut files.diff);
        match &mut self.unready {
            Some(Unready::Unfit { why }) => change(why),
            Some(Unready::Leaks { places }) => places.iter_mut().for_each(&mut *change),
            Some(Unready::NoChange | Unready::CiSkipped) | None => {}
        }
        for run in self.runs.values_mut().flatten() {
            run.names.iter_mut().for_each(|names| names.texts(change));
            match &mut run.exit {
                TestExit::Failed { log: text, .. }
                | TestExit::Missing { why: text }
                | TestExit::Broken { why: text } => change(text),
                TestExit::Died { how, log } => {
                    change(how);
                    change(log);
                }
                TestExit::Passed => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_that_asks_more_wins() {
        for (labels, class) in [
            (vec!["bug", "p1"], ChangeClass::Behaviour),
            (vec!["Refactor"], ChangeClass::Refactor),
            (vec!["dependencies", "chore"], ChangeClass::NoTest),
            (vec!["tests-change", "removal"], ChangeClass::Removal),
        ] {
            assert_eq!(ChangeClass::from_labels(labels.iter().copied()), class, "{labels:?}");
        }
    }
}
