//! What an agent, a test or the user's own git does to a workspace, and that it decides nothing
//! about what afk proves and pushes.

use std::path::PathBuf;

use afk::core::model::approval::EscalationKind;
use afk::core::model::command::{Accepted, Command};
use afk::core::model::guardrail::Guardrail;
use afk::core::model::id::RunId;
use afk::core::model::run::{Outcome, Run};

use crate::support::world::{END, WORK, World, command, ended, run_of, until, wait_until};
use crate::support::{git, log, repository_folder, try_git};

/// Shell: commits a test that the commit of [`BROKEN`] doesn't pass.
const BROKEN: &str = "\
mkdir -p tests && echo 'grep -q done state' > tests/state.sh && git add tests && git $US commit -qm 'Test it'
echo evil > state && git add state && git $US commit -qm 'Do it'";

/// Runs the first issue to its end.
async fn run(world: &World) -> Run {
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    run
}

/// Runs an agent whose change must not reach the remote, and returns the transcript.
async fn is_refused(script: &str) -> String {
    let world = World::new(&format!("{script}\n{END}"));
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman), "{script}");
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin"], "{script}");
    world.transcript(1)
}

/// Runs an agent whose change must reach the remote, and returns the files there.
async fn is_pushed(world: &World) -> String {
    let run = run(world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    git(&world.remote(), &["ls-tree", "-r", "--name-only", "master"])
}

fn base(world: &World) -> PathBuf {
    repository_folder(&world.state(), "acme/thing").join("base.git")
}

/// Waits until the runs of two issues have ended as done.
async fn both_done(world: &World) {
    let runtime = world.start().await;
    ended(&runtime).await;
    world.issue(2, "Two more", "armed_by = 'ana'");
    let outcome = until(&runtime, "the second run", |s| {
        let run = run_of(&s.fleet, 2)?;
        s.fleet.outbox.is_empty().then_some(())?;
        run.progress.outcome.map(|outcome| (outcome, run.progress.why.clean()))
    })
    .await;
    runtime.stop().await;
    assert_eq!(outcome.0, Outcome::Done, "{}", outcome.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_objects_are_proved_and_pushed_as_they_are() {
    // In the agent's view `state` says done. The commit says otherwise.
    let transcript = is_refused(&format!(
        "{BROKEN}\ngit replace -f $(git rev-parse HEAD:state) $(echo done | git hash-object -w --stdin)"
    ))
    .await;
    assert!(transcript.contains("On your commit the test command exits with 1"), "{transcript}");
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_the_agent_do_not_shape_the_proving_tree() {
    is_refused(&format!(
        "{BROKEN}\necho 'state filter=evil' > .gitattributes; git add .gitattributes; git $US commit -qm Attributes\n\
         git config filter.evil.smudge 'echo done'; git config filter.evil.clean 'echo evil'"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_monitors_and_includes_of_the_agent_never_run() {
    let world = World::new("");
    let marker = world.path("marker");
    let more = world.path("more.config");
    let program = world.path("program");
    std::fs::write(&program, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    std::fs::write(
        &more,
        format!(
            "[core]\n\tsshCommand = {0}\n\tfsmonitor = {0}\n\tgitProxy = {0}\n",
            program.display()
        ),
    )
    .unwrap();
    let script = format!(
        "#!/bin/sh\nUS='-c user.name=a -c user.email=a@localhost'\nread -r p\n{WORK}\necho x > loose\n\
         for hook in pre-commit post-commit commit-msg pre-push post-checkout reference-transaction post-index-change pre-rebase; do \
         cp {0} .git/hooks-$hook; mkdir -p .git/hooks; cp {0} .git/hooks/$hook; done\n\
         git -c core.hooksPath=/dev/null config core.hooksPath .git/hooks\n\
         printf '[include]\\n\\tpath = {1}\\n[core]\\n\\thooksPath = .git/hooks\\n[url \"{2}/nowhere\"]\\n\\tinsteadOf = {2}\\n[credential]\\n\\thelper = {0}\\n[diff]\\n\\texternal = {0}\\n' >> .git/config\n{END}\n",
        program.display(),
        more.display(),
        world.root().display(),
    );
    std::fs::write(world.path("agent.sh"), script).unwrap();
    let files = is_pushed(&world).await;
    assert!(files.contains("loose"), "{files}");
    assert!(!marker.exists(), "a program of the agent's choice ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn workspace_without_a_readable_repository_is_refused_and_the_next_issue_runs() {
    for broken in [
        "rm -rf .git; echo 'gitdir: /nonexistent' > .git",
        "mv .git \"$HOME/stolen\"; ln -s \"$HOME/nothing\" .git",
        "rm -rf .git/objects",
        "rm -rf .git; mkdir .git",
    ] {
        let world = World::new(&format!(
            "case $prompt in *'Two more'*) {WORK}\n;; *) {WORK}\n{broken};; esac\n{END}"
        ));
        let runtime = world.start().await;
        let first = ended(&runtime).await;
        assert_eq!(first.progress.outcome, Some(Outcome::NeedsHuman), "{broken}");
        assert_eq!(log(&world.remote(), "master", "%s"), ["Begin"], "{broken}");
        world.issue(2, "Two more", "armed_by = 'ana'");
        until(&runtime, "the second run", |s| {
            (run_of(&s.fleet, 2)?.progress.outcome == Some(Outcome::Done)).then_some(())
        })
        .await;
        runtime.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_repository_in_place_of_the_workspaces_own_is_never_pushed() {
    let world = World::new(&format!(
        "{WORK}\nrm -rf .git; git init -q .; git add --all; git $US commit -qm 'Another history'\n{END}"
    ));
    let run = run(&world).await;
    assert_ne!(run.progress.outcome, Some(Outcome::Done));
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsound_objects_never_reach_the_base() {
    for (what, make) in [
        (
            "a submodule whose address is an option",
            "printf '[submodule \"a\"]\\n\\tpath = a\\n\\turl = -u./payload\\n' > .gitmodules; git add .gitmodules; git $US commit -qm 'Evil'",
        ),
        (
            "a link in place of .gitmodules",
            "link=$(printf elsewhere | git hash-object -w --stdin)\n\
             tree=$( (git ls-tree HEAD; printf '120000 blob %s\\t.gitmodules\\n' $link) | git mktree)\n\
             evil=$(git $US commit-tree $tree -p HEAD -m Evil); git update-ref HEAD $evil; git read-tree HEAD~1",
        ),
        (
            "a file below .git",
            "blob=$(printf x | git hash-object -w --stdin)\n\
             inner=$(printf '100644 blob %s\\tconfig\\n' $blob | git mktree)\n\
             named=$(printf '040000 tree %s\\tXgit\\n' $inner | git mktree)\n\
             outer=$(git cat-file tree $named | LC_ALL=C sed 's/Xgit/.git/' | git hash-object -t tree -w --literally --stdin)\n\
             evil=$(git $US commit-tree $outer -p HEAD -m Evil); git update-ref HEAD $evil; git read-tree HEAD~1",
        ),
    ] {
        let world = World::new(&format!("{WORK}\n{make}\ngit rev-parse HEAD > $OUT/evil\n{END}"));
        let run = run(&world).await;
        assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman), "{what}");
        assert_eq!(log(&world.remote(), "master", "%s"), ["Begin"], "{what}");
        let transcript = world.transcript(1);
        // git refuses some of them itself, before there is a commit to import.
        let refused = transcript.contains("unsound") || transcript.contains("invalid path");
        assert!(refused, "{what}: {transcript}");
        let evil = std::fs::read_to_string(world.path("evil")).unwrap();
        let there = try_git(&base(&world), &["cat-file", "-e", evil.trim()]);
        assert!(!there.status.success(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_from_elsewhere_come_in_whole_or_not_at_all() {
    // The agent's own store has the blob of `state`, and its repository only borrows it.
    let world = World::new(&format!(
        "{WORK}\nblob=$(git rev-parse HEAD:state); at=.git/objects/$(echo $blob | cut -c1-2)\n\
         mkdir -p $OUT/mine/$(basename $at); mv $at/$(echo $blob | cut -c3-) $OUT/mine/$(basename $at)/\n\
         echo $OUT/mine >> .git/objects/info/alternates\n{END}"
    ));
    is_pushed(&world).await;
    assert_eq!(git(&world.remote(), &["show", "master:state"]), "done");
    git(&base(&world), &["fsck", "--connectivity-only"]);
    let transcript = is_refused(&format!(
        "{WORK}\nblob=$(git rev-parse HEAD:state)\n\
         rm -f .git/objects/$(echo $blob | cut -c1-2)/$(echo $blob | cut -c3-)"
    ))
    .await;
    assert!(transcript.contains("Your change was not accepted"), "{transcript}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_a_test_leaves_are_gone_in_the_next_proof() {
    // On the base, the test leaves an ignored file with which it would pass on the head.
    is_refused(
        "mkdir -p tests; echo .cache > .gitignore\n\
         echo 'if [ -e .cache/pass ]; then exit 0; fi; mkdir -p .cache; touch .cache/pass; exit 1' > tests/state.sh\n\
         git add --all; git $US commit -qm 'Do it'",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_git_and_environment_change_nothing() {
    let world = World::new(&format!(
        "mkdir -p tests; echo 'grep -q done state' > tests/state.sh; echo done > state\n{END}"
    ));
    let home = world.path("home");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(
        home.join(".gitconfig"),
        "[user]\n\tname = Ana\n\temail = ana@localhost\n[status]\n\tshowUntrackedFiles = no\n\
         [init]\n\tdefaultRefFormat = reftable\n[core]\n\tautocrlf = true\n\texcludesFile = ~/ignored\n\
         [safe]\n\tdirectory = *\n",
    )
    .unwrap();
    std::fs::write(home.join("ignored"), "state\n").unwrap();
    let elsewhere = world.path("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let (up, _) = world.up_with_env(
        &[
            ("HOME", home.to_str().unwrap()),
            ("GIT_OBJECT_DIRECTORY", elsewhere.to_str().unwrap()),
            ("GIT_NAMESPACE", "elsewhere"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "core.bare"),
            ("GIT_CONFIG_VALUE_0", "nonsense"),
        ],
        1,
    );
    wait_until("the push", || log(&world.remote(), "master", "%s").len() > 1).await;
    drop(up);
    let files = git(&world.remote(), &["ls-tree", "-r", "--name-only", "master"]);
    assert!(files.contains("state") && files.contains("tests/state.sh"), "{files}");
    assert_eq!(log(&world.remote(), "master", "%an").last().unwrap(), "Ana");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0, "objects went elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_repository_is_named_to_the_agent_which_can_mend_it() {
    let world = World::new(&format!(
        "case $prompt in *'repository of its own'*sub*) rm -rf sub/.git;; *) {WORK}\ngit init -q sub; echo x > sub/file;; esac\n{END}"
    ));
    let files = is_pushed(&world).await;
    assert!(files.contains("sub/file"), "{files}");
}

#[tokio::test(flavor = "multi_thread")]
async fn link_to_a_repository_without_gitmodules_is_never_pushed() {
    let why = is_refused(&format!(
        "{WORK}\ngit init -q sub; git -C sub $US commit -q --allow-empty -m Sub; git -c advice.addEmbeddedRepo=false add sub; git $US commit -qm Link"
    ))
    .await;
    assert!(why.contains("link to another repository") && why.contains("sub"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_run_keeps_the_files_of_nested_repositories() {
    let world = World::new(
        "git init -q bare; echo one > bare/one\n\
         git init -q sub; echo two > sub/two; git -C sub add two; git -C sub $US commit -qm Sub\n\
         git $US worktree add -q .claude/worktrees/a; echo three > .claude/worktrees/a/three\n\
         echo '{\"type\":\"text\",\"text\":\"worked\"}'\nsleep 1000",
    )
    .with("[limits]\ngrace_seconds = 1");
    let runtime = world.start().await;
    let mut transcripts = runtime.handle.transcripts.clone();
    while !world.transcript(1).contains("worked") {
        transcripts.changed().await.unwrap();
    }
    let cancelled = command(&runtime, Command::Cancel { run: RunId(1) }).await;
    assert_eq!(cancelled, Ok(Accepted::Ok));
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Cancelled));
    runtime.stop().await;
    let kept = git(&base(&world), &["ls-tree", "-r", "--name-only", "refs/afk/kept/r1"]);
    for file in ["bare/one", "sub/two", ".claude/worktrees/a/three"] {
        assert!(kept.lines().any(|line| line == file), "{file}: {kept}");
    }
    assert!(!folder_of_first_run(&world).exists());
}

fn folder_of_first_run(world: &World) -> PathBuf {
    repository_folder(&world.state(), "acme/thing").join("wt-1")
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_merge_closes_the_gate_and_names_the_files() {
    let conflict = "git checkout -q -b other HEAD~1; echo other > state; git add state; git $US commit -qm Other; git checkout -q -; git $US merge -q other >&2";
    let world = World::new(&format!(
        "case $prompt in *'not resolved in'*state*) echo done > state; git add state; git $US commit -qm Merged;; *) {WORK}\n{conflict};; esac\n{END}"
    ));
    is_pushed(&world).await;
    assert_eq!(git(&world.remote(), &["show", "master:state"]), "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn next_run_starts_from_nothing_of_the_last() {
    let world = World::new(&format!(
        "case $prompt in *'Two more'*) git stash list > $OUT/stashes; git config --list --local > $OUT/config; ls d1 d2 > $OUT/seen\n\
         echo 'grep -q two state' > tests/two.sh; echo done two > state; git add --all; git $US commit -qm Two;;\n\
         *) {WORK}\necho loose > loose; git add loose; git $US stash -q; git sparse-checkout set d1; git config core.sparse true;; esac\n{END}"
    ));
    for folder in ["d1", "d2"] {
        std::fs::create_dir_all(world.path("work").join(folder)).unwrap();
        std::fs::write(world.path("work").join(folder).join("file"), "x").unwrap();
    }
    world.commit("Folders");
    both_done(&world).await;
    let read = |name: &str| std::fs::read_to_string(world.path(name)).unwrap();
    assert_eq!(read("stashes"), "");
    assert!(!read("config").contains("sparse"), "{}", read("config"));
    assert_eq!(read("seen"), "d1:\nfile\n\nd2:\nfile\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_folders_and_locks_stop_no_run() {
    let world = World::new(&format!(
        "case $prompt in *'Two more'*) echo 'grep -q two state' > tests/two.sh; echo done two > state; git add --all; git $US commit -qm Two;;\n\
         *) {WORK}\necho ro > .gitignore; touch \"$(git rev-parse --git-path index.lock)\" .git/HEAD.lock; mkdir -p ro/a/b; touch ro/a/file; chmod 500 ro/a/b ro/a ro;; esac\n{END}"
    ));
    both_done(&world).await;
    assert!(!folder_of_first_run(&world).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_bytes_are_tested() {
    let world = World::new(&format!(
        "name=$(printf 'caf\\351'); echo 'grep -q done state' > \"tests/$name.sh\"; echo true > 'tests/a\nb.sh'; echo true > 'tests/:(top)x.sh'\n\
         git add --all; git $US commit -qm 'Test it'; echo done > state; git add state; git $US commit -qm 'Do it'\n{END}"
    ));
    std::fs::write(
        world.path("work/.afk.toml"),
        "test = \"for t in tests/*.sh; do sh \\\"$t\\\" || exit 1; done\"\n",
    )
    .unwrap();
    world.commit("Quote");
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    let raw = try_git(&world.remote(), &["ls-tree", "-r", "-z", "--name-only", "master"]).stdout;
    let has = |name: &[u8]| raw.split(|byte| *byte == 0).any(|path| path == name);
    assert!(has(b"tests/caf\xe9.sh") && has(b"tests/a\nb.sh") && has(b"tests/:(top)x.sh"));
}

#[tokio::test(flavor = "multi_thread")]
async fn push_past_the_gate_raises_an_alarm() {
    let world = World::new("");
    let script = format!(
        "#!/bin/sh\nUS='-c user.name=a -c user.email=a@localhost'\nread -r p\n{WORK}\n\
         git push -q {} HEAD:master\n{END}\n",
        world.remote().display()
    );
    std::fs::write(world.path("agent.sh"), script).unwrap();
    let runtime = world.start().await;
    until(&runtime, "the alarm", |s| {
        let mut all = s.fleet.escalations.values();
        all.find(|e| {
            e.kind == EscalationKind::Guardrail && e.guardrail == Some(Guardrail::GateBypass)
        })
        .map(|_| ())
    })
    .await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_repository_is_no_part_of_the_base() {
    let world = World::new(&format!(
        "{WORK}\ngit config core.evil true; git branch evil; git tag evil; git update-ref refs/afk/runs/r9 HEAD\n{END}"
    ));
    is_pushed(&world).await;
    let base = base(&world);
    let refs = git(&base, &["for-each-ref", "--format=%(refname)"]);
    assert!(!refs.contains("evil") && !refs.contains("r9"), "{refs}");
    assert!(!std::fs::read_to_string(base.join("config")).unwrap().contains("evil"));
    assert!(!base.join("worktrees").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_tree_of_the_pool_costs_one_attempt_and_no_run() {
    let world = World::new(&format!(
        "case $prompt in *'Two more'*) echo 'grep -q two state' > tests/two.sh; echo done two > state; git add --all; git $US commit -qm Two;;\n\
         *) {WORK};; esac\n{END}"
    ));
    let runtime = world.start().await;
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Done));
    let fresh = repository_folder(&world.state(), "acme/thing").join("fresh");
    // As a kill or a power cut in the middle of a write leaves a prepared tree.
    std::fs::create_dir_all(fresh.join("tree-0/.git")).unwrap();
    std::fs::write(fresh.join("tree-0/.git/HEAD"), "").unwrap();
    world.issue(2, "Two more", "armed_by = 'ana'");
    until(&runtime, "the second run", |s| {
        (run_of(&s.fleet, 2)?.progress.outcome == Some(Outcome::Done)).then_some(())
    })
    .await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_run_leaves_a_fresh_tree_for_the_next_claim() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let runtime = world.start().await;
    ended(&runtime).await;
    let fresh = repository_folder(&world.state(), "acme/thing").join("fresh");
    let is_tree =
        |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("tree-");
    // The gate used the one up that was made beside the run.
    wait_until("a fresh tree", || {
        std::fs::read_dir(&fresh).into_iter().flatten().flatten().any(is_tree)
    })
    .await;
    runtime.stop().await;
}
