//! The cockpit in a real pty, seen through a real emulator.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::pty::Terminal;
use crate::support::world::World;
use crate::support::{journal_id, log, processes_with};

fn demo(columns: u16, rows: u16) -> (tempfile::TempDir, Terminal) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("demo");
    let args = ["demo", "--pace", "0", "--dir", root.to_str().unwrap()];
    let terminal = Terminal::start(&args, columns, rows, dir.path());
    (dir, terminal)
}

/// Waits until every run of the demo is done or waits for a human.
fn settled(terminal: &mut Terminal) {
    terminal.until("two open escalations", |s| {
        s.contains("inbox 2") && s.contains("permits 0/2")
            || s.contains("0/2 q0") && s.contains("!2")
            || s.contains("0/2  queue 0") && s.contains("inbox 2")
    });
}

#[test]
fn operator_reads_and_answers_a_frozen_run_by_key() {
    let (dir, mut terminal) = demo(200, 50);
    terminal.shows("1 Queue");
    for pane in ["2 Worktrees", "3 Transcript", "4 Deploy health"] {
        terminal.shows(pane);
    }
    settled(&mut terminal);
    terminal.shows("labelled by mallory, who");
    terminal.shows("acme/vault is not on the a");
    terminal.keys("i");
    terminal.shows("Inbox · 2 open");
    terminal.shows("the limit of 2 attempts is reached");
    terminal.shows("MOON_KEY is not set");
    terminal.takes_answers();
    terminal.keys("\r");
    terminal.shows("Answer e");
    terminal.keys("do without the key\r");
    terminal.shows("answer: done");
    // The reopened run becomes healthy, and the issue that waited for its lock starts.
    terminal.keys("\u{1b}");
    terminal.until("the moon and the count", |s| {
        let done = |name: &str| s.lines().any(|l| l.contains(name) && l.contains("done: "));
        done("acme/pulse#9") && done("acme/pulse#10")
    });
    terminal.until("nothing runs", |s| s.contains("permits 0/2"));
    terminal.keys("q");
    assert_eq!(terminal.end(), 0);
    assert!(terminal.text().contains("remove it with afk demo --remove"), "{}", terminal.text());
    let subjects = log(&dir.path().join("demo/remotes/pulse.git"), "master", "%s").join("\n");
    assert!(subjects.contains("Stay healthy without the moon's key"), "{subjects}");
    assert!(processes_with("AFK_STATE", &journal_id(&dir.path().join("demo/state"))).is_empty());
}

#[test]
fn everything_is_reached_by_keyboard_at_80x24_and_40x12() {
    for (columns, rows) in [(80, 24), (40, 12)] {
        let (_dir, mut terminal) = demo(columns, rows);
        settled(&mut terminal);
        for (key, shows) in [
            ("2", "2 Worktrees"),
            ("3", "3 Transcript"),
            ("4", "4 Deploy health"),
            ("5", "devvm: not read yet"),
            ("1", "1 Queue"),
            ("?", "┌ Help "),
            ("q", "1 Queue"),
            (":", "┌ Find action "),
            ("inbox\r", "Inbox · 2 open"),
            ("q", "1 Queue"),
        ] {
            terminal.keys(key);
            terminal.shows(shows);
        }
        // The escalation can be read to its end before it is answered.
        terminal.keys("i");
        terminal.shows("Inbox");
        // A page at a time: lines that no frame has shown don't count as read.
        for _ in 0..200 {
            terminal.keys("J");
            terminal.bytes_within(std::time::Duration::from_millis(100));
            if !terminal.text().contains("below ┘") {
                break;
            }
        }
        terminal.takes_answers();
        terminal.keys("a");
        terminal.shows("┌ Approve e");
        terminal.keys("n");
        terminal.shows("nothing was changed");
        terminal.keys("qq");
        assert_eq!(terminal.end(), 0);
    }
}

#[test]
fn resizing_leaves_no_garbage_on_the_screen() {
    let (_dir, mut terminal) = demo(200, 50);
    settled(&mut terminal);
    for (columns, rows, shows) in [
        (80, 24, ">1 Queue"),
        (40, 12, ">1 Queue"),
        (30, 8, "afk needs 40x10"),
        (1, 1, "a"),
        (120, 30, "3 Transcript"),
        // The text is in the pane only, not in the tab line of the earlier size.
        (200, 50, "devvm: not read yet"),
    ] {
        terminal.resize(columns, rows);
        terminal.shows(shows);
    }
    terminal.keys("\u{1b}");
    // Both kept worktrees show it after the last scan of their processes.
    terminal.until("the whole, still screen", |s| {
        let still = s.matches("no process").count() == 2;
        still && s.lines().count() == 50 && s.contains("<Enter> Open")
    });
    // A key takes the notice of the last outcome away, which the redraw's key would do otherwise.
    terminal.keys("1");
    terminal.until("the screen without a notice", |s| {
        s.lines().nth(48).is_some_and(|line| line.starts_with('└'))
    });
    // A complete redraw gives the same picture, unless the clock's minute has changed.
    let clock = |screen: &str| screen.lines().next().map(|line| line.trim_end().len().max(5) - 5);
    loop {
        let (before, bytes) = (terminal.text(), terminal.bytes.len());
        terminal.keys("\u{c}");
        while !terminal.bytes[bytes..].windows(8).any(|w| w == b"\x1b[?2026l") {
            assert!(terminal.bytes_within(Duration::from_secs(5)) > 0, "nothing was drawn");
        }
        let after = terminal.text();
        let minute = |screen: &str| clock(screen).map(|at| screen[at..at + 5].to_owned());
        if minute(&before) == minute(&after) {
            assert_eq!(after, before);
            break;
        }
    }
    terminal.keys("q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn unchanged_screen_writes_no_bytes() {
    let (_dir, mut terminal) = demo(200, 50);
    settled(&mut terminal);
    // The last scan of the processes and the clock's minute change the screen. Both are rare, so
    // one of a few windows is silent throughout.
    let received = (0..4).map(|_| terminal.bytes_within(Duration::from_secs(4))).find(|n| *n == 0);
    assert_eq!(received, Some(0));
    terminal.keys("q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn signal_restores_the_terminal() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT, Signal::ABORT] {
        let (_dir, mut terminal) = demo(80, 24);
        terminal.shows("1 Queue");
        let pid = terminal.child.process_id().unwrap().cast_signed();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        terminal.end();
        let bytes = String::from_utf8_lossy(&terminal.bytes).into_owned();
        let left = bytes.rfind("\x1b[?1049l").expect("the alternate screen was not left");
        assert!(bytes.rfind("\x1b[?1049h").unwrap() < left);
        assert!(bytes[left..].contains("\x1b[?25h") || bytes.contains("\x1b[?25h"), "no cursor");
    }
}

#[test]
fn cockpit_without_a_configuration_offers_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("none.toml");
    let args = ["--config", config.to_str().unwrap(), "--state", dir.path().to_str().unwrap()];
    let mut terminal = Terminal::start(&args, 80, 24, dir.path());
    terminal.shows("There is no configuration yet");
    terminal.shows("d, i or q:");
    terminal.keys("q\r");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn operator_steers_an_agent_and_cancels_its_run_by_key() {
    let world = World::new(
        "echo '{\"type\":\"text\",\"text\":\"I am here\"}'\nread -r steer\necho '{\"type\":\"steer_taken\"}'\nsleep 1000",
    )
    .with("[limits]\ngrace_seconds = 1");
    world.config();
    let (config, state) = (world.path("afk.toml"), world.state());
    let args = ["--config", config.to_str().unwrap(), "--state", state.to_str().unwrap()];
    let up = [&args[..], &["up", "--cockpit"]].concat();
    let mut terminal = Terminal::start(&up, 200, 50, world.root());
    terminal.shows("I am here");
    terminal.keys("s");
    terminal.shows("┌ Steer ");
    terminal.keys("look at the test first\r");
    terminal.shows("look at the test first");
    terminal.shows("message taken");
    terminal.keys("x");
    terminal.shows("(r1)?");
    terminal.keys("y");
    terminal.shows("cancelled: cancelled by");
    // A key throws the kill switch.
    terminal.keys("p");
    terminal.shows("Throw the kill switch?");
    terminal.keys("y");
    terminal.shows("KILL SWITCH");
    // A prompt submitted by another command reaches this afk, which refuses it.
    let out = crate::support::afk(&[&args[..], &["submit", "acme/thing", "hello"]].concat())
        .output()
        .unwrap();
    let printed = crate::support::text(&out.stderr);
    assert!(printed.contains("the kill switch is on"), "{printed}");
    terminal.keys("q");
    assert_eq!(terminal.end(), 0);
}
