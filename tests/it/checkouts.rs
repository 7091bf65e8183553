//! Parts of a repository that git alone doesn't check out: submodules, files of Git LFS; and parts
//! that it must not, by sparse patterns.

use std::path::Path;

use afk::core::model::digest::Digest;
use afk::core::model::run::{Outcome, Run};

use crate::support::world::{END, WORK, World, ended, wait_until};
use crate::support::{afk, git, log, text, try_git};

const TESTS: &str = "for t in tests/*.sh; do sh $t || exit 1; done";

async fn run(world: &World) -> Run {
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    run
}

/// Adds a bare repository `lib.git` beside the remote, as a submodule with this address.
fn add_submodule(world: &World, address: &str) -> String {
    let lib = world.path("lib");
    std::fs::create_dir_all(&lib).unwrap();
    git(&lib, &["init", "-q", "--initial-branch=main"]);
    for line in ["one", "two"] {
        std::fs::write(lib.join("lib.txt"), format!("{line}\n")).unwrap();
        git(&lib, &["add", "--all"]);
        git(&lib, &["commit", "-q", "-m", line]);
    }
    git(world.root(), &["clone", "-q", "--bare", "lib", "lib.git"]);
    let head = git(&lib, &["rev-parse", "HEAD"]);
    let work = world.path("work");
    let link = format!("160000,{head},vendor/lib");
    git(&work, &["update-index", "--add", "--cacheinfo", &link]);
    let modules = format!("[submodule \"the.lib\"]\n\tpath = vendor/lib\n\turl = \"{address}\"\n");
    std::fs::write(work.join(".gitmodules"), modules).unwrap();
    let rules = format!("test = '''grep -q two vendor/lib/lib.txt || exit 9; {TESTS}'''\n");
    std::fs::write(work.join(".afk.toml"), rules).unwrap();
    git(&work, &["add", ".gitmodules", ".afk.toml"]);
    git(&work, &["commit", "-q", "-m", "Add the library"]);
    git(&work, &["push", "-q", world.remote().to_str().unwrap(), "master"]);
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_are_there_for_agent_and_tests() {
    let world = World::new(&format!(
        "cat vendor/lib/lib.txt > saw; git submodule status >> saw; git -C vendor/lib log --format=%s >> saw\n\
         git status --porcelain >> saw; git add saw; git $US commit -qm Saw\n{WORK}\n{END}"
    ))
    .walled();
    let head = add_submodule(&world, "../lib.git");
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    let saw = git(&world.remote(), &["show", "master:saw"]);
    let lines: Vec<&str> = saw.lines().collect();
    assert_eq!(lines[0], "two");
    assert!(lines[1].starts_with(&format!(" {head} vendor/lib")), "{saw}");
    // The history is shallow, and git knows it. The last line is the file that the agent writes.
    assert_eq!(&lines[2..], ["two", "?? saw"]);
    let link = git(&world.remote(), &["ls-tree", "master", "vendor/lib"]);
    assert!(link.starts_with(&format!("160000 commit {head}")), "{link}");
}

#[tokio::test(flavor = "multi_thread")]
async fn submodule_address_that_names_a_program_asks_a_human() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let marker = world.path("marker");
    add_submodule(&world, &format!("ext::sh -c touch% {}", marker.display()));
    let run = run(&world).await;
    assert_eq!((run.progress.outcome, run.agent.turns), (Some(Outcome::NeedsHuman), 0));
    let why = run.progress.why.clean();
    assert!(why.contains("vendor/lib") && why.contains("is not an allowed address"), "{why}");
    assert!(!marker.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn submodule_commit_that_its_remote_lacks_goes_back_to_the_agent() {
    let world = World::new(&format!(
        "echo three > vendor/lib/lib.txt; git -C vendor/lib add --all\n\
         (cd vendor/lib; git $US commit -qm Three)\n{WORK}\n{END}"
    ));
    add_submodule(&world, "../lib.git");
    let before = log(&world.remote(), "master", "%s");
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    let why = run.progress.why.clean();
    assert!(why.contains("the gate stayed closed"), "{why}");
    let told = world.transcript(1);
    assert!(told.contains("the submodule vendor/lib: its remote has no commit"), "{told}");
    assert_eq!(log(&world.remote(), "master", "%s"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn sparse_patterns_narrow_every_checkout_and_no_commit() {
    let script = format!("ls > \"$OUT/agent-saw\"\n{WORK}\n{END}");
    let world = World::new(&script);
    let work = world.path("work");
    std::fs::create_dir_all(work.join("big")).unwrap();
    std::fs::write(work.join("big/data"), "x\n").unwrap();
    std::fs::write(
        work.join(".afk.toml"),
        format!(
            "test = '''ls >> {}; {TESTS}'''\n[setup]\nsparse = ['/*', '!/big/']\n[gate]\nneeded = 'off'\n",
            world.path("tests-saw").display()
        ),
    )
    .unwrap();
    world.commit("Data");
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    let saw = |name: &str| std::fs::read_to_string(world.path(name)).unwrap();
    assert_eq!(saw("agent-saw"), "tests\n");
    // The base as it is, the base with the tests, the head, and the head with the base's tests.
    assert_eq!(saw("tests-saw"), "tests\ntests\nstate\ntests\nstate\ntests\n");
    let files = git(&world.remote(), &["ls-tree", "-r", "--name-only", "master"]);
    assert!(files.contains("big/data") && files.contains("state"), "{files}");
}

/// Commits a pointer of LFS, whose file the remote keeps.
fn commit_pointer(world: &World) {
    let content = b"the large file";
    let id = Digest::of_bytes(content).to_string();
    let objects = world.remote().join("lfs/objects").join(&id[..2]).join(&id[2..4]);
    std::fs::create_dir_all(&objects).unwrap();
    std::fs::write(objects.join(&id), content).unwrap();
    let work = world.path("work");
    std::fs::write(work.join(".gitattributes"), "*.bin filter=lfs -text\n").unwrap();
    let size = content.len();
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{id}\nsize {size}\n");
    std::fs::write(work.join("a.bin"), pointer).unwrap();
    let rules = format!("test = '''grep -q large a.bin || exit 9; {TESTS}'''\n");
    std::fs::write(work.join(".afk.toml"), rules).unwrap();
    world.commit("Large");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_git_lfs_is_named_before_the_first_turn() {
    let world = World::new(&format!("touch \"$OUT/began\"\n{WORK}\n{END}"));
    commit_pointer(&world);
    let bin = world.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("git-lfs"), "#!/bin/sh\nexit 127\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("git-lfs"), mode).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let (_up, _) = world.up_with_env(&[("PATH", &path)], 1);
    let places = world.places();
    let mut args: Vec<&str> = places.iter().map(String::as_str).collect();
    args.extend(["status", "--json"]);
    let status = || text(&afk(&args).output().unwrap().stdout);
    wait_until("the end of the run", || status().contains("needs-human")).await;
    let shown = status();
    assert!(shown.contains("git-lfs is not installed here: install it"), "{shown}");
    assert!(!world.path("began").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_lfs_are_there_for_agent_and_tests() {
    if !try_git(Path::new("/"), &["lfs", "version"]).status.success() {
        println!("SKIPPED: git-lfs is not installed");
        return;
    }
    let world = World::new(&format!(
        "cat a.bin > \"$OUT/agent-saw\"; git status --porcelain >> \"$OUT/agent-saw\"\n{WORK}\n{END}"
    ));
    commit_pointer(&world);
    let address = format!("file://{}", world.remote().display());
    let world = world.at(address);
    let pointer = git(&world.remote(), &["show", "master:a.bin"]);
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    assert_eq!(std::fs::read_to_string(world.path("agent-saw")).unwrap(), "the large file");
    assert_eq!(git(&world.remote(), &["show", "master:a.bin"]), pointer);
}
