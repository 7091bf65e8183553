//! Control groups, where this machine lets the tests make them: root, and a writable cgroup2 mount.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use afk::process::level::strongest;
use afk::process::{Spec, StdinMode, Supervisor};
use afk::sandbox::Level;
use afk::sandbox::cgroup::{CgroupChoice, GroupLimits, Subtree};
use tokio::io::AsyncReadExt;

use crate::ends::{swarm, within};
use crate::prison::{ORDINARY, Prison, User, living, printed, walk};
use crate::support::AFK;
use crate::support::world::{Up, World};

/// A control group of a test, which its drop removes with all that is in it.
struct Folder(PathBuf);

impl Folder {
    /// None where this machine has no such groups.
    fn new(name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (place, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(place))
        });
        let folder = mount.map(|mount| mount.join(format!("afk-{name}-{}", std::process::id())));
        let made = folder.filter(|_| rustix::process::geteuid().is_root());
        let made = made.filter(|folder| std::fs::create_dir(folder).is_ok());
        if made.is_none() {
            eprintln!("!!! SKIPPED: no control group of version 2 can be made here");
        }
        made.map(Self)
    }

    /// The groups of programs in it.
    fn groups(&self) -> Vec<PathBuf> {
        let names = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        folders(&self.0).into_iter().filter(|path| names(path).starts_with("afk.")).collect()
    }

    fn has(&self, controller: &str) -> bool {
        contents(&self.0.join("cgroup.controllers")).split_whitespace().any(|c| c == controller)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            for path in folders(&self.0) {
                let _ = std::fs::remove_dir(path);
            }
            if std::fs::remove_dir(&self.0).is_ok() || Instant::now() > end {
                return;
            }
            std::thread::yield_now();
        }
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn contents(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The levels that this machine allows.
fn levels() -> Vec<Level> {
    let found = strongest(Path::new(AFK)).level;
    [Level::Strong, Level::Landlock].into_iter().filter(|level| *level <= found).collect()
}

/// A supervisor that makes its groups in a folder.
fn supervisor(folder: &Folder, grace: Duration) -> Supervisor {
    let supervisor = Supervisor::new(AFK.into(), "groups".into(), grace);
    let choice = CgroupChoice::Folder(folder.0.clone());
    supervisor.use_groups(Subtree::open(&choice, "groups").unwrap());
    supervisor
}

fn script(prison: &Prison, owner: &str, line: &str) -> Spec {
    let spec = Spec::shell(owner, line, &prison.path("work"));
    Spec { sandbox: Some(prison.sandbox()), ..spec }
}

/// Runs a script to its end and returns what it printed.
async fn output(supervisor: &Supervisor, spec: &Spec) -> String {
    let mut started = supervisor.start(spec, StdinMode::Null).unwrap();
    let mut text = String::new();
    let mut stdout = started.child.stdout.take().unwrap();
    stdout.read_to_string(&mut text).await.unwrap();
    started.child.wait().await.unwrap();
    text
}

#[tokio::test]
async fn swarm_without_marks_ends_with_its_owner_at_each_level() {
    for level in levels() {
        let Some(folder) = Folder::new("swarm") else { return };
        let supervisor = supervisor(&folder, Duration::from_millis(200));
        let prison = Prison::new(level, User::Same);
        // A second owner, so that an orphan in a strange folder may be anybody's.
        output(&supervisor, &script(&prison, "r2", "true")).await;
        let mark = format!("mark-{}", prison.path("").display()).replace('/', "_");
        let line = format!(
            "work=$PWD; cd /; {}; sleep 1000",
            swarm(&mark).replace("> there", "> $work/there")
        );
        let mut started = supervisor.start(&script(&prison, "r1", &line), StdinMode::Null).unwrap();
        within(Duration::from_secs(30), "the swarm did not come", || {
            prison.path("work/there").exists() && living(&mark) > 7
        });
        let groups = folder.groups();
        assert_eq!(groups.len(), 1, "{groups:?}");
        let members = contents(&groups[0].join("cgroup.procs"));
        assert!(members.lines().count() > 7, "{level}: {members}");
        supervisor.end("r1").await;
        started.child.wait().await.unwrap();
        within(Duration::from_secs(1), "the swarm lives on", || living(&mark) == 0);
        drop(started);
        assert_eq!(folder.groups(), Vec::<PathBuf>::new(), "{level}");
    }
}

#[tokio::test]
async fn group_ends_with_its_program() {
    for level in levels() {
        let Some(folder) = Folder::new("end") else { return };
        let supervisor = supervisor(&folder, Duration::from_millis(200));
        let prison = Prison::new(level, User::Same);
        let printed = output(&supervisor, &script(&prison, "r1", "cat /proc/self/cgroup")).await;
        assert!(
            printed.lines().any(|line| line.starts_with("0::") && line.contains("/afk.")),
            "{printed}"
        );
        assert_eq!(folder.groups(), Vec::<PathBuf>::new(), "{level}");
        // A deploy may leave something, so that it has no group.
        let deploy =
            Spec { leaves_children: true, ..script(&prison, "r1", "cat /proc/self/cgroup") };
        let printed = output(&supervisor, &deploy).await;
        assert!(!printed.contains("/afk."), "{printed}");
        supervisor.end("r1").await;
    }
}

#[tokio::test]
async fn program_cannot_leave_its_group_or_lift_its_limits() {
    for level in levels() {
        let Some(folder) = Folder::new("leave") else { return };
        let supervisor = supervisor(&folder, Duration::from_millis(200));
        let prison = Prison::new(level, User::Same);
        let line = format!(
            "for f in {above}/../cgroup.procs {above}/cgroup.procs; do echo 0 > $f; done 2>/dev/null; \
             for d in {above}/afk.*; do echo max > $d/pids.max; mkdir $d/below; done 2>/dev/null; \
             cat /proc/self/cgroup",
            above = folder.0.display()
        );
        let printed = output(&supervisor, &script(&prison, "r1", &line)).await;
        let own = format!("/{}/afk.", folder.0.file_name().unwrap().to_string_lossy());
        let group = printed.lines().find(|line| line.starts_with("0::")).unwrap();
        assert!(group.contains(&own) && !group.contains("below"), "{level}: {printed}");
        assert_eq!(folder.groups(), Vec::<PathBuf>::new(), "{level}: it made one");
    }
}

#[tokio::test]
async fn fork_swarm_of_root_stops_at_its_limit() {
    let Some(folder) = Folder::new("forks") else { return };
    if !folder.has("pids") {
        eprintln!("!!! SKIPPED: control groups of version 2 have no controller pids here");
        return;
    }
    let supervisor = supervisor(&folder, Duration::from_millis(200));
    supervisor.limit(GroupLimits { processes: 64, ..GroupLimits::default() });
    for level in levels() {
        let prison = Prison::new(level, User::Same);
        let line = "perl -e '$| = 1; my $n = 0; while ($n < 500) { my $p = fork; last unless defined $p; \
                    if (!$p) { close STDOUT; sleep 1000; exit } $n++ } print \"forked $n\\n\"'";
        let printed = output(&supervisor, &script(&prison, "r1", line)).await;
        let forked = printed.trim().strip_prefix("forked ").and_then(|n| n.parse::<u32>().ok());
        assert!(forked.is_some_and(|count| count > 10 && count < 64), "{level}: {printed}");
        supervisor.end("r1").await;
        assert_eq!(folder.groups(), Vec::<PathBuf>::new(), "{level}");
    }
}

/// A script of an agent whose first turn leaves something outside of its folder, without marks.
fn leaves(mark: &str) -> String {
    format!(
        "if ! [ -e \"$OUT/share/there\" ]; then (cd /; env -i setsid perl -e '$SIG{{TERM}} = \"IGNORE\"; sleep 1000' {mark} \
         </dev/null >/dev/null 2>&1 &); echo there > \"$OUT/share/there\"; sleep 1000; fi"
    )
}

#[test]
fn next_start_ends_what_a_killed_afk_left_in_its_groups() {
    let Some(folder) = Folder::new("leftover") else { return };
    let mark = format!("mark-leftover-{}", std::process::id());
    let lines = format!("level = 'landlock'\ncgroup = '{}'", folder.0.display());
    let world = World::new(&leaves(&mark)).walled().sandbox(&lines);
    let share = world.path("share");
    std::fs::create_dir(&share).unwrap();
    let world = world.writable(&share);
    let mut up = world.up();
    let there = || world.path("share/there").exists() && living(&mark) > 0;
    within(Duration::from_secs(60), "the agent did not come", there);
    assert!(!folder.groups().is_empty());
    up.kill();
    assert!(living(&mark) > 0, "without namespaces it outlives afk");
    let before = folder.groups();
    let up = world.up();
    within(Duration::from_secs(30), "it lives on", || living(&mark) == 0);
    within(Duration::from_secs(30), "its group is still there", || {
        before.iter().all(|group| !group.exists())
    });
    drop(up);
    assert_eq!(folder.groups(), Vec::<PathBuf>::new());
}

/// afk as a user, which first writes its pid to a file.
fn afk_as(world: &World, user: User, pid_to: &Path, word: &str) -> Command {
    let number = if user == User::Ordinary { ORDINARY } else { 0 };
    let enter = "open my $f, '>', shift or die; print $f $$; close $f or die; my $u = shift; \
                 ($(, $)) = ($u, \"$u $u\"); ($<, $>) = ($u, $u); exec @ARGV or die";
    let mut command = Command::new("perl");
    command
        .args(["-e", enter])
        .arg(pid_to)
        .arg(number.to_string())
        .arg(world.path("afk"))
        .args(world.places())
        .arg(word)
        .current_dir(world.root())
        .env("HOME", world.root())
        .stdin(Stdio::null());
    command
}

/// Starts afk as a user, inside a control group.
fn up_inside(world: &World, folder: &Folder, user: User) -> Up {
    world.config();
    std::fs::copy(AFK, world.path("afk")).unwrap();
    if user == User::Ordinary {
        for path in walk(world.root()) {
            std::os::unix::fs::lchown(&path, Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
    }
    let mut command = afk_as(world, user, &folder.0.join("cgroup.procs"), "up");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let line = std::io::BufRead::lines(out).map_while(Result::ok).next().unwrap_or_default();
    assert!(line.starts_with("afk runs on"), "{user:?}: {line}");
    Up(child)
}

#[test]
fn afk_uses_the_group_that_was_delegated_to_it() {
    for user in [User::Same, User::Ordinary] {
        let Some(folder) = Folder::new("delegated") else { return };
        match user {
            // As systemd marks the group of a unit with Delegate=.
            User::Same => {
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::setxattr(&folder.0, "user.delegate", b"1", flags).unwrap();
            }
            User::Ordinary => {
                for name in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
                    let path = folder.0.join(name);
                    std::os::unix::fs::chown(path, Some(ORDINARY), Some(ORDINARY)).unwrap();
                }
            }
        }
        let world = World::new("echo there > \"$OUT/there\"; sleep 1000");
        let up = up_inside(&world, &folder, user);
        let there = || world.path("there").exists() && !folder.groups().is_empty();
        within(Duration::from_secs(60), "the agent did not come", there);
        let of_afk = contents(Path::new(&format!("/proc/{}/cgroup", up.0.id())));
        assert!(
            of_afk.lines().any(|line| line.starts_with("0::") && line.ends_with("/afk")),
            "{of_afk}"
        );
        let members = || contents(&folder.groups()[0].join("cgroup.procs"));
        assert!(!members().is_empty(), "{user:?}");
        if folder.has("pids") {
            assert!(contents(&folder.0.join("cgroup.subtree_control")).contains("pids"));
            assert_eq!(contents(&folder.groups()[0].join("pids.max")).trim(), "8192");
        }
        let doctor = afk_as(&world, user, Path::new("/dev/null"), "doctor").output().unwrap();
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("control groups")).expect(&text);
        assert!(line.starts_with("ok") && line.contains(&folder.0.display().to_string()), "{line}");
        assert!(line.ends_with("in use"), "{line}");
        drop(up);
        assert_eq!(folder.groups(), Vec::<PathBuf>::new(), "{user:?}");
    }
}

#[test]
fn folder_that_is_no_control_group_keeps_afk_from_starting() {
    let world = World::new("true");
    let line = format!("cgroup = '{}'", world.path("work").display());
    let world = world.sandbox(&line);
    world.config();
    let places = world.places();
    let words: Vec<&str> = places.iter().map(String::as_str).chain(["up"]).collect();
    let output = crate::support::afk(&words).output().unwrap();
    let text = printed(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("sandbox.cgroup") && text.contains("is no control group"), "{text}");
}
