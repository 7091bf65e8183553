//! Breakglass against a real QEMU guest, through the runtime's own code, OpenSSH's server and the shipped
//! script; only `qm` is a double. `tests/qemu.sh` prepares the guest and runs this; without it every test
//! here is reported as ignored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic, and shows what it saw"
)]

#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::pve::Pve;
use support::text;
use support::world::World;

/// The double of `qm`, which drives QEMU's process by its monitor.
const QM: &str = include_str!("qm.pl");
/// The limit of a short step of the script, in seconds.
const STEP: u32 = 2;
/// The longest wait for the guest: it is interpreted, maybe beside other tests.
const LIMIT: Duration = Duration::from_secs(120);
/// The ticks without a beat after which a guest counts as dead; a living one has a beat at each.
const DEAD: usize = 8;

/// The guest on its hypervisor, and an afk that reaches it.
struct Guest {
    pve: Pve,
    world: World,
    /// The time from the start of QEMU to the first beats.
    boot_time: Duration,
}

/// The report of the guest on its serial line since it booted last.
#[derive(Debug, PartialEq, Eq)]
struct Boot {
    /// How often it has booted.
    number: usize,
    /// The number that it found on its disk.
    found: Option<u64>,
    /// The last number that it wrote there.
    written: Option<u64>,
    /// The ticks since the last beat, or since the boot.
    ticks: usize,
}

impl Guest {
    /// Starts the guest, and waits until it writes to its disk.
    fn start() -> Option<Self> {
        let folder = std::env::var("AFK_QEMU").expect("tests/qemu.sh sets AFK_QEMU");
        let world = World::new("").with_kill_switch();
        let began = Instant::now();
        let pve = Pve::start_with(world.root(), &QM.replace("@GUEST@", &folder), STEP)?;
        let section = pve.section(world.root(), "");
        let mut guest = Self { pve, world: world.with(&section), boot_time: Duration::ZERO };
        guest.until("the first beats", |boot| boot.written.is_some_and(|beat| beat >= 3));
        guest.boot_time = began.elapsed();
        Some(guest)
    }

    fn serial(&self) -> String {
        text(&std::fs::read(self.pve.path("serial")).unwrap_or_default())
    }

    fn boot(&self) -> Boot {
        let mut boot = Boot { number: 0, found: None, written: None, ticks: 0 };
        for line in self.serial().lines().filter_map(|line| line.trim_end().strip_prefix("guest: "))
        {
            let number = |prefix: &str| line.strip_prefix(prefix)?.parse().ok();
            if line == "booted" {
                boot = Boot { number: boot.number + 1, found: None, written: None, ticks: 0 };
            } else if line.starts_with("tick ") {
                boot.ticks += 1;
            } else if let Some(beat) = number("beat ") {
                (boot.written, boot.ticks) = (Some(beat), 0);
            } else if let Some(found) = number("disk holds ") {
                boot.found = Some(found);
            }
        }
        boot
    }

    fn until(&self, what: &str, fits: impl Fn(&Boot) -> bool) -> Boot {
        let end = Instant::now() + LIMIT;
        loop {
            let boot = self.boot();
            if fits(&boot) {
                return boot;
            }
            assert!(Instant::now() < end, "{what} did not come: {boot:?}\n{}", self.serial());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How often the firmware has handed over to the kernel.
    fn firmware_starts(&self) -> usize {
        let log = text(&std::fs::read(self.pve.path("firmware")).unwrap_or_default());
        log.matches("Booting from ROM").count()
    }

    /// Waits until the firmware runs again, and then for twice the time of a boot, in which the guest must
    /// not come.
    fn stays_dead_after_the_reset(&self) {
        let end = Instant::now() + LIMIT;
        while self.firmware_starts() < 2 {
            assert!(Instant::now() < end, "the firmware did not start:\n{}", self.serial());
            std::thread::sleep(Duration::from_millis(50));
        }
        let end = Instant::now() + self.boot_time * 2;
        while Instant::now() < end {
            assert_eq!(self.boot().number, 1, "the guest booted:\n{}", self.serial());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a command to QEMU's monitor.
    fn monitor(&self, command: &str, arguments: &Value) {
        let path = self.pve.path(&format!("run/{}.qmp", self.pve.port));
        let mut socket = UnixStream::connect(path).unwrap();
        let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
        let nothing = json!({});
        for (command, arguments) in [("qmp_capabilities", &nothing), (command, arguments)] {
            let request = json!({ "execute": command, "arguments": arguments });
            writeln!(socket, "{request}").unwrap();
            // The greeting and events are no answers.
            let answer = lines.find_map(|line| {
                let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
                (line.get("return").is_some() || line.get("error").is_some()).then_some(line)
            });
            assert!(answer.as_ref().is_some_and(|a| a["error"].is_null()), "{command}: {answer:?}");
        }
    }

    /// Stalls the I/O of the guest in QEMU: one byte a second passes.
    fn stall(&self) {
        let limits = json!({
            "device": "disk",
            "bps": 1, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0,
        });
        self.monitor("block_set_io_throttle", &limits);
    }

    fn afk(&self, verb: &str) -> Output {
        self.world.config();
        let places = self.world.places();
        let args = places.iter().map(String::as_str).chain(["breakglass", verb]);
        let args: Vec<&str> = args.chain(["--arm", "it hangs", "--confirm", "devvm"]).collect();
        support::afk(&args).output().unwrap()
    }

    /// Runs a verb that succeeds, and returns its output and afk's remarks.
    fn succeeds(&self, verb: &str) -> (String, String) {
        let out = self.afk(verb);
        let (printed, said) = (text(&out.stdout), text(&out.stderr));
        assert!(out.status.success(), "{verb}: {printed}{said}");
        let result = said.lines().find(|line| line.contains(&format!(" {verb}: exit code 0")));
        let result = result.unwrap_or_else(|| panic!("{verb} has no result: {said}"));
        assert!(result.contains("devvm reads running"), "{result}");
        (printed, said)
    }
}

#[test]
#[ignore = "needs a QEMU guest: tests/qemu.sh"]
fn guest_with_stalled_io_stays_dead_after_a_reset_and_lives_after_a_cycle() {
    let Some(guest) = Guest::start() else { return };
    guest.stall();
    let dead = guest.until("the stall", |boot| boot.ticks >= DEAD);
    assert_eq!(dead.number, 1);
    // The monitor answers and calls the guest running, and forensics show the limit.
    guest.succeeds("status");
    let (printed, _) = guest.succeeds("forensics");
    assert!(printed.contains("VM status: running"), "{printed}");
    assert!(printed.contains("I/O throttling:"), "{printed}");
    let old = guest.pve.pid();
    // A reset starts the firmware again in the same process, whose I/O stays stalled: it waits for the disk.
    guest.succeeds("reset");
    assert_eq!(guest.pve.pid(), old);
    guest.stays_dead_after_the_reset();
    // A cycle starts another process, in which nothing is stalled.
    guest.succeeds("cycle");
    assert_ne!(guest.pve.pid(), old);
    let lives = |boot: &Boot| boot.number == 2 && boot.written.is_some();
    let alive = guest.until("the guest after the cycle", lives);
    assert!(alive.found >= dead.written && alive.written > alive.found, "{dead:?} {alive:?}");
    assert_eq!(guest.pve.actions(), ["reset", "stop", "start"]);
}

#[test]
#[ignore = "needs a QEMU guest: tests/qemu.sh"]
fn qemu_with_a_silent_monitor_reads_running_and_is_killed_by_a_cycle() {
    let Some(guest) = Guest::start() else { return };
    let old = guest.pve.pid();
    kill_process(Pid::from_raw(old).unwrap(), Signal::STOP).unwrap();
    let (printed, _) = guest.succeeds("status");
    assert!(printed.contains("status: running"), "{printed}");
    let (printed, _) = guest.succeeds("cycle");
    assert!(printed.contains(&format!("killed process {old}")), "{printed}");
    assert_ne!(guest.pve.pid(), old);
    guest.until("the guest after the cycle", |boot| boot.number == 2 && boot.written.is_some());
    assert_eq!(guest.pve.actions(), ["stop", "unlock", "start"]);
}
