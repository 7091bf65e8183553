//! The bearer tokens of callers. [`Caller`] is an extractor: a handler that takes one is closed to
//! requests without a known token.
//!
//! The tokens are resolved again after each change of the configuration, and once a minute for a
//! secret that was replaced in its own place. A token that was removed or demoted loses its rights at
//! once, also for a request or a stream that is under way.

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use ring::hmac;
use ring::rand::SystemRandom;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{ApiRefusal, ApiState};
use crate::config::Config;
use crate::config::http::SHORTEST_TOKEN;
use crate::core::model::command::{Command, CommandEnvelope, Role};
use crate::core::model::id::Actor;
use crate::lock::RwLockExt;
use crate::redact;
use crate::runtime::operators::OperatorSource;
use crate::runtime::rights::Rights;
use crate::runtime::{Handle, ProblemSource};

/// The time between two reads of the secrets, if the configuration doesn't change.
const READ_INTERVAL: Duration = Duration::from_secs(60);

/// The known tokens, each with its caller. Without any token every request is refused.
#[derive(Debug)]
pub(super) struct CallerTokens {
    /// A random key of this process. Tokens are stored and compared as tags under it, so that the
    /// time of a comparison reveals nothing about a token.
    key: hmac::Key,
    known: RwLock<Arc<[KnownToken]>>,
}

/// A token, and the present rights of its caller.
#[derive(Debug, Clone)]
struct KnownToken {
    tag: hmac::Tag,
    actor: Actor,
    present: watch::Sender<Option<Role>>,
}

/// A caller whose token is known.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The name of the token in the configuration.
    pub(super) actor: Actor,
    /// The role when the request began.
    pub(super) role: Role,
    /// The rights while the request lasts.
    pub(super) rights: Rights,
}

impl Caller {
    /// A command of this caller.
    pub(super) fn command(&self, origin: &str, action: Command) -> CommandEnvelope {
        let (actor, role) = (self.actor.clone(), self.role);
        CommandEnvelope { id: 0, actor, role, origin: origin.into(), command: action }
    }
}

/// A token as configured: its caller, and its secret or why there is none.
type Configured = (Actor, Role, Result<SecretString, String>);

impl CallerTokens {
    /// Resolves the tokens of the configuration and of the environment, and follows their changes until
    /// the runtime ends.
    ///
    /// # Errors
    /// Returns a line for a person if a secret can't be resolved or is too short.
    pub(super) async fn follow(config: &Config, handle: &Handle) -> Result<Arc<Self>, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "the system provides no random numbers".to_owned())?;
        let tokens = Arc::new(Self { key, known: RwLock::new(Arc::default()) });
        let problems = tokens.replace(configured(config, handle).await);
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        handle.set_operators(OperatorSource::Tokens, tokens.operators()).await;
        tokio::spawn(tokens.clone().read_on(handle.clone()));
        Ok(tokens)
    }

    async fn read_on(self: Arc<Self>, handle: Handle) {
        let mut changes = handle.config_changes();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep(READ_INTERVAL) => {}
                () = handle.ended() => return,
            }
            let problems = self.replace(configured(&handle.present_config(), &handle).await);
            handle.set_operators(OperatorSource::Tokens, self.operators()).await;
            handle.report_problems(ProblemSource::Tokens, problems).await;
        }
    }

    /// Puts these tokens in force, and returns a line for each that can't be used.
    fn replace(&self, configured: Vec<Configured>) -> Vec<String> {
        let (mut known, mut problems) = (Vec::new(), Vec::new());
        let before = self.known.read_locked().clone();
        for (actor, role, secret) in configured {
            let secret = match secret {
                Ok(secret) if secret.expose_secret().trim().chars().count() < SHORTEST_TOKEN => {
                    Err(format!("has fewer than {SHORTEST_TOKEN} characters"))
                }
                other => other,
            };
            let secret = match secret {
                Ok(secret) => secret,
                Err(why) => {
                    problems.push(format!("http.tokens.{actor}: {why}"));
                    continue;
                }
            };
            redact::remember(secret.expose_secret().trim());
            let tag = hmac::sign(&self.key, secret.expose_secret().trim().as_bytes());
            let same = |old: &&KnownToken| old.actor == actor && same_tag(&old.tag, &tag);
            let present = before.iter().find(same).map(|old| old.present.clone());
            let present = present.unwrap_or_else(|| watch::channel(None).0);
            known.push((KnownToken { tag, actor, present }, role));
        }
        for old in before.iter() {
            let stays = known.iter().any(|(new, _)| new.present.same_channel(&old.present));
            if !stays {
                tracing::info!(actor = %old.actor, "a token is not known any more");
                old.present.send_replace(None);
            }
        }
        let known: Vec<KnownToken> = known
            .into_iter()
            .map(|(token, role)| {
                let role = Some(role);
                token.present.send_if_modified(|present| std::mem::replace(present, role) != role);
                token
            })
            .collect();
        *self.known.write_locked() = known.into();
        problems
    }

    /// The names with the token of an operator.
    fn operators(&self) -> BTreeSet<Actor> {
        let known = self.known.read_locked();
        let may_act = |token: &&KnownToken| *token.present.borrow() == Some(Role::Operator);
        known.iter().filter(may_act).map(|token| token.actor.clone()).collect()
    }

    /// Whether no token is known, so that every request is refused.
    pub(super) fn is_empty(&self) -> bool {
        self.known.read_locked().is_empty()
    }

    /// The caller that a request's bearer token belongs to.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let token = bearer(headers)?;
        let known = self.known.read_locked().clone();
        let mut caller = None;
        // Compares with every token, so that the time does not reveal which one matched.
        for candidate in known.iter() {
            if hmac::verify(&self.key, token.as_bytes(), candidate.tag.as_ref()).is_ok() {
                caller = Some(candidate);
            }
        }
        let caller = caller?;
        let role = (*caller.present.borrow())?;
        let rights = Rights::watched(caller.present.subscribe(), None);
        Some(Caller { actor: caller.actor.clone(), role, rights })
    }
}

/// Both are tags under one key, so comparing them reveals nothing about a token.
fn same_tag(one: &hmac::Tag, other: &hmac::Tag) -> bool {
    one.as_ref() == other.as_ref()
}

/// The tokens of a configuration, with that of the environment first.
async fn configured(config: &Config, handle: &Handle) -> Vec<Configured> {
    let bearer = config.service.as_ref().and_then(|service| service.bearer.clone());
    let of_environment = |bearer| (Actor("api".into()), Role::Operator, Ok(bearer));
    let mut all: Vec<Configured> = bearer.into_iter().map(of_environment).collect();
    for (name, token) in &config.http.tokens {
        let secret = handle.secret(&token.secret).await;
        all.push((Actor(name.clone()), token.role, secret));
    }
    all
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

/// The bearer token of a request; the scheme's name is in any case of letters.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a-token-of-24-characters";

    fn tokens() -> CallerTokens {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).unwrap();
        CallerTokens { key, known: RwLock::new(Arc::default()) }
    }

    fn configured(name: &str, role: Role, secret: &str) -> Configured {
        (Actor(name.into()), role, Ok(secret.to_owned().into()))
    }

    fn caller(tokens: &CallerTokens, token: &str) -> Option<Caller> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        tokens.caller(&headers)
    }

    #[tokio::test]
    async fn demoted_or_removed_token_loses_its_rights_in_a_request_under_way() {
        let tokens = tokens();
        assert!(tokens.is_empty() && caller(&tokens, TOKEN).is_none());
        assert_eq!(tokens.replace(vec![configured("ana", Role::Operator, TOKEN)]), [""; 0]);
        assert_eq!(tokens.operators(), [Actor("ana".into())].into());
        let earlier = caller(&tokens, TOKEN).unwrap();
        assert_eq!(earlier.rights.role(), Role::Operator);
        tokens.replace(vec![configured("ana", Role::Viewer, TOKEN)]);
        assert_eq!(earlier.rights.role(), Role::Viewer);
        assert_eq!(caller(&tokens, TOKEN).unwrap().role, Role::Viewer);
        assert!(tokens.operators().is_empty());
        tokens.replace(vec![configured("ana", Role::Operator, TOKEN)]);
        assert_eq!(earlier.rights.role(), Role::Operator);
        // The same token under another name is another caller.
        tokens.replace(vec![configured("eve", Role::Operator, TOKEN)]);
        earlier.rights.revoked().await;
        assert_eq!(earlier.rights.role(), Role::Viewer);
        assert_eq!(caller(&tokens, TOKEN).unwrap().actor, Actor("eve".into()));
        tokens.replace(Vec::new());
        assert!(caller(&tokens, TOKEN).is_none());
    }

    #[test]
    fn short_or_unreadable_token_is_not_known() {
        let tokens = tokens();
        let unreadable = (Actor("bo".into()), Role::Viewer, Err("read x".to_owned()));
        let good = configured("ana", Role::Viewer, "0123456789abcdef");
        let problems =
            tokens.replace(vec![configured("ci", Role::Operator, " short\n"), unreadable, good]);
        assert_eq!(
            problems,
            ["http.tokens.ci: has fewer than 16 characters", "http.tokens.bo: read x"]
        );
        assert!(caller(&tokens, "short").is_none());
        assert!(caller(&tokens, "0123456789abcdef").is_some());
    }
}
