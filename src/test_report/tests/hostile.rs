//! The readers on what nobody would write in good faith.

use std::path::Path;

use proptest::prelude::*;

use super::super::*;
use crate::core::model::test_report::TestOutcome;

const KINDS: [ReportKind; 14] = [
    ReportKind::Junit,
    ReportKind::PytestJunit,
    ReportKind::JestJunit,
    ReportKind::Tap,
    ReportKind::Libtest,
    ReportKind::LibtestJson,
    ReportKind::Nextest,
    ReportKind::Pytest,
    ReportKind::Unittest,
    ReportKind::Go,
    ReportKind::GoTestJson,
    ReportKind::Node,
    ReportKind::Jest,
    ReportKind::Vitest,
];

/// Pieces of lines that the readers look for, in any order.
fn pieces() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "\n",
        "\r",
        " ",
        "    ",
        "\t",
        "\u{1b}[31m",
        "é",
        "…",
        "(",
        ")",
        "[",
        "]",
        "<",
        ">",
        "/>",
        "&",
        "&x;",
        "\"",
        "{",
        "}",
        "\\",
        "#",
        " # SKIP",
        " ... ",
        "ok",
        "not ok",
        "FAILED",
        "test ",
        "a",
        "failures:",
        "test result: ",
        "running 2 tests",
        "     Running unittests src/lib.rs (a-",
        "0123456789abcdef)",
        " (line 3)",
        " - ",
        "PASS",
        "FAIL",
        "SKIP",
        " [   0.1s] ",
        "(1/2) ",
        "TRY 1 ",
        "::",
        "PASSED",
        "SKIPPED (",
        " [ 10%]",
        "[gw0] ",
        "=== short test summary info ===",
        "--- PASS: ",
        " (0.00s)",
        "ok  \t",
        "FAIL\t",
        "▶ ",
        "✔ ",
        "✖ ",
        "✓ ",
        "○ ",
        "❯ ",
        "● ",
        "↓",
        "1..2",
        "---",
        "...",
        "t/a.t ..",
        "<testsuites>",
        "<testsuite name=\"a\">",
        "</testsuite>",
        "<testcase name=\"b\" classname='c'",
        "<failure/>",
        "<skipped/>",
        "</testcase>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "<!DOCTYPE a [<!ENTITY x \"y\">",
        "<?xml",
        "?>",
        "=",
        "{\"type\":\"test\",\"event\":\"ok\",\"name\":\"a\"}",
        "{\"Action\":\"pass\",\"Package\":\"p\",\"Test\":\"T\"}",
    ];
    proptest::collection::vec(proptest::sample::select(PIECES), 0..60)
        .prop_map(|pieces| pieces.concat())
}

fn survives(text: &str) {
    for kind in KINDS {
        let mut names = NameCollector::new(Path::new("/srv/tree"));
        let _ = read_text(kind, text, &mut names);
        let report = names.finish().unwrap();
        let shown = report.with(TestOutcome::Passed).map(|name| name.0.as_received());
        for name in shown {
            assert!(!name.is_empty() && name.len() <= 512 && !name.contains('\n'), "{name:?}");
        }
    }
    let reader = ReportReader::before_run(&ReportFormat::Auto, Path::new("/srv/tree")).unwrap();
    reader.after_run(text.as_bytes()).unwrap();
}

proptest! {
    #[test]
    fn readers_survive_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        survives(&String::from_utf8_lossy(&bytes));
        let reader = ReportReader::before_run(&ReportFormat::Auto, Path::new("/")).unwrap();
        reader.after_run(&bytes).unwrap();
    }

    #[test]
    fn readers_survive_pieces_of_their_formats(text in pieces()) {
        survives(&text);
    }

    #[test]
    fn detection_accepts_any_line(text in "\\PC*") {
        detect::kinds(&text);
    }
}

/// Texts of some hundred KiB that would take minutes or the whole stack if a reader were not linear.
#[test]
fn readers_take_linear_time() {
    const SIZE: usize = 1 << 18;
    let deep = |line: &dyn Fn(usize) -> String| -> String {
        (0..2000).rev().map(line).collect::<Vec<_>>().concat()
    };
    let place = "p".repeat(SIZE);
    let texts = [
        "<testsuite name=\"a\">".repeat(SIZE / 20),
        format!(
            "<testsuite name=\"{place}\">{}</testsuite>",
            "<testcase name=\"a\"/>".repeat(2_000)
        ),
        format!("<testsuite{}/>", " name=\"a\"".repeat(SIZE / 9)),
        format!("<!DOCTYPE a [{}]><testsuite/>", "<!ENTITY x \"&x;&x;\">".repeat(20_000)),
        deep(&|depth| format!("{}ok 1 - a\n", " ".repeat(depth))),
        deep(&|depth| format!("{}▶ a\n", " ".repeat(2000 - depth))),
        format!("PASS a\n{}", deep(&|depth| format!("{}a\n", " ".repeat(2000 - depth)))),
        format!("PASS {place}\n{}", "  ✓ a\n".repeat(20_000)),
        format!(
            "     Running tests/{place}.rs (a-0123456789abcdef)\nrunning 1 test\n{}",
            "test a ... ok\n".repeat(20_000)
        ),
        format!("{}ok  \t{place}\t0.1s\n", "--- PASS: T (0.00s)\n".repeat(10_000)),
        format!("{place}\n"),
        "#".repeat(SIZE),
        format!("ok 1 - {}", "\\#".repeat(SIZE / 2)),
        "[".repeat(SIZE),
        " - [".repeat(SIZE / 4),
        "a::b (PASSED)".repeat(SIZE / 13),
        "{".repeat(SIZE),
        "\n".repeat(SIZE),
    ];
    for (index, text) in texts.iter().enumerate() {
        for kind in KINDS {
            let begun = std::time::Instant::now();
            let mut names = NameCollector::new(Path::new("/srv/tree"));
            let _ = read_text(kind, text, &mut names);
            let elapsed = begun.elapsed();
            let limit = std::time::Duration::from_secs(10);
            assert!(elapsed < limit, "text {index}, {kind:?}: {elapsed:?}");
        }
    }
}

#[test]
fn junit_expands_no_entity_of_the_file() {
    let text = "<!DOCTYPE r [<!ENTITY x SYSTEM \"file:///etc/passwd\"><!ENTITY y \"&z;&z;\">]>\
                <testsuite name=\"s\"><testcase name=\"a &x; &lt;&#65;\"/></testsuite>";
    let mut names = NameCollector::new(Path::new("/"));
    junit::read(ReportKind::Junit, text, &mut names).unwrap();
    let report = names.finish().unwrap();
    assert_eq!(report.outcome(&"s > a &x; &lt;&#65;".into()), Some(TestOutcome::Passed));
}

#[test]
fn junit_refuses_what_is_no_whole_report() {
    for (text, why) in [
        ("", "it has no `testsuite`"),
        ("<html></html>", "it has no `testsuite`"),
        ("<testsuite name='a'><testcase name='b'/>", "it ends in the middle"),
        ("<testsuite></testsuites>", "byte "),
        ("\u{0}\u{1}PNG", "it has no `testsuite`"),
    ] {
        let mut names = NameCollector::new(Path::new("/"));
        let error = junit::read(ReportKind::Junit, text, &mut names).unwrap_err();
        assert!(error.starts_with(why), "{text:?} gave {error:?}");
    }
    let deep = "<a>".repeat(1000);
    let mut names = NameCollector::new(Path::new("/"));
    let error = junit::read(ReportKind::Junit, &deep, &mut names).unwrap_err();
    assert!(error.contains("nested deeper than 100"), "{error:?}");
}

#[test]
fn junit_reads_failed_suites_and_results_in_attributes() {
    let text = "<testsuites><testsuite name='loads'><error/></testsuite><testsuite name='s'>\
                <testcase name='a' status='notrun'/><testcase name='b' status='fail'/>\
                <testcase name='c'><properties/><skipped/></testcase>\
                <testcase name='d'><system-out><failure/></system-out></testcase>\
                <testcase name='d'><failure/></testcase></testsuite></testsuites>";
    let mut names = NameCollector::new(Path::new("/"));
    junit::read(ReportKind::Junit, text, &mut names).unwrap();
    let report = names.finish().unwrap();
    for (name, outcome) in [
        ("loads", TestOutcome::Failed),
        ("s > a", TestOutcome::Skipped),
        ("s > b", TestOutcome::Failed),
        ("s > c", TestOutcome::Skipped),
        ("s > d", TestOutcome::Failed),
    ] {
        assert_eq!(report.outcome(&name.into()), Some(outcome), "{name}");
    }
}
