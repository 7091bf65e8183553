//! How long nothing has happened to a commit's checks.
//!
//! Two clocks, and the shorter time counts: GitHub's own, by the times of its checks and the `Date` of its
//! answers; and what afk saw change between its polls. So no clock that is set wrong can end the quiet
//! time early.

use std::sync::Mutex;
use std::time::Instant;

use super::github_checks::CheckRuns;
use crate::core::model::id::Sha;
use crate::core::model::time::Timestamp;

/// What a poll found, as far as a change ends the quiet.
type Fingerprint = Vec<(u64, u64, String)>;

/// The polls of one commit.
#[derive(Debug, Default)]
pub struct QuietClock(Mutex<Option<Polls>>);

#[derive(Debug)]
struct Polls {
    sha: Sha,
    last: Fingerprint,
    first: Instant,
    /// When a poll differed from the one before it.
    changed: Option<Instant>,
}

impl QuietClock {
    /// Records a poll, and returns the time in milliseconds for which nothing has happened.
    pub(super) fn quiet(&self, sha: &Sha, found: &CheckRuns, server: Option<Timestamp>) -> i64 {
        let seen = self.record(sha, fingerprint(found), Instant::now());
        match server {
            Some(server) => seen.changed.min(server.since(found.newest)),
            // A server that doesn't send its time: only what afk saw counts.
            None => seen.changed.min(seen.first),
        }
    }

    fn record(&self, sha: &Sha, found: Fingerprint, now: Instant) -> Seen {
        let mut polls = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (first, changed) = match &*polls {
            Some(known) if known.sha == *sha && known.last == found => (known.first, known.changed),
            Some(known) if known.sha == *sha => (known.first, Some(now)),
            _ => (now, None),
        };
        *polls = Some(Polls { sha: sha.clone(), last: found, first, changed });
        let ms = |at: Instant| i64::try_from((now - at).as_millis()).unwrap_or(i64::MAX);
        Seen { first: ms(first), changed: changed.map_or(i64::MAX, ms) }
    }
}

/// Times in milliseconds.
struct Seen {
    /// The time since the first poll of the commit.
    first: i64,
    /// The time since a poll differed from the one before it; for ever where none did.
    changed: i64,
}

/// Every check and every workflow run, with its status.
fn fingerprint(found: &CheckRuns) -> Fingerprint {
    let checks = found.all.iter().map(|check| (check.suite(), check.id, check.status.clone()));
    let runs = found.runs.iter().map(|run| (run.suite, run.id, run.status.clone()));
    let mut all: Fingerprint = checks.chain(runs).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn change_that_was_seen_begins_the_quiet_again() {
        let clock = QuietClock::default();
        let (sha, begin) = (Sha("a".into()), Instant::now());
        let poll = |sha: &Sha, status: &str, seconds: u64| {
            let found = vec![(5, 1, status.to_owned())];
            clock.record(sha, found, begin + Duration::from_secs(seconds)).changed
        };
        assert_eq!(poll(&sha, "queued", 0), i64::MAX, "nobody knows since when");
        assert_eq!(poll(&sha, "queued", 10), i64::MAX);
        assert_eq!(poll(&sha, "completed", 20), 0);
        assert_eq!(poll(&sha, "completed", 25), 5_000);
        assert_eq!(poll(&Sha("b".into()), "completed", 30), i64::MAX, "another commit");
    }
}
