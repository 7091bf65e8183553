//! What both SSH servers of the demo share: keys, logins, and channels that run one thing.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, MethodKind, MethodSet};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The channels that a client may open on one connection.
const CHANNELS: usize = 8;
/// The longest that a handshake may take, and a goodbye.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The longest that a connection may last.
const LONGEST: Duration = Duration::from_secs(3600);

/// The keys of the servers, and of the only client.
pub(super) struct MachineKeys {
    host: PrivateKey,
    client: PublicKey,
}

impl MachineKeys {
    /// Reads the keys of a demo's machine.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let key = |name: &str| {
            let text = std::fs::read_to_string(folder.join(name))?;
            PrivateKey::from_openssh(text).map_err(io::Error::other)
        };
        Ok(Self { host: key("host_key")?, client: key("client_key")?.public_key().clone() })
    }
}

/// A request on a channel: its command, or a shell.
pub(super) type ChannelRequest = Option<String>;
/// Serves a request on a channel to its end.
pub(super) type ServeChannel =
    Arc<dyn Fn(ChannelRequest, Channel<Msg>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Serves a connection until it ends or the token is cancelled.
pub(super) async fn serve(
    stream: TcpStream,
    keys: &MachineKeys,
    run: ServeChannel,
    end: CancellationToken,
) {
    let config = Arc::new(Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_secs(1),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![keys.host.clone()],
        nodelay: true,
        ..Config::default()
    });
    let connection = MachineConnection {
        client: keys.client.clone(),
        run,
        waiting: HashMap::new(),
        end: end.clone(),
    };
    let begun = timeout(HANDSHAKE, russh::server::run_stream(config, stream, connection)).await;
    let Ok(Ok(running)) = begun else { return };
    let handle = running.handle();
    tokio::select! {
        // The client may disconnect in any way.
        _ = running => return,
        () = end.cancelled() => {}
        () = sleep(LONGEST) => {}
    }
    // russh runs the session in a task of its own, which only ends by itself.
    let why = "the machine went away".to_owned();
    let goodbye = handle.disconnect(russh::Disconnect::ByApplication, why, String::new());
    let _ = timeout(HANDSHAKE, goodbye).await;
}

/// A connection, with the callbacks that russh runs for it.
struct MachineConnection {
    client: PublicKey,
    run: ServeChannel,
    /// The channels that nothing runs on yet.
    waiting: HashMap<ChannelId, Channel<Msg>>,
    end: CancellationToken,
}

impl MachineConnection {
    fn knows(&self, key: &PublicKey) -> bool {
        key.key_data() == self.client.key_data()
    }

    fn begin(
        &mut self,
        id: ChannelId,
        request: ChannelRequest,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(channel) = self.waiting.remove(&id) else { return session.channel_failure(id) };
        session.channel_success(id)?;
        let (run, end) = ((self.run)(request, channel), self.end.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = run => {}
                () = end.cancelled() => {}
            }
        });
        Ok(())
    }
}

impl Handler for MachineConnection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if self.knows(offer.public_key) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if self.knows(key.public_key) { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.waiting.len() < CHANNELS {
            self.waiting.insert(channel.id(), channel);
            reply.accept().await;
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.begin(channel, None, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.begin(channel, Some(String::from_utf8_lossy(data).into_owned()), session)
    }
}
