//! Logs in to a host whose key is checked: with a key file, a certificate, or the keys of an ssh-agent.
//!
//! ```text
//! ssh::connect ─► HostLogin::log_in ─┬─► key_file: a private key, decrypted once where it has a passphrase
//!                                └─► ssh-agent: the named key, else certificates, else its other keys
//! ```
//!
//! A signature may wait for a person who touches a hardware key or confirms its use. That time has a
//! bound of its own ([`AgentWait`]) and does not count for the connection.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKeyWithHashAlg, PublicKey};
use russh::{AgentAuthError, Signer};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::key_file;
use super::ssh::{ConnectError, HostKeyVerifier};
use crate::config::breakglass::HostConfig;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::clean_line;
use crate::error::chain;
use crate::lock::LockExt;
use crate::trusted_file;

/// The longest that an ssh-agent may take to list its keys; it asks nobody for that.
const LIST: Duration = Duration::from_secs(5);
/// The fingerprints that an error names.
const NAMED: usize = 3;
/// The shortest pause between two checks of a limit that an agent's time extends.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The agent's keys that hosts accepted last, by user and address: they are offered first.
static ACCEPTED: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// The time that a login has waited for an ssh-agent.
#[derive(Debug, Default)]
pub(super) struct AgentWait(Mutex<(Duration, Option<Instant>)>);

impl AgentWait {
    /// Waits for the agent; none after the limit.
    async fn on<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        self.0.locked().1 = Some(Instant::now());
        let done = timeout(limit, work).await.ok();
        let mut wait = self.0.locked();
        let took = wait.1.take().map_or(Duration::ZERO, |since| since.elapsed());
        wait.0 += took;
        done
    }

    fn spent(&self) -> Duration {
        let wait = self.0.locked();
        wait.0 + wait.1.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Finishes work within a limit that the time of the agent does not count for; none after it.
pub(super) async fn within<T>(
    limit: Duration,
    wait: &AgentWait,
    work: impl Future<Output = T>,
) -> Option<T> {
    let began = Instant::now();
    tokio::pin!(work);
    loop {
        let end = began + limit + wait.spent();
        if Instant::now() >= end {
            return None;
        }
        tokio::select! {
            done = &mut work => return Some(done),
            () = sleep_until(end.max(Instant::now() + SHORTEST_PAUSE)) => {}
        }
    }
}

/// One login to a host.
pub(super) struct HostLogin<'a> {
    pub(super) host: &'a HostConfig,
    pub(super) address: &'a str,
    /// The step that waits for a person.
    pub(super) step: &'a watch::Sender<String>,
    pub(super) wait: &'a AgentWait,
    /// The longest that the agent may take for a signature.
    pub(super) touch: Duration,
}

/// The keys that a host has refused.
#[derive(Debug, Default)]
struct OfferedKeys {
    prints: Vec<String>,
    /// The agent's keys that were not offered: the host had ended the login.
    rest: usize,
    of_agent: usize,
}

impl OfferedKeys {
    fn summary(&self) -> String {
        if self.prints.is_empty() {
            return "there is none".into();
        }
        let mut text = self.prints[..self.prints.len().min(NAMED)].join(", ");
        if let Some(more @ 1..) = self.prints.len().checked_sub(NAMED) {
            text.push_str(&format!(" and {more} more"));
        }
        if self.rest > 0 {
            let rest = plural(self.rest, "further key");
            text.push_str(&format!("; it ended the login before {rest} of the ssh-agent"));
        }
        if self.of_agent > 1 {
            text.push_str("; `agent_key` names the one to use");
        }
        text
    }
}

impl HostLogin<'_> {
    /// Offers the keys of the configuration until the host accepts one.
    pub(super) async fn log_in(
        &self,
        handle: &mut Handle<HostKeyVerifier>,
    ) -> Result<(), ConnectError> {
        let mut offered = OfferedKeys::default();
        let socket = self.host.agent_socket();
        let mut first = None;
        if let Some(path) = &self.host.key {
            match key_file::load(path) {
                Ok(key) => {
                    offered.prints.push(key.public_key().fingerprint(HashAlg::Sha256).to_string());
                    if self.offer_file(handle, key).await? {
                        return Ok(());
                    }
                }
                // As in OpenSSH, the agent may hold the key of a file with a passphrase.
                Err(ConnectError::Locked { .. }) if socket.is_some() => {
                    first = key_file::public_half(path).map(|key| print_of(&key));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(socket) = &socket {
            if self.offer_agent(handle, socket, first, &mut offered).await? {
                return Ok(());
            }
        } else if self.host.key.is_none() {
            let why = "there is no ssh-agent: set SSH_AUTH_SOCK, or name a key file".to_owned();
            return Err(ConnectError::Key { path: "env".into(), why });
        }
        Err(ConnectError::Refused {
            user: self.host.user.clone(),
            address: self.address.to_owned(),
            tried: offered.summary(),
        })
    }

    /// Offers the key of a file, with its certificate where one is configured.
    async fn offer_file(
        &self,
        handle: &mut Handle<HostKeyVerifier>,
        key: Arc<russh::keys::PrivateKey>,
    ) -> Result<bool, ConnectError> {
        let user = self.host.user.clone();
        let result = if let Some(path) = &self.host.certificate {
            let wrong = |why: String| ConnectError::Key { path: path.clone(), why };
            let text = trusted_file::read(path).map_err(|error| wrong(chain(&error)))?;
            let certificate =
                Certificate::from_openssh(&text).map_err(|error| wrong(chain(&error)))?;
            handle.authenticate_openssh_cert(user, key, certificate).await
        } else {
            let key = PrivateKeyWithHashAlg::new(key, None);
            handle.authenticate_publickey(user, key).await
        };
        let result = result.map_err(|error| ConnectError::Protocol {
            address: self.address.to_owned(),
            why: chain(&error),
        })?;
        Ok(matches!(result, AuthResult::Success))
    }

    /// Offers the keys of an ssh-agent, `first` before the others.
    async fn offer_agent(
        &self,
        handle: &mut Handle<HostKeyVerifier>,
        socket: &Path,
        first: Option<String>,
        offered: &mut OfferedKeys,
    ) -> Result<bool, ConnectError> {
        let (agent, held) = self.ask_agent(handle, socket).await?;
        let held = self.choose(socket, held, first.as_deref())?;
        offered.of_agent = held.len();
        let silent = Mutex::new(None);
        let mut signer = AgentSigner {
            agent,
            step: self.step,
            wait: self.wait,
            limit: self.touch,
            name: String::new(),
            silent: &silent,
        };
        let account = format!("{}@{}", self.host.user, self.address);
        for (at, identity) in held.iter().enumerate() {
            if handle.is_closed() {
                offered.rest = held.len() - at;
                break;
            }
            let print = print_of_identity(identity);
            offered.prints.push(print.clone());
            signer.name = match clean_line(comment_of(identity)) {
                comment if comment.is_empty() => print.clone(),
                comment => comment,
            };
            let user = self.host.user.clone();
            let hash = rsa_hash(handle, identity).await;
            let result = match identity.clone() {
                AgentIdentity::PublicKey { key, .. } => {
                    handle.authenticate_publickey_with(user, key, hash, &mut signer).await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    handle.authenticate_certificate_with(user, certificate, hash, &mut signer).await
                }
            };
            match result {
                Ok(AuthResult::Success) => {
                    ACCEPTED.locked().insert(account, print);
                    return Ok(true);
                }
                Ok(AuthResult::Failure { .. }) => {}
                Err(error) => {
                    if let Some(task) = silent.locked().take() {
                        let (socket, seconds) = (socket.to_owned(), self.touch.as_secs());
                        return Err(ConnectError::AgentSilent { socket, task, seconds });
                    }
                    // A person may have declined; the next key may work.
                    tracing::warn!(%error, "the ssh-agent did not sign with a key");
                }
            }
        }
        Ok(false)
    }

    /// Connects to the agent and lists its keys.
    async fn ask_agent(
        &self,
        handle: &Handle<HostKeyVerifier>,
        socket: &Path,
    ) -> Result<(AgentClient<UnixStream>, Vec<AgentIdentity>), ConnectError> {
        let wrong = |error: russh::keys::Error| ConnectError::Key {
            path: socket.to_owned(),
            why: format!("ask the ssh-agent: {}", chain(&error)),
        };
        let ask = async {
            let mut agent = AgentClient::connect_uds(socket).await?;
            if let Some(binding) = handle.agent_session_binding() {
                // Keys that are constrained to hosts need it; many agents don't know it.
                let _ = agent.bind_session(binding, false).await;
            }
            let held = agent.request_identities().await?;
            Ok((agent, held))
        };
        match self.wait.on(LIST, ask).await {
            Some(done) => done.map_err(wrong),
            None => Err(ConnectError::AgentSilent {
                socket: socket.to_owned(),
                task: "list its keys".into(),
                seconds: LIST.as_secs(),
            }),
        }
    }

    /// The keys to offer, in order: only the named one; otherwise `first`, the one that the host
    /// accepted last, certificates, and the others. Hosts end a login after a few refused keys.
    fn choose(
        &self,
        socket: &Path,
        mut held: Vec<AgentIdentity>,
        first: Option<&str>,
    ) -> Result<Vec<AgentIdentity>, ConnectError> {
        if let Some(wanted) = &self.host.agent_key {
            let names: Vec<String> = held.iter().take(NAMED).map(print_of_identity).collect();
            held.retain(|identity| {
                print_of_identity(identity) == *wanted || comment_of(identity) == wanted
            });
            if held.is_empty() {
                let has = if names.is_empty() { "no key".into() } else { names.join(", ") };
                let why = format!("the ssh-agent holds no `agent_key` {wanted:?}; it has {has}");
                return Err(ConnectError::Key { path: socket.to_owned(), why });
            }
        }
        let account = format!("{}@{}", self.host.user, self.address);
        let accepted = ACCEPTED.locked().get(&account).cloned();
        held.sort_by_key(|identity| {
            let print = print_of_identity(identity);
            (
                Some(print.as_str()) != first,
                Some(print) != accepted,
                !matches!(identity, AgentIdentity::Certificate { .. }),
            )
        });
        Ok(held)
    }
}

/// Has an ssh-agent sign within a limit, and reports that it waits for a person.
struct AgentSigner<'a> {
    agent: AgentClient<UnixStream>,
    step: &'a watch::Sender<String>,
    wait: &'a AgentWait,
    limit: Duration,
    /// The key that is offered, for a person: its comment, or its fingerprint.
    name: String,
    /// What the agent did not do in time. Its socket is of no further use then.
    silent: &'a Mutex<Option<String>>,
}

impl Signer for AgentSigner<'_> {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        key: &AgentIdentity,
        hash_alg: Option<HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        let name = self.name.clone();
        let is_hardware = is_hardware(&public_of(key).algorithm());
        let step = if is_hardware {
            format!("touch the key {name}")
        } else {
            format!("the ssh-agent signs with {name}; confirm it there if it asks")
        };
        self.step.send_replace(step);
        let signing = self.agent.sign_request(key, hash_alg, to_sign);
        let Some(signed) = self.wait.on(self.limit, signing).await else {
            let task = if is_hardware { "get a touch of the key" } else { "sign with the key" };
            *self.silent.locked() = Some(format!("{task} {name}"));
            return Err(russh::keys::Error::AgentFailure.into());
        };
        self.step.send_replace("logging in".into());
        Ok(signed?)
    }
}

/// Whether a signature needs a person at a hardware key.
fn is_hardware(algorithm: &Algorithm) -> bool {
    algorithm.as_str().starts_with("sk-")
}

/// The hash of an RSA key's signatures; OpenSSH takes no SHA-1.
async fn rsa_hash(handle: &Handle<HostKeyVerifier>, identity: &AgentIdentity) -> Option<HashAlg> {
    if !matches!(public_of(identity).algorithm(), Algorithm::Rsa { .. }) {
        return None;
    }
    let best = handle.best_supported_rsa_hash().await.ok().flatten().flatten();
    best.or(Some(HashAlg::Sha512))
}

fn public_of(identity: &AgentIdentity) -> PublicKey {
    match identity {
        AgentIdentity::PublicKey { key, .. } => key.clone(),
        AgentIdentity::Certificate { certificate, .. } => certificate.public_key().clone().into(),
    }
}

fn comment_of(identity: &AgentIdentity) -> &str {
    match identity {
        AgentIdentity::PublicKey { comment, .. } | AgentIdentity::Certificate { comment, .. } => {
            comment
        }
    }
}

fn print_of(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn print_of_identity(identity: &AgentIdentity) -> String {
    print_of(&public_of(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_of_the_agent_extends_the_limit_and_has_its_own() {
        let wait = AgentWait::default();
        let unit = Duration::from_millis(150);
        let patient = async { wait.on(unit * 60, tokio::time::sleep(unit * 4)).await };
        assert_eq!(within(unit, &wait, patient).await, Some(Some(())));
        let wait = AgentWait::default();
        let hung = async { wait.on(unit * 3, std::future::pending::<()>()).await };
        assert_eq!(within(unit, &wait, hung).await, Some(None));
        let wait = AgentWait::default();
        assert_eq!(within(unit, &wait, std::future::pending::<()>()).await, None);
    }

    #[test]
    fn error_names_few_of_many_keys() {
        let mut offered = OfferedKeys::default();
        assert_eq!(offered.summary(), "there is none");
        offered.prints = (0..6).map(|n| format!("SHA256:{n}")).collect();
        (offered.rest, offered.of_agent) = (4, 10);
        assert_eq!(
            offered.summary(),
            "SHA256:0, SHA256:1, SHA256:2 and 3 more; it ended the login before 4 further keys of the \
             ssh-agent; `agent_key` names the one to use"
        );
    }
}
