//! Which files of an agent become part of its change: what it left over, what programs left behind,
//! conflicts, line endings, large files, odd names.

use std::path::{Path, PathBuf};
use std::process::Command;

use afk::core::model::run::{Outcome, Run};

use crate::support::world::{END, WORK, World, ended, run_of, until, wait_until};
use crate::support::{git, log, repository_folder, text, try_git};

async fn run(world: &World) -> Run {
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    run
}

/// Runs the first issue until it is done, and returns the files of the branch.
async fn is_pushed(world: &World) -> Vec<String> {
    let run = run(world).await;
    let why = run.progress.why.clean();
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{why}: {}", world.transcript(1));
    files(world)
}

fn files(world: &World) -> Vec<String> {
    let listed = try_git(&world.remote(), &["ls-tree", "-r", "-z", "--name-only", "master"]).stdout;
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| name.escape_ascii().to_string()).collect()
}

/// All names that any commit of the branch has.
fn names_in_history(world: &World) -> String {
    git(&world.remote(), &["log", "--format=", "--name-only", "master"])
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_that_are_no_part_of_a_change_are_named_and_never_pushed() {
    let world = World::new(&format!(
        "case $prompt in *'left files uncommitted'*)\n\
         printf '%s' \"$prompt\" > $OUT/prompt; rm -rf .env .env.local core.4711 node_modules .claude .aider* big out 'a\nb.env';;\n\
         *) {WORK}\n echo KEY=x > .env; echo A=b > .env.local; echo EXAMPLE= > .env.example; echo x > core.4711\n\
         ln -s /opt/modules node_modules; mkdir .claude; echo '{{}}' > .claude/settings.local.json; echo x > .aider.chat.history.md\n\
         head -c 6000000 /dev/zero > big; ln -s ../../elsewhere out; echo KEY=x > 'a\nb.env'\n\
         mkdir -p src/__pycache__; echo x > src/__pycache__/a.pyc; echo x > src/kept;; esac\n{END}"
    ));
    let files = is_pushed(&world).await;
    let prompt = std::fs::read_to_string(world.path("prompt")).unwrap();
    for named in [
        ".env (an environment",
        ".env.local",
        "core.4711 (a crash dump)",
        "node_modules (installed",
        ".claude/settings.local.json (",
        ".aider.chat.history.md",
        "big (larger than 5 MiB)",
        "out (a link to a place outside",
        "a\\\\nb.env",
    ] {
        assert!(prompt.contains(named), "{named}: {prompt}");
    }
    // A new conversation is told of every file; these need no reason.
    for fine in ["pycache (", "pycache/a.pyc (", ".env.example ("] {
        assert!(!prompt.contains(fine), "{fine}: {prompt}");
    }
    assert!(
        files.contains(&"src/kept".to_owned()) && files.contains(&".env.example".to_owned()),
        "{files:?}"
    );
    let history = names_in_history(&world);
    for never in
        [".env\n", "core.4711", "node_modules", "settings.local", ".aider", "big", "pycache"]
    {
        assert!(!history.contains(never), "{never}: {history}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_droppings_are_named_and_never_pushed() {
    let world = World::new(&format!(
        "case $prompt in *'no part of a change'*node_modules*) git reset -q --soft HEAD~3; git rm -rq --cached -f web/node_modules dump .aider.x src/a.rej; rm -rf web dump .aider.x src/a.rej; git $US commit -qm 'Do it again';;\n\
         *) {WORK}\nmkdir -p web/node_modules/a vendored/node_modules/b src; echo x > web/node_modules/a/index.js; echo y > vendored/node_modules/b/new.js; echo x > .aider.x; echo x > src/a.rej\n\
         {{ printf '\\177ELF\\002\\001\\001\\000\\000\\000\\000\\000\\000\\000\\000\\000\\004\\000'; head -c 100000 /dev/zero; }} > dump\n\
         git add --all --force; git $US commit -qm 'Everything'; esac\n{END}"
    ));
    let vendored = world.path("work/vendored/node_modules/b");
    std::fs::create_dir_all(&vendored).unwrap();
    std::fs::write(vendored.join("old.js"), "x").unwrap();
    world.commit("Vendor");
    let files = is_pushed(&world).await;
    assert!(files.contains(&"vendored/node_modules/b/new.js".to_owned()), "{files:?}");
    let transcript = world.transcript(1);
    assert!(transcript.contains("dump (a crash dump)"), "{transcript}");
    assert!(!transcript.contains("vendored/node_modules ("), "{transcript}");
    let history = names_in_history(&world);
    for never in ["web/node_modules", "dump", ".aider.x", "a.rej"] {
        assert!(!history.contains(never), "{never}: {history}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scan_exempt_allows_what_a_repository_wants() {
    let world = World::new(&format!(
        "{WORK}\nmkdir -p tests/fixtures; echo x > tests/fixtures/a.orig; printf '<<<<<<< a\\n=======\\n>>>>>>> b\\n' > tests/fixtures/conflict\n\
         git add --all; git $US commit -qm Fixtures\n{END}"
    ))
    .rules("[gate]\nscan_exempt = ['tests/fixtures/**']");
    let files = is_pushed(&world).await;
    assert!(files.contains(&"tests/fixtures/a.orig".to_owned()), "{files:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn conflict_markers_close_the_gate_with_their_line() {
    let world = World::new(&format!(
        "case $prompt in *'Conflict markers are left in: state.txt line 2'*) echo resolved > state.txt; git $US commit -qam Resolve;;\n\
         *) {WORK}\nprintf 'a\\n<<<<<<< HEAD\\nx\\n=======\\ny\\n>>>>>>> other\\n' > state.txt; git add --all; git $US commit -qm Merged;; esac\n{END}"
    ));
    // A text about conflicts that had them before may change.
    let doc = "Title\n=======\n<<<<<<< a\n=======\n>>>>>>> b\n";
    std::fs::write(world.path("work/conflicts.md"), doc).unwrap();
    world.commit("Document conflicts");
    is_pushed(&world).await;
    assert_eq!(git(&world.remote(), &["show", "master:state.txt"]), "resolved");
}

#[tokio::test(flavor = "multi_thread")]
async fn operation_in_progress_closes_the_gate_and_is_named() {
    for (what, begin, end) in [
        (
            "a rebase",
            "git checkout -q -b other HEAD~1; echo other > state; git add state; git $US commit -qm Other; git $US rebase -q @{-1} >&2",
            "git rebase --abort; git checkout -q @{-1}",
        ),
        (
            "a cherry-pick",
            "git checkout -q -b other HEAD~1; echo other > state; git add state; git $US commit -qm Other; git checkout -q -; git $US cherry-pick other >&2",
            "git cherry-pick --abort",
        ),
        ("a bisection", "git bisect start >&2", "git bisect reset >&2; git checkout -q -"),
    ] {
        let world = World::new(&format!(
            "case $prompt in *'not finished'*|*'not resolved'*) {end};; *) {WORK}\n{begin};; esac\n\
             case $(git branch --show-current) in afk/*) ;; *) git checkout -q afk/1-do-it;; esac\n{END}"
        ));
        let run = run(&world).await;
        let transcript = world.transcript(1);
        let named =
            transcript.contains("not finished") || transcript.contains("not resolved in: state");
        assert!(named, "{what}: {transcript}");
        assert_eq!(run.progress.outcome, Some(Outcome::Done), "{what}: {transcript}");
        assert_eq!(git(&world.remote(), &["show", "master:state"]), "done", "{what}");
    }
}

/// A world with a file of Windows line endings that attributes call a text with Unix ones.
fn with_crlf(script: &str) -> World {
    let world = World::new(script);
    let work = world.path("work");
    std::fs::write(work.join("old.txt"), "one\r\ntwo\r\n").unwrap();
    std::fs::write(work.join("odd,name\u{e9}.txt"), "one\r\n").unwrap();
    world.commit("Old text");
    std::fs::write(work.join(".gitattributes"), "*.txt text eol=lf\n").unwrap();
    git(&work, &["add", ".gitattributes"]);
    git(&work, &["commit", "-qm", "Attributes"]);
    git(&work, &["push", "-q", world.remote().to_str().unwrap(), "master"]);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn line_endings_change_only_in_files_that_the_agent_changed() {
    let world = with_crlf(&format!(
        "mkdir -p tests; echo 'grep -q done state' > tests/state.sh; echo done > state; touch old.txt\n{END}"
    ));
    let before = git(&world.remote(), &["ls-tree", "master", "old.txt", "odd,name\u{e9}.txt"]);
    is_pushed(&world).await;
    let after = git(&world.remote(), &["ls-tree", "master", "old.txt", "odd,name\u{e9}.txt"]);
    assert_eq!(before, after);
    let world = with_crlf(&format!(
        "mkdir -p tests; echo 'grep -q three old.txt' > tests/state.sh; printf 'three\\r\\n' >> old.txt\n{END}"
    ));
    is_pushed(&world).await;
    let shown = git(&world.remote(), &["show", "master:old.txt"]);
    assert!(shown.contains("three"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn line_endings_alone_are_no_change() {
    let world = with_crlf(&format!("touch old.txt\n{END}"));
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(
        world.transcript(1).contains("no commit was made and no file differs"),
        "{}",
        world.transcript(1)
    );
    assert_eq!(log(&world.remote(), "master", "%s").len(), 3);
}

/// Whether a program is installed; prints SKIPPED otherwise.
fn installed(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        println!("SKIPPED: {program} is not installed");
    }
    found
}

/// A world whose `*.bin` files belong to Git LFS.
fn with_lfs(script: &str) -> World {
    let world = World::new(script);
    std::fs::write(
        world.path("work/.gitattributes"),
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    )
    .unwrap();
    world.commit("Use LFS");
    world
}

/// Clones the remote with git-lfs and returns the content of a file.
fn checked_out(world: &World, file: &str) -> Vec<u8> {
    let clone = world.path("clone");
    let mut git = Command::new("git");
    for setting in [
        "filter.lfs.smudge=git-lfs smudge -- %f",
        "filter.lfs.process=git-lfs filter-process",
        "filter.lfs.required=true",
    ] {
        git.args(["-c", setting]);
    }
    let out = git.args(["clone", "-q"]).arg(world.remote()).arg(&clone).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    std::fs::read(clone.join(file)).unwrap()
}

/// The settings with which git stores files in Git LFS, as words of a shell.
const LFS: &str =
    "-c filter.lfs.clean='git-lfs clean -- %f' -c filter.lfs.process='git-lfs filter-process'";

#[tokio::test(flavor = "multi_thread")]
async fn large_files_are_uploaded_before_the_push() {
    if !installed("git-lfs") {
        return;
    }
    for (what, add) in [
        ("left over", String::new()),
        ("committed", format!("eval git {LFS} add model.bin sub; git $US commit -qm Model")),
    ] {
        let world = with_lfs(&format!(
            "{WORK}\nmkdir sub; printf 'large content' > model.bin; head -c 7000000 /dev/zero > 'sub/a b.bin'\n{add}\n{END}"
        ));
        is_pushed(&world).await;
        let pointer = git(&world.remote(), &["show", "master:model.bin"]);
        assert!(pointer.starts_with("version https://git-lfs"), "{what}: {pointer}");
        assert_eq!(checked_out(&world, "model.bin"), b"large content", "{what}");
        assert_eq!(checked_size(&world, "sub/a b.bin"), 7_000_000, "{what}");
    }
}

fn checked_size(world: &World, file: &str) -> u64 {
    world.path("clone").join(file).metadata().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_without_their_content_or_pointer_close_the_gate() {
    if !installed("git-lfs") {
        return;
    }
    let pointer = "version https://git-lfs.github.com/spec/v1\\noid sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\\nsize 5\\n";
    let no_filter = "-c filter.lfs.clean= -c filter.lfs.process= -c filter.lfs.required=false";
    for (named, make) in [
        ("no content for: model.bin", format!("printf '{pointer}' > model.bin")),
        ("gives to Git LFS: model.bin", "printf 'plain content' > model.bin".to_owned()),
        (
            "hold secrets: model.bin",
            "printf 'x ghp_0123456789abcdefghijABCDEFGHIJ123456' > model.bin".to_owned(),
        ),
    ] {
        let add = if named.contains("secrets") {
            "true".to_owned()
        } else {
            format!("git {no_filter} add model.bin; git $US {no_filter} commit -qm Model")
        };
        let world = with_lfs(&format!("{WORK}\n{make}\n{add}\n{END}"));
        let run = run(&world).await;
        assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman), "{named}");
        let transcript = world.transcript(1);
        assert!(transcript.contains(named), "{named}: {transcript}");
        assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Use LFS"], "{named}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_git_lfs_is_named_before_the_first_turn() {
    let world = with_lfs(&format!("{WORK}\n{END}"));
    let bin = world.path("bin");
    std::fs::create_dir_all(&bin).unwrap();
    // A search path with all programs but one.
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap()) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name() != "git-lfs" {
                let _ = std::os::unix::fs::symlink(entry.path(), bin.join(entry.file_name()));
            }
        }
    }
    let (up, _) = world.up_with_env(&[("PATH", bin.to_str().unwrap())], 1);
    let afk = |words: &[&str]| {
        let places = world.places();
        let args: Vec<&str> =
            places.iter().map(String::as_str).chain(words.iter().copied()).collect();
        text(&crate::support::afk(&args).env("PATH", &bin).output().unwrap().stdout)
    };
    let named = |words| afk(words).contains("git-lfs is not installed");
    wait_until("the end", || named(&["explain", "r1"])).await;
    assert!(named(&["doctor"]));
    drop(up);
    assert_eq!(world.transcript(1).matches("\"turn\":1").count(), 0, "{}", world.transcript(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_bytes_go_through_leftovers_rebase_and_proof() {
    let long = "n".repeat(250);
    let world = World::new(&format!(
        "name=$(printf 'caf\\351'); {WORK}\nfor name in \"$name\" ':(top)' ':!x' '-rf' 'a\\b' 'tab\there' 'quote\"d' {long} 'Case' 'case' ' space ' 'tests/line\nbreak.sh' '*' '[a]'; do echo true > \"./$name\"; done\n\
         git add -- './-rf' 'Case'; git $US commit -qm Some; git add -N -- 'case'\n\
         echo other > $OUT/work/other; git -C $OUT/work add other; git -C $OUT/work $US commit -qm Theirs; git -C $OUT/work push -q $OUT/remote.git HEAD:master\n{END}"
    ));
    std::fs::write(
        world.path("work/.afk.toml"),
        "test = \"for t in tests/*.sh; do sh \\\"$t\\\" || exit 1; done\"\n",
    )
    .unwrap();
    world.commit("Quote");
    let files = is_pushed(&world).await;
    for name in [
        "caf\\xe9",
        ":(top)",
        ":!x",
        "-rf",
        "a\\\\b",
        "tab\\there",
        "quote\\\"d",
        &long,
        "Case",
        "case",
        " space ",
        "tests/line\\nbreak.sh",
        "*",
        "[a]",
        "other",
    ] {
        assert!(files.contains(&name.to_owned()), "{name}: {files:?}");
    }
    let subjects = log(&world.remote(), "master", "%s");
    assert_eq!(subjects.last().unwrap(), "Do it", "the leftovers carry the issue's title");
    assert!(subjects.contains(&"Theirs".to_owned()), "{subjects:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_are_shown_escaped() {
    let world = World::new(&format!(
        "{WORK}\nprintf '<<<<<<< a\\n=======\\n>>>>>>> b\\n' > \"$(printf 'caf\\351\\033[31m')\"\n{END}"
    ));
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    let transcript = world.transcript(1);
    assert!(transcript.contains("caf\\\\xe9\\\\u{1b}[31m line 1"), "{transcript}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_repository_that_stays_is_set_aside_and_the_next_issue_runs() {
    let world = World::new(&format!(
        "case $prompt in *'Two more'*) echo 'grep -q two state' > tests/two.sh; echo done two > state; git add --all; git $US commit -qm Two;;\n\
         *) {WORK}\ngit init -q sub; git init -q deep/er; echo x > sub/file;; esac\n{END}"
    ));
    let runtime = world.start().await;
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::NeedsHuman));
    let transcript = world.transcript(1);
    assert!(
        transcript.contains("deep/er, sub") || transcript.contains("sub, deep/er"),
        "{transcript}"
    );
    world.issue(2, "Two more", "armed_by = 'ana'");
    until(&runtime, "the second run", |s| {
        (run_of(&s.fleet, 2)?.progress.outcome == Some(Outcome::Done)).then_some(())
    })
    .await;
    runtime.stop().await;
    let names = files(&world);
    assert!(!names.iter().any(|name| name.starts_with("sub")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_users_git_change_nothing() {
    let world = World::new(&format!(
        "mkdir -p tests; echo 'grep -q done state' > tests/state.sh; echo done > state; chmod +x tests/first.sh; printf 'a\\r\\n' > dos; echo x > Case; echo y > case; echo z > 'caf\u{e9}'\n{END}"
    ));
    let home = world.path("home");
    std::fs::create_dir_all(home.join("hooks")).unwrap();
    let marker = world.path("marker");
    for hook in [
        "pre-commit",
        "commit-msg",
        "post-checkout",
        "pre-push",
        "reference-transaction",
        "post-commit",
        "pre-rebase",
    ] {
        let path = home.join("hooks").join(hook);
        std::fs::write(&path, format!("#!/bin/sh\ntouch {}\nexit 1\n", marker.display())).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    std::fs::create_dir_all(home.join("template")).unwrap();
    std::os::unix::fs::symlink(home.join("hooks"), home.join("template/hooks")).unwrap();
    let text = format!(
        "[core]\n\tfileMode = false\n\tignoreCase = true\n\tquotePath = false\n\tprecomposeUnicode = true\n\tautocrlf = true\n\thooksPath = {0}/hooks\n\teditor = false\n\tsymlinks = false\n\tbare = true\n\
         [commit]\n\tgpgSign = true\n\ttemplate = /nonexistent\n[tag]\n\tgpgSign = true\n[gpg]\n\tprogram = false\n[init]\n\ttemplateDir = {0}/template\n\tdefaultObjectFormat = sha256\n\
         [push]\n\tgpgSign = true\n\tfollowTags = true\n[fetch]\n\tfsckObjects = true\n[merge]\n\tff = only\n[rebase]\n\tautoSquash = true\n[diff]\n\texternal = false\n\tnoprefix = true\n[color]\n\tui = always\n[log]\n\tshowSignature = true\n",
        home.display()
    );
    std::fs::write(home.join(".gitconfig"), text).unwrap();
    let (up, _) = world.up_with_env(&[("HOME", home.to_str().unwrap())], 1);
    wait_until("the push", || log(&world.remote(), "master", "%s").len() > 1).await;
    drop(up);
    let modes = git(&world.remote(), &["ls-tree", "master", "tests/first.sh"]);
    assert!(modes.starts_with("100755"), "{modes}");
    assert_eq!(try_git(&world.remote(), &["show", "master:dos"]).stdout, b"a\r\n");
    let names = files(&world);
    assert!(names.contains(&"Case".to_owned()) && names.contains(&"case".to_owned()), "{names:?}");
    assert!(!marker.exists(), "a hook of the machine ran");
}

/// The user without any rights of its own.
const NOBODY: u32 = 65534;

/// Gives a folder and everything in it to another user.
fn give_to(path: &Path, user: u32) {
    let out = Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(path).output();
    assert!(out.unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_folders_stop_no_run_of_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() || !installed("setpriv") {
        println!("SKIPPED: only root can start another user's afk");
        return;
    }
    // The agent and the tests both leave folders that their owner can't delete from.
    let ro = "mkdir -p ro/a/b; touch ro/a/file; chmod 500 ro/a/b ro/a ro";
    let world = World::new(&format!(
        "case $prompt in *'Two more'*) echo 'grep -q two state' > tests/two.sh; echo done two > state; git add --all; git $US commit -qm Two;;\n\
         *) {WORK}\necho ro > .gitignore; {ro};; esac\n{END}"
    ));
    std::fs::write(
        world.path("work/.afk.toml"),
        format!("test = \"{ro}; for t in tests/*.sh; do sh $t || exit 1; done\"\n"),
    )
    .unwrap();
    world.commit("Rules");
    world.issue(2, "Two more", "armed_by = 'ana'");
    world.config();
    give_to(world.root(), NOBODY);
    let mut command = Command::new("setpriv");
    command.args([
        format!("--reuid={NOBODY}"),
        format!("--regid={NOBODY}"),
        "--clear-groups".into(),
    ]);
    command.arg(crate::support::AFK).args(world.places()).arg("up");
    command.env("HOME", world.path("home")).stdin(std::process::Stdio::null());
    let child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let up = crate::support::world::Up(child);
    let remote = world.remote();
    let subjects = || git(&remote, &["-c", "safe.directory=*", "log", "--format=%s", "master"]);
    let work = || format!("{} {}", world.transcript(1), world.transcript(2));
    let ended = || work().contains("needs-human") || subjects().contains("Two");
    wait_until("both pushes", ended).await;
    assert!(subjects().contains("Two"), "{}", work());
    let folder = repository_folder(&world.state(), "acme/thing");
    let gone = |name: &str| !folder.join(name).exists();
    wait_until("the folders to be deleted", || gone("wt-1") && is_empty(&folder.join("trash")))
        .await;
    drop(up);
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

fn base(world: &World) -> PathBuf {
    repository_folder(&world.state(), "acme/thing").join("base.git")
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_in_the_base_heal_at_the_next_use() {
    let world = World::new(&format!(
        "case $prompt in *'Two more'*) echo 'grep -q two state' > tests/two.sh; echo done two > state; git add --all; git $US commit -qm Two;;\n\
         *) {WORK};; esac\n{END}"
    ));
    let runtime = world.start().await;
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Done));
    for lock in [
        "packed-refs.lock",
        "shallow.lock",
        "config.lock",
        "HEAD.lock",
        "refs/remotes/origin/master.lock",
        "refs/afk/runs/r2.lock",
        "refs/afk/imports/r2.lock",
    ] {
        let path = base(&world).join(lock);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    std::fs::write(world.path("work/other"), "x").unwrap();
    let work = world.path("work");
    git(&work, &["pull", "-q", world.remote().to_str().unwrap(), "master"]);
    world.commit("Theirs");
    world.issue(2, "Two more", "armed_by = 'ana'");
    until(&runtime, "the second run", |s| {
        (run_of(&s.fleet, 2)?.progress.outcome == Some(Outcome::Done)).then_some(())
    })
    .await;
    runtime.stop().await;
    assert_eq!(log(&world.remote(), "master", "%s").last().unwrap(), "Two");
}
