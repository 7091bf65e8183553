//! `afk doctor` on repositories in which no issue could land: each finding names its cause, and the hint,
//! done as it says, makes doctor content.

use std::path::Path;
use std::process::Command;

use crate::support::world::{END, WORK, World};
use crate::support::{afk, git, text};

/// Calls `afk doctor` with more arguments, in a folder.
fn doctor_in(world: &World, dir: &Path, more: &[&str]) -> String {
    let places = world.places();
    let args: Vec<&str> =
        places.iter().map(String::as_str).chain(["doctor"]).chain(more.iter().copied()).collect();
    text(&afk(&args).current_dir(dir).env("USER", "ana").output().unwrap().stdout)
}

fn doctor(world: &World) -> String {
    world.config();
    doctor_in(world, world.root(), &[])
}

/// The line of a failed check, and the hint below it.
fn failed<'a>(said: &'a str, subject: &str) -> (&'a str, &'a str) {
    let start = format!("NO  {subject}: ");
    let mut lines = said.lines().skip_while(|line| !line.starts_with(&start));
    let line = lines.next().unwrap_or_else(|| panic!("no failed check of {subject} in:\n{said}"));
    (line, lines.next().unwrap_or_default())
}

/// The first command in a hint, which stands in backquotes.
fn command_of(hint: &str) -> &str {
    hint.split('`').nth(1).unwrap_or_else(|| panic!("no command in {hint}"))
}

fn shell(dir: &Path, line: &str) {
    let out = Command::new("sh").args(["-c", line]).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "{line}: {}", text(&out.stderr));
}

const PUSHES: &str = "pushes to acme/thing";
const TESTS: &str = "tests of acme/thing";

/// A world whose remote is the work folder, with the branch checked out.
fn checked_out() -> World {
    let world = World::new(&format!("{WORK}\n{END}"));
    let work = world.path("work").display().to_string();
    world.at(work)
}

#[test]
fn doctor_names_a_remote_with_the_branch_checked_out_and_the_command_that_mends_it() {
    let world = checked_out();
    let said = doctor(&world);
    let work = world.path("work").display().to_string();
    let (line, hint) = failed(&said, PUSHES);
    assert!(line.contains(&format!("{work} has master checked out")), "{said}");
    assert!(hint.contains(&format!("remote = \"{work}.git\"")), "{said}");
    shell(world.root(), command_of(hint));
    let world = world.at(format!("{work}.git"));
    let said = doctor(&world);
    assert!(!said.contains(PUSHES), "{said}");
    assert!(said.contains(&format!("ok  {TESTS}: ")), "{said}");
}

#[test]
fn doctor_accepts_a_checked_out_branch_only_where_git_takes_the_push() {
    let world = checked_out();
    let work = world.path("work");
    let set = |value| git(&work, &["config", "receive.denyCurrentBranch", value]);
    // What git does with a push decides.
    let pushes = || {
        let commit = git(&work, &["commit-tree", "-p", "master", "-m", "Try", "master^{tree}"]);
        let refspec = format!("{commit}:refs/heads/master");
        let out = crate::support::try_git(&work, &["push", "-q", work.to_str().unwrap(), &refspec]);
        if out.status.success() {
            git(&work, &["reset", "-q", "--soft", "HEAD~1"]);
        }
        out.status.success()
    };
    for value in ["refuse", "true", "ignore", "warn", "updateInstead"] {
        set(value);
        assert_eq!(!doctor(&world).contains(PUSHES), pushes(), "{value}");
    }
    std::fs::write(work.join(".afk.toml"), "test = 'changed'\n").unwrap();
    let said = doctor(&world);
    let (line, hint) = failed(&said, PUSHES);
    assert!(line.contains("checked out with changes") && !pushes(), "{said}");
    shell(world.root(), command_of(hint));
    assert!(!doctor(&world).contains(PUSHES) && pushes());
}

#[test]
fn doctor_sees_a_worktree_of_a_bare_remote() {
    let world = World::new(END);
    assert!(!doctor(&world).contains(PUSHES));
    git(&world.remote(), &["worktree", "add", "-q", "../tree", "master"]);
    let said = doctor(&world);
    assert!(failed(&said, PUSHES).0.contains("tree has master checked out"), "{said}");
}

#[test]
fn doctor_names_a_remote_that_takes_no_push() {
    let world = World::new(END);
    git(&world.path("work"), &["bundle", "create", "-q", "../thing.bundle", "--all"]);
    let bundle = world.path("thing.bundle").display().to_string();
    let world = world.at(bundle);
    let said = doctor(&world);
    assert!(failed(&said, PUSHES).0.contains("is a file"), "{said}");
    // A server that serves fetches alone.
    let world = World::new(END);
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    // The program itself: a kill of `git daemon` would leave it.
    let programs = git(world.root(), &["--exec-path"]);
    let mut server = Command::new(Path::new(&programs).join("git-daemon"))
        .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--base-path={}", world.root().display()))
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < deadline, "git daemon does not listen");
        std::thread::yield_now();
    }
    let world = world.at(format!("git://127.0.0.1:{port}/remote.git"));
    let said = doctor(&world);
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(said.contains("ok  repository acme/thing: master at"), "{said}");
    assert!(failed(&said, PUSHES).0.contains("a push is refused: "), "{said}");
}

/// The output of doctor on a world with this test command.
fn tested(command: &str) -> String {
    let world = World::new(END);
    let rules = format!("test = '''{command}'''\n");
    std::fs::write(world.path("work/.afk.toml"), rules).unwrap();
    world.commit("Rules");
    doctor(&world)
}

#[test]
fn doctor_tries_the_test_command_of_the_branch() {
    let said = tested("sh tests/first.sh");
    let line = format!("ok  {TESTS}: `sh tests/first.sh` passed in 0 seconds");
    assert!(said.contains(&line), "{said}");
    for (command, why, to_do) in [
        ("false", "`false` failed in 0 seconds with exit code 1", "in place of `false`"),
        ("echo the disk is red; exit 3", "with exit code 3: the disk is red", "in a fresh clone"),
        ("no-such-suite --all", "`no-such-suite --all` can't be run", "install it, or change"),
        ("true", "`true` passes without a test", "write a first test"),
        ("echo no tests yet", "passes without a test", "write a first test"),
        ("echo 1..0", "passes without a test", "write a first test"),
        ("printf 'running 0 tests\\n\\n'", "but it ran no test", "write a first test"),
    ] {
        let said = tested(command);
        let (line, hint) = failed(&said, TESTS);
        assert!(line.contains(why), "{command}: {said}");
        assert!(hint.contains(to_do), "{command}: {said}");
    }
}

#[test]
fn trial_of_doctor_has_a_limit_and_can_be_left_out() {
    let world = World::new(END);
    std::fs::write(world.path("work/.afk.toml"), "test = 'echo begun; sleep 600'\n").unwrap();
    world.commit("Rules");
    world.config();
    let said = doctor_in(&world, world.root(), &["--try-seconds", "1"]);
    let line = format!("ok  {TESTS}: `echo begun; sleep 600` was still running after 1 second");
    assert!(said.contains(&line), "{said}");
    let said = doctor_in(&world, world.root(), &["--no-try"]);
    assert!(said.contains(&format!("ok  {TESTS}: not tried")), "{said}");
    assert!(!world.state().exists(), "the trial left its folder");
}

#[test]
fn trial_of_doctor_runs_the_setup_first() {
    let world = World::new(END);
    let rules = "test = 'test -e ready && test \"$MODE\" = fast'\n[setup]\ncommand = 'touch ready'\n\
                 [env]\nMODE = 'fast'\n";
    std::fs::write(world.path("work/.afk.toml"), rules).unwrap();
    world.commit("Rules");
    let said = doctor(&world);
    assert!(said.contains(&format!("ok  {TESTS}: ")) && said.contains("passed in"), "{said}");
}

#[test]
fn doctor_names_who_could_arm_an_issue() {
    let world = World::new(END);
    world.config();
    let path = world.path("afk.toml");
    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, written.replace("trusted = ['ana']", "trusted = []")).unwrap();
    let said = doctor_in(&world, world.root(), &[]);
    let (line, hint) = failed(&said, "trusted");
    assert!(line.contains("nobody may arm an issue"), "{said}");
    assert_eq!(command_of(hint), "trusted = [\"ana\"]");
    assert!(hint.contains(&path.display().to_string()), "{said}");
}

#[test]
fn doctor_proposes_the_new_address_of_a_clone_whose_remote_moved() {
    let world = World::new(END);
    world.config();
    let work = world.path("work");
    let moved = world.path("moved.git");
    std::fs::rename(world.remote(), &moved).unwrap();
    git(&work, &["remote", "add", "origin", moved.to_str().unwrap()]);
    let said = doctor_in(&world, &work, &[]);
    let hint = failed(&said, "repository acme/thing").1;
    assert_eq!(command_of(hint), format!("remote = \"{}\"", moved.display()));
}

#[test]
fn doctor_names_the_branches_that_a_remote_has() {
    let world = World::new(END);
    git(&world.remote(), &["branch", "-m", "master", "main"]);
    let said = doctor(&world);
    let (line, hint) = failed(&said, "repository acme/thing");
    assert!(line.contains("has no branch master") && hint.contains("there is main"), "{said}");
}
