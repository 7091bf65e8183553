//! What a release consists of beside the program: its notes, from the changelog.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::text;

fn notes(args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/release-notes");
    Command::new(script).args(args).output().unwrap()
}

#[test]
fn release_notes_are_the_section_of_the_version() {
    let output = notes(&[]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(said.starts_with("### Added\n"), "{said:.200}");
    assert!(!said.contains("\n## "), "the notes have another version's section");
    assert!(said.contains("### Security"), "the section is cut");
    assert_eq!(text(&notes(&[env!("CARGO_PKG_VERSION")]).stdout), said);
    let other = notes(&["9.9.9"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("no section"), "{}", text(&other.stderr));
}

#[test]
fn version_of_the_program_has_a_date_and_upgrade_notes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let heading = format!("## [{version}] - ");
    let changelog = read("CHANGELOG.md");
    let line = changelog.lines().find(|line| line.starts_with(&heading)).expect("a section");
    let date = line.trim_start_matches(&heading);
    assert!(date.parse::<jiff::civil::Date>().is_ok(), "{line}");
    let core: toml::Table = read("src/core/Cargo.toml").parse().unwrap();
    assert_eq!(core["package"]["version"].as_str(), Some(version));
    let (minor, _) = version.rsplit_once('.').unwrap();
    let heading = read("docs/upgrade.md").lines().next().unwrap().to_owned();
    assert!(heading.ends_with(&format!("to {minor}")), "{heading}");
}
