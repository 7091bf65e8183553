//! `[gate] report` of `.afk.toml`: where afk finds the names and the results of the tests.

use globset::{Glob, GlobBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest glob of report files, in bytes. A longer one only makes a huge pattern.
const LONGEST_GLOB: usize = 1024;

/// The kinds of reports and outputs, by their names in `.afk.toml`.
pub(crate) const KINDS: &[(&str, ReportKind)] = &[
    ("junit", ReportKind::Junit),
    ("pytest-junit", ReportKind::PytestJunit),
    ("jest-junit", ReportKind::JestJunit),
    ("tap", ReportKind::Tap),
    ("libtest", ReportKind::Libtest),
    ("libtest-json", ReportKind::LibtestJson),
    ("nextest", ReportKind::Nextest),
    ("pytest", ReportKind::Pytest),
    ("unittest", ReportKind::Unittest),
    ("go", ReportKind::Go),
    ("go-test-json", ReportKind::GoTestJson),
    ("node", ReportKind::Node),
    ("jest", ReportKind::Jest),
    ("vitest", ReportKind::Vitest),
];

/// The place of the names of tests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum ReportFormat {
    /// afk recognises the test runner by the output of the test command.
    #[default]
    Auto,
    /// No names: the gate goes by exit codes only.
    None,
    /// The output of the test command.
    Output(ReportKind),
    /// Files that the test command writes into the checkout.
    Files {
        /// The format of the files.
        kind: ReportKind,
        /// Their paths, relative to the top of the checkout; `*` doesn't match a `/`.
        glob: Glob,
    },
}

/// A format of test results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// `JUnit`'s XML in any dialect.
    Junit,
    /// The XML of pytest's `--junitxml`.
    PytestJunit,
    /// The XML of the reporter jest-junit.
    JestJunit,
    /// The Test Anything Protocol.
    Tap,
    /// The lines of Rust's own test harness, also below `cargo test`.
    Libtest,
    /// The JSON lines of Rust's own test harness.
    LibtestJson,
    /// The lines of cargo-nextest.
    Nextest,
    /// The lines of `pytest -v`, or the summary of `pytest -rA`.
    Pytest,
    /// The lines of Python's `unittest -v`.
    Unittest,
    /// The lines of `go test`; only with `-v` they name each test.
    Go,
    /// The JSON lines of `go test -json`.
    GoTestJson,
    /// The reporters tap and spec of `node --test`.
    Node,
    /// The lines of `jest --verbose`; without it only files are named.
    Jest,
    /// The lines of Vitest's reporter `verbose`; those of others name only files.
    Vitest,
}

impl ReportKind {
    /// Whether only a file has this format.
    #[must_use]
    pub const fn needs_file(self) -> bool {
        matches!(self, Self::Junit | Self::PytestJunit | Self::JestJunit)
    }
}

impl From<ReportFormat> for String {
    fn from(format: ReportFormat) -> Self {
        let name = |kind: ReportKind| {
            KINDS.iter().find(|(_, known)| *known == kind).map_or("auto", |(name, _)| *name)
        };
        match format {
            ReportFormat::Auto => "auto".into(),
            ReportFormat::None => "none".into(),
            ReportFormat::Output(kind) => name(kind).into(),
            ReportFormat::Files { kind, glob } => format!("{}:{}", name(kind), glob.glob()),
        }
    }
}

impl TryFrom<String> for ReportFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, glob) = match text.split_once(':') {
            Some((name, glob)) => (name, Some(glob)),
            None => (text.as_str(), None),
        };
        match (name, glob) {
            ("auto", None) => return Ok(Self::Auto),
            ("none", None) => return Ok(Self::None),
            _ => {}
        }
        let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "{name:?} is no format of test reports: use auto, none, {}",
                names.join(", ")
            ));
        };
        match glob {
            None if kind.needs_file() => {
                Err(format!("{name} needs the path of the report: \"{name}:PATH\""))
            }
            None => Ok(Self::Output(*kind)),
            Some(glob) => Ok(Self::Files { kind: *kind, glob: report_glob(glob)? }),
        }
    }
}

/// Compiles the glob of report files, which lie below the top of the checkout.
fn report_glob(text: &str) -> Result<Glob, String> {
    if text.is_empty() || text.len() > LONGEST_GLOB {
        return Err(format!("the path of the report needs 1 to {LONGEST_GLOB} bytes"));
    }
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err(format!("{text:?} leaves the checkout: name a path relative to its top"));
    }
    let text = text.strip_prefix("./").unwrap_or(text);
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    glob.map_err(|_| format!("{text:?} is not a valid glob"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<ReportFormat, String> {
        ReportFormat::try_from(text.to_owned())
    }

    #[test]
    fn format_is_a_name_and_a_glob() {
        assert_eq!(parsed("auto").unwrap(), ReportFormat::Auto);
        assert_eq!(parsed("none").unwrap(), ReportFormat::None);
        assert_eq!(parsed("go").unwrap(), ReportFormat::Output(ReportKind::Go));
        let ReportFormat::Files { kind, glob } =
            parsed("junit:./target/nextest/**/junit.xml").unwrap()
        else {
            panic!("no files")
        };
        assert_eq!(kind, ReportKind::Junit);
        assert_eq!(glob.glob(), "target/nextest/**/junit.xml");
        let matcher = glob.compile_matcher();
        assert!(matcher.is_match("target/nextest/ci/junit.xml"));
        assert!(!matcher.is_match("other/target/nextest/ci/junit.xml"));
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, error) in [
            ("junit", "junit needs the path of the report: \"junit:PATH\""),
            ("xunit:a.xml", "\"xunit\" is no format of test reports: use auto, none, junit,"),
            ("none:a", "\"none\" is no format"),
            ("", "\"\" is no format"),
            ("tap:", "the path of the report needs 1 to 1024 bytes"),
            ("tap:/etc/passwd", "\"/etc/passwd\" leaves the checkout"),
            ("tap:a/../../b", "\"a/../../b\" leaves the checkout"),
            ("tap:[", "\"[\" is not a valid glob"),
        ] {
            let message = parsed(text).unwrap_err();
            assert!(message.starts_with(error), "{text:?} gave {message:?}");
        }
    }
}
