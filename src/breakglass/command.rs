//! Runs one command on a host, for the breakglass agent: sends it once, collects its output, and
//! reports how it ended. A command whose end nobody observed is UNKNOWN and never sent again.

use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, Sig};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::ssh::{SshSession, connect};
use super::verb::{AFTER_STATUS, BoundedOutput, STOPPED};
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
    let opened = tokio::select! {
        // A stop wins also where the host opens the channel at the same moment.
        biased;
        () = stop.cancelled() => Err(STOPPED.into()),
        opened = timeout_at(until, open(breakglass, host)) => {
            opened.unwrap_or_else(|_| Err(format!("the host did not answer in {} s", limit.as_secs())))
        }
    };
    let (_session, mut channel) = match opened {
        Ok(_) if stop.is_cancelled() => {
            return CommandReport { end: CommandEnd::NotBegun(STOPPED.into()), output };
        }
        Ok(opened) => opened,
        Err(why) => return CommandReport { end: CommandEnd::NotBegun(why), output },
    };
    let sent = tokio::select! {
        biased;
        () = stop.cancelled() => Err("the agent was stopped as the command was sent".into()),
        sent = timeout_at(until, channel.exec(true, command.as_bytes())) => match sent {
            Ok(sent) => sent.map_err(|error| chain(&error)),
            Err(_) => Err("the host accepted no command in time".into()),
        }
    };
    if let Err(why) = sent {
        return CommandReport { end: CommandEnd::Unknown(why), output };
    }
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

/// Logs in and opens a channel, on which nothing runs yet; or returns why that failed.
async fn open(
    breakglass: &BreakglassConfig,
    host: &str,
) -> Result<(SshSession, Channel<Msg>), String> {
    let session = connect(breakglass, host).await.map_err(|error| chain(&error))?;
    let channel = session.handle.channel_open_session().await.map_err(|error| chain(&error))?;
    Ok((session, channel))
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

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use russh::ChannelId;
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::LineEnding;
    use russh::keys::ssh_key::private::Ed25519Keypair;
    use russh::server::{
        Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
        run_stream,
    };
    use tokio::net::TcpListener;
    use tokio::sync::{Notify, mpsc};

    use super::*;

    /// The longest that a part of a test may take.
    pub const LONG: Duration = Duration::from_secs(30);

    /// A wedged host. It accepts every login; it opens a channel when the test lets it.
    struct WedgedHost {
        asked: Arc<Notify>,
        opens: Arc<Notify>,
        commands: mpsc::UnboundedSender<String>,
        channel: Option<Channel<Msg>>,
    }

    impl Handler for WedgedHost {
        type Error = russh::Error;

        async fn auth_publickey_offered(
            &mut self,
            _user: &str,
            _offer: PublicKeyOffer<'_>,
        ) -> Result<Auth, Self::Error> {
            Ok(Auth::Accept)
        }

        async fn auth_publickey(
            &mut self,
            _user: &str,
            _key: VerifiedPublicKey<'_>,
        ) -> Result<Auth, Self::Error> {
            Ok(Auth::Accept)
        }

        async fn channel_open_session(
            &mut self,
            channel: Channel<Msg>,
            reply: ChannelOpenHandle,
            _session: &mut Session,
        ) -> Result<(), Self::Error> {
            self.asked.notify_one();
            let opens = self.opens.clone();
            tokio::spawn(async move {
                opens.notified().await;
                reply.accept().await;
            });
            self.channel = Some(channel);
            Ok(())
        }

        async fn exec_request(
            &mut self,
            channel: ChannelId,
            data: &[u8],
            session: &mut Session,
        ) -> Result<(), Self::Error> {
            self.commands.send(String::from_utf8_lossy(data).into_owned()).unwrap();
            session.channel_success(channel)?;
            session.exit_status_request(channel, 7)?;
            session.close(channel)
        }
    }

    /// A wedged host on the loopback, and the configuration that leads to it.
    pub struct Wedged {
        pub config: BreakglassConfig,
        pub asked: Arc<Notify>,
        pub opens: Arc<Notify>,
        /// The commands that reach the host; ends with the connection.
        pub commands: mpsc::UnboundedReceiver<String>,
        _folder: tempfile::TempDir,
    }

    impl Wedged {
        pub async fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let key = |seed| PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
            let (own, hosts) = (folder.path().join("key"), key(2));
            std::fs::write(&own, key(1).to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
            std::fs::set_permissions(&own, PermissionsExt::from_mode(0o600)).unwrap();
            let pins = folder.path().join("pins");
            let pin = hosts.public_key().to_openssh().unwrap();
            std::fs::write(&pins, format!("devvm {pin}\nhypervisor {pin}\n")).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let login = format!("address = '{address}'\nuser = 'dev'\nkey = '{}'", own.display());
            let text = format!(
                "vm = 'devvm'\npins = '{}'\n[hypervisor]\n{login}\n[hosts.devvm]\n{login}\n",
                pins.display()
            );
            let (sender, commands) = mpsc::unbounded_channel();
            let (asked, opens) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let host = WedgedHost {
                asked: asked.clone(),
                opens: opens.clone(),
                commands: sender,
                channel: None,
            };
            tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let config = Arc::new(Config { keys: vec![hosts], ..Config::default() });
                // The client ends the connection in any way.
                let _ = run_stream(config, stream, host).await.unwrap().await;
            });
            let config = toml::from_str(&text).unwrap();
            Self { config, asked, opens, commands, _folder: folder }
        }

        /// Runs a command, and does `then` once the host is asked for a channel.
        async fn run(&self, stop: &CancellationToken, then: impl FnOnce()) -> CommandEnd {
            let run = run(&self.config, "devvm", "reboot", Duration::from_secs(3600), stop);
            let then = async {
                self.asked.notified().await;
                then();
            };
            timeout(LONG, async { tokio::join!(run, then) }).await.expect("an end").0.end
        }
    }

    #[tokio::test]
    async fn stop_sends_no_command_to_a_host_that_opens_the_channel_late() {
        for opens in [false, true] {
            let (mut host, stop) = (Wedged::start().await, CancellationToken::new());
            let end = host
                .run(&stop, || {
                    stop.cancel();
                    if opens {
                        host.opens.notify_one();
                    }
                })
                .await;
            assert_eq!(end, CommandEnd::NotBegun(STOPPED.into()), "{opens}");
            host.opens.notify_one();
            let received = timeout(LONG, host.commands.recv()).await;
            assert_eq!(received.expect("the end of the connection"), None, "{opens}");
        }
    }

    #[tokio::test]
    async fn command_begins_once_the_host_opens_the_channel() {
        let (mut host, stop) = (Wedged::start().await, CancellationToken::new());
        assert_eq!(host.run(&stop, || host.opens.notify_one()).await, CommandEnd::Exited(7));
        assert_eq!(host.commands.recv().await.as_deref(), Some("reboot"));
    }
}
