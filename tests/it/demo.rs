//! `afk demo --headless` on its own: the remotes really hold the commits, test first.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::pty::Terminal;
use crate::support::pve::wait_for;
use crate::support::{afk, git, log, text, try_git};

#[test]
fn every_demo_issue_reaches_its_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("demo");
    let out = afk(&["demo", "--headless", "--dir", root.to_str().unwrap()]).output().unwrap();
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));

    // The demo's wedged VM was recovered too, in the timeline and as expected.
    let printed = text(&out.stdout);
    for part in ["breakglass armed by", " cycle by ", "ok  devvm", "cycled in ", "answers again"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }

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

#[test]
fn newcomer_recovers_the_wedged_vm_of_the_demo_within_two_minutes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("demo");
    let args = ["demo", "--dir", root.to_str().unwrap(), "--pace", "0"];
    let mut screen = Terminal::start(&args, 80, 24, dir.path());
    screen.shows("1 Queue");
    let began = Instant::now();
    screen.keys("5");
    screen.shows("not armed: ");
    screen.keys("a");
    screen.shows("Say why.");
    screen.keys("it hangs\r");
    screen.shows("ARMED by");
    // A look at the VM: the shell opens, and a command never returns.
    let host = |screen: &mut Terminal| {
        screen.keys("gg");
        screen.shows("│> status");
        screen.keys("jjjjjj\r");
        screen.shows("dev@devvm:~$");
    };
    host(&mut screen);
    screen.keys("uptime\r");
    screen.shows("blocked for more than 120 seconds");
    screen.keys("\u{3}");
    screen.shows("^C");
    screen.keys("\u{1d}");
    screen.shows("it goes on");
    screen.keys("\u{1b}");
    screen.shows("│> devvm");
    // The monitor calls it running all the same.
    screen.keys("gg\r");
    screen.shows("status: running");
    screen.shows("exit code 0");
    screen.keys("\u{1b}");
    screen.until("the rows", |s| !s.contains("Live output"));
    screen.keys("ggj\r");
    screen.shows("end of forensics");
    screen.shows("exit code 0");
    screen.keys("\u{1b}");
    screen.until("the rows", |s| !s.contains("Live output"));
    screen.keys("ggjj\r");
    screen.shows("Type devvm to go ahead.");
    screen.keys("devvm\r");
    screen.shows("the VM reads: running");
    screen.keys("\u{1b}");
    screen.until("the rows", |s| !s.contains("Live output"));
    // It boots for a few seconds, and then answers.
    let mut tries = 0;
    loop {
        screen.keys("gg");
        screen.shows("│> status");
        screen.keys("jjjjjj\r");
        if screen
            .comes(Duration::from_secs(3), |s| s.contains("leaves it") && s.contains("devvm:~$"))
        {
            break;
        }
        screen.keys("\u{1d}");
        screen.keys("\u{1b}");
        screen.shows("│> devvm");
        tries += 1;
        assert!(tries < 20, "{}", screen.text());
    }
    screen.keys("uptime\r");
    screen.shows("load average: 0.08");
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    screen.keys("exit\r");
    screen.shows("the shell ended with exit code 0");
    screen.keys("\u{1b}");
    screen.shows("│> devvm");
    // Runs may be at work: the question is answered, and otherwise the second key comes too late.
    screen.keys("qy");
    screen.end();
}

#[test]
fn demo_that_was_killed_during_a_recovery_recovers_at_its_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("demo");
    let args = ["demo", "--headless", "--dir", root.to_str().unwrap()];
    let machine = root.join("machine");
    let edit = |file: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(from), "{file}: {text}");
        std::fs::write(root.join(file), text.replace(from, to)).unwrap();
    };
    // In its forensics, and when it starts the VM again.
    for step in ["=== forensics of VM", " starting\n"] {
        let mut child = afk(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains(" cycle by ")), "no cycle in the output");
        let output = machine.join("run/afk-pve.work/out");
        let has_step = || std::fs::read_to_string(&output).is_ok_and(|text| text.contains(step));
        wait_for(step, has_step);
        child.kill().unwrap();
        child.wait().unwrap();
        if step.contains("forensics") {
            // The verb of the killed demo goes on for longer than the next demo needs to come to its own,
            // which is one more than the rate allows.
            edit("machine/qm", "sleep 3", "sleep 25");
            edit("afk.toml", "drill_days = 0\n", "drill_days = 0\nmutations = 1\n");
        }
    }
    let out = afk(&args).output().unwrap();
    let printed = format!("{}{}", text(&out.stdout), text(&out.stderr));
    assert!(out.status.success() && printed.contains("ok  devvm"), "{printed}");
    // The verbs of the killed demos have ended with it.
    let run = machine.join("run").display().to_string();
    let ended = || {
        let mut all = afk::process::procfs::processes();
        !all.any(|process| process.state != b'Z' && process.has("BREAKGLASS_RUN_DIR", &run))
    };
    wait_for("the end of the machine's processes", ended);
}
