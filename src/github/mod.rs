//! GitHub's API as the tracker, CI and git's credentials use it: reads, lists, writes, GraphQL and
//! logs. The HTTP client is octocrab's, without its retries and types
//! (docs/adr/0010-octocrab-is-transport-only.md).
//!
//! One governor a token sees every answer and makes all callers wait (table T9). Reads are
//! conditional and repeated. A write is sent once; where its answer was lost it is
//! [`ApiError::Unknown`], and the caller reads back first.
//!
//! ```text
//! tracker, ci, runtime → Api::get, list, write, query, text
//!                          │ token (TokenProvider)   wait (Governor)   known page (PageCache)
//!                          ▼
//!                        GitHubTransport::send → GitHubResponse → table T9 → NextStep
//!                                        └ CallError: NetworkError, or no usable answer
//! ```

mod cache;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod governor;
mod token;
mod transport;

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::time::sleep;

use crate::config::services::GitHubConfig as Config;
use crate::core::model::time::Timestamp;
use crate::core::tables::answer::{ApiAction, ApiCall, action};
use crate::error::chain;
use crate::lock::LockExt;
use crate::secrets::Secrets;
use cache::{Page, PageCache};
use error::message;
pub use error::{ApiError, CallError, CredentialError};
use governor::Governor;
use token::TokenProvider;
use transport::{Call, GitHubResponse, GitHubTransport};

/// Attempts at one read before it fails.
const ATTEMPTS: u32 = 4;
/// The pages of one list that are read at most.
const PAGES: usize = 50;

/// The client of one GitHub with one credential; shared by all callers of both.
#[derive(Debug)]
pub struct Api {
    transport: GitHubTransport,
    base: String,
    tokens: TokenProvider,
    governor: Governor,
    cache: Mutex<PageCache>,
}

/// What a caller does after an answer.
enum NextStep {
    /// The body is the answer.
    Take,
    /// Nothing changed: the cached page is the answer.
    UseCached,
    /// The token was refused; the next attempt reads a fresh one.
    RenewToken,
    /// The server failed to answer.
    Lost(CallError),
}

impl Api {
    /// A client as configured; it sends nothing yet.
    ///
    /// # Errors
    /// A line for the operator, where there is no TLS client.
    pub fn new(config: &Config, secrets: std::sync::Arc<Secrets>) -> Result<Self, String> {
        let transport = GitHubTransport::new();
        Ok(Self {
            transport: transport.map_err(|e| format!("no client for GitHub: {}", chain(&e)))?,
            base: config.api.trim_end_matches('/').to_owned(),
            tokens: TokenProvider::new(config, secrets),
            governor: Governor::default(),
            cache: Mutex::default(),
        })
    }

    /// A token for git over HTTPS, as its password.
    ///
    /// # Errors
    /// [`ApiError::Credential`], [`ApiError::Token`], or the failure of the request for one.
    pub async fn token(&self) -> Result<SecretString, ApiError> {
        self.tokens.get(self).await
    }

    /// The login that writes are made under: a user's, or an App's with `[bot]` behind it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn login(&self) -> Result<String, ApiError> {
        self.tokens.login(self).await
    }

    /// Reads one object.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let page = self.page(&self.address(path)).await?;
        read(path, &page.body)
    }

    /// Reads all pages of a list; `list` is the key of the list in an answer that wraps it.
    ///
    /// # Errors
    /// [`ApiError`]; a list of which one page failed is an error.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        list: Option<&str>,
    ) -> Result<Vec<T>, ApiError> {
        let mut all = Vec::new();
        let mut next = Some(self.address(path));
        let mut pages = 0;
        while let Some(address) = next {
            let page = self.page(&address).await?;
            match list {
                None => all.extend(read::<Vec<T>>(path, &page.body)?),
                Some(name) => {
                    let mut whole: Value = read(path, &page.body)?;
                    let part = serde_json::from_value::<Vec<T>>(whole[name].take());
                    all.extend(part.map_err(|error| ApiError::failed(path, error))?);
                }
            }
            pages += 1;
            if pages >= PAGES {
                let why = format!("the list has more than {PAGES} pages");
                return Err(ApiError::failed(path, why));
            }
            // Never send our token to another host that a page names.
            next = page.next.filter(|next| self.is_ours(next));
        }
        Ok(all)
    }

    /// The time on GitHub's own clock, which the times of its checks are on; none before its first
    /// answer.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        self.transport.clock.now()
    }

    /// The time on GitHub's own clock in seconds of the epoch; on ours before its first answer.
    fn seconds(&self) -> u64 {
        let ours = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let theirs = self.now().and_then(|now| u64::try_from(now.0 / 1000).ok());
        theirs.unwrap_or_else(ours)
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The path of an address, as errors name the request.
    fn path<'a>(&self, address: &'a str) -> &'a str {
        address.strip_prefix(&self.base).unwrap_or(address)
    }

    /// One page as it is now; a 304 costs nothing and gives the cached page.
    async fn page(&self, address: &str) -> Result<Page, ApiError> {
        let mut renewed = false;
        let mut lost = CallError::from("no answer");
        for attempt in 0..ATTEMPTS {
            let token = self.ready(attempt).await?;
            let cached = self.cache().get(address);
            let etag = cached.as_ref().map(|page| page.etag.as_str());
            let authorization = bearer(&token);
            let call = Call { etag, ..Call::get(address, &authorization) };
            let response = match self.send(call).await {
                Ok(response) => response,
                Err(error) => {
                    lost = error;
                    continue;
                }
            };
            match self.judge(ApiCall::Read, address, &response, &token, &mut renewed).await? {
                NextStep::Take if serde_json::from_slice::<IgnoredAny>(&response.body).is_err() => {
                    lost = "the answer is not whole JSON".into();
                }
                NextStep::Take => {
                    self.governor.answered();
                    let page = Page {
                        etag: response.etag.clone().unwrap_or_default(),
                        body: response.body.into(),
                        next: response.next,
                    };
                    if response.etag.is_some() {
                        self.cache().insert(address, page.clone());
                    }
                    return Ok(page);
                }
                NextStep::UseCached => match cached {
                    Some(page) => return Ok(page),
                    None => lost = "304 for a page that was never read".into(),
                },
                NextStep::RenewToken => {}
                NextStep::Lost(cause) => lost = cause,
            }
        }
        Err(ApiError::failed(self.path(address), lost))
    }

    /// Writes once. A DELETE that finds nothing has succeeded.
    ///
    /// # Errors
    /// [`ApiError::Unknown`] where the answer was lost; the others mean that nothing was written.
    pub async fn write(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let address = self.address(path);
        let request = format!("{method} {path}");
        let unknown = |cause: CallError| ApiError::Unknown { request: request.clone(), cause };
        let mut renewed = false;
        loop {
            self.governor.pass().await?;
            let _turn = self.governor.write().await;
            let token = self.tokens.get(self).await?;
            let authorization = bearer(&token);
            let call = Call { method: &method, body, ..Call::get(&address, &authorization) };
            let response = self.send(call).await.map_err(unknown)?;
            if method == Method::DELETE && response.answer.status == 404 {
                return Ok(Value::Null);
            }
            match self.judge(ApiCall::Write, &address, &response, &token, &mut renewed).await? {
                NextStep::Take | NextStep::UseCached if response.body.is_empty() => {
                    return Ok(Value::Null);
                }
                NextStep::Take | NextStep::UseCached => {
                    self.governor.answered();
                    let value = serde_json::from_slice(&response.body);
                    return value.map_err(|error| unknown(error.into()));
                }
                NextStep::RenewToken => {}
                NextStep::Lost(cause) => return Err(unknown(cause)),
            }
        }
    }

    /// Asks by GraphQL. Only reads are asked so, which is why a lost answer is asked for again.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn query(&self, query: &str, variables: &Value) -> Result<Value, ApiError> {
        let path = "/graphql";
        // Enterprise serves GraphQL beside its REST API, and not below it.
        let address = match self.base.strip_suffix("/api/v3") {
            Some(host) => format!("{host}/api/graphql"),
            None => self.address(path),
        };
        let body = serde_json::json!({"query": query, "variables": variables});
        let mut lost = CallError::from("no answer");
        let mut renewed = false;
        for attempt in 0..ATTEMPTS {
            let token = self.ready(attempt).await?;
            let authorization = bearer(&token);
            let call = Call {
                method: &Method::POST,
                body: Some(&body),
                ..Call::get(&address, &authorization)
            };
            let response = match self.send(call).await {
                Ok(response) => response,
                Err(error) => {
                    lost = error;
                    continue;
                }
            };
            match self.judge(ApiCall::Read, &address, &response, &token, &mut renewed).await? {
                NextStep::Take => match serde_json::from_slice::<Value>(&response.body) {
                    Ok(mut whole) if whole["errors"].is_null() => return Ok(whole["data"].take()),
                    Ok(whole) => {
                        let text = whole["errors"][0]["message"].as_str().unwrap_or("an error");
                        return Err(ApiError::failed(path, text));
                    }
                    Err(error) => lost = error.into(),
                },
                NextStep::UseCached => {
                    return Err(ApiError::refused(self.path(&address), &response));
                }
                NextStep::RenewToken => {}
                NextStep::Lost(cause) => lost = cause,
            }
        }
        Err(ApiError::failed(path, lost))
    }

    /// Reads a log: text instead of JSON, and never cached. Follows one redirect, without the
    /// token.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn text(&self, path: &str) -> Result<String, ApiError> {
        let token = self.ready(0).await?;
        let address = self.address(path);
        let authorization = bearer(&token);
        let call = Call::get(&address, &authorization);
        let mut response = self.send(call).await.map_err(|e| ApiError::failed(path, e))?;
        if let (301..=308, Some(target)) = (response.answer.status, response.next.clone()) {
            let call = Call::get(&target, "");
            response = self.send(call).await.map_err(|e| ApiError::failed(path, e))?;
        }
        match response.answer.status {
            200..=299 => Ok(String::from_utf8_lossy(&response.body).into_owned()),
            _ => Err(ApiError::refused(path, &response)),
        }
    }

    /// Waits until a read may be sent, longer before each further attempt, and gives the token.
    async fn ready(&self, attempt: u32) -> Result<SecretString, ApiError> {
        if attempt > 0 {
            sleep(Duration::from_millis(250 << attempt)).await;
        }
        self.governor.pass().await?;
        self.tokens.get(self).await
    }

    /// Decides by table T9. After the first 401 of a request the token is read again, also for a
    /// write. An error means that a repetition can't help now.
    async fn judge(
        &self,
        asked: ApiCall,
        address: &str,
        response: &GitHubResponse,
        token: &SecretString,
        renewed: &mut bool,
    ) -> Result<NextStep, ApiError> {
        match action(asked, &response.answer) {
            ApiAction::Take => Ok(NextStep::Take),
            ApiAction::Keep => Ok(NextStep::UseCached),
            ApiAction::Renew if !*renewed => {
                *renewed = true;
                self.tokens.forget(token).await;
                Ok(NextStep::RenewToken)
            }
            ApiAction::Renew => Err(self.tokens.retire(&message(&response.body)).await),
            wait @ (ApiAction::Wait(_) | ApiAction::WaitUntil(_) | ApiAction::WaitDoubling) => {
                Err(self.governor.wait(wait, self.seconds()))
            }
            // One that was followed already, or that leads elsewhere.
            ApiAction::Follow | ApiAction::Show => {
                Err(ApiError::refused(self.path(address), response))
            }
            ApiAction::Retry | ApiAction::ReadBack => {
                let (status, message) = (response.answer.status, message(&response.body));
                let text = format!("GitHub answered {status} {message}");
                Ok(NextStep::Lost(text.trim_end().to_owned().into()))
            }
        }
    }

    /// Sends one call when fewer than the governor's number are under way. An address that has moved
    /// is followed once: a renamed repository answers 301 to a read and 307 to a write, and has
    /// carried nothing out then.
    async fn send(&self, call: Call<'_>) -> Result<GitHubResponse, CallError> {
        let _place = self.governor.place().await;
        let response = self.transport.send(call).await?;
        match (action(ApiCall::Write, &response.answer), &response.next) {
            (ApiAction::Follow, Some(target)) if self.is_ours(target) => {
                self.transport.send(Call { address: target, ..call }).await
            }
            _ => Ok(response),
        }
    }

    /// Whether an address belongs to this GitHub, so that it may get our token.
    fn is_ours(&self, address: &str) -> bool {
        address.strip_prefix(&self.base).is_some_and(|rest| rest.starts_with('/'))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, PageCache> {
        self.cache.locked()
    }
}

/// A time as GitHub writes it; the epoch where the text is not a time.
#[must_use]
pub fn time(text: &str) -> Timestamp {
    text.parse::<jiff::Timestamp>().map_or(Timestamp(0), |at| Timestamp(at.as_millisecond()))
}

fn bearer(token: &SecretString) -> String {
    format!("Bearer {}", token.expose_secret())
}

fn read<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::failed(path, error))
}
