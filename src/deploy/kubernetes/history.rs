//! The history of a rollout that one reading of its objects does not hold: restarts within the window
//! of table T7, and how long afk has seen a state without a break.
//!
//! All times are afk's own. A time in an object is its node's or its API server's, whose clocks may
//! differ from ours and from each other.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::tables::pod;
use crate::deploy::objects;

/// How long a state has been seen without a break.
#[derive(Default)]
struct SeenState(Option<Instant>);

impl SeenState {
    /// The milliseconds since the state began, where it holds now.
    fn for_ms(&mut self, holds: bool, now: Instant) -> i64 {
        if !holds {
            self.0 = None;
            return 0;
        }
        let since = *self.0.get_or_insert(now);
        i64::try_from((now - since).as_millis()).unwrap_or(i64::MAX)
    }
}

/// What was seen of one pod.
#[derive(Default)]
struct PodHistory {
    waits: SeenState,
    unplaced: SeenState,
    unready: SeenState,
    /// The restarts of all containers together at the last reading.
    restarts: i32,
}

/// What was seen of one rollout.
#[derive(Default)]
pub(super) struct RolloutHistory {
    /// Restart counts over the window with their times, by pod and container.
    restarts: HashMap<(String, String), VecDeque<(Instant, i32)>>,
    /// By the pod's identifier, since pods of a `StatefulSet` keep their names.
    pods: HashMap<String, PodHistory>,
    failing: SeenState,
}

impl RolloutHistory {
    /// How long the workload has been seen unable to create pods, in milliseconds.
    pub(super) fn failing_for(&mut self, fails: bool, now: Instant) -> i64 {
        self.failing.for_ms(fails, now)
    }

    /// Records a reading of a pod, and completes it with the restarts before the window and with its
    /// times.
    pub(super) fn complete(&mut self, uid: &str, pod: &mut pod::Pod, now: Instant) {
        let window = Duration::from_millis(pod::RESTART_WINDOW.unsigned_abs());
        for container in &mut pod.containers {
            let place = (uid.to_owned(), container.name.clone());
            let counts = self.restarts.entry(place).or_default();
            if counts.back().is_none_or(|(_, count)| *count != container.restarts) {
                counts.push_back((now, container.restarts));
            }
            while counts.len() > 1 && now - counts[1].0 >= window {
                counts.pop_front();
            }
            container.restarts_before = counts.front().map_or(0, |(_, count)| *count);
        }
        let known = self.pods.entry(uid.to_owned()).or_default();
        let restarts = objects::restarts(&pod.containers);
        if known.restarts != restarts {
            // Another life of a container has its own time to become ready.
            (known.restarts, known.unready) = (restarts, SeenState::default());
        }
        let waits = pod.containers.iter().any(pod::waits_with_an_error);
        pod.waits = known.waits.for_ms(waits, now);
        let unplaced = pod.phase == "Pending" && pod.unschedulable;
        pod.unplaced = known.unplaced.for_ms(unplaced, now);
        let unready = pod.phase == "Running" && pod.running && !pod.ready;
        pod.unready = known.unready.for_ms(unready, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(phase: &str, running: bool, ready: bool) -> pod::Pod {
        pod::Pod {
            name: "web-1".into(),
            phase: phase.into(),
            running,
            ready,
            initial_delay: 60_000,
            containers: vec![pod::Container { name: "app".into(), ..pod::Container::default() }],
            ..pod::Pod::default()
        }
    }

    /// The states of a pod that is read at these seconds.
    fn states(readings: &[(u64, pod::Pod)]) -> Vec<pod::PodState> {
        let (mut history, began) = (RolloutHistory::default(), Instant::now());
        let read = |(at, pod): &(u64, pod::Pod)| {
            let mut pod = pod.clone();
            history.complete("u", &mut pod, began + Duration::from_secs(*at));
            pod::state(&pod)
        };
        readings.iter().map(read).collect()
    }

    #[test]
    fn slow_pull_is_not_late_in_becoming_ready() {
        let not_ready = || pod("Running", true, false);
        let all = states(&[
            (0, pod("Pending", false, false)),
            (70, pod("Running", false, false)),
            (71, not_ready()),
            (74, not_ready()),
            (75, pod("Running", true, true)),
            (200, not_ready()),
            (203, not_ready()),
            (261, not_ready()),
        ]);
        let degraded = |state: &pod::PodState| matches!(state, pod::PodState::Degraded(_));
        let which: Vec<bool> = all.iter().map(degraded).collect();
        assert_eq!(which, [false, false, false, false, false, false, false, true], "{all:?}");
    }

    #[test]
    fn another_life_of_a_container_has_its_own_time() {
        let lives = |restarts| {
            let mut pod = pod("Running", true, false);
            pod.containers[0].restarts = restarts;
            pod
        };
        let all = states(&[(0, lives(0)), (59, lives(1)), (118, lives(1)), (121, lives(1))]);
        let last = all.iter().rposition(|s| !matches!(s, pod::PodState::Degraded(_)));
        assert_eq!(last, Some(2), "{all:?}");
    }

    #[test]
    fn restarts_count_from_the_first_reading_and_within_the_window() {
        let lives = |restarts| {
            let mut pod = pod("Running", true, true);
            pod.containers[0].restarts = restarts;
            pod
        };
        // A pod that has lived for days has restarts that say nothing about now.
        let calm = states(&[(0, lives(9)), (10, lives(11)), (400, lives(12)), (410, lives(13))]);
        assert!(calm.iter().all(|state| *state == pod::PodState::Fine), "{calm:?}");
        let crashes = states(&[(0, lives(0)), (10, lives(1)), (20, lives(3))]);
        assert!(matches!(crashes[2], pod::PodState::Degraded(_)), "{crashes:?}");
    }
}
