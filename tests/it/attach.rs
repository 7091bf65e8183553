//! Attached cockpits: the runtime outlives every terminal and serves several, each in its own role.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::pty::Terminal;
use crate::support::world::{END, WORK, World};
use crate::support::{afk, journal_id, log, processes_with, text};

/// An agent that waits for a message and then does its work.
fn waiting() -> World {
    World::new(&format!(
        "echo '{{\"type\":\"text\",\"text\":\"I am here\"}}'\nread -r steer\necho '{{\"type\":\"steer_taken\"}}'\n{WORK}\n{END}"
    ))
}

fn run(world: &World, words: &[&str]) -> (bool, String) {
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(words.iter().copied()).collect();
    let out = afk(&args).output().unwrap();
    (out.status.success(), text(&out.stdout) + &text(&out.stderr))
}

fn kill(terminal: &Terminal, signal: Signal) {
    let pid = terminal.child.process_id().unwrap().cast_signed();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The id of the agent's first process.
fn agent(world: &World) -> Vec<i32> {
    processes_with("AFK_STATE", &journal_id(&world.state()))
}

#[test]
fn run_continues_after_its_terminal_closed() {
    let world = waiting();
    world.config();
    // The cockpit itself has started the runtime in the background.
    let mut first = world.terminal(&[], 120, 30);
    first.shows("I am here");
    let working = agent(&world);
    assert!(!working.is_empty());
    for signal in [Signal::HUP, Signal::KILL] {
        kill(&first, signal);
        first.child.wait().unwrap();
        first = world.terminal(&["attach"], 121, 31);
        // The screen is complete at once, including the transcript.
        first.shows("I am here");
        assert_eq!(agent(&world), working, "the agent was touched");
    }
    // `q` returns to the shell's prompt.
    first.keys("q");
    assert_eq!(first.end(), 0);
    assert!(first.text().contains("detached: 1 run at work (r1)"), "{}", first.text());
    let mut again = world.terminal(&[], 120, 30);
    again.shows("I am here");
    again.keys("s");
    again.shows("┌ Steer ");
    again.keys("go on\r");
    again.shows("done: ");
    again.keys("q");
    assert_eq!(again.end(), 0);
    assert_eq!(log(&world.remote(), "master", "%s").last().unwrap(), "Do it");
    let (ok, printed) = run(&world, &["stop"]);
    assert!(ok && printed.contains("afk has ended"), "{printed}");
    let (ok, printed) = run(&world, &["attach"]);
    assert!(!ok && printed.contains("no afk runs on"), "{printed}");
    assert!(!world.state().join("afk.sock").exists());
}

#[test]
fn several_clients_attach_with_their_own_size_and_role() {
    let world = waiting();
    let _up = world.up();
    let mut wide = world.terminal(&["attach"], 200, 50);
    let mut small = world.terminal(&["attach"], 80, 24);
    let mut viewer = world.terminal(&["attach", "--viewer"], 120, 30);
    wide.shows("3 attached");
    small.shows("1 Queue");
    viewer.shows("I am here");
    wide.keys("W");
    wide.shows("┌ Clients ");
    for line in ["200x50", "80x24", "120x30", "viewer"] {
        wide.shows(line);
    }
    wide.keys("\u{1b}");
    // A viewer's keys change nothing.
    viewer.shows("VIEWER");
    for key in ["s", "x", "p"] {
        viewer.keys(key);
        viewer.shows("viewers are read-only");
        // A key right after an escape would come with it, as Alt and that key.
        viewer.keys("\u{1b}");
        viewer.until("no message", |screen| !screen.contains("read-only"));
    }
    // What one does all see.
    small.keys("p");
    small.shows("Throw the kill switch?");
    small.keys("y");
    for terminal in [&mut wide, &mut small, &mut viewer] {
        terminal.shows("KILL SWITCH");
    }
    // A client that has left is no longer shown.
    viewer.keys("q");
    viewer.end();
    wide.shows("2 attached");
    for mut terminal in [wide, small] {
        terminal.keys("q");
        terminal.end();
    }
}

#[test]
fn cockpit_shows_the_age_of_a_lost_runtime_and_reconnects() {
    let world = waiting();
    let mut up = world.up();
    let mut terminal = world.terminal(&["attach"], 120, 30);
    terminal.shows("I am here");
    up.kill();
    terminal.shows("LOST");
    // A command sent meanwhile is refused, and not sent later.
    terminal.keys("py");
    terminal.shows("afk is unreachable; nothing was sent");
    let again = world.up();
    terminal.until("the link", |s| s.contains("live") && !s.contains("LOST"));
    terminal.shows("All well");
    terminal.keys("q");
    terminal.end();
    drop(again);
}

/// A client that writes and reads the protocol's lines itself.
struct Raw {
    to: UnixStream,
    from: BufReader<UnixStream>,
}

impl Raw {
    fn connect(world: &World, hello: Value) -> Self {
        let to = UnixStream::connect(world.state().join("afk.sock")).unwrap();
        let from = BufReader::new(to.try_clone().unwrap());
        let mut raw = Self { to, from };
        raw.send(hello);
        raw
    }

    #[allow(clippy::needless_pass_by_value, reason = "the callers build it on the spot")]
    fn send(&mut self, line: Value) {
        self.to.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line as JSON; null at the end of the stream.
    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or(Value::Null)
    }

    fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.next();
            assert!(!line.is_null(), "the connection ended");
            if fits(&line) {
                return line;
            }
        }
    }
}

fn hello(role: &str) -> Value {
    json!({"hello": {"version": 3, "program": "test", "actor": "ana", "role": role, "origin": "socket", "size": [80, 24]}})
}

#[test]
fn server_disconnects_clients_that_break_the_protocol() {
    let world = waiting();
    let _up = world.up();
    let mut newer = hello("operator");
    newer["hello"]["version"] = json!(4);
    let refused = Raw::connect(&world, newer).next();
    let why = refused["refused"]["why"].as_str().unwrap();
    assert!(why.contains("uses version 3") && why.contains('4'), "{why}");
    for first in
        [json!({"act": {"id": 1, "action": {"action": "drain"}}}), json!("garbage"), json!(7)]
    {
        let mut raw = Raw::connect(&world, first);
        assert!(raw.next()["refused"].is_object());
        assert!(raw.next().is_null());
    }
    // An unknown line ends the connection; a viewer's stop is ignored.
    let mut raw = Raw::connect(&world, hello("viewer"));
    raw.until(|line| line["snapshot"].is_object());
    raw.send(json!("stop"));
    raw.send(json!({"act": {"id": 7, "action": {"action": "set_kill_switch", "on": true}}}));
    let reply = raw.until(|line| line["reply"].is_object());
    assert_eq!(reply["reply"]["reply"]["Err"]["refusal"], "viewer");
    raw.send(json!({"dance": 1}));
    while !raw.next().is_null() {}
}

#[test]
fn stalled_client_delays_no_other_and_gets_a_fresh_snapshot() {
    let world = waiting();
    let _up = world.up();
    let mut lazy = Raw::connect(&world, hello("operator"));
    lazy.until(|line| line["snapshot"].is_object());
    let mut busy = Raw::connect(&world, hello("operator"));
    let began = Instant::now();
    let count = 3000;
    for id in 0..count {
        busy.send(
            json!({"act": {"id": id, "action": {"action": "set_capacity", "permits": id % 7}}}),
        );
        busy.until(|line| line["reply"]["id"] == json!(id));
    }
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    // Once it reads again, it reaches the same state as the other client.
    let last = format!("\"permits\":{}", (count - 1) % 7);
    let mut fresh = 0;
    let mut capacity = Value::Null;
    lazy.to.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut line = String::new();
    while lazy.from.read_line(&mut line).is_ok_and(|read| read > 0) {
        let reported: Value = serde_json::from_str(&line).unwrap();
        if reported["snapshot"].is_object() {
            fresh += 1;
            capacity = reported["snapshot"]["fleet"]["operator_capacity"].clone();
        } else if line.contains("\"capacity\"") {
            capacity = json!(i64::from(u8::from(line.contains(&last))) * ((count - 1) % 7));
        }
        line.clear();
    }
    assert_eq!(capacity, json!((count - 1) % 7));
    println!("{fresh} fresh snapshots");
}

#[test]
fn idle_clients_use_no_cpu_and_no_bytes() {
    let world = World::new("sleep 1000").with("[limits]\ngrace_seconds = 1");
    let world = {
        std::fs::remove_file(world.path("issues/1.md")).unwrap();
        world
    };
    let up = world.up();
    let mut all: Vec<Raw> = (0..20).map(|_| Raw::connect(&world, hello("viewer"))).collect();
    for raw in &mut all {
        raw.until(|line| line["snapshot"].is_object());
        raw.to.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    }
    let pid = up.0.id().cast_signed();
    let ticks = || afk::process::procfs::process(pid).unwrap().cpu_ticks;
    // At first clients receive the others' arrival; then one of a few windows stays silent
    // throughout.
    let silent = (0..5).any(|_| {
        let before = ticks();
        let end = Instant::now() + Duration::from_secs(2);
        let mut received = 0;
        all[0].to.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut line = String::new();
        if all[0].from.read_line(&mut line).is_ok() {
            received += line.len();
        }
        for raw in &mut all[1..] {
            let mut line = String::new();
            if raw.from.read_line(&mut line).is_ok() {
                received += line.len();
            }
        }
        Instant::now() >= end && received == 0 && ticks() == before
    });
    assert!(silent);
}

#[test]
fn dashboard_outlives_the_runtime_and_takes_only_the_quit_key() {
    let world = waiting();
    world.config();
    // The dashboard starts before there is anything to show.
    let mut dash = world.terminal(&["dash"], 100, 30);
    dash.shows("LOST");
    let mut up = world.up();
    dash.shows("All well");
    dash.shows("acme/thing#1: Do it");
    dash.keys("psxX!iy\r");
    up.kill();
    dash.shows("LOST");
    let again = world.up();
    dash.shows("All well");
    assert!(!dash.text().contains("KILL"));
    let mut looks = world.terminal(&["attach"], 160, 40);
    looks.shows("2 attached");
    looks.keys("W");
    looks.shows("viewer");
    looks.shows("dash");
    looks.keys("qq");
    looks.end();
    dash.keys("q");
    assert_eq!(dash.end(), 0);
    drop(again);
    // It draws at every size.
    let socket = world.state().join("afk.sock");
    for (columns, rows) in [(200, 60), (40, 12), (3, 2)] {
        let mut dash =
            world.terminal(&["dash", "--attach", socket.to_str().unwrap()], columns, rows);
        dash.next_bytes();
        dash.keys("q");
        assert_eq!(dash.end(), 0);
    }
}

/// Attaching to a million lines takes no longer than to none, because their text is not sent.
#[test]
fn long_transcript_does_not_slow_an_attach() {
    use afk::core::model::agent_event::AgentEvent;
    use afk::core::model::id::RunId;
    use afk::core::model::time::Timestamp;
    use afk::journal::transcript::{Store, TranscriptEntry};

    let world = waiting();
    let _up = world.up();
    world.terminal(&["attach"], 120, 30).shows("I am here");
    let store = Store::open(&world.state()).unwrap();
    let line = |n: usize| TranscriptEntry {
        at: Timestamp(0),
        turn: 1,
        event: AgentEvent::Text { text: format!("line {n}").into() },
    };
    for part in 0..100 {
        let lines: Vec<TranscriptEntry> = (part * 10_000..(part + 1) * 10_000).map(line).collect();
        store.append(RunId(1), &lines).unwrap();
    }
    let began = Instant::now();
    let mut terminal = world.terminal(&["attach"], 120, 30);
    terminal.shows("line 999999");
    let took = began.elapsed();
    println!("attached to 1,000,000 lines in {took:?}");
    // The goal is 300 ms for the release build; this test runs the unoptimised program.
    assert!(took < Duration::from_secs(3), "{took:?}");
    terminal.keys("q");
    terminal.end();
}

#[test]
fn planted_socket_is_refused() {
    let world = waiting();
    world.config();
    std::fs::create_dir_all(world.state()).unwrap();
    let elsewhere = world.path("elsewhere.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, world.state().join("afk.sock")).unwrap();
    let mut terminal = world.terminal(&["attach"], 80, 24);
    assert_ne!(terminal.end(), 0);
    assert!(terminal.text().contains("planted"), "{}", terminal.text());
}

#[test]
fn other_version_takes_over_once_no_run_is_active() {
    let world = waiting();
    let mut old = world.up();
    let mut terminal = world.terminal(&["attach"], 120, 30);
    terminal.shows("I am here");
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["up", "--take-over"]).collect();
    let mut new =
        crate::support::world::Up(afk(&args).stdout(std::process::Stdio::null()).spawn().unwrap());
    terminal.shows("DRAINING");
    assert!(new.0.try_wait().unwrap().is_none());
    terminal.keys("s");
    terminal.shows("┌ Steer ");
    terminal.keys("go on\r");
    assert!(old.0.wait().unwrap().success());
    // The same cockpit continues on the new runtime.
    terminal.until("the new one", |s| s.contains("All well") && s.contains("live"));
    // A client of any version may ask the runtime to hand over.
    let mut strange = hello("operator");
    strange["hello"]["version"] = json!(77);
    strange["hello"]["make_room"] = json!(true);
    let mut raw = Raw::connect(&world, strange);
    assert!(raw.next()["welcome"].is_object());
    assert!(new.0.wait().unwrap().success());
    terminal.keys("q");
    terminal.end();
}

#[test]
fn draining_stop_waits_for_active_runs() {
    let world = waiting();
    let mut up = world.up();
    let mut terminal = world.terminal(&["attach"], 120, 30);
    terminal.shows("I am here");
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["stop", "--drain"]).collect();
    let mut stop = afk(&args);
    let stop = stop.stdout(std::process::Stdio::piped()).spawn().unwrap();
    terminal.shows("DRAINING");
    terminal.keys("s");
    terminal.shows("┌ Steer ");
    terminal.keys("go on\r");
    let out = stop.wait_with_output().unwrap();
    assert!(out.status.success() && text(&out.stdout).contains("waiting for 1 run at work"));
    assert!(up.0.wait().unwrap().success());
    terminal.shows("LOST");
    terminal.keys("q");
    terminal.end();
    assert_eq!(log(&world.remote(), "master", "%s").last().unwrap(), "Do it");
    // Draining lasted for that life of afk only.
    let (_, printed) = run(&world, &["status"]);
    assert!(printed.contains("picking up"), "{printed}");
}

#[test]
fn closed_terminal_ends_only_its_cockpit() {
    let world = World::new("").with_kill_switch();
    let up = world.up();
    for words in [&[][..], &["dash"]] {
        for _ in 0..3 {
            let mut child =
                crate::support::pty::start_and_close(&world.places(), words, "KILL SWITCH");
            let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while child.try_wait().unwrap().is_none() {
                assert!(
                    std::time::Instant::now() < end,
                    "{words:?} continues without its terminal"
                );
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
    assert!(std::path::Path::new(&format!("/proc/{}", up.0.id())).exists());
}
