//! `JUnit`'s XML in the dialects of test runners.
//!
//! The parser knows only the five entities of XML and character references; it expands none that a
//! file defines, and reads no other file.

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use quick_xml::{Error, XmlVersion};

use super::collector::NameCollector;
use super::cut;
use crate::config::report::ReportKind;
use crate::core::model::test_report::TestOutcome;

/// The deepest element.
const DEEPEST: usize = 100;
/// The most attributes of an element that are read.
const MOST_ATTRIBUTES: usize = 50;

/// The open test of a file.
struct OpenTest {
    depth: usize,
    name: String,
    outcome: TestOutcome,
}

/// The attributes of a suite or of a test that say something about its name or its result.
#[derive(Default)]
struct Attributes {
    name: String,
    class: String,
    file: String,
    /// The results in the attributes `status` (`CTest`) and `result` (`GoogleTest`).
    outcome: Option<TestOutcome>,
}

/// Reads one file.
///
/// # Errors
/// A line that says why the text is no report.
pub(super) fn read(kind: ReportKind, text: &str, names: &mut NameCollector) -> Result<(), String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = Reader::from_str(text);
    reader.config_mut().allow_dangling_amp = true;
    let mut depth = 0_usize;
    // The open suites by their depths, each with its name below its own suites.
    let mut suites: Vec<(usize, String)> = Vec::new();
    let mut test: Option<OpenTest> = None;
    let mut is_report = false;
    loop {
        let event = reader.read_event().map_err(|error| why(&error, &reader))?;
        let (element, empty) = match event {
            Event::Start(element) => (element, false),
            Event::Empty(element) => (element, true),
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                suites.pop_if(|(at, _)| *at == depth);
                if let Some(done) = test.take_if(|test| test.depth == depth) {
                    names.record(&done.name, done.outcome);
                }
                continue;
            }
            Event::Eof if depth > 0 => return Err("it ends in the middle".to_owned()),
            Event::Eof if !is_report => return Err("it has no `testsuite`".to_owned()),
            Event::Eof => return Ok(()),
            _ => continue,
        };
        let tag = element.local_name();
        match tag.as_ref() {
            "testsuites" => is_report = true,
            "testsuite" => {
                is_report = true;
                if !empty {
                    let place = suites.last().map_or("", |(_, place)| place.as_str());
                    let suite = joined([place, &attributes(&element).name]);
                    suites.push((depth, cut(&suite).to_owned()));
                }
            }
            "testcase" if test.is_none() => {
                let attributes = attributes(&element);
                let place = suites.last().map_or("", |(_, place)| place.as_str());
                let name = name(kind, place, &attributes);
                let outcome = attributes.outcome.unwrap_or(TestOutcome::Passed);
                if empty {
                    names.record(&name, outcome);
                } else {
                    test = Some(OpenTest { depth, name, outcome });
                }
            }
            tag => {
                let outcome = match tag {
                    "failure" | "error" => Some(TestOutcome::Failed),
                    "skipped" => Some(TestOutcome::Skipped),
                    _ => None,
                };
                if let Some(outcome) = outcome {
                    match &mut test {
                        Some(test) if depth == test.depth + 1 => {
                            test.outcome = test.outcome.max(outcome);
                        }
                        Some(_) => {}
                        // The suite itself failed, for example to load.
                        None if outcome == TestOutcome::Failed => {
                            let place = suites.last().map_or("", |(_, place)| place.as_str());
                            names.record(place, outcome);
                        }
                        None => {}
                    }
                }
            }
        }
        if !empty {
            depth += 1;
            if depth > DEEPEST {
                return Err(format!("its elements are nested deeper than {DEEPEST}"));
            }
        }
    }
}

fn why(error: &Error, reader: &Reader<&[u8]>) -> String {
    format!("byte {}: {error}", reader.error_position())
}

fn attributes(element: &BytesStart<'_>) -> Attributes {
    let mut found = Attributes::default();
    // The check for duplicates would compare each attribute with all others.
    let mut list = element.attributes();
    for attribute in list.with_checks(false).take(MOST_ATTRIBUTES).flatten() {
        // An entity that is not XML's own stays as it is written.
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_or_else(|_| attribute.value.to_string(), std::borrow::Cow::into_owned);
        match attribute.key.as_ref() {
            "name" => found.name = value,
            "classname" => found.class = value,
            "file" => found.file = value,
            "status" | "result" => found.outcome = found.outcome.max(outcome(&value)),
            _ => {}
        }
    }
    found
}

fn outcome(word: &str) -> Option<TestOutcome> {
    match word {
        "notrun" | "disabled" | "skipped" | "ignored" | "suppressed" => Some(TestOutcome::Skipped),
        "fail" | "failed" | "failure" | "error" => Some(TestOutcome::Failed),
        _ => None,
    }
}

/// The name of a test: suites, class and name, each part once.
fn name(kind: ReportKind, suite: &str, test: &Attributes) -> String {
    match kind {
        // The suite is always `pytest`, and the class has the module.
        ReportKind::PytestJunit if test.class.is_empty() => test.name.clone(),
        ReportKind::PytestJunit => format!("{}::{}", test.class, test.name),
        // The class is the name again in jest-junit's default settings, with the suite in front.
        ReportKind::JestJunit => {
            let suite = if suite == "undefined" { "" } else { suite };
            let place = if test.file.is_empty() { suite } else { &test.file };
            joined([place, &test.class, &test.name])
        }
        _ => joined([suite, &test.class, &test.name]),
    }
}

/// Joins the parts that are neither empty nor equal to the part before them.
fn joined<const PARTS: usize>(parts: [&str; PARTS]) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in parts.map(str::trim).into_iter().filter(|part| !part.is_empty()) {
        if kept.last() != Some(&part) {
            kept.push(part);
        }
    }
    kept.join(" > ")
}
