//! File descriptors: how many afk and its children may open, and who gets the last ones.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use afk::journal::Journal;

use crate::support::pve::{Pve, wait_for};
use crate::support::world::{END, Up, World};
use crate::support::{AFK, afk, api, text};

/// A small limit: the flood below has several times as many connections.
const LIMIT: usize = 128;

/// Starts `afk up` under limits of its own, and returns the lines that it prints up to the one that it
/// runs.
fn up(world: &World, limits: &str) -> (Up, Vec<String>) {
    world.config();
    let mut shell = std::process::Command::new("sh");
    // Without the variables of a configuration on this machine.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AFK_") {
            shell.env_remove(name);
        }
    }
    shell.args(["-c", &format!("{limits}; exec \"$@\""), "sh", AFK]).args(world.places());
    shell.arg("up").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut lines = Vec::new();
    for line in std::io::BufRead::lines(out).map_while(Result::ok) {
        lines.push(line);
        if lines.last().is_some_and(|line| line.starts_with("afk runs on")) {
            break;
        }
    }
    (Up(child), lines)
}

fn open_descriptors(up: &Up) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", up.0.id())).unwrap().count()
}

#[test]
fn afk_raises_its_limit_and_gives_children_the_original_one() {
    let world = World::new(&format!(
        "printf '{{\"type\":\"text\",\"text\":\"limit %s of %s\"}}\\n' \"$(ulimit -Sn)\" \"$(ulimit -Hn)\"\n{END}"
    ));
    let (up, _) = up(&world, "ulimit -Sn 500; ulimit -Hn 2000");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", up.0.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3..5], ["2000", "2000"], "{line}");
    wait_for("the agent", || world.transcript(1).contains("limit "));
    assert!(world.transcript(1).contains("limit 500 of 2000"), "{}", world.transcript(1));
}

#[test]
fn flood_of_connections_leaves_descriptors_to_breakglass_the_journal_and_runs() {
    let world = World::new(END);
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let Some(pve) = Pve::start(world.root()) else { return };
    std::fs::write(world.path("authorized_keys"), "").unwrap();
    let sections = format!(
        "{}\n{}\n[ssh]\nenabled = true\nlisten = '127.0.0.1:0'\n",
        pve.section(world.root(), ""),
        api::section(&world)
    );
    let world = world.with(&sections);
    let (up, lines) = up(&world, &format!("ulimit -n {LIMIT}"));
    let port = |name: &str| -> u16 {
        let line = lines.iter().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(':').next().unwrap().trim().parse().unwrap()
    };
    let (http, ssh) = (port("http on"), port("ssh on"));
    let mut flood = Vec::new();
    for _ in 0..300 {
        flood.extend(TcpStream::connect(("127.0.0.1", http)));
        flood.extend(TcpStream::connect(("127.0.0.1", ssh)));
    }
    let socket = world.state().join("afk.sock");
    let operators: Vec<_> = (0..100).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    wait_for("a full house", || open_descriptors(&up) > LIMIT / 2);
    // The commands of an operator work: they are written to the journal, and reach the hypervisor.
    let places = world.places();
    let call = |words: &[&str]| {
        let args: Vec<&str> =
            places.iter().map(String::as_str).chain(words.iter().copied()).collect();
        let out = afk(&args).output().unwrap();
        assert!(out.status.success(), "{words:?}: {}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout)
    };
    let status = call(&["breakglass", "status", "--arm", "it hangs"]);
    assert!(status.contains("running"), "{status}");
    assert!(open_descriptors(&up) < LIMIT, "every descriptor is taken");
    call(&["submit", "acme/thing", "do"]);
    wait_for("the run", || world.transcript(1).contains("\"end\":\"done\""));
    let journal = Journal::open_read_only(&world.state()).unwrap();
    let mut record = String::new();
    journal
        .read(1, |each| {
            record.push_str(&each.body);
            Ok(true)
        })
        .unwrap();
    assert!(record.contains("it hangs") && record.contains("\"claimed\""), "{record}");
    // After the flood, the ways in are open again.
    drop((flood, operators));
    let answers = || {
        let request = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", http)) else { return false };
        let mut answer = String::new();
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let _ = std::io::Write::write_all(&mut stream, request);
        let _ = std::io::Read::read_to_string(&mut stream, &mut answer);
        answer.starts_with("HTTP/1.1 200")
    };
    wait_for("an answer", answers);
}
