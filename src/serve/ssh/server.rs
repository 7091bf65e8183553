//! The SSH server: it admits keys, opens a cockpit per session channel, and bounds everything that a
//! client can ask for. The bounds of unauthenticated clients follow OpenSSH's `MaxStartups` and
//! `LoginGraceTime`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::Event;
use futures::StreamExt;
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{
    Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, MethodKind, MethodSet,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::key_file::KeyFile;
use super::login::SshLogin;
use crate::runtime::Handle;
use crate::runtime::client::Client;
use crate::runtime::refusals::RefusalKind;
use crate::serve::limits::{self, ConnectionLimits};
use crate::serve::own_process;
use crate::term::event::{ESCAPE_TIMEOUT, InputParser, TerminalEvent, TerminalEvents, clamp_size};
use crate::term::wire::RemoteOutput;

/// The characters of a terminal's description that are kept.
const DESCRIPTION: usize = 64;
/// The number of connections in all.
const CONNECTIONS: usize = 64;
/// The number of connections from one address.
const CONNECTIONS_PER_ADDRESS: usize = 16;
/// The number of connections that have not authenticated yet.
const UNAUTHENTICATED: usize = 30;
/// The time within which a connection must authenticate.
const GRACE: Duration = Duration::from_secs(20);
/// The number of session channels of one connection.
const CHANNELS: u32 = 4;

/// Runs a cockpit on a remote terminal until the user leaves it. The command line passes it in, since
/// this module doesn't depend on the user interface.
pub type RunCockpit = Arc<dyn Fn(&Client, RemoteTerminal) + Send + Sync>;

/// The terminal of an SSH client, as seen from the channel.
pub struct RemoteTerminal {
    /// Keys, pastes, mouse events and new sizes.
    pub events: TerminalEvents,
    /// The bytes to show. On a slow link a write waits for the channel's window, so that nothing is
    /// queued and no other client waits.
    pub out: RemoteOutput,
    /// Its first columns and rows.
    pub size: (u16, u16),
    /// The client's description of its terminal, its `TERM`.
    pub term: String,
    /// The client's `COLORTERM`; empty where it sends none.
    pub colorterm: String,
}

/// The state that all connections share.
pub(super) struct ServerState {
    pub(super) handle: Handle,
    pub(super) keys: Arc<KeyFile>,
    run_cockpit: RunCockpit,
    unauthenticated: Arc<Semaphore>,
}

/// Listens until the process ends, and returns the bound address.
///
/// # Errors
/// Returns a line for a person if the host key can't be read or the port can't be bound.
pub async fn start(
    handle: &Handle,
    listen: SocketAddr,
    keys: PathBuf,
    state: &std::path::Path,
    run_cockpit: RunCockpit,
) -> Result<SocketAddr, String> {
    let key = super::host_key(state)?;
    let config = Arc::new(Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_secs(1),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        max_auth_attempts: 6,
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(60)),
        keepalive_max: 3,
        nodelay: true,
        ..Config::default()
    });
    let listener =
        TcpListener::bind(listen).await.map_err(|error| format!("ssh on {listen}: {error}"))?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    let server = Arc::new(ServerState {
        handle: handle.clone(),
        keys: KeyFile::follow(keys, handle).await,
        run_cockpit,
        unauthenticated: Arc::new(Semaphore::new(UNAUTHENTICATED)),
    });
    let limits = ConnectionLimits::new(CONNECTIONS, CONNECTIONS_PER_ADDRESS);
    tokio::spawn(async move {
        loop {
            let (stream, peer, slot) = limits::accept("ssh", &listener, &limits).await;
            let (config, server) = (config.clone(), server.clone());
            tokio::spawn(async move {
                if let Err(error) = serve(config, stream, peer, server).await {
                    tracing::debug!(%peer, %error, "an SSH connection ended");
                }
                drop(slot);
            });
        }
    });
    Ok(bound)
}

async fn serve(
    config: Arc<Config>,
    stream: TcpStream,
    peer: SocketAddr,
    server: Arc<ServerState>,
) -> Result<(), russh::Error> {
    let refuse = |why: &str| server.handle.refusals().record(RefusalKind::SshLogin, &peer, &why);
    let waiting = server.unauthenticated.clone().try_acquire_owned();
    let Ok(unauthenticated) = waiting else {
        refuse("too many connections without a login");
        return Ok(());
    };
    let is_own = own_process::is_peer(&server.handle, peer, stream.local_addr()?);
    if is_own.await {
        server.handle.refusals().record(RefusalKind::OwnProcess, &peer, &"over SSH");
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let login = Arc::new(SshLogin::new(server.clone(), peer.ip()));
    let connection = SshConnection {
        login: login.clone(),
        peer,
        size: None,
        term: String::new(),
        colorterm: String::new(),
        waiting: HashMap::new(),
        channels: 0,
    };
    // One deadline for the key exchange and the login: the descriptor is held for all of it.
    let end = Instant::now() + GRACE;
    let running = timeout_at(end, russh::server::run_stream(config, stream, connection));
    let Ok(running) = running.await else {
        refuse("no SSH handshake in time");
        return Ok(());
    };
    let running = running.inspect_err(|error| refuse(&error.to_string()))?;
    let handle = running.handle();
    tokio::pin!(running);
    let mut present = login.present.subscribe();
    let admission = async move {
        // The sender lives as long as the login, so the wait fails never.
        let _ = present.wait_for(Option::is_some).await;
    };
    let why = tokio::select! {
        done = &mut running => {
            refuse(&login.refusal());
            return done;
        }
        () = admission => {
            drop(unauthenticated);
            tokio::select! {
                done = &mut running => return done,
                () = login.follow() => "its key is not admitted any more".to_owned(),
            }
        }
        () = sleep_until(end) => format!("no authentication within {} s", GRACE.as_secs()),
    };
    refuse(&why);
    // Dropping the connection below ends it in any case.
    let goodbye = handle.disconnect(russh::Disconnect::ByApplication, why, String::new());
    let _ = timeout(Duration::from_secs(1), goodbye).await;
    let _ = timeout(Duration::from_secs(1), &mut running).await;
    Ok(())
}

/// A connection, with the callbacks that russh runs for it.
struct SshConnection {
    login: Arc<SshLogin>,
    peer: SocketAddr,
    /// The size of the terminal that the client requested.
    size: Option<(u16, u16)>,
    /// The description of that terminal.
    term: String,
    colorterm: String,
    /// The channels that have no shell yet.
    waiting: HashMap<ChannelId, Channel<Msg>>,
    /// The number of channels opened so far.
    channels: u32,
}

impl Handler for SshConnection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: russh::server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let known = self.login.offer(offer.public_key).await.is_some();
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let Some(line) = self.login.offer(key.public_key).await else { return Ok(Auth::reject()) };
        tracing::info!(peer = %self.peer, actor = %line.actor, role = ?line.role, "admitted a key over SSH");
        self.login.admit(line);
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels += 1;
        if self.login.actor().is_some() && self.channels <= CHANNELS {
            self.waiting.insert(channel.id(), channel);
            reply.accept().await;
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // Clamped before anything is allocated by it.
        self.size = Some(clamp_size(columns, rows));
        self.term = term.chars().take(DESCRIPTION).collect();
        session.channel_success(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (Some(actor), Some(open)) = (self.login.actor(), self.waiting.remove(&channel)) else {
            return session.channel_failure(channel);
        };
        session.channel_success(channel)?;
        let (read, write) = open.split();
        let Some(size) = self.size else {
            tokio::spawn(async move {
                // The connection may have ended.
                let _ = write.data(&b"the cockpit needs a terminal: ssh -t\r\n"[..]).await;
                let _ = write.exit_status(2).await;
                let _ = write.close().await;
            });
            return Ok(());
        };
        let origin = format!("ssh {}", self.peer.ip());
        let (server, rights) = (&self.login.server, self.login.rights());
        let client = Client::with_rights(&server.handle, actor, rights, &origin, size);
        let described = (self.term.clone(), self.colorterm.clone());
        spawn_cockpit(server.run_cockpit.clone(), client, read, write, size, described);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if name != "COLORTERM" {
            return session.channel_failure(channel);
        }
        self.colorterm = value.chars().take(DESCRIPTION).collect();
        session.channel_success(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }
}

/// Runs a cockpit on a channel, in a thread of its own: the drawing state can't move between threads.
fn spawn_cockpit(
    run_cockpit: RunCockpit,
    client: Client,
    read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    size: (u16, u16),
    (term, colorterm): (String, String),
) {
    let here = tokio::runtime::Handle::current();
    let out = Box::pin(write.make_writer());
    let terminal = RemoteTerminal { events: terminal_events(read), out, size, term, colorterm };
    let started = std::thread::Builder::new().name("ssh".into()).spawn(move || {
        let entered = here.enter();
        run_cockpit(&client, terminal);
        drop((client, entered));
        here.block_on(async {
            // The connection may have ended.
            let _ = write.exit_status(0).await;
            let _ = write.eof().await;
            let _ = write.close().await;
        });
    });
    if let Err(error) = started {
        tracing::error!(%error, "the thread of an SSH session can't be started");
    }
}

/// The events of a channel. The consumer polls the channel itself, without a task in between, to keep
/// the latency of a key low.
fn terminal_events(read: ChannelReadHalf) -> TerminalEvents {
    let first = (read, InputParser::default(), false);
    futures::stream::unfold(first, |(mut read, mut parser, open)| async move {
        let message = tokio::select! {
            message = read.wait() => message,
            () = sleep(ESCAPE_TIMEOUT), if open => {
                let events = parser.parse(b"", false);
                return Some((events, (read, parser, false)));
            }
        };
        let (events, open) = match message {
            None | Some(ChannelMsg::Eof | ChannelMsg::Close) => return None,
            Some(ChannelMsg::Data { data }) => (parser.parse(&data, true), true),
            Some(ChannelMsg::WindowChange { col_width, row_height, .. }) => {
                let (columns, rows) = clamp_size(col_width, row_height);
                (vec![TerminalEvent::Input(Event::Resize(columns, rows))], open)
            }
            Some(_) => (Vec::new(), open),
        };
        Some((events, (read, parser, open)))
    })
    .flat_map(futures::stream::iter)
    .boxed()
}
