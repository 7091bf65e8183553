//! `afk demo`: the whole loop on sample repositories, for real. Only the agent's words are
//! scripted.

pub mod agent;
pub mod platform;
pub mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use self::world::World;
use super::{timeline, up};
use crate::config::Config;
use crate::core::fleet::Fleet;
use crate::core::model::id::IssueKey;
use crate::core::model::ledger::Reason;
use crate::core::model::run::Outcome;
use crate::core::model::time::Timestamp;
use crate::error::{Failure, FailureKind};
use crate::journal::Journal;
use crate::runtime::{Handle, Runtime};

/// Arguments of `afk demo`.
#[derive(Debug, Default, Args)]
pub struct DemoArgs {
    /// Run without a terminal, print the timeline, and end with 0 only if every issue reached
    /// the outcome it should
    #[arg(long)]
    headless: bool,
    /// The demo's folder; a new temporary one if it isn't given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Remove a demo's folder and end
    #[arg(long, value_name = "DIR", conflicts_with_all = ["headless", "dir"])]
    remove: Option<PathBuf>,
    /// Pause after each of the agent's words, in milliseconds [default: 250, headless 0]
    #[arg(long, value_name = "MS")]
    pace: Option<u64>,
    /// Longest time of a headless demo, in seconds [default: 300]
    #[arg(long, value_name = "S")]
    limit: Option<u64>,
}

/// What each issue of the demo should come to.
enum Should {
    End(Outcome),
    Wait(fn(&Reason) -> bool),
}

fn expectations() -> Vec<(&'static str, Should)> {
    use Should::{End, Wait};
    vec![
        ("acme/greeter#1", End(Outcome::Done)),
        ("acme/greeter#2", End(Outcome::Done)),
        ("acme/greeter#3", Wait(|r| matches!(r, Reason::Untrusted { .. }))),
        ("acme/ledger#4", End(Outcome::Done)),
        ("acme/ledger#5", End(Outcome::NeedsHuman)),
        ("acme/ledger#6", End(Outcome::Done)),
        ("acme/ledger#7", Wait(|r| matches!(r, Reason::NotReady))),
        ("acme/pulse#8", End(Outcome::Done)),
        ("acme/pulse#9", End(Outcome::Frozen)),
        ("acme/pulse#10", Wait(|r| matches!(r, Reason::RepoFrozen { .. }))),
        ("acme/vault#11", Wait(|r| matches!(r, Reason::NotAllowed { .. }))),
    ]
}

/// What each issue stands at, where that isn't what it should be.
fn unmet(fleet: &Fleet) -> BTreeMap<String, String> {
    let mut unmet = BTreeMap::new();
    for (name, should) in expectations() {
        let Ok(key) = IssueKey::parse(name) else { continue };
        let run = fleet.last_run.get(&key).and_then(|id| fleet.runs.get(id));
        let reason = fleet.ledger.get(&key).map(|entry| &entry.reason);
        let met = match should {
            Should::End(outcome) => run.is_some_and(|run| run.outcome == Some(outcome)),
            Should::Wait(fits) => run.is_none() && reason.is_some_and(fits),
        };
        if !met {
            let stands = reason.map_or_else(|| "not seen yet".to_owned(), Reason::summary);
            unmet.insert(name.to_owned(), stands);
        }
    }
    unmet
}

/// Nothing is under way any more.
fn settled(fleet: &Fleet) -> bool {
    fleet.live.is_empty() && fleet.outbox.is_empty()
}

/// Runs the command.
///
/// # Errors
/// [`Failure`].
pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    if let Some(dir) = args.remove {
        World::remove(&dir)?;
        super::say(&format!("removed {}", dir.display()));
        return Ok(());
    }
    let root = args.dir.clone().unwrap_or_else(fresh_folder);
    let launcher = super::own_program()?;
    let pace = args.pace.unwrap_or(if args.headless { 0 } else { 250 });
    let world = World::open(&root, &launcher, pace)?;
    let no_env = |name: &str| (name == "HOME").then(|| std::env::var(name).ok()).flatten();
    let config = Config::load(&world.config(), &no_env)?;
    let platform = platform::start(world.port, world.platform()).await.map_err(|error| {
        Failure::new(FailureKind::System, format!("listen on port {}", world.port))
            .because(error)
            .hint("another demo may use this folder; take another with --dir")
    })?;
    let place = world.root.display().to_string();
    let done = if args.headless {
        super::say(&format!("the demo lies in {place}"));
        headless(&world, config, launcher, args.limit.unwrap_or(300)).await
    } else {
        let done = up::cockpit(config, &world.state(), launcher, Some(world.config())).await;
        super::say(&format!("the demo lies in {place}"));
        super::say(&format!("go on with    afk demo --dir {place}"));
        done
    };
    platform.abort();
    super::say(&format!("remove it with afk demo --remove {place}"));
    done
}

fn fresh_folder() -> PathBuf {
    let temp = std::env::temp_dir();
    let pid = std::process::id();
    (0..1000)
        .map(|n| if n == 0 { format!("afk-demo-{pid}") } else { format!("afk-demo-{pid}-{n}") })
        .map(|name| temp.join(name))
        .find(|path| !path.exists())
        .unwrap_or(temp)
}

async fn headless(
    world: &World,
    config: Config,
    launcher: PathBuf,
    limit: u64,
) -> Result<(), Failure> {
    let _log = super::log::start(&world.state())?;
    let runtime = Runtime::start(config, &world.state(), launcher, None).await?;
    let handle = runtime.handle.clone();
    let mut printer = Printer::new(&world.state())?;
    let follow = follow(&handle, &mut printer);
    let in_time = tokio::time::timeout(Duration::from_secs(limit), follow).await;
    let (fleet, problems) = {
        let snapshot = handle.snapshots.borrow();
        (snapshot.fleet.clone(), snapshot.problems.clone())
    };
    runtime.stop().await;
    printer.print()?;
    for problem in problems {
        super::say(&format!("problem: {problem}"));
    }
    if let Ok(done) = in_time {
        done?;
    } else {
        let why = format!("the demo did not settle in {limit} s");
        return Err(Failure::new(FailureKind::Negative, why));
    }
    let unmet = unmet(&fleet);
    for (name, _) in expectations() {
        let mark = if unmet.contains_key(name) { "NO" } else { "ok" };
        let stands = IssueKey::parse(name)
            .ok()
            .and_then(|key| fleet.ledger.get(&key).map(|entry| entry.reason.summary()));
        super::say(&format!("{mark}  {name:<16} {}", stands.unwrap_or_default()));
    }
    if unmet.is_empty() {
        Ok(())
    } else {
        let names: Vec<&str> = unmet.keys().map(String::as_str).collect();
        let why = format!("not as it should be: {}", names.join(", "));
        Err(Failure::new(FailureKind::Negative, why))
    }
}

/// Prints as things happen, until everything is settled and as it should be, or settled for good.
async fn follow(handle: &Handle, printer: &mut Printer) -> Result<(), Failure> {
    let mut snapshots = handle.snapshots.clone();
    loop {
        printer.print()?;
        let (settled, unmet) = {
            let snapshot = snapshots.borrow_and_update();
            (settled(&snapshot.fleet), unmet(&snapshot.fleet))
        };
        if settled && unmet.is_empty() {
            return Ok(());
        }
        if snapshots.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Prints the journal as it grows.
struct Printer {
    journal: Journal,
    fleet: Fleet,
    next: i64,
    began: Option<Timestamp>,
}

impl Printer {
    fn new(state: &Path) -> Result<Self, Failure> {
        let journal = Journal::open_read_only(state)?;
        Ok(Self { journal, fleet: Fleet::default(), next: 1, began: None })
    }

    fn print(&mut self) -> Result<(), Failure> {
        let Self { journal, fleet, next, began } = self;
        journal.read(*next, |record| {
            let event = record.event()?;
            fleet.apply(record.at, &event);
            *next = record.seq + 1;
            let since = record.at.since(*began.get_or_insert(record.at));
            if let Some(line) = timeline::line(fleet, &event) {
                super::say(&format!("{:>10}  {line}", timeline::offset(since)));
            }
            Ok(true)
        })?;
        Ok(())
    }
}
