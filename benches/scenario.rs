//! Measures what a user feels, on the program itself in a pty: the first frame, a key to the screen
//! at rest and under load, idle CPU and bytes, and memory. Each figure stands beside a trivial floor
//! from the same run.
//!
//! Run it with `cargo bench --bench scenario`. `AFK_BENCH_IDLE_S` sets the idle time in seconds
//! (30). `AFK_BENCH_ONLY` limits the bench to one part: `start`, `breakglass`, `rest`, `load` or `idle`.
//! `AFK_BENCH_BASE` names another build of afk, whose figures stand beside this one's: the two take turns,
//! key by key. `AFK_BENCH_PROGRAM` names a build of this afk in another profile than the bench's own.

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

use support::AFK;
use support::pty::Terminal;
use support::world::World;

fn main() {
    // `cargo test --all-targets` and nextest start a bench to see that it runs.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let base = std::env::var("AFK_BENCH_BASE").ok();
    let this = std::env::var("AFK_BENCH_PROGRAM").unwrap_or_else(|_| AFK.to_owned());
    let programs: Vec<&str> = std::iter::once(this.as_str()).chain(base.as_deref()).collect();
    println!("scenario                                   measured        floor     ratio     base");
    let only = std::env::var("AFK_BENCH_ONLY").ok();
    let wants = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if wants("start") {
        first_frame(&programs);
    }
    if wants("breakglass") {
        // The first edition has no breakglass of its own to start.
        breakglass_alone(&programs[..1]);
    }
    if wants("rest") {
        let few = fleet_that_rests(&programs, 300);
        let many = fleet_that_rests(&programs, 10_000);
        for (what, few, many) in
            [("a key", few.key, many.key), ("a first frame", few.frame, many.frame)]
        {
            println!("{what} with 10,000 issues costs {:.2} times one with 300", many / few);
        }
    }
    if wants("load") {
        keys_under_load(&programs);
    }
    if wants("idle") {
        idle(&this);
    }
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[(times.len() * 99 / 100).min(times.len() - 1)])
}

/// Prints the times of a measurement: those of this program, of the floor, and of the base.
fn row(what: &str, measured: &[Duration], floor: Duration) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let base = measured.get(1).map(|time| format!("{:>6.2}ms", ms(*time))).unwrap_or_default();
    println!(
        "{what:<40} {:>9.2}ms {:>9.2}ms {:>9.2} {base}",
        ms(measured[0]),
        ms(floor),
        ms(measured[0]) / ms(floor).max(1e-6)
    );
}

/// Prints the median and the 99th percentile of each program's times, and returns this program's median
/// in milliseconds.
fn rows(what: &str, times: Vec<Vec<Duration>>, floor: Duration) -> f64 {
    let count = times[0].len();
    let (middle, worst): (Vec<_>, Vec<_>) = times.into_iter().map(median).unzip();
    row(&format!("{what}, p50 of {count}"), &middle, floor);
    row(&format!("{what}, p99 of {count}"), &worst, floor);
    middle[0].as_secs_f64() * 1e3
}

/// The time until a trivial program shows a word.
fn start_floor(dir: &Path) -> Duration {
    let began = Instant::now();
    let mut trivial = Terminal::program("sh", &["-c", "echo ready"], 200, 50, dir);
    trivial.shows("ready");
    let took = began.elapsed();
    trivial.end();
    took
}

/// Starts the demo, and waits until only a human can continue.
fn settled(program: &str, dir: &Path) -> Terminal {
    let root = dir.join("demo");
    let args = ["demo", "--pace", "0", "--dir", root.to_str().unwrap()];
    let mut terminal = Terminal::program(program, &args, 200, 50, dir);
    terminal.until("a settled demo", |s| s.contains("inbox 2") && s.contains("permits 0/2"));
    terminal.bytes_within(Duration::from_millis(1500));
    terminal
}

fn first_frame(programs: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let root = |at: usize| dir.path().join(format!("demo-{at}"));
    let args =
        |at: usize| ["demo", "--pace", "0", "--dir", root(at).to_str().unwrap()].map(str::to_owned);
    let start = |at: usize, program: &str| {
        let args = args(at);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Terminal::program(program, &args, 200, 50, dir.path())
    };
    for (at, program) in programs.iter().enumerate() {
        let mut first = start(at, program);
        first.until("a settled demo", |s| s.contains("inbox 2") && s.contains("permits 0/2"));
        first.keys("q");
        first.end();
    }
    let (mut frames, mut floors) = (vec![Vec::new(); programs.len()], Vec::new());
    for _ in 0..15 {
        for (at, program) in programs.iter().enumerate() {
            let began = Instant::now();
            let mut terminal = start(at, program);
            terminal.shows("1 Queue");
            frames[at].push(began.elapsed());
            terminal.keys("q");
            terminal.end();
        }
        floors.push(start_floor(dir.path()));
    }
    let middle: Vec<Duration> = frames.into_iter().map(|times| median(times).0).collect();
    row("first frame, median of 15", &middle, median(floors).0);
}

/// `afk breakglass` without a running afk, from the start of the process to its first screen: in a state
/// folder that is not there yet, where it creates the journal, and in one with a journal.
fn breakglass_alone(programs: &[&str]) {
    let world = World::new("").with_kill_switch();
    let key = world.path("key");
    support::pve::key(&key, "ed25519");
    let host = format!("address = '127.0.0.1:1'\nuser = 'root'\nkey = '{}'", key.display());
    let world = world.with(&format!(
        "[breakglass]\nvm = 'devvm'\n[breakglass.hypervisor]\n{host}\n[breakglass.hosts.devvm]\n{host}\n"
    ));
    world.config();
    let config = world.path("afk.toml").display().to_string();
    let start = |program: &str, state: &str| {
        let state = world.path(state).display().to_string();
        let args = ["--config", &config, "--state", &state, "breakglass"];
        let began = Instant::now();
        let mut terminal = Terminal::program(program, &args, 200, 50, world.root());
        terminal.shows("No AI in the path");
        let took = began.elapsed();
        terminal.keys("q");
        terminal.end();
        took
    };
    let mut floors = Vec::new();
    let mut frames = [(); 2].map(|()| vec![Vec::new(); programs.len()]);
    for (at, program) in programs.iter().enumerate() {
        start(program, &format!("kept-{at}"));
    }
    for n in 0..15 {
        for (at, program) in programs.iter().enumerate() {
            frames[0][at].push(start(program, &format!("new-{at}-{n}")));
            frames[1][at].push(start(program, &format!("kept-{at}")));
        }
        floors.push(start_floor(world.root()));
    }
    let floor = median(floors).0;
    for (what, times) in ["breakglass alone, first start", "breakglass alone"].iter().zip(frames) {
        rows(what, times, floor);
    }
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

/// A fleet with a number of issues, two of which are worked on by agents that wait.
fn fleet_at_rest(program: &str, issues: usize) -> (World, Terminal) {
    let world = World::new(
        "n=0; while [ $n -lt 60 ]; do printf '{\"type\":\"text\",\"text\":\"line %s of its words\"}\n' $n; n=$((n+1)); done; exec sleep 100000",
    );
    for n in 1..=issues {
        let issue = format!(
            "+++\nrepo = 'acme/r{}'\nnumber = {n}\ntitle = 'The title of issue {n}'\nlabels = ['ready-for-agent']\narmed_by = 'ana'\n+++\n",
            n % 10
        );
        std::fs::write(world.path(&format!("issues/{n}.md")), issue).unwrap();
    }
    let mut terminal = up(program, &world, 10, 2);
    terminal.shows("permits 2/2");
    // A larger fleet takes longer until it has seen every issue.
    while terminal.bytes_within(Duration::from_secs(3)) > 0 {}
    (world, terminal)
}

/// Starts the cockpit with its own runtime over `repositories` that share one remote.
fn up(program: &str, world: &World, repositories: usize, capacity: usize) -> Terminal {
    // The agent's script lies in the world. The first edition has no wall that would hide it.
    let is_base = std::env::var("AFK_BENCH_BASE").is_ok_and(|base| base == program);
    let wall = if is_base {
        String::new()
    } else {
        format!("[sandbox]\nread = ['{}']\n", world.root().display())
    };
    let mut text = format!(
        "kill_switch = false\ntrusted = ['ana']\nagent = 'shell'\ncapacity = {capacity}\nallowlist = ["
    );
    for n in 0..repositories {
        let _ = write!(text, "'acme/r{n}', ");
    }
    let _ = write!(
        text,
        "]\n{wall}[limits]\ngrace_seconds = 1\n[tracker]\nfolder = 'issues'\n[agents.shell]\ncommand = ['sh', '{}']\n",
        world.path("agent.sh").display()
    );
    for n in 0..repositories {
        let _ = write!(text, "[repos.'acme/r{n}']\nremote = '{}'\n", world.remote().display());
    }
    if world.path("issues/1.md").exists() && capacity > 2 {
        std::fs::remove_file(world.path("issues/1.md")).unwrap();
    }
    let config = world.path("afk.toml");
    std::fs::write(&config, text).unwrap();
    let (config, state) = (config.display().to_string(), world.state().display().to_string());
    let args = ["--config", &config, "--state", &state, "up", "--cockpit"];
    Terminal::program(program, &args, 200, 50, world.root())
}

/// The medians of a fleet that rests, in milliseconds.
struct AtRest {
    key: f64,
    frame: f64,
}

/// Moves the selection between the two runs of a fleet that rests, and attaches further cockpits to it.
fn fleet_that_rests(programs: &[&str], issues: usize) -> AtRest {
    let mut fleets: Vec<_> =
        programs.iter().map(|program| fleet_at_rest(program, issues)).collect();
    let floor = echo_floor(fleets[0].0.root());
    let mut keys = vec![Vec::new(); programs.len()];
    for (_, terminal) in &mut fleets {
        terminal.keys("ggj");
        terminal.bytes_within(Duration::from_secs(1));
    }
    for n in 0..200 {
        for (at, (_, terminal)) in fleets.iter_mut().enumerate() {
            keys[at].push(key(terminal, if n % 2 == 0 { "k" } else { "j" }));
        }
    }
    let key = rows(&format!("key at rest, {issues} issues"), keys, floor);
    let (mut frames, mut floors) = (vec![Vec::new(); programs.len()], Vec::new());
    for _ in 0..15 {
        for (at, (world, _)) in fleets.iter().enumerate() {
            let config = world.path("afk.toml").display().to_string();
            let state = world.state().display().to_string();
            let args = ["--config", &config, "--state", &state, "attach"];
            let began = Instant::now();
            let mut cockpit = Terminal::program(programs[at], &args, 200, 50, world.root());
            cockpit.shows("1 Queue");
            frames[at].push(began.elapsed());
            cockpit.keys("q");
            cockpit.end();
        }
        floors.push(start_floor(fleets[0].0.root()));
    }
    let frame = rows(&format!("attach, {issues} issues"), frames, median(floors).0);
    for (_, terminal) in &mut fleets {
        let pid = terminal.child.process_id().unwrap().cast_signed();
        println!("  with {issues} issues: {} KiB of its own (PSS)", pss_kib(pid));
        leave(terminal);
    }
    AtRest { key, frame }
}

/// Quits the cockpit together with the runs at work.
fn leave(terminal: &mut Terminal) {
    terminal.keys("q");
    terminal.shows("Quit?");
    terminal.keys("y");
    terminal.end();
}

/// What a demo that waits for a human costs.
fn idle(program: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = settled(program, dir.path());
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

/// A hundred repositories, each with an agent that writes 200 lines a second.
fn keys_under_load(programs: &[&str]) {
    const AGENTS: usize = 100;
    let (mut times, mut floor) = (Vec::new(), Duration::ZERO);
    for program in programs {
        let world = World::new(
            "i=0; while :; do n=0; out=; while [ $n -lt 40 ]; do out=\"$out{\\\"type\\\":\\\"text\\\",\\\"text\\\":\\\"line $i of what an agent says while it works\\\"}\n\"; n=$((n+1)); i=$((i+1)); done; printf '%s' \"$out\"; sleep 0.2; done",
        );
        for n in 0..AGENTS {
            let issue = format!(
                "+++\nrepo = 'acme/r{n}'\nnumber = 1\ntitle = 't'\nlabels = ['ready-for-agent']\narmed_by = 'ana'\n+++\n"
            );
            std::fs::write(world.path(&format!("issues/r{n}.md")), issue).unwrap();
        }
        floor = echo_floor(world.root());
        let mut terminal = up(program, &world, AGENTS, AGENTS);
        terminal.shows("permits 100/100");
        terminal.bytes_within(Duration::from_secs(8));
        let pid = terminal.child.process_id().unwrap().cast_signed();
        let before = afk::process::procfs::process(pid).unwrap();
        let bytes = terminal.bytes_within(Duration::from_secs(5)) / 5;
        let later = afk::process::procfs::process(pid).unwrap();
        let keys = (0..200).map(|n| {
            // Under load the screen changes all the time; the answer to a key is the moved selection.
            let before = terminal.selected();
            let began = Instant::now();
            terminal.keys(if n % 20 < 10 { "j" } else { "k" });
            while terminal.selected() == before {
                terminal.next_bytes();
            }
            began.elapsed()
        });
        times.push(keys.collect());
        println!(
            "  with {AGENTS} agents: {} KiB of its own (PSS), {} % of a core, {bytes} bytes a second",
            pss_kib(pid),
            (later.cpu_ticks - before.cpu_ticks) / 5
        );
        leave(&mut terminal);
    }
    rows("key to screen, 100 agents", times, floor);
}
