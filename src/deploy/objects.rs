//! Kubernetes objects, read as the decision tables T6 to T8 take them. Objects arrive as JSON, so that
//! a field that this version of the API does not know is no error; a missing integer means 0.

use serde_json::Value;

use crate::core::tables::job::Condition;
use crate::core::tables::pod::{Container, Pod};
use crate::core::tables::rollout::{DaemonSet, Deployment, StatefulSet};

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn small(value: &Value) -> i32 {
    i32::try_from(int(value)).unwrap_or(i32::MAX)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&object["status"]["conditions"]).find(|condition| condition["type"] == kind)
}

/// `spec.replicas`, which is 1 where it isn't set.
fn wanted(object: &Value) -> i32 {
    let replicas = &object["spec"]["replicas"];
    if replicas.is_null() { 1 } else { small(replicas) }
}

fn deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// The message of the condition `ReplicaFailure`, while it holds.
pub(super) fn replica_failure(object: &Value) -> Option<String> {
    let failure = condition(object, "ReplicaFailure").filter(|c| c["status"] == "True")?;
    Some(text(&failure["message"]).unwrap_or_default())
}

/// Reads a Deployment. `failing` is how long afk has seen its `ReplicaFailure`, in milliseconds.
pub(super) fn deployment(object: &Value, failing: i64) -> Deployment {
    let status = &object["status"];
    Deployment {
        deleting: deleting(object),
        generation: int(&object["metadata"]["generation"]),
        observed: int(&status["observedGeneration"]),
        paused: object["spec"]["paused"] == true,
        wanted: wanted(object),
        replicas: small(&status["replicas"]),
        updated: small(&status["updatedReplicas"]),
        available: small(&status["availableReplicas"]),
        progressing: condition(object, "Progressing").and_then(|c| text(&c["reason"])),
        replica_failure: replica_failure(object).map(|message| (failing, message)),
    }
}

/// Reads the rollout fields of a `StatefulSet`.
pub(super) fn stateful_set(object: &Value) -> StatefulSet {
    let (spec, status) = (&object["spec"]["updateStrategy"], &object["status"]);
    StatefulSet {
        deleting: deleting(object),
        generation: int(&object["metadata"]["generation"]),
        observed: int(&status["observedGeneration"]),
        on_delete: spec["type"] == "OnDelete",
        partition: small(&spec["rollingUpdate"]["partition"]),
        wanted: wanted(object),
        ready: small(&status["readyReplicas"]),
        updated: small(&status["updatedReplicas"]),
        current: status["updateRevision"] == status["currentRevision"],
    }
}

/// Reads the rollout fields of a `DaemonSet`.
pub(super) fn daemon_set(object: &Value) -> DaemonSet {
    let status = &object["status"];
    DaemonSet {
        deleting: deleting(object),
        generation: int(&object["metadata"]["generation"]),
        observed: int(&status["observedGeneration"]),
        on_delete: object["spec"]["updateStrategy"]["type"] == "OnDelete",
        wanted: small(&status["desiredNumberScheduled"]),
        updated: small(&status["updatedNumberScheduled"]),
        available: small(&status["numberAvailable"]),
    }
}

/// Reads the conditions of a Job.
pub(super) fn conditions(object: &Value) -> Vec<Condition> {
    list(&object["status"]["conditions"])
        .map(|c| Condition {
            kind: text(&c["type"]).unwrap_or_default(),
            holds: c["status"] == "True",
            reason: text(&c["reason"]).unwrap_or_default(),
        })
        .collect()
}

/// A container of a pod template: its name, its image, and whether it is an init container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageOf {
    pub name: String,
    pub image: String,
    pub init: bool,
}

/// The images of a pod template by container, init containers too.
pub(super) fn images(template: &Value) -> Vec<ImageOf> {
    let spec = &template["spec"];
    let of = |containers, init| {
        list(containers).filter_map(move |c: &Value| {
            Some(ImageOf { name: text(&c["name"])?, image: text(&c["image"])?, init })
        })
    };
    of(&spec["initContainers"], true).chain(of(&spec["containers"], false)).collect()
}

/// The number that each change of an object raises.
pub(super) fn generation(object: &Value) -> i64 {
    int(&object["metadata"]["generation"])
}

/// The identifier of an object, which a later one of the same name doesn't have.
pub(super) fn uid(object: &Value) -> String {
    text(&object["metadata"]["uid"]).unwrap_or_default()
}

/// The tag and the digest of an image, where its name has them.
pub(super) fn tag(image: &str) -> (Option<&str>, Option<&str>) {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash is a registry's port.
    let last = name.rsplit('/').next().unwrap_or(name);
    (last.split_once(':').map(|(_, tag)| tag), digest)
}

/// Whether an image has the digest of an earlier one whose tag differs. The digest decides what runs, and
/// the tag beside it is only a word.
pub(super) fn only_the_tag_is_new(image: &str, earlier: &[ImageOf]) -> bool {
    let (name, Some(digest)) = tag(image) else { return false };
    earlier.iter().any(|other| {
        let (other_name, other_digest) = tag(&other.image);
        other_digest == Some(digest) && other_name != name
    })
}

/// Reads a pod; `RolloutHistory` adds the restarts of the window and the times.
pub(super) fn pod(object: &Value) -> Pod {
    let status = &object["status"];
    let is =
        |kind: &str, value: &str| condition(object, kind).is_some_and(|c| c["status"] == value);
    let containers =
        list(&status["initContainerStatuses"]).chain(list(&status["containerStatuses"]));
    let unschedulable = condition(object, "PodScheduled")
        .is_some_and(|c| c["status"] == "False" && c["reason"] == "Unschedulable");
    let mut apps = list(&status["containerStatuses"]).peekable();
    let running = apps.peek().is_some() && apps.all(|c| c["state"]["running"].is_object());
    Pod {
        name: text(&object["metadata"]["name"]).unwrap_or_default(),
        phase: text(&status["phase"]).unwrap_or_default(),
        reason: text(&status["reason"]),
        ready: is("Ready", "True"),
        unschedulable,
        running,
        waits: 0,
        unplaced: 0,
        unready: 0,
        initial_delay: initial_delay(&object["spec"]),
        containers: containers.map(container).collect(),
    }
}

fn container(status: &Value) -> Container {
    let waiting = &status["state"]["waiting"];
    let killed = |state: &Value| state["terminated"]["reason"] == "OOMKilled";
    Container {
        name: text(&status["name"]).unwrap_or_default(),
        waiting: text(&waiting["reason"]),
        message: text(&waiting["message"]),
        out_of_memory: killed(&status["lastState"]) || killed(&status["state"]),
        restarts: small(&status["restartCount"]),
        restarts_before: 0,
    }
}

/// How long a pod may take to become ready, in milliseconds: its probes and a minute.
fn initial_delay(spec: &Value) -> i64 {
    let or = |value: &Value, or: i64| if value.is_null() { or } else { int(value) };
    let of = |probe: &Value| {
        if probe.is_null() {
            return 0;
        }
        let failing = or(&probe["periodSeconds"], 10);
        let failing = failing.saturating_mul(or(&probe["failureThreshold"], 3));
        int(&probe["initialDelaySeconds"]).saturating_add(failing)
    };
    let most = list(&spec["containers"])
        .map(|c| of(&c["startupProbe"]).saturating_add(of(&c["readinessProbe"])))
        .max()
        .unwrap_or(0);
    most.saturating_add(60).saturating_mul(1000)
}

/// The restarts of containers together.
pub(super) fn restarts<'a>(containers: impl IntoIterator<Item = &'a Container>) -> i32 {
    containers.into_iter().fold(0, |sum, container| sum.saturating_add(container.restarts))
}

/// The digests that a pod's containers run, by container.
pub(super) fn digests(object: &Value) -> Vec<(String, String)> {
    list(&object["status"]["containerStatuses"])
        .filter_map(|status| {
            let id = text(&status["imageID"])?;
            let digest = id.rsplit('@').next().filter(|digest| digest.contains("sha256:"))?;
            Some((text(&status["name"])?, digest.trim_start_matches("docker://").to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tag_differs_from_port_and_digest() {
        assert_eq!(tag("ghcr.io/a/b:abc"), (Some("abc"), None));
        assert_eq!(tag("localhost:5000/b"), (None, None));
        assert_eq!(tag("localhost:5000/b:1@sha256:aa"), (Some("1"), Some("sha256:aa")));
    }

    #[test]
    fn tag_beside_an_old_digest_is_only_a_word() {
        let earlier =
            [ImageOf { name: "app".into(), image: "r/app:old@sha256:aa".into(), init: false }];
        assert!(only_the_tag_is_new("r/app:new@sha256:aa", &earlier));
        assert!(!only_the_tag_is_new("r/app:new@sha256:bb", &earlier));
        assert!(!only_the_tag_is_new("r/app:old@sha256:aa", &earlier), "the same image");
        assert!(!only_the_tag_is_new("r/app:new", &earlier));
    }

    #[test]
    fn missing_fields_are_zero() {
        let read = deployment(&json!({"metadata": {"generation": 2}, "spec": {}}), 0);
        assert_eq!((read.wanted, read.replicas, read.observed), (1, 0, 0));
        let zero = deployment(&json!({"spec": {"replicas": 0}}), 0);
        assert_eq!(zero.wanted, 0);
        let failing = json!({"status": {"conditions": [
            {"type": "ReplicaFailure", "status": "True", "message": "quota",
             "lastTransitionTime": "2999-01-01T00:00:10Z"},
            {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"},
        ]}});
        let read = deployment(&failing, 40_000);
        assert_eq!(read.replica_failure, Some((40_000, "quota".into())));
        assert_eq!(read.progressing.as_deref(), Some("ReplicaSetUpdated"));
    }

    #[test]
    fn numbers_that_no_cluster_has_saturate() {
        let probe = json!({"initialDelaySeconds": i64::MAX, "periodSeconds": i64::MAX,
            "failureThreshold": i64::MAX});
        let containers = json!([{"startupProbe": probe, "readinessProbe": probe}]);
        let status = json!({"name": "a", "restartCount": i64::MAX});
        let read = pod(&json!({"spec": {"containers": containers},
            "status": {"containerStatuses": [status, status]}}));
        assert_eq!((read.initial_delay, restarts(&read.containers)), (i64::MAX, i32::MAX));
    }

    #[test]
    fn pod_includes_its_init_containers() {
        let object = json!({
            "metadata": {"name": "web-1", "creationTimestamp": "1970-01-01T00:00:10Z"},
            "spec": {"containers": [{"readinessProbe": {"initialDelaySeconds": 5}}]},
            "status": {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
                "initContainerStatuses": [{"name": "init", "state": {"waiting": {
                    "reason": "ErrImagePull", "message": "no such tag"}}}],
                "containerStatuses": [{"name": "app", "restartCount": 2, "state": {},
                    "imageID": "docker-pullable://r/app@sha256:aa",
                    "lastState": {"terminated": {"reason": "OOMKilled"}}}],
            },
        });
        let read = pod(&object);
        assert_eq!((read.running, read.initial_delay, read.unschedulable), (false, 95_000, true));
        assert_eq!(read.containers[0].waiting.as_deref(), Some("ErrImagePull"));
        assert!(read.containers[1].out_of_memory && read.containers[1].restarts == 2);
        assert_eq!(digests(&object), [("app".into(), "sha256:aa".into())]);
    }
}
