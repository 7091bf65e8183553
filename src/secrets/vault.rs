//! Secrets of Vault or `OpenBao`, KV version 2, with a token or a login as a Kubernetes service
//! account. The token is renewed at two thirds of its lease, and replaced by a new login when its
//! maximum is near. While Vault is sealed or away, the last good value stays in use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::SecretError;
use crate::config::services::VaultConfig as Config;
use crate::core::model::untrusted::clean_line;
use crate::core::tables::sink::{self, VaultOutcome};
use crate::error::chain;
use crate::network::{NetworkError, calls};
use crate::redact;
use crate::trusted_file::{self, TrustedFileError};

/// The time limit of one call.
const CALL: Duration = Duration::from_secs(10);
/// How long a value is used before the next read.
const FRESH: Duration = Duration::from_secs(60);

/// Why Vault gave no value.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Vault was not reached, or the connection broke.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Vault is sealed or not ready; the text is its answer.
    #[error("Vault answered {0}")]
    Unavailable(String),
    /// Vault refuses the token or the request; the text is its answer.
    #[error("Vault answered {0}")]
    Refused(String),
    /// The login as the role of `[vault]` was refused.
    #[error("log in as {role}: Vault answered {answer}")]
    Login {
        /// The role that `[vault]` names.
        role: String,
        /// The status code and the errors of the answer.
        answer: String,
    },
    /// There is no such secret; the text says whether path, version or key is missing.
    #[error("{0}")]
    Missing(String),
    /// The token of `[vault]` can't be read.
    #[error("the token of [vault] can't be read")]
    Token(#[source] Box<SecretError>),
    /// The token of the Kubernetes service account can't be read.
    #[error("read the service account's token {}", path.display())]
    ServiceAccount {
        /// The file that `jwt` of `[vault]` names.
        path: PathBuf,
        /// Why the file can't be read, or isn't trusted.
        source: TrustedFileError,
    },
    /// The section names no way to log in.
    #[error("[vault] names neither `token` nor `role`")]
    NoLogin,
}

impl VaultError {
    /// The operator's next step for a secret that could not be read.
    pub(super) fn hint(&self, reference: &str) -> String {
        match self {
            Self::Network(error) => error.hint(),
            Self::Unavailable(_) => "see that Vault is unsealed and ready".into(),
            Self::Refused(_) => {
                format!("see that the token of [vault] is valid and its policies allow {reference}")
            }
            Self::Login { role, .. } => {
                format!("see that Vault's role {role} is bound to this service account")
            }
            Self::Missing(_) => format!("write the secret {reference} in Vault"),
            Self::Token(error) => error.hint(),
            Self::ServiceAccount { .. } => {
                "mount the service account's token, or set `token` under [vault]".into()
            }
            Self::NoLogin => "set `token` or `role` under [vault]".into(),
        }
    }
}

/// The client of one Vault, shared by all readers of its secrets.
#[derive(Debug)]
pub(super) struct VaultClient {
    config: Config,
    client: reqwest::Client,
    session: Mutex<VaultSession>,
    /// Wakes the renewal after a login: there is a token to renew.
    logged_in: Notify,
}

/// The token, and the values that were read with it and when.
#[derive(Debug, Default)]
struct VaultSession {
    token: Option<VaultToken>,
    values: BTreeMap<String, (SecretString, Instant)>,
}

#[derive(Debug, Clone)]
struct VaultToken {
    value: SecretString,
    /// When to renew it; none for a token that never ends.
    renew: Option<Instant>,
}

/// A failed read, as far as the last good value is concerned.
enum ReadFailure {
    /// Vault is sealed or away: the last good value stays in use.
    Temporary(VaultError),
    /// Vault refuses: the last good value is dropped.
    Permanent(VaultError),
}

/// The mount, path and key of `vault:MOUNT/PATH#KEY`.
fn parts(reference: &str) -> Option<(&str, &str, &str)> {
    let (path, key) = reference.strip_prefix("vault:")?.split_once('#')?;
    let (mount, path) = path.split_once('/')?;
    let plain = |part: &str| !part.is_empty() && !part.contains("..") && !part.contains('?');
    (plain(mount) && plain(path) && plain(key)).then_some((mount, path, key))
}

impl VaultClient {
    /// A client as configured; it sends nothing yet.
    pub(super) fn new(config: Config) -> Result<Self, SecretError> {
        let client = reqwest::Client::builder().timeout(CALL).no_proxy().build();
        let client = client.map_err(SecretError::Client)?;
        Ok(Self { config, client, session: Mutex::default(), logged_in: Notify::new() })
    }

    /// Reads a secret. While Vault is away, an earlier value is used where there is one.
    pub(super) async fn get(&self, reference: &str) -> Result<SecretString, SecretError> {
        let Some((mount, path, key)) = parts(reference) else {
            return Err(SecretError::Reference(reference.chars().take(80).collect()));
        };
        let mut session = self.session.lock().await;
        if let Some((value, read)) = session.values.get(reference)
            && read.elapsed() < FRESH
        {
            return Ok(value.clone());
        }
        let failed = |cause| SecretError::Vault { reference: reference.to_owned(), cause };
        match self.read(&mut session, mount, path, key).await {
            Ok(value) => {
                let kept = (value.clone(), Instant::now());
                session.values.insert(reference.to_owned(), kept);
                Ok(value)
            }
            Err(ReadFailure::Temporary(cause)) => match session.values.get(reference) {
                Some((value, _)) => {
                    let why = chain(&cause);
                    tracing::warn!(reference, why, "vault: the last good value stays in use");
                    Ok(value.clone())
                }
                None => Err(failed(cause)),
            },
            Err(ReadFailure::Permanent(cause)) => {
                session.values.remove(reference);
                Err(failed(cause))
            }
        }
    }

    /// Whether Vault answers and is unsealed. Asks without a token.
    pub(super) async fn answers(&self) -> Result<(), SecretError> {
        let path = "/v1/sys/health?standbyok=true&perfstandbyok=true";
        let request = self.client.get(format!("{}{path}", self.config.address));
        let away = match self.call(request).await {
            Ok((status, body)) if sink::vault(status, false) == VaultOutcome::KeepLast => {
                unavailable(status, &body)
            }
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        let (ReadFailure::Temporary(cause) | ReadFailure::Permanent(cause)) = away;
        Err(SecretError::Vault { reference: "its health".into(), cause })
    }

    async fn read(
        &self,
        session: &mut VaultSession,
        mount: &str,
        path: &str,
        key: &str,
    ) -> Result<SecretString, ReadFailure> {
        let address = format!("{}/v1/{mount}/data/{path}", self.config.address);
        let missing =
            |text: &str| Err(ReadFailure::Permanent(VaultError::Missing(text.to_owned())));
        let mut log_in_again = true;
        loop {
            let token = self.token(session).await?;
            let request = self.client.get(&address).header("x-vault-token", token.expose_secret());
            let (status, body) = self.call(request).await?;
            match sink::vault(status, body["data"]["metadata"].is_object()) {
                VaultOutcome::Take => {
                    return match body["data"]["data"][key].as_str() {
                        Some(value) => Ok(value.into()),
                        None => missing(&format!("there is no text under the key {key}")),
                    };
                }
                VaultOutcome::LogIn if log_in_again => {
                    log_in_again = false;
                    session.token = None;
                }
                VaultOutcome::LogIn => return Err(refused(status, &body)),
                VaultOutcome::Deleted => return missing("the secret was deleted"),
                VaultOutcome::Missing => return missing("there is no secret at the path"),
                VaultOutcome::KeepLast => {
                    return Err(unavailable(status, &body));
                }
            }
        }
    }

    async fn token(&self, session: &mut VaultSession) -> Result<SecretString, ReadFailure> {
        match &session.token {
            Some(token) if token.renew.is_none_or(|at| at > Instant::now()) => {
                return Ok(token.value.clone());
            }
            Some(token) => {
                let value = token.value.clone();
                match self.renew(&value).await {
                    // A lease that no longer grows has reached its maximum: log in again.
                    Ok(Some(left)) if left > Duration::from_secs(5) => {
                        let renew = Some(Instant::now() + left);
                        session.token = Some(VaultToken { value: value.clone(), renew });
                        return Ok(value);
                    }
                    Ok(_) => session.token = None,
                    Err(ReadFailure::Temporary(_)) => return Ok(value),
                    Err(ReadFailure::Permanent(_)) => session.token = None,
                }
            }
            None => {}
        }
        let token = self.log_in().await?;
        session.token = Some(token.clone());
        self.logged_in.notify_one();
        Ok(token.value)
    }

    /// Renews a token, and gives the time until the next renewal.
    async fn renew(&self, token: &SecretString) -> Result<Option<Duration>, ReadFailure> {
        let address = format!("{}/v1/auth/token/renew-self", self.config.address);
        let request = self.client.post(address).header("x-vault-token", token.expose_secret());
        let (status, body) = self.call(request.json(&json!({}))).await?;
        match sink::vault(status, false) {
            VaultOutcome::Take => Ok(lease(&body["auth"]["lease_duration"])),
            VaultOutcome::KeepLast => Err(unavailable(status, &body)),
            _ => Err(refused(status, &body)),
        }
    }

    async fn log_in(&self) -> Result<VaultToken, ReadFailure> {
        if let Some(reference) = &self.config.token {
            let env = |name: &str| std::env::var(name).ok();
            let unreadable = |e| ReadFailure::Permanent(VaultError::Token(Box::new(e)));
            let value = super::resolve(reference, &env).map_err(unreadable)?;
            // The first renewal gives the lease of the token; a root token has none.
            let left = self.renew(&value).await.ok().flatten();
            return Ok(VaultToken { value, renew: left.map(|left| Instant::now() + left) });
        }
        let Some(role) = &self.config.role else {
            return Err(ReadFailure::Permanent(VaultError::NoLogin));
        };
        let path = &self.config.jwt;
        let jwt = trusted_file::read(path).map_err(|source| {
            ReadFailure::Permanent(VaultError::ServiceAccount { path: path.clone(), source })
        })?;
        redact::remember_token(jwt.trim());
        let address = format!("{}/v1/auth/{}/login", self.config.address, self.config.mount);
        let body = json!({"role": role, "jwt": jwt.trim()});
        let (status, body) = self.call(self.client.post(address).json(&body)).await?;
        let auth = &body["auth"];
        match (sink::vault(status, false), auth["client_token"].as_str()) {
            (VaultOutcome::Take, Some(token)) => {
                redact::remember_token(token);
                let renew = lease(&auth["lease_duration"]).map(|left| Instant::now() + left);
                Ok(VaultToken { value: token.into(), renew })
            }
            (VaultOutcome::KeepLast, _) => Err(unavailable(status, &body)),
            _ => {
                let (role, answer) = (role.clone(), summary(status, &body));
                Err(ReadFailure::Permanent(VaultError::Login { role, answer }))
            }
        }
    }

    /// One call; an error is temporary, since Vault did not decide.
    async fn call(&self, request: reqwest::RequestBuilder) -> Result<(u16, Value), ReadFailure> {
        let lost = |error: reqwest::Error| {
            let error = NetworkError::new(&self.config.address, error);
            ReadFailure::Temporary(error.into())
        };
        let answer = calls::send("vault", request).await.map_err(lost)?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.map_err(lost)?;
        let body = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
        match body {
            Ok(body) => Ok((status, body)),
            // The page of a proxy in front of it.
            Err(_) if status >= 400 => Ok((status, Value::Null)),
            Err(error) => {
                let text = format!("{status} without JSON: {error}");
                Err(ReadFailure::Temporary(VaultError::Unavailable(clean_line(&text))))
            }
        }
    }

    /// Renews the token in time, also while no secret is read. Runs until it is dropped.
    pub(super) async fn renew_token(&self) {
        loop {
            let next = self.session.lock().await.token.as_ref().and_then(|token| token.renew);
            let Some(at) = next else {
                self.logged_in.notified().await;
                continue;
            };
            tokio::time::sleep_until(at.max(Instant::now() + Duration::from_secs(5))).await;
            let mut session = self.session.lock().await;
            if let Err(ReadFailure::Temporary(error) | ReadFailure::Permanent(error)) =
                self.token(&mut session).await
            {
                tracing::warn!(why = chain(&error), "vault: the token can't be renewed");
            }
        }
    }
}

/// The time until a lease is renewed; none for a lease that never ends.
fn lease(seconds: &Value) -> Option<Duration> {
    let seconds = seconds.as_u64().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(sink::renew_after(seconds)))
}

fn unavailable(status: u16, body: &Value) -> ReadFailure {
    ReadFailure::Temporary(VaultError::Unavailable(summary(status, body)))
}

fn refused(status: u16, body: &Value) -> ReadFailure {
    ReadFailure::Permanent(VaultError::Refused(summary(status, body)))
}

/// The status code and the errors of an answer, in one clean line.
fn summary(status: u16, body: &Value) -> String {
    let errors = body["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let errors: Vec<&str> = errors.collect();
    clean_line(&format!("{status} {}", errors.join(", "))).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_splits_into_mount_path_and_key() {
        assert_eq!(parts("vault:secret/afk/github#token"), Some(("secret", "afk/github", "token")));
        for bad in ["vault:secret#k", "vault:secret/a", "env:X", "vault:secret/../sys#k"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }
}
