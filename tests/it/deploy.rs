//! The stages after the push, with a real command and real probes.

use afk::core::model::run::Outcome;
use afk::core::model::stage::ProofLink;
use afk::core::model::verdict::Verdict;

use crate::support::world::{END, WORK, World, ended};
use crate::support::{git, journal_id, log, processes_with};

fn with_rules(world: &World, rules: &str) {
    let path = world.path("work/.afk.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text + rules).unwrap();
    world.commit("Add rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_a_deploy_survive_its_end_and_a_restart() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let seconds = 200_000 + std::process::id();
    with_rules(
        &world,
        &format!(
            "[deploy]\ncommand = 'setsid sleep {seconds} >/dev/null 2>&1 & exit 0'\n[probe]\ncommand = 'true'\ninterval_ms = 20\nsoak_ms = 100\n"
        ),
    );
    let lives = || {
        afk::process::procfs::processes().find(|p| {
            let line = std::fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
            p.state != b'Z' && line == format!("sleep\0{seconds}\0").into_bytes()
        })
    };
    for _ in 0..2 {
        let runtime = world.start().await;
        let run = ended(&runtime).await;
        runtime.stop().await;
        assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
        assert_eq!(run.proof.get(ProofLink::Probe).unwrap().verdict, Verdict::Green);
        assert!(lives().is_some(), "the service was ended");
    }
    let service = lives().unwrap();
    afk::process::procfs::signal(&service, rustix::process::Signal::KILL);
}

#[tokio::test(flavor = "multi_thread")]
async fn red_ci_is_fixed_forward_with_the_end_of_its_log() {
    let world = World::new(&format!(
        "case $prompt in *'went red'*'the second thing is missing'*) echo x > second; git add second; git $US commit -qm Second;; *) {WORK}\n;; esac\n{END}"
    ));
    with_rules(
        &world,
        "[ci]\ncommand = 'test -e second || { echo the second thing is missing; exit 1; }'\n",
    );
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!((run.progress.outcome, run.progress.attempts), (Some(Outcome::Done), 1));
    assert_eq!(
        log(&world.remote(), "master", "%s"),
        ["Begin", "Add rules", "Test it", "Do it", "Second"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn blip_of_a_probe_begins_its_soak_again() {
    for (bad, outcome) in [("3|4", Outcome::Done), ("3|4|5", Outcome::Frozen)] {
        let world = World::new(&format!("{WORK}\n{END}")).with("[fix_forward]\nattempts = 0");
        let count = world.path("count");
        let count = count.display();
        with_rules(
            &world,
            &format!(
                "[probe]\ninterval_ms = 20\nsoak_ms = 300\ncommand = 'n=$(cat {count} || echo 0); \
                 n=$((n+1)); echo $n > {count}; case $n in {bad}) exit 1;; esac'\n"
            ),
        );
        let runtime = world.start().await;
        let run = ended(&runtime).await;
        runtime.stop().await;
        let why = run.progress.why.as_received();
        assert_eq!(run.progress.outcome, Some(outcome), "{bad}: {why}");
        if outcome == Outcome::Frozen {
            assert!(why.contains("3 probes in a row failed after 2 good ones"), "{why}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn freeze_keeps_its_evidence_in_a_capsule() {
    let world = World::new(&format!(
        "case $prompt in *'went red'*) echo half > half-done; sleep 0;; *) {WORK}\n;; esac\n{END}"
    ))
    .with("[fix_forward]\nattempts = 1");
    with_rules(&world, "[ci]\ncommand = 'echo no luck; exit 1'\n");
    let runtime = world.start().await;
    ended(&runtime).await;
    let folder = crate::support::world::until(&runtime, "the capsule", |s| {
        crate::support::world::run_of(&s.fleet, 1)?.progress.capsule.clone()
    })
    .await;
    runtime.stop().await;
    let folder = std::path::PathBuf::from(folder);
    let sums = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let tree = std::fs::read_to_string(folder.join("tree")).unwrap();
    assert!(tree.starts_with("refs/afk/capsules/r1 "), "{tree}");
    for name in ["tree", "changes.diff", "run.json", "transcript.jsonl", "-ci.log"] {
        assert!(sums.contains(name), "{sums}");
    }
    let checked = std::process::Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(&folder)
        .status()
        .unwrap();
    assert!(checked.success());
    let base = crate::support::repository_folder(&world.state(), "acme/thing").join("base.git");
    assert!(
        git(&base, &["ls-tree", "-r", "--name-only", "refs/afk/capsules/r1"]).contains("half-done")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_git_configuration_does_not_affect_afks_git() {
    // The agent redirects the shared configuration and installs a filter that afk's git could run.
    let world = World::new("");
    let evil = world.path("evil");
    let script = format!(
        "#!/bin/sh\nUS='-c user.name=a -c user.email=a@localhost'\nread -r p\n{WORK}\n\
         git config core.sshCommand 'touch {0}'\ngit config remote.origin.url 'ext::touch {0}'\n\
         git config credential.helper '!touch {0}'\ngit config url.'ext::touch {0}'.insteadOf /\n\
         git config filter.leak.clean 'env > {0}.env; cat'\necho '* filter=leak' > .gitattributes\necho x > loose\n{END}\n",
        evil.display()
    );
    std::fs::write(world.path("agent.sh"), script).unwrap();
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    assert!(!evil.exists(), "our git ran what the agent configured");
    let leaked = std::fs::read_to_string(world.path("evil.env")).unwrap_or_default();
    assert!(
        !leaked.contains("CARGO_MANIFEST_DIR") && !leaked.contains("SSH_AUTH_SOCK"),
        "{leaked}"
    );
    assert!(processes_with("AFK_STATE", &journal_id(&world.state())).is_empty());
}
