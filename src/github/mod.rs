//! GitHub's API: transport by octocrab, without its retries and types (docs/adr/0010-github.md).
//!
//! One governor a token sees every answer and makes all callers wait (table T9). Reads are
//! conditional and asked again; a write whose answer was lost is [`ApiError::Unknown`]: the caller
//! reads back first.

mod governor;
mod token;

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request};
use http_body_util::BodyExt;
use octocrab::Octocrab;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::config::services::GitHubConfig as Config;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::core::tables::answer::{ApiAction, ApiAnswer, Asked, action};
use crate::secrets::Secrets;
use governor::Governor;
use token::Tokens;

/// Longest time of one call.
const CALL: Duration = Duration::from_secs(30);
/// Reads of one thing before it is given up for now.
const TRIES: u32 = 4;
/// Most of an answer that is read, in bytes.
const BODY: usize = 16 * 1024 * 1024;
/// Pages of one list.
const PAGES: usize = 50;
/// Answers that are kept with their `ETag`.
const KEPT: usize = 1024;
/// Of them at most so many bytes.
const KEPT_BYTES: usize = 32 * 1024 * 1024;

/// Why GitHub did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// It says no, and asking again can't help.
    #[error("GitHub answered {status} to {what}: {said}")]
    Refused {
        /// The status.
        status: u16,
        /// What was asked.
        what: String,
        /// Its message, cleaned.
        said: String,
    },
    /// Its limits: everybody with this token waits.
    #[error("GitHub's limit is reached; asked again in {seconds} s")]
    Limited {
        /// How long still.
        seconds: u64,
    },
    /// No answer that can be read, after several tries.
    #[error("GitHub can't be asked for {what}: {said}")]
    Away {
        /// What was asked.
        what: String,
        /// What happened last.
        said: String,
    },
    /// A write whose answer was lost: nobody knows whether it was done.
    #[error("whether {what} was done is unknown: {said}")]
    Unknown {
        /// What was asked.
        what: String,
        /// What happened.
        said: String,
    },
    /// The token is no good, also a fresh one.
    #[error("GitHub refuses the token: {0}")]
    Token(String),
}

impl ApiError {
    /// The status of a refusal.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Api {
    client: Octocrab,
    base: String,
    tokens: Tokens,
    governor: Governor,
    kept: Mutex<Kept>,
}

/// Answers by address, with what makes the next request free.
#[derive(Debug, Default)]
struct Kept {
    by_address: HashMap<String, Page>,
    order: VecDeque<String>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Page {
    etag: String,
    body: std::sync::Arc<[u8]>,
    next: Option<String>,
}

impl Kept {
    fn keep(&mut self, address: &str, page: Page) {
        self.bytes += page.body.len();
        if let Some(old) = self.by_address.insert(address.to_owned(), page) {
            self.bytes -= old.body.len();
        } else {
            self.order.push_back(address.to_owned());
        }
        while (self.by_address.len() > KEPT || self.bytes > KEPT_BYTES) && !self.order.is_empty() {
            if let Some(old) = self.order.pop_front().and_then(|a| self.by_address.remove(&a)) {
                self.bytes -= old.body.len();
            }
        }
    }
}

/// A whole answer.
struct Got {
    answer: ApiAnswer,
    etag: Option<String>,
    next: Option<String>,
    body: Vec<u8>,
}

/// What an answer means for who asked.
enum Heard {
    /// It is what was asked for.
    Taken,
    /// What is known stays.
    Kept,
    /// The next call has a fresh token.
    Renewed,
    /// Nobody knows, and what was said.
    Lost(String),
}

impl Api {
    /// The API as configured; nothing is asked yet.
    ///
    /// # Errors
    /// A line for a person.
    pub fn new(config: &Config, secrets: std::sync::Arc<Secrets>) -> Result<Self, String> {
        let client = Octocrab::builder()
            .set_connect_timeout(Some(Duration::from_secs(10)))
            .set_read_timeout(Some(CALL))
            .build()
            .map_err(|error| format!("no client for GitHub: {error}"))?;
        Ok(Self {
            client,
            base: config.api.trim_end_matches('/').to_owned(),
            tokens: Tokens::new(config, secrets),
            governor: Governor::default(),
            kept: Mutex::default(),
        })
    }

    /// A token for git over https, as its password.
    ///
    /// # Errors
    /// [`ApiError::Token`] and what asking for it can lead to.
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

    /// Reads one thing.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let page = self.page(&self.address(path)).await?;
        read(path, &page.body)
    }

    /// Reads all pages of a list; `list` takes it out of an answer that wraps it.
    ///
    /// # Errors
    /// [`ApiError`]; a part of a list is none.
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
                    all.extend(part.map_err(|error| away(path, &error.to_string()))?);
                }
            }
            pages += 1;
            if pages >= PAGES {
                return Err(away(path, "has more pages than are read"));
            }
            // Only ours: what a page names is followed with our token.
            next = page.next.filter(|next| next.starts_with(&self.base));
        }
        Ok(all)
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// One page, as it is now: a 304 costs nothing and gives what is kept.
    async fn page(&self, address: &str) -> Result<Page, ApiError> {
        let mut renewed = false;
        let mut said = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                sleep(Duration::from_millis(250 << attempt)).await;
            }
            self.governor.pass().await?;
            let known = self.kept().by_address.get(address).cloned();
            let token = self.tokens.get(self).await?;
            let etag = known.as_ref().map(|page| page.etag.as_str());
            let bearer = format!("Bearer {}", token.expose_secret());
            let got = self.call(&Method::GET, address, &bearer, etag, None).await;
            let got = match got {
                Ok(got) => got,
                Err(error) => {
                    said = error;
                    continue;
                }
            };
            match self.heard(Asked::Read, address, &got, &token, &mut renewed).await? {
                Heard::Taken
                    if serde_json::from_slice::<serde::de::IgnoredAny>(&got.body).is_err() =>
                {
                    said = "the answer is no whole JSON".into();
                }
                Heard::Taken => {
                    self.governor.good();
                    let page = Page {
                        etag: got.etag.clone().unwrap_or_default(),
                        body: got.body.into(),
                        next: got.next,
                    };
                    if got.etag.is_some() {
                        self.kept().keep(address, page.clone());
                    }
                    return Ok(page);
                }
                Heard::Kept => match known {
                    Some(page) => return Ok(page),
                    None => said = "304 for what was never read".into(),
                },
                Heard::Renewed => {}
                Heard::Lost(why) => said = why,
            }
        }
        Err(away(address.strip_prefix(&self.base).unwrap_or(address), &said))
    }

    /// Writes once. A 404 to a DELETE is done.
    ///
    /// # Errors
    /// [`ApiError::Unknown`] where the answer was lost; others as they say.
    pub async fn write(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let address = self.address(path);
        let what = format!("{method} {path}");
        let mut renewed = false;
        loop {
            self.governor.pass().await?;
            let _turn = self.governor.write().await;
            let token = self.tokens.get(self).await?;
            let bearer = format!("Bearer {}", token.expose_secret());
            let got = self.call(&method, &address, &bearer, None, body).await;
            let got = got.map_err(|said| ApiError::Unknown { what: what.clone(), said })?;
            if method == Method::DELETE && got.answer.status == 404 {
                return Ok(Value::Null);
            }
            match self.heard(Asked::Write, &address, &got, &token, &mut renewed).await? {
                Heard::Taken | Heard::Kept if got.body.is_empty() => return Ok(Value::Null),
                Heard::Taken | Heard::Kept => {
                    self.governor.good();
                    let unknown = |error: serde_json::Error| ApiError::Unknown {
                        what: what.clone(),
                        said: error.to_string(),
                    };
                    return serde_json::from_slice(&got.body).map_err(unknown);
                }
                Heard::Renewed => {}
                Heard::Lost(said) => return Err(ApiError::Unknown { what, said }),
            }
        }
    }

    /// Asks by GraphQL; reads only, so it is asked again.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn query(&self, query: &str, variables: &Value) -> Result<Value, ApiError> {
        let path = "/graphql";
        // Enterprise has it beside, and not below, the REST API.
        let address = match self.base.strip_suffix("/api/v3") {
            Some(host) => format!("{host}/api/graphql"),
            None => self.address(path),
        };
        let body = serde_json::json!({"query": query, "variables": variables});
        let mut said = String::new();
        let mut renewed = false;
        for attempt in 0..TRIES {
            if attempt > 0 {
                sleep(Duration::from_millis(250 << attempt)).await;
            }
            self.governor.pass().await?;
            let token = self.tokens.get(self).await?;
            let bearer = format!("Bearer {}", token.expose_secret());
            let got = match self.call(&Method::POST, &address, &bearer, None, Some(&body)).await {
                Ok(got) => got,
                Err(error) => {
                    said = error;
                    continue;
                }
            };
            match self.heard(Asked::Read, &address, &got, &token, &mut renewed).await? {
                Heard::Taken => match serde_json::from_slice::<Value>(&got.body) {
                    Ok(mut whole) if whole["errors"].is_null() => return Ok(whole["data"].take()),
                    Ok(whole) => {
                        let text = whole["errors"][0]["message"].as_str().unwrap_or("an error");
                        return Err(away(path, text));
                    }
                    Err(error) => said = error.to_string(),
                },
                Heard::Kept => return Err(refused(&address, &self.base, &got)),
                Heard::Renewed => {}
                Heard::Lost(why) => said = why,
            }
        }
        Err(away(path, &said))
    }

    /// Reads what is no JSON, without a cache: a log. Follows one redirect, without the token.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn text(&self, path: &str) -> Result<String, ApiError> {
        self.governor.pass().await?;
        let token = self.tokens.get(self).await?;
        let bearer = format!("Bearer {}", token.expose_secret());
        let address = self.address(path);
        let got = self.call(&Method::GET, &address, &bearer, None, None).await;
        let mut got = got.map_err(|said| away(path, &said))?;
        if let (301..=308, Some(to)) = (got.answer.status, got.next.clone()) {
            let moved = self.call(&Method::GET, &to, "", None, None).await;
            got = moved.map_err(|said| away(path, &said))?;
        }
        match got.answer.status {
            200..=299 => Ok(String::from_utf8_lossy(&got.body).into_owned()),
            _ => Err(refused(&address, &self.base, &got)),
        }
    }

    /// What an answer means (table T9): everybody waits, or the token is looked for anew once,
    /// whatever was asked. Errors are those that asking again can't mend now.
    async fn heard(
        &self,
        asked: Asked,
        address: &str,
        got: &Got,
        token: &SecretString,
        renewed: &mut bool,
    ) -> Result<Heard, ApiError> {
        match action(asked, &got.answer) {
            ApiAction::Take => Ok(Heard::Taken),
            ApiAction::Keep => Ok(Heard::Kept),
            ApiAction::Renew if !*renewed => {
                *renewed = true;
                self.tokens.refused(token).await;
                Ok(Heard::Renewed)
            }
            ApiAction::Renew => Err(self.tokens.dead(&message(&got.body)).await),
            wait @ (ApiAction::Wait(_) | ApiAction::WaitUntil(_) | ApiAction::WaitDoubling) => {
                Err(self.governor.wait(wait))
            }
            ApiAction::Show => Err(refused(address, &self.base, got)),
            ApiAction::Again | ApiAction::ReadBack => {
                Ok(Heard::Lost(format!("{} {}", got.answer.status, message(&got.body))))
            }
        }
    }

    /// One call; an error is a line for a person: no whole answer came.
    async fn call(
        &self,
        method: &Method,
        address: &str,
        bearer: &str,
        etag: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Got, String> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(address)
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28");
        if !bearer.is_empty() {
            request = request.header("authorization", bearer);
        }
        if let Some(etag) = etag.filter(|etag| !etag.is_empty()) {
            request = request.header("if-none-match", etag);
        }
        let request = self.client.build_request(request, body).map_err(|e| chain(&e))?;
        let _place = self.governor.place().await;
        let work = async {
            let answer = self.client.execute(request).await.map_err(|e| chain(&e))?;
            let (parts, body) = answer.into_parts();
            let text = |name: &str| {
                parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
            };
            let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
            let mut body = body;
            let mut bytes = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|e| chain(&e))?;
                if let Ok(data) = frame.into_data() {
                    bytes.extend_from_slice(&data);
                    if bytes.len() > BODY {
                        return Err("the answer is too long".to_owned());
                    }
                }
            }
            let told = text("content-length").and_then(|n| n.parse::<usize>().ok());
            let status = parts.status.as_u16();
            if told.is_some_and(|told| told != bytes.len()) && status != 304 {
                return Err("the answer was cut off".to_owned());
            }
            let next = if (301..=308).contains(&status) {
                text("location")
            } else {
                text("link").and_then(|link| next_page(&link))
            };
            let said = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).to_lowercase();
            let answer = ApiAnswer {
                status,
                retry_after: number("retry-after"),
                remaining: number("x-ratelimit-remaining"),
                reset: number("x-ratelimit-reset"),
                secondary: said.contains("secondary rate limit") || said.contains("abuse"),
            };
            Ok(Got { answer, etag: text("etag"), next, body: bytes })
        };
        timeout(CALL, work).await.unwrap_or_else(|_| Err("no answer in time".into()))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time as GitHub writes it; the epoch where it is none.
#[must_use]
pub fn time(text: &str) -> Timestamp {
    text.parse::<jiff::Timestamp>().map_or(Timestamp(0), |at| Timestamp(at.as_millisecond()))
}

fn read<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| away(path, &error.to_string()))
}

fn away(what: &str, said: &str) -> ApiError {
    ApiError::Away { what: clean_line(what), said: clean_line(said) }
}

fn refused(address: &str, base: &str, got: &Got) -> ApiError {
    let what = clean_line(address.strip_prefix(base).unwrap_or(address));
    ApiError::Refused { status: got.answer.status, what, said: message(&got.body) }
}

/// The message in an error's body, cleaned.
fn message(body: &[u8]) -> String {
    let value = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let text: String = value["message"].as_str().unwrap_or_default().chars().take(300).collect();
    clean_line(&text)
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    clean_line(&text)
}

/// The address after `rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (address, rest) = part.trim().strip_prefix('<')?.split_once('>')?;
        rest.contains("rel=\"next\"").then(|| address.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        let link = "<https://x/a?page=1>; rel=\"prev\", <https://x/a?page=3>; rel=\"next\"";
        assert_eq!(next_page(link).as_deref(), Some("https://x/a?page=3"));
        assert_eq!(next_page("<https://x/a?page=1>; rel=\"last\""), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::default();
        let page = |size: usize| Page { etag: "e".into(), body: vec![0; size].into(), next: None };
        for n in 0..KEPT + 10 {
            kept.keep(&n.to_string(), page(10));
        }
        assert_eq!((kept.by_address.len(), kept.bytes), (KEPT, KEPT * 10));
        kept.keep("large", page(KEPT_BYTES));
        assert!(kept.bytes <= KEPT_BYTES && kept.by_address.contains_key("large"));
    }
}
