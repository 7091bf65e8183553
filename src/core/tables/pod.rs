//! Decision table T7: the state of a pod of a workload's newest revision, init containers included.
//! The deploy adapter for Kubernetes calls it for each pod, since a rollout alone does not show why
//! it stalls.
//!
//! | # | signal | state |
//! | --- | --- | --- |
//! | 1 | an image that can't be pulled | HELD: the world's fault, and no commit mends it; a human after [`HELD`] |
//! | 2 | waiting with another error, such as `CreateContainerConfigError` | DEGRADED after 60 s |
//! | 3 | `CrashLoopBackOff`, or 3 restarts within [`RESTART_WINDOW`], or `OOMKilled` | DEGRADED |
//! | 4 | Failed or evicted | replaced: the `ReplicaSet` counts |
//! | 5 | no node accepts it | HELD: a node may come; a human after [`HELD`] |
//! | 6 | all containers run, not ready | PROGRESSING; after the initial delay DEGRADED |
//!
//! Every time here is the time for which afk has seen the state without a break, on afk's own clock. The
//! cluster's times are never compared with it. A pod that pulls its image isn't late in becoming ready: row 6
//! counts from when its containers run, and begins again when it was ready or has restarted.

/// The time for which a container may wait with an error, in milliseconds.
pub(crate) const WAITING: i64 = 60_000;
/// The time after which a human is asked about a pod that the world holds up, in milliseconds.
pub const HELD: i64 = 5 * 60_000;
/// The number of restarts within [`RESTART_WINDOW`] that counts as a failure.
pub(crate) const RESTARTS: i32 = 3;
/// The span over which `RESTARTS` counts, in milliseconds.
pub const RESTART_WINDOW: i64 = 5 * 60_000;

/// A container or init container of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The name in the pod's specification.
    pub name: String,
    /// The field `state.waiting.reason`, such as `ImagePullBackOff`.
    pub waiting: Option<String>,
    /// The field `state.waiting.message`, where there is one.
    pub message: Option<String>,
    /// Whether its last termination was `OOMKilled`.
    pub out_of_memory: bool,
    /// The field `restartCount` now.
    pub restarts: i32,
    /// The field `restartCount` at the start of the window.
    pub restarts_before: i32,
}

/// The facts about a pod that the table reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// The name in the pod's metadata.
    pub name: String,
    /// The field `status.phase`, such as `Running`.
    pub phase: String,
    /// The field `status.reason`, such as `Evicted`.
    pub reason: Option<String>,
    /// Whether the condition `Ready` is `True`.
    pub ready: bool,
    /// Whether `PodScheduled` is `False` for lack of a node.
    pub unschedulable: bool,
    /// Whether all of its containers run, init containers aside.
    pub running: bool,
    /// How long afk has seen a container wait with an error, in milliseconds.
    pub waits: i64,
    /// How long afk has seen it without a node, in milliseconds.
    pub unplaced: i64,
    /// How long afk has seen all containers run without being ready, in milliseconds.
    pub unready: i64,
    /// The time for which it may run without being ready, in milliseconds.
    pub initial_delay: i64,
    /// Its containers, init containers included.
    pub containers: Vec<Container>,
}

/// The state of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodState {
    /// The pod is ready.
    Fine,
    /// The pod is starting, at this point.
    Progressing(String),
    /// Something outside of the commit holds the pod up, for this reason and so many milliseconds.
    Held(String, i64),
    /// The pod won't become ready, for this reason.
    Degraded(String),
    /// The pod was evicted or failed, and its controller creates another one.
    Replaced,
}

/// Reasons for waiting of an image that can't be pulled.
const NO_IMAGE: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];

/// Other reasons for waiting that don't clear by themselves.
const STUCK: [&str; 5] = [
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerError",
    "CreateContainerConfigError",
    "RunContainerError",
];

/// Whether a container waits with an error.
#[must_use]
pub fn waits_with_an_error(container: &Container) -> bool {
    let reason = container.waiting.as_deref().unwrap_or_default();
    NO_IMAGE.contains(&reason) || STUCK.contains(&reason)
}

/// Applies the table to one pod.
#[must_use]
pub fn state(pod: &Pod) -> PodState {
    let name = &pod.name;
    let line = |c: &Container, reason: &str| {
        let message = c.message.as_deref().unwrap_or_default();
        format!("{name}/{}: {reason} {message}", c.name).trim_end().to_owned()
    };
    let told = |c: &Container, reason: &str| PodState::Degraded(line(c, reason));
    for container in &pod.containers {
        let reason = container.waiting.as_deref().unwrap_or_default();
        if NO_IMAGE.contains(&reason) {
            return PodState::Held(line(container, reason), pod.waits);
        }
        if STUCK.contains(&reason) {
            if pod.waits >= WAITING {
                return told(container, reason);
            }
            return PodState::Progressing(format!("{name}: {reason}"));
        }
    }
    for container in &pod.containers {
        if container.waiting.as_deref() == Some("CrashLoopBackOff") {
            return told(container, "CrashLoopBackOff");
        }
        if container.restarts - container.restarts_before >= RESTARTS {
            let text = format!("{} restarts", container.restarts - container.restarts_before);
            return told(container, &text);
        }
        if container.out_of_memory {
            return told(container, "OOMKilled");
        }
    }
    if pod.phase == "Failed" {
        return PodState::Replaced;
    }
    if pod.phase == "Pending" && pod.unschedulable {
        return PodState::Held(format!("{name}: no node accepts it"), pod.unplaced);
    }
    if pod.phase == "Running" && !pod.ready {
        if pod.running && pod.unready > pod.initial_delay {
            return PodState::Degraded(format!("{name}: running, but not ready"));
        }
        return PodState::Progressing(format!("{name}: not ready yet"));
    }
    if pod.ready { PodState::Fine } else { PodState::Progressing(format!("{name}: {}", pod.phase)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        Pod {
            name: "web-1".into(),
            phase: "Running".into(),
            ready: true,
            running: true,
            initial_delay: 120_000,
            containers: vec![Container { name: "app".into(), ..Container::default() }],
            ..Pod::default()
        }
    }

    fn with(container: Container) -> Pod {
        let containers =
            vec![container, Container { name: "sidecar".into(), ..Container::default() }];
        Pod { containers, ..pod() }
    }

    fn name(pod: &Pod) -> &'static str {
        match state(pod) {
            PodState::Fine => "fine",
            PodState::Progressing(_) => "progressing",
            PodState::Held(..) => "held",
            PodState::Degraded(_) => "degraded",
            PodState::Replaced => "replaced",
        }
    }

    #[test]
    fn state_follows_every_row() {
        for reason in STUCK {
            let waits = with(Container { waiting: Some(reason.into()), ..Container::default() });
            let at = |waits_for| Pod {
                waits: waits_for,
                phase: "Pending".into(),
                ready: false,
                ..waits.clone()
            };
            assert_eq!(name(&at(59_999)), "progressing", "{reason}");
            assert_eq!(name(&at(60_000)), "degraded", "{reason}");
        }
        for reason in NO_IMAGE {
            let waits = with(Container { waiting: Some(reason.into()), ..Container::default() });
            let pod = Pod { waits: 70_000, phase: "Pending".into(), ready: false, ..waits };
            let says = PodState::Held(format!("web-1/: {reason}"), 70_000);
            assert_eq!(state(&pod), says, "1");
        }
        let crash = Container { waiting: Some("CrashLoopBackOff".into()), ..Container::default() };
        assert_eq!(name(&with(crash)), "degraded");
        let restarts =
            |n| with(Container { restarts: 7 + n, restarts_before: 7, ..Container::default() });
        assert_eq!(name(&restarts(2)), "fine");
        assert_eq!(name(&restarts(3)), "degraded");
        let oom = Container { out_of_memory: true, ..Container::default() };
        assert_eq!(name(&with(oom)), "degraded");
        let nowhere = Pod {
            unplaced: 16_000,
            phase: "Pending".into(),
            ready: false,
            unschedulable: true,
            ..pod()
        };
        let says = PodState::Held("web-1: no node accepts it".into(), 16_000);
        assert_eq!(state(&nowhere), says, "5");
        let evicted =
            Pod { phase: "Failed".into(), reason: Some("Evicted".into()), ready: false, ..pod() };
        assert_eq!(name(&evicted), "replaced");
        let slow = |unready| Pod { unready, ready: false, ..pod() };
        assert_eq!(name(&slow(120_000)), "progressing");
        assert_eq!(name(&slow(120_001)), "degraded");
        let pulls = Pod { running: false, ..slow(120_001) };
        assert_eq!(name(&pulls), "progressing", "a container still pulls its image");
        assert_eq!(name(&Pod { phase: "Pending".into(), ready: false, ..pod() }), "progressing");
        assert_eq!(name(&pod()), "fine");
        let PodState::Degraded(text) = state(&with(Container {
            name: "app".into(),
            waiting: Some("CrashLoopBackOff".into()),
            message: Some("back-off 5m".into()),
            ..Container::default()
        })) else {
            panic!("degraded");
        };
        assert_eq!(text, "web-1/app: CrashLoopBackOff back-off 5m");
    }
}
