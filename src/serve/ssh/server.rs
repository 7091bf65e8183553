//! The server: who is let in, the one channel that each gets, and the bounds of all of it
//! (OpenSSH's figures for what nobody has proved to be yet).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossterm::event::Event;
use futures::StreamExt;
use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{
    Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, MethodKind, MethodSet,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

use super::keys::{self, Allowed};
use crate::core::model::command::Role;
use crate::core::model::id::Actor;
use crate::lock::LockExt;
use crate::runtime::client::Client;
use crate::runtime::{Handle, clock};
use crate::term::far::{Bytes, ESCAPE, Events, Told, clamped};
use crate::term::wire::Out;

/// Connections in all.
const CONNECTIONS: usize = 64;
/// Connections of one address.
const EACH: usize = 16;
/// Connections that have not proved who they are.
const STRANGERS: usize = 30;
/// How long they have for it.
const GRACE: Duration = Duration::from_secs(20);
/// Sessions of one connection.
const CHANNELS: u32 = 4;

/// Shows a client's cockpit on a far terminal until it is left. Given by the one who knows what a
/// cockpit is.
pub type Show = Arc<dyn Fn(&Client, Far) + Send + Sync>;

/// A far terminal.
pub struct Far {
    /// Keys, pastes, the mouse and other sizes.
    pub events: Events,
    /// Where its bytes go; a slow link makes a write wait for its window, so that nobody else
    /// waits and nothing is queued.
    pub out: Out,
    /// Columns and rows at first.
    pub size: (u16, u16),
}

struct Shared {
    handle: Handle,
    keys: PathBuf,
    show: Show,
    strangers: Arc<Semaphore>,
    sources: Mutex<HashMap<IpAddr, usize>>,
}

/// Listens until the process ends.
///
/// # Errors
/// A line for a person.
pub async fn start(
    handle: &Handle,
    listen: SocketAddr,
    keys: PathBuf,
    state: &std::path::Path,
    show: Show,
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
    let shared = Arc::new(Shared {
        handle: handle.clone(),
        keys,
        show,
        strangers: Arc::new(Semaphore::new(STRANGERS)),
        sources: Mutex::default(),
    });
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            // Over its bound a connection is closed at once: nothing is kept for it.
            let Ok(place) = room.clone().try_acquire_owned() else { continue };
            let Some(source) = Source::enter(&shared, peer.ip()) else { continue };
            let (config, shared) = (config.clone(), shared.clone());
            tokio::spawn(async move {
                if let Err(error) = serve(config, stream, peer, shared).await {
                    tracing::debug!(%peer, %error, "an ssh connection is gone");
                }
                drop((place, source));
            });
        }
    });
    Ok(bound)
}

/// A connection's place among those of its address.
struct Source(Arc<Shared>, IpAddr);

impl Source {
    fn enter(shared: &Arc<Shared>, address: IpAddr) -> Option<Self> {
        let mut all = shared.sources.locked();
        let count = all.entry(address).or_default();
        if *count >= EACH {
            return None;
        }
        *count += 1;
        Some(Self(shared.clone(), address))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut all = self.0.sources.locked();
        if let Some(count) = all.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.1);
            }
        }
    }
}

async fn serve(
    config: Arc<Config>,
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
) -> Result<(), russh::Error> {
    let Ok(stranger) = shared.strangers.clone().try_acquire_owned() else { return Ok(()) };
    stream.set_nodelay(true)?;
    let known = Arc::new(Notify::new());
    let visitor = Visitor {
        shared,
        peer,
        known: known.clone(),
        admitted: None,
        size: None,
        waiting: HashMap::new(),
        channels: 0,
    };
    let running = timeout(GRACE, russh::server::run_stream(config, stream, visitor));
    let Ok(running) = running.await else { return Ok(()) };
    let running = running?;
    let handle = running.handle();
    tokio::pin!(running);
    tokio::select! {
        done = &mut running => return done,
        () = known.notified() => {}
        () = sleep(GRACE) => {
            let why = "nobody proved who they are".to_owned();
            // The connection ends either way.
            let _ = handle.disconnect(russh::Disconnect::ByApplication, why, String::new()).await;
            let _ = timeout(Duration::from_secs(1), &mut running).await;
            return Ok(());
        }
    }
    drop(stranger);
    running.await
}

/// One connection.
struct Visitor {
    shared: Arc<Shared>,
    peer: SocketAddr,
    /// Told once somebody proved who they are.
    known: Arc<Notify>,
    admitted: Option<(Actor, Role)>,
    size: Option<(u16, u16)>,
    waiting: HashMap<ChannelId, Channel<Msg>>,
    channels: u32,
}

impl Visitor {
    /// The key's line, read anew each time: an edit of the file counts at once.
    fn line(&self, key: &PublicKey) -> Option<Allowed> {
        let text = std::fs::read_to_string(&self.shared.keys).ok()?;
        let (keys, _) = keys::parse(&text);
        let (from, now) = (self.peer.ip(), clock::wall());
        keys.into_iter()
            .find(|known| known.key.key_data() == key.key_data() && known.admits(from, now))
    }
}

impl Handler for Visitor {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: russh::server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if self.line(offer.public_key).is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let Some(line) = self.line(key.public_key) else { return Ok(Auth::reject()) };
        self.known.notify_one();
        tracing::info!(peer = %self.peer, actor = %line.actor, role = ?line.role, "let in over ssh");
        self.admitted = Some((line.actor, line.role));
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels += 1;
        if self.admitted.is_some() && self.channels <= CHANNELS {
            self.waiting.insert(channel.id(), channel);
            reply.accept().await;
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // Before anything is allocated by it.
        self.size = Some(clamped(columns, rows));
        session.channel_success(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (Some((actor, role)), Some(open)) =
            (self.admitted.clone(), self.waiting.remove(&channel))
        else {
            return session.channel_failure(channel);
        };
        session.channel_success(channel)?;
        let (read, write) = open.split();
        let Some(size) = self.size else {
            tokio::spawn(async move {
                // The connection may be gone.
                let _ = write.data(&b"the cockpit needs a terminal: ssh -t\r\n"[..]).await;
                let _ = write.exit_status(2).await;
                let _ = write.close().await;
            });
            return Ok(());
        };
        let origin = format!("ssh {}", self.peer.ip());
        let client = Client::local(&self.shared.handle, actor, role, &origin, size);
        show(self.shared.show.clone(), client, read, write, size);
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
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
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

/// Runs a cockpit on a channel: a thread of its own, since what it draws with stays on one.
fn show(
    show: Show,
    client: Client,
    read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    size: (u16, u16),
) {
    let here = tokio::runtime::Handle::current();
    let far = Far { events: heard(read), out: Box::pin(write.make_writer()), size };
    let begun = std::thread::Builder::new().name("ssh".into()).spawn(move || {
        let inside = here.enter();
        show(&client, far);
        drop((client, inside));
        here.block_on(async {
            // The connection may be gone.
            let _ = write.exit_status(0).await;
            let _ = write.eof().await;
            let _ = write.close().await;
        });
    });
    if let Err(error) = begun {
        tracing::error!(%error, "no thread for an ssh session");
    }
}

/// A channel's bytes as events. Read by who takes them, without a task between: a key passes
/// through few hands.
fn heard(read: ChannelReadHalf) -> Events {
    let begun = (read, Bytes::default(), false);
    futures::stream::unfold(begun, |(mut read, mut bytes, open)| async move {
        let message = tokio::select! {
            message = read.wait() => message,
            () = sleep(ESCAPE), if open => {
                let events = bytes.take(b"", false);
                return Some((events, (read, bytes, false)));
            }
        };
        let (events, open) = match message {
            None | Some(ChannelMsg::Eof | ChannelMsg::Close) => return None,
            Some(ChannelMsg::Data { data }) => (bytes.take(&data, true), true),
            Some(ChannelMsg::WindowChange { col_width, row_height, .. }) => {
                let (columns, rows) = clamped(col_width, row_height);
                (vec![Told::Event(Event::Resize(columns, rows))], open)
            }
            Some(_) => (Vec::new(), open),
        };
        Some((events, (read, bytes, open)))
    })
    .flat_map(futures::stream::iter)
    .boxed()
}
