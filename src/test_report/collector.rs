//! Collects names and results within bounds, and makes the names comparable between checkouts.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::ReportError;
use crate::core::model::test_report::{TestName, TestOutcome, TestReport};
use crate::core::model::untrusted::{Untrusted, clean_line};

/// The most tests of one run.
pub(super) const MOST_TESTS: usize = 200_000;
/// The most results of one run, also of tests with one name.
const MOST_RESULTS: usize = 2 * MOST_TESTS;
/// The most bytes of all names of one run.
const MOST_BYTES: usize = 32 << 20;
/// The longest name in bytes. A longer one keeps its start and gets a digest.
pub(super) const LONGEST_NAME: usize = 512;
/// The most bytes of a name that are looked at; the digest of a longer one covers all of it.
const LONGEST_SHOWN: usize = 400;

/// The names of one run.
#[derive(Debug)]
pub(super) struct NameCollector {
    /// The path of the checkout with a slash at its end, which names may begin with. The two sides of
    /// the gate may run at two paths.
    trees: Vec<String>,
    report: TestReport,
    results: usize,
    bytes: usize,
    full: bool,
}

impl NameCollector {
    pub(super) fn new(tree: &Path) -> Self {
        let real = tree.canonicalize().ok();
        let mut trees: Vec<String> = std::iter::once(tree)
            .chain(real.as_deref())
            .filter(|path| path.is_absolute() && *path != Path::new("/"))
            .filter_map(|path| Some(format!("{}/", path.to_str()?.trim_end_matches('/'))))
            .collect();
        trees.dedup();
        Self { trees, report: TestReport::default(), results: 0, bytes: 0, full: false }
    }

    /// Records a result. An empty name counts for nothing.
    pub(super) fn record(&mut self, name: &str, outcome: TestOutcome) {
        if self.full {
            return;
        }
        let name = self.comparable(name);
        if name.is_empty() {
            return;
        }
        let (tests, length) = (self.report.len(), name.len());
        self.report.record(TestName(Untrusted::new(name)), outcome);
        self.results += 1;
        if self.report.len() > tests {
            self.bytes += length;
        }
        self.full = self.report.len() > MOST_TESTS
            || self.results > MOST_RESULTS
            || self.bytes > MOST_BYTES;
    }

    /// The name in one line, without the path of the checkout, and cut if it is long.
    fn comparable(&self, name: &str) -> String {
        if name.len() > LONGEST_NAME {
            let digest = Sha256::digest(self.without_tree(name).as_bytes());
            let mut first = [0; 8];
            first.copy_from_slice(&digest[..8]);
            let start =
                clean_line(&self.without_tree(&name[..name.floor_char_boundary(LONGEST_NAME)]));
            let cut = start.floor_char_boundary(LONGEST_SHOWN);
            return format!("{}… {:016x}", start[..cut].trim(), u64::from_be_bytes(first));
        }
        clean_line(&self.without_tree(name)).trim().to_owned()
    }

    fn without_tree(&self, name: &str) -> String {
        self.trees.iter().fold(name.to_owned(), |name, tree| name.replace(tree.as_str(), ""))
    }

    pub(super) fn finish(self) -> Result<TestReport, ReportError> {
        if self.full { Err(ReportError::TooManyTests) } else { Ok(self.report) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &TestReport) -> Vec<&str> {
        of.with(TestOutcome::Passed).map(|name| name.0.as_received()).collect()
    }

    #[test]
    fn name_loses_the_path_of_its_checkout() {
        let mut collector = NameCollector::new(Path::new("/srv/tree-1"));
        collector.record("/srv/tree-1/test/a.mjs > adds", TestOutcome::Passed);
        collector.record(" \t ", TestOutcome::Passed);
        collector.record("two\nlines\u{1b}[31m", TestOutcome::Passed);
        assert_eq!(names(&collector.finish().unwrap()), ["test/a.mjs > adds", "two lines"]);
    }

    #[test]
    fn long_names_stay_apart() {
        let mut collector = NameCollector::new(Path::new("/"));
        let long = "é".repeat(10_000);
        collector.record(&format!("{long}1"), TestOutcome::Passed);
        collector.record(&format!("{long}2"), TestOutcome::Passed);
        let report = collector.finish().unwrap();
        assert_eq!(report.len(), 2);
        assert!(names(&report).iter().all(|name| name.len() <= LONGEST_NAME));
    }

    #[test]
    fn too_many_tests_are_an_error() {
        let mut collector = NameCollector::new(Path::new("/"));
        for test in 0..=MOST_TESTS {
            collector.record(&test.to_string(), TestOutcome::Passed);
        }
        assert!(matches!(collector.finish(), Err(ReportError::TooManyTests)));
    }
}
