//! The number of calls to each service by the status of their answers, since the start of this process.
//! `GET /metrics` shows it. The count is of the process, like the limits that services set: several
//! clients of one service share it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A service, and the status of its answer; 0 where none came.
type CountedCall = (&'static str, u16);

static CALLS: Mutex<BTreeMap<CountedCall, u64>> = Mutex::new(BTreeMap::new());

/// Counts a call to a service. `status` is none if no whole answer came.
pub(crate) fn record(service: &'static str, status: Option<u16>) {
    // A server can send any three digits; the number of samples stays bounded.
    let status = status.filter(|status| (100..600).contains(status)).unwrap_or(0);
    // The map stays whole after a panic elsewhere.
    let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
    *calls.entry((service, status)).or_default() += 1;
}

/// Sends a request to a service, and counts it.
pub(crate) async fn send(
    service: &'static str,
    request: reqwest::RequestBuilder,
) -> reqwest::Result<reqwest::Response> {
    let answer = request.send().await;
    record(service, answer.as_ref().ok().map(|answer| answer.status().as_u16()));
    answer
}

/// All counts: the service, the status (`none` without an answer), and the number of calls.
pub(crate) fn totals() -> Vec<(&'static str, String, u64)> {
    let calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
    let word = |status| if status == 0 { "none".to_owned() } else { format!("{status}") };
    calls.iter().map(|((service, status), count)| (*service, word(*status), *count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_service_and_status() {
        for status in [Some(200), Some(200), Some(999), None] {
            record("a test", status);
        }
        let of_test: Vec<_> = totals().into_iter().filter(|(name, ..)| *name == "a test").collect();
        let expected = [("a test", "none".to_owned(), 2), ("a test", "200".to_owned(), 2)];
        assert_eq!(of_test, expected);
    }
}
