//! The signals that end afk, at each of its entry points, as an ordinary process and as process 1 of a
//! container, where the kernel drops signals without a handler.

use std::io::BufRead;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use afk::process::procfs;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::cluster::Cluster;
use crate::support::world::{END, WORK, World, until, wait_until};
use crate::support::{AFK, afk};

/// The longest time that a program without agents takes to end.
const LONGEST: Duration = Duration::from_secs(5);

/// Whether afk is process 1 of a namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Ordinary,
    Init,
}

/// Makes a program process 1 of a namespace of its own, with a `/proc` that shows it.
const INIT: [&str; 7] =
    ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// The places that this machine allows.
fn places() -> Vec<Place> {
    let tried = Command::new(INIT[0]).args(&INIT[1..]).arg("true").status();
    if tried.is_ok_and(|status| status.success()) {
        return vec![Place::Ordinary, Place::Init];
    }
    eprintln!("!!! SKIPPED: this machine allows no namespaces for a process 1");
    vec![Place::Ordinary]
}

/// A started afk, and the process that runs it.
struct Started {
    child: Child,
    lines: Vec<String>,
    pid: Pid,
}

/// Starts afk, and waits until it has printed some lines.
fn start(place: Place, args: &[&str], lines: usize) -> Started {
    let plain = afk(args);
    let mut command = match place {
        Place::Ordinary => plain,
        Place::Init => {
            let mut command = Command::new(INIT[0]);
            command.args(&INIT[1..]).arg(AFK).args(args).stdin(Stdio::null());
            for (name, value) in plain.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command
        }
    };
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut all = out.lines().map_while(Result::ok);
    let lines: Vec<String> = all.by_ref().take(lines).collect();
    // The pipe is read on, so that no later line fails.
    std::thread::spawn(move || all.for_each(drop));
    let child_of = |parent: i32| procfs::processes().find(|p| p.parent == parent).map(|p| p.pid);
    let own = child.id().cast_signed();
    let pid = if place == Place::Init { child_of(own).unwrap() } else { own };
    Started { child, lines, pid: Pid::from_raw(pid).unwrap() }
}

impl Started {
    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits for the end and returns how long it took.
    async fn end(&mut self, what: &str) -> Duration {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }
}

/// The log files of afk.
fn log(world: &World) -> String {
    let files = std::fs::read_dir(world.state()).into_iter().flatten().flatten();
    let logs = files.filter(|file| file.path().extension().is_some_and(|end| end == "log"));
    logs.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
}

fn place_args(world: &World, word: &[&str]) -> Vec<String> {
    world.config();
    world.places().into_iter().chain(word.iter().map(|w| (*w).to_owned())).collect()
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_ends_on_each_signal_also_as_process_1() {
    for place in places() {
        for signal in [Signal::TERM, Signal::INT] {
            let world = World::without_agent();
            let args = place_args(&world, &["up"]);
            let mut up = start(place, &words(&args), 1);
            assert!(up.lines[0].starts_with("afk runs on"), "{:?}", up.lines);
            up.signal(signal);
            let took = up.end("afk up").await;
            assert!(took < LONGEST, "{place:?} {signal:?}: {took:?}");
            assert_eq!(up.child.wait().unwrap().code(), Some(0), "{place:?} {signal:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standby_ends_on_each_signal_also_as_process_1() {
    let cluster = Cluster::start();
    for place in places() {
        for signal in [Signal::TERM, Signal::INT] {
            let world = World::without_agent();
            let kubeconfig = cluster.kubeconfig(world.root());
            let lease = format!("web/afk-{place:?}-{}", signal.as_raw()).to_lowercase();
            let section = format!(
                "[kubernetes]\nkubeconfig = '{}'\n[leader]\nlease = '{lease}'\nseconds = 15",
                kubeconfig.display(),
            );
            let world = world.with(&section);
            let leader = world.up_with_lines(2).0;
            let args = place_args(&world, &["up"]);
            let mut standby = start(place, &words(&args), 1);
            assert!(standby.lines[0].starts_with("follows: "), "{:?}", standby.lines);
            standby.signal(signal);
            let took = standby.end("the standby").await;
            assert!(took < LONGEST, "{place:?} {signal:?}: {took:?}");
            assert_eq!(standby.child.wait().unwrap().code(), Some(0), "{place:?} {signal:?}");
            drop(leader);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hang_up_has_the_configuration_read_again_and_ends_no_service() {
    let world = World::without_agent();
    let args = place_args(&world, &["up"]);
    let mut up = start(Place::Ordinary, &words(&args), 1);
    up.signal(Signal::HUP);
    let log = || log(&world);
    wait_until("the reading", || log().contains("the configuration is read again")).await;
    assert!(up.child.try_wait().unwrap().is_none());
    up.signal(Signal::TERM);
    up.end("afk up").await;
    assert!(log().contains("afk is ending"), "{}", log());
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_a_stubborn_agent_at_once() {
    let script = "trap '' TERM INT\necho begun > \"$HOLD/begun\"\nwhile :; do sleep 0.05; done";
    let world = World::new(script);
    let hold = format!("set = {{ HOLD = '{}' }}", world.root().display());
    let world = world.agent(&hold);
    let args = place_args(&world, &["up"]);
    let mut up = start(Place::Ordinary, &words(&args), 1);
    wait_until("the agent", || world.path("begun").exists()).await;
    up.signal(Signal::TERM);
    let log = || log(&world);
    wait_until("the first signal", || log().contains("afk is ending")).await;
    assert!(up.child.try_wait().unwrap().is_none(), "the agent has its grace");
    up.signal(Signal::TERM);
    let took = up.end("afk up").await;
    assert!(took < LONGEST, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_tells_its_agent_and_the_run_of_the_end_also_as_process_1() {
    let script = "trap 'echo told > \"$HOLD/told\"; exit 0' TERM INT\n\
         if [ -e \"$HOLD/begun\" ]; then WORK; fi\n\
         echo begun > \"$HOLD/begun\"\nwhile :; do sleep 0.05; done";
    let script = script.replace("WORK", &format!("{WORK}\n{END}\nexit 0"));
    for place in places() {
        let cluster = Cluster::start();
        cluster.run_jobs();
        let world = World::new(&script);
        let root = world.root().display().to_string();
        let before = match place {
            Place::Ordinary => String::new(),
            Place::Init => INIT.map(|word| format!("'{word}', ")).concat(),
        };
        let section = format!(
            "[kubernetes]\nkubeconfig = '{}'\n[executors.farm]\nkind = 'kubernetes'\nnamespace = 'web'\n\
             image = 'registry/afk:1'\ncommand = [{before}'{AFK}']\nclaim = 'work'\nmount = '{root}'\nuser = 1000",
            cluster.kubeconfig(world.root()).display()
        );
        let world = world.with(&section).repo("executor = 'farm'");
        let world = world.agent(&format!("set = {{ HOLD = '{root}' }}"));
        let runtime = world.start().await;
        wait_until("the agent", || world.path("begun").exists()).await;
        let worker = procfs::processes().find(|process| {
            let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            words.first() == Some(&AFK.as_bytes())
                && words.get(1) == Some(&&b"worker"[..])
                && words.get(2).is_some_and(|folder| folder.starts_with(root.as_bytes()))
        });
        let worker = worker.expect("the worker").pid;
        kill_process(Pid::from_raw(worker).unwrap(), Signal::TERM).unwrap();
        let told = || world.transcript(1).contains("its worker was ended by SIGTERM");
        wait_until("the end in the transcript", told).await;
        assert!(world.path("told").exists(), "{place:?}: the agent was not told");
        until(&runtime, "the next turn", |s| {
            s.fleet.runs.values().find(|run| run.agent.turns >= 2).map(|_| ())
        })
        .await;
        runtime.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headless_demo_ends_its_agents_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let demo = dir.path().join("demo").display().to_string();
    let mut demo = start(Place::Ordinary, &["demo", "--headless", "--dir", &demo], 3);
    demo.signal(Signal::TERM);
    demo.end("the demo").await;
    let status = demo.child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(1), None), "{:?}", demo.lines);
    let inside = dir.path().display().to_string();
    let left = procfs::processes().filter(|p| p.state != b'Z').filter(|process| {
        std::fs::read_link(format!("/proc/{}/cwd", process.pid))
            .is_ok_and(|cwd| cwd.starts_with(&inside))
    });
    assert_eq!(left.count(), 0);
}
