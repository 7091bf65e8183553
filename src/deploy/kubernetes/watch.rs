//! Watchers of one rollout: the stream of events from the API server, and the objects that they add
//! up to.

use std::collections::HashMap;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;

use crate::cluster::{is_denied, reason};

/// How long one watch may be silent, in seconds.
const WATCH: u32 = 30;

/// The kinds of objects that a rollout watches; the operator reads the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WatchedKind {
    Workload,
    ReplicaSets,
    Pods,
}

/// Why a watcher received no event.
pub(super) struct WatchFailure {
    /// The reason in a line for the operator.
    pub line: String,
    /// Whether the API server refused the login or has no right for it.
    pub denied: bool,
}

type WatchItem = (WatchedKind, Result<watcher::Event<DynamicObject>, WatchFailure>);

/// Events of all watchers of a rollout.
pub(super) type WatchStream = Pin<Box<dyn Stream<Item = WatchItem> + Send>>;

/// Watches objects of one kind, with a back-off of its own after an error.
pub(super) fn watch(
    kind: WatchedKind,
    api: Api<DynamicObject>,
    config: watcher::Config,
) -> WatchStream {
    let stream = watcher(api, config.timeout(WATCH)).default_backoff();
    let failure =
        |error: watcher::Error| WatchFailure { line: reason(&error), denied: is_denied(&error) };
    Box::pin(stream.map(move |event| (kind, event.map_err(failure))))
}

/// The objects of one kind as the watcher last reported them, by name.
#[derive(Default)]
pub(super) struct KnownObjects {
    pub objects: HashMap<String, Value>,
    /// The objects of a list that is still being received.
    listing: HashMap<String, Value>,
    /// Whether a list was received whole: before that, a missing object means nothing.
    pub complete: bool,
}

impl KnownObjects {
    pub(super) fn apply(&mut self, event: watcher::Event<DynamicObject>) {
        let named = |object: DynamicObject| {
            let name = object.metadata.name.clone().unwrap_or_default();
            (name, serde_json::to_value(object).unwrap_or_default())
        };
        match event {
            watcher::Event::Init => self.listing.clear(),
            watcher::Event::InitApply(object) => {
                self.listing.extend([named(object)]);
            }
            watcher::Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                self.complete = true;
            }
            watcher::Event::Apply(object) => {
                self.objects.extend([named(object)]);
            }
            watcher::Event::Delete(object) => {
                self.objects.remove(&named(object).0);
            }
        }
    }
}
