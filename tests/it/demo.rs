//! `afk demo --headless` on its own: the remotes really hold the commits, test first.

use crate::support::{afk, git, log, text, try_git};

#[test]
fn every_demo_issue_reaches_its_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("demo");
    let out = afk(&["demo", "--headless", "--dir", root.to_str().unwrap()]).output().unwrap();
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));

    let remote = root.join("remotes/greeter.git");
    let subjects = log(&remote, "master", "%s");
    assert_eq!(
        subjects,
        [
            "Begin",
            "Test that a name is greeted",
            "Greet by name",
            "Test that goodbye is said",
            "Say goodbye"
        ]
    );
    // Test first: on the test's own commit the suite fails, on the next one it passes.
    let work = dir.path().join("clone");
    git(dir.path(), &["clone", "--quiet", remote.to_str().unwrap(), "clone"]);
    for (back, passes) in [(3, false), (2, true), (1, false), (0, true)] {
        git(&work, &["checkout", "--quiet", "--detach", &format!("origin/master~{back}")]);
        let tests = std::process::Command::new("./test.sh").current_dir(&work).output().unwrap();
        assert_eq!(tests.status.success(), passes, "{back} before the head");
    }
    // Trailers name the issue and the run, and close nothing.
    let bodies = log(&remote, "master", "%b").join("\n");
    assert!(bodies.contains("Refs #1") && bodies.contains("Afk-Run: r"), "{bodies}");
    assert!(!bodies.to_lowercase().contains("closes"));
    // Unproved work and work that no trusted actor armed was never pushed.
    let ledger = log(&root.join("remotes/ledger.git"), "master", "%s").join("\n");
    assert!(!ledger.contains("Split") && ledger.contains("Sum the amounts"), "{ledger}");
    assert!(!try_git(&remote, &["grep", "-q", "shout", "master"]).status.success());

    let issue = std::fs::read_to_string(root.join("issues/01-greet-by-name.md")).unwrap();
    assert!(issue.contains("state = \"closed\"") && issue.contains("is **done**"), "{issue}");
    let frozen = std::fs::read_to_string(root.join("issues/09-moon.md")).unwrap();
    assert!(
        frozen.contains("ready-for-human") && !frozen.contains("agent-in-progress"),
        "{frozen}"
    );

    let removed = afk(&["demo", "--remove", root.to_str().unwrap()]).output().unwrap();
    assert!(removed.status.success() && !root.exists());
    let not_ours = afk(&["demo", "--remove", dir.path().to_str().unwrap()]).output().unwrap();
    assert!(!not_ours.status.success() && work.exists(), "removed what is no demo");
}
