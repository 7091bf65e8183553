//! Runs one command on a host, for the breakglass agent: sends it once, collects its output, and
//! reports how it ended. A command whose end nobody observed is UNKNOWN and never sent again.

use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, Sig};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::ssh::connect;
use super::verb::{AFTER_STATUS, BoundedOutput};
use crate::config::breakglass::BreakglassConfig;
use crate::error::chain;

/// The most bytes that are kept of a command's output.
const MAX_OUTPUT: usize = 48 * 1024;
/// The longest that ending a command on the host may take.
const END: Duration = Duration::from_secs(2);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandEnd {
    Exited(u32),
    /// The command never reached the host.
    NotBegun(String),
    /// A signal ended it.
    Signalled(String),
    /// The command may have taken effect, and may still run.
    Unknown(String),
}

impl CommandEnd {
    /// The end in a few words.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Exited(code) => format!("exit code {code}"),
            Self::NotBegun(why) => format!("did not begin: {why}"),
            Self::Signalled(signal) => format!("ended by the signal {signal}"),
            Self::Unknown(why) => format!("UNKNOWN: {why}"),
        }
    }
}

/// The end of a command, and the beginning of its standard output and standard error together.
#[derive(Debug)]
pub(crate) struct CommandReport {
    pub end: CommandEnd,
    pub output: BoundedOutput,
}

/// Runs a command within `limit`, or until `stop`.
pub(crate) async fn run(
    breakglass: &BreakglassConfig,
    host: &str,
    command: &str,
    limit: Duration,
    stop: &CancellationToken,
) -> CommandReport {
    let until = Instant::now() + limit;
    let mut output = BoundedOutput::new(MAX_OUTPUT);
    let connected = tokio::select! {
        connected = timeout_at(until, connect(breakglass, host)) => connected,
        () = stop.cancelled() => {
            return CommandReport { end: CommandEnd::NotBegun("the agent was stopped".into()), output };
        }
    };
    let session = match connected {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => {
            return CommandReport { end: CommandEnd::NotBegun(chain(&error)), output };
        }
        Err(_) => {
            let why = format!("the host did not answer in {} s", limit.as_secs());
            return CommandReport { end: CommandEnd::NotBegun(why), output };
        }
    };
    let open = async {
        let channel = session.handle.channel_open_session().await?;
        channel.exec(true, command.as_bytes()).await?;
        Ok::<_, russh::Error>(channel)
    };
    let mut channel = match timeout_at(until, open).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => {
            return CommandReport { end: CommandEnd::Unknown(chain(&error)), output };
        }
        Err(_) => {
            let why = "the host accepted no command in time".into();
            return CommandReport { end: CommandEnd::Unknown(why), output };
        }
    };
    let end = tokio::select! {
        end = follow(&mut channel, until, &mut output) => end,
        () = stop.cancelled() => {
            CommandEnd::Unknown("the agent was stopped; the command may go on at the host".into())
        }
    };
    if matches!(end, CommandEnd::Unknown(_)) {
        // The host may not support signals; closing the channel is all that is left then.
        let _ = timeout(END, channel.signal(Sig::TERM)).await;
        let _ = timeout(END, channel.close()).await;
    }
    CommandReport { end, output }
}

async fn follow(
    channel: &mut Channel<Msg>,
    until: Instant,
    output: &mut BoundedOutput,
) -> CommandEnd {
    let mut code = None;
    loop {
        let limit = code.map_or(until, |_| until.min(Instant::now() + AFTER_STATUS));
        let Ok(message) = timeout_at(limit, channel.wait()).await else {
            let late = "it did not end in time, and may go on at the host";
            return code.map_or_else(|| CommandEnd::Unknown(late.into()), CommandEnd::Exited);
        };
        match message {
            Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => {
                output.extend(&data);
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => code = Some(exit_status),
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                return CommandEnd::Signalled(format!("{signal_name:?}"));
            }
            Some(ChannelMsg::Failure) => {
                return CommandEnd::NotBegun("the host refuses commands".into());
            }
            Some(ChannelMsg::Close) | None => {
                let lost = "link lost; the command may go on at the host";
                return code.map_or_else(|| CommandEnd::Unknown(lost.into()), CommandEnd::Exited);
            }
            Some(_) => {}
        }
    }
}
