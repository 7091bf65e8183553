//! Two afk on one journal: one leads, the other follows and takes its place, and nothing is
//! dispatched twice.

use std::time::{Duration, Instant};

use afk::core::model::event::Event;
use afk::core::model::run::Outcome;
use afk::journal::{Journal, chain};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::api::{Api, OPERATOR, VIEWER, section};
use crate::support::cluster::{Cluster, Fault};
use crate::support::world::{END, Up, WORK, World, run_of, wait_until};

/// The longest time until a new leader has taken over.
const TAKE_OVER: Duration = Duration::from_secs(30);

fn world(cluster: &Cluster, seconds: u32) -> World {
    let script = format!("until [ -e \"$HOLD/go\" ]; do sleep 0.05; done\n{WORK}\n{END}");
    let world = World::new(&script);
    let (root, kubeconfig) = (world.root().display().to_string(), cluster.kubeconfig(world.root()));
    let section = format!(
        "[kubernetes]\nkubeconfig = '{}'\n[leader]\nlease = 'web/afk'\nseconds = {seconds}",
        kubeconfig.display()
    );
    world.with(&section).tracker("poll_seconds = 1").agent(&format!("set = {{ HOLD = '{root}' }}"))
}

fn first(world: &World, term: u64) -> Up {
    let (up, lines) = world.up_with_lines(2);
    assert_eq!(lines[0], format!("leads in term {term}"), "{lines:?}");
    up
}

fn second(world: &World) -> Up {
    let (up, lines) = world.up_with_lines(1);
    assert!(lines[0].starts_with("follows: ") && lines[0].ends_with(" leads"), "{lines:?}");
    up
}

fn signal(up: &Up, signal: Signal) {
    let pid = Pid::from_raw(up.0.id().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn claims(world: &World) -> Vec<(u64, u64)> {
    let journal = Journal::open_read_only(&world.state()).unwrap();
    let mut claims = Vec::new();
    journal
        .read(1, |record| {
            if let Event::Claimed { work, term, .. } = record.event()? {
                claims.push((work.issue().unwrap().number, term));
            }
            Ok(true)
        })
        .unwrap();
    claims
}

async fn term(world: &World, term: u64) {
    let began = Instant::now();
    wait_until("the next leader", || Journal::newest_term(&world.state()) == term).await;
    assert!(began.elapsed() < TAKE_OVER, "{:?}", began.elapsed());
}

async fn done(world: &World, number: u64) {
    wait_until("its end", || {
        let journal = Journal::open_read_only(&world.state());
        let fleet = journal.and_then(|journal| journal.fold());
        fleet.is_ok_and(|fleet| {
            run_of(&fleet, number).is_some_and(|run| run.progress.outcome == Some(Outcome::Done))
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn follower_takes_over_from_a_killed_leader_and_claims_nothing_twice() {
    let cluster = Cluster::start();
    let world = world(&cluster, 15);
    let mut leads = first(&world, 1);
    let follows = second(&world);
    wait_until("the claim", || claims(&world) == [(1, 1)]).await;
    leads.kill();
    term(&world, 2).await;
    std::fs::write(world.path("go"), "").unwrap();
    done(&world, 1).await;
    world.issue(2, "More", "armed_by = 'ana'");
    wait_until("the next claim", || claims(&world) == [(1, 1), (2, 2)]).await;
    let lease = cluster.get("leases", "afk").unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 2);
    // A leader that ends releases its lease, so that nobody waits for its expiry.
    let next = second(&world);
    let began = Instant::now();
    drop(follows);
    term(&world, 3).await;
    assert!(began.elapsed() < Duration::from_secs(13), "{:?}", began.elapsed());
    drop(next);
    let journal = Journal::open_read_only(&world.state()).unwrap();
    assert!(chain::verify(&journal).unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_leader_writes_nothing_after_losing_its_lease() {
    let cluster = Cluster::start();
    let world = world(&cluster, 3);
    let mut leads = first(&world, 1);
    let follows = second(&world);
    wait_until("the claim", || claims(&world) == [(1, 1)]).await;
    signal(&leads, Signal::STOP);
    term(&world, 2).await;
    world.issue(2, "More", "armed_by = 'ana'");
    signal(&leads, Signal::CONT);
    let ended = tokio::task::spawn_blocking(move || leads.0.wait().unwrap()).await.unwrap();
    assert_eq!(ended.code(), Some(4), "{ended:?}");
    std::fs::write(world.path("go"), "").unwrap();
    done(&world, 1).await;
    wait_until("the next claim", || claims(&world) == [(1, 1), (2, 2)]).await;
    drop(follows);
    let journal = Journal::open_read_only(&world.state()).unwrap();
    assert!(chain::verify(&journal).unwrap().is_ok());
}

fn api(up: Up, line: &str) -> Api {
    let bound = line.strip_prefix("http on ").unwrap_or_else(|| panic!("{line}"));
    Api { up, address: format!("http://{bound}"), client: reqwest::Client::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn follower_serves_reads_and_refuses_writes() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = Cluster::start();
    let world = world(&cluster, 3);
    let http = section(&world);
    let world = world.with(&http);
    let (mut leads, lines) = world.up_with_lines(3);
    assert_eq!(lines[1], "leads in term 1", "{lines:?}");
    let (follows, lines) = world.up_with_lines(2);
    assert!(lines[1].starts_with("follows: "), "{lines:?}");
    let api = api(follows, &lines[0]);
    let run = loop {
        let (status, run) = api.get("/v1/runs/1", Some(VIEWER)).await;
        if status == 200 && run["run"]["equipment"].is_object() {
            break run;
        }
    };
    assert_eq!(run["run"]["work"]["key"], "acme/thing#1", "{run}");
    let (status, health) = api.get("/health", None).await;
    assert_eq!((status, &health["status"]), (503, &json!("standby")));
    assert!(health["leader"].as_str().unwrap().ends_with(" leads"), "{health}");
    let (status, reported) = api.act(OPERATOR, json!({"action": "cancel", "run": 1})).await;
    assert_eq!((status, &reported["error"]["kind"]), (503, &json!("follows")), "{reported}");
    assert_eq!(api.get("/v1/fleet", None).await.0, 401);
    // The follower shows later events as well.
    std::fs::write(world.path("go"), "").unwrap();
    let outcome = loop {
        let (_, run) = api.get("/v1/runs/1", Some(VIEWER)).await;
        if !run["run"]["outcome"].is_null() {
            break run["run"]["outcome"].clone();
        }
    };
    assert_eq!(outcome, "done");
    let (_, transcript) = api.get("/v1/runs/1/transcript", Some(VIEWER)).await;
    assert!(transcript.to_string().contains("turn_end"), "{transcript}");
    assert_eq!(claims(&world), [(1, 1)]);
    leads.kill();
    term(&world, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn afk_serves_one_port_as_follower_and_as_leader() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = Cluster::start();
    let world = world(&cluster, 3);
    let http = section(&world).replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let (_up, lines) = world.with(&http).up_with_lines(3);
    let here = format!("http on 127.0.0.1:{port}");
    assert_eq!(lines, [here.clone(), "leads in term 1".into(), here]);
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_that_cannot_renew_its_lease_ends() {
    let cluster = Cluster::start();
    let world = world(&cluster, 3);
    let mut leads = first(&world, 1);
    wait_until("the claim", || claims(&world) == [(1, 1)]).await;
    cluster.fault(false, "leases", Fault::Status(500), 1000);
    let began = Instant::now();
    let ended = tokio::task::spawn_blocking(move || leads.0.wait().unwrap()).await.unwrap();
    assert_eq!(ended.code(), Some(4), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
