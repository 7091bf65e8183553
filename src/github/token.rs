//! The token of every call: a personal one, read again each minute from where the configuration
//! points, or an installation's of a GitHub App, which lives for an hour. A token that GitHub refuses
//! twice is not sent again until it changes.

use std::sync::Arc;
use std::time::Duration;

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

use super::transport::{Call, GitHubResponse};
use super::{Api, ApiError, CredentialError};
use crate::config::services::{GitHubAppConfig, GitHubConfig};
use crate::redact;
use crate::secrets::Secrets;

/// How long an installation's token is used; GitHub lets it live for an hour.
const INSTALLATION: Duration = Duration::from_secs(50 * 60);
/// The difference of clocks that an App's authorization covers, in seconds.
const CLOCK_TOLERANCE: u64 = 30;
/// How long a personal token is used before it is read again.
const PERSONAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct TokenProvider {
    source: TokenSource,
    secrets: Arc<Secrets>,
    state: Mutex<TokenState>,
}

#[derive(Debug)]
enum TokenSource {
    /// A reference to the secret.
    Personal(String),
    App(GitHubAppConfig),
}

#[derive(Debug, Default)]
struct TokenState {
    /// The token in use, and until when it is.
    current: Option<(SecretString, Instant)>,
    /// The token that GitHub refused twice, and what it answered.
    retired: Option<(SecretString, String)>,
    login: Option<String>,
}

impl TokenProvider {
    pub(super) fn new(config: &GitHubConfig, secrets: Arc<Secrets>) -> Self {
        let source = match (&config.token, &config.app) {
            (_, Some(app)) => TokenSource::App(app.clone()),
            (token, None) => TokenSource::Personal(token.clone().unwrap_or_default()),
        };
        Self { source, secrets, state: Mutex::default() }
    }

    pub(super) async fn get(&self, api: &Api) -> Result<SecretString, ApiError> {
        let mut state = self.state.lock().await;
        if let Some((token, until)) = &state.current
            && *until > Instant::now()
        {
            return Ok(token.clone());
        }
        let (token, life) = match &self.source {
            TokenSource::Personal(reference) => {
                let token = self.secrets.get(reference).await;
                (token.map_err(|error| ApiError::Credential(error.into()))?, PERSONAL)
            }
            TokenSource::App(app) => (self.installation(api, app).await?, INSTALLATION),
        };
        if let Some((retired, why)) = &state.retired
            && retired.expose_secret() == token.expose_secret()
        {
            return Err(ApiError::Token(why.clone()));
        }
        (state.retired, state.current) = (None, Some((token.clone(), Instant::now() + life)));
        Ok(token)
    }

    /// Forgets a token after a 401, so that the next [`TokenProvider::get`] reads a fresh one.
    pub(super) async fn forget(&self, token: &SecretString) {
        let mut state = self.state.lock().await;
        if state.current.as_ref().is_some_and(|(k, _)| k.expose_secret() == token.expose_secret()) {
            state.current = None;
        }
    }

    /// Sends the token no longer, after GitHub refused the fresh one as well.
    pub(super) async fn retire(&self, message: &str) -> ApiError {
        let mut state = self.state.lock().await;
        let why = format!("401 {message}; it is not sent again until it changes");
        state.retired = state.current.take().map(|(token, _)| (token, why.clone()));
        ApiError::Token(why)
    }

    /// The login that belongs to the token.
    pub(super) async fn login(&self, api: &Api) -> Result<String, ApiError> {
        if let Some(login) = &self.state.lock().await.login {
            return Ok(login.clone());
        }
        let login = match &self.source {
            TokenSource::Personal(_) => {
                let user: Value = api.get("/user").await?;
                user["login"].as_str().map(str::to_owned)
            }
            TokenSource::App(app) => {
                let response = self.call_as_app(api, app, &Method::GET, "/app").await?;
                let app: Value = super::read("/app", &response.body)?;
                app["slug"].as_str().map(|slug| format!("{slug}[bot]"))
            }
        };
        let login = login.ok_or_else(|| ApiError::failed("/user", "the answer names no login"))?;
        self.state.lock().await.login = Some(login.clone());
        Ok(login)
    }

    /// Requests a fresh token of an installation.
    async fn installation(
        &self,
        api: &Api,
        app: &GitHubAppConfig,
    ) -> Result<SecretString, ApiError> {
        let path = format!("/app/installations/{}/access_tokens", app.installation);
        let response = self.call_as_app(api, app, &Method::POST, &path).await?;
        if response.answer.status != 201 && response.answer.status != 200 {
            return Err(ApiError::refused(&path, &response));
        }
        let body: Value = super::read(&path, &response.body)?;
        let token = body["token"].as_str().inspect(|token| redact::remember_token(token));
        let token = token.map(SecretString::from);
        token.ok_or_else(|| ApiError::failed(&path, "the answer holds no token"))
    }

    /// A call of the App itself. Its authorization is valid for minutes on GitHub's clock, which afk
    /// may learn from the refusal of the first one.
    async fn call_as_app(
        &self,
        api: &Api,
        app: &GitHubAppConfig,
        method: &Method,
        path: &str,
    ) -> Result<GitHubResponse, ApiError> {
        let (address, first) = (api.address(path), api.seconds());
        let send = async |now: u64| {
            let authorization = self.jwt(app, now).await?;
            let call = Call { method, ..Call::get(&address, &authorization) };
            api.send(call).await.map_err(|error| ApiError::failed(path, error))
        };
        let response = send(first).await?;
        let now = api.seconds();
        if response.answer.status == 401 && now.abs_diff(first) > CLOCK_TOLERANCE {
            return send(now).await;
        }
        Ok(response)
    }

    /// The `authorization` of the App itself: its id, signed with its private key (RS256, RFC
    /// 7519), valid for nine minutes from `now`, in seconds of the epoch.
    async fn jwt(&self, app: &GitHubAppConfig, now: u64) -> Result<String, ApiError> {
        let bad = |why: String| ApiError::Credential(CredentialError::Key(why));
        let pem = self.secrets.get(&app.key).await;
        let pem = pem.map_err(|error| ApiError::Credential(error.into()))?;
        signed(&pem, &app.id, now).map(|token| format!("Bearer {token}")).map_err(bad)
    }
}

/// A JSON web token of an App, signed with the key in `pem`; an error completes "the private key".
fn signed(pem: &SecretString, id: &str, now: u64) -> Result<String, String> {
    let key = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes());
    let pair = match key.map_err(|error| format!("is not PEM: {error}"))? {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err("is not an RSA key".into()),
    };
    let pair = pair.map_err(|error| format!("is not usable: {error}"))?;
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
    fn app_token_is_signed_with_either_kind_of_pem() {
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
                _ => panic!("ssh-keygen wrote another kind of key"),
            };
            let public = pair.unwrap().public().as_ref().to_vec();
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
                .verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
                .unwrap();
        }
        assert!(signed(&"no key".into(), "1", 1_000).unwrap_err().starts_with("is not PEM"));
    }
}
