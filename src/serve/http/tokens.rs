//! Who a bearer token is.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use ring::hmac;
use ring::rand::SystemRandom;
use secrecy::{ExposeSecret, SecretString};

use super::{Refused, Shared};
use crate::config::http::HttpConfig;
use crate::core::model::command::Role;
use crate::core::model::id::Actor;
use crate::runtime::Handle;

/// The least that a token may have.
const LEAST: usize = 16;

/// The tokens that are known; none lets nobody in.
#[derive(Debug)]
pub struct Tokens {
    /// Of this process alone: a comparison of tags says nothing about the tokens.
    key: hmac::Key,
    known: Vec<(hmac::Tag, Caller)>,
}

/// Somebody whose token is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the token.
    pub actor: Actor,
    /// What it may do.
    pub role: Role,
}

impl Tokens {
    /// Those of the configuration, and that of the environment.
    ///
    /// # Errors
    /// A line for a person.
    pub(super) async fn new(
        http: &HttpConfig,
        bearer: Option<&SecretString>,
        handle: &Handle,
    ) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "no random numbers can be had".to_owned())?;
        let mut known = Vec::new();
        if let Some(bearer) = bearer {
            let caller = Caller { actor: Actor("api".into()), role: Role::Operator };
            known.push((hmac::sign(&key, bearer.expose_secret().as_bytes()), caller));
        }
        for (name, token) in &http.tokens {
            let secret = handle.secret(&token.secret).await;
            let secret = secret.map_err(|why| format!("http.tokens.{name}: {why}"))?;
            let secret = secret.expose_secret().trim();
            if secret.len() < LEAST {
                return Err(format!("http.tokens.{name}: has less than {LEAST} characters"));
            }
            let caller = Caller { actor: Actor(name.clone()), role: token.role };
            known.push((hmac::sign(&key, secret.as_bytes()), caller));
        }
        Ok(Self { key, known })
    }

    /// Nobody is known.
    pub(super) const fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Who sent a request; compared in constant time.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let token = value.strip_prefix("Bearer ")?.trim();
        let mut found = None;
        for (tag, caller) in &self.known {
            // All of them, so that the time says nothing about which.
            if hmac::verify(&self.key, token.as_bytes(), tag.as_ref()).is_ok() {
                found = Some(caller.clone());
            }
        }
        found
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refused> {
        shared.tokens.caller(&parts.headers).ok_or_else(|| {
            let message = "a bearer token is needed that [http.tokens] knows";
            Refused::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
        })
    }
}
