//! What calls are made with: a personal token, or an App's, which lives for an hour.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Api, ApiError};
use crate::config::services::{GitHubAppConfig, GitHubConfig};
use crate::secrets::Secrets;

/// An installation's token lives an hour; it is replaced before.
const INSTALLATION: Duration = Duration::from_secs(50 * 60);
/// How long a personal token is used before its place is looked at again.
const PERSONAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Tokens {
    from: From,
    secrets: Arc<Secrets>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum From {
    Personal(String),
    App(GitHubAppConfig),
}

#[derive(Debug, Default)]
struct State {
    known: Option<(SecretString, Instant)>,
    /// One that GitHub refuses: it is not used again.
    dead: Option<SecretString>,
    why: String,
    login: Option<String>,
}

impl Tokens {
    pub(super) fn new(config: &GitHubConfig, secrets: Arc<Secrets>) -> Self {
        let from = match (&config.token, &config.app) {
            (_, Some(app)) => From::App(app.clone()),
            (token, None) => From::Personal(token.clone().unwrap_or_default()),
        };
        Self { from, secrets, state: Mutex::default() }
    }

    pub(super) async fn get(&self, api: &Api) -> Result<SecretString, ApiError> {
        let mut state = self.state.lock().await;
        if let Some((token, until)) = &state.known
            && *until > Instant::now()
        {
            return Ok(token.clone());
        }
        let (token, life) = match &self.from {
            From::Personal(reference) => {
                let token = self.secrets.get(reference).await;
                (token.map_err(|error| ApiError::Token(error.to_string()))?, PERSONAL)
            }
            From::App(app) => (self.installation(api, app).await?, INSTALLATION),
        };
        if state.dead.as_ref().is_some_and(|dead| dead.expose_secret() == token.expose_secret()) {
            return Err(ApiError::Token(state.why.clone()));
        }
        (state.dead, state.known) = (None, Some((token.clone(), Instant::now() + life)));
        Ok(token)
    }

    /// GitHub answered 401: the next [`Tokens::get`] looks for a fresh one.
    pub(super) async fn refused(&self, token: &SecretString) {
        let mut state = self.state.lock().await;
        if state.known.as_ref().is_some_and(|(k, _)| k.expose_secret() == token.expose_secret()) {
            state.known = None;
        }
    }

    /// And again to the fresh one: it is not used any more.
    pub(super) async fn dead(&self, why: &str) -> ApiError {
        let mut state = self.state.lock().await;
        state.dead = state.known.take().map(|(token, _)| token);
        state.why = format!("401 {why}; it is not used again until it changes");
        ApiError::Token(state.why.clone())
    }

    pub(super) async fn login(&self, api: &Api) -> Result<String, ApiError> {
        if let Some(login) = &self.state.lock().await.login {
            return Ok(login.clone());
        }
        let login = match &self.from {
            From::Personal(_) => {
                let user: Value = api.get("/user").await?;
                user["login"].as_str().map(str::to_owned)
            }
            From::App(app) => {
                let bearer = self.jwt(app).await?;
                let address = api.address("/app");
                let got = api.call(&Method::GET, &address, &bearer, None, None).await;
                let got = got.map_err(|said| super::away("/app", &said))?;
                let app: Value = super::read("/app", &got.body)?;
                app["slug"].as_str().map(|slug| format!("{slug}[bot]"))
            }
        };
        let login = login.ok_or_else(|| super::away("/user", "it names no login"))?;
        self.state.lock().await.login = Some(login.clone());
        Ok(login)
    }

    /// A fresh token of an installation.
    async fn installation(
        &self,
        api: &Api,
        app: &GitHubAppConfig,
    ) -> Result<SecretString, ApiError> {
        let path = format!("/app/installations/{}/access_tokens", app.installation);
        let bearer = self.jwt(app).await?;
        let got = api.call(&Method::POST, &api.address(&path), &bearer, None, None).await;
        let got = got.map_err(|said| super::away(&path, &said))?;
        if got.answer.status != 201 && got.answer.status != 200 {
            return Err(super::refused(&path, "", &got));
        }
        let body: Value = super::read(&path, &got.body)?;
        let token = body["token"].as_str();
        token.map(SecretString::from).ok_or_else(|| super::away(&path, "it gives no token"))
    }

    /// The App's own name, signed with its key (RS256, RFC 7519), good for nine minutes.
    async fn jwt(&self, app: &GitHubAppConfig) -> Result<String, ApiError> {
        let bad = |why: String| ApiError::Token(format!("the App's key: {why}"));
        let pem = self.secrets.get(&app.key).await.map_err(|error| bad(error.to_string()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        signed(&pem, &app.id, now).map(|token| format!("Bearer {token}")).map_err(bad)
    }
}

fn signed(pem: &SecretString, id: &str, now: u64) -> Result<String, String> {
    let key = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes());
    let pair = match key.map_err(|error| format!("is no PEM: {error}"))? {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err("is no RSA key".into()),
    };
    let pair = pair.map_err(|error| error.to_string())?;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    // Sixty seconds back, for clocks that differ.
    let claims = json!({"iat": now - 60, "exp": now + 9 * 60, "iss": id});
    let text = format!("{}.{}", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims));
    let mut signature = vec![0; pair.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
        .map_err(|_| "can't sign".to_owned())?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    #[test]
    fn an_apps_token_is_signed_with_either_kind_of_pem() {
        for format in ["traditional", "pkcs8"] {
            let mut make = Command::new("ssh-keygen");
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("key");
            make.args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-m"]);
            make.arg(if format == "pkcs8" { "PKCS8" } else { "PEM" }).arg("-f").arg(&file);
            assert!(make.status().unwrap().success());
            let pem = std::fs::read_to_string(&file).unwrap();
            let token = signed(&pem.clone().into(), "Iv1.abc", 1_000_000).unwrap();
            let (text, signature) = token.rsplit_once('.').unwrap();
            let (_, claims) = text.split_once('.').unwrap();
            let claims: Value =
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
            assert_eq!(claims, json!({"iat": 999_940, "exp": 1_000_540, "iss": "Iv1.abc"}));
            let pair = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap() {
                PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
                PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
                _ => panic!("a kind of key that was not asked for"),
            };
            let public = pair.unwrap().public().as_ref().to_vec();
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
                .verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
                .unwrap();
        }
        assert!(signed(&"no key".into(), "1", 1_000).unwrap_err().starts_with("is no PEM"));
    }
}
