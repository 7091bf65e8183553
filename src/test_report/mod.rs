//! The names and results of tests, read from a run of the test command.
//!
//! The gate compares two runs by the names of their tests, so a name must be the same in each run.
//! Code of the agent writes both the output and the reports. Every reader is therefore bounded, takes
//! linear time, and never panics.
//!
//! ```text
//! [gate] report ─► ReportReader::before_run(tree)   which reports are there already?
//!                          │  the test command runs
//!                          ▼
//!                  ReportReader::after_run(output)
//!                    ├ files: a walk that follows no link ─┐
//!                    ├ output: escape sequences removed    ├─► one reader per format ─► TestReport
//!                    └ auto: formats found in the output ──┘
//! ```
//!
//! The gate and `afk init` call this module. It blocks on files.

mod collector;
mod detect;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod go;
mod jest;
mod junit;
mod libtest;
mod nextest;
mod node_spec;
mod pytest;
mod tap;
#[cfg(test)]
mod tests;
mod unittest;
mod vitest;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::collector::NameCollector;
use self::files::FileIdentity;
use crate::config::report::{ReportFormat, ReportKind};
use crate::core::model::test_report::TestReport;
use crate::core::model::untrusted::clean;
use crate::redact::Redactor;

/// The names of the tests can't be determined, although the configuration says where they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error(
        "the test command wrote no report: no new file matches {glob:?}, which `[gate] report` names"
    )]
    Missing { glob: String },
    #[error("the test report {path} can't be read")]
    Unreadable { path: String, source: std::io::Error },
    #[error("the test report {path} has more than {} MiB", files::LARGEST_FILE >> 20)]
    TooLarge { path: String },
    #[error(
        "the test reports that match {glob:?} are more than {} files or {} MiB",
        files::MOST_FILES,
        files::LARGEST_TOTAL >> 20
    )]
    TooMany { glob: String },
    #[error(
        "the search for {glob:?} met more than {} files: name a folder in `[gate] report`",
        files::MOST_ENTRIES
    )]
    TooWide { glob: String },
    #[error("the test report {path} is not {expected}: {why}")]
    Malformed { path: String, expected: &'static str, why: String },
    #[error("the run names more than {} tests", collector::MOST_TESTS)]
    TooManyTests,
}

/// Reads the results of one run of the test command in one checkout.
#[derive(Debug)]
pub(crate) struct ReportReader {
    format: ReportFormat,
    tree: PathBuf,
    /// The report files from before the run, which say nothing about it.
    earlier: BTreeMap<Vec<u8>, FileIdentity>,
}

impl ReportReader {
    /// Prepares to read the results of a run that has not begun yet.
    ///
    /// # Errors
    /// The checkout has too many files to be searched for earlier reports.
    pub(crate) fn before_run(format: &ReportFormat, tree: &Path) -> Result<Self, ReportError> {
        let earlier = match format {
            ReportFormat::Files { glob, .. } => files::identities(tree, glob)?,
            _ => BTreeMap::new(),
        };
        Ok(Self { format: format.clone(), tree: tree.to_owned(), earlier })
    }

    /// How many tests the output of a run that has not ended names; 0 if only files name them.
    pub(crate) fn so_far(&self, output: &[u8]) -> usize {
        match &self.format {
            ReportFormat::None | ReportFormat::Files { .. } => 0,
            _ => self.after_run(output).ok().flatten().map_or(0, |report| report.len()),
        }
    }

    /// Reads the results after the run: from its new report files, or from its `output`. None if the
    /// output names no test, so that only the exit code counts.
    ///
    /// # Errors
    /// The report that the configuration names is missing, unreadable or too large.
    pub(crate) fn after_run(&self, output: &[u8]) -> Result<Option<TestReport>, ReportError> {
        let mut names = NameCollector::new(&self.tree);
        match &self.format {
            ReportFormat::None => return Ok(None),
            ReportFormat::Files { kind, glob } => {
                let reports = files::read_new(&self.tree, glob, &self.earlier)?;
                if reports.is_empty() {
                    return Err(ReportError::Missing { glob: glob.glob().to_owned() });
                }
                for report in reports {
                    let text = String::from_utf8_lossy(&report.content);
                    read_text(*kind, &text, &mut names).map_err(|why| ReportError::Malformed {
                        path: report.path,
                        expected: "a report in JUnit's XML",
                        why,
                    })?;
                }
            }
            ReportFormat::Output(kind) => read_lines(*kind, &plain(output), &mut names),
            ReportFormat::Auto => {
                let text = plain(output);
                for kind in detect::kinds(&text) {
                    read_lines(kind, &text, &mut names);
                }
            }
        }
        let report = names.finish()?;
        Ok(Some(report).filter(|report| !report.is_empty()))
    }
}

/// The text of an output, without secrets and without what a terminal would obey.
fn plain(output: &[u8]) -> String {
    clean(&String::from_utf8_lossy(&Redactor::default().clean_bytes(output)))
}

/// Reads a report file.
///
/// # Errors
/// A line that says why the text is not XML of `JUnit`.
fn read_text(kind: ReportKind, text: &str, names: &mut NameCollector) -> Result<(), String> {
    if kind.needs_file() {
        return junit::read(kind, text, names);
    }
    read_lines(kind, &clean(text), names);
    Ok(())
}

/// Reads lines of plain text. XML has none of them.
fn read_lines(kind: ReportKind, text: &str, names: &mut NameCollector) {
    match kind {
        ReportKind::Junit | ReportKind::PytestJunit | ReportKind::JestJunit => {}
        ReportKind::Tap => tap::read(text, names),
        ReportKind::Libtest => libtest::read(text, names),
        ReportKind::LibtestJson => libtest::read_json(text, names),
        ReportKind::Nextest => nextest::read(text, names),
        ReportKind::Pytest => pytest::read(text, names),
        ReportKind::Unittest => unittest::read(text, names),
        ReportKind::Go => go::read(text, names),
        ReportKind::GoTestJson => go::read_json(text, names),
        // The default reporter depends on the version of Node.js.
        ReportKind::Node if text.lines().any(|line| line.starts_with("TAP version ")) => {
            tap::read(text, names);
        }
        ReportKind::Node => node_spec::read(text, names),
        ReportKind::Jest => jest::read(text, names),
        ReportKind::Vitest => vitest::read(text, names),
    }
}

/// The longest place of a test: its program, package, file or suites. It stands in the name of each
/// test below it, so a long one would cost its length for each of them.
const LONGEST_PLACE: usize = 1024;

/// The start of a place that is too long.
fn cut(place: &str) -> &str {
    &place[..place.floor_char_boundary(LONGEST_PLACE)]
}

/// The name of a test or a suite below a place.
fn below(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place} > {name}") }
}

/// The text before a duration at its end, such as ` (1.5 ms)` or ` (2 s)`.
fn without_duration(text: &str) -> &str {
    let shorter = || {
        let (before, inside) = text.strip_suffix(')')?.rsplit_once(" (")?;
        let number = inside.strip_suffix("ms").or_else(|| inside.strip_suffix('s'))?.trim_end();
        let numeric = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        numeric.then_some(before)
    };
    shorter().unwrap_or(text)
}

/// The number of spaces at the start of a line, and the rest.
fn indentation(line: &str) -> (usize, &str) {
    let rest = line.trim_start_matches(' ');
    (line.len() - rest.len(), rest)
}
