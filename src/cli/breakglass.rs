//! `afk breakglass`: the verbs, the pins and the hypervisor's side. It speaks with the afk that
//! runs; where none does, or its journal can't be written, it goes on alone.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::attach::join;
use super::place::PlaceArgs;
use crate::breakglass::pins::{Pins, fingerprint};
use crate::breakglass::{host, ssh};
use crate::config::Config;
use crate::config::breakglass::{BreakglassConfig, HYPERVISOR};
use crate::config::paths::Paths;
use crate::core::model::breakglass::{
    BreakglassRefusal, BreakglassRequest, Confirmation, Verb, VerbId, VerbResult, VerbRun,
};
use crate::core::model::command::{Accepted, Command, Refusal, Role};
use crate::error::{Failure, Kind};
use crate::runtime::client::Client;
use crate::runtime::{Runtime, Snapshot};
use crate::serve::attach::client::AttachError;
use crate::tui::panes::Pane;
use crate::tui::session;

/// Arguments of `afk breakglass`.
#[derive(Debug, Args)]
pub struct BreakglassArgs {
    /// Don't speak with the afk that runs: go on without it and its journal
    #[arg(long, global = true)]
    alone: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Be allowed to use it for a while
    Arm(ArmArgs),
    /// Be allowed no longer
    Disarm,
    /// What the monitor says; "running" never proves health
    Status(VerbArgs),
    /// What the host sees of the VM; it changes nothing
    Forensics(VerbArgs),
    /// Recovery: forensics, stop (and kill if need be), start a fresh process
    Cycle(VerbArgs),
    /// Forensics, then power on
    Start(VerbArgs),
    /// Forensics, then power off at once
    Stop(VerbArgs),
    /// Forensics, then a reboot in the same QEMU process
    Reset(VerbArgs),
    /// Pin the key of a host, after you compared it
    Pin(PinArgs),
    /// The hypervisor's side: the script and its line in `authorized_keys`
    InstallHost(HostArgs),
    /// What to do where no cockpit is at hand
    Runbook,
}

#[derive(Debug, Args)]
struct ArmArgs {
    /// Why; others read it
    #[arg(required = true)]
    reason: Vec<String>,
    /// Also where somebody else is armed
    #[arg(long)]
    take_over: bool,
}

#[derive(Debug, Args)]
struct VerbArgs {
    /// Arm first, for this reason
    #[arg(long, value_name = "REASON")]
    arm: Option<String>,
    /// The VM's name, instead of being asked for it
    #[arg(long, value_name = "VM")]
    confirm: Option<String>,
    /// The VM's name once more, where there were too many mutations
    #[arg(long, value_name = "VM")]
    again: Option<String>,
}

#[derive(Debug, Args)]
struct PinArgs {
    /// `hypervisor`, or a host under [breakglass.hosts]
    name: String,
    /// The fingerprint that it must have, like SHA256:…, instead of being asked
    #[arg(long)]
    fingerprint: Option<String>,
}

#[derive(Debug, Args)]
struct HostArgs {
    /// Print the installer, to be read and run as root on the hypervisor
    #[arg(long, required = true)]
    print: bool,
    /// The public key that is to be let in
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The addresses that the hypervisor sees it come from
    #[arg(long, value_name = "ADDRESSES")]
    from: Option<String>,
    /// Until when, like 20270101Z
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(args: &BreakglassArgs, place: &PlaceArgs) -> Result<(), Failure> {
    if let Some(What::InstallHost(args)) = &args.what {
        return install_host(args);
    }
    let (config, paths) = place.load()?;
    let breakglass = config.breakglass.clone().ok_or_else(|| {
        Failure::new(Kind::Configuration, BreakglassRefusal::NotConfigured)
            .hint("assets/afk.toml has an example of [breakglass]")
    })?;
    match &args.what {
        Some(What::Pin(args)) => return pin(&breakglass, args).await,
        Some(What::Runbook) => {
            super::say(&runbook(&breakglass));
            return Ok(());
        }
        _ => {}
    }
    let (client, alone) = reach(args.alone, &config, &paths).await?;
    let done = match &args.what {
        None => show(&client).await,
        Some(What::Arm(args)) => {
            let (reason, take_over) = (args.reason.join(" ").into(), args.take_over);
            act(&client, BreakglassRequest::Arm { reason, take_over })
                .await
                .map(|_| say_armed(&client))
        }
        Some(What::Disarm) => act(&client, BreakglassRequest::Disarm).await.map(|_| ()),
        Some(What::Status(args)) => verb(&client, &breakglass, Verb::Status, args).await,
        Some(What::Forensics(args)) => verb(&client, &breakglass, Verb::Forensics, args).await,
        Some(What::Cycle(args)) => verb(&client, &breakglass, Verb::Cycle, args).await,
        Some(What::Start(args)) => verb(&client, &breakglass, Verb::Start, args).await,
        Some(What::Stop(args)) => verb(&client, &breakglass, Verb::Stop, args).await,
        Some(What::Reset(args)) => verb(&client, &breakglass, Verb::Reset, args).await,
        Some(What::Pin(_) | What::InstallHost(_) | What::Runbook) => Ok(()),
    };
    drop(client);
    if let Some(runtime) = alone {
        runtime.stop().await;
    }
    done
}

/// The afk that runs, or one that carries breakglass alone.
async fn reach(
    alone: bool,
    config: &Config,
    paths: &Paths,
) -> Result<(Client, Option<Runtime>), Failure> {
    if !alone {
        match join(config, paths, Role::Operator, "cli").await {
            Ok(client) => return Ok((client, None)),
            Err(AttachError::NotRunning(_)) => {}
            Err(error) => {
                let hint = "`afk breakglass --alone` goes on without it";
                return Err(Failure::from(error).hint(hint));
            }
        }
    }
    let launcher = super::own_program()?;
    let runtime = Runtime::alone(config.clone(), &paths.state, launcher).await?;
    complain("no afk is spoken with: this one carries breakglass alone, until it ends");
    let size = crossterm::terminal::size().unwrap_or((80, 24));
    let actor = runtime.handle.config.operator();
    let mut client = Client::near(&runtime.handle, actor, Role::Operator, "cli", size);
    // The rules are there once the first batch is.
    let ready = |now: &std::sync::Arc<Snapshot>| now.fleet.policy.breakglass.is_some();
    // Ended already is told by the first command.
    let _ = client.snapshots.wait_for(ready).await;
    for problem in &client.snapshots.borrow().problems {
        complain(problem);
    }
    Ok((client, Some(runtime)))
}

async fn show(client: &Client) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() {
        return Err(Failure::new(Kind::Usage, "standard output is no terminal")
            .hint("`afk breakglass status` and the other verbs need none"));
    }
    session::run_at(client, Pane::Breakglass).await
}

async fn act(client: &Client, ask: BreakglassRequest) -> Result<Accepted, Failure> {
    client.command(Command::Breakglass { ask }).await.map_err(|refusal| {
        let failure = Failure::new(Kind::No, &refusal);
        match refusal {
            Refusal::Breakglass { no: BreakglassRefusal::NotArmed } => {
                failure.hint("`afk breakglass arm REASON`, or --arm REASON with the verb")
            }
            Refusal::Breakglass { no: BreakglassRefusal::ArmedBy { .. } } => {
                failure.hint("`afk breakglass arm --take-over REASON`")
            }
            Refusal::Breakglass { no: BreakglassRefusal::TooMany { .. } } => {
                failure.hint("--again VM")
            }
            _ => failure,
        }
    })
}

fn say_armed(client: &Client) {
    let snapshot = client.snapshots.borrow();
    let minutes =
        snapshot.fleet.policy.breakglass.as_ref().map_or(0, |rules| rules.arm_ms / 60_000);
    super::say(&format!("armed for {minutes} min; others see it"));
}

async fn verb(
    client: &Client,
    breakglass: &BreakglassConfig,
    verb: Verb,
    args: &VerbArgs,
) -> Result<(), Failure> {
    if let Some(reason) = &args.arm {
        let ask = BreakglassRequest::Arm { reason: reason.as_str().into(), take_over: false };
        act(client, ask).await?;
        let mut snapshots = client.snapshots.clone();
        let armed = |now: &std::sync::Arc<Snapshot>| now.breakglass().armed.is_some();
        // Gone is told by the next command.
        let _ = snapshots.wait_for(armed).await;
    }
    complain(&format!("{}: {}", verb.as_str(), verb.explains()));
    let mut ask = BreakglassRequest::Verb { verb, confirm: None };
    if verb.mutates() {
        // Of what is there before the question is asked: what changes meanwhile makes it stale.
        let seen = client.snapshots.borrow().breakglass().seen(verb, &breakglass.vm);
        if let Some((at, word)) = &client.snapshots.borrow().breakglass().reads {
            let word = word.clean_line();
            complain(&format!("{} read {word} at {}", breakglass.vm, utc(at.0)));
        }
        let name = match &args.confirm {
            Some(name) => name.clone(),
            None => asked(&format!("type the VM's name to {}: ", verb.as_str()))?,
        };
        ask = BreakglassRequest::Verb {
            verb,
            confirm: Some(Confirmation { name, seen, again: args.again.clone() }),
        };
    }
    let Accepted::Verb { verb: id } = act(client, ask).await? else { return Ok(()) };
    let run = follow(client, id).await?;
    report(client, &run, &breakglass.vm).await
}

/// Prints what a verb writes until it ends.
async fn follow(client: &Client, id: VerbId) -> Result<VerbRun, Failure> {
    let mut snapshots = client.snapshots.clone();
    let (mut printed, mut link) = (0, String::new());
    loop {
        let now = snapshots.borrow_and_update().clone();
        if let Some(seen) = now.live.get(&id) {
            if seen.first > printed {
                complain(&format!("({} lines were too quick to be shown)", seen.first - printed));
                printed = seen.first;
            }
            for said in seen.lines.iter().skip(printed - seen.first) {
                let line = said.text.clean_line();
                if said.err { complain(&line) } else { super::say(&line) }
            }
            printed = seen.first + seen.lines.len();
            let standing = seen.link.clean_line();
            if standing != link && standing.contains("link") {
                complain(&standing);
            }
            link = standing;
        }
        let past = &now.breakglass().past;
        if let Some(run) = past.iter().find(|run| run.id == id) {
            return Ok(run.clone());
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() {
                return Err(Failure::new(Kind::System, "afk has ended; the verb goes on at the host")
                    .hint("`afk breakglass status` tells what became of it"));
            },
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(Kind::No, format!("{id} goes on at the host"))
                    .hint("`afk breakglass status` tells what became of it"));
            }
        }
    }
}

async fn report(client: &Client, run: &VerbRun, vm: &str) -> Result<(), Failure> {
    let Some((at, end)) = &run.end else { return Ok(()) };
    let ms = at.since(run.began);
    let (verb, result) = (run.verb.as_str(), &end.result);
    let mut line = format!(
        "{} {verb}: {} after {}.{} s",
        run.id,
        result.summary(),
        ms / 1000,
        ms % 1000 / 100
    );
    if let Some(reads) = &end.reads {
        line.push_str(&format!("; {vm} reads {}", reads.clean_line()));
    }
    complain(&line);
    if let Some(capture) = &end.capture {
        let kept = if capture.stored { "kept as" } else { "NOT kept on the disk:" };
        complain(&format!("{kept} {}", capture.digest));
    }
    if let (VerbResult::Unknown { .. }, true) = (result, run.verb.mutates()) {
        complain("asking the host for its status; nothing is tried again");
        let mut snapshots = client.snapshots.clone();
        let back = |now: &std::sync::Arc<Snapshot>| {
            let past = &now.breakglass().past;
            past.iter().any(|other| other.id > run.id && other.origin == "read back")
        };
        if let Ok(now) = snapshots.wait_for(back).await
            && let Some(read) = now.breakglass().past.iter().rev().find(|r| r.origin == "read back")
            && let Some((_, end)) = &read.end
        {
            let reads = end.reads.as_ref().map_or_else(
                || end.result.summary(),
                super::super::core::model::untrusted::Untrusted::clean_line,
            );
            complain(&format!("{vm} reads: {reads}"));
        }
    }
    if result.good() {
        return Ok(());
    }
    let kind = match result {
        VerbResult::Exited { code: 75 } => Kind::Busy,
        VerbResult::NotBegun { .. } => Kind::System,
        _ => Kind::No,
    };
    Err(Failure::new(kind, format!("{verb}: {}", result.summary())))
}

fn asked(question: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Kind::Usage, "nobody is there to be asked for the VM's name")
            .hint("--confirm VM"));
    }
    let mut err = std::io::stderr();
    write!(err, "{question}").and_then(|()| err.flush())?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

async fn pin(breakglass: &BreakglassConfig, args: &PinArgs) -> Result<(), Failure> {
    let name = &args.name;
    if breakglass.host(name).is_none() {
        let known: Vec<&str> =
            breakglass.hosts.keys().map(String::as_str).chain([HYPERVISOR]).collect();
        return Err(Failure::new(Kind::Usage, format!("there is no host {name:?}"))
            .hint(format!("one of: {}", known.join(", "))));
    }
    let pins = Pins::at(&breakglass.pins);
    let old = pins.of(name).ok().flatten();
    let key = ssh::offered(breakglass, name).await.map_err(|e| Failure::new(Kind::System, e))?;
    let new = fingerprint(&key);
    complain(&format!("pinned:  {}", old.as_ref().map_or_else(|| "nothing".into(), fingerprint)));
    complain(&format!("offered: {new}"));
    let right = if let Some(wanted) = &args.fingerprint {
        new.split(' ').any(|part| part == wanted)
    } else {
        complain("compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` over there");
        asked("type yes if it is the same: ")? == "yes"
    };
    if !right {
        return Err(Failure::new(Kind::No, format!("the key of {name} was not pinned")));
    }
    pins.set(name, &key, true).map_err(|error| Failure::new(Kind::System, error))?;
    super::say(&format!("{name} is pinned in {}", breakglass.pins.display()));
    Ok(())
}

fn install_host(args: &HostArgs) -> Result<(), Failure> {
    let key = std::fs::read_to_string(&args.key)
        .map_err(|error| Failure::new(Kind::Usage, format!("{}: {error}", args.key.display())))?;
    let line = host::line(&key, args.from.as_deref(), args.expires.as_deref());
    let line = line.map_err(|why| Failure::new(Kind::Usage, why))?;
    if args.from.is_none() {
        complain("without --from the key works from everywhere");
    }
    super::say(host::installer(&line).trim_end());
    Ok(())
}

/// The cold path, in the words of this configuration.
fn runbook(breakglass: &BreakglassConfig) -> String {
    let (vm, cold) = (&breakglass.vm, breakglass.cold_command());
    format!(
        "{vm} is wedged and no cockpit is at hand\n\n\
         1. What does the host say? \"running\" never proves health.\n     {cold}\n\
         2. The same with `forensics` at its end, and keep what it writes.\n\
         3. The same with `cycle` at its end: forensics, stop, kill if need be, start. Up to 4 min.\n\
         \x20  When the link is cut it goes on: ask for `status` again, and don't repeat it.\n\
         4. The host itself is down: its out-of-band console. Nothing here reaches it.\n\n\
         No AI, no name server, no cluster and no database is in this path."
    )
}

/// A time in UTC, with its zone.
fn utc(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| format!("{at:.0}"))
}

/// One line to standard error.
fn complain(line: &str) {
    // Nobody may be reading.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
