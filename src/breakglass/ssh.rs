//! Connects to a host over SSH within one time limit, directly or through a jump host, and checks the
//! host's key against its pin. `login` then logs in.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use russh::client::{Config, Handle, Handler};
use russh::keys::{Algorithm, EcdsaCurve, PublicKey, PublicKeyOrCertificate};
use russh::{Preferred, kex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::login::{self, AgentWait, HostLogin};
use super::pins::{PinError, Pins, fingerprint};
use crate::config::breakglass::{BreakglassConfig, HYPERVISOR, HostConfig};
use crate::core::model::untrusted::Untrusted;
use crate::error::chain;
use crate::lock::LockExt;
use crate::network::NetworkError;

/// The most characters that are kept of a banner.
const MAX_BANNER: usize = 4096;

/// A host offered another key than the pinned one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyChange {
    /// The name of the host in the configuration.
    pub host: String,
    /// The offered key in OpenSSH's format.
    pub key: String,
    /// The fingerprint of the pinned key; `None` for a host without a pin.
    pub old: Option<String>,
    /// The fingerprint of the offered key.
    pub new: String,
}

/// A connection failed. The host has received no command.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The time limit has passed.
    #[error("{address} did not answer in {seconds} s ({stage})")]
    Timeout {
        /// The address of the host, with the port.
        address: String,
        /// The time limit in seconds.
        seconds: u64,
        /// The stage that the connection had reached.
        stage: &'static str,
    },
    /// TCP can't connect: nobody listens there, or no route leads there.
    #[error(transparent)]
    Unreachable(#[from] NetworkError),
    /// The key differs from the pin: the peer may be another machine.
    #[error(
        "the key of {} is not the pinned one: {} is pinned, {} was offered; nothing was sent",
        .0.host, .0.old.as_deref().unwrap_or("nothing"), .0.new
    )]
    HostKey(KeyChange),
    /// The configuration has no host of this name.
    #[error("the host {0} is not configured; see [breakglass] in docs/breakglass.md")]
    NotConfigured(String),
    /// The pins can't be read.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// One of our own keys can't be used.
    #[error("use the key {}: {why}", path.display())]
    Key {
        /// The path of the key, the certificate or the agent's socket.
        path: PathBuf,
        /// The fault, and what to do about it.
        why: String,
    },
    /// A key file has a passphrase that nobody has typed yet.
    #[error(
        "the key {} has a passphrase: `afk breakglass` asks for it once at a terminal, or `ssh-add` it \
         and set `agent`",
        path.display()
    )]
    Locked {
        /// The path of the key.
        path: PathBuf,
    },
    /// The ssh-agent did not do its part in time.
    #[error("the ssh-agent at {} did not {task} in {seconds} s", socket.display())]
    AgentSilent {
        /// The socket of the ssh-agent.
        socket: PathBuf,
        /// What it was asked for, as an infinitive.
        task: String,
        /// The time limit in seconds.
        seconds: u64,
    },
    /// The jump host can't be used.
    #[error("reach it through {via}")]
    Via {
        /// The name of the jump host in the configuration.
        via: String,
        /// The failure at the jump host.
        source: Box<ConnectError>,
    },
    /// The host accepted none of our keys.
    #[error("{user}@{address} accepted none of our keys ({tried})")]
    Refused {
        /// The user on the host.
        user: String,
        /// The address of the host, with the port.
        address: String,
        /// The fingerprints of the offered keys, the number of further ones, and how to name one of many.
        tried: String,
    },
    /// The SSH protocol failed.
    #[error("the SSH connection to {address} failed: {why}")]
    Protocol {
        /// The address of the host, with the port.
        address: String,
        /// The error of the SSH library.
        why: String,
    },
}

impl ConnectError {
    /// The operator's next step, where it follows from the failure alone.
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable(error) => error.hint(),
            Self::Timeout { address, .. } => {
                format!("see that an SSH server answers at {address} and no firewall is between")
            }
            Self::HostKey(change) => format!(
                "compare the key with the host's own; `afk breakglass pin {}` pins another",
                change.host
            ),
            Self::Pins(_) => "`afk breakglass pin` makes the file of pins".into(),
            Self::AgentSilent { socket, .. } => {
                let socket = socket.display();
                format!(
                    "try `SSH_AUTH_SOCK={socket} ssh-add -l`: touch its key or confirm its question, or restart it"
                )
            }
            Self::Via { source, .. } => return source.hint(),
            Self::Refused { user, .. } => {
                format!("put the public key into {user}'s authorized_keys at the host")
            }
            Self::Key { .. }
            | Self::Locked { .. }
            | Self::Protocol { .. }
            | Self::NotConfigured(_) => return None,
        })
    }
}

/// A connection that is logged in.
pub(crate) struct SshSession {
    pub handle: Handle<HostKeyVerifier>,
    /// The banner that the host sent before the login.
    pub banner: Untrusted,
    /// The interval of its keepalives.
    pub keepalive: Duration,
    /// The jump host's connection, which carries this one.
    _jump: Option<Box<SshSession>>,
}

/// A connection to a host's SSH server.
trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// What the handshake revealed about the peer.
#[derive(Debug, Default)]
struct PeerInfo {
    key_change: Option<KeyChange>,
    banner: String,
}

/// Compares the host's key with its pin during the handshake.
#[derive(Debug)]
pub(crate) struct HostKeyVerifier {
    name: String,
    pinned: Option<PublicKey>,
    peer: Arc<Mutex<PeerInfo>>,
}

impl Handler for HostKeyVerifier {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        offered: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        // We never ask for the certificate of a host.
        let PublicKeyOrCertificate::PublicKey { key, .. } = offered else { return Ok(false) };
        if self.pinned.as_ref().is_some_and(|pinned| pinned.key_data() == key.key_data()) {
            return Ok(true);
        }
        let mut peer = self.peer.locked();
        peer.key_change = Some(KeyChange {
            host: self.name.clone(),
            key: PublicKey::from(key.key_data().clone()).to_openssh().unwrap_or_default(),
            old: self.pinned.as_ref().map(fingerprint),
            new: fingerprint(key),
        });
        Ok(false)
    }

    async fn auth_banner(
        &mut self,
        banner: &str,
        _session: &mut russh::client::Session,
    ) -> Result<(), Self::Error> {
        let mut peer = self.peer.locked();
        let room = MAX_BANNER.saturating_sub(peer.banner.len());
        peer.banner.extend(banner.chars().take(room));
        Ok(())
    }
}

/// The host key algorithms that we accept, the pinned key's first: a host with several keys then
/// offers the one that we can check. SHA-1 and DSA are left out.
fn algorithms(pinned: Option<&PublicKey>) -> Vec<Algorithm> {
    let mut all = vec![Algorithm::Ed25519];
    all.extend(
        [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521]
            .map(|curve| Algorithm::Ecdsa { curve }),
    );
    if let Some(pinned) = pinned {
        all.sort_by_key(|algorithm| *algorithm != pinned.algorithm());
    }
    all
}

fn config(breakglass: &BreakglassConfig, pinned: Option<&PublicKey>) -> Config {
    Config {
        preferred: Preferred {
            key: Cow::Owned(algorithms(pinned)),
            kex: Cow::Owned(vec![
                kex::MLKEM768X25519_SHA256,
                kex::CURVE25519,
                kex::CURVE25519_PRE_RFC_8731,
                kex::EXTENSION_SUPPORT_AS_CLIENT,
                kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            ]),
            ..Preferred::DEFAULT
        },
        // russh closes after interval x (max + 2): three probes without an answer.
        keepalive_interval: Some(keepalive(breakglass)),
        keepalive_max: 1,
        nodelay: true,
        // The bytes that may still arrive after a user stops a flood.
        window_size: 256 * 1024,
        ..Config::default()
    }
}

fn keepalive(breakglass: &BreakglassConfig) -> Duration {
    Duration::from_secs(breakglass.keepalive_seconds.max(1))
}

/// Connects to a host, checks its key and logs in, all within one time limit.
pub(crate) async fn connect(
    breakglass: &BreakglassConfig,
    name: &str,
) -> Result<SshSession, ConnectError> {
    connect_with(breakglass, name, |_| ()).await
}

/// The same, with the steps that wait for a person: `report` gets a line such as "touch the key".
pub(crate) async fn connect_with(
    breakglass: &BreakglassConfig,
    name: &str,
    mut report: impl FnMut(&str),
) -> Result<SshSession, ConnectError> {
    let (step, mut steps) = watch::channel(String::new());
    let work = connect_host(breakglass, name, &step);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Ok(()) = steps.changed() => {
                let text = steps.borrow_and_update().clone();
                report(&text);
            }
        }
    }
}

/// Connects to one host. A jump host is connected before it, with a time limit of its own.
fn connect_host<'a>(
    breakglass: &'a BreakglassConfig,
    name: &'a str,
    step: &'a watch::Sender<String>,
) -> BoxFuture<'a, Result<SshSession, ConnectError>> {
    async move {
        let Some(host) = breakglass.host(name) else {
            return Err(ConnectError::NotConfigured(name.to_owned()));
        };
        let pinned = Pins::at(&breakglass.pins).of(name)?;
        let jump = connect_jump(breakglass, host, step).await?;
        let address = host.address.to_string();
        let seconds = breakglass.connect_seconds;
        let (stage, wait) = (Mutex::new("connecting"), AgentWait::default());
        let peer = Arc::new(Mutex::new(PeerInfo::default()));
        let verifier =
            HostKeyVerifier { name: name.to_owned(), pinned: pinned.clone(), peer: peer.clone() };
        let all = async {
            let enter = |next: &'static str| *stage.locked() = next;
            let stream = open_stream(host, jump.as_deref()).await?;
            enter("connected; the host sends no SSH greeting");
            let config = Arc::new(config(breakglass, pinned.as_ref()));
            let handle = russh::client::connect_stream(config, stream, verifier).await;
            let key_change = || peer.locked().key_change.take();
            let mut handle = handle.map_err(|error| match key_change() {
                Some(change) => ConnectError::HostKey(change),
                None => ConnectError::Protocol { address: address.clone(), why: chain(&error) },
            })?;
            enter("logging in");
            let touch = Duration::from_secs(breakglass.touch_seconds);
            let login = HostLogin { host, address: &address, step, wait: &wait, touch };
            login.log_in(&mut handle).await?;
            Ok::<_, ConnectError>(handle)
        };
        if let Some(handle) = login::within(Duration::from_secs(seconds), &wait, all).await {
            let banner = peer.locked().banner.clone().into();
            Ok(SshSession {
                handle: handle?,
                banner,
                keepalive: keepalive(breakglass),
                _jump: jump,
            })
        } else {
            let stage = *stage.locked();
            Err(ConnectError::Timeout { address, seconds, stage })
        }
    }
    .boxed()
}

/// Connects to the jump host of a host, if it has one.
async fn connect_jump(
    breakglass: &BreakglassConfig,
    host: &HostConfig,
    step: &watch::Sender<String>,
) -> Result<Option<Box<SshSession>>, ConnectError> {
    let Some(via) = &host.via else { return Ok(None) };
    let jump = connect_host(breakglass, via, step).await;
    let failed = |source| ConnectError::Via { via: via.clone(), source: Box::new(source) };
    jump.map(|jump| Some(Box::new(jump))).map_err(failed)
}

/// Opens a connection to a host's SSH server: TCP, or a channel of its jump host.
async fn open_stream(
    host: &HostConfig,
    jump: Option<&SshSession>,
) -> Result<Box<dyn ByteStream>, ConnectError> {
    let address = host.address.to_string();
    let Some(jump) = jump else {
        let stream = TcpStream::connect(host.address).await;
        let stream = stream.map_err(|error| NetworkError::connect(&address, error))?;
        // A failure costs only latency.
        let _ = stream.set_nodelay(true);
        return Ok(Box::new(stream));
    };
    let (ip, port) = (host.address.ip().to_string(), u32::from(host.address.port()));
    let channel = jump.handle.channel_open_direct_tcpip(ip, port, "127.0.0.1", 0).await;
    let channel = channel.map_err(|error| ConnectError::Protocol {
        address,
        why: format!("the jump host opens no connection to it: {}", chain(&error)),
    })?;
    Ok(Box::new(channel.into_stream()))
}

/// The key that a host offers, without a login there. A person compares it before they pin it.
pub(crate) async fn fetch_host_key(
    breakglass: &BreakglassConfig,
    name: &str,
) -> Result<PublicKey, ConnectError> {
    let Some(host) = breakglass.host(name) else {
        return Err(ConnectError::NotConfigured(name.to_owned()));
    };
    let (step, _steps) = watch::channel(String::new());
    let jump = connect_jump(breakglass, host, &step).await?;
    let address = host.address.to_string();
    let peer = Arc::new(Mutex::new(PeerInfo::default()));
    let verifier = HostKeyVerifier { name: name.to_owned(), pinned: None, peer: peer.clone() };
    let handshake = async {
        let stream = open_stream(host, jump.as_deref()).await?;
        let config = Arc::new(config(breakglass, None));
        let ended = russh::client::connect_stream(config, stream, verifier).await;
        let change = peer.locked().key_change.take();
        let why =
            ended.err().map_or_else(|| "the host offered no key".into(), |error| chain(&error));
        let key = change.and_then(|change| PublicKey::from_openssh(&change.key).ok());
        key.ok_or(ConnectError::Protocol { address: address.clone(), why })
    };
    let (seconds, stage) = (breakglass.connect_seconds, "asking for its key");
    let limit = Duration::from_secs(seconds);
    tokio::time::timeout(limit, handshake).await.map_err(|_| ConnectError::Timeout {
        address: address.clone(),
        seconds,
        stage,
    })?
}

/// Whether a host is the hypervisor. A user can't accept its changed key in the cockpit.
#[must_use]
pub(crate) fn is_hypervisor(name: &str) -> bool {
    name == HYPERVISOR
}
