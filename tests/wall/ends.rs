//! The end of a program behind the wall is the end of all that it started.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use afk::sandbox::Level;

use crate::prison::{Prison, User, living, places, printed};

/// A swarm that leaves its session, its parent and its environment behind, and says once it is
/// there. Each member has `mark` among its arguments.
pub fn swarm(mark: &str) -> String {
    format!(
        "for i in 1 2 3 4 5; do env -i setsid perl -e 'fork and exit; $SIG{{TERM}} = $SIG{{HUP}} = \"IGNORE\"; sleep 1000' {mark} </dev/null >/dev/null 2>&1 & done; \
         env -i setsid sh -c 'trap \"\" TERM; while :; do perl -e \"sleep 1000\" {mark} & wait; done' {mark} </dev/null >/dev/null 2>&1 & \
         echo there > there"
    )
}

/// Waits until a condition holds.
pub fn within(limit: Duration, what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

/// The users for whom the level strong works here.
pub fn strong() -> Vec<User> {
    places()
        .into_iter()
        .filter(|(level, _)| *level == Level::Strong)
        .map(|(_, user)| user)
        .collect()
}

#[test]
fn nothing_outlives_the_program() {
    for user in strong() {
        let prison = Prison::new(Level::Strong, user);
        let mark = prison.mark();
        let output = prison.run(&swarm(&mark));
        assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
        assert!(prison.path("work/there").exists());
        within(Duration::from_secs(1), "the swarm lives on", || living(&mark) == 0);
    }
}

#[test]
fn nothing_outlives_a_killed_afk() {
    for user in strong() {
        let prison = Prison::new(Level::Strong, user);
        let mark = prison.mark();
        let script = format!("{}; sleep 1000", swarm(&mark));
        let inner = prison.command(&prison.sandbox(), &["sh", "-c", &script]);
        // A parent in afk's place, which is killed at once.
        let mut parent = Command::new("perl");
        parent.args(["-e", "my $child = fork; exec @ARGV unless $child; sleep 1000"]);
        parent.arg(inner.get_program()).args(inner.get_args());
        prison.prepare(&mut parent);
        let mut parent = parent.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        within(Duration::from_secs(30), "the swarm did not come", || {
            prison.path("work/there").exists() && living(&mark) > 8
        });
        parent.kill().unwrap();
        parent.wait().unwrap();
        within(Duration::from_secs(1), "the swarm lives on", || living(&mark) == 0);
    }
}

#[test]
fn exit_codes_and_signals_of_the_program_arrive() {
    for (level, user) in places() {
        let prison = Prison::new(level, user);
        assert_eq!(prison.run("exit 7").status.code(), Some(7));
        let sandbox = prison.sandbox();
        let missing = prison.command(&sandbox, &["/no/such/program"]).output().unwrap();
        let code = missing.status.code();
        assert!(matches!(code, Some(125 | 127)), "{code:?} {}", printed(&missing));
        let killed = prison.run("kill -KILL $$").status;
        let signal = std::os::unix::process::ExitStatusExt::signal(&killed);
        assert!(signal == Some(9) || killed.code() == Some(137), "{killed:?}");
    }
}

#[test]
fn program_leaves_no_dump_and_an_ordinary_users_processes_are_counted() {
    for (level, user) in places() {
        let prison = Prison::new(level, user);
        let output = prison.run("ulimit -c; ulimit -u 2>/dev/null || cat /proc/self/limits");
        let text = printed(&output);
        if level == Level::Strong {
            assert!(text.starts_with("0\n"), "{text}");
            assert!(text.contains("8192"), "{text}");
        }
    }
}

#[test]
fn fork_bomb_of_an_ordinary_user_stays_below_its_limit() {
    for user in strong() {
        if user != User::Ordinary && rustix::process::geteuid().is_root() {
            continue;
        }
        let prison = Prison::new(Level::Strong, user);
        // 9,000 sleeping children would be more than the limit.
        let output = prison.run(
            "perl -e 'my $n = 0; while ($n < 9000) { my $p = fork; last unless defined $p; \
             if (!$p) { sleep 1000; exit } $n++ } print \"forked $n\\n\"; kill 9, -getppid'",
        );
        let text = printed(&output);
        let forked = text.split("forked ").nth(1).and_then(|rest| rest.trim().parse::<u32>().ok());
        assert!(forked.is_some_and(|count| count < 8192), "{text}");
    }
}
