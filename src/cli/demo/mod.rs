//! `afk demo`: the whole loop on sample repositories. Tests, pushes, deploys and probes are real; only the
//! agent is scripted.
//!
//! `world` creates the folder of the demo, `platform` serves the deployed services, `machine` is a VM with
//! its hypervisor for breakglass, `recovery` its recovery without a person, and `agent` is the program that
//! plays the agent's turns.

pub(super) mod agent;
mod machine;
mod platform;
mod recovery;
mod world;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use self::machine::{DemoMachine, RunningMachine};
use self::world::World;
use super::log::Verbosity;
use super::terminal::print_line;
use super::{timeline, up};
use crate::config::Config;
use crate::config::log::LogConfig;
use crate::core::fleet::Fleet;
use crate::core::model::id::IssueKey;
use crate::core::model::ledger::Reason;
use crate::core::model::run::Outcome;
use crate::core::model::time::Timestamp;
use crate::error::{Failure, FailureKind};
use crate::journal::Journal;
use crate::process::end_signals::EndSignals;
use crate::runtime::{Handle, Runtime};
use crate::tui::session::Start;

#[derive(Debug, Default, Args)]
pub(super) struct DemoArgs {
    /// Run without a terminal, print the timeline, and exit with 0 only if every issue reached
    /// its expected outcome
    #[arg(long)]
    headless: bool,
    /// The folder of the demo [default: a new temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Remove the folder of a demo
    #[arg(long, value_name = "DIR", conflicts_with_all = ["headless", "dir"])]
    remove: Option<PathBuf>,
    /// Pause after each line of the agent, in milliseconds [default: 250, headless 0]
    #[arg(long, value_name = "MS")]
    pace: Option<u64>,
    /// The longest time of a headless demo, in seconds [default: 300]
    #[arg(long, value_name = "S")]
    limit: Option<u64>,
    /// Leave the wedged VM out
    #[arg(long)]
    no_machine: bool,
}

/// The state that an issue of the demo must reach.
enum Expectation {
    /// Its run ends with this outcome.
    Ends(Outcome),
    /// It has no run, for a reason that the function accepts.
    Waits(fn(&Reason) -> bool),
}

fn expectations() -> Vec<(&'static str, Expectation)> {
    use Expectation::{Ends, Waits};
    vec![
        ("acme/greeter#1", Ends(Outcome::Done)),
        ("acme/greeter#2", Ends(Outcome::Done)),
        ("acme/greeter#3", Waits(|r| matches!(r, Reason::Untrusted { .. }))),
        ("acme/ledger#4", Ends(Outcome::Done)),
        ("acme/ledger#5", Ends(Outcome::NeedsHuman)),
        ("acme/ledger#6", Ends(Outcome::Done)),
        ("acme/ledger#7", Waits(|r| matches!(r, Reason::NotReady))),
        ("acme/pulse#8", Ends(Outcome::Done)),
        ("acme/pulse#9", Ends(Outcome::Frozen)),
        ("acme/pulse#10", Waits(|r| matches!(r, Reason::RepoFrozen { .. }))),
        ("acme/vault#11", Waits(|r| matches!(r, Reason::NotAllowed { .. }))),
    ]
}

/// The issues that have not reached their expected state, each with its reason.
fn unmet(fleet: &Fleet) -> BTreeMap<String, String> {
    let mut unmet = BTreeMap::new();
    for (name, expectation) in expectations() {
        let Ok(key) = IssueKey::parse(name) else { continue };
        let run = fleet.last_run.get(&key).and_then(|id| fleet.runs.get(id));
        let reason = fleet.ledger.get(&key).map(|entry| &entry.reason);
        let met = match expectation {
            Expectation::Ends(outcome) => {
                run.is_some_and(|run| run.progress.outcome == Some(outcome))
            }
            Expectation::Waits(accepts) => run.is_none() && reason.is_some_and(accepts),
        };
        if !met {
            let reason = reason.map_or_else(|| "not seen yet".to_owned(), Reason::summary);
            unmet.insert(name.to_owned(), reason);
        }
    }
    unmet
}

/// Whether no run is live and nothing is to be delivered.
fn settled(fleet: &Fleet) -> bool {
    fleet.live.is_empty() && fleet.outbox.is_empty()
}

pub(super) async fn run(args: DemoArgs) -> Result<(), Failure> {
    if let Some(dir) = args.remove {
        World::remove(&dir)?;
        print_line(&format!("removed {}", dir.display()));
        return Ok(());
    }
    let root = args.dir.clone().unwrap_or_else(fresh_folder);
    let launcher = super::own_program()?;
    let pace = args.pace.unwrap_or(if args.headless { 0 } else { 250 });
    let world = World::open(&root, &launcher, pace)?;
    let no_env = |name: &str| (name == "HOME").then(|| std::env::var(name).ok()).flatten();
    let config = Config::load(&world.config(), &no_env)?;
    let platform = platform::start(world.port, world.platform()).await.map_err(|error| {
        Failure::new(FailureKind::System, format!("port {} can't be bound", world.port))
            .because(error)
            .hint("another demo may use this folder; choose another with --dir")
    })?;
    let mut machine = if args.no_machine { None } else { start_machine(&world).await? };
    let folder = world.root.display().to_string();
    let done = if args.headless {
        print_line(&format!("the demo is in {folder}"));
        let limit = args.limit.unwrap_or(300);
        if let Some(machine) = &mut machine {
            machine.booted().await.map_err(not_started)?;
        }
        Box::pin(headless(&world, config, launcher, limit, machine.is_some())).await
    } else {
        let done =
            up::cockpit(config, &world.state(), launcher, Some(world.config()), Start::Demo).await;
        print_line(&format!("the demo is in {folder}"));
        print_line(&format!("continue with  afk demo --dir {folder}"));
        match &mut machine {
            Some(machine) => done.and(machine.booted().await.map_err(not_started)),
            None => done,
        }
    };
    platform.abort();
    drop(machine);
    print_line(&format!("remove it with afk demo --remove {folder}"));
    done
}

/// Starts the VM of the demo with its hypervisor; none where a program for it is missing.
async fn start_machine(world: &World) -> Result<Option<RunningMachine>, Failure> {
    let Some(machine) = &world.machine else { return Ok(None) };
    if let Some(tool) = DemoMachine::missing_tool() {
        print_line(&format!("breakglass can't be tried in this demo: install {tool}"));
        return Ok(None);
    }
    machine.start().await.map(Some).map_err(not_started)
}

fn not_started(error: io::Error) -> Failure {
    Failure::new(FailureKind::System, "the demo's VM can't be started")
        .because(error)
        .hint("another demo may use this folder; choose another with --dir")
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
    recovers: bool,
) -> Result<(), Failure> {
    let breakglass = config.breakglass.clone().filter(|_| recovers);
    let (log, verbosity) = (LogConfig::default(), Verbosity::default());
    let _log = super::log::start(&world.state(), &log, verbosity, false)?;
    let runtime = Runtime::start(config, &world.state(), launcher, None).await?;
    let handle = runtime.handle.clone();
    let mut printer = Printer::new(&world.state())?;
    let mut signals = EndSignals::listen()?;
    let all = async {
        let recovery = async {
            let breakglass = breakglass.as_ref()?;
            Some(recovery::recover(&handle, breakglass).await)
        };
        let follow = follow(&handle, &mut printer, recovery);
        follow.await
    };
    let follow = tokio::time::timeout(Duration::from_secs(limit), all);
    let in_time = tokio::select! {
        in_time = follow => in_time,
        signal = signals.next() => {
            let why = format!("the demo was ended by {}", signal.name());
            Ok(Err(Failure::new(FailureKind::Negative, why)))
        }
    };
    let (fleet, problems) = {
        let snapshot = handle.snapshots.borrow();
        (snapshot.fleet.clone(), snapshot.problems.clone())
    };
    runtime.stop().await;
    printer.print()?;
    for problem in problems {
        print_line(&format!("problem: {problem}"));
    }
    let recovered = if let Ok(done) = in_time {
        done?
    } else {
        let why = format!("the demo did not settle in {limit} s");
        return Err(Failure::new(FailureKind::Negative, why));
    };
    let unmet = unmet(&fleet);
    let mut failed: Vec<&str> = unmet.keys().map(String::as_str).collect();
    if let Some(recovered) = &recovered {
        let (mark, line) = match recovered {
            Ok(line) => ("ok", line),
            Err(why) => ("NO", why),
        };
        print_line(&format!("{mark}  {:<16} {line}", machine::VM));
        failed.extend(recovered.is_err().then_some(machine::VM));
    }
    for (name, _) in expectations() {
        let mark = if unmet.contains_key(name) { "NO" } else { "ok" };
        let reason = IssueKey::parse(name)
            .ok()
            .and_then(|key| fleet.ledger.get(&key).map(|entry| entry.reason.summary()));
        print_line(&format!("{mark}  {name:<16} {}", reason.unwrap_or_default()));
    }
    if failed.is_empty() {
        Ok(())
    } else {
        let why = format!("not as expected: {}", failed.join(", "));
        Err(Failure::new(FailureKind::Negative, why))
    }
}

/// The recovery of the VM: how it went, or why it failed.
type Recovered = Result<String, String>;

/// Prints the journal until the fleet has settled, every issue has reached its expected state, and the VM
/// is recovered.
async fn follow(
    handle: &Handle,
    printer: &mut Printer,
    recovery: impl Future<Output = Option<Recovered>>,
) -> Result<Option<Recovered>, Failure> {
    let mut snapshots = handle.snapshots.clone();
    tokio::pin!(recovery);
    let mut recovered = None;
    loop {
        printer.print()?;
        let (settled, unmet) = {
            let snapshot = snapshots.borrow_and_update();
            (settled(&snapshot.fleet), unmet(&snapshot.fleet))
        };
        if settled && unmet.is_empty() && recovered.is_some() {
            return Ok(recovered.flatten());
        }
        tokio::select! {
            done = &mut recovery, if recovered.is_none() => recovered = Some(done),
            changed = snapshots.changed() => if changed.is_err() {
                return Ok(recovered.flatten());
            },
        }
    }
}

/// Prints the records of the journal as lines with their offsets from the first record.
struct Printer {
    journal: Journal,
    fleet: Fleet,
    /// The number of the next record to print.
    next: i64,
    first: Option<Timestamp>,
}

impl Printer {
    fn new(state: &Path) -> Result<Self, Failure> {
        let journal = Journal::open_read_only(state)?;
        Ok(Self { journal, fleet: Fleet::default(), next: 1, first: None })
    }

    fn print(&mut self) -> Result<(), Failure> {
        let Self { journal, fleet, next, first } = self;
        journal.read(*next, |record| {
            let event = record.event()?;
            fleet.apply(record.at, &event);
            *next = record.seq + 1;
            let since = record.at.since(*first.get_or_insert(record.at));
            if let Some(line) = timeline::describe(fleet, &event) {
                print_line(&format!("{:>10}  {line}", timeline::offset(since)));
            }
            Ok(true)
        })?;
        Ok(())
    }
}
