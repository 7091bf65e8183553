//! Floods: of memory, files, terminals and processes. Each is bounded by the wall or ended by afk, and
//! goes with its run.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use afk::core::model::run::Outcome;
use afk::sandbox::Level;

use crate::ends::{strong, within};
use crate::prison::{Prison, User, living, places, printed};
use crate::support::world::{END, WORK, World, run_of, until};

/// Perl: makes empty files in each folder until that fails, and prints how many there are room for.
const MANY_FILES: &str = "\
for my $folder (@ARGV) { my $n = 0;
    while ($n < 70000) { open(my $f, '>', \"$folder/flood-$n\") or last; $n++ }
    print \"$folder $n\\n\" }";

/// Perl: opens terminals until that fails, and prints how many it got.
const MANY_TERMINALS: &str = "\
my @all; while (@all < 300) { open(my $f, '+<', '/dev/ptmx') or last; push @all, $f }
print scalar(@all), \"\\n\"";

/// Perl: a process that is another one every moment. It has no parent, no session and no name that
/// lasts, so that a list of processes is out of date once it is read.
const RABBIT: &str = "\
use POSIX (); fork and exit; POSIX::setsid(); $SIG{TERM} = $SIG{HUP} = 'IGNORE';
open(my $f, '>', 'hopping'); close $f;
while (1) { my $child = fork; exit if $child; select undef, undef, undef, 0.001 }";

#[test]
fn folders_in_memory_are_bounded_by_size_and_by_count() {
    for user in strong() {
        let prison = Prison::new(Level::Strong, user);
        let mut sandbox = prison.sandbox();
        (sandbox.home, sandbox.temporary) = (None, None);
        let output = prison.run_with(
            &sandbox,
            "for f in /tmp /var/tmp \"$HOME\"; do fallocate -l 257M $f/full 2>/dev/null && echo TOO BIG $f; rm -f $f/full; done; \
             fallocate -l 1025M /dev/shm/full 2>/dev/null && echo TOO BIG /dev/shm; \
             fallocate -l 2M /dev/full-disk 2>/dev/null && echo TOO BIG /dev; \
             for f in / /run /etc/ssh /etc/cron.d; do touch $f/x 2>/dev/null && echo WRITABLE $f; done; true",
        );
        assert!(output.status.success() && output.stdout.is_empty(), "{}", printed(&output));
        let program = ["perl", "-e", MANY_FILES, "/tmp", "/var/tmp", "/dev/shm", "/dev"];
        let output = prison.command(&sandbox, &program).output().unwrap();
        let text = printed(&output);
        let rooms: Vec<u32> =
            text.lines().map(|l| l.split(' ').nth(1).unwrap().parse().unwrap()).collect();
        assert_eq!(rooms.len(), 4, "{text}");
        for (room, most) in rooms.iter().zip([65_536, 65_536, 65_536, 64]) {
            assert!(*room <= most, "{user:?}: {text}");
        }
        // What ended with that program, the next one has.
        assert!(prison.run("ls /tmp | grep -c flood; echo x > /dev/shm/x").status.success());
    }
}

#[test]
fn terminals_of_a_program_are_bounded() {
    for user in strong() {
        let prison = Prison::new(Level::Strong, user);
        let output = prison.command(&prison.sandbox(), &["perl", "-e", MANY_TERMINALS]).output();
        let text = printed(&output.unwrap());
        let opened: u32 = text.trim().parse().unwrap_or_else(|_| panic!("{text}"));
        assert!(opened > 0 && opened <= 256, "{user:?}: {opened}");
    }
}

#[test]
fn process_that_is_another_one_every_moment_ends_with_its_program() {
    for user in strong() {
        let prison = Prison::new(Level::Strong, user);
        let mark = prison.mark();
        let start = format!("perl -e \"$RABBIT\" {mark} & until [ -e hopping ]; do :; done");
        for rest in ["exit 0", "exec sleep 1000"] {
            let _ = std::fs::remove_file(prison.path("work/hopping"));
            let script = format!("{start}; {rest}");
            let mut command = prison.command(&prison.sandbox(), &["sh", "-c", &script]);
            command.env("RABBIT", RABBIT).stdout(Stdio::null()).stderr(Stdio::null());
            let mut program: Child = command.spawn().unwrap();
            within(Duration::from_secs(30), "the rabbit did not come", || {
                prison.path("work/hopping").exists()
            });
            if rest != "exit 0" {
                program.kill().unwrap();
            }
            program.wait().unwrap();
            // Between two of its lives a rabbit may not be listed, so that one look is no proof.
            within(Duration::from_secs(5), "the rabbit lives on", || {
                (0..50).all(|_| living(&mark) == 0)
            });
        }
    }
}

#[test]
fn swarm_of_one_program_stops_no_other_program_of_its_user() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nproc).current;
    for user in strong() {
        // The kernel doesn't count the processes of root.
        let counted = user == User::Ordinary || !rustix::process::geteuid().is_root();
        if !counted || limit.is_some_and(|limit| limit < 10_000) {
            continue;
        }
        let (one, other) = (Prison::new(Level::Strong, user), Prison::new(Level::Strong, user));
        let swarm = "my $n = 0; while ($n < 9000) { my $p = fork; last unless defined $p; \
            if (!$p) { sleep 1000; exit } $n++ } open(my $f, '>', 'full'); print $f $n; close $f; sleep 1000";
        let mut swarm = one.command(&one.sandbox(), &["perl", "-e", swarm]).spawn().unwrap();
        let full = || std::fs::read_to_string(one.path("work/full")).ok()?.parse::<u32>().ok();
        within(Duration::from_secs(60), "the swarm did not come", || full().is_some());
        let output =
            other.run("for n in 1 2 3 4 5 6 7 8; do sleep 1000 & done; sh -c 'echo works'");
        swarm.kill().unwrap();
        swarm.wait().unwrap();
        assert!(full().is_some_and(|forked| forked < 8192), "{:?}", full());
        assert_eq!(printed(&output), "works\n", "{user:?}");
    }
}

/// Shell: takes 300 MiB in a process without parent, session and environment.
const HIDDEN_MEMORY: &str = "\
env -i setsid perl -e 'my $x = \"x\" x (300 << 20); sleep 1000' $MARK </dev/null >/dev/null 2>&1 &
echo '{\"type\":\"text\",\"text\":\"FLOODS\"}'
sleep 1000";

#[tokio::test(flavor = "multi_thread")]
async fn memory_flood_of_a_hidden_process_ends_its_turn_and_no_other_run() {
    let mut levels: Vec<Level> = places().into_iter().map(|(level, _)| level).collect();
    levels.dedup();
    for level in levels {
        let script =
            format!("case $prompt in *Flood*) {HIDDEN_MEMORY};; *) {WORK}\n;; esac\n{END}");
        let mark = format!("flood-{}-{level}", std::process::id());
        let world = World::new(&script).walled().agent(&format!("set = {{ MARK = '{mark}' }}"));
        let world = world.with("[limits]\nmemory_mib = 100\ngrace_seconds = 1");
        world.issue(1, "Flood", "armed_by = 'ana'");
        world.issue(2, "Do it well", "armed_by = 'ana'");
        let mut config = world.config();
        config.sandbox.level = Some(level);
        let runtime = world.try_start(config, None).await.unwrap();
        until(&runtime, "the end of the flood's turn", |snapshot| {
            (run_of(&snapshot.fleet, 1)?.progress.failures > 0).then_some(())
        })
        .await;
        until(&runtime, "the honest run", |snapshot| {
            let outcome = run_of(&snapshot.fleet, 2)?.progress.outcome?;
            assert_eq!(outcome, Outcome::Done, "{level}: {}", world.transcript(2));
            Some(())
        })
        .await;
        runtime.stop().await;
        let end = Instant::now() + Duration::from_secs(10);
        while living(&mark) > 0 {
            assert!(Instant::now() < end, "{level}: the flood lives on");
            tokio::task::yield_now().await;
        }
        let flooding = [1, 2].map(|run| world.transcript(run));
        let said = flooding.iter().any(|text| text.contains("the limit is 100 MiB"));
        assert!(said, "{level}: {flooding:?}");
    }
}
