//! Remote executors: turns as Jobs of a cluster, and at another afk service.

use std::time::{Duration, Instant};

use afk::core::model::command::{Accepted, Command};
use afk::core::model::job::JobStatus;
use afk::core::model::run::Outcome;
use afk::core::model::time::Timestamp;
use serde_json::json;

use crate::support::AFK;
use crate::support::api::{Api, OPERATOR, section};
use crate::support::cluster::{Cluster, Fault};
use crate::support::world::{END, Up, WORK, World, command, ended, run_of, until, wait_until};

/// Work that records its begin, waits for a file, and then continues.
const HELD: &str = "\
echo begun >> \"$HOLD/began\"; until [ -e \"$HOLD/go\" ]; do sleep 0.05; done\n\
[ -n \"$FROM_SECRET\" ] && echo \"{\\\"type\\\":\\\"text\\\",\\\"text\\\":\\\"key $FROM_SECRET\\\"}\"";

/// A world whose repository has a cluster as its executor.
fn world(script: &str, cluster: &Cluster, more: &str) -> World {
    let world = World::new(script);
    let (root, kubeconfig) = (world.root().display().to_string(), cluster.kubeconfig(world.root()));
    let section = format!(
        "[kubernetes]\nkubeconfig = '{}'\n[executors.farm]\nkind = 'kubernetes'\nnamespace = 'web'\n\
         image = 'registry/afk:1'\ncommand = ['{AFK}']\nclaim = 'work'\nmount = '{root}'\n\
         user = 1000\nenv_from = ['keys']\nqueue = 'agents'\nrequests = {{ cpu = '500m' }}\n\
         node_selector = {{ pool = 'agents' }}\ntolerations = [{{ key = 'agents', operator = 'Exists' }}]\n{more}",
        kubeconfig.display()
    );
    world.with(&section).repo("executor = 'farm'").agent(&format!(
        "set = {{ HOLD = '{root}' }}\nsecrets = {{ FROM_SECRET = 'env:NOT_HERE' }}"
    ))
}

fn began(world: &World) -> usize {
    std::fs::read_to_string(world.path("began")).unwrap_or_default().lines().count()
}

fn posts(cluster: &Cluster) -> usize {
    cluster
        .requests()
        .iter()
        .filter(|line| line.starts_with("POST ") && line.ends_with("/jobs"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_job_works_on_an_issue_and_survives_a_kill_of_afk() {
    let cluster = Cluster::start();
    cluster.run_jobs();
    let world = world(&format!("{HELD}\n{WORK}\n{END}"), &cluster, "");
    let mut up: Up = world.up();
    wait_until("the agent", || began(&world) == 1).await;
    let names = cluster.names("jobs");
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("afk-") && names[0].ends_with("-r1-t1"), "{names:?}");
    let job = cluster.get("jobs", &names[0]).unwrap();
    let spec = &job["spec"];
    assert_eq!((&spec["backoffLimit"], spec["activeDeadlineSeconds"].is_u64()), (&json!(0), true));
    let pod = &spec["template"]["spec"];
    assert_eq!(
        (&pod["restartPolicy"], &pod["nodeSelector"]["pool"]),
        (&json!("Never"), &json!("agents"))
    );
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["containers"][0]["envFrom"][0]["secretRef"]["name"], "keys");
    assert_eq!(pod["containers"][0]["resources"]["requests"]["cpu"], "500m");
    assert_eq!(pod["tolerations"][0]["operator"], "Exists");
    assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], "work");
    assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "agents");
    // afk is killed in the middle of the turn and started again.
    up.kill();
    drop(up);
    let runtime = world.start().await;
    until(&runtime, "the turn", |s| {
        let run = run_of(&s.fleet, 1)?;
        let place = run.agent.equipment.as_ref()?.place.clone();
        (run.live() && place.as_deref() == Some("farm")).then_some(())
    })
    .await;
    wait_until("the Job to be asked for again", || posts(&cluster) == 2).await;
    assert!(
        run_of(&runtime.handle.snapshots.borrow().fleet, 1)
            .unwrap()
            .doing(Timestamp::default())
            .contains("at farm")
    );
    std::fs::write(world.path("go"), "").unwrap();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean_line());
    assert_eq!((began(&world), run.agent.turns), (1, 1), "it was repeated");
    let transcript = world.transcript(1);
    assert!(
        transcript.contains("key [redacted]") && !transcript.contains("the-agents-own-key"),
        "{transcript}"
    );
    assert_eq!(transcript.matches("key [redacted]").count(), 1, "told twice");
    let task = world.state().join("elsewhere");
    wait_until("what is kept of it is gone", || std::fs::read_dir(&task).unwrap().count() == 0)
        .await;
    assert_eq!(cluster.names("jobs").len(), 0, "the Job is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_cluster_is_retried_and_a_refusal_is_reported() {
    let cluster = Cluster::start();
    cluster.run_jobs();
    cluster.fault(false, "jobs", Fault::Status(500), 2);
    let world = world(&format!("{WORK}\n{END}"), &cluster, "");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean_line());
    let transcript = world.transcript(1);
    assert!(transcript.contains("can't be reached"), "{transcript}");
    assert_eq!(run.agent.turns, 1, "an executor that is away costs no turn");
    // A refusal by the cluster is not retried.
    let cluster = Cluster::start();
    cluster.fault(false, "jobs", Fault::Status(403), 9);
    let world = self::world(END, &cluster, "");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(
        run.progress.why.clean_line().contains("could not be started"),
        "{}",
        run.progress.why.clean_line()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_or_deleted_cluster_job_crashes_the_turn() {
    let cluster = Cluster::start();
    let world = world(END, &cluster, "");
    let runtime = world.start().await;
    // No pod appears: the first Job fails, the second is deleted, the third ends without output.
    for (turn, how) in [(1, "fails"), (2, "gone"), (3, "silent")] {
        let name =
            |c: &Cluster| c.names("jobs").into_iter().find(|n| n.ends_with(&format!("-t{turn}")));
        wait_until("a Job", || name(&cluster).is_some()).await;
        let job = name(&cluster).unwrap();
        let mut object = cluster.get("jobs", &job).unwrap();
        match how {
            "fails" => {
                let condition =
                    json!({"type": "Failed", "status": "True", "reason": "DeadlineExceeded"});
                object["status"] = json!({"conditions": [condition]});
                cluster.put("jobs", object);
            }
            "gone" => cluster.remove("jobs", &job),
            _ => {
                object["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
                cluster.put("jobs", object);
            }
        }
    }
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!((run.progress.outcome, run.agent.turns), (Some(Outcome::NeedsHuman), 3));
    let transcript = world.transcript(1);
    for why in
        ["the Job failed: DeadlineExceeded", "was deleted before it ended", "reported no end"]
    {
        assert!(transcript.contains(why), "{why}: {transcript}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_run_deletes_its_cluster_job() {
    let cluster = Cluster::start();
    let world = world(END, &cluster, "");
    let runtime = world.start().await;
    wait_until("the Job", || cluster.names("jobs").len() == 1).await;
    let run = run_of(&runtime.handle.snapshots.borrow().fleet, 1).unwrap().id;
    assert_eq!(command(&runtime, Command::Cancel { run }).await, Ok(Accepted::Ok));
    wait_until("its end", || cluster.names("jobs").is_empty()).await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_executor_requires_state_on_the_shared_volume() {
    let cluster = Cluster::start();
    let world = World::new(END);
    let section = format!(
        "[kubernetes]\nkubeconfig = '{}'\n[executors.farm]\nkind = 'kubernetes'\nnamespace = 'web'\n\
         image = 'x'\nclaim = 'work'\nmount = '/nowhere'\nuser = 1000",
        cluster.kubeconfig(world.root()).display()
    );
    let world = world.with(&section).repo("executor = 'farm'");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert!(
        run.progress.why.clean_line().contains("is not on the shared volume"),
        "{}",
        run.progress.why.clean_line()
    );
    assert!(cluster.names("jobs").is_empty());
}

/// A second afk that serves HTTP, and a first one that submits its jobs there.
fn two(script: &str) -> (World, Api, World) {
    let far = World::new(script);
    let (hold, http) = (far.root().display().to_string(), section(&far));
    std::fs::remove_file(far.path("issues/1.md")).unwrap();
    let far = far
        .with("capacity = 1")
        .with(&http)
        .with("[service]\nrepository = 'acme/thing'")
        .agent(&format!("set = {{ HOLD = '{hold}' }}"));
    let api = Api::start(&far);
    let near = World::new("exit 9");
    std::fs::remove_file(near.path("issues/1.md")).unwrap();
    let token = far.path("operator-token").display().to_string();
    let other = format!(
        "[executors.other]\nkind = 'service'\naddress = '{}'\ntoken = 'file:{token}'\nagent = 'shell'",
        api.address
    );
    let near = near.with(&other).repo("executor = 'other'");
    (far, api, near)
}

fn submit(prompt: &str) -> Command {
    let repo = afk::core::model::id::Repo::parse("acme/thing").unwrap();
    Command::Submit { repo, prompt: prompt.into(), priority: None, job: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompt_is_submitted_to_a_remote_service_once() {
    let script =
        format!("{HELD}\nprintf '{{\"type\":\"text\",\"text\":\"far — 日本\"}}\\n'\n{END}");
    let (far, api, near) = two(&script);
    let runtime = near.start().await;
    command(&runtime, submit("look")).await.unwrap();
    wait_until("the agent there", || began(&far) == 1).await;
    // The local afk restarts and finds the remote job by its id.
    runtime.stop().await;
    let runtime = near.start().await;
    std::fs::write(far.path("go"), "").unwrap();
    let run = until(&runtime, "its end", |s| {
        s.fleet
            .runs
            .values()
            .find(|run| run.progress.outcome.is_some())
            .map(|run| run.as_ref().clone())
    })
    .await;
    assert_eq!(
        (run.progress.outcome, began(&far)),
        (Some(Outcome::Done), 1),
        "{}",
        run.progress.why.clean_line()
    );
    assert_eq!(run.workspace.worktree, None);
    assert!(near.transcript(1).contains("far — 日本"));
    // A failure of the remote job fails the local run.
    drop(api);
    runtime.stop().await;
    let (_far, _api, near) = two("echo no >&2; exit 4");
    let runtime = near.start().await;
    command(&runtime, submit("look")).await.unwrap();
    let run = until(&runtime, "a retry", |s| {
        s.fleet.runs.values().find(|run| run.progress.failures > 0).map(|run| run.as_ref().clone())
    })
    .await;
    runtime.stop().await;
    assert!(run.live());
    assert!(near.transcript(1).contains("exit status: 4"), "{}", near.transcript(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_job_runs_on_its_repositorys_executor() {
    let cluster = Cluster::start();
    cluster.run_jobs();
    let script = "printf '{\"type\":\"text\",\"text\":\"in the pod\"}\\n'\necho odd >&2\n\
                  printf '{\"type\":\"end\",\"status\":\"done\"}\\n'";
    let world = self::world(script, &cluster, "");
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let http = section(&world);
    let world = world.with(&http).with("[service]\nrepository = 'acme/thing'");
    let api = Api::start(&world);
    let body = json!({"prompt": "x", "agent": "shell"});
    let (_, answer) = api.post("/execute", OPERATOR, body).await;
    let id = answer["job_id"].as_str().unwrap().to_owned();
    let end = Instant::now() + Duration::from_secs(60);
    let job = loop {
        let (_, job) = api.get(&format!("/jobs/{id}"), Some(OPERATOR)).await;
        if !matches!(job["status"].as_str(), Some("queued" | "running")) {
            break job;
        }
        assert!(Instant::now() < end, "{job}");
    };
    assert_eq!(job["status"], json!(JobStatus::Completed), "{job}");
    assert_eq!((&job["output"], &job["exit_code"]), (&json!(["in the pod"]), &json!(0)));
    assert_eq!(job["stderr"], "odd\n");
    assert_eq!(posts(&cluster), 1);
}
