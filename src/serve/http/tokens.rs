//! The bearer tokens of callers. [`Caller`] is an extractor: a handler that takes one is closed to
//! requests without a known token.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use ring::hmac;
use ring::rand::SystemRandom;
use secrecy::{ExposeSecret, SecretString};

use super::{ApiRefusal, ApiState};
use crate::config::http::HttpConfig;
use crate::core::model::command::{Command, CommandEnvelope, Role};
use crate::core::model::id::Actor;
use crate::redact;
use crate::runtime::Handle;

/// The least number of characters of a configured token.
const SHORTEST: usize = 16;

/// The known tokens, each with its caller. Without any token every request is refused.
#[derive(Debug)]
pub(super) struct CallerTokens {
    /// A random key of this process. Tokens are stored and compared as tags under it, so that the
    /// time of a comparison reveals nothing about a token.
    key: hmac::Key,
    known: Vec<(hmac::Tag, Caller)>,
}

/// A caller whose token is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// The name of the token in the configuration.
    pub(super) actor: Actor,
    pub(super) role: Role,
}

impl Caller {
    /// A command of this caller.
    pub(super) fn command(&self, origin: &str, action: Command) -> CommandEnvelope {
        let (actor, role) = (self.actor.clone(), self.role);
        CommandEnvelope { id: 0, actor, role, origin: origin.into(), command: action }
    }
}

impl CallerTokens {
    /// Resolves the tokens of the configuration, and adds the token of the environment.
    ///
    /// # Errors
    /// Returns a line for a person if a secret can't be resolved or is too short.
    pub(super) async fn resolve(
        http: &HttpConfig,
        bearer: Option<&SecretString>,
        handle: &Handle,
    ) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "the system provides no random numbers".to_owned())?;
        let mut known = Vec::new();
        if let Some(bearer) = bearer {
            redact::remember(bearer.expose_secret());
            let caller = Caller { actor: Actor("api".into()), role: Role::Operator };
            known.push((hmac::sign(&key, bearer.expose_secret().as_bytes()), caller));
        }
        for (name, token) in &http.tokens {
            let secret = handle.secret(&token.secret).await;
            let secret = secret.map_err(|why| format!("http.tokens.{name}: {why}"))?;
            let secret = secret.expose_secret().trim();
            if secret.len() < SHORTEST {
                return Err(format!("http.tokens.{name}: has fewer than {SHORTEST} characters"));
            }
            let caller = Caller { actor: Actor(name.clone()), role: token.role };
            known.push((hmac::sign(&key, secret.as_bytes()), caller));
        }
        Ok(Self { key, known })
    }

    /// Whether no token is known, so that every request is refused.
    pub(super) const fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The caller that a request's bearer token belongs to.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let token = value.strip_prefix("Bearer ")?.trim();
        let mut caller = None;
        // Compares with every token, so that the time does not reveal which one matched.
        for (tag, known) in &self.known {
            if hmac::verify(&self.key, token.as_bytes(), tag.as_ref()).is_ok() {
                caller = Some(known.clone());
            }
        }
        caller
    }
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = ApiRefusal;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiRefusal> {
        state.tokens.caller(&parts.headers).ok_or_else(|| {
            let message = "send a bearer token of [http.tokens]";
            ApiRefusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
        })
    }
}
