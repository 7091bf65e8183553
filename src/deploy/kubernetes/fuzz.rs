//! A fuzz target for the objects of a cluster.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::history::RolloutHistory;
use crate::core::tables::image::Image;
use crate::core::tables::{job, pod, rollout};
use crate::deploy::objects;

/// Judges an object as each kind that a rollout has, now and later.
pub(crate) fn objects(data: &[u8]) {
    let Ok(object) = serde_json::from_slice::<Value>(data) else { return };
    let mut history = RolloutHistory::default();
    let began = Instant::now();
    let fails = objects::replica_failure(&object).is_some();
    let failing = history.failing_for(fails, began);
    let image = Image::Matches;
    let _ = rollout::deployment(Some(&objects::deployment(&object, failing)), &image);
    let _ = rollout::stateful_set(Some(&objects::stateful_set(&object)), &image);
    let _ = rollout::daemon_set(Some(&objects::daemon_set(&object)), &image);
    let _ = job::rollout(Some(&objects::conditions(&object)), &image);
    let images = objects::images(&object["spec"]["template"]);
    for one in &images {
        let (tag, digest) = objects::tag(&one.image);
        assert!(tag.is_none_or(|tag| !tag.contains('/')), "{tag:?} is no tag");
        assert!(digest.is_none_or(|digest| one.image.ends_with(digest)));
        assert!(!objects::only_the_tag_is_new(&one.image, std::slice::from_ref(one)));
    }
    let _ = (objects::generation(&object), objects::uid(&object), objects::digests(&object));
    for seconds in [0, 90, 900] {
        let mut read = objects::pod(&object);
        history.complete("u", &mut read, began + Duration::from_secs(seconds));
        assert!(read.waits >= 0 && read.unready >= 0 && read.unplaced >= 0);
        let _ = (pod::state(&read), objects::restarts(&read.containers));
    }
}
