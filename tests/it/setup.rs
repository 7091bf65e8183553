//! `[setup]` and `[env]`: what a checkout needs before an agent or a test works in it, and the caches
//! that it leaves for the next one.

use std::path::Path;

use afk::core::model::command::Command;
use afk::core::model::id::RunId;
use afk::core::model::run::{Outcome, Run};

use crate::support::world::{END, WORK, World, command, ended, run_of, until, wait_until};
use crate::support::{git, journal_id, log, processes_with, repository_folder};

/// Replaces the repository's rules.
fn rules(world: &World, text: &str) {
    std::fs::write(world.path("work/.afk.toml"), text).unwrap();
    world.commit("Rules");
}

/// Runs the first issue to its end, and returns the run with the detail of its question.
async fn run(world: &World) -> (Run, String) {
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    let snapshot = runtime.handle.snapshots.borrow().clone();
    let inbox = snapshot.fleet.inbox();
    let detail = inbox.first().map(|asked| asked.detail.clean()).unwrap_or_default();
    runtime.stop().await;
    (run, detail)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

const TESTS: &str = "for t in tests/*.sh; do sh $t || exit 1; done";

#[tokio::test(flavor = "multi_thread")]
async fn setup_gets_workspace_and_proving_trees_ready() {
    let world = World::new(&format!(
        "echo \"$PWD $MODE ${{SECRET-none}} $AFK_PORT_1 $AFK_PORT_2\" > \"$OUT/agent\"\n\
         cat ../.env made > \"$OUT/agent-files\"\n{WORK}\n{END}"
    ));
    let root = world.root().display().to_string();
    let secret = world.path("secret");
    std::fs::write(&secret, "test-only-value\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&secret, mode).unwrap();
    let reference = format!("file:{}", secret.display());
    let world = world.repo(&format!("test_secrets = ['{reference}']"));
    let work = world.path("work");
    std::fs::create_dir_all(work.join("app/tests")).unwrap();
    std::fs::write(work.join("app/tests/first.sh"), "true\n").unwrap();
    std::fs::write(work.join(".env.example"), "PORT=1\n").unwrap();
    rules(
        &world,
        &format!(
            "test = '''echo \"$PWD $MODE $SECRET $AFK_PORT_1\" >> {root}/tests-ran; \
             [ -f made ] && [ -f ../.env ] && [ -f \"$HOME/tool\" ] || exit 127; {TESTS}'''\n\
             [env]\nMODE = 'plain'\nSECRET = '{reference}'\n\
             [setup]\ncommand = 'echo made > made; echo x > \"$HOME/tool\"; echo $PWD $SECRET >> {root}/setup-ran'\n\
             copy = ['.env.example:.env']\nports = 2\ndir = 'app'\n[gate]\nneeded = 'off'\n"
        ),
    );
    // The setup's files are the repository's to ignore; what afk copies is not.
    std::fs::write(work.join(".gitignore"), "made\n").unwrap();
    world.commit("Ignore");
    let (run, detail) = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{detail}");

    let folder = repository_folder(&world.state(), "acme/thing");
    let agent = text(&world.path("agent"));
    let words: Vec<&str> = agent.split_whitespace().collect();
    assert_eq!(words[0], folder.join("wt-1/app").to_str().unwrap());
    assert_eq!(&words[1..3], ["plain", "none"], "secrets are for the tests alone");
    let ports: Vec<u16> = words[3..].iter().map(|word| word.parse().unwrap()).collect();
    assert!(ports.len() == 2 && ports[0] != ports[1], "{agent}");
    assert_eq!(text(&world.path("agent-files")), "PORT=1\nmade\n");

    let ran = text(&world.path("setup-ran"));
    let prove = folder.join("prove/app");
    let places: Vec<&str> = ran.lines().filter_map(|line| line.split(' ').next()).collect();
    // The workspace, and the trees of each run of the tests.
    assert_eq!(places[0], words[0]);
    assert!(
        places.len() > 3 && places[1..].iter().all(|at| *at == prove.to_str().unwrap()),
        "{ran}"
    );
    assert!(ran.contains(" test-only-value\n"), "{ran}");
    let tests = text(&world.path("tests-ran"));
    let first: Vec<&str> = tests.lines().next().unwrap().split(' ').collect();
    assert_eq!(&first[..3], [prove.to_str().unwrap(), "plain", "test-only-value"]);
    assert!(!ports.contains(&first[3].parse().unwrap()), "each tree has its own ports");
    let files = git(&world.remote(), &["ls-tree", "-r", "--name-only", "master"]);
    assert!(files.contains("app/state") && !files.lines().any(|file| file == ".env"), "{files}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_setup_asks_a_human_before_any_turn() {
    for (limits, command, why) in [
        ("", "echo line one; echo the end; exit 3", "in the workspace: exit code 3"),
        ("", "no-such-program --install", "a program in it was not found"),
        ("[limits]\nsetup_minutes = 0", "sleep 1000", "longer than limits.setup_minutes (0)"),
    ] {
        let world = World::new(&format!("{WORK}\n{END}")).with(limits);
        rules(&world, &format!("test = '{TESTS}'\n[setup]\ncommand = '{command}'\n"));
        let runtime = world.start().await;
        let failed = ended(&runtime).await;
        let line = failed.progress.why.clean();
        assert_eq!((failed.progress.outcome, failed.agent.turns), (Some(Outcome::NeedsHuman), 0));
        assert!(line.contains(command) && line.contains(why), "{line}");
        let snapshot = runtime.handle.snapshots.borrow().clone();
        let detail = snapshot.fleet.inbox()[0].detail.clean();
        if command.starts_with("echo") {
            assert!(detail.contains("line one\nthe end"), "{detail}");
        }
        // The repaired setup serves the next issue, in the same workspace.
        rules(&world, &format!("test = '{TESTS}'\n[setup]\ncommand = 'true'\n"));
        if limits.is_empty() {
            world.issue(2, "Again", "armed_by = 'ana'");
            let second = until(&runtime, "the second run", |s| {
                let run = run_of(&s.fleet, 2)?;
                run.progress.outcome.map(|_| run.clone())
            })
            .await;
            let line = second.progress.why.clean();
            assert_eq!(second.progress.outcome, Some(Outcome::Done), "{line}");
            let workspace = second.workspace.worktree.or(second.workspace.home).unwrap();
            assert!(workspace.ends_with("/wt-1"), "{workspace}");
        }
        runtime.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_that_fails_before_the_tests_is_broken_and_not_red() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let command = "[ -f tests/state.sh ] || exit 0; echo registry is down; exit 4";
    rules(&world, &format!("test = '{TESTS}'\n[setup]\ncommand = '{command}'\n"));
    let (run, detail) = run(&world).await;
    let line = run.progress.why.clean();
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(line.starts_with("The tests can't be run on "), "{line}");
    assert!(detail.contains("before the tests of the base: exit code 4"), "{detail}");
    assert!(detail.contains("registry is down"), "{detail}");
    assert_eq!(run.agent.turns, 1, "no agent can mend it");
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Rules"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_can_not_take_what_the_owner_has_not_allowed() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let secret = world.path("agent.sh");
    rules(&world, &format!("test = '{TESTS}'\n[env]\nKEY = 'file:{}'\n", secret.display()));
    let (denied, _) = run(&world).await;
    let line = denied.progress.why.clean();
    assert_eq!((denied.progress.outcome, denied.agent.turns), (Some(Outcome::NeedsHuman), 0));
    assert!(line.contains("[env] KEY of .afk.toml names file:"), "{line}");
    assert!(line.contains("`test_secrets` of [repos.\"acme/thing\"]"), "{line}");

    // A commit that puts a link into the place of a file to copy reaches nothing beyond the wall.
    let world = World::new(&format!("{WORK}\n{END}")).walled();
    std::os::unix::fs::symlink(world.path("afk.toml"), world.path("work/example")).unwrap();
    rules(&world, &format!("test = '{TESTS}'\n[setup]\ncopy = ['example/:taken']\n"));
    let (refused, detail) = run(&world).await;
    assert_eq!(refused.progress.outcome, Some(Outcome::NeedsHuman), "{detail}");
    assert!(refused.progress.why.clean().contains("`[setup] copy` of example/"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_come_from_the_upstreams_setup_and_never_from_an_agent() {
    let script = format!(
        "cat \"$TOOL/lib\" >> \"$OUT/agents-saw\"\necho evil > \"$TOOL/lib\"; echo evil > \"$TOOL/more\"\n\
         case $prompt in *'Two more'*) mkdir -p tests; echo 'grep -q two state' > tests/two.sh; \
         echo two >> state; echo 2 > lock;; *) {WORK}\n;; esac\n{END}"
    );
    let world = World::new(&script).repo("caches = { TOOL = 'tools/one' }");
    let root = world.root().display().to_string();
    std::fs::write(world.path("work/lock"), "1\n").unwrap();
    rules(
        &world,
        &format!(
            "test = '''ls \"$TOOL\" >> {root}/tests-saw; cat \"$TOOL/lib\" >> {root}/tests-saw; {TESTS}'''\n\
             [setup]\nkey = ['lock']\n\
             command = '''[ -f \"$TOOL/lib\" ] || {{ echo \"built $(cat lock)\" > \"$TOOL/lib\"; pwd >> {root}/builds; }}'''\n[gate]\nneeded = 'off'\n"
        ),
    );
    let runtime = world.start().await;
    let first = ended(&runtime).await;
    assert_eq!(first.progress.outcome, Some(Outcome::Done), "{}", first.progress.why.clean());
    let folder = repository_folder(&world.state(), "acme/thing");
    let prove = format!("{}\n", folder.join("prove").display());
    assert_eq!(text(&world.path("builds")), prove, "one build serves every tree");

    world.issue(2, "Two more", "armed_by = 'ana'");
    until(&runtime, "the second run", |s| {
        let run = run_of(&s.fleet, 2)?;
        let outcome = run.progress.outcome?;
        assert_eq!(outcome, Outcome::Done, "{}", run.progress.why.clean());
        Some(())
    })
    .await;
    assert_eq!(text(&world.path("agents-saw")), "built 1\nbuilt 1\n");
    let saw = text(&world.path("tests-saw"));
    let trees: Vec<&str> = saw.split("lib\n").filter(|tree| !tree.is_empty()).collect();
    assert!(trees.iter().all(|tree| ["built 1\n", "built 2\n"].contains(tree)), "{saw}");
    assert_eq!(trees.last(), Some(&"built 2\n"), "{saw}");
    // The commit of the agent changed the key. What its setup built is not kept.
    // The head, and the head with the old tests, each build for themselves.
    assert_eq!(text(&world.path("builds")), prove.repeat(3));
    let keys = std::fs::read_dir(folder.join("caches/keys")).unwrap();
    assert_eq!(keys.count(), 1);
    wait_until("the end of the agent's cache", || !folder.join("caches/trees/wt-1").exists()).await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_setup_ends_and_frees_its_workspace() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let started = world.path("started");
    let line = format!("touch {}; sleep 1000", started.display());
    rules(&world, &format!("test = '{TESTS}'\n[setup]\ncommand = '{line}'\n"));
    let runtime = world.start().await;
    wait_until("the setup", || started.exists()).await;
    let shown = until(&runtime, "its progress", |s| {
        let run = run_of(&s.fleet, 1)?;
        s.progress.contains_key(&run.id).then(|| s.standing(run, s.fleet.last_event))
    })
    .await;
    assert_eq!(shown, "worktree · setting up");
    command(&runtime, Command::Cancel { run: RunId(1) }).await.unwrap();
    let cancelled = ended(&runtime).await;
    assert_eq!(cancelled.progress.outcome, Some(Outcome::Cancelled));
    let id = journal_id(&world.state());
    wait_until("the end of the setup", || processes_with("AFK_STATE", &id).is_empty()).await;
    let folder = repository_folder(&world.state(), "acme/thing");
    wait_until("the return of the workspace", || !folder.join("wt-1").exists()).await;
    assert!(runtime.handle.snapshots.borrow().progress.is_empty());

    rules(&world, &format!("test = '{TESTS}'\n"));
    world.issue(2, "Again", "armed_by = 'ana'");
    let second = until(&runtime, "the second run", |s| {
        let run = run_of(&s.fleet, 2)?;
        (run.progress.outcome == Some(Outcome::Done)).then(|| run.clone())
    })
    .await;
    let workspace = second.workspace.worktree.or(second.workspace.home).unwrap();
    assert!(workspace.ends_with("/wt-1"), "{workspace}");
    runtime.stop().await;
}
