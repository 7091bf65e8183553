//! Rollouts in a cluster, from the commit's image to a healthy soak, and the ways they fail.

use afk::core::model::run::{Outcome, Run};
use afk::core::model::stage::ProofLink;
use afk::core::model::verdict::Verdict;
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Fault};
use crate::support::world::{END, WORK, World, ended, run_of, until, wait_until};
use crate::support::{afk, git, text};

/// A world whose deploy stage watches a rollout in a cluster.
fn world(script: &str, rules: &str) -> (World, Cluster) {
    let cluster = Cluster::start();
    let rules =
        format!("[deploy]\n{rules}\n[[deploy.kubernetes]]\nnamespace = 'web'\nname = 'app'");
    let world = World::new(script).rules(&rules);
    let section =
        format!("[kubernetes]\nkubeconfig = '{}'", cluster.kubeconfig(world.root()).display());
    (world.with(&section), cluster)
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
}

fn none() -> Value {
    json!({})
}

fn image(sha: &str) -> String {
    format!("registry/app:{}", &sha[..8])
}

/// Waits until the run has pushed another commit than `before`.
async fn pushed(runtime: &afk::runtime::Runtime, before: Option<&str>) -> String {
    until(runtime, "the push", |s| {
        let sha = run_of(&s.fleet, 1)?.workspace.pushed.as_ref()?.0.clone();
        (Some(sha.as_str()) != before).then_some(sha)
    })
    .await
}

fn facts(run: &Run) -> Vec<String> {
    let link = run.proof.get(ProofLink::Rollout).unwrap();
    link.facts.iter().map(|f| format!("{} {}", f.kind.as_str(), f.value.as_received())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_is_healthy_after_its_image_ran_for_the_soak_time() {
    let (world, cluster) = world(&format!("{WORK}\n{END}"), "soak_seconds = 1");
    cluster.deployed(1, "registry/app:old", &none());
    cluster.pod(1, "registry/app:old", 0, &running());
    let runtime = world.start().await;
    let sha = pushed(&runtime, None).await;
    // Right after a change of the image, the status still describes the old one.
    cluster.deployed(2, &image(&sha), &json!({"observedGeneration": 1}));
    until(&runtime, "the watchers", |s| (s.watchers.len() == 3).then_some(())).await;
    cluster.deployed(2, &image(&sha), &json!({"availableReplicas": 0}));
    cluster.pod(2, &image(&sha), 0, &running());
    cluster.deployed(2, &image(&sha), &none());
    let run = ended(&runtime).await;
    assert!(runtime.handle.snapshots.borrow().watchers.is_empty(), "nothing is watched any more");
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    let facts = facts(&run);
    assert_eq!(facts[0], "rollout web/app generation 2");
    assert!(facts.contains(&format!("image web/app/app {}", image(&sha))), "{facts:?}");
    assert!(facts.contains(&format!("digest web/app/app sha256:{:064x}", 2)), "{facts:?}");
    assert!(facts.contains(&"keel.sh/update-time now".to_owned()), "{facts:?}");
    assert_eq!(run.proof.get(ProofLink::Image).unwrap().verdict, Verdict::Green);
    // `afk proof` prints the chain as JSON.
    let places = world.places();
    let mut args: Vec<&str> = places.iter().map(String::as_str).collect();
    args.extend(["proof", "r1"]);
    let out = afk(&args).output().unwrap();
    let proof: Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", text(&out.stderr)));
    assert_eq!(proof["healthy"], true);
    let names: Vec<&str> =
        proof["chain"].as_array().unwrap().iter().map(|l| l["link"].as_str().unwrap()).collect();
    assert_eq!(names, ["red", "green", "commit", "image", "rollout"]);
    assert_eq!(proof["chain"][2]["sha"], sha);
    let transcript = world.transcript(1);
    assert!(
        transcript.contains("web/app: the controller has not observed the change"),
        "{transcript}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_crash_after_a_green_rollout_is_fixed_forward() {
    let fix = "case $prompt in *'went red'*CrashLoopBackOff*'no such table'*) echo x > second; git add second; git $US commit -qm Second;;";
    let (world, cluster) = world(&format!("{fix} *) {WORK}\n;; esac\n{END}"), "soak_seconds = 20");
    cluster.deployed(1, "registry/app:old", &none());
    let runtime = world.start().await;
    let first = pushed(&runtime, None).await;
    cluster.log("app-2-x", "panic: no such table\n");
    cluster.deployed(2, &image(&first), &none());
    cluster.pod(2, &image(&first), 0, &running());
    wait_until("a complete rollout", || world.transcript(1).contains("web/app: complete")).await;
    cluster.put(
        "events",
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e1"}, "type": "Warning",
            "reason": "BackOff", "message": "restarting", "involvedObject": {"name": "app-2-x"},
        }),
    );
    cluster.pod(2, &image(&first), 2, &json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    let second = pushed(&runtime, Some(&first)).await;
    cluster.deployed(3, &image(&second), &none());
    cluster.pod(3, &image(&second), 0, &running());
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(
        (run.progress.outcome, run.progress.attempts),
        (Some(Outcome::Done), 1),
        "{:?}",
        run.progress.why
    );
    let logs = world.state().join("logs");
    let printed = std::fs::read_dir(logs)
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().ends_with("deploy-said.log"));
    let printed = std::fs::read_to_string(printed.unwrap().path()).unwrap();
    assert!(printed.contains("event Warning app-2-x: BackOff restarting"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_image_is_not_applied_and_asks_a_human() {
    let (world, cluster) = world(&format!("{WORK}\n{END}"), "minutes = 0");
    cluster.deployed(1, "registry/app:old", &none());
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Frozen));
    let why = run.progress.why.as_received();
    assert!(why.contains("deploy: not applied: web/app: has another image"), "{why}");
    assert_eq!(run.proof.get(ProofLink::Image).unwrap().verdict, Verdict::NotApplied);
}

#[tokio::test(flavor = "multi_thread")]
async fn image_of_a_descendant_proves_the_commit() {
    let (world, cluster) = world(&format!("{WORK}\n{END}"), "soak_seconds = 1");
    cluster.deployed(1, "registry/app:old", &none());
    let runtime = world.start().await;
    pushed(&runtime, None).await;
    let work = world.path("work");
    git(&work, &["pull", "-q", world.remote().to_str().unwrap(), "master"]);
    std::fs::write(work.join("other"), "x").unwrap();
    world.commit("Somebody else's");
    let newer = git(&work, &["rev-parse", "HEAD"]);
    cluster.deployed(2, &image(&newer), &none());
    cluster.pod(2, &image(&newer), 0, &running());
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    let detail = run.proof.get(ProofLink::Rollout).unwrap().detail.clean_line();
    assert!(detail.contains("with a newer commit that contains this one"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_expired_or_silent_watches_lose_no_change() {
    let (world, cluster) = world(&format!("{WORK}\n{END}"), "soak_seconds = 1");
    cluster.deployed(1, "registry/app:old", &none());
    cluster.fault(false, "deployments", Fault::Cut, 1);
    cluster.fault(false, "deployments", Fault::Status(500), 1);
    cluster.fault(true, "deployments", Fault::Status(403), 1);
    cluster.fault(true, "deployments", Fault::Expired, 1);
    // The watch falls silent while the rollout continues.
    cluster.fault(true, "deployments", Fault::Mute, 1);
    let runtime = world.start().await;
    let sha = pushed(&runtime, None).await;
    until(&runtime, "the watcher's trouble to show", |s| {
        s.watchers.values().any(|watcher| watcher.error.is_some()).then_some(())
    })
    .await;
    wait_until("the silent watch", || {
        let is_watch = |r: &&String| r.contains("deployments?") && r.contains("watch=true");
        cluster.requests().iter().filter(is_watch).count() >= 3
    })
    .await;
    cluster.pod(2, &image(&sha), 0, &running());
    cluster.deployed(2, &image(&sha), &none());
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
}

/// Waits until afk has looked at the workload so many times more.
async fn looks(cluster: &Cluster, plural: &str, more: usize) {
    let end = format!("/{plural}/app?");
    let count = || cluster.requests().iter().filter(|request| request.contains(&end)).count();
    let before = count();
    wait_until("the looks", || count() >= before + more).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_counts_only_time_that_was_seen() {
    let (world, cluster) = world(&format!("{WORK}\n{END}"), "soak_seconds = 3");
    cluster.deployed(1, "registry/app:old", &none());
    let runtime = world.start().await;
    let sha = pushed(&runtime, None).await;
    cluster.pod(2, &image(&sha), 0, &running());
    cluster.deployed(2, &image(&sha), &none());
    wait_until("a complete rollout", || world.transcript(1).contains("web/app: complete")).await;
    // The API server is away, and meanwhile somebody sets the rollout back.
    for watches in [false, true] {
        for plural in ["deployments", "replicasets", "pods"] {
            cluster.fault(watches, plural, Fault::Status(503), usize::MAX);
        }
    }
    looks(&cluster, "deployments", 5).await;
    let line = "web/app: can't be read, and the soak waits";
    wait_until("the outage to show", || world.transcript(1).contains(line)).await;
    let run = run_of(&runtime.handle.snapshots.borrow().fleet, 1).unwrap().clone();
    assert_eq!(run.progress.outcome, None, "the soak is longer over than seen");
    cluster.deployed(3, "registry/app:old", &none());
    cluster.heal();
    wait_until("the old image to show", || {
        let transcript = world.transcript(1);
        transcript.rsplit("soak waits").next().unwrap().contains("web/app: has another image")
    })
    .await;
    cluster.pod(4, &image(&sha), 0, &running());
    cluster.deployed(4, &image(&sha), &none());
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    assert_eq!(facts(&run)[0], "rollout web/app generation 4");
}

#[tokio::test(flavor = "multi_thread")]
async fn blip_begins_the_soak_again_and_blames_nobody() {
    let (world, cluster) = world(&format!("{WORK}\n{END}"), "soak_seconds = 3");
    cluster.deployed(1, "registry/app:old", &none());
    let runtime = world.start().await;
    let sha = pushed(&runtime, None).await;
    // The pod pulled for more than a minute, and its container has just begun.
    cluster.unready_pod(2, &image(&sha), 75);
    cluster.deployed(2, &image(&sha), &json!({"availableReplicas": 0}));
    wait_until("the start", || world.transcript(1).contains("web/app: 0 of 1 available")).await;
    cluster.pod(2, &image(&sha), 0, &running());
    cluster.deployed(2, &image(&sha), &none());
    wait_until("a complete rollout", || world.transcript(1).contains("web/app: complete")).await;
    cluster.unready_pod(2, &image(&sha), 80);
    cluster.deployed(2, &image(&sha), &json!({"availableReplicas": 0}));
    wait_until("the blip", || world.transcript(1).matches("0 of 1 available").count() == 2).await;
    cluster.pod(2, &image(&sha), 0, &running());
    cluster.deployed(2, &image(&sha), &none());
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(
        (run.progress.outcome, run.progress.attempts, run.agent.turns),
        (Some(Outcome::Done), 0, 1),
        "{:?}",
        run.progress.why
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_of_the_cluster_change_no_verdict() {
    for skew in [-9 * 3600, -120, 120, 9 * 3600] {
        let (world, cluster) = world(&format!("{WORK}\n{END}"), "soak_seconds = 1");
        cluster.clock(skew);
        cluster.deployed(1, "registry/app:old", &none());
        let runtime = world.start().await;
        let sha = pushed(&runtime, None).await;
        cluster.unready_pod(2, &image(&sha), 0);
        let at = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + skew).unwrap();
        let fails = json!({"availableReplicas": 0, "conditions": [
            {"type": "ReplicaFailure", "status": "True", "message": "quota",
             "lastTransitionTime": at.to_string()},
        ]});
        cluster.deployed(2, &image(&sha), &fails);
        wait_until("the start", || world.transcript(1).contains("web/app: 0 of 1 available")).await;
        cluster.pod(2, &image(&sha), 0, &running());
        cluster.deployed(2, &image(&sha), &none());
        let run = ended(&runtime).await;
        runtime.stop().await;
        let found = (run.progress.outcome, run.progress.attempts);
        assert_eq!(found, (Some(Outcome::Done), 0), "{skew} s: {:?}", run.progress.why);
    }
}

/// A world whose deploy stage follows a Job.
fn job_world(rules: &str) -> (World, Cluster) {
    let cluster = Cluster::start();
    let rules = format!(
        "[deploy]\n{rules}\n[[deploy.kubernetes]]\nkind = 'job'\nnamespace = 'web'\nname = 'app'"
    );
    let world = World::new(&format!("{WORK}\n{END}")).rules(&rules);
    let section =
        format!("[kubernetes]\nkubeconfig = '{}'", cluster.kubeconfig(world.root()).display());
    (world.with(&section), cluster)
}

/// A complete Job.
fn complete_job(cluster: &Cluster, uid: &str, image: &str) {
    cluster.put(
        "jobs",
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "app", "uid": uid, "generation": 1},
            "spec": {
                "selector": {"matchLabels": {"controller-uid": uid}},
                "template": {"spec": {"containers": [{"name": "app", "image": image}]}},
            },
            "status": {"conditions": [{"type": "Complete", "status": "True"}]},
        }),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn job_proves_only_the_image_that_it_ran() {
    let (world, cluster) = job_world("minutes = 0");
    complete_job(&cluster, "u1", "registry/app:old");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Frozen));
    let why = run.progress.why.as_received();
    assert!(why.contains("deploy: not applied: web/app: has another image"), "{why}");

    let (world, cluster) = job_world("");
    complete_job(&cluster, "u1", "registry/app:old");
    let runtime = world.start().await;
    let sha = pushed(&runtime, None).await;
    complete_job(&cluster, "u2", &image(&sha));
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    assert!(facts(&run).contains(&format!("image web/app/app {}", image(&sha))));
}

#[tokio::test(flavor = "multi_thread")]
async fn image_that_names_no_commit_is_never_green() {
    let image = |tag: &str| format!("registry/app:{tag}");
    for (more, template, said) in [
        ("tag = 'main'", json!([{"name": "app", "image": image("main")}]), "the tag main names no"),
        (
            "",
            json!([{"name": "proxy", "image": "COMMIT"}, {"name": "app", "image": image("old")}]),
            "its container app has another image",
        ),
        (
            "container = 'migrate'",
            json!([{"name": "app", "image": image("old")}]),
            "migrate is an init container",
        ),
    ] {
        let cluster = Cluster::start();
        // CI waits for the test to put the commit's image.
        let world = World::new(&format!("{WORK}\n{END}"));
        let go = world.path("go");
        let rules = format!(
            "[ci]\ncommand = 'while ! test -e {}; do sleep 0.05; done'\n[deploy]\nminutes = 0\n\
             [[deploy.kubernetes]]\nnamespace = 'web'\nname = 'app'\n{more}",
            go.display()
        );
        let kubeconfig = cluster.kubeconfig(world.root());
        let section = format!("[kubernetes]\nkubeconfig = '{}'", kubeconfig.display());
        let world = world.rules(&rules).with(&section);
        let runtime = world.start().await;
        let sha = pushed(&runtime, None).await;
        let commit = format!("registry/app:{}", &sha[..8]);
        let containers = template.to_string().replace("COMMIT", &commit);
        let containers: Value = serde_json::from_str(&containers).unwrap();
        cluster.deployed(2, &commit, &none());
        let mut object = cluster.get("deployments", "app").unwrap();
        object["spec"]["template"]["spec"]["containers"] = containers;
        object["spec"]["template"]["spec"]["initContainers"] =
            json!([{"name": "migrate", "image": commit}]);
        cluster.put("deployments", object);
        std::fs::write(&go, "").unwrap();
        let run = ended(&runtime).await;
        runtime.stop().await;
        assert_eq!(run.progress.outcome, Some(Outcome::Frozen), "{said}");
        let why = run.progress.why.as_received();
        assert!(why.starts_with("deploy: not applied: web/app: ") && why.contains(said), "{why}");
    }
}
