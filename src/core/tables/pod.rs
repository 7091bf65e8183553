//! Decision table T7: the state of a pod of a workload's newest revision, init containers included.
//! The deploy adapter for Kubernetes calls it for each pod, since a rollout alone does not show why
//! it stalls.

/// The time for which a container may wait with an error, in milliseconds.
pub const WAITING: i64 = 60_000;
/// The time for which a pod may remain unscheduled, in milliseconds.
pub(crate) const UNSCHEDULABLE: i64 = 15_000;
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
    /// The time since its creation, or since it began its current wait, in milliseconds.
    pub age: i64,
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
    /// The pod won't become ready, for this reason.
    Degraded(String),
    /// The pod was evicted or failed, and its controller creates another one.
    Replaced,
}

/// Reasons for waiting that don't clear by themselves.
const STUCK: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerError",
    "CreateContainerConfigError",
    "RunContainerError",
];

/// Applies the table to one pod.
#[must_use]
pub fn state(pod: &Pod) -> PodState {
    let name = &pod.name;
    let told = |c: &Container, reason: &str| {
        let message = c.message.as_deref().unwrap_or_default();
        PodState::Degraded(format!("{name}/{}: {reason} {message}", c.name).trim_end().to_owned())
    };
    for container in &pod.containers {
        let reason = container.waiting.as_deref().unwrap_or_default();
        if STUCK.contains(&reason) {
            if pod.age >= WAITING {
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
        if pod.age > UNSCHEDULABLE {
            return PodState::Degraded(format!("{name}: no node accepts it"));
        }
        return PodState::Progressing(format!("{name}: no node accepts it yet"));
    }
    if pod.phase == "Running" && !pod.ready {
        if pod.age > pod.initial_delay {
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
            age: 1_000,
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
            PodState::Degraded(_) => "degraded",
            PodState::Replaced => "replaced",
        }
    }

    #[test]
    fn state_follows_every_row() {
        for reason in STUCK {
            let waits = with(Container { waiting: Some(reason.into()), ..Container::default() });
            let at = |age| Pod { age, phase: "Pending".into(), ready: false, ..waits.clone() };
            assert_eq!(name(&at(59_999)), "progressing", "{reason}");
            assert_eq!(name(&at(60_000)), "degraded", "{reason}");
        }
        let crash = Container { waiting: Some("CrashLoopBackOff".into()), ..Container::default() };
        assert_eq!(name(&with(crash)), "degraded");
        let restarts =
            |n| with(Container { restarts: 7 + n, restarts_before: 7, ..Container::default() });
        assert_eq!(name(&restarts(2)), "fine");
        assert_eq!(name(&restarts(3)), "degraded");
        let oom = Container { out_of_memory: true, ..Container::default() };
        assert_eq!(name(&with(oom)), "degraded");
        let nowhere =
            |age| Pod { age, phase: "Pending".into(), ready: false, unschedulable: true, ..pod() };
        assert_eq!(name(&nowhere(15_000)), "progressing");
        assert_eq!(name(&nowhere(15_001)), "degraded");
        let evicted =
            Pod { phase: "Failed".into(), reason: Some("Evicted".into()), ready: false, ..pod() };
        assert_eq!(name(&evicted), "replaced");
        let slow = |age| Pod { age, ready: false, ..pod() };
        assert_eq!(name(&slow(120_000)), "progressing");
        assert_eq!(name(&slow(120_001)), "degraded");
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
