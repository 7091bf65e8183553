//! Recognises test runners by the lines that they always print.

use crate::config::report::ReportKind;

/// The formats that an output has. `make test` may run several test runners.
pub(super) fn kinds(text: &str) -> Vec<ReportKind> {
    const ORDER: [ReportKind; 11] = [
        ReportKind::Nextest,
        ReportKind::Libtest,
        ReportKind::LibtestJson,
        ReportKind::Pytest,
        ReportKind::Unittest,
        ReportKind::GoTestJson,
        ReportKind::Go,
        ReportKind::Node,
        ReportKind::Tap,
        ReportKind::Jest,
        ReportKind::Vitest,
    ];
    let mut found = [false; ORDER.len()];
    for line in text.lines() {
        if let Some(kind) = kind_of(line)
            && let Some(at) = ORDER.iter().position(|known| *known == kind)
        {
            found[at] = true;
        }
    }
    let has = |kind: ReportKind| ORDER.iter().zip(found).any(|(known, is)| is && *known == kind);
    let covered = |kind: ReportKind| match kind {
        // nextest repeats the output of the harness of each failed test.
        ReportKind::Libtest => has(ReportKind::Nextest),
        // Lines of JSON hold the plain ones.
        ReportKind::Go => has(ReportKind::GoTestJson),
        _ => false,
    };
    let kinds = ORDER.into_iter().zip(found).filter(|(kind, found)| *found && !covered(*kind));
    kinds.map(|(kind, _)| kind).collect()
}

/// The runner that prints such a line in every run.
fn kind_of(line: &str) -> Option<ReportKind> {
    let trimmed = line.trim();
    let kind = if trimmed.starts_with("Nextest run ID ")
        || trimmed.starts_with("Starting ") && trimmed.contains(" across ")
    {
        ReportKind::Nextest
    } else if super::libtest::block_start(line) {
        ReportKind::Libtest
    } else if line.starts_with('{') && line.contains("\"suite\"") && line.contains("\"event\"") {
        ReportKind::LibtestJson
    } else if line.starts_with("{\"") && line.contains("\"Action\":\"") {
        ReportKind::GoTestJson
    } else if line.starts_with("===")
        && [" test session starts ", " short test summary info "]
            .iter()
            .any(|head| line.contains(head))
    {
        // `pytest -q` prints the summary alone.
        ReportKind::Pytest
    } else if line.starts_with("Ran ") && line.contains(" test") && line.contains(" in ") {
        ReportKind::Unittest
    } else if ["ok  \t", "FAIL\t", "=== RUN "].iter().any(|start| line.starts_with(start)) {
        ReportKind::Go
    } else if line.starts_with("ℹ tests ") {
        ReportKind::Node
    } else if line.starts_with("TAP version ") || is_plan(line) {
        ReportKind::Tap
    } else if line.starts_with("Test Suites: ") {
        ReportKind::Jest
    } else if trimmed.starts_with("RUN  v") {
        ReportKind::Vitest
    } else {
        return None;
    };
    Some(kind)
}

/// Whether a line is a plan of TAP, such as `1..12`.
fn is_plan(line: &str) -> bool {
    line.trim_end()
        .strip_prefix("1..")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}
