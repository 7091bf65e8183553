//! `afk breakglass`: arming, the verbs, the pins and the hypervisor's side.
//!
//! It uses the running afk. Without one, or with `--alone`, it runs breakglass in this process, with a
//! journal if that can be written.

mod runbook;
mod setup;
pub(super) mod tools;

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::attach::connect;
use crate::cli::instance::InstanceArgs;
use crate::cli::terminal::{self, ask, print_line, print_remark};
use crate::config::Config;
use crate::config::breakglass::BreakglassConfig;
use crate::config::paths::Paths;
use crate::core::model::breakglass::{
    BreakglassRefusal, BreakglassRequest, Confirmation, Verb, VerbId, VerbOrigin, VerbResult,
    VerbRun,
};
use crate::core::model::command::{Accepted, Command, Refusal, Role};
use crate::core::model::plural::plural;
use crate::core::model::untrusted::Untrusted;
use crate::error::{Failure, FailureKind};
use crate::runtime::client::Client;
use crate::runtime::{Runtime, Snapshot};
use crate::serve::attach::connection::AttachError;
use crate::tui::session::{self, Start};

#[derive(Debug, Args)]
pub(super) struct BreakglassArgs {
    /// Work without the running afk and its journal
    #[arg(long, global = true)]
    alone: bool,
    #[command(subcommand)]
    command: Option<BreakglassCommand>,
}

#[derive(Debug, Subcommand)]
enum BreakglassCommand {
    /// Arm breakglass for a limited time
    Arm(ArmArgs),
    /// Disarm breakglass at once
    Disarm,
    /// Read the VM's status from its monitor; "running" never proves health
    Status(VerbArgs),
    /// Collect what the hypervisor sees of the VM; this starts, stops and resets nothing
    Forensics(VerbArgs),
    /// Recover: forensics, stop (or kill), start a new process
    Cycle(VerbArgs),
    /// Forensics, then power on
    Start(VerbArgs),
    /// Forensics, then power off at once
    Stop(VerbArgs),
    /// Forensics, then a reboot in the same QEMU process
    Reset(VerbArgs),
    /// Pin the key of a host after you have compared it
    Pin(PinArgs),
    /// Print the installer of the hypervisor's side: the script and its line in `authorized_keys`
    InstallHost(HostArgs),
    /// Print the steps that need no afk at all
    Runbook,
}

impl BreakglassCommand {
    /// The verb that the command runs, with its arguments.
    const fn verb(&self) -> Option<(Verb, &VerbArgs)> {
        Some(match self {
            Self::Status(args) => (Verb::Status, args),
            Self::Forensics(args) => (Verb::Forensics, args),
            Self::Cycle(args) => (Verb::Cycle, args),
            Self::Start(args) => (Verb::Start, args),
            Self::Stop(args) => (Verb::Stop, args),
            Self::Reset(args) => (Verb::Reset, args),
            Self::Arm(_) | Self::Disarm | Self::Pin(_) | Self::InstallHost(_) | Self::Runbook => {
                return None;
            }
        })
    }
}

#[derive(Debug, Args)]
struct ArmArgs {
    /// The reason, which other operators read
    #[arg(required = true)]
    reason: Vec<String>,
    /// Take over from another operator who is armed
    #[arg(long)]
    take_over: bool,
}

#[derive(Debug, Args)]
struct VerbArgs {
    /// Arm first, with this reason
    #[arg(long, value_name = "REASON")]
    arm: Option<String>,
    /// The VM's name as a confirmation, instead of a prompt
    #[arg(long, value_name = "VM")]
    confirm: Option<String>,
    /// The VM's name once more, after too many mutations in a short time
    #[arg(long, value_name = "VM")]
    again: Option<String>,
}

#[derive(Debug, Args)]
struct PinArgs {
    /// `hypervisor`, or a host under [breakglass.hosts]
    name: String,
    /// The fingerprint that the key must have, like SHA256:…, instead of a prompt
    #[arg(long)]
    fingerprint: Option<String>,
}

#[derive(Debug, Args)]
struct HostArgs {
    /// Print the installer; read it, then run it as root on the hypervisor
    #[arg(long, required = true)]
    print: bool,
    /// The public key to admit
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The addresses that the key may connect from
    #[arg(long, value_name = "ADDRESSES")]
    from: Option<String>,
    /// The time at which the key expires, like 20270101Z
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

pub(super) async fn run(args: &BreakglassArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    if let Some(BreakglassCommand::InstallHost(args)) = &args.command {
        return setup::install_host(args);
    }
    let (config, paths) = instance.load()?;
    let breakglass = config.breakglass.clone().ok_or_else(|| {
        Failure::new(FailureKind::Configuration, BreakglassRefusal::NotConfigured)
            .hint("assets/afk.toml has an example of [breakglass]")
    })?;
    match &args.command {
        Some(BreakglassCommand::Pin(args)) => return setup::pin(&breakglass, args).await,
        Some(BreakglassCommand::Runbook) => {
            setup::print_runbook(&breakglass, &paths.config);
            return Ok(());
        }
        _ => {}
    }
    let (client, own_runtime) = connect_or_start(args.alone, &config, &paths).await?;
    if !matches!(args.command, Some(BreakglassCommand::Arm(_) | BreakglassCommand::Disarm)) {
        setup::unlock_keys(&client).await?;
    }
    let done = match &args.command {
        None => show_pane(&client).await,
        Some(BreakglassCommand::Arm(args)) => {
            let (reason, take_over) = (args.reason.join(" ").into(), args.take_over);
            request(&client, BreakglassRequest::Arm { reason, take_over })
                .await
                .map(|_| print_arming(&client))
        }
        Some(BreakglassCommand::Disarm) => {
            request(&client, BreakglassRequest::Disarm).await.map(|_| ())
        }
        Some(command) => match command.verb() {
            Some((verb, args)) => run_verb(&client, &breakglass, verb, args).await,
            None => Ok(()),
        },
    };
    drop(client);
    if let Some(runtime) = own_runtime {
        runtime.stop().await;
    }
    done
}

/// Attaches to the running afk, or starts a runtime for breakglass alone in this process.
async fn connect_or_start(
    alone: bool,
    config: &Config,
    paths: &Paths,
) -> Result<(Client, Option<Runtime>), Failure> {
    if !alone {
        match connect(config, paths, Role::Operator, "cli").await {
            Ok(client) => return Ok((client, None)),
            Err(AttachError::NotRunning(_)) => {}
            Err(error) => {
                let hint = "`afk breakglass --alone` works without it";
                return Err(Failure::from(error).hint(hint));
            }
        }
    }
    let launcher = crate::cli::own_program()?;
    let runtime = Runtime::alone(config.clone(), &paths.state, launcher).await?;
    print_remark("no afk is used: this command runs breakglass alone until it ends");
    let size = terminal::size();
    let actor = runtime.handle.config.operator();
    let mut client = Client::local(&runtime.handle, actor, Role::Operator, "cli", size);
    // The rules arrive with the first batch.
    let ready = |now: &std::sync::Arc<Snapshot>| now.fleet.policy.breakglass.is_some();
    // The first command reports a runtime that has already ended.
    let _ = client.snapshots.wait_for(ready).await;
    for problem in &client.snapshots.borrow().problems {
        print_remark(problem);
    }
    Ok((client, Some(runtime)))
}

async fn show_pane(client: &Client) -> Result<(), Failure> {
    terminal::require("`afk breakglass status` and the other verbs need none")?;
    session::run(client, Start::Breakglass).await
}

async fn request(client: &Client, ask: BreakglassRequest) -> Result<Accepted, Failure> {
    client.command(Command::Breakglass { request: ask }).await.map_err(|refusal| {
        let failure = Failure::new(FailureKind::Negative, &refusal);
        match refusal {
            Refusal::Breakglass { reason: BreakglassRefusal::NotArmed } => {
                failure.hint("`afk breakglass arm REASON`, or --arm REASON with the verb")
            }
            Refusal::Breakglass { reason: BreakglassRefusal::ArmedBy { .. } } => {
                failure.hint("`afk breakglass arm --take-over REASON`")
            }
            Refusal::Breakglass { reason: BreakglassRefusal::TooMany { .. } } => {
                failure.hint("repeat the command with --again VM")
            }
            _ => failure,
        }
    })
}

fn print_arming(client: &Client) {
    let snapshot = client.snapshots.borrow();
    let minutes =
        snapshot.fleet.policy.breakglass.as_ref().map_or(0, |rules| rules.arm_ms / 60_000);
    print_line(&format!("armed for {minutes} min; the other operators see it"));
}

async fn run_verb(
    client: &Client,
    breakglass: &BreakglassConfig,
    verb: Verb,
    args: &VerbArgs,
) -> Result<(), Failure> {
    if let Some(reason) = &args.arm {
        let arm = BreakglassRequest::Arm { reason: reason.as_str().into(), take_over: false };
        request(client, arm).await?;
        let mut snapshots = client.snapshots.clone();
        let armed = |now: &std::sync::Arc<Snapshot>| now.breakglass().armed.is_some();
        // The next command reports a connection that is lost.
        let _ = snapshots.wait_for(armed).await;
    }
    print_remark(&format!("{}: {}", verb.as_str(), verb.explains()));
    let mut wanted = BreakglassRequest::Verb { verb, confirm: None };
    if verb.mutates() {
        // The state before the prompt: a change while the user types makes the confirmation stale.
        let seen = client.snapshots.borrow().breakglass().seen(verb, &breakglass.vm);
        if let Some((at, reading)) = &client.snapshots.borrow().breakglass().reads {
            let reading = reading.clean_line();
            print_remark(&format!("{} read {reading} at {}", breakglass.vm, utc(at.0)));
        }
        for warning in &client.snapshots.borrow().breakglass().warnings {
            print_remark(&format!("warning: {}", warning.clean_line()));
        }
        let name = if let Some(name) = &args.confirm {
            name.clone()
        } else {
            prompt(&format!("type the VM's name to {}: ", verb.as_str()), "--confirm VM")?
        };
        wanted = BreakglassRequest::Verb {
            verb,
            confirm: Some(Confirmation { name, seen, again: args.again.clone() }),
        };
    }
    let Accepted::Verb { verb: id } = request(client, wanted).await? else { return Ok(()) };
    let run = print_output(client, id).await?;
    print_result(client, &run, &breakglass.vm).await
}

/// Prints the output of a verb until the verb ends.
async fn print_output(client: &Client, id: VerbId) -> Result<VerbRun, Failure> {
    let mut snapshots = client.snapshots.clone();
    let (mut printed, mut link) = (0, String::new());
    loop {
        let now = snapshots.borrow_and_update().clone();
        if let Some(seen) = now.verb_output.get(&id) {
            if seen.first > printed {
                print_remark(&format!(
                    "({} skipped: the verb wrote too fast)",
                    plural(seen.first - printed, "line")
                ));
                printed = seen.first;
            }
            for written in seen.lines.iter().skip(printed - seen.first) {
                let line = written.text.clean_line();
                if written.err { print_remark(&line) } else { print_line(&line) }
            }
            printed = seen.first + seen.lines.len();
            let state = seen.link.clean_line();
            let shown = ["link", "touch", "ssh-agent"];
            if state != link && shown.iter().any(|word| state.contains(word)) {
                print_remark(&state);
            }
            link = state;
        }
        let past = &now.breakglass().past;
        if let Some(run) = past.iter().find(|run| run.id == id) {
            return Ok(run.clone());
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() {
                return Err(Failure::new(FailureKind::System, "afk has ended; the verb continues at the host")
                    .hint("`afk breakglass status` reads the VM's state"));
            },
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(FailureKind::Negative, format!("{id} continues at the host"))
                    .hint("`afk breakglass status` reads the VM's state"));
            }
        }
    }
}

/// Prints the result of a verb. After an unknown outcome it waits for the status that the runtime then
/// reads from the host.
async fn print_result(client: &Client, run: &VerbRun, vm: &str) -> Result<(), Failure> {
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
    print_remark(&line);
    // Those of a reading verb are the end of its output.
    for warning in end.warnings.iter().filter(|_| run.verb.mutates()) {
        print_remark(&format!("warning: {}", warning.clean_line()));
    }
    if let Some(capture) = &end.capture {
        let stored = if capture.stored { "stored as" } else { "NOT stored on the disk:" };
        print_remark(&format!("{stored} {}", capture.digest));
    }
    if let (VerbResult::Unknown { .. }, true) = (result, run.verb.mutates()) {
        print_remark("reading the status from the host; afk does not repeat the verb");
        let mut snapshots = client.snapshots.clone();
        let back = |now: &std::sync::Arc<Snapshot>| {
            let past = &now.breakglass().past;
            past.iter().any(|other| other.id > run.id && other.origin == VerbOrigin::ReadBack)
        };
        if let Ok(now) = snapshots.wait_for(back).await
            && let Some(read) =
                now.breakglass().past.iter().rev().find(|r| r.origin == VerbOrigin::ReadBack)
            && let Some((_, end)) = &read.end
        {
            let reads =
                end.reads.as_ref().map_or_else(|| end.result.summary(), Untrusted::clean_line);
            print_remark(&format!("{vm} reads: {reads}"));
        }
    }
    if result.good() {
        return Ok(());
    }
    let kind = match result {
        VerbResult::Exited { code: 75 } => FailureKind::Busy,
        VerbResult::NotBegun { .. } => FailureKind::System,
        _ => FailureKind::Negative,
    };
    Err(Failure::new(kind, format!("{verb}: {}", result.summary())))
}

/// Asks the user on standard error, so that the output of a verb stays clean.
fn prompt(question: &str, flag: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(FailureKind::Usage, "standard input is not a terminal to ask on")
            .hint(format!("answer with {flag}")));
    }
    Ok(ask(std::io::stderr(), question)?)
}

/// Formats milliseconds since the epoch as a time in UTC.
fn utc(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| format!("{at:.0}"))
}
