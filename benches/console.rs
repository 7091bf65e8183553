//! Measures a breakglass shell while 50 MB of output pass through it: the latency of a key,
//! compared with the latency at rest, and the memory of the cockpit and of the runtime before and
//! after.
//!
//! Run it with `cargo bench --bench console`. It needs OpenSSH's server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench may panic, and prints its figures"
)]
#![allow(dead_code, reason = "a bench uses a part of the tests' support")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use rustix::process::{Pid, setpriority_process};
use support::pty::Terminal;
use support::pve::Pve;
use support::world::{END, World};

/// The key that leaves any shell, Ctrl-].
const LEAVE: &str = "\u{1d}";

fn main() {
    // `cargo test --all-targets` and nextest start a bench to see that it runs.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let world = World::new(END).with_kill_switch();
    let Some(pve) = Pve::start(world.root()) else { return };
    let section = pve.section(world.root(), "");
    let world = world.with(&section);
    let up = world.up();
    let mut screen = world.terminal(&["breakglass"], 80, 24);
    screen.shows("No AI in the path");
    screen.keys("a");
    screen.shows("Say why.");
    screen.keys("to measure\r");
    screen.shows("UNLOCKED by");
    screen.keys("gg");
    screen.shows("│> status");
    screen.keys("jjjjjj\r");
    screen.shows("leaves it");
    screen.until("a prompt", |s| s.contains("# ") || s.contains("$ "));
    // A real VM is another machine. Here its shell gets the lowest priority, also under a kernel
    // that shares the processors by session (autogroup) and ignores niceness between sessions.
    screen.keys(
        "renice -n 19 -p $PPID $$ >/dev/null; for p in $PPID $$; do echo 19 >/proc/$p/autogroup; \
         done 2>/dev/null; PS1='$ '; clear\r",
    );
    screen.until("a bare prompt", |s| s.contains("│$ "));
    let cockpit = screen.child.process_id().unwrap();
    if let Err(error) = go_first() {
        println!(
            "can't raise the priority ({error}): the results include this bench's own wait for a processor"
        );
    }
    let memory_now = || [memory(cockpit), memory(up.0.id())];
    println!("console                                       p50        p90        p99        most");
    row("a key at rest", &mut keys(&mut screen, 60, |_| false));
    // The first round fills the 10,000 lines of scrollback; after it the memory must not grow.
    for round in 1..=3 {
        let before = memory_now();
        screen.keys("clear; yes 'the quick brown fox jumps over the lazy dog' | head -c 50000000; echo; echo over\r");
        screen.shows("the quick brown fox");
        let began = Instant::now();
        let mut all = keys(&mut screen, 400, |s| s.contains("│over"));
        screen.until("its end", |s| s.contains("│over"));
        row(&format!("a key while 50 MB pass, round {round}"), &mut all);
        let after = memory_now();
        println!(
            "  {} keys in {:.1} s; memory of the cockpit {} -> {} MiB, of the runtime {} -> {} MiB",
            all.len(),
            began.elapsed().as_secs_f64(),
            before[0],
            after[0],
            before[1],
            after[1]
        );
        screen.keys("clear\r");
        screen.until("a bare prompt", |s| !s.contains("│over"));
    }
}

/// Leaves the shell and returns to it until `over` holds or `most` keys are measured; returns the
/// latency of each key.
fn keys(screen: &mut Terminal, most: usize, over: impl Fn(&str) -> bool) -> Vec<Duration> {
    let mut all = Vec::new();
    while all.len() < most && !over(&screen.text()) {
        for (key, shows) in [(LEAVE, "it goes on"), ("\r", "leaves it")] {
            let began = Instant::now();
            screen.keys(key);
            screen.shows(shows);
            all.push(began.elapsed());
        }
    }
    all
}

fn row(what: &str, all: &mut [Duration]) {
    all.sort();
    let ms = |at: usize| all[at.min(all.len() - 1)].as_secs_f64() * 1e3;
    let at = |percent: usize| ms(all.len() * percent / 100);
    let most = ms(all.len() - 1);
    println!("{what:<40} {:>7.1}ms {:>8.1}ms {:>8.1}ms {most:>8.1}ms", at(50), at(90), at(99));
}

/// Raises the priority of this process: a real terminal is another machine and needs no processor
/// of ours.
fn go_first() -> std::io::Result<()> {
    for thread in std::fs::read_dir("/proc/self/task")? {
        let name = thread?.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        setpriority_process(id, -20)?;
    }
    Ok(())
}

/// The resident memory of a process in MiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
