//! One HTTP call to GitHub: headers, time limit, the whole body, and the facts of the answer that
//! table T9 decides on. The client is octocrab's, without its retries.

use std::time::Duration;

use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use octocrab::Octocrab;
use serde_json::Value;
use tokio::time::timeout;

use super::error::CallError;
use crate::core::tables::answer::ApiAnswer;
use crate::network::{NetworkError, calls};
use crate::server_clock::ServerClock;

/// The time limit of one call.
const CALL: Duration = Duration::from_secs(30);
/// The longest body that is read, in bytes.
const BODY: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct GitHubTransport {
    client: Octocrab,
    /// GitHub's own clock.
    pub clock: ServerClock,
}

/// A call before it is sent.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub method: &'a Method,
    pub address: &'a str,
    /// The `authorization` header; empty for an address that must not get our token.
    pub authorization: &'a str,
    /// The `ETag` of the cached page.
    pub etag: Option<&'a str>,
    pub body: Option<&'a Value>,
}

impl<'a> Call<'a> {
    /// A read without a condition or a body.
    pub(super) fn get(address: &'a str, authorization: &'a str) -> Self {
        Self { method: &Method::GET, address, authorization, etag: None, body: None }
    }
}

/// An answer that came whole.
pub(super) struct GitHubResponse {
    pub answer: ApiAnswer,
    pub etag: Option<String>,
    /// The next page of a list, or the target of a redirect.
    pub next: Option<String>,
    pub body: Vec<u8>,
}

impl GitHubTransport {
    pub(super) fn new() -> Result<Self, octocrab::Error> {
        Octocrab::builder()
            .set_connect_timeout(Some(Duration::from_secs(10)))
            .set_read_timeout(Some(CALL))
            .build()
            .map(|client| Self { client, clock: ServerClock::default() })
    }

    /// Sends a call once; an error means that no whole answer came.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<GitHubResponse, CallError> {
        let address = call.address;
        let answer = timeout(CALL, self.exchange(call))
            .await
            .unwrap_or_else(|_| Err(NetworkError::timed_out(address, CALL).into()));
        calls::record("github", answer.as_ref().ok().map(|whole| whole.answer.status));
        answer
    }

    async fn exchange(&self, call: Call<'_>) -> Result<GitHubResponse, CallError> {
        let failed = |error: octocrab::Error| NetworkError::new(call.address, error);
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.address)
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28");
        if !call.authorization.is_empty() {
            request = request.header("authorization", call.authorization);
        }
        if let Some(etag) = call.etag.filter(|etag| !etag.is_empty()) {
            request = request.header("if-none-match", etag);
        }
        let request = self.client.build_request(request, call.body).map_err(failed)?;
        let answer = self.client.execute(request).await.map_err(failed)?;
        let (parts, mut body) = answer.into_parts();
        // A log's redirect leads to a storage service, which has a clock of its own.
        if !call.authorization.is_empty() {
            self.clock.set(&parts.headers);
        }
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(failed)?.into_data() {
                bytes.extend_from_slice(&data);
                if bytes.len() > BODY {
                    return Err("the answer is too long".into());
                }
            }
        }
        let status = parts.status.as_u16();
        let announced = text(&parts.headers, "content-length").and_then(|n| n.parse().ok());
        if announced.is_some_and(|length: usize| length != bytes.len()) && status != 304 {
            return Err("the answer was cut off".into());
        }
        let next = if (301..=308).contains(&status) {
            text(&parts.headers, "location")
        } else {
            text(&parts.headers, "link").and_then(|link| next_page(&link))
        };
        let answer = facts(status, &parts.headers, &bytes);
        Ok(GitHubResponse { answer, etag: text(&parts.headers, "etag"), next, body: bytes })
    }
}

/// The facts of an answer that table T9 decides on.
pub(super) fn facts(status: u16, headers: &HeaderMap, body: &[u8]) -> ApiAnswer {
    let number = |name: &str| text(headers, name).and_then(|text| text.parse::<i64>().ok());
    let start = String::from_utf8_lossy(&body[..body.len().min(4096)]).to_lowercase();
    ApiAnswer {
        status,
        retry_after: number("retry-after"),
        remaining: number("x-ratelimit-remaining"),
        reset: number("x-ratelimit-reset"),
        secondary: start.contains("secondary rate limit") || start.contains("abuse"),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The address after `rel="next"` (RFC 8288).
pub(super) fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (address, rest) = part.trim().strip_prefix('<')?.split_once('>')?;
        rest.contains("rel=\"next\"").then(|| address.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_header_gives_the_next_page() {
        let link = "<https://x/a?page=1>; rel=\"prev\", <https://x/a?page=3>; rel=\"next\"";
        assert_eq!(next_page(link).as_deref(), Some("https://x/a?page=3"));
        assert_eq!(next_page("<https://x/a?page=1>; rel=\"last\""), None);
    }
}
