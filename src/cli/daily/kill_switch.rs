//! `afk kill-switch`: shows the kill switch, or turns it on or off. While no afk runs, the command goes
//! into the journal for the next one.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::send::{ReplyArgs, report};
use crate::cli::instance::InstanceArgs;
use crate::cli::submit::write_to_journal;
use crate::cli::terminal::{print_json, print_line};
use crate::core::fleet::Fleet;
use crate::core::model::command::{Command, CommandEnvelope};
use crate::error::Failure;
use crate::serve::attach::client;

#[derive(Debug, Args)]
pub(in crate::cli) struct KillSwitchArgs {
    /// The position to set [default: only show it]
    position: Option<SwitchPosition>,
    #[command(flatten)]
    reply: ReplyArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SwitchPosition {
    On,
    Off,
}

pub(super) async fn run(args: &KillSwitchArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let Some(position) = args.position else { return show(args.reply.json, instance) };
    let on = position == SwitchPosition::On;
    let (config, paths) = instance.load()?;
    let command = Command::SetKillSwitch { on };
    let hello = client::hello(&config, args.reply.role(), "cli", (0, 0));
    let sent = client::send_command(&paths.state, hello, command.clone()).await?;
    let reply = if let Some(reply) = sent {
        reply
    } else {
        let (actor, origin, role) = (config.operator(), "cli".to_owned(), args.reply.role());
        let envelope = CommandEnvelope { id: 1, actor, role, origin, command: command.clone() };
        write_to_journal(&config, &paths.state, envelope)?
    };
    report(&args.reply, &command, reply, &position_line(&instance.fleet()?, on))
}

fn show(json: bool, instance: &InstanceArgs) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let (operator, configuration) = (fleet.operator_kill, fleet.policy.kill_switch);
    let on = operator || configuration;
    if json {
        print_json(&json!({ "on": on, "operator": operator, "configuration": configuration }));
        return Ok(());
    }
    let line = position_line(&fleet, on);
    print_line(&if configuration { format!("{line} (set in the configuration)") } else { line });
    Ok(())
}

fn position_line(fleet: &Fleet, on: bool) -> String {
    if !on {
        return "kill switch off: afk picks up issues".into();
    }
    let working: Vec<String> =
        fleet.live_runs().filter(|run| run.busy()).map(|run| run.id.to_string()).collect();
    let go_on = match working.as_slice() {
        [] => String::new(),
        [one] => format!("; {one} goes on"),
        all => format!("; {} go on", all.join(", ")),
    };
    format!("kill switch ON: nothing new starts{go_on}. `afk kill-switch off` lifts it")
}
