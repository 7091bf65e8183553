//! Report files on a real file system.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::*;

const REPORT: &str = "<testsuite name='s'><testcase name='a'/></testsuite>";

fn format(text: &str) -> ReportFormat {
    ReportFormat::try_from(text.to_owned()).unwrap()
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn names(report: Option<TestReport>) -> Vec<String> {
    let report = report.unwrap();
    let passed = report.with(crate::core::model::test_report::TestOutcome::Passed);
    passed.map(|name| name.0.as_received().to_owned()).collect()
}

#[test]
fn only_reports_of_the_run_count() {
    let tree = tempfile::tempdir().unwrap();
    let top = tree.path();
    write(&top.join("target/nextest/old/junit.xml"), REPORT);
    let format = format("junit:target/nextest/**/junit.xml");
    let reader = ReportReader::before_run(&format, top).unwrap();
    let error = reader.after_run(b"").unwrap_err().to_string();
    assert!(error.contains("wrote no report"), "{error}");
    write(&top.join("target/nextest/ci/junit.xml"), &REPORT.replace("'a'", "'new'"));
    assert_eq!(names(reader.after_run(b"").unwrap()), ["s > new"]);
    // The run writes the old file again, or puts another in its place.
    write(&top.join("fresh"), &REPORT.replace("'a'", "'again'"));
    std::fs::rename(top.join("fresh"), top.join("target/nextest/old/junit.xml")).unwrap();
    assert_eq!(names(reader.after_run(b"").unwrap()), ["s > again", "s > new"]);
}

#[test]
fn no_link_leads_to_a_report() {
    let tree = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let top = tree.path();
    write(&outside.path().join("report.xml"), REPORT);
    let reader = |glob: &str| ReportReader::before_run(&format(glob), top).unwrap();
    symlink(outside.path().join("report.xml"), top.join("report.xml")).unwrap();
    symlink(outside.path(), top.join("linked")).unwrap();
    std::fs::create_dir(top.join("folder.xml")).unwrap();
    let pipe = top.join("pipe.xml");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for glob in ["junit:**/*.xml", "junit:linked/*.xml", "junit:linked/report.xml", "junit:*.xml"] {
        let reader = ReportReader { earlier: std::collections::BTreeMap::new(), ..reader(glob) };
        let error = reader.after_run(b"").unwrap_err();
        assert!(matches!(error, ReportError::Missing { .. }), "{glob}: {error}");
    }
}

#[test]
fn unusable_reports_are_explained() {
    let tree = tempfile::tempdir().unwrap();
    let top = tree.path();
    let reader = ReportReader::before_run(&format("junit:out/*.xml"), top).unwrap();
    write(&top.join("out/a.xml"), "<testsuite>");
    let error = reader.after_run(b"").unwrap_err().to_string();
    assert!(
        error.starts_with("the test report out/a.xml is not a report in JUnit's XML: it ends"),
        "{error}"
    );
    let file = std::fs::File::create(top.join("out/a.xml")).unwrap();
    file.set_len(files::LARGEST_FILE + 1).unwrap();
    let error = reader.after_run(b"").unwrap_err().to_string();
    assert_eq!(error, "the test report out/a.xml has more than 32 MiB");
}

#[test]
fn plain_output_without_names_is_no_report() {
    let tree = tempfile::tempdir().unwrap();
    for text in ["auto", "libtest", "tap", "none"] {
        let reader = ReportReader::before_run(&format(text), tree.path()).unwrap();
        assert_eq!(reader.after_run(b"error: could not compile\n").unwrap(), None, "{text}");
    }
    let reader = ReportReader::before_run(&format("auto"), tree.path()).unwrap();
    let report = reader.after_run(b"TAP version 13\nok 1 - adds\n1..1\n").unwrap();
    assert_eq!(names(report), ["adds"]);
}
