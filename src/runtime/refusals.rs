//! Counts and logs refused logins, requests and commands. The log has a bound a kind and minute, so
//! that a flood of refusals can't fill it; `GET /metrics` has every one of them.

use std::fmt::Display;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::core::model::untrusted::clean_line;
use crate::lock::LockExt;

/// The time in which at most [`LINES`] refusals of a kind are logged.
const WINDOW: Duration = Duration::from_secs(60);
/// The refusals of a kind that are logged in a window.
const LINES: u32 = 10;

/// The way in that refused somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// An SSH connection that no key was admitted for.
    SshLogin,
    /// An HTTP request without a known token.
    HttpUnauthenticated,
    /// An HTTP request that the role of its caller doesn't permit.
    HttpForbidden,
    /// A command that the core refused.
    Command,
    /// A connection of a process that afk itself started.
    OwnProcess,
}

impl RefusalKind {
    const ALL: [Self; 5] = [
        Self::SshLogin,
        Self::HttpUnauthenticated,
        Self::HttpForbidden,
        Self::Command,
        Self::OwnProcess,
    ];

    /// The value of the metric's label.
    const fn as_str(self) -> &'static str {
        match self {
            Self::SshLogin => "ssh-login",
            Self::HttpUnauthenticated => "http-unauthenticated",
            Self::HttpForbidden => "http-forbidden",
            Self::Command => "command",
            Self::OwnProcess => "own-process",
        }
    }
}

/// The refusals of one kind.
#[derive(Debug, Default)]
struct Tally {
    /// All since the start.
    total: u64,
    /// The start of the present window, and the lines logged in it.
    window: Option<(Instant, u32)>,
    /// The refusals since the last line.
    silent: u64,
}

impl Tally {
    /// Counts a refusal. Returns the number of those before it that were not logged, if this one may be.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.total += 1;
        let (began, lines) = match self.window {
            Some((began, lines)) if now.duration_since(began) < WINDOW => (began, lines),
            _ => (now, 0),
        };
        self.window = Some((began, lines.saturating_add(1)));
        if lines >= LINES {
            self.silent += 1;
            return None;
        }
        Some(std::mem::take(&mut self.silent))
    }
}

/// All refusals since the start of this afk.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<[Tally; RefusalKind::ALL.len()]>);

impl Refusals {
    /// Counts and logs a refusal: `who` was refused (an address or an actor), and `why`.
    pub(crate) fn record(&self, kind: RefusalKind, who: &impl Display, why: &impl Display) {
        let silent = self.0.locked()[kind as usize].count(Instant::now());
        if let Some(before) = silent {
            let (who, why) = (clean_line(&who.to_string()), clean_line(&why.to_string()));
            tracing::warn!(kind = kind.as_str(), who, why, not_logged_before = before, "refused");
        }
    }

    /// The number of refusals of each kind.
    pub(crate) fn totals(&self) -> Vec<(&'static str, u64)> {
        let tallies = self.0.locked();
        RefusalKind::ALL.iter().zip(tallies.iter()).map(|(k, t)| (k.as_str(), t.total)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_of_refusals_is_counted_and_not_logged() {
        let (mut tally, began) = (Tally::default(), Instant::now());
        let logged = (0..1000).filter(|_| tally.count(began).is_some()).count();
        assert_eq!((logged, tally.total), (10, 1000));
        // The first line of the next window names the silent ones.
        assert_eq!(tally.count(began + WINDOW), Some(990));
        assert_eq!(tally.count(began + WINDOW), Some(0));
    }

    #[test]
    fn each_kind_has_a_count_of_its_own() {
        let refusals = Refusals::default();
        for kind in RefusalKind::ALL {
            refusals.record(kind, &"somebody", &"a reason");
        }
        refusals.record(RefusalKind::Command, &"ana", &"viewers are read-only");
        let totals = refusals.totals();
        assert_eq!(totals.len(), RefusalKind::ALL.len());
        assert!(totals.contains(&("command", 2)) && totals.contains(&("own-process", 1)));
    }
}
