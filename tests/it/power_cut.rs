//! Power cuts: the state folder lies on a file system of its own, which forgets at a random moment everything
//! that was not synced, as a machine without power does. After each cut it is mounted again, and afk goes on.
//!
//! The remote and the tracker lie on another disk. `AFK_POWER_CUTS` sets the number of cuts (6), and
//! `AFK_CRASH_SEED` their moments.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::world::{END, World};
use crate::support::{AFK, afk, git, log, text};

/// Cuts in one world: each life of the file system ends with one.
const CUTS_A_WORLD: u64 = 3;
/// The issues of a world.
const ISSUES: u64 = 4;
/// The time between two looks at a condition outside of this process.
const LOOK: Duration = Duration::from_millis(20);
/// The longest time that the last life of a world takes.
const LIMIT: Duration = Duration::from_secs(120);

/// A state folder on a file system in a file.
struct CutDisk {
    image: PathBuf,
    mounted: PathBuf,
}

fn succeeds(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", text(&out.stderr));
}

impl CutDisk {
    /// Makes the file system and mounts it; the reason where this machine can't.
    fn new(root: &Path, mounted: PathBuf) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("root is needed to mount a file system".into());
        }
        for program in ["mkfs.ext4", "xfs_io", "mount", "losetup", "unshare"] {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
            if !found.is_ok_and(|out| out.status.success()) {
                return Err(format!("{program} is missing (Debian: e2fsprogs, xfsprogs)"));
            }
        }
        let image = root.join("disk");
        std::fs::File::create(&image).unwrap().set_len(512 * 1024 * 1024).unwrap();
        std::fs::create_dir_all(&mounted).unwrap();
        succeeds("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
        let disk = Self { image, mounted };
        let out = disk.mount_command().output().unwrap();
        if !out.status.success() {
            return Err(format!("a file can't be mounted here: {}", text(&out.stderr).trim()));
        }
        Ok(disk)
    }

    fn mount_command(&self) -> Command {
        let mut command = Command::new("mount");
        // Without a sync nothing gets to the disk by itself.
        command.args(["-o", "loop,commit=300"]).arg(&self.image).arg(&self.mounted);
        command
    }

    /// Forgets what was not synced. Everything that is still open gets errors.
    fn cut(&self) {
        succeeds("xfs_io", &["-x", "-c", "shutdown", self.mounted.to_str().unwrap()]);
    }

    /// Mounts it again after a cut.
    fn recover(&self) {
        self.unmount();
        let out = self.mount_command().output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
    }

    /// Unmounts it everywhere. The processes and mounts of a killed namespace may take a moment to let go of
    /// it, and the next mount would get the same, broken file system back.
    fn unmount(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        let mut is_mounted = true;
        loop {
            if is_mounted {
                let out = Command::new("umount").arg(&self.mounted).output().unwrap();
                is_mounted = !out.status.success();
            }
            let used = Command::new("losetup").arg("-j").arg(&self.image).output().unwrap();
            if !is_mounted && used.stdout.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "mounted: {is_mounted}, {}", text(&used.stdout));
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for CutDisk {
    fn drop(&mut self) {
        // After a failed test it may be in use; it goes with the last process then.
        let _ = Command::new("umount").arg("--lazy").arg(&self.mounted).output();
    }
}

/// `afk up` with everything that it starts, in a namespace whose end kills all of them at once.
struct Machine(Child);

impl Machine {
    fn boot(world: &World) -> Self {
        let errors = std::fs::File::create(world.path("errors")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", AFK]);
        command.args(world.places()).arg("up");
        Self(command.stdout(Stdio::null()).stderr(errors).spawn().unwrap())
    }

    fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn world() -> World {
    let world = World::new(&format!(
        "number=$(printf %s \"$prompt\" | sed 's/.*acme\\/thing#\\([0-9]*\\).*/\\1/')\n\
         mkdir -p tests; echo \"grep -q done part$number\" > tests/part$number.sh\n\
         git add tests; git $US commit -qm \"Test part $number\"\n\
         echo done > part$number; git add part$number; git $US commit -qm \"Add part $number\"\n{END}"
    ));
    for number in 1..=ISSUES {
        world.issue(number, &format!("Add part {number}"), "armed_by = 'ana'");
    }
    world.with("capacity = 2")
}

/// The issues that are closed.
fn closed(world: &World) -> u64 {
    let is_closed = |number: &u64| {
        let text = std::fs::read_to_string(world.path(&format!("issues/{number}.md")));
        text.is_ok_and(|text| text.contains("state = \"closed\""))
    };
    (1..=ISSUES).filter(is_closed).count() as u64
}

/// A number below `n` from a seed.
fn draw(seed: &mut u64, n: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % n
}

#[test]
fn power_cuts_lose_and_repeat_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cuts = number("AFK_POWER_CUTS").unwrap_or(6);
    let base = number("AFK_CRASH_SEED").unwrap_or(1);
    for round in 0..cuts.div_ceil(CUTS_A_WORLD) {
        let mut seed = base * 1000 + round;
        let world = world();
        world.config();
        let disk = match CutDisk::new(world.root(), world.state()) {
            Ok(disk) => disk,
            Err(why) => {
                let line = format!("!!! SKIPPED: {why}; no power cut was tried\n");
                std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
                return;
            }
        };
        let mut trace = Vec::new();
        for _ in 0..CUTS_A_WORLD {
            let life = Duration::from_millis(300 + draw(&mut seed, 3_000));
            trace.push(life.as_millis());
            let mut machine = Machine::boot(&world);
            let until = Instant::now() + life;
            while Instant::now() < until {
                assert!(!machine.ended(), "{trace:?} {}", errors(&world));
                std::thread::sleep(LOOK);
            }
            disk.cut();
            drop(machine);
            disk.recover();
        }
        let mut machine = Machine::boot(&world);
        let until = Instant::now() + LIMIT;
        while closed(&world) < ISSUES {
            assert!(!machine.ended(), "{trace:?} {}", errors(&world));
            assert!(Instant::now() < until, "{trace:?} {} {}", history(&world), errors(&world));
            std::thread::sleep(LOOK);
        }
        drop(machine);
        let subjects = log(&world.remote(), "master", "%s");
        for number in 1..=ISSUES {
            let name = format!("Add part {number}");
            let times = subjects.iter().filter(|subject| **subject == name).count();
            let heads = world.remote().join("logs/refs/heads/master");
            let heads = std::fs::read_to_string(heads).unwrap();
            assert_eq!(
                times,
                1,
                "seed {base} round {round} {trace:?}: {subjects:?}\n{heads}{}",
                history(&world)
            );
        }
        // Fast-forwards only: every old head is an ancestor of the new one.
        let reflog = world.remote().join("logs/refs/heads/master");
        for line in std::fs::read_to_string(reflog).unwrap().lines().skip(1) {
            let (old, new) = line.split_once(' ').unwrap();
            git(&world.remote(), &["merge-base", "--is-ancestor", old, &new[..40]]);
        }
        let journal = afk::journal::Journal::open_read_only(&world.state()).unwrap();
        assert_eq!(afk::journal::chain::verify(&journal).unwrap(), Ok(journal.last()));
    }
    println!("{} cuts", cuts.div_ceil(CUTS_A_WORLD) * CUTS_A_WORLD);
}

fn errors(world: &World) -> String {
    std::fs::read_to_string(world.path("errors")).unwrap_or_default()
}

fn prints(world: &World, words: &[&str]) -> String {
    let places = world.places();
    let words: Vec<&str> = places.iter().map(String::as_str).chain(words.iter().copied()).collect();
    text(&afk(&words).output().unwrap().stdout)
}

/// How the fleet stands, and its last events.
fn history(world: &World) -> String {
    prints(world, &["status"]) + &prints(world, &["log", "--last", "200"])
}
