//! Each reader on recorded output of real programs, which `tests/fixtures/test_reports` explains.

use std::path::Path;

use super::super::*;
use crate::core::model::test_report::TestOutcome;

/// The names in a fixture, each behind its result: `+` passed, `-` failed, `o` skipped.
fn read(kind: ReportKind, fixture: &str) -> Vec<String> {
    let text = recorded(fixture);
    let mut names = NameCollector::new(Path::new("/home/ana/calendar"));
    if kind.needs_file() {
        junit::read(kind, &text, &mut names).unwrap();
    } else {
        read_lines(kind, &plain(text.as_bytes()), &mut names);
    }
    let report = names.finish().unwrap();
    let marks =
        [(TestOutcome::Passed, '+'), (TestOutcome::Failed, '-'), (TestOutcome::Skipped, 'o')];
    let mut shown: Vec<(String, char)> = Vec::new();
    for (outcome, mark) in marks {
        shown.extend(report.with(outcome).map(|name| (name.0.as_received().to_owned(), mark)));
    }
    shown.sort();
    shown.into_iter().map(|(name, mark)| format!("{mark} {name}")).collect()
}

fn recorded(fixture: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/test_reports");
    std::fs::read_to_string(path.join(fixture)).unwrap()
}

const LIBTEST: [&str; 11] = [
    "+ clock (doc) clock/src/lib.rs -",
    "+ clock tests::reads_a_date",
    "+ date (doc) date/src/lib.rs - add",
    "+ date (doc) date/src/lib.rs - add #2",
    "+ date src/main.rs tests::prints_help",
    "+ date tests::panics_on_zero",
    "+ date tests::reads_a_date",
    "o date tests::reads_a_million_dates",
    "- date tests::rejects_month_13",
    "+ tests/cli.rs exits_with_0",
    "- tests/cli.rs exits_with_1",
];

#[test]
fn libtest_names_program_and_test() {
    assert_eq!(read(ReportKind::Libtest, "libtest.txt"), LIBTEST);
    assert_eq!(read(ReportKind::LibtestJson, "libtest-json.txt"), LIBTEST);
}

#[test]
fn libtest_reads_results_behind_output() {
    // The test `made_up` is a line that another test printed.
    let mut names = read(ReportKind::Libtest, "libtest-nocapture.txt");
    names.retain(|name| !name.contains("made_up"));
    assert_eq!(names, LIBTEST);
}

#[test]
fn libtest_pairs_headers_and_blocks_in_any_order() {
    let text = recorded("libtest.txt");
    let is_header = |line: &&str| line.starts_with("     Running ") || line.contains("Doc-tests ");
    let late: Vec<&str> = text.lines().filter(|line| !is_header(line)).collect();
    let headers: Vec<&str> = text.lines().filter(is_header).collect();
    let mut names = NameCollector::new(Path::new("/"));
    libtest::read(&[late, headers].concat().join("\n"), &mut names);
    let expected: Vec<&str> = LIBTEST.iter().filter_map(|line| line.strip_prefix("+ ")).collect();
    let report = names.finish().unwrap();
    let passed: Vec<&str> =
        report.with(TestOutcome::Passed).map(|name| name.0.as_received()).collect();
    assert_eq!(passed, expected);
}

#[test]
fn libtest_blames_the_test_in_which_a_program_ended() {
    let text = "running 2 tests\ntest a ... ok\ntest b ... \nrunning 1 test\ntest c ... ok\n";
    let mut names = NameCollector::new(Path::new("/"));
    libtest::read(text, &mut names);
    let report = names.finish().unwrap();
    assert_eq!(report.outcome(&"b".into()), Some(TestOutcome::Failed));
    assert_eq!(report.outcome(&"c".into()), Some(TestOutcome::Passed));
}

#[test]
fn nextest_names_program_and_test() {
    let expected = [
        "+ clock tests::reads_a_date",
        "- clock::cli exits_with_1",
        "+ date tests::panics_on_zero",
        "+ date tests::reads_a_date",
        "- date tests::rejects_month_13",
        "+ date::bin/date tests::prints_help",
        "+ date::cli exits_with_0",
    ];
    assert_eq!(read(ReportKind::Nextest, "nextest.txt"), expected);
    let mut with_skipped = read(ReportKind::Nextest, "nextest-color.txt");
    with_skipped.retain(|name| name != "o date tests::reads_a_million_dates");
    assert_eq!(with_skipped, expected);
    let junit = expected.map(|line| {
        let (program, test) = line[2..].split_once(' ').unwrap();
        format!("{} {program} > {test}", &line[..1])
    });
    assert_eq!(read(ReportKind::Junit, "nextest-junit.xml"), junit);
}

#[test]
fn nextest_counts_the_last_try() {
    let text = "  TRY 1 FAIL [   0.005s] (───) a b\n  TRY 2 PASS [   0.005s] (1/1) a b\n\
                   FLAKY 2/2 [   0.004s] (1/1) a b\n  SIGSEGV [   0.004s] (2/2) a c\n\
                   SLOW [> 60.000s] (───) a d\n";
    let mut names = NameCollector::new(Path::new("/"));
    nextest::read(text, &mut names);
    let report = names.finish().unwrap();
    assert_eq!(report.outcome(&"a b".into()), Some(TestOutcome::Passed));
    assert_eq!(report.outcome(&"a c".into()), Some(TestOutcome::Failed));
    assert_eq!(report.len(), 2);
}

const PYTEST: [&str; 16] = [
    "+ test_unit.py::Sums::test_adds",
    "- test_unit.py::Sums::test_breaks",
    "+ test_unit.py::Sums::test_described",
    "- test_unit.py::Sums::test_fails",
    "o test_unit.py::Sums::test_known",
    "o test_unit.py::Sums::test_later",
    "+ tests/test_calc.py::TestAdd::test_numbers",
    "- tests/test_calc.py::TestAdd::test_text[[z]]",
    "+ tests/test_calc.py::TestAdd::test_text[a - b]",
    "+ tests/test_calc.py::TestAdd::test_text[x y]",
    "o tests/test_calc.py::test_known_bug",
    "o tests/test_calc.py::test_later",
    "+ tests/test_calc.py::test_mended_bug",
    "- tests/test_calc.py::test_minus",
    "- tests/test_calc.py::test_parts",
    "- tests/test_calc.py::test_with_fixture",
];

#[test]
fn pytest_names_path_and_test() {
    let of_file = |line: &String| line != "- tests/test_broken.py";
    let verbose = read(ReportKind::Pytest, "pytest-v.txt");
    assert!(!verbose.iter().all(of_file));
    let verbose: Vec<String> = verbose.into_iter().filter(of_file).collect();
    assert_eq!(verbose, PYTEST);
    // The summary doesn't name skipped tests.
    let summary = read(ReportKind::Pytest, "pytest-rA-color.txt").into_iter().filter(of_file);
    let named: Vec<&str> = PYTEST.into_iter().filter(|line| !line.contains("test_later")).collect();
    assert_eq!(summary.collect::<Vec<_>>(), named);
    let parallel = read(ReportKind::Pytest, "pytest-xdist.txt");
    let in_file: Vec<&str> =
        PYTEST.into_iter().filter(|line| line.contains(" tests/test_calc")).collect();
    assert_eq!(parallel, in_file);
}

#[test]
fn pytest_junit_names_module_and_test() {
    let names = read(ReportKind::PytestJunit, "pytest-junit.xml");
    assert_eq!(names.len(), PYTEST.len() + 1);
    for name in [
        "- tests.test_broken",
        "+ tests.test_calc.TestAdd::test_text[a - b]",
        "- tests.test_calc::test_minus",
        "- tests.test_calc::test_parts",
        "o test_unit.Sums::test_known",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} of {names:?}");
    }
}

#[test]
fn unittest_names_module_and_test() {
    assert_eq!(
        read(ReportKind::Unittest, "unittest.txt"),
        [
            "+ test_unit.Sums.test_adds",
            "- test_unit.Sums.test_breaks",
            "+ test_unit.Sums.test_described",
            "- test_unit.Sums.test_fails",
            "o test_unit.Sums.test_known",
            "o test_unit.Sums.test_later",
        ]
    );
}

const GO: [&str; 9] = [
    "- example.com/calendar",
    "+ example.com/calendar TestAdd",
    "o example.com/calendar TestLater",
    "- example.com/calendar TestTable",
    "- example.com/calendar TestTable/three",
    "+ example.com/calendar TestTable/one_two",
    "- example.com/calendar/broken",
    "+ example.com/calendar/date",
    "+ example.com/calendar/date TestAdd",
];

#[test]
fn go_names_package_and_test() {
    let mut expected = GO.to_vec();
    expected.sort_by_key(|line| &line[2..]);
    assert_eq!(read(ReportKind::Go, "go-v.txt"), expected);
    assert_eq!(read(ReportKind::GoTestJson, "go-json.txt"), expected);
    expected.retain(|line| {
        line.starts_with('-') || !line.contains(" Test") && !line[2..].contains(' ')
    });
    assert_eq!(read(ReportKind::Go, "go.txt"), expected, "without -v");
}

const NODE: [&str; 10] = [
    "- broken.test.mjs",
    "- math",
    "+ math > adds # twice",
    "+ math > deep",
    "+ math > deep > divides (by 2)",
    "o math > powers",
    "o math > roots",
    "- math > subtracts",
    "+ stands alone",
    "+ top",
];

#[test]
fn node_names_suites_and_test() {
    let expected = [&NODE[..], &["+ top > part"]].concat();
    for fixture in [
        "node-tap.txt",
        "node-spec.txt",
        "node-spec-color.txt",
        "node18-tap.txt",
        "node24-tap.txt",
        "node24-spec.txt",
    ] {
        assert_eq!(read(ReportKind::Node, fixture), expected, "{fixture}");
    }
    // Node.js 18 prints no result of a suite.
    let suites = ["- math", "+ math > deep", "+ top"];
    let tests: Vec<&str> = expected.iter().copied().filter(|line| !suites.contains(line)).collect();
    assert_eq!(read(ReportKind::Node, "node18-spec.txt"), tests);
    assert_eq!(read(ReportKind::Tap, "node-tap.txt"), expected);
    let junit = read(ReportKind::Junit, "node-junit.xml");
    assert!(junit.contains(&"- math > test > subtracts".to_owned()), "{junit:?}");
}

#[test]
fn tap_of_tape_names_the_title() {
    let text = "TAP version 13\n# quotes\nok 1 should be equal\nok 2 should be equal\n# parses\n\
                not ok 3 should be equal\n  ---\n    operator: equal\n  ...\nok 4 is null\n\n1..4\n";
    let mut names = NameCollector::new(Path::new("/"));
    tap::read(text, &mut names);
    let report = names.finish().unwrap();
    let of =
        |outcome| report.with(outcome).map(|n| n.0.as_received().to_owned()).collect::<Vec<_>>();
    assert_eq!(of(TestOutcome::Passed), ["parses > is null", "quotes > should be equal"]);
    assert_eq!(of(TestOutcome::Failed), ["parses > should be equal"]);
    // A diagnosis of another producer is no title.
    let text = "not ok 1 - a\n# Failed test 'a'\nok 2 - b\n1..2\n";
    let mut names = NameCollector::new(Path::new("/"));
    tap::read(text, &mut names);
    assert_eq!(
        names.finish().unwrap().with(TestOutcome::Passed).next().unwrap().0.as_received(),
        "b"
    );
}

#[test]
fn tap_of_prove_names_the_file() {
    let text = "t/date.t ..\nok 1 - adds\nnot ok 2 - subtracts # TODO later\nnot ok 3\n1..3\nok\n\
                t/clock.t .. \n1..1\nok 1 - adds # time=5ms\nok\nAll tests successful.\n";
    let mut names = NameCollector::new(Path::new("/"));
    tap::read(text, &mut names);
    let report = names.finish().unwrap();
    for (name, outcome) in [
        ("t/date.t > adds", TestOutcome::Passed),
        ("t/date.t > subtracts", TestOutcome::Skipped),
        ("t/date.t > test 3", TestOutcome::Failed),
        ("t/clock.t > adds", TestOutcome::Passed),
    ] {
        assert_eq!(report.outcome(&name.into()), Some(outcome), "{name}");
    }
    assert_eq!(report.len(), 4);
}

const JEST: [&str; 8] = [
    "- broken.test.js",
    "+ math.test.js > math > adds",
    "+ math.test.js > math > deep > divides (by 2)",
    "o math.test.js > math > powers",
    "o math.test.js > math > roots",
    "- math.test.js > math > subtracts",
    "+ math.test.js > top",
    "+ other.test.js > stands alone",
];

#[test]
fn jest_names_file_suites_and_test() {
    assert_eq!(read(ReportKind::Jest, "jest-verbose.txt"), JEST);
    assert_eq!(read(ReportKind::Jest, "jest-color.txt"), JEST);
    assert_eq!(
        read(ReportKind::Jest, "jest.txt"),
        ["- broken.test.js", "- math.test.js", "+ other.test.js"]
    );
    let junit = read(ReportKind::JestJunit, "jest-junit.xml");
    assert!(junit.contains(&"- math > math subtracts".to_owned()), "{junit:?}");
    assert!(junit.contains(&"+ stands alone".to_owned()), "{junit:?}");
}

#[test]
fn vitest_names_file_suites_and_test() {
    assert_eq!(read(ReportKind::Vitest, "vitest-verbose.txt"), JEST);
    assert_eq!(read(ReportKind::Vitest, "vitest-color.txt"), JEST);
    assert_eq!(
        read(ReportKind::Vitest, "vitest.txt"),
        [
            "- broken.test.js",
            "- math.test.js",
            "- math.test.js > math > subtracts",
            "+ other.test.js",
        ]
    );
    assert_eq!(read(ReportKind::Junit, "vitest-junit.xml"), JEST);
}

#[test]
fn auto_recognises_each_runner() {
    for (fixture, kind) in [
        ("libtest.txt", ReportKind::Libtest),
        ("libtest-nocapture.txt", ReportKind::Libtest),
        ("libtest-json.txt", ReportKind::LibtestJson),
        ("nextest.txt", ReportKind::Nextest),
        ("nextest-color.txt", ReportKind::Nextest),
        ("pytest-v.txt", ReportKind::Pytest),
        ("pytest-rA-color.txt", ReportKind::Pytest),
        ("pytest-xdist.txt", ReportKind::Pytest),
        ("unittest.txt", ReportKind::Unittest),
        ("go-v.txt", ReportKind::Go),
        ("go.txt", ReportKind::Go),
        ("go-json.txt", ReportKind::GoTestJson),
        ("node-tap.txt", ReportKind::Tap),
        ("node-spec.txt", ReportKind::Node),
        ("node-spec-color.txt", ReportKind::Node),
        ("node18-spec.txt", ReportKind::Node),
        ("node24-tap.txt", ReportKind::Tap),
        ("jest-verbose.txt", ReportKind::Jest),
        ("jest.txt", ReportKind::Jest),
        ("vitest-verbose.txt", ReportKind::Vitest),
        ("vitest-color.txt", ReportKind::Vitest),
    ] {
        let text = plain(recorded(fixture).as_bytes());
        assert_eq!(detect::kinds(&text), [kind], "{fixture}");
    }
    let quiet =
        "===== short test summary info =====\nPASSED tests/test_a.py::test_b\n1 passed in 0.1s\n";
    assert_eq!(detect::kinds(quiet), [ReportKind::Pytest]);
    let both = recorded("unittest.txt") + &recorded("libtest.txt");
    assert_eq!(detect::kinds(&both), [ReportKind::Libtest, ReportKind::Unittest]);
    assert_eq!(detect::kinds("make: Nothing to be done for 'check'.\n"), []);
}
