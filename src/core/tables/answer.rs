//! Decision table T9: how the GitHub client proceeds after a response of the API. Called by
//! `github` after every request.

/// The kind of request. A read may be repeated; a write whose response was lost may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiCall {
    /// A GET request, which is safe to repeat.
    Read,
    /// A POST, PATCH or DELETE request, or a push.
    Write,
}

/// The parts of a response that the table reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiAnswer {
    /// The HTTP status; 0 where no complete response arrived (dropped, truncated, malformed).
    pub status: u16,
    /// The header `retry-after`, in seconds.
    pub retry_after: Option<i64>,
    /// The header `x-ratelimit-remaining`, in requests.
    pub remaining: Option<i64>,
    /// The header `x-ratelimit-reset`, in seconds since 1970.
    pub reset: Option<i64>,
    /// Whether the body mentions a secondary rate limit.
    pub secondary: bool,
}

/// The client's next action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiAction {
    /// Use the response as the new version.
    Take,
    /// Keep the cached version, which is unchanged.
    Keep,
    /// Get a new token once; after a second failure, stop using the token.
    Renew,
    /// Pause all requests with this token for so many seconds.
    Wait(i64),
    /// Pause all requests with this token until shortly after this time, in seconds since 1970.
    WaitUntil(i64),
    /// Pause all requests with this token for at least a minute, doubling with each repetition.
    WaitDoubling,
    /// Send the request once more, to the address that the response names.
    Follow,
    /// Report the error, since a retry can't help.
    Show,
    /// Retry later, and keep the cached version until then.
    Retry,
    /// Read the object back to learn whether the write took effect, then decide.
    ReadBack,
}

/// Applies the table to one response.
#[must_use]
pub fn action(asked: ApiCall, answer: &ApiAnswer) -> ApiAction {
    match answer.status {
        200..=299 => ApiAction::Take,
        304 => ApiAction::Keep,
        301 | 302 | 307 | 308 => ApiAction::Follow,
        401 => ApiAction::Renew,
        403 | 429 => match (answer.retry_after, answer.remaining) {
            (Some(seconds), _) => ApiAction::Wait(seconds),
            (None, Some(0)) => answer.reset.map_or(ApiAction::WaitDoubling, ApiAction::WaitUntil),
            _ if answer.secondary || answer.status == 429 => ApiAction::WaitDoubling,
            _ => ApiAction::Show,
        },
        0 | 500.. if asked == ApiCall::Write => ApiAction::ReadBack,
        0 | 408 | 500.. => ApiAction::Retry,
        _ => ApiAction::Show,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_follows_every_row() {
        let status = |status| ApiAnswer { status, remaining: Some(4000), ..ApiAnswer::default() };
        let after = |code| ApiAnswer { retry_after: Some(30), ..status(code) };
        let used = |code| ApiAnswer { remaining: Some(0), reset: Some(99), ..status(code) };
        let secondary = ApiAnswer { secondary: true, ..status(403) };
        for (answer, read, write) in [
            (status(200), ApiAction::Take, ApiAction::Take),
            (status(201), ApiAction::Take, ApiAction::Take),
            (status(304), ApiAction::Keep, ApiAction::Keep),
            (status(301), ApiAction::Follow, ApiAction::Follow),
            (status(302), ApiAction::Follow, ApiAction::Follow),
            (status(303), ApiAction::Show, ApiAction::Show),
            (status(307), ApiAction::Follow, ApiAction::Follow),
            (status(308), ApiAction::Follow, ApiAction::Follow),
            (status(401), ApiAction::Renew, ApiAction::Renew),
            (after(403), ApiAction::Wait(30), ApiAction::Wait(30)),
            (after(429), ApiAction::Wait(30), ApiAction::Wait(30)),
            (used(403), ApiAction::WaitUntil(99), ApiAction::WaitUntil(99)),
            (used(429), ApiAction::WaitUntil(99), ApiAction::WaitUntil(99)),
            (secondary, ApiAction::WaitDoubling, ApiAction::WaitDoubling),
            (status(429), ApiAction::WaitDoubling, ApiAction::WaitDoubling),
            (status(403), ApiAction::Show, ApiAction::Show),
            (status(404), ApiAction::Show, ApiAction::Show),
            (status(410), ApiAction::Show, ApiAction::Show),
            (status(422), ApiAction::Show, ApiAction::Show),
            (status(451), ApiAction::Show, ApiAction::Show),
            (status(500), ApiAction::Retry, ApiAction::ReadBack),
            (status(502), ApiAction::Retry, ApiAction::ReadBack),
            (status(503), ApiAction::Retry, ApiAction::ReadBack),
            (status(0), ApiAction::Retry, ApiAction::ReadBack),
        ] {
            assert_eq!(action(ApiCall::Read, &answer), read, "{answer:?}");
            assert_eq!(action(ApiCall::Write, &answer), write, "{answer:?}");
        }
    }
}
