//! Vault or `OpenBao`, KV version 2: with a token, or logged in as a Kubernetes service account.
//! The token is renewed at two thirds of its lease, and replaced by a new login where its maximum
//! is near. A sealed Vault takes nothing away: the last good value stays in use.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::SecretError;
use crate::config::services::VaultConfig as Config;
use crate::core::model::untrusted::clean_line;
use crate::core::tables::sink::{self, VaultOutcome};

/// Longest time of one call.
const CALL: Duration = Duration::from_secs(10);
/// How long a value is used before it is read again.
const FRESH: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Vault {
    config: Config,
    client: reqwest::Client,
    state: Mutex<State>,
    /// Told at each login: there is a token to keep.
    logged_in: Notify,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    values: BTreeMap<String, (SecretString, Instant)>,
}

#[derive(Debug, Clone)]
struct Token {
    value: SecretString,
    /// When to renew it; none never ends.
    renew: Option<Instant>,
}

/// `vault:MOUNT/PATH#KEY`, taken apart.
fn parts(reference: &str) -> Option<(&str, &str, &str)> {
    let (path, key) = reference.strip_prefix("vault:")?.split_once('#')?;
    let (mount, path) = path.split_once('/')?;
    let plain = |part: &str| !part.is_empty() && !part.contains("..") && !part.contains('?');
    (plain(mount) && plain(path) && plain(key)).then_some((mount, path, key))
}

impl Vault {
    /// A Vault as configured; nothing is asked yet.
    ///
    /// # Errors
    /// Where no client can be made.
    pub fn new(config: Config) -> Result<Self, SecretError> {
        let client = reqwest::Client::builder().timeout(CALL).no_proxy().build();
        let client = client.map_err(|error| SecretError::Vault(error.to_string()))?;
        Ok(Self { config, client, state: Mutex::default(), logged_in: Notify::new() })
    }

    /// A secret's value.
    ///
    /// # Errors
    /// [`SecretError`] where there is none and there was none.
    pub async fn get(&self, reference: &str) -> Result<SecretString, SecretError> {
        let Some((mount, path, key)) = parts(reference) else {
            return Err(SecretError::Reference(reference.chars().take(80).collect()));
        };
        let mut state = self.state.lock().await;
        if let Some((value, read)) = state.values.get(reference)
            && read.elapsed() < FRESH
        {
            return Ok(value.clone());
        }
        match self.read(&mut state, mount, path, key).await {
            Ok(value) => {
                let kept = (value.clone(), Instant::now());
                state.values.insert(reference.to_owned(), kept);
                Ok(value)
            }
            Err(Trouble::Passing(why)) => match state.values.get(reference) {
                Some((value, _)) => {
                    tracing::warn!(reference, why, "vault: the last good value stays in use");
                    Ok(value.clone())
                }
                None => Err(SecretError::Vault(format!("{reference}: {why}"))),
            },
            Err(Trouble::Lasting(why)) => {
                state.values.remove(reference);
                Err(SecretError::Vault(format!("{reference}: {why}")))
            }
        }
    }

    async fn read(
        &self,
        state: &mut State,
        mount: &str,
        path: &str,
        key: &str,
    ) -> Result<SecretString, Trouble> {
        let address = format!("{}/v1/{mount}/data/{path}", self.config.address);
        for again in [true, false] {
            let token = self.token(state).await?;
            let request = self.client.get(&address).header("x-vault-token", token.expose_secret());
            let (status, body) = self.call(request).await?;
            match sink::vault(status, body["data"]["metadata"].is_object()) {
                VaultOutcome::Take => {
                    return body["data"]["data"][key].as_str().map(SecretString::from).ok_or_else(
                        || Trouble::Lasting(format!("there is no text under the key {key}")),
                    );
                }
                VaultOutcome::LogIn if again => state.token = None,
                VaultOutcome::LogIn => return Err(Trouble::Lasting(said(status, &body))),
                VaultOutcome::Deleted => return Err(Trouble::Lasting("it was deleted".into())),
                VaultOutcome::Missing => return Err(Trouble::Lasting("it is not there".into())),
                VaultOutcome::KeepLast => return Err(Trouble::Passing(said(status, &body))),
            }
        }
        Err(Trouble::Passing("it could not be read".into()))
    }

    async fn token(&self, state: &mut State) -> Result<SecretString, Trouble> {
        match &state.token {
            Some(token) if token.renew.is_none_or(|at| at > Instant::now()) => {
                return Ok(token.value.clone());
            }
            Some(token) => {
                let value = token.value.clone();
                match self.renew(&value).await {
                    // A lease that grows no more has reached its maximum: log in again.
                    Ok(Some(left)) if left > Duration::from_secs(5) => {
                        let renew = Some(Instant::now() + left);
                        state.token = Some(Token { value: value.clone(), renew });
                        return Ok(value);
                    }
                    Ok(_) => state.token = None,
                    Err(Trouble::Passing(_)) => return Ok(value),
                    Err(Trouble::Lasting(_)) => state.token = None,
                }
            }
            None => {}
        }
        let token = self.log_in().await?;
        state.token = Some(token.clone());
        self.logged_in.notify_one();
        Ok(token.value)
    }

    /// Renews a token; how long until the next time.
    async fn renew(&self, token: &SecretString) -> Result<Option<Duration>, Trouble> {
        let address = format!("{}/v1/auth/token/renew-self", self.config.address);
        let request = self.client.post(address).header("x-vault-token", token.expose_secret());
        let (status, body) = self.call(request.json(&json!({}))).await?;
        match sink::vault(status, false) {
            VaultOutcome::Take => Ok(lease(&body["auth"]["lease_duration"])),
            VaultOutcome::KeepLast => Err(Trouble::Passing(said(status, &body))),
            _ => Err(Trouble::Lasting(said(status, &body))),
        }
    }

    async fn log_in(&self) -> Result<Token, Trouble> {
        let lasting = |error: SecretError| Trouble::Lasting(error.to_string());
        if let Some(reference) = &self.config.token {
            let env = |name: &str| std::env::var(name).ok();
            let value = super::resolve(reference, &env).map_err(lasting)?;
            // How long it lives is asked once; a root token never ends.
            let left = self.renew(&value).await.ok().flatten();
            return Ok(Token { value, renew: left.map(|left| Instant::now() + left) });
        }
        let Some(role) = &self.config.role else {
            return Err(Trouble::Lasting("[vault] names neither `token` nor `role`".into()));
        };
        let jwt = tokio::fs::read_to_string(&self.config.jwt).await;
        let jwt = jwt
            .map_err(|error| Trouble::Lasting(format!("{}: {error}", self.config.jwt.display())))?;
        let address = format!("{}/v1/auth/{}/login", self.config.address, self.config.mount);
        let body = json!({"role": role, "jwt": jwt.trim()});
        let (status, body) = self.call(self.client.post(address).json(&body)).await?;
        let auth = &body["auth"];
        match (sink::vault(status, false), auth["client_token"].as_str()) {
            (VaultOutcome::Take, Some(token)) => {
                let renew = lease(&auth["lease_duration"]).map(|left| Instant::now() + left);
                Ok(Token { value: token.into(), renew })
            }
            (VaultOutcome::KeepLast, _) => Err(Trouble::Passing(said(status, &body))),
            _ => Err(Trouble::Lasting(format!("login as {role}: {}", said(status, &body)))),
        }
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Result<(u16, Value), Trouble> {
        let away = |error: reqwest::Error| Trouble::Passing(clean_line(&error.to_string()));
        let answer = request.send().await.map_err(away)?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.map_err(away)?;
        let body = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
        match body {
            Ok(body) => Ok((status, body)),
            // A proxy's page in front of it.
            Err(_) if status >= 400 => Ok((status, Value::Null)),
            Err(error) => Err(Trouble::Passing(error.to_string())),
        }
    }

    /// Renews the token in time, though nobody asks for a secret; until it is dropped.
    pub async fn keep(&self) {
        loop {
            let next = self.state.lock().await.token.as_ref().and_then(|token| token.renew);
            let Some(at) = next else {
                self.logged_in.notified().await;
                continue;
            };
            tokio::time::sleep_until(at.max(Instant::now() + Duration::from_secs(5))).await;
            let mut state = self.state.lock().await;
            if let Err(Trouble::Passing(why) | Trouble::Lasting(why)) = self.token(&mut state).await
            {
                tracing::warn!(why, "vault: the token can't be renewed");
            }
        }
    }
}

enum Trouble {
    /// Sealed, or away.
    Passing(String),
    /// It says no.
    Lasting(String),
}

fn lease(seconds: &Value) -> Option<Duration> {
    let seconds = seconds.as_u64().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(sink::renew_after(seconds)))
}

fn said(status: u16, body: &Value) -> String {
    let errors = body["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let errors: Vec<&str> = errors.collect();
    clean_line(&format!("{status} {}", errors.join(", "))).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_mount_a_path_and_a_key() {
        assert_eq!(parts("vault:secret/afk/github#token"), Some(("secret", "afk/github", "token")));
        for bad in ["vault:secret#k", "vault:secret/a", "env:X", "vault:secret/../sys#k"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }
}
