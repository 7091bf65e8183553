//! `afk breakglass`: arming, the verbs, the pins and the hypervisor's side.
//!
//! It uses the running afk. Without one, or with `--alone`, it runs breakglass in this process, with a
//! journal if that can be written.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::attach::connect;
use super::instance::InstanceArgs;
use super::terminal::{self, ask, print_line, print_remark};
use crate::breakglass::pins::{Pins, fingerprint};
use crate::breakglass::{host, ssh};
use crate::config::Config;
use crate::config::breakglass::{BreakglassConfig, HYPERVISOR};
use crate::config::paths::Paths;
use crate::core::model::breakglass::{
    BreakglassRefusal, BreakglassRequest, Confirmation, Verb, VerbId, VerbResult, VerbRun,
};
use crate::core::model::command::{Accepted, Command, Refusal, Role};
use crate::core::model::plural::plural;
use crate::core::model::untrusted::Untrusted;
use crate::error::{Failure, Kind};
use crate::runtime::client::Client;
use crate::runtime::{Runtime, Snapshot};
use crate::serve::attach::client::AttachError;
use crate::tui::panes::Pane;
use crate::tui::session;

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
    /// Disarm breakglass
    Disarm,
    /// Read the VM's status from its monitor; "running" never proves health
    Status(VerbArgs),
    /// Collect what the host sees of the VM; it changes nothing
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
        return install_host(args);
    }
    let (config, paths) = instance.load()?;
    let breakglass = config.breakglass.clone().ok_or_else(|| {
        Failure::new(Kind::Configuration, BreakglassRefusal::NotConfigured)
            .hint("assets/afk.toml has an example of [breakglass]")
    })?;
    match &args.command {
        Some(BreakglassCommand::Pin(args)) => return pin(&breakglass, args).await,
        Some(BreakglassCommand::Runbook) => {
            print_line(&runbook(&breakglass));
            return Ok(());
        }
        _ => {}
    }
    let (client, own_runtime) = connect_or_start(args.alone, &config, &paths).await?;
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
        Some(BreakglassCommand::Status(args)) => {
            run_verb(&client, &breakglass, Verb::Status, args).await
        }
        Some(BreakglassCommand::Forensics(args)) => {
            run_verb(&client, &breakglass, Verb::Forensics, args).await
        }
        Some(BreakglassCommand::Cycle(args)) => {
            run_verb(&client, &breakglass, Verb::Cycle, args).await
        }
        Some(BreakglassCommand::Start(args)) => {
            run_verb(&client, &breakglass, Verb::Start, args).await
        }
        Some(BreakglassCommand::Stop(args)) => {
            run_verb(&client, &breakglass, Verb::Stop, args).await
        }
        Some(BreakglassCommand::Reset(args)) => {
            run_verb(&client, &breakglass, Verb::Reset, args).await
        }
        Some(
            BreakglassCommand::Pin(_)
            | BreakglassCommand::InstallHost(_)
            | BreakglassCommand::Runbook,
        ) => Ok(()),
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
    let launcher = super::own_program()?;
    let runtime = Runtime::alone(config.clone(), &paths.state, launcher).await?;
    print_remark("no afk is used: this command runs breakglass alone until it ends");
    let size = terminal::size();
    let actor = runtime.handle.config.operator();
    let mut client = Client::near(&runtime.handle, actor, Role::Operator, "cli", size);
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
    session::run_at(client, Pane::Breakglass).await
}

async fn request(client: &Client, ask: BreakglassRequest) -> Result<Accepted, Failure> {
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
        let name = match &args.confirm {
            Some(name) => name.clone(),
            None => {
                let question = format!("type the VM's name to {}: ", verb.as_str());
                prompt(&question, "--confirm VM")?
            }
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
        if let Some(seen) = now.live.get(&id) {
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
            if state != link && state.contains("link") {
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
                return Err(Failure::new(Kind::System, "afk has ended; the verb continues at the host")
                    .hint("`afk breakglass status` reads the VM's state"));
            },
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(Kind::No, format!("{id} continues at the host"))
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
    if let Some(capture) = &end.capture {
        let stored = if capture.stored { "stored as" } else { "NOT stored on the disk:" };
        print_remark(&format!("{stored} {}", capture.digest));
    }
    if let (VerbResult::Unknown { .. }, true) = (result, run.verb.mutates()) {
        print_remark("reading the status from the host; afk does not repeat the verb");
        let mut snapshots = client.snapshots.clone();
        let back = |now: &std::sync::Arc<Snapshot>| {
            let past = &now.breakglass().past;
            past.iter().any(|other| other.id > run.id && other.origin == "read back")
        };
        if let Ok(now) = snapshots.wait_for(back).await
            && let Some(read) = now.breakglass().past.iter().rev().find(|r| r.origin == "read back")
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
        VerbResult::Exited { code: 75 } => Kind::Busy,
        VerbResult::NotBegun { .. } => Kind::System,
        _ => Kind::No,
    };
    Err(Failure::new(kind, format!("{verb}: {}", result.summary())))
}

/// Asks the user on standard error, so that the output of a verb stays clean.
fn prompt(question: &str, flag: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Kind::Usage, "standard input is not a terminal to ask on")
            .hint(format!("answer with {flag}")));
    }
    Ok(ask(std::io::stderr(), question)?)
}

async fn pin(breakglass: &BreakglassConfig, args: &PinArgs) -> Result<(), Failure> {
    let name = &args.name;
    if breakglass.host(name).is_none() {
        let known: Vec<&str> =
            breakglass.hosts.keys().map(String::as_str).chain([HYPERVISOR]).collect();
        return Err(Failure::new(Kind::Usage, format!("there is no host {name:?}"))
            .hint(format!("use one of: {}", known.join(", "))));
    }
    let pins = Pins::at(&breakglass.pins);
    let old = pins.of(name).ok().flatten();
    let key = ssh::offered(breakglass, name).await.map_err(|e| Failure::new(Kind::System, e))?;
    let new = fingerprint(&key);
    print_remark(&format!(
        "pinned:  {}",
        old.as_ref().map_or_else(|| "no key".into(), fingerprint)
    ));
    print_remark(&format!("offered: {new}"));
    let confirmed = if let Some(wanted) = &args.fingerprint {
        new.split(' ').any(|part| part == wanted)
    } else {
        print_remark(
            "compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on that host",
        );
        prompt("type yes if they are equal: ", "--fingerprint SHA256:…")? == "yes"
    };
    if !confirmed {
        return Err(Failure::new(Kind::No, format!("the key of {name} was not pinned")));
    }
    pins.set(name, &key, true).map_err(|error| Failure::new(Kind::System, error))?;
    print_line(&format!("{name} is pinned in {}", breakglass.pins.display()));
    Ok(())
}

fn install_host(args: &HostArgs) -> Result<(), Failure> {
    let key = std::fs::read_to_string(&args.key)
        .map_err(|error| Failure::new(Kind::Usage, format!("{}: {error}", args.key.display())))?;
    let line = host::line(&key, args.from.as_deref(), args.expires.as_deref());
    let line = line.map_err(|why| Failure::new(Kind::Usage, why))?;
    if args.from.is_none() {
        print_remark("without --from the key is admitted from every address");
    }
    print_line(host::installer(&line).trim_end());
    Ok(())
}

/// The steps that need no afk, with the addresses of this configuration. To be printed on paper.
fn runbook(breakglass: &BreakglassConfig) -> String {
    let (vm, command) = (&breakglass.vm, breakglass.cold_command());
    format!(
        "{vm} is wedged and afk is not available\n\n\
         1. Read the status from the host. \"running\" never proves health.\n     {command}\n\
         2. Repeat it with `forensics` at its end, and keep the output.\n\
         3. Repeat it with `cycle` at its end: forensics, stop or kill, start. It takes up to 4 min.\n\
         \x20  If the connection breaks, it continues: read `status` again, and do not repeat it.\n\
         4. If the host itself is down, use its out-of-band console. Nothing here reaches it.\n\n\
         This path needs no AI, name server, cluster or database."
    )
}

/// Formats milliseconds since the epoch as a time in UTC.
fn utc(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| format!("{at:.0}"))
}
