//! T10: what the answer of a sink means.

/// What to do with what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkOutcome {
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
pub fn slack(status: u16, retry_after: Option<i64>) -> SinkOutcome {
    match status {
        200 => SinkOutcome::Done,
        400 | 403 | 404 | 410 => SinkOutcome::DropAndDisable,
        429 => SinkOutcome::Again(retry_after.unwrap_or(1)),
        _ => SinkOutcome::Again(retry_after.unwrap_or(5)),
    }
}

/// ntfy; `code` is the body's own: burst 60, then one every 5 s.
#[must_use]
pub fn ntfy(status: u16, code: Option<u32>, retry_after: Option<i64>) -> SinkOutcome {
    match (status, code) {
        (200, _) => SinkOutcome::Done,
        (_, Some(40101 | 40301)) | (401 | 403, _) => SinkOutcome::DropAndDisable,
        (429, _) | (_, Some(42901)) => SinkOutcome::Again(retry_after.unwrap_or(5)),
        (400 | 413, _) => SinkOutcome::Drop,
        _ => SinkOutcome::Again(retry_after.unwrap_or(5)),
    }
}

/// Loki: a 400 is never sent again, since the good lines of it were kept.
#[must_use]
pub fn loki(status: u16, retry_after: Option<i64>) -> SinkOutcome {
    match status {
        204 | 200 => SinkOutcome::Done,
        401 | 403 => SinkOutcome::DropAndDisable,
        429 => SinkOutcome::Again(retry_after.unwrap_or(5)),
        500.. | 0 => SinkOutcome::Again(retry_after.unwrap_or(10)),
        _ => SinkOutcome::Drop,
    }
}

/// What the answer of Vault, or `OpenBao`, means for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultOutcome {
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
pub fn vault(status: u16, metadata: bool) -> VaultOutcome {
    match status {
        200 => VaultOutcome::Take,
        401 | 403 => VaultOutcome::LogIn,
        404 if metadata => VaultOutcome::Deleted,
        404 | 400 => VaultOutcome::Missing,
        _ => VaultOutcome::KeepLast,
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
        assert_eq!(slack(200, None), SinkOutcome::Done);
        for status in [400, 403, 404, 410] {
            assert_eq!(slack(status, None), SinkOutcome::DropAndDisable, "{status}");
        }
        assert_eq!(slack(429, Some(7)), SinkOutcome::Again(7));
        assert_eq!(slack(500, None), SinkOutcome::Again(5));
        assert_eq!(ntfy(200, None, None), SinkOutcome::Done);
        assert_eq!(ntfy(401, Some(40101), None), SinkOutcome::DropAndDisable);
        assert_eq!(ntfy(403, Some(40301), None), SinkOutcome::DropAndDisable);
        assert_eq!(ntfy(429, Some(42901), None), SinkOutcome::Again(5));
        assert_eq!(ntfy(502, None, None), SinkOutcome::Again(5));
        assert_eq!(loki(204, None), SinkOutcome::Done);
        assert_eq!(loki(400, None), SinkOutcome::Drop);
        assert_eq!(loki(429, Some(3)), SinkOutcome::Again(3));
        assert_eq!(loki(503, None), SinkOutcome::Again(10));
        assert_eq!(vault(200, false), VaultOutcome::Take);
        assert_eq!(vault(403, false), VaultOutcome::LogIn);
        assert_eq!(vault(404, true), VaultOutcome::Deleted);
        assert_eq!(vault(404, false), VaultOutcome::Missing);
        assert_eq!(vault(503, false), VaultOutcome::KeepLast);
        assert_eq!(renew_after(3600), 2400);
    }
}
