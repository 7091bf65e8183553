//! Measures what a user feels, on the program itself in a pty: the first frame, a key to the screen
//! at rest and under load, idle CPU and bytes, and memory. Each figure stands beside a trivial floor
//! from the same run.
//!
//! Run it with `cargo bench --bench scenario`. `AFK_BENCH_IDLE_S` sets the idle time in seconds
//! (30).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench may panic, and prints its figures"
)]
#![allow(dead_code, reason = "a bench uses a part of the tests' support")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use support::pty::Terminal;
use support::world::World;

fn main() {
    // `cargo test --all-targets` and nextest start a bench to see that it runs.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    println!("scenario                                   measured        floor     ratio");
    first_frame();
    keys_at_rest_and_idle();
    keys_under_load();
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[(times.len() * 99 / 100).min(times.len() - 1)])
}

fn row(what: &str, measured: Duration, floor: Duration) {
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    println!(
        "{what:<40} {:>9.2}ms {:>9.2}ms {:>9.2}",
        ms(measured),
        ms(floor),
        ms(measured) / ms(floor).max(1e-6)
    );
}

/// Starts the demo, and waits until only a human can continue.
fn settled(dir: &Path) -> Terminal {
    let root = dir.join("demo");
    let args = ["demo", "--pace", "0", "--dir", root.to_str().unwrap()];
    let mut terminal = Terminal::start(&args, 200, 50, dir);
    terminal.until("a settled demo", |s| s.contains("inbox 2") && s.contains("permits 0/2"));
    terminal.bytes_within(Duration::from_millis(1500));
    terminal
}

fn first_frame() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = settled(dir.path());
    first.keys("q");
    first.end();
    let root = dir.path().join("demo");
    let args = ["demo", "--pace", "0", "--dir", root.to_str().unwrap()];
    let (mut frames, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let began = Instant::now();
        let mut terminal = Terminal::start(&args, 200, 50, dir.path());
        terminal.shows("1 Queue");
        frames.push(began.elapsed());
        terminal.keys("q");
        terminal.end();
        let began = Instant::now();
        let mut trivial = Terminal::program("sh", &["-c", "echo ready"], 200, 50, dir.path());
        trivial.shows("ready");
        floors.push(began.elapsed());
        trivial.end();
    }
    row("first frame, median of 15", median(frames).0, median(floors).0);
}

/// The time from a key to the first byte of its answer.
fn key(terminal: &mut Terminal, keys: &str) -> Duration {
    terminal.bytes_within(Duration::from_millis(30));
    let began = Instant::now();
    terminal.keys(keys);
    terminal.next_bytes();
    began.elapsed()
}

fn echo_floor(dir: &Path) -> Duration {
    let mut cat = Terminal::program("cat", &[], 200, 50, dir);
    let times = (0..200).map(|_| key(&mut cat, "x")).collect();
    cat.keys("\u{4}\u{4}");
    median(times).0
}

fn keys_at_rest_and_idle() {
    let dir = tempfile::tempdir().unwrap();
    let floor = echo_floor(dir.path());
    let mut terminal = settled(dir.path());
    let times: Vec<Duration> =
        (0..200).map(|n| key(&mut terminal, if n % 20 < 10 { "j" } else { "k" })).collect();
    let (p50, p99) = median(times);
    row("key to screen at rest, p50 of 200", p50, floor);
    row("key to screen at rest, p99 of 200", p99, floor);

    // The rest of the last answer does not count as idle output.
    terminal.bytes_within(Duration::from_millis(500));
    let seconds: u64 =
        std::env::var("AFK_BENCH_IDLE_S").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    // The header's clock redraws once a minute: begin right after that.
    let now = afk::runtime::clock::wall().0.rem_euclid(60_000).cast_unsigned();
    if 60_000 - now < seconds * 1000 + 500 {
        terminal.bytes_within(Duration::from_millis(60_500 - now));
    }
    let pid = terminal.child.process_id().unwrap().cast_signed();
    let before = afk::process::procfs::process(pid).unwrap();
    let switches = wakeups(pid);
    let bytes = terminal.bytes_within(Duration::from_secs(seconds));
    let after = afk::process::procfs::process(pid).unwrap();
    println!(
        "idle for {seconds} s: {} ticks of CPU (10 ms each), {bytes} bytes, {} wakeups, {} KiB of its own (PSS)",
        after.cpu_ticks - before.cpu_ticks,
        wakeups(pid).saturating_sub(switches),
        pss_kib(pid)
    );
    terminal.keys("q");
    terminal.end();
}

/// The memory of a process with its share of mapped pages (PSS), in KiB.
fn pss_kib(pid: i32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|kib| kib.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn wakeups(pid: i32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .filter_map(|status| {
            status.lines().find_map(|l| {
                l.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok()
            })
        })
        .sum()
}

/// Fifty repositories, each with an agent that writes 200 lines a second.
fn keys_under_load() {
    const AGENTS: usize = 50;
    let world = World::new(
        "i=0; while :; do n=0; out=; while [ $n -lt 40 ]; do out=\"$out{\\\"type\\\":\\\"text\\\",\\\"text\\\":\\\"line $i of what an agent says while it works\\\"}\n\"; n=$((n+1)); i=$((i+1)); done; printf '%s' \"$out\"; sleep 0.2; done",
    );
    let mut text = String::from(
        "kill_switch = false\ntrusted = ['ana']\nagent = 'shell'\ncapacity = 50\nallowlist = [",
    );
    for n in 0..AGENTS {
        let _ = write!(text, "'acme/r{n}', ");
    }
    let _ = write!(
        text,
        "]\n[limits]\ngrace_seconds = 1\n[tracker]\nfolder = 'issues'\n[agents.shell]\ncommand = ['sh', '{}']\n",
        world.path("agent.sh").display()
    );
    for n in 0..AGENTS {
        let _ = write!(text, "[repos.'acme/r{n}']\nremote = '{}'\n", world.remote().display());
        let issue = format!(
            "+++\nrepo = 'acme/r{n}'\nnumber = 1\ntitle = 't'\nlabels = ['ready-for-agent']\narmed_by = 'ana'\n+++\n"
        );
        std::fs::write(world.path(&format!("issues/r{n}.md")), issue).unwrap();
    }
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let config = world.path("afk.toml");
    std::fs::write(&config, text).unwrap();
    let floor = echo_floor(world.root());
    let args = ["--config", config.to_str().unwrap(), "--state", world.state().to_str().unwrap()]
        .map(str::to_owned);
    let args: Vec<&str> = args.iter().map(String::as_str).chain(["up", "--cockpit"]).collect();
    let mut terminal = Terminal::start(&args, 200, 50, world.root());
    terminal.shows("permits 50/50");
    terminal.bytes_within(Duration::from_secs(8));
    let mut times = Vec::new();
    for n in 0..200 {
        // Under load the screen changes all the time; the answer to a key is the moved selection.
        let down = n % 20 < 10;
        let before = terminal.selected();
        let began = Instant::now();
        terminal.keys(if down { "j" } else { "k" });
        while terminal.selected() == before {
            terminal.next_bytes();
        }
        times.push(began.elapsed());
    }
    let (p50, p99) = median(times);
    row("key to screen, 50 agents, p50 of 200", p50, floor);
    row("key to screen, 50 agents, p99 of 200", p99, floor);
    let pid = terminal.child.process_id().unwrap().cast_signed();
    let process = afk::process::procfs::process(pid).unwrap();
    let bytes = terminal.bytes_within(Duration::from_secs(5)) / 5;
    let later = afk::process::procfs::process(pid).unwrap();
    println!(
        "with 50 agents: {} KiB of its own (PSS), {} % of a core, {bytes} bytes a second",
        pss_kib(pid),
        (later.cpu_ticks - process.cpu_ticks) / 5
    );
    terminal.keys("q");
    terminal.shows("Quit?");
    terminal.keys("y");
    terminal.end();
}
