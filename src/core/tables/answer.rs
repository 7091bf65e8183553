//! T9: what an answer of GitHub's API means for the next request.

/// What was asked: a read may be asked again, a write whose answer was lost may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiCall {
    /// GET.
    Read,
    /// POST, PATCH, DELETE, push.
    Write,
}

/// An answer, or what came in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiAnswer {
    /// The status; 0 where none came whole (dropped, cut, malformed).
    pub status: u16,
    /// `retry-after`, in seconds.
    pub retry_after: Option<i64>,
    /// `x-ratelimit-remaining`.
    pub remaining: Option<i64>,
    /// `x-ratelimit-reset`, in seconds of the epoch.
    pub reset: Option<i64>,
    /// The body speaks of a secondary limit.
    pub secondary: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiAction {
    /// Take it.
    Take,
    /// Keep what we have.
    Keep,
    /// Ask for a new token once; then stop using this one.
    Renew,
    /// Everybody with this token waits so many seconds.
    Wait(i64),
    /// Everybody with this token waits until then (seconds of the epoch), and a little longer.
    WaitUntil(i64),
    /// Everybody with this token waits at least a minute, doubling.
    WaitDoubling,
    /// Asking again can't help: show it.
    Show,
    /// Ask again after a while; what is known stays.
    Again,
    /// Nobody knows whether it was done: read it back, then decide.
    ReadBack,
}

/// The table.
#[must_use]
pub fn action(asked: ApiCall, answer: &ApiAnswer) -> ApiAction {
    match answer.status {
        200..=299 => ApiAction::Take,
        304 => ApiAction::Keep,
        401 => ApiAction::Renew,
        403 | 429 => match (answer.retry_after, answer.remaining) {
            (Some(seconds), _) => ApiAction::Wait(seconds),
            (None, Some(0)) => answer.reset.map_or(ApiAction::WaitDoubling, ApiAction::WaitUntil),
            _ if answer.secondary || answer.status == 429 => ApiAction::WaitDoubling,
            _ => ApiAction::Show,
        },
        0 | 500.. if asked == ApiCall::Write => ApiAction::ReadBack,
        0 | 408 | 500.. => ApiAction::Again,
        _ => ApiAction::Show,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row() {
        let status = |status| ApiAnswer { status, remaining: Some(4000), ..ApiAnswer::default() };
        let after = |code| ApiAnswer { retry_after: Some(30), ..status(code) };
        let used = |code| ApiAnswer { remaining: Some(0), reset: Some(99), ..status(code) };
        let secondary = ApiAnswer { secondary: true, ..status(403) };
        for (answer, read, write) in [
            (status(200), ApiAction::Take, ApiAction::Take),
            (status(201), ApiAction::Take, ApiAction::Take),
            (status(304), ApiAction::Keep, ApiAction::Keep),
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
            (status(500), ApiAction::Again, ApiAction::ReadBack),
            (status(502), ApiAction::Again, ApiAction::ReadBack),
            (status(503), ApiAction::Again, ApiAction::ReadBack),
            (status(0), ApiAction::Again, ApiAction::ReadBack),
        ] {
            assert_eq!(action(ApiCall::Read, &answer), read, "{answer:?}");
            assert_eq!(action(ApiCall::Write, &answer), write, "{answer:?}");
        }
    }
}
