//! Decision table T10: how afk proceeds after a response of a notice sink or a collector of traces, and
//! of Vault for a secret. Called by `notify` and `secrets`.

/// The next action for a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkOutcome {
    /// The notice was delivered.
    Done,
    /// No notice can be delivered: drop it, and send nothing more there until the configuration
    /// changes.
    DropAndDisable,
    /// This notice can't be delivered, and others may be.
    Drop,
    /// Retry after so many seconds.
    Retry(i64),
}

/// The row for a Slack webhook, which takes about one message a second.
#[must_use]
pub fn slack(status: u16, retry_after: Option<i64>) -> SinkOutcome {
    match status {
        200 => SinkOutcome::Done,
        400 | 403 | 404 | 410 => SinkOutcome::DropAndDisable,
        429 => SinkOutcome::Retry(retry_after.unwrap_or(1)),
        _ => SinkOutcome::Retry(retry_after.unwrap_or(5)),
    }
}

/// The row for ntfy; `code` comes from the body. ntfy takes 60 messages in a burst, then one every
/// 5 s.
#[must_use]
pub fn ntfy(status: u16, code: Option<u32>, retry_after: Option<i64>) -> SinkOutcome {
    match (status, code) {
        (200, _) => SinkOutcome::Done,
        (_, Some(40101 | 40301)) | (401 | 403, _) => SinkOutcome::DropAndDisable,
        (429, _) | (_, Some(42901)) => SinkOutcome::Retry(retry_after.unwrap_or(5)),
        (400 | 413, _) => SinkOutcome::Drop,
        _ => SinkOutcome::Retry(retry_after.unwrap_or(5)),
    }
}

/// The row for a webhook of any kind: a refusal is about the one notice, unless the address or its
/// right is gone.
#[must_use]
pub fn webhook(status: u16, retry_after: Option<i64>) -> SinkOutcome {
    match status {
        200..300 => SinkOutcome::Done,
        401 | 403 | 404 | 410 => SinkOutcome::DropAndDisable,
        408 | 429 | 500.. => SinkOutcome::Retry(retry_after.unwrap_or(5)),
        _ => SinkOutcome::Drop,
    }
}

/// The row for Loki. A 400 is never retried, since Loki has stored the valid lines of the batch.
#[must_use]
pub fn loki(status: u16, retry_after: Option<i64>) -> SinkOutcome {
    match status {
        204 | 200 => SinkOutcome::Done,
        401 | 403 => SinkOutcome::DropAndDisable,
        429 => SinkOutcome::Retry(retry_after.unwrap_or(5)),
        500.. | 0 => SinkOutcome::Retry(retry_after.unwrap_or(10)),
        _ => SinkOutcome::Drop,
    }
}

/// The row for a collector of OTLP over HTTP, whose specification names the statuses that are retried.
#[must_use]
pub fn otlp(status: u16, retry_after: Option<i64>) -> SinkOutcome {
    match status {
        200..300 => SinkOutcome::Done,
        401 | 403 | 404 => SinkOutcome::DropAndDisable,
        429 | 502..=504 => SinkOutcome::Retry(retry_after.unwrap_or(10)),
        _ => SinkOutcome::Drop,
    }
}

/// The next action after a response of Vault or `OpenBao`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultOutcome {
    /// The secret is in the body.
    Take,
    /// Log in once more; after a second failure, raise an alarm.
    LogIn,
    /// The server is sealed or unavailable: keep using the last secret.
    KeepLast,
    /// This version of the secret was deleted, so there is none.
    Deleted,
    /// No secret exists at this path.
    Missing,
}

/// The row for the KV engine, version 2. A 404 with `metadata` is a deleted version.
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

/// The time after which a lease is renewed, in seconds: two thirds of it.
#[must_use]
pub const fn renew_after(lease: u64) -> u64 {
    lease / 3 * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sink_follows_every_row() {
        assert_eq!(slack(200, None), SinkOutcome::Done);
        for status in [400, 403, 404, 410] {
            assert_eq!(slack(status, None), SinkOutcome::DropAndDisable, "{status}");
        }
        assert_eq!(slack(429, Some(7)), SinkOutcome::Retry(7));
        assert_eq!(slack(500, None), SinkOutcome::Retry(5));
        assert_eq!(ntfy(200, None, None), SinkOutcome::Done);
        assert_eq!(ntfy(401, Some(40101), None), SinkOutcome::DropAndDisable);
        assert_eq!(ntfy(403, Some(40301), None), SinkOutcome::DropAndDisable);
        assert_eq!(ntfy(429, Some(42901), None), SinkOutcome::Retry(5));
        assert_eq!(ntfy(502, None, None), SinkOutcome::Retry(5));
        assert_eq!(loki(204, None), SinkOutcome::Done);
        assert_eq!(loki(400, None), SinkOutcome::Drop);
        assert_eq!(loki(429, Some(3)), SinkOutcome::Retry(3));
        assert_eq!(loki(503, None), SinkOutcome::Retry(10));
        assert_eq!(otlp(200, None), SinkOutcome::Done);
        assert_eq!(otlp(400, None), SinkOutcome::Drop);
        assert_eq!(otlp(404, None), SinkOutcome::DropAndDisable);
        assert_eq!(otlp(429, Some(3)), SinkOutcome::Retry(3));
        assert_eq!(otlp(500, None), SinkOutcome::Drop);
        assert_eq!(otlp(503, None), SinkOutcome::Retry(10));
        assert_eq!(vault(200, false), VaultOutcome::Take);
        assert_eq!(vault(403, false), VaultOutcome::LogIn);
        assert_eq!(vault(404, true), VaultOutcome::Deleted);
        assert_eq!(vault(404, false), VaultOutcome::Missing);
        assert_eq!(vault(503, false), VaultOutcome::KeepLast);
        assert_eq!(renew_after(3600), 2400);
    }
}
