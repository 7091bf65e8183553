//! T9: what an answer of GitHub's API means for the next request.

/// What was asked: a read may be asked again, a write whose answer was lost may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// GET.
    Read,
    /// POST, PATCH, DELETE, push.
    Write,
}

/// An answer, or what came in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
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
pub enum Action {
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
pub fn action(asked: Asked, answer: &Answer) -> Action {
    match answer.status {
        200..=299 => Action::Take,
        304 => Action::Keep,
        401 => Action::Renew,
        403 | 429 => match (answer.retry_after, answer.remaining) {
            (Some(seconds), _) => Action::Wait(seconds),
            (None, Some(0)) => answer.reset.map_or(Action::WaitDoubling, Action::WaitUntil),
            _ if answer.secondary || answer.status == 429 => Action::WaitDoubling,
            _ => Action::Show,
        },
        0 | 500.. if asked == Asked::Write => Action::ReadBack,
        0 | 408 | 500.. => Action::Again,
        _ => Action::Show,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row() {
        let status = |status| Answer { status, remaining: Some(4000), ..Answer::default() };
        let after = |code| Answer { retry_after: Some(30), ..status(code) };
        let used = |code| Answer { remaining: Some(0), reset: Some(99), ..status(code) };
        let secondary = Answer { secondary: true, ..status(403) };
        for (answer, read, write) in [
            (status(200), Action::Take, Action::Take),
            (status(201), Action::Take, Action::Take),
            (status(304), Action::Keep, Action::Keep),
            (status(401), Action::Renew, Action::Renew),
            (after(403), Action::Wait(30), Action::Wait(30)),
            (after(429), Action::Wait(30), Action::Wait(30)),
            (used(403), Action::WaitUntil(99), Action::WaitUntil(99)),
            (used(429), Action::WaitUntil(99), Action::WaitUntil(99)),
            (secondary, Action::WaitDoubling, Action::WaitDoubling),
            (status(429), Action::WaitDoubling, Action::WaitDoubling),
            (status(403), Action::Show, Action::Show),
            (status(404), Action::Show, Action::Show),
            (status(410), Action::Show, Action::Show),
            (status(422), Action::Show, Action::Show),
            (status(451), Action::Show, Action::Show),
            (status(500), Action::Again, Action::ReadBack),
            (status(502), Action::Again, Action::ReadBack),
            (status(503), Action::Again, Action::ReadBack),
            (status(0), Action::Again, Action::ReadBack),
        ] {
            assert_eq!(action(Asked::Read, &answer), read, "{answer:?}");
            assert_eq!(action(Asked::Write, &answer), write, "{answer:?}");
        }
    }
}
