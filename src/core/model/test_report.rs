//! The tests of one run of the test command, by name, as its report or its output tells them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::untrusted::Untrusted;

/// The name of one test, such as `parser::tests::reads_a_date` or `tests/test_a.py::test_b[1]`. It is
/// the same in every run of one repository's test command, so that two runs can be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TestName(pub Untrusted);

impl From<&str> for TestName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

/// The result of one test. Of two results under one name, the later one in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestOutcome {
    /// The test ran and passed.
    Passed,
    /// The runner left the test out: ignored, skipped, or expected to fail.
    Skipped,
    /// The test ran and failed, or could not be run.
    Failed,
}

/// The results of one run of the test command. Without a test, the report proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TestReport(BTreeMap<TestName, TestOutcome>);

impl TestReport {
    /// Adds a result. A name that is there already keeps the worse result: two suites may have a
    /// test of the same name, and one of them must not hide the other's failure.
    pub fn record(&mut self, name: TestName, outcome: TestOutcome) {
        let known = self.0.entry(name).or_insert(outcome);
        *known = (*known).max(outcome);
    }

    /// The result of one test, if the run has it.
    #[must_use]
    pub fn outcome(&self, name: &TestName) -> Option<TestOutcome> {
        self.0.get(name).copied()
    }

    /// The names of the tests with one outcome, in order.
    pub fn with(&self, outcome: TestOutcome) -> impl Iterator<Item = &TestName> {
        self.0.iter().filter(move |(_, found)| **found == outcome).map(|(name, _)| name)
    }

    /// Applies `change` to every name. Equal names stay equal.
    pub(crate) fn texts(&mut self, change: &mut dyn FnMut(&mut Untrusted)) {
        for (mut name, outcome) in std::mem::take(&mut self.0) {
            change(&mut name.0);
            self.record(name, outcome);
        }
    }

    /// The number of tests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the run reported no test.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_result_of_a_name_never_hides_a_failure() {
        let mut report = TestReport::default();
        report.record("a".into(), TestOutcome::Failed);
        report.record("a".into(), TestOutcome::Passed);
        report.record("b".into(), TestOutcome::Passed);
        report.record("b".into(), TestOutcome::Skipped);
        assert_eq!(report.outcome(&"a".into()), Some(TestOutcome::Failed));
        assert_eq!(report.outcome(&"b".into()), Some(TestOutcome::Skipped));
        assert_eq!(report.with(TestOutcome::Passed).count(), 0);
        assert_eq!(report.len(), 2);
    }
}
