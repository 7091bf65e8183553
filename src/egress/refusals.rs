//! The count of refusals of one proxy, and its few log lines: an agent that asks in a loop must not
//! fill afk's log.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::lock::LockExt;

/// The destinations that are counted one by one; all further ones share [`OTHERS`].
const DESTINATIONS: usize = 64;
/// The entry of the destinations beyond the bound.
const OTHERS: &str = "other hosts";

/// The refusals of a proxy, by the destination that the program named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RefusalCounts {
    /// All refusals, also of requests that named no destination.
    pub(crate) total: u64,
    /// The refusals of each destination, `host:port`.
    pub(crate) destinations: BTreeMap<String, u64>,
}

/// Counts refusals and logs the first one of each destination, then each time that its number has
/// become ten times as large.
#[derive(Debug)]
pub(super) struct EgressRefusals {
    run: String,
    counts: Mutex<RefusalCounts>,
}

impl EgressRefusals {
    pub(super) fn new(run: String) -> Self {
        Self { run, counts: Mutex::default() }
    }

    pub(super) fn counts(&self) -> RefusalCounts {
        self.counts.locked().clone()
    }

    /// Counts a refusal. `destination` is `host:port`, or the kind of a request without one.
    pub(super) fn count(&self, destination: &str, reason: &dyn std::fmt::Display) {
        if let Some((host, count)) = self.counts.locked().add(destination) {
            let (run, times) = (&self.run, count);
            tracing::info!(run, host, times, %reason, "the egress proxy refused a connection");
        }
    }

    /// Logs the sum at the end of the proxy.
    pub(super) fn log_total(&self) {
        let RefusalCounts { total, destinations } = self.counts();
        if total > 0 {
            let (run, hosts) = (&self.run, destinations.len());
            tracing::info!(run, total, hosts, "the egress proxy closed after refusals");
        }
    }
}

impl RefusalCounts {
    /// Adds one; returns the entry and its number if they are to be logged.
    fn add<'a>(&mut self, destination: &'a str) -> Option<(&'a str, u64)> {
        self.total += 1;
        let known = self.destinations.contains_key(destination);
        let full = self.destinations.len() >= DESTINATIONS;
        let entry = if full && !known { OTHERS } else { destination };
        let count = self.destinations.entry(entry.to_owned()).or_default();
        *count += 1;
        let first_of_its_size = count.ilog10() != (*count - 1).checked_ilog10().unwrap_or(u32::MAX);
        first_of_its_size.then_some((entry, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_logged_at_each_power_of_ten() {
        let mut counts = RefusalCounts::default();
        let logged: Vec<u64> = (0..1234)
            .filter_map(|_| counts.add("example.com:443"))
            .map(|(_, count)| count)
            .collect();
        assert_eq!(logged, [1, 10, 100, 1000]);
        assert_eq!((counts.total, counts.destinations["example.com:443"]), (1234, 1234));
    }

    #[test]
    fn many_destinations_share_one_entry() {
        let mut counts = RefusalCounts::default();
        let hosts: Vec<String> = (0..10_000).map(|number| format!("h{number}.example")).collect();
        let logged = hosts.iter().filter_map(|host| counts.add(host)).count();
        // The known ones, and four lines for all of the others.
        assert_eq!(logged, DESTINATIONS + 4);
        assert_eq!(counts.destinations.len(), DESTINATIONS + 1);
        assert_eq!(counts.destinations[OTHERS], 10_000 - DESTINATIONS as u64);
        assert_eq!(counts.add("h3.example"), None);
        assert_eq!(counts.destinations["h3.example"], 2);
    }
}
