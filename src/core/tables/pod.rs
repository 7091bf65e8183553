//! T7: the pods of a workload's newest revision, their init containers too.

/// How long a reason to wait may stand, in milliseconds.
pub const WAITING: i64 = 60_000;
/// How long a pod may find no node, in milliseconds.
pub const UNSCHEDULABLE: i64 = 15_000;
/// Restarts within [`RESTART_WINDOW`] that are too many.
pub const RESTARTS: i32 = 3;
/// See [`RESTARTS`]; in milliseconds.
pub const RESTART_WINDOW: i64 = 5 * 60_000;

/// A container, init containers too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// `state.waiting.reason`.
    pub waiting: Option<String>,
    /// `state.waiting.message`.
    pub message: Option<String>,
    /// Its last termination was for want of memory.
    pub out_of_memory: bool,
    /// `restartCount` now.
    pub restarts: i32,
    /// `restartCount` at the begin of the window.
    pub restarts_before: i32,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// `status.phase`.
    pub phase: String,
    /// `status.reason`.
    pub reason: Option<String>,
    /// The condition Ready is True.
    pub ready: bool,
    /// `PodScheduled` is False for want of a node.
    pub unschedulable: bool,
    /// Milliseconds since it was made, or since it waits for what it waits.
    pub age: i64,
    /// Milliseconds that it may be running without being ready.
    pub initial_delay: i64,
    /// All of them.
    pub containers: Vec<Container>,
}

/// What a pod says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodState {
    /// Ready, or on its way.
    Fine,
    /// On its way.
    Progressing(String),
    /// It won't come up.
    Degraded(String),
    /// It was evicted or failed: its controller makes another one.
    Replaced,
}

/// Reasons to wait that don't go away by themselves.
const STUCK: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerError",
    "CreateContainerConfigError",
    "RunContainerError",
];

/// The table.
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
            return PodState::Degraded(format!("{name}: no node takes it"));
        }
        return PodState::Progressing(format!("{name}: no node takes it yet"));
    }
    if pod.phase == "Running" && !pod.ready {
        if pod.age > pod.initial_delay {
            return PodState::Degraded(format!("{name}: running and not ready"));
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
    fn every_row() {
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
