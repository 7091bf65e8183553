//! After `kill -9` at any moment and a restart, every issue reaches its proper outcome, each head is
//! pushed once, and nothing is left behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::{afk, git, journal_id, processes_with, repository_folder, text};

/// The kills in all, where `AFK_CRASH_KILLS` sets no other number, and in each world.
const ALL_KILLS: u64 = 50;
const KILLS: u64 = 5;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Runs the demo until it has printed `lines` lines and `more` has passed, then kills it. True if
/// it ended by itself before.
fn run_and_kill(root: &Path, lines: u64, more: Duration) -> bool {
    let mut child = afk(&["demo", "--headless", "--no-machine", "--dir", root.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (reported, hears) = mpsc::channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if reported.send(line).is_err() {
                break;
            }
        }
    });
    for _ in 0..lines {
        if hears.recv().is_err() {
            return child.wait().unwrap().success();
        }
    }
    // Kill at some moment after that line, unless the demo ends first.
    let until = std::time::Instant::now() + more;
    while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
        if let Err(mpsc::RecvTimeoutError::Disconnected) = hears.recv_timeout(left) {
            return child.wait().unwrap().success();
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

#[test]
fn kills_lose_and_repeat_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let base = number("AFK_CRASH_SEED").unwrap_or(1);
    let kills = number("AFK_CRASH_KILLS").unwrap_or(ALL_KILLS);
    let mut ended_before = 0;
    for world in 0..kills.div_ceil(KILLS) {
        let mut rng = Rng(base * 1000 + world);
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("demo");
        let mut trace = Vec::new();
        for _ in 0..KILLS {
            let (lines, ms) = (1 + rng.below(22), rng.below(150));
            trace.push((lines, ms));
            ended_before += u64::from(run_and_kill(&root, lines, Duration::from_millis(ms)));
        }
        let out = afk(&["demo", "--headless", "--no-machine", "--dir", root.to_str().unwrap()])
            .output()
            .unwrap();
        let reported = format!(
            "AFK_CRASH_SEED={base} world {world} {trace:?}\n{}{}",
            text(&out.stdout),
            text(&out.stderr)
        );
        assert!(out.status.success(), "{reported}");
        check(&root, &reported);
    }
    let all = kills.div_ceil(KILLS) * KILLS;
    // A demo that always ends before its kill would prove nothing.
    println!("{} kills, {ended_before} more came after the demo's end", all - ended_before);
    assert!(ended_before < all / 2, "{ended_before} of {all}");
}

fn check(root: &Path, reported: &str) {
    // Each push leaves a line in the remote's reflog; the first is from the demo's set-up.
    for (name, pushes) in [("greeter", 2), ("ledger", 2), ("pulse", 5)] {
        let remote = root.join("remotes").join(format!("{name}.git"));
        let reflog = std::fs::read_to_string(remote.join("logs/refs/heads/master")).unwrap();
        assert_eq!(reflog.lines().count(), 1 + pushes, "pushes to {name}: {reflog}\n{reported}");
        // Fast-forwards only: every old head is an ancestor of the new one.
        for line in reflog.lines().skip(1) {
            let (old, new) = line.split_once(' ').unwrap();
            git(&remote, &["merge-base", "--is-ancestor", old, &new[..40]]);
        }
    }
    let state = root.join("state");
    let left = processes_with("AFK_STATE", &journal_id(&state));
    assert!(left.is_empty(), "processes are left: {left:?}\n{reported}");

    // One pooled worktree for each repository; runs that wait for a human keep their own besides.
    for (repo, slots) in [("acme/greeter", 1), ("acme/ledger", 2), ("acme/pulse", 2)] {
        let folder = repository_folder(&state, repo);
        let count = std::fs::read_dir(&folder)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("wt-"))
            .count();
        assert!(count <= slots, "{count} worktrees of {repo}\n{reported}");
        let listed = git(&folder.join("base.git"), &["worktree", "list", "--porcelain"]);
        assert!(!listed.contains("prunable"), "{listed}\n{reported}");
    }
    for (file, comments) in [("01-greet-by-name.md", 1), ("09-moon.md", 1), ("10-count.md", 0)] {
        let issue = std::fs::read_to_string(root.join("issues").join(file)).unwrap();
        assert_eq!(issue.matches("<!-- afk ").count(), comments, "{issue}\n{reported}");
    }
    let journal = afk::journal::Journal::open_read_only(&state).unwrap();
    assert_eq!(afk::journal::chain::verify(&journal).unwrap(), Ok(journal.last()));
}
