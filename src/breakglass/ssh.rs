//! Connects to a host over SSH within one time limit, checks the host's key against its pin, and
//! logs in with a key file or an ssh-agent.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{AuthResult, Config, Handle, Handler};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{
    Algorithm, EcdsaCurve, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate,
};
use russh::{Preferred, kex};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pins::{PinError, Pins, fingerprint};
use crate::config::breakglass::{BreakglassConfig, HYPERVISOR, HostConfig};
use crate::core::model::untrusted::Untrusted;
use crate::error::chain;
use crate::lock::LockExt;
use crate::network::NetworkError;
use crate::trusted_file;

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
    /// The host accepted none of our keys.
    #[error("{user}@{address} accepted none of our keys ({tried})")]
    Refused {
        /// The user on the host.
        user: String,
        /// The address of the host, with the port.
        address: String,
        /// The fingerprints of the offered keys.
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
            Self::Refused { user, .. } => {
                format!("put the public key into {user}'s authorized_keys at the host")
            }
            Self::Key { .. } | Self::Protocol { .. } | Self::NotConfigured(_) => return None,
        })
    }
}

/// A connection that is logged in.
pub(crate) struct SshSession {
    pub handle: Handle<HostKeyVerifier>,
    /// The banner that the host sent before the login.
    pub banner: Untrusted,
}

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
        keepalive_interval: Some(Duration::from_secs(breakglass.keepalive_seconds.max(1))),
        keepalive_max: 1,
        nodelay: true,
        // The bytes that may still arrive after a user stops a flood.
        window_size: 256 * 1024,
        ..Config::default()
    }
}

/// Connects to a host, checks its key and logs in, all within one time limit.
pub(crate) async fn connect(
    breakglass: &BreakglassConfig,
    name: &str,
) -> Result<SshSession, ConnectError> {
    let Some(host) = breakglass.host(name) else {
        return Err(ConnectError::NotConfigured(name.to_owned()));
    };
    let pinned = Pins::at(&breakglass.pins).of(name)?;
    let address = host.address.to_string();
    let seconds = breakglass.connect_seconds;
    let stage = Mutex::new("connecting");
    let peer = Arc::new(Mutex::new(PeerInfo::default()));
    let verifier =
        HostKeyVerifier { name: name.to_owned(), pinned: pinned.clone(), peer: peer.clone() };
    let all = async {
        let enter = |next: &'static str| *stage.locked() = next;
        let stream = TcpStream::connect(host.address).await;
        let stream = stream.map_err(|error| NetworkError::connect(&address, error))?;
        // A failure costs only latency.
        let _ = stream.set_nodelay(true);
        enter("connected; the host sends no SSH greeting");
        let config = Arc::new(config(breakglass, pinned.as_ref()));
        let handle = russh::client::connect_stream(config, stream, verifier).await;
        let key_change = || peer.locked().key_change.take();
        let mut handle = handle.map_err(|error| match key_change() {
            Some(change) => ConnectError::HostKey(change),
            None => ConnectError::Protocol { address: address.clone(), why: chain(&error) },
        })?;
        enter("logging in");
        log_in(&mut handle, host, &address).await?;
        Ok::<_, ConnectError>(handle)
    };
    if let Ok(handle) = timeout(Duration::from_secs(seconds), all).await {
        let banner = peer.locked().banner.clone();
        Ok(SshSession { handle: handle?, banner: banner.into() })
    } else {
        let stage = *stage.locked();
        Err(ConnectError::Timeout { address, seconds, stage })
    }
}

/// The key that a host offers, without a login. A person compares it before they pin it.
pub(crate) async fn fetch_host_key(
    breakglass: &BreakglassConfig,
    name: &str,
) -> Result<PublicKey, ConnectError> {
    let mut without_pin = breakglass.clone();
    let host = breakglass.host(name).cloned();
    let Some(host) = host else {
        return Err(ConnectError::NotConfigured(name.to_owned()));
    };
    let address = host.address.to_string();
    without_pin.hosts.insert(name.to_owned(), host.clone());
    let peer = Arc::new(Mutex::new(PeerInfo::default()));
    let verifier = HostKeyVerifier { name: name.to_owned(), pinned: None, peer: peer.clone() };
    let handshake = async {
        let stream = TcpStream::connect(host.address).await;
        let stream = stream.map_err(|error| NetworkError::connect(&address, error))?;
        let ended =
            russh::client::connect_stream(Arc::new(config(&without_pin, None)), stream, verifier)
                .await;
        let change = peer.locked().key_change.take();
        let why =
            ended.err().map_or_else(|| "the host offered no key".into(), |error| chain(&error));
        let key = change.and_then(|change| PublicKey::from_openssh(&change.key).ok());
        key.ok_or(ConnectError::Protocol { address: address.clone(), why })
    };
    let (seconds, stage) = (breakglass.connect_seconds, "asking for its key");
    timeout(Duration::from_secs(seconds), handshake).await.map_err(|_| ConnectError::Timeout {
        address: address.clone(),
        seconds,
        stage,
    })?
}

async fn log_in(
    handle: &mut Handle<HostKeyVerifier>,
    host: &HostConfig,
    address: &str,
) -> Result<(), ConnectError> {
    let protocol = |why: String| ConnectError::Protocol { address: address.to_owned(), why };
    let mut tried = Vec::new();
    if let Some(path) = &host.key {
        let key = Arc::new(load_private_key(path)?);
        tried.push(key.public_key().fingerprint(HashAlg::Sha256).to_string());
        let result = if let Some(path) = &host.certificate {
            let wrong = |why: String| ConnectError::Key { path: path.clone(), why };
            let text = trusted_file::read(path).map_err(|error| wrong(chain(&error)))?;
            let certificate = russh::keys::Certificate::from_openssh(&text)
                .map_err(|error| wrong(chain(&error)))?;
            handle.authenticate_openssh_cert(host.user.clone(), key, certificate).await
        } else {
            let key = PrivateKeyWithHashAlg::new(key, None);
            handle.authenticate_publickey(host.user.clone(), key).await
        };
        if let AuthResult::Success = result.map_err(|error| protocol(chain(&error)))? {
            return Ok(());
        }
    }
    if let Some(socket) = host.agent_socket() {
        let wrong = |why: String| ConnectError::Key { path: socket.clone(), why };
        let mut agent = AgentClient::connect_uds(&socket)
            .await
            .map_err(|error| wrong(format!("ask the ssh-agent: {}", chain(&error))))?;
        let identities = agent.request_identities().await;
        for identity in
            identities.map_err(|error| wrong(format!("ask the ssh-agent: {}", chain(&error))))?
        {
            let AgentIdentity::PublicKey { key, .. } = identity else { continue };
            let print = key.fingerprint(HashAlg::Sha256).to_string();
            if host.agent_key.as_ref().is_some_and(|wanted| *wanted != print) {
                continue;
            }
            tried.push(print);
            let user = host.user.clone();
            // The agent may refuse a key that nobody touches in time; the next key may work.
            match handle.authenticate_publickey_with(user, key, None, &mut agent).await {
                Ok(AuthResult::Success) => return Ok(()),
                Ok(AuthResult::Failure { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "the ssh-agent did not sign with a key; trying the next one");
                }
            }
        }
    } else if host.key.is_none() {
        let why = "there is no ssh-agent: set SSH_AUTH_SOCK, or name a key file".to_owned();
        return Err(ConnectError::Key { path: "env".into(), why });
    }
    let tried = if tried.is_empty() { "there is none".to_owned() } else { tried.join(", ") };
    let (user, address) = (host.user.clone(), address.to_owned());
    Err(ConnectError::Refused { user, address, tried })
}

/// Loads a private key from a file that only its owner may read.
fn load_private_key(path: &Path) -> Result<russh::keys::PrivateKey, ConnectError> {
    use std::os::unix::fs::MetadataExt;
    let wrong = |why: String| ConnectError::Key { path: path.to_owned(), why };
    let file = trusted_file::open(path).map_err(|error| wrong(chain(&error)))?;
    let meta = file.metadata().map_err(|error| wrong(chain(&error)))?;
    if meta.mode() & 0o077 != 0 {
        return Err(wrong("others can read it: chmod 600".into()));
    }
    let text = trusted_file::text(&file, path).map_err(|error| wrong(chain(&error)))?;
    russh::keys::decode_secret_key(&text, None).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => {
            wrong("it has a passphrase: add it to an ssh-agent and set `agent` instead".into())
        }
        error => wrong(chain(&error)),
    })
}

/// Whether a host is the hypervisor. A user can't accept its changed key in the cockpit.
#[must_use]
pub(crate) fn is_hypervisor(name: &str) -> bool {
    name == HYPERVISOR
}
