//! The terminal around the cockpit: pastes that a link cut, job control, and terminals that can't show a
//! screen.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::AFK;
use crate::support::pty::Terminal;

fn demo() -> (tempfile::TempDir, Terminal) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("demo");
    let args = ["demo", "--pace", "0", "--dir", root.to_str().unwrap()];
    let terminal = Terminal::start(&args, 80, 24, dir.path());
    (dir, terminal)
}

#[test]
fn paste_that_a_slow_link_cut_presses_no_key() {
    let (_dir, mut terminal) = demo();
    terminal.shows(">1 Queue");
    for (begin, rest) in [
        ("\u{1b}", "[200~xylophone\ny\nq\u{1b}[201~"),
        ("\u{1b}[20", "0~xylophone\ny\nq\u{1b}[201~"),
    ] {
        terminal.keys(begin);
        // Longer than an escape may be the start of a key.
        terminal.bytes_within(Duration::from_millis(40));
        terminal.keys(rest);
        terminal.shows("the pasted text was ignored");
        terminal.keys("?");
        terminal.shows("┌ Help ");
        terminal.keys("\u{1b}");
        terminal.until("no help", |screen| !screen.contains("┌ Help "));
    }
    terminal.keys("qy");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn background_that_the_terminal_reports_chooses_the_theme() {
    let (_dir, mut terminal) = demo();
    terminal.shows(">1 Queue");
    let asked = |terminal: &Terminal| terminal.bytes.windows(6).any(|bytes| bytes == b"\x1b]11;?");
    assert!(asked(&terminal), "the terminal was not asked for its background");
    // Cut by a slow link, it is still no key.
    terminal.keys("\u{1b}]11;rgb:ff");
    terminal.bytes_within(Duration::from_millis(60));
    terminal.keys("ff/ffff/ffff\u{1b}\\");
    terminal.keys("T");
    // The one after the light theme.
    terminal.shows("theme: high-contrast");
    terminal.keys("qy");
    assert_eq!(terminal.end(), 0);
}

/// The state of a process as `/proc` has it: `S`, `R`, `T`.
fn state_of(pid: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?')
}

#[test]
fn suspended_cockpit_gives_the_terminal_back_and_comes_back_whole() {
    let (_dir, mut terminal) = demo();
    terminal.shows(">1 Queue");
    let id = terminal.child.process_id().unwrap().cast_signed();
    let pid = Pid::from_raw(id).unwrap();
    for by_key in [true, false] {
        if by_key {
            terminal.keys("\u{1a}");
        } else {
            kill_process(pid, Signal::TSTP).unwrap();
        }
        terminal.read_until("the stop", || state_of(id) == 'T');
        // What was written before the stop arrives after it.
        terminal.bytes_within(Duration::from_millis(200));
        let bytes = String::from_utf8_lossy(&terminal.bytes).into_owned();
        let (entered, left) = (bytes.rfind("\x1b[?1049h").unwrap(), bytes.rfind("\x1b[?1049l"));
        assert!(left.is_some_and(|left| left > entered), "the alternate screen was not left");
        kill_process(pid, Signal::CONT).unwrap();
        terminal.shows(">1 Queue");
        terminal.keys("?");
        terminal.shows("┌ Help ");
        terminal.keys("\u{1b}");
        terminal.until("no help", |screen| !screen.contains("┌ Help "));
    }
    terminal.keys("qy");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn crash_leaves_no_modes_behind() {
    for signal in [Signal::SEGV, Signal::KILL] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("demo");
        // The terminal belongs to a shell, as it does to an operator's.
        let line = "\"$0\" demo --pace 0 --dir \"$1\"; echo shell: $?; read -r _";
        let args = ["-c", line, AFK, root.to_str().unwrap()];
        let mut terminal = Terminal::program("sh", &args, 80, 24, dir.path());
        terminal.shows(">1 Queue");
        let shell = terminal.child.process_id().unwrap();
        let children = format!("/proc/{shell}/task/{shell}/children");
        let children = std::fs::read_to_string(children).unwrap();
        let id: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
        let pid = Pid::from_raw(id).unwrap();
        // Rust's own handler takes the first SIGSEGV of a program that has not overflown its stack.
        terminal.read_until("the end", || kill_process(pid, signal).is_err());
        terminal.shows("shell: ");
        terminal.shows("afk has crashed");
        let bytes = String::from_utf8_lossy(&terminal.bytes).into_owned();
        assert!(bytes.rfind("\x1b[?1049h") < bytes.rfind("\x1b[?1049l"));
        // Lines are echoed and end with Enter again.
        terminal.keys("echoed\r");
        terminal.shows("echoed");
        terminal.end();
    }
}

#[test]
fn terminal_without_cursor_movement_is_refused_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    for term in ["dumb", ""] {
        let root = dir.path().join(format!("demo{term}"));
        let args = ["demo", "--pace", "0", "--dir", root.to_str().unwrap()];
        let mut terminal = Terminal::with_env(AFK, &args, dir.path(), &[("TERM", term)]);
        assert_ne!(terminal.end(), 0);
        let said = terminal.text();
        assert!(said.contains("can't show a whole screen: TERM is"), "{said}");
        assert!(said.contains("afk watch"), "{said}");
    }
}
