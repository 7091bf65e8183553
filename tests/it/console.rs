//! Shells in the cockpit, against OpenSSH's server: a real terminal, an escape key that always works,
//! recordings, and the clients that may not open one.

use std::time::{Duration, Instant};

use super::breakglass::{Between, HOLD, PASS, afk, both};
use super::breakglass_session::{self as session, Beside};
use crate::support::pty::Terminal;
use crate::support::pve::{Pve, key, public, wait_for};
use crate::support::text;
use crate::support::world::{END, Up, World};

struct Cockpit {
    world: World,
    pve: Pve,
    _up: Up,
    screen: Terminal,
}

/// The key that always returns from a shell.
const LEAVE: &str = "\u{1d}";

impl Cockpit {
    fn open(more: &str, columns: u16, rows: u16) -> Option<Self> {
        Self::open_beside(Beside::Nobody, more, columns, rows)
    }

    fn open_beside(beside: Beside, more: &str, columns: u16, rows: u16) -> Option<Self> {
        let world = beside.world(END);
        let pve = Pve::start(world.root())?;
        let section = pve.section(world.root(), more);
        let world = world.with(&section).with(beside.section());
        let up = world.up();
        let mut screen = world.terminal(&["breakglass"], columns, rows);
        screen.shows("No AI in the path");
        Some(Self { world, pve, _up: up, screen })
    }

    fn arm(&mut self) {
        self.screen.keys("a");
        self.screen.shows("Say why.");
        self.screen.keys("it hangs\r");
        self.screen.shows("ARMED by");
    }

    /// Selects the shell's row and opens the shell.
    fn shell(&mut self) {
        self.screen.keys("gg");
        self.screen.shows("│> status");
        self.screen.keys("jjjjjj\r");
        self.screen.shows("leaves it");
        self.screen.until("a prompt", |s| s.contains("# ") || s.contains("$ "));
    }

    fn run(&mut self, line: &str) {
        self.screen.keys(line);
        self.screen.keys("\r");
    }

    /// The text inside the pane's frame.
    fn inside(&self) -> Vec<String> {
        let lines = self.screen.lines();
        let framed = lines.iter().filter(|line| line.starts_with('│'));
        framed.map(|line| line.trim_matches('│').trim_end().to_owned()).collect()
    }
}

#[test]
fn shell_is_a_terminal_and_the_escape_key_always_returns() {
    let Some(mut cockpit) = Cockpit::open("", 80, 24) else { return };
    // A shell can't be opened before breakglass is armed.
    cockpit.screen.keys("jjjjjj\r");
    cockpit.screen.shows("breakglass is off: arm it first");
    cockpit.arm();
    cockpit.shell();
    cockpit.run("PS1='$ '; clear; echo $LC_CTYPE");
    cockpit.screen.shows("│C.UTF-8");
    cockpit.run("clear; tput cols; tput lines; printf '\\033[31m日本\\033[m|\\n'");
    // The echo contains the same characters, so the printed text begins with a number.
    cockpit.screen.until("what it printed", |s| s.contains("│78 ") && s.contains("│日"));
    let inside = cockpit.inside();
    assert_eq!(inside[..2], ["78", "18"], "{inside:?}");
    // The shell receives a new size.
    cockpit.screen.resize(100, 30);
    cockpit.run("clear; tput cols; tput lines");
    cockpit.screen.shows("│98 ");
    cockpit.screen.shows("│24 ");
    cockpit.screen.resize(80, 24);
    // Every key is taken during a flood of output.
    cockpit.run("clear; yes 'the quick brown fox' | head -c 50000000; echo over");
    cockpit.screen.shows("the quick brown fox");
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let began = Instant::now();
        cockpit.screen.keys(LEAVE);
        cockpit.screen.shows("it goes on");
        slowest = slowest.max(began.elapsed());
        cockpit.screen.keys("\r");
        cockpit.screen.shows("leaves it");
    }
    // docs/performance.md has the figure; here the flood must not delay the key.
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    cockpit.screen.until("the end of the flood", |s| s.lines().any(|l| l.contains("│over")));
    // Scrolled-away text is found, marked and copied; a shell can't set the title or the clipboard.
    cockpit.run("clear; seq 1 300; printf '\\033]52;c;aGk=\\007\\033]0;mine\\007'");
    cockpit.screen.shows("│300");
    cockpit.screen.shows("· mine");
    cockpit.screen.keys(LEAVE);
    cockpit.screen.shows("it goes on");
    cockpit.screen.keys("/");
    cockpit.screen.shows("Search");
    cockpit.screen.keys("123\r");
    cockpit.screen.shows("│123");
    cockpit.screen.shows("lines up");
    cockpit.screen.keys("\u{1b}");
    cockpit.screen.shows("open here; Enter goes back to it");
    assert!(!cockpit.screen.bytes.windows(5).any(|w| w == b"\x1b]52;"));
    assert!(!cockpit.screen.bytes.windows(7).any(|w| w == b"\x1b]0;min"));
    cockpit.screen.keys("\r");
    cockpit.screen.shows("leaves it");
    cockpit.screen.keys(LEAVE);
    cockpit.screen.keys("kkkkkvkky");
    cockpit.screen.shows("copied");
    while !cockpit.screen.bytes.windows(5).any(|w| w == b"\x1b]52;") {
        cockpit.screen.next_bytes();
    }
    // An ended shell shows the reason and can reconnect.
    cockpit.screen.keys("\r");
    cockpit.run("exit 3");
    cockpit.screen.shows("the shell ended with exit code 3");
    cockpit.screen.keys("\r");
    cockpit
        .screen
        .until("another shell", |s| s.contains("leaves it") && !s.contains("exit code 3"));
    cockpit.screen.keys(LEAVE);
    cockpit.screen.shows("it goes on");
    cockpit.screen.keys("x");
    cockpit.screen.shows("a shell, recorded");
}

#[test]
fn host_that_reads_no_input_still_shows_its_output() {
    let Some(mut cockpit) = Cockpit::open("", 80, 24) else { return };
    cockpit.arm();
    cockpit.shell();
    cockpit.run("PS1='$ '; stty raw -echo; clear; n=0; while :; do n=$((n+1)); printf \"\\rtick $n.\"; sleep 0.05; done");
    cockpit.screen.shows("tick ");
    let tick = |screen: &str| {
        let after = screen.rsplit("tick ").next().unwrap_or_default();
        after.split('.').next().unwrap_or_default().parse::<u32>().unwrap_or(0)
    };
    // More than the SSH window of the host, which nobody reads.
    for _ in 0..6 {
        cockpit.screen.keys(&format!("\u{1b}[200~{}\u{1b}[201~", "x".repeat(900_000)));
    }
    let last = tick(&cockpit.screen.text());
    cockpit.screen.until("later ticks", |s| tick(s) > last + 40);
    // The way out works, and the shell can be closed.
    cockpit.screen.keys(LEAVE);
    cockpit.screen.shows("it goes on");
    cockpit.screen.keys("x");
    cockpit.screen.shows("a shell, recorded");
}

#[test]
fn flood_of_terminal_queries_gets_few_answers() {
    let Some(mut cockpit) = Cockpit::open("", 80, 24) else { return };
    cockpit.arm();
    cockpit.shell();
    // It asks for the cursor, the status and the attributes, and reads the answers only afterwards.
    cockpit.run(
        "PS1='$ '; stty raw -echo; q=$(printf '\\033[6n\\033[5n\\033[c%.0s' $(seq 1 1000)); \
         for i in $(seq 1 200); do printf %s \"$q\"; done; got=$(timeout --foreground 3 cat | wc -c); \
         stty sane; clear; printf 'got %s bytes\\n' $got",
    );
    cockpit.screen.until("the number", |s| s.lines().any(|line| line.starts_with("│got ")));
    let inside = cockpit.inside();
    let got = inside.iter().find_map(|line| line.strip_prefix("got ")?.split(' ').next()).unwrap();
    let got: u32 = got.parse().unwrap();
    assert!(got > 0 && got < 150_000, "{got} bytes of answers to a flood");
    // A program that asks now gets its answer again.
    cockpit.run("clear; stty raw -echo; printf '\\033[5n'; r=$(timeout --foreground 3 head -c 4); stty sane; [ -n \"$r\" ] && echo an''swered");
    cockpit.screen.shows("│answered");
}

#[test]
fn ctrl_c_ends_queries_without_end_and_random_bytes() {
    floods(Beside::Nobody);
}

#[test]
fn ctrl_c_ends_floods_beside_an_agent_and_verbs_work_within_one() {
    floods(Beside::Agent);
}

fn floods(beside: Beside) {
    let Some(mut cockpit) = Cockpit::open_beside(beside, "", 80, 24) else { return };
    cockpit.arm();
    if beside == Beside::Agent {
        session::begin_at(&mut cockpit.screen, &cockpit.pve);
    }
    cockpit.shell();
    for flood in
        ["yes \"$(printf '\\033[6n')\"", "cat /dev/urandom", "yes \"$(printf '\\033[c\\033[5n')\""]
    {
        cockpit.run(&format!("clear; echo beg''un; {flood}"));
        let before = cockpit.screen.bytes.len();
        cockpit.screen.until("the flood", |s| !s.contains("echo beg"));
        // Leaving and returning works in the midst of it, by either key.
        for leave in [LEAVE, "\u{1b}[24~"] {
            cockpit.screen.keys(leave);
            cockpit.screen.shows("it goes on");
            cockpit.screen.keys("\r");
            cockpit.screen.shows("leaves it");
        }
        assert!(cockpit.screen.bytes.len() > before, "{flood}: nothing was drawn");
        // Ctrl-C once; the second one and the reset clear what the flood left in the line and in the
        // emulator.
        cockpit.screen.keys("\u{3}");
        cockpit.screen.keys("\u{3}");
        let mut tries = 0;
        loop {
            cockpit.screen.keys("\u{3}\u{15}stty sane; printf '\\033c'; PS1='$ '; echo al''ive\r");
            let alive = |s: &str| s.lines().any(|line| line.starts_with("│alive"));
            if cockpit.screen.comes(Duration::from_secs(3), alive) {
                break;
            }
            tries += 1;
            assert!(tries < 10, "{flood}: the shell is dead:\n{}", cockpit.screen.text());
        }
    }
    if beside == Beside::Agent {
        // In the midst of a flood a verb works, and one key stops the agent.
        cockpit.run("clear; echo beg''un; cat /dev/urandom");
        cockpit.screen.until("the flood", |s| !s.contains("echo beg"));
        let out = afk(&cockpit.world, &["reset", "--confirm", "devvm"]);
        assert!(out.status.success(), "{}", both(&out));
        assert_eq!(cockpit.pve.actions(), ["reset"]);
        cockpit.screen.keys(LEAVE);
        cockpit.screen.shows("it goes on");
        session::stop_at(&mut cockpit.screen, &cockpit.world);
    }
}

#[test]
fn half_open_link_is_marked_before_it_is_lost() {
    let world = World::new(END).with_kill_switch();
    let Some(mut pve) = Pve::start(world.root()) else { return };
    let between = Between::new(pve.port);
    let real = std::mem::replace(&mut pve.port, between.port);
    let section = pve.section(world.root(), "keepalive_seconds = 4");
    pve.port = real;
    let world = world.with(&section);
    let up = world.up();
    let mut screen = world.terminal(&["breakglass"], 80, 24);
    screen.shows("No AI in the path");
    let mut cockpit = Cockpit { world, pve, _up: up, screen };
    cockpit.arm();
    cockpit.shell();
    between.set(HOLD);
    cockpit.screen.shows("NO ANSWER from devvm");
    assert!(!cockpit.screen.text().contains("link lost"), "{}", cockpit.screen.text());
    // The mark goes away with the silence.
    between.set(PASS);
    cockpit.screen.until("an answer", |s| !s.contains("NO ANSWER"));
    cockpit.run("echo still''here");
    cockpit.screen.shows("│stillhere");
    // A link that stays silent is lost, and leaving it needs no host.
    between.set(HOLD);
    cockpit.screen.shows("NO ANSWER from devvm");
    cockpit.screen.keys("\u{1b}[24~");
    cockpit.screen.shows("it goes on");
    cockpit.screen.shows("reconnects");
}

#[test]
fn programs_draw_the_same_inside_and_outside_the_cockpit() {
    let Some(mut cockpit) = Cockpit::open("", 80, 24) else { return };
    cockpit.arm();
    cockpit.shell();
    cockpit.run("PS1='$ '; export LESS= TERM=xterm-256color; cd /; clear");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let tmux = format!("tmux -f /dev/null -L {}", std::process::id());
    for (program, line, begun, keys, there) in [
        (
            "vim",
            format!("vim -n -u NONE -N {file}"),
            "[package]",
            "\u{1b}[6~ihello \u{1b}",
            "hello",
        ),
        ("less", format!("less {file}"), "[package]", "/serde\r", "serde"),
        ("tmux", tmux, "[0]", "ls /usr\r", "share"),
    ] {
        if afk::agent::vendor::on_path(program).is_none() {
            eprintln!("!!! SKIPPED: {program} is not installed");
            continue;
        }
        let mut outside = Terminal::program("sh", &[], 78, 18, std::path::Path::new("/"));
        outside.keys("PS1='$ '; export LESS=; cd /; clear\r");
        outside.until("a prompt", |s| s.trim() == "$");
        let run = |terminal: &mut Terminal, line: &str| {
            terminal.keys(&format!("{line}\r"));
            // Its keys would otherwise reach the shell.
            terminal.until(program, |s| s.contains(begun) && !s.contains(line));
            terminal.keys(keys);
            terminal.shows(there);
        };
        if program == "tmux" {
            // Each screen has its own server, so that neither affects the other.
            run(&mut outside, &format!("{line}out"));
            run(&mut cockpit.screen, &format!("{line}in"));
            outside.keys("clear\r");
            cockpit.screen.keys("clear\r");
        } else {
            run(&mut outside, &line);
            run(&mut cockpit.screen, &line);
        }
        let lines = |terminal: &Terminal| -> Vec<String> {
            terminal.lines().iter().map(|line| line.trim_end().to_owned()).collect()
        };
        let same = |screen: &Cockpit, outside: &Terminal| {
            let (ours, theirs) = (screen.inside(), lines(outside));
            // tmux shows its own name and the time.
            let most = if program == "tmux" { 17 } else { 18 };
            ours[..most] == theirs[..most]
        };
        let end = Instant::now() + Duration::from_secs(30);
        while !same(&cockpit, &outside) {
            assert!(
                Instant::now() < end,
                "{program} differs:\n{}\n---\n{}",
                cockpit.inside().join("\n"),
                lines(&outside).join("\n")
            );
            outside.bytes_within(Duration::from_millis(20));
            cockpit.screen.bytes_within(Duration::from_millis(20));
        }
        match program {
            "vim" => cockpit.screen.keys(":q!\r"),
            "less" => cockpit.screen.keys("q"),
            _ => {
                outside.keys("tmux kill-server\r");
                cockpit.screen.keys("tmux kill-server\r");
            }
        }
        cockpit.run("clear");
        cockpit.screen.until("the prompt", |s| s.contains("│$ "));
    }
}

#[test]
fn recording_holds_output_and_no_keys() {
    let Some(mut cockpit) = Cockpit::open("", 80, 24) else { return };
    cockpit.arm();
    cockpit.shell();
    cockpit.run("PS1='$ '; clear; stty -echo; echo ASK; read -r password; stty echo; echo visible");
    cockpit.screen.shows("│ASK");
    cockpit.run("hunter2");
    cockpit.screen.shows("│visible");
    cockpit.run("exit");
    cockpit.screen.shows("the shell ended with exit code 0");
    let folder = cockpit.world.state().join("breakglass/recordings");
    wait_for("the recording", || {
        std::fs::read_dir(&folder).is_ok_and(|mut all| all.next().is_some())
    });
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
    let cast = std::fs::read_to_string(file.path()).unwrap();
    assert!(cast.starts_with('{') && cast.contains("\"version\":2"), "{cast}");
    assert!(cast.contains("visible") && !cast.contains("hunter2"), "{cast}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // The cockpit plays the recording.
    cockpit.screen.keys("\u{1b}");
    cockpit.screen.shows("RECORDINGS");
    cockpit.screen.keys("G\r");
    cockpit.screen.shows("recording ");
    cockpit.screen.keys("G");
    cockpit.screen.shows("visible");
    cockpit.screen.keys("gg");
    cockpit.screen.until("its beginning", |s| !s.contains("│visible"));
    cockpit.screen.keys("x");
    cockpit.screen.shows("Enter plays it");
}

#[test]
fn expired_arming_closes_its_shells() {
    let Some(mut cockpit) = Cockpit::open("", 80, 24) else { return };
    cockpit.arm();
    cockpit.shell();
    cockpit.run("echo here");
    cockpit.screen.shows("│here");
    let places = cockpit.world.places();
    let args: Vec<&str> =
        places.iter().map(String::as_str).chain(["breakglass", "disarm"]).collect();
    let out = crate::support::afk(&args).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    cockpit.screen.shows("disarmed breakglass");
    cockpit.screen.keys("\r");
    cockpit.screen.shows("breakglass is off");
}

#[test]
fn operator_accepts_a_rebuilt_vm_after_seeing_both_keys() {
    let Some(mut cockpit) = Cockpit::open("", 100, 30) else { return };
    cockpit.arm();
    key(&cockpit.pve.path("ecdsa"), "ecdsa");
    cockpit.pve.restart("ecdsa", "");
    cockpit.screen.keys("gg");
    cockpit.screen.shows("│> status");
    cockpit.screen.keys("jjjjjj\r");
    cockpit.screen.shows("devvm has another key");
    let print = |name: &str| {
        let key = public(&cockpit.pve.path(name));
        let key = russh::keys::PublicKey::from_openssh(&key).unwrap();
        key.fingerprint(russh::keys::HashAlg::Sha256).to_string()
    };
    let (old, new) = (print("host"), print("ecdsa"));
    cockpit.screen.shows(&old);
    cockpit.screen.shows(&new);
    cockpit.screen.keys("pve\r");
    cockpit.screen.shows("that is not its name");
    cockpit.screen.keys("\r");
    cockpit.screen.shows("devvm has another key");
    cockpit.screen.keys("devvm\r");
    // Either the reply, or the notice to every client that may replace it.
    cockpit.screen.until("the trust", |s| {
        s.contains("trust host key: done") || s.contains("trusts a new key of devvm")
    });
    cockpit.screen.keys("\r");
    cockpit
        .screen
        .until("the shell", |s| s.contains("leaves it") && !s.contains("has another key"));
    // The hypervisor's key can't be accepted this way.
    cockpit.screen.keys(LEAVE);
    cockpit.screen.shows("it goes on");
    cockpit.screen.keys("\u{1b}");
    cockpit.screen.shows("open here");
    cockpit.screen.keys("gg\r");
    cockpit.screen.shows("did not begin");
    let journal = afk::journal::Journal::open_read_only(&cockpit.world.state()).unwrap();
    let mut record = String::new();
    journal
        .read(1, |each| {
            record.push_str(&each.body);
            Ok(true)
        })
        .unwrap();
    assert!(record.contains("key_trusted") && record.contains(&old) && record.contains(&new));
}

#[test]
fn viewer_has_no_key_for_breakglass() {
    let Some(mut cockpit) = Cockpit::open("", 80, 24) else { return };
    cockpit.arm();
    let mut viewer = cockpit.world.terminal(&["attach", "--viewer"], 80, 24);
    viewer.shows("1 Queue");
    viewer.keys("5");
    viewer.shows("ARMED by");
    for keys in ["\r", "jj\rdevvm\r", "D", "ax\r", "jjjjjj\r"] {
        viewer.keys(keys);
        viewer.shows("viewers are read-only");
        viewer.keys("gg");
        viewer.until("the refusal is gone", |s| !s.contains("viewers are read-only"));
        viewer.shows("│> status");
    }
    cockpit.screen.shows("ARMED by");
    assert!(!cockpit.pve.log().contains("verb="), "{}", cockpit.pve.log());
}

#[test]
fn agent_cannot_reach_keys_pins_or_sockets() {
    let world = World::new(
        "exec 2>&1
echo '{\"type\":\"session\",\"id\":\"s\"}'
say() { printf '{\"type\":\"text\",\"text\":\"%s\"}\\n' \"$1\"; }
for f in KEY SHELL PINS; do
    eval path=\\$LOOK_$f
    if [ -s \"$path\" ]; then say \"READ $f\"; else say \"hidden $f\"; fi
done
if ls \"$LOOK_STATE/breakglass\" 2>/dev/null | grep -q .; then say 'READ folder'; else say 'hidden folder'; fi
say \"agent ${SSH_AUTH_SOCK-none}\"
if \"$LOOK_AFK\" --config \"$LOOK_CONFIG\" --state \"$LOOK_STATE\" breakglass arm take it >/dev/null; then say 'ARMED'; else say 'no socket'; fi
if setsid env -i \"$LOOK_AFK\" --config \"$LOOK_CONFIG\" --state \"$LOOK_STATE\" attach </dev/null >/dev/null; then say 'ATTACHED'; else say 'no attach'; fi
echo '{\"type\":\"end\",\"status\":\"blocked\",\"why\":\"looked\"}'",
    );
    let Some(pve) = Pve::start(world.root()) else { return };
    let section = pve.section(world.root(), "");
    std::fs::create_dir_all(world.state().join("breakglass/captures")).unwrap();
    std::fs::write(world.state().join("breakglass/captures/x.json"), "{}").unwrap();
    let set = [
        ("LOOK_KEY", pve.path("verbs")),
        ("LOOK_SHELL", pve.path("shell")),
        ("LOOK_PINS", world.path("pins")),
        ("LOOK_STATE", world.state()),
        ("LOOK_CONFIG", world.path("afk.toml")),
        ("LOOK_AFK", crate::support::AFK.into()),
    ];
    let pairs: Vec<String> =
        set.iter().map(|(name, path)| format!("{name} = '{}'", path.display())).collect();
    let world = world.with(&section).agent(&format!("set = {{ {} }}", pairs.join(", ")));
    let up = world.up();
    wait_for("the agent", || {
        world.transcript(1).contains("no attach") || world.transcript(1).contains("ATTACHED")
    });
    let transcript = world.transcript(1);
    for line in
        ["hidden KEY", "hidden SHELL", "hidden PINS", "hidden folder", "agent none", "no socket"]
    {
        assert!(transcript.contains(line), "{line}: {transcript}");
    }
    drop(up);
    assert!(!pve.log().contains("verb="), "{}", pve.log());
}
