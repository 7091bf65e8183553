//! A fuzz target for the reports and the output of test runners.

use std::path::Path;

use super::collector::{LONGEST_NAME, NameCollector};
use super::{detect, plain, read_lines, read_text};
use crate::config::report::KINDS;
use crate::core::model::test_report::TestOutcome;

/// Reads a text as each kind of report: names are short, and in one line.
pub(crate) fn reports(data: &[u8]) {
    let (raw, lines) = (String::from_utf8_lossy(data), plain(data));
    let detected = detect::kinds(&lines);
    for (_, kind) in KINDS {
        let mut names = NameCollector::new(Path::new("/srv/tree-1"));
        if let Err(why) = read_text(*kind, &raw, &mut names) {
            assert!(!why.is_empty(), "an error without a reason");
        }
        if detected.contains(kind) {
            read_lines(*kind, &lines, &mut names);
        }
        let Ok(report) = names.finish() else { panic!("{} bytes name too many tests", data.len()) };
        assert!(report.len() <= data.len() + 1, "{} tests of {} bytes", report.len(), data.len());
        for outcome in [TestOutcome::Passed, TestOutcome::Failed, TestOutcome::Skipped] {
            for name in report.with(outcome) {
                let name = name.0.as_received();
                assert!(!name.contains(char::is_control), "{name:?} is not one line");
                assert!(name.len() <= LONGEST_NAME, "a name of {} bytes", name.len());
            }
        }
    }
}
