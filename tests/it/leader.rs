//! Two afk on one journal: one leads, the other follows and takes its place, and nothing is
//! dispatched twice.

use std::time::{Duration, Instant};

use afk::core::event::Event;
use afk::core::run::Outcome;
use afk::journal::{Journal, chain};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::cluster::{Cluster, Fault};
use crate::support::world::{END, Up, WORK, World, run_of, so};

/// A new leader is there in this time.
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
    let (up, lines) = world.up_with(2);
    assert_eq!(lines[0], format!("leads in term {term}"), "{lines:?}");
    up
}

fn second(world: &World) -> Up {
    let (up, lines) = world.up_with(1);
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
    so("the next leader", || Journal::newest_term(&world.state()) == term).await;
    assert!(began.elapsed() < TAKE_OVER, "{:?}", began.elapsed());
}

async fn done(world: &World, number: u64) {
    so("its end", || {
        let journal = Journal::open_read_only(&world.state());
        let fleet = journal.and_then(|journal| journal.fold());
        fleet.is_ok_and(|fleet| {
            run_of(&fleet, number).is_some_and(|run| run.outcome == Some(Outcome::Done))
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_is_followed_and_nothing_is_claimed_twice() {
    let cluster = Cluster::start();
    let world = world(&cluster, 15);
    let mut leads = first(&world, 1);
    let follows = second(&world);
    so("the claim", || claims(&world) == [(1, 1)]).await;
    leads.kill();
    term(&world, 2).await;
    std::fs::write(world.path("go"), "").unwrap();
    done(&world, 1).await;
    world.issue(2, "More", "armed_by = 'ana'");
    so("the next claim", || claims(&world) == [(1, 1), (2, 2)]).await;
    let lease = cluster.get("leases", "afk").unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 2);
    // One that ends by itself gives the lease back: nobody waits for its time.
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
async fn a_leader_that_hung_writes_nothing_more() {
    let cluster = Cluster::start();
    let world = world(&cluster, 3);
    let mut leads = first(&world, 1);
    let follows = second(&world);
    so("the claim", || claims(&world) == [(1, 1)]).await;
    signal(&leads, Signal::STOP);
    term(&world, 2).await;
    world.issue(2, "More", "armed_by = 'ana'");
    signal(&leads, Signal::CONT);
    let ended = tokio::task::spawn_blocking(move || leads.0.wait().unwrap()).await.unwrap();
    assert_eq!(ended.code(), Some(4), "{ended:?}");
    std::fs::write(world.path("go"), "").unwrap();
    done(&world, 1).await;
    so("the next claim", || claims(&world) == [(1, 1), (2, 2)]).await;
    drop(follows);
    let journal = Journal::open_read_only(&world.state()).unwrap();
    assert!(chain::verify(&journal).unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_can_not_renew_ends_before_another_may_lead() {
    let cluster = Cluster::start();
    let world = world(&cluster, 3);
    let mut leads = first(&world, 1);
    so("the claim", || claims(&world) == [(1, 1)]).await;
    cluster.fault(false, "leases", Fault::Status(500), 1000);
    let began = Instant::now();
    let ended = tokio::task::spawn_blocking(move || leads.0.wait().unwrap()).await.unwrap();
    assert_eq!(ended.code(), Some(4), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
