//! The history of containers that one reading of a pod does not hold: restarts within the window of
//! table T7, and since when a container waits.

use std::collections::{HashMap, VecDeque};

use crate::core::tables::pod;

/// Restart counts over the window, and the begin of each wait.
#[derive(Default)]
pub(super) struct ContainerHistory {
    /// Counts with their times (milliseconds of the epoch), by pod and container.
    restarts: HashMap<(String, String), VecDeque<(i64, i32)>>,
    /// When a wait was first seen, by pod, container and reason.
    waiting: HashMap<(String, String, String), i64>,
}

impl ContainerHistory {
    /// Records a pod at `now`, and completes it with the restarts before the window; its age counts
    /// from the begin of a wait.
    pub(super) fn complete(&mut self, pod: &mut pod::Pod, now: i64) {
        for container in &mut pod.containers {
            let place = (pod.name.clone(), container.name.clone());
            let counts = self.restarts.entry(place.clone()).or_default();
            if counts.is_empty() && pod.age < pod::RESTART_WINDOW {
                counts.push_back((now, 0));
            }
            if counts.back().is_none_or(|(_, count)| *count != container.restarts) {
                counts.push_back((now, container.restarts));
            }
            while counts.len() > 1 && counts[1].0 <= now - pod::RESTART_WINDOW {
                counts.pop_front();
            }
            container.restarts_before = counts.front().map_or(0, |(_, count)| *count);
            if let Some(reason) = &container.waiting {
                let place = (place.0, place.1, reason.clone());
                let since = *self.waiting.entry(place).or_insert(now);
                pod.age = pod.age.min(now - since).max(0);
            }
        }
    }
}
