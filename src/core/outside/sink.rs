//! T10: what the answer of a sink means.

/// What to do with what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It arrived.
    Done,
    /// It never will: drop it, and send nothing more there until the configuration changes.
    DropAndDisable,
    /// This one never will; others may.
    Drop,
    /// Send it again after so many seconds.
    Again(i64),
}

/// A Slack webhook: about one message a second.
#[must_use]
pub fn slack(status: u16, retry_after: Option<i64>) -> Action {
    match status {
        200 => Action::Done,
        400 | 403 | 404 | 410 => Action::DropAndDisable,
        429 => Action::Again(retry_after.unwrap_or(1)),
        _ => Action::Again(retry_after.unwrap_or(5)),
    }
}

/// ntfy; `code` is the body's own: burst 60, then one every 5 s.
#[must_use]
pub fn ntfy(status: u16, code: Option<u32>, retry_after: Option<i64>) -> Action {
    match (status, code) {
        (200, _) => Action::Done,
        (_, Some(40101 | 40301)) | (401 | 403, _) => Action::DropAndDisable,
        (429, _) | (_, Some(42901)) => Action::Again(retry_after.unwrap_or(5)),
        (400 | 413, _) => Action::Drop,
        _ => Action::Again(retry_after.unwrap_or(5)),
    }
}

/// Loki: a 400 is never sent again, since the good lines of it were kept.
#[must_use]
pub fn loki(status: u16, retry_after: Option<i64>) -> Action {
    match status {
        204 | 200 => Action::Done,
        401 | 403 => Action::DropAndDisable,
        429 => Action::Again(retry_after.unwrap_or(5)),
        500.. | 0 => Action::Again(retry_after.unwrap_or(10)),
        _ => Action::Drop,
    }
}

/// What the answer of Vault, or `OpenBao`, means for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// It is in the body.
    Take,
    /// Log in once more, then raise an alarm.
    LogIn,
    /// Sealed, or away: the last good one stays in use.
    KeepLast,
    /// This version was deleted: there is none.
    Deleted,
    /// There is none at this path.
    Missing,
}

/// KV version 2. `metadata`: a 404 with metadata is a deleted version.
#[must_use]
pub fn vault(status: u16, metadata: bool) -> Secret {
    match status {
        200 => Secret::Take,
        401 | 403 => Secret::LogIn,
        404 if metadata => Secret::Deleted,
        404 | 400 => Secret::Missing,
        _ => Secret::KeepLast,
    }
}

/// Seconds after which a lease is renewed: two thirds of it.
#[must_use]
pub const fn renew_after(lease: u64) -> u64 {
    lease / 3 * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row() {
        assert_eq!(slack(200, None), Action::Done);
        for status in [400, 403, 404, 410] {
            assert_eq!(slack(status, None), Action::DropAndDisable, "{status}");
        }
        assert_eq!(slack(429, Some(7)), Action::Again(7));
        assert_eq!(slack(500, None), Action::Again(5));
        assert_eq!(ntfy(200, None, None), Action::Done);
        assert_eq!(ntfy(401, Some(40101), None), Action::DropAndDisable);
        assert_eq!(ntfy(403, Some(40301), None), Action::DropAndDisable);
        assert_eq!(ntfy(429, Some(42901), None), Action::Again(5));
        assert_eq!(ntfy(502, None, None), Action::Again(5));
        assert_eq!(loki(204, None), Action::Done);
        assert_eq!(loki(400, None), Action::Drop);
        assert_eq!(loki(429, Some(3)), Action::Again(3));
        assert_eq!(loki(503, None), Action::Again(10));
        assert_eq!(vault(200, false), Secret::Take);
        assert_eq!(vault(403, false), Secret::LogIn);
        assert_eq!(vault(404, true), Secret::Deleted);
        assert_eq!(vault(404, false), Secret::Missing);
        assert_eq!(vault(503, false), Secret::KeepLast);
        assert_eq!(renew_after(3600), 2400);
    }
}
