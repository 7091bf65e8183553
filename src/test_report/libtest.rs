//! Rust's own test harness: its lines, and its JSON.
//!
//! `cargo test` runs one program after the other. It prints the header of each (`Running …`) to
//! standard error and the program prints its tests to standard output, so the two may arrive in
//! either order. Both are in order by themselves: the third header belongs to the third block.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::collector::NameCollector;
use super::{cut, indentation};
use crate::core::model::test_report::TestOutcome;

/// The tests of one program.
#[derive(Debug, Default)]
struct Block<'a> {
    /// The index of the last header before the block.
    header: Option<usize>,
    tests: Vec<(&'a str, TestOutcome)>,
}

/// The part of a block that a line belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Outside,
    Tests,
    /// The output of failed tests, which may look like anything.
    Details,
    /// The list of failed tests.
    Failures,
}

/// Whether a line begins the tests of one program: `running 3 tests`.
pub(super) fn block_start(line: &str) -> bool {
    let count = line.strip_prefix("running ").and_then(|rest| {
        rest.trim_end().strip_suffix(" tests").or_else(|| rest.trim_end().strip_suffix(" test"))
    });
    count.is_some_and(|count| !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit()))
}

/// Reads the lines of the harness.
pub(super) fn read(text: &str, names: &mut NameCollector) {
    let mut headers: Vec<String> = Vec::new();
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut part = Part::Outside;
    // The test whose line has no result yet: with one thread, its output follows first.
    let mut pending: Option<&str> = None;
    let mut last = "";
    for line in text.lines() {
        if let Some(label) = header(line) {
            headers.push(label);
            if matches!(part, Part::Details | Part::Failures) {
                part = Part::Outside;
            }
            continue;
        }
        if block_start(line) && part != Part::Details {
            // A program that ended in the middle of a test failed it.
            settle(&mut blocks, pending.take(), TestOutcome::Failed);
            let header = headers.len().checked_sub(1);
            blocks.push(Block { header, ..Block::default() });
            part = Part::Tests;
            continue;
        }
        match part {
            Part::Outside => {}
            Part::Tests => {
                let begun = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "));
                // A test may print such a line itself while its own line is incomplete.
                if let Some((name, rest)) = begun {
                    let glued = glued_outcome(last);
                    if let Some(earlier) = pending.take() {
                        settle(&mut blocks, Some(earlier), glued.unwrap_or(TestOutcome::Failed));
                    }
                    match outcome(rest) {
                        Some(outcome) => settle(&mut blocks, Some(name), outcome),
                        None => pending = Some(name),
                    }
                } else if line.starts_with("test result: ") {
                    if let Some(outcome) = glued_outcome(last) {
                        settle(&mut blocks, pending, outcome);
                    }
                    pending = None;
                    part = Part::Outside;
                } else if line == "failures:" {
                    part = Part::Details;
                } else if let Some(outcome) = outcome(line)
                    && pending.is_some()
                {
                    settle(&mut blocks, pending.take(), outcome);
                }
            }
            Part::Details | Part::Failures if line.starts_with("test result: ") => {
                pending = None;
                part = Part::Outside;
            }
            Part::Details if line == "failures:" => part = Part::Failures,
            Part::Details => {}
            Part::Failures => {
                let (spaces, name) = indentation(line);
                if spaces == 4 {
                    settle(&mut blocks, Some(name), TestOutcome::Failed);
                }
            }
        }
        if !line.is_empty() {
            last = line;
        }
    }
    settle(&mut blocks, pending, TestOutcome::Failed);
    record(&headers, blocks, names);
}

fn settle<'a>(blocks: &mut [Block<'a>], name: Option<&'a str>, outcome: TestOutcome) {
    if let (Some(block), Some(name)) = (blocks.last_mut(), name) {
        block.tests.push((name, outcome));
    }
}

/// The result in the rest of a test's line.
fn outcome(rest: &str) -> Option<TestOutcome> {
    let rest = rest.trim_end();
    let timed = |word: &str| rest.strip_prefix(word).is_some_and(|time| time.starts_with(" <"));
    if rest == "ok" || timed("ok") || rest.starts_with("bench: ") {
        Some(TestOutcome::Passed)
    } else if rest == "FAILED" || timed("FAILED") || rest.starts_with("FAILED (") {
        Some(TestOutcome::Failed)
    } else if rest == "ignored" || rest.starts_with("ignored, ") {
        Some(TestOutcome::Skipped)
    } else {
        None
    }
}

/// The result behind output of the test that doesn't end with a line break.
fn glued_outcome(line: &str) -> Option<TestOutcome> {
    if line.ends_with("ok") {
        Some(TestOutcome::Passed)
    } else if line.ends_with("FAILED") {
        Some(TestOutcome::Failed)
    } else {
        None
    }
}

/// The label of the program that cargo starts now: `Running unittests src/lib.rs
/// (target/debug/deps/date-6ab0a423ebaf74b5)` or `Doc-tests date`.
fn header(line: &str) -> Option<String> {
    let (spaces, rest) = indentation(line);
    if spaces == 0 {
        return None;
    }
    if let Some(name) = rest.strip_prefix("Doc-tests ") {
        return Some(format!("{} (doc)", name.trim()));
    }
    let rest = rest.strip_prefix("Running ")?.trim_end();
    let (source, program) = match rest.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")) {
        Some((source, program)) => (source, program),
        // cargo before 1.52 names the program alone.
        None => ("", rest),
    };
    let file = program.rsplit('/').next()?.trim_end_matches(".exe");
    let (name, hash) = file.rsplit_once('-')?;
    if hash.len() != 16 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    // The hash depends on the path of the checkout and on the compiler.
    let source = source.strip_prefix("unittests ").unwrap_or(source);
    let stem = source.rsplit('/').next().and_then(|file| file.strip_suffix(".rs"));
    Some(match (source, stem) {
        ("" | "src/lib.rs", _) => name.to_owned(),
        (source, Some(stem)) if stem == name => source.to_owned(),
        (source, _) => format!("{name} {source}"),
    })
}

/// Records the tests of all blocks under the labels of their programs.
fn record(headers: &[String], blocks: Vec<Block<'_>>, names: &mut NameCollector) {
    let paired = headers.len() == blocks.len();
    for (index, block) in blocks.into_iter().enumerate() {
        let header = if paired { Some(index) } else { block.header };
        let label = header.and_then(|at| headers.get(at)).map_or("", |label| cut(label));
        let mut doc_tests: BTreeMap<&str, BTreeMap<u32, TestOutcome>> = BTreeMap::new();
        for (name, outcome) in block.tests {
            let name = without_mode(name);
            if let Some((item, at)) = doc_test(name) {
                let known = doc_tests.entry(item).or_default().entry(at).or_insert(outcome);
                *known = (*known).max(outcome);
            } else {
                names.record(&format!("{label} {name}"), outcome);
            }
        }
        // A line number changes with every edit above it; the order of an item's examples stays.
        for (item, examples) in doc_tests {
            for (index, outcome) in examples.into_values().enumerate() {
                let name = match index {
                    0 => format!("{label} {item}"),
                    _ => format!("{label} {item} #{}", index + 1),
                };
                names.record(&name, outcome);
            }
        }
    }
}

/// A name without the remarks that the harness adds to it.
fn without_mode(name: &str) -> &str {
    const MODES: [&str; 3] = [" - should panic", " - compile fail", " - compile"];
    let mut name = name.trim();
    while let Some(shorter) = MODES.iter().find_map(|mode| name.strip_suffix(mode)) {
        name = shorter;
    }
    name
}

/// The item and the line of a doc test, such as `src/lib.rs - add (line 3)`.
fn doc_test(name: &str) -> Option<(&str, u32)> {
    let (item, line) = name.strip_suffix(')')?.rsplit_once(" (line ")?;
    Some((item, line.parse().ok()?))
}

/// A line of the harness's JSON.
#[derive(Debug, Deserialize)]
struct JsonEvent<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    event: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    name: Option<String>,
}

/// The tests of one program, whose names were escaped in the JSON.
#[derive(Debug, Default)]
struct JsonBlock {
    header: Option<usize>,
    tests: Vec<(String, TestOutcome)>,
}

/// Reads the harness's JSON lines.
pub(super) fn read_json(text: &str, names: &mut NameCollector) {
    let mut headers: Vec<String> = Vec::new();
    let mut blocks: Vec<JsonBlock> = Vec::new();
    for line in text.lines() {
        if let Some(label) = header(line) {
            headers.push(label);
            continue;
        }
        if !line.starts_with('{') {
            continue;
        }
        let Ok(event) = serde_json::from_str::<JsonEvent<'_>>(line) else { continue };
        let outcome = match (&*event.kind, event.event.as_deref()) {
            ("suite", Some("started")) => {
                let header = headers.len().checked_sub(1);
                blocks.push(JsonBlock { header, tests: Vec::new() });
                continue;
            }
            ("test" | "bench", Some("ok")) | ("bench", None) => TestOutcome::Passed,
            ("test", Some("failed" | "timeout")) => TestOutcome::Failed,
            ("test", Some("ignored")) => TestOutcome::Skipped,
            _ => continue,
        };
        if blocks.is_empty() {
            blocks.push(JsonBlock::default());
        }
        if let (Some(name), Some(block)) = (event.name, blocks.last_mut()) {
            block.tests.push((name, outcome));
        }
    }
    let blocks = blocks.iter().map(|block| Block {
        header: block.header,
        tests: block.tests.iter().map(|(name, outcome)| (name.as_str(), *outcome)).collect(),
    });
    record(&headers, blocks.collect(), names);
}
