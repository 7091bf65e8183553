//! Whose commits a run pushes: humans rewrite, rename and push to the branch while it works, and
//! agents merge, amend and undo.

use afk::core::model::approval::EscalationKind;
use afk::core::model::command::{Accepted, Command};
use afk::core::model::id::RunId;
use afk::core::model::run::{Outcome, Run};

use crate::support::world::{END, WORK, World, command, ended, run_of, until};
use crate::support::{git, log, try_git};

/// Shell: a human in a clone of their own takes the newest commit off the branch.
const REMOVE: &str = "git -C $OUT/work reset -q --hard HEAD~1\n\
    git -C $OUT/work push -q --force $OUT/remote.git HEAD:refs/heads/master\n";

/// Shell: a human pushes a change of `tests/first.sh` and a new file, and the agent fetches it.
const HUMAN: &str = "exec 2>>$OUT/err; echo 'true # better' > $OUT/work/tests/first.sh; echo theirs > $OUT/work/theirs\n\
    git -C $OUT/work add --all; git -C $OUT/work $US commit -qm Theirs\n\
    git -C $OUT/work push -q $OUT/remote.git HEAD:refs/heads/master; git fetch -q origin\n";

async fn run(world: &World) -> Run {
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    run
}

async fn is_done(world: &World) -> Vec<String> {
    let run = run(world).await;
    let why = run.progress.why.clean();
    let errors = std::fs::read_to_string(world.path("err")).unwrap_or_default();
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{why}: {}{errors}", world.transcript(1));
    log(&world.remote(), "master", "%s")
}

/// Runs to the end for a human, and returns the text of the escalation.
async fn asks(world: &World) -> String {
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    let errors = std::fs::read_to_string(world.path("err")).unwrap_or_default();
    let transcript = world.transcript(1);
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman), "{transcript}{errors}");
    let asked = until(&runtime, "the escalation", |s| {
        let mut all = s.fleet.escalations.values();
        let asked = all.find(|e| e.kind == EscalationKind::NeedsHuman)?;
        Some(format!("{}\n{}", asked.title.clean(), asked.detail.clean()))
    })
    .await;
    runtime.stop().await;
    asked
}

/// A world whose branch has a second commit that a human wants to take away.
fn with_secret(script: &str) -> World {
    let world = World::new(script);
    std::fs::write(world.path("work/secret"), "hunter2").unwrap();
    world.commit("Add a secret");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_that_a_human_took_away_never_comes_back() {
    let world = with_secret(&format!("{WORK}\n{REMOVE}\n{END}"));
    let asked = asks(&world).await;
    assert!(asked.contains("somebody rewrote master"), "{asked}");
    assert!(asked.contains("Add a secret") && asked.contains("rebase --onto"), "{asked}");
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrite_between_proof_and_push_stops_the_push() {
    // The human acts while the tests run on the head, so the gate has seen the old branch.
    let world = with_secret(&format!("{WORK}\n{END}"));
    let root = world.root().display().to_string();
    std::fs::write(
        world.path("work/.afk.toml"),
        format!(
            "test = '''sh tests/first.sh; if [ -e tests/state.sh ]; then sh tests/state.sh || exit 1\n\
             if [ ! -e {root}/removed ]; then touch {root}/removed; OUT={root}\n{REMOVE}fi; fi'''\n"
        ),
    )
    .unwrap();
    world.commit("Rules");
    let asked = asks(&world).await;
    assert!(asked.contains("somebody rewrote master"), "{asked}");
    assert!(world.path("removed").exists());
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Add a secret"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reopened_run_goes_on_without_the_commit_that_was_taken_away() {
    let world = with_secret(&format!(
        "exec 2>>$OUT/err\ncase $prompt in *'Go on'*) git rebase -q --onto origin/master HEAD~2;; *) {WORK}\n{REMOVE}\n;; esac\n{END}"
    ));
    let runtime = world.start().await;
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::NeedsHuman));
    let reopened = Command::Retry { run: RunId(1), guidance: "Go on".into() };
    assert_eq!(command(&runtime, reopened).await, Ok(Accepted::Ok));
    let outcome = until(&runtime, "the second end", |s| {
        let run = run_of(&s.fleet, 1)?;
        (run.agent.turns > 1).then_some(run.progress.outcome).flatten()
    })
    .await;
    runtime.stop().await;
    let errors = std::fs::read_to_string(world.path("err")).unwrap_or_default();
    assert_eq!(outcome, Outcome::Done, "{}{errors}", world.transcript(1));
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Test it", "Do it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_commit_that_a_human_took_away_never_comes_back() {
    // CI is red, and a human takes the commit off while the agent fixes it.
    let world = World::new(&format!(
        "case $prompt in *'went red'*) echo 'grep -q fixed state' > tests/fixed.sh; echo done fixed > state; git add --all; git $US commit -qm 'Fix it'\n\
         git -C $OUT/remote.git update-ref refs/heads/master master~2;; *) {WORK};; esac\n{END}"
    ))
    .rules("[ci]\ncommand = 'grep -q fixed state'");
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Frozen), "{}", world.transcript(1));
    assert!(
        run.progress.why.clean().contains("somebody rewrote master"),
        "{}",
        run.progress.why.clean()
    );
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Rules"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rebase_replays_only_the_commits_of_the_run() {
    let world = World::new(&format!("{WORK}\n{HUMAN}\n{END}"));
    let subjects = is_done(&world).await;
    assert_eq!(subjects, ["Begin", "Theirs", "Test it", "Do it"]);
    assert_eq!(git(&world.remote(), &["show", "master:tests/first.sh"]), "true # better");
}

#[tokio::test(flavor = "multi_thread")]
async fn merge_that_drops_the_changes_of_others_closes_the_gate() {
    for (what, undo) in [
        ("a merge with -s ours", "git $US merge -q -s ours -m Merge origin/master"),
        (
            "a merge of older files, made by hand",
            "tree=$(git rev-parse HEAD^{tree}); git reset -q --hard $(git $US commit-tree $tree -p origin/master -p HEAD -m Merge)",
        ),
        ("older files on top", "git reset -q --soft origin/master; git $US commit -qm 'Do it all'"),
        (
            "a conflict that keeps one side",
            "echo 'true # mine' > tests/first.sh; git $US commit -qam Mine; git $US merge -q -X ours -m Merge origin/master; \
             git checkout -q HEAD^1 -- tests/first.sh; git $US commit -q --amend --no-edit",
        ),
    ] {
        let world = World::new(&format!(
            "case $prompt in *'undo what others'*first.sh*) git reset -q --hard origin/master; {WORK}\n;; *) {WORK}\n{HUMAN}\n{undo};; esac\n{END}"
        ));
        is_done(&world).await;
        let shown = git(&world.remote(), &["show", "master:tests/first.sh"]);
        assert_eq!(shown, "true # better", "{what}");
        let errors = std::fs::read_to_string(world.path("err")).unwrap_or_default();
        let transcript = world.transcript(1);
        assert!(transcript.contains("undo what others"), "{what}: {transcript}{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn merge_and_move_that_keep_the_changes_of_others_pass() {
    for keep in [
        "git $US merge -q -m Merge origin/master",
        "git $US merge -q -m Merge origin/master; git mv theirs moved; git $US commit -qm Move",
        "git checkout -q -b side HEAD~1; git $US merge -q -m Merge origin/master; git checkout -q -; git $US merge -q -m Side side",
    ] {
        let world = World::new(&format!("{WORK}\n{HUMAN}\n{keep}\n{END}"));
        is_done(&world).await;
        let files = git(&world.remote(), &["ls-tree", "-r", "--name-only", "master"]);
        assert!(files.contains("theirs") || files.contains("moved"), "{keep}: {files}");
        assert_eq!(git(&world.remote(), &["show", "master:tests/first.sh"]), "true # better");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreviewed_branch_is_never_pushed() {
    let world = World::new(&format!(
        "exec 2>>$OUT/err\n{WORK}\ngit $US merge -q --no-edit origin/feature/x\n{END}"
    ));
    let work = world.path("work");
    std::fs::write(work.join("unreviewed"), "x").unwrap();
    git(&work, &["checkout", "-q", "-b", "feature"]);
    git(&work, &["add", "--all"]);
    git(&work, &["commit", "-qm", "Not reviewed"]);
    git(&work, &["push", "-q", world.remote().to_str().unwrap(), "HEAD:refs/heads/feature/x"]);
    let asked = asks(&world).await;
    assert!(asked.contains("work of others") && asked.contains("Not reviewed"), "{asked}");
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn amended_commit_of_others_closes_the_gate() {
    let world = World::new(&format!(
        "case $prompt in *'no longer contains'*) git fetch -q origin; git reset -q --soft origin/master; git $US commit -qm 'Do it';;\n\
         *) mkdir -p tests; echo 'grep -q done state' > tests/state.sh; echo done > state; git add --all; git $US commit -q --amend -m 'Begin better';; esac\n{END}"
    ));
    assert_eq!(is_done(&world).await, ["Begin", "Do it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_any_kind_come_in() {
    let latin = "printf 'caf\\351\\n' > $OUT/message; git $US -c i18n.commitEncoding=ISO-8859-1 commit -q --allow-empty -F $OUT/message";
    for (what, more) in [
        ("a detached head", "git checkout -q --detach"),
        ("another branch", "git checkout -q -b mine/other"),
        ("an own amend", "git $US commit -q --amend -m 'Do it better'"),
        (
            "a date in the far future",
            "GIT_AUTHOR_DATE='2099-01-01T00:00:00 +1400' GIT_COMMITTER_DATE='2099-01-01T00:00:00 -1200' git $US commit -q --allow-empty -m Future",
        ),
        ("an empty message", "git $US commit -q --allow-empty --allow-empty-message -m ''"),
        (
            "another author",
            "git $US commit -q --allow-empty --author='Somebody Else <else@localhost>' -m Other",
        ),
        ("another encoding", latin),
        (
            "a tag named as the branch",
            "git tag master HEAD~1; git branch master HEAD~1; git tag origin/master",
        ),
        ("an own squash", "git reset -q --soft HEAD~2; git $US commit -qm 'All at once'"),
    ] {
        let world = World::new(&format!("{WORK}\n{more}\n{END}"));
        is_done(&world).await;
        assert_eq!(git(&world.remote(), &["show", "master:state"]), "done", "{what}");
        let bodies = git(&world.remote(), &["log", "--format=%B", "refs/heads/master"]);
        assert!(bodies.contains("Refs #1"), "{what}: {bodies}");
        if what == "an empty message" {
            let subject = git(&world.remote(), &["log", "-1", "--format=%s", "refs/heads/master"]);
            assert_eq!(subject, "Work on the issue");
        }
        if what == "another encoding" {
            assert!(bodies.contains("caf\u{e9}"), "{bodies}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn default_branch_may_have_any_name() {
    for name in ["trunk", "feature/x", "größe", "HEAD-2"] {
        let world = World::new(&format!("{WORK}\n{END}")).repo(&format!("branch = '{name}'"));
        let full = format!("refs/heads/{name}");
        let remote = world.remote();
        git(&remote, &["update-ref", &full, "refs/heads/master"]);
        // A tag of the same name points elsewhere.
        let tree = git(&remote, &["rev-parse", "refs/heads/master^{tree}"]);
        let other = git(&remote, &["commit-tree", &tree, "-m", "Tagged"]);
        git(&remote, &["update-ref", &format!("refs/tags/{name}"), &other]);
        git(&remote, &["update-ref", "-d", "refs/heads/master"]);
        let run = run(&world).await;
        let why = run.progress.why.clean();
        assert_eq!(run.progress.outcome, Some(Outcome::Done), "{name}: {why}");
        assert_eq!(git(&remote, &["rev-parse", &format!("refs/tags/{name}")]), other, "{name}");
        let subjects = git(&remote, &["log", "--reverse", "--format=%s", &full]);
        assert_eq!(subjects, "Begin\nTest it\nDo it", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_branch_is_named_and_never_created_again() {
    let world = World::new(&format!("{WORK}\ngit -C $OUT/remote.git branch -m master main\n{END}"));
    let why = asks(&world).await;
    assert!(why.contains("has no branch master") && why.contains("renamed"), "{why}");
    let gone = try_git(&world.remote(), &["rev-parse", "--verify", "-q", "refs/heads/master"]);
    assert!(!gone.status.success(), "the branch is back");
}
