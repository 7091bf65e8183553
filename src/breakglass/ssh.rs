//! An SSH connection: its time limits, its keys, and whose host key is at the other end.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
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

/// What is kept of a banner.
const BANNER: usize = 4096;

/// A host's key is not the one that is pinned.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyChange {
    /// Which host's.
    pub host: String,
    /// The key that was offered, as in a `known_hosts` file.
    pub key: String,
    /// The fingerprint of the pinned one; none where none was pinned.
    pub old: Option<String>,
    /// The fingerprint of the offered one.
    pub new: String,
}

/// Why there is no connection. Nothing was asked of the host.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Time was over.
    #[error("{address} did not answer in {seconds} s ({stage})")]
    Slow {
        /// Which address.
        address: String,
        /// How long it had.
        seconds: u64,
        /// How far it came.
        stage: &'static str,
    },
    /// Nobody listens, or no way leads there.
    #[error("{address}: {source}")]
    Unreachable {
        /// Which address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else may be at the other end.
    #[error(
        "the key of {} is not the pinned one: {} is pinned, {} was offered; nothing was sent",
        .0.host, .0.old.as_deref().unwrap_or("nothing"), .0.new
    )]
    HostKey(KeyChange),
    /// The pins.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// A key of ours.
    #[error("{}: {why}", path.display())]
    Key {
        /// Which file or socket.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// No key was taken.
    #[error("{user}@{address} took none of our keys ({tried})")]
    Refused {
        /// Who.
        user: String,
        /// Where.
        address: String,
        /// Which keys, by fingerprint.
        tried: String,
    },
    /// The other side.
    #[error("{address}: {why}")]
    Protocol {
        /// Which address.
        address: String,
        /// What the library said.
        why: String,
    },
}

/// A connection that is logged in.
pub struct Session {
    /// The library's.
    pub handle: Handle<Judge>,
    /// What was said before the login; as it came.
    pub banner: Untrusted,
}

/// What was found out about the other side.
#[derive(Debug, Default)]
struct Found {
    change: Option<KeyChange>,
    banner: String,
}

/// Judges the host's key.
#[derive(Debug)]
pub struct Judge {
    name: String,
    pinned: Option<PublicKey>,
    found: Arc<Mutex<Found>>,
}

impl Handler for Judge {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        offered: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        // Certificates of hosts are never asked for.
        let PublicKeyOrCertificate::PublicKey { key, .. } = offered else { return Ok(false) };
        if self.pinned.as_ref().is_some_and(|pinned| pinned.key_data() == key.key_data()) {
            return Ok(true);
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.change = Some(KeyChange {
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
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let room = BANNER.saturating_sub(found.banner.len());
        found.banner.extend(banner.chars().take(room));
        Ok(())
    }
}

/// The algorithms of host keys that are spoken, the pinned one first: a host that has several
/// offers the one we know. No SHA-1, no DSA.
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
        // russh closes after interval x (max + 2): three questions without an answer.
        keepalive_interval: Some(Duration::from_secs(breakglass.keepalive_seconds.max(1))),
        keepalive_max: 1,
        nodelay: true,
        // What may be on its way when a person stops a flood.
        window_size: 256 * 1024,
        ..Config::default()
    }
}

/// Connects to a host, looks whose key it has, and logs in, all within the one time limit.
///
/// # Errors
/// [`ConnectError`]; nothing was asked of the host.
pub async fn connect(breakglass: &BreakglassConfig, name: &str) -> Result<Session, ConnectError> {
    let Some(host) = breakglass.host(name) else {
        let why = "is not configured".to_owned();
        return Err(ConnectError::Protocol { address: name.to_owned(), why });
    };
    let pinned = Pins::at(&breakglass.pins).of(name)?;
    let address = host.address.to_string();
    let seconds = breakglass.connect_seconds;
    let stage = Mutex::new("connecting");
    let found = Arc::new(Mutex::new(Found::default()));
    let judge = Judge { name: name.to_owned(), pinned: pinned.clone(), found: found.clone() };
    let all = async {
        let at = |now: &'static str| *stage.lock().unwrap_or_else(PoisonError::into_inner) = now;
        let stream = TcpStream::connect(host.address).await;
        let stream = stream
            .map_err(|source| ConnectError::Unreachable { address: address.clone(), source })?;
        // Only makes it quicker.
        let _ = stream.set_nodelay(true);
        at("connected; it says nothing");
        let config = Arc::new(config(breakglass, pinned.as_ref()));
        let handle = russh::client::connect_stream(config, stream, judge).await;
        let change = || found.lock().unwrap_or_else(PoisonError::into_inner).change.take();
        let mut handle = handle.map_err(|error| match change() {
            Some(change) => ConnectError::HostKey(change),
            None => ConnectError::Protocol { address: address.clone(), why: error.to_string() },
        })?;
        at("logging in");
        log_in(&mut handle, host, &address).await?;
        Ok::<_, ConnectError>(handle)
    };
    if let Ok(handle) = timeout(Duration::from_secs(seconds), all).await {
        let banner = found.lock().unwrap_or_else(PoisonError::into_inner).banner.clone();
        Ok(Session { handle: handle?, banner: banner.into() })
    } else {
        let stage = *stage.lock().unwrap_or_else(PoisonError::into_inner);
        Err(ConnectError::Slow { address, seconds, stage })
    }
}

/// The key that a host has, without logging in: what a person compares before it is pinned.
///
/// # Errors
/// [`ConnectError`].
pub async fn offered(breakglass: &BreakglassConfig, name: &str) -> Result<PublicKey, ConnectError> {
    let mut none = breakglass.clone();
    let host = breakglass.host(name).cloned();
    let Some(host) = host else {
        let why = "is not configured".to_owned();
        return Err(ConnectError::Protocol { address: name.to_owned(), why });
    };
    let address = host.address.to_string();
    none.hosts.insert(name.to_owned(), host.clone());
    let found = Arc::new(Mutex::new(Found::default()));
    let judge = Judge { name: name.to_owned(), pinned: None, found: found.clone() };
    let look = async {
        let stream = TcpStream::connect(host.address).await;
        let stream = stream
            .map_err(|source| ConnectError::Unreachable { address: address.clone(), source })?;
        let ended =
            russh::client::connect_stream(Arc::new(config(&none, None)), stream, judge).await;
        let change = found.lock().unwrap_or_else(PoisonError::into_inner).change.take();
        let why = ended.err().map_or_else(|| "offered no key".into(), |error| error.to_string());
        let key = change.and_then(|change| PublicKey::from_openssh(&change.key).ok());
        key.ok_or(ConnectError::Protocol { address: address.clone(), why })
    };
    let (seconds, stage) = (breakglass.connect_seconds, "asking for its key");
    timeout(Duration::from_secs(seconds), look).await.map_err(|_| ConnectError::Slow {
        address: address.clone(),
        seconds,
        stage,
    })?
}

async fn log_in(
    handle: &mut Handle<Judge>,
    host: &HostConfig,
    address: &str,
) -> Result<(), ConnectError> {
    let protocol = |why: String| ConnectError::Protocol { address: address.to_owned(), why };
    let mut tried = Vec::new();
    if let Some(path) = &host.key {
        let key = Arc::new(private(path)?);
        tried.push(key.public_key().fingerprint(HashAlg::Sha256).to_string());
        let result = if let Some(path) = &host.certificate {
            let certificate = russh::keys::load_openssh_certificate(path).map_err(|error| {
                ConnectError::Key { path: path.clone(), why: error.to_string() }
            })?;
            handle.authenticate_openssh_cert(host.user.clone(), key, certificate).await
        } else {
            let key = PrivateKeyWithHashAlg::new(key, None);
            handle.authenticate_publickey(host.user.clone(), key).await
        };
        if let AuthResult::Success = result.map_err(|error| protocol(error.to_string()))? {
            return Ok(());
        }
    }
    if let Some(socket) = host.agent_socket() {
        let wrong = |why: String| ConnectError::Key { path: socket.clone(), why };
        let mut agent = AgentClient::connect_uds(&socket)
            .await
            .map_err(|error| wrong(format!("the ssh-agent: {error}")))?;
        let identities = agent.request_identities().await;
        for identity in identities.map_err(|error| wrong(format!("the ssh-agent: {error}")))? {
            let AgentIdentity::PublicKey { key, .. } = identity else { continue };
            let print = key.fingerprint(HashAlg::Sha256).to_string();
            if host.agent_key.as_ref().is_some_and(|wanted| *wanted != print) {
                continue;
            }
            tried.push(print);
            let user = host.user.clone();
            // A person may have to touch a key: refused by the agent is no end.
            match handle.authenticate_publickey_with(user, key, None, &mut agent).await {
                Ok(AuthResult::Success) => return Ok(()),
                Ok(AuthResult::Failure { .. }) => {}
                Err(error) => tracing::warn!(%error, "the ssh-agent did not sign"),
            }
        }
    } else if host.key.is_none() {
        let why = "there is no ssh-agent: SSH_AUTH_SOCK is not set".to_owned();
        return Err(ConnectError::Key { path: "env".into(), why });
    }
    let tried = if tried.is_empty() { "there was none".to_owned() } else { tried.join(", ") };
    let (user, address) = (host.user.clone(), address.to_owned());
    Err(ConnectError::Refused { user, address, tried })
}

/// A private key from its file, which nobody else may read.
fn private(path: &Path) -> Result<russh::keys::PrivateKey, ConnectError> {
    use std::os::unix::fs::MetadataExt;
    let wrong = |why: String| ConnectError::Key { path: path.to_owned(), why };
    let meta = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if meta.mode() & 0o077 != 0 {
        return Err(wrong("others can read it: chmod 600".into()));
    }
    russh::keys::load_secret_key(path, None).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => {
            wrong("has a passphrase: add it to an ssh-agent and set `agent` instead".into())
        }
        error => wrong(error.to_string()),
    })
}

/// Whether a name is the hypervisor's: its key is never taken by a key press.
#[must_use]
pub fn strict(name: &str) -> bool {
    name == HYPERVISOR
}
