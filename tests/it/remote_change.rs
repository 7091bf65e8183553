//! A remote, or its branch, that changes in `afk.toml` while afk runs: the next fetch and the next push go to
//! the new one, without a restart.

use std::path::Path;

use afk::core::model::run::Outcome;
use afk::runtime::Runtime;

use crate::support::world::{END, WORK, World, run_of, until, wait_until};
use crate::support::{git, log};

/// A world that is followed by its file, and the text of that.
async fn start(world: &World) -> (Runtime, String) {
    let config = world.config();
    let file = world.path("afk.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    (world.try_start(config, Some(file)).await.unwrap(), text)
}

/// Writes the configuration with `from` replaced, as an editor does.
fn edit(world: &World, text: &str, from: &str, to: &str) {
    assert!(text.contains(from), "{text}");
    std::fs::write(world.path("new.toml"), text.replace(from, to)).unwrap();
    std::fs::rename(world.path("new.toml"), world.path("afk.toml")).unwrap();
}

async fn is_done(runtime: &Runtime, number: u64) {
    let why = until(runtime, "the end of the run", |s| {
        let progress = &run_of(&s.fleet, number)?.progress;
        progress.outcome.map(|outcome| (outcome, progress.why.clean()))
    })
    .await;
    assert_eq!(why.0, Outcome::Done, "{}", why.1);
}

/// Shell: the work of each issue, with a file of its own.
const EACH: &str = "\
n=$(ls tests | wc -l); echo \"grep -q done state$n\" > tests/state$n.sh; echo done > state$n; \
git add --all; git $US commit -qm \"Do $n\"";

fn address(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_remote_gets_the_next_push_without_a_restart() {
    let world = World::new(&format!("{EACH}\n{END}"));
    let (runtime, text) = start(&world).await;
    is_done(&runtime, 1).await;
    git(world.root(), &["clone", "-q", "--bare", "remote.git", "moved.git"]);
    let old = git(&world.remote(), &["rev-parse", "master"]);
    edit(&world, &text, &address(&world.remote()), &address(&world.path("moved.git")));
    until(&runtime, "the change", |s| {
        s.fleet.policy.remote_names.values().any(|name| name.contains("moved")).then_some(())
    })
    .await;
    world.issue(2, "Do it again", "armed_by = 'ana'");
    is_done(&runtime, 2).await;
    let problems = runtime.handle.snapshots.borrow().problems.clone();
    runtime.stop().await;
    assert!(!problems.iter().any(|line| line.contains("restart")), "{problems:?}");
    assert_eq!(git(&world.remote(), &["rev-parse", "master"]), old, "the old remote was pushed to");
    assert_eq!(log(&world.path("moved.git"), "master", "%s"), ["Begin", "Do 1", "Do 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_branch_gets_the_next_push_and_a_live_run_keeps_its_worktree() {
    // The first run waits in its turn while the branch changes.
    let world = World::new(&format!(
        "{EACH}\nif test $n = 1; then touch $OUT/waits; while ! test -e $OUT/go; do sleep 0.05; done; fi\n{END}"
    ));
    git(&world.remote(), &["branch", "next", "master"]);
    let (runtime, text) = start(&world).await;
    wait_until("the turn", || world.path("waits").exists()).await;
    let text = text.replace("kill_switch", "max_queue_depth = 77\nkill_switch");
    edit(&world, &text, "[repos.'acme/thing']", "[repos.'acme/thing']\nbranch = 'next'");
    until(&runtime, "the change", |s| (s.fleet.policy.max_queue_depth == 77).then_some(())).await;
    world.issue(2, "Do it again", "armed_by = 'ana'");
    std::fs::write(world.path("go"), "").unwrap();
    is_done(&runtime, 1).await;
    is_done(&runtime, 2).await;
    runtime.stop().await;
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin"]);
    assert_eq!(log(&world.remote(), "next", "%s"), ["Begin", "Do 1", "Do 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_remote_that_is_corrected_lets_the_issue_land_without_a_restart() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let right = world.remote();
    let world = world.at(right.with_file_name("wrong.git").display().to_string());
    let (runtime, text) = start(&world).await;
    until(&runtime, "the first failure", |s| {
        (!s.fleet.outages.is_empty() || run_of(&s.fleet, 1)?.progress.outcome.is_some())
            .then_some(())
    })
    .await;
    edit(&world, &text, "wrong.git", "remote.git");
    is_done(&runtime, 1).await;
    runtime.stop().await;
    assert_eq!(log(&right, "master", "%s"), ["Begin", "Test it", "Do it"]);
}
