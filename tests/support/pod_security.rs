//! The controls of the Pod Security Standards, profiles baseline and restricted, as of Kubernetes
//! 1.34: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

use serde_json::Value;

/// The value that a control allows in a field.
enum Allowed {
    /// Nothing, or this value.
    NothingOr(Value),
    /// Nothing, or one of these texts.
    NothingOrOneOf(&'static [&'static str]),
    /// Nothing, or a list of only these texts.
    NothingOrOnly(&'static [&'static str]),
    /// Exactly this value; a container may inherit it from the pod.
    Exactly(Value),
    /// One of these texts; a container may inherit it from the pod.
    OneOf(&'static [&'static str]),
    /// A list with this text.
    ListWith(&'static str),
    /// Nothing, or anything but this value.
    NotValue(Value),
    /// A map with one of these keys.
    HasKey(&'static [&'static str]),
}

struct Control {
    name: &'static str,
    /// The path of the field in the pod. `containers` stands for containers of all kinds.
    field: &'static str,
    allowed: Allowed,
}

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];
const SELINUX_TYPES: &[&str] =
    &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
const PROFILES: &[&str] = &["RuntimeDefault", "Localhost"];

fn controls() -> Vec<Control> {
    use Allowed::{
        Exactly, HasKey, ListWith, NotValue, NothingOr, NothingOrOneOf, NothingOrOnly, OneOf,
    };
    let no = || NothingOr(false.into());
    let row = |name, field, allowed| Control { name, field, allowed };
    vec![
        // Baseline.
        row("HostProcess", "securityContext.windowsOptions.hostProcess", no()),
        row("HostProcess", "containers.securityContext.windowsOptions.hostProcess", no()),
        row("Host Namespaces", "hostNetwork", no()),
        row("Host Namespaces", "hostPID", no()),
        row("Host Namespaces", "hostIPC", no()),
        row("Privileged Containers", "containers.securityContext.privileged", no()),
        row(
            "Capabilities",
            "containers.securityContext.capabilities.add",
            NothingOrOnly(CAPABILITIES),
        ),
        row("HostPath Volumes", "volumes.hostPath", NothingOr(Value::Null)),
        row("Host Ports", "containers.ports.hostPort", NothingOr(0.into())),
        row("Host Probes", "containers.livenessProbe.httpGet.host", NothingOr("".into())),
        row("Host Probes", "containers.readinessProbe.httpGet.host", NothingOr("".into())),
        row("Host Probes", "containers.startupProbe.httpGet.host", NothingOr("".into())),
        row("Host Probes", "containers.livenessProbe.tcpSocket.host", NothingOr("".into())),
        row("Host Probes", "containers.readinessProbe.tcpSocket.host", NothingOr("".into())),
        row("Host Probes", "containers.startupProbe.tcpSocket.host", NothingOr("".into())),
        row("Lifecycle Hooks", "containers.lifecycle.postStart.httpGet.host", NothingOr("".into())),
        row("Lifecycle Hooks", "containers.lifecycle.preStop.httpGet.host", NothingOr("".into())),
        row("AppArmor", "securityContext.appArmorProfile.type", NothingOrOneOf(PROFILES)),
        row(
            "AppArmor",
            "containers.securityContext.appArmorProfile.type",
            NothingOrOneOf(PROFILES),
        ),
        row("SELinux", "securityContext.seLinuxOptions.type", NothingOrOneOf(SELINUX_TYPES)),
        row(
            "SELinux",
            "containers.securityContext.seLinuxOptions.type",
            NothingOrOneOf(SELINUX_TYPES),
        ),
        row("SELinux", "securityContext.seLinuxOptions.user", NothingOr("".into())),
        row("SELinux", "containers.securityContext.seLinuxOptions.user", NothingOr("".into())),
        row("SELinux", "securityContext.seLinuxOptions.role", NothingOr("".into())),
        row("SELinux", "containers.securityContext.seLinuxOptions.role", NothingOr("".into())),
        row(
            "/proc Mount Type",
            "containers.securityContext.procMount",
            NothingOr("Default".into()),
        ),
        row("Seccomp", "securityContext.seccompProfile.type", NothingOrOneOf(PROFILES)),
        row("Seccomp", "containers.securityContext.seccompProfile.type", NothingOrOneOf(PROFILES)),
        row("Sysctls", "securityContext.sysctls.name", NothingOrOneOf(SAFE_SYSCTLS)),
        // Restricted.
        row("Volume Types", "volumes", HasKey(VOLUMES)),
        row(
            "Privilege Escalation",
            "containers.securityContext.allowPrivilegeEscalation",
            Exactly(false.into()),
        ),
        row("Running as Non-root", "containers.securityContext.runAsNonRoot", Exactly(true.into())),
        row("Running as Non-root user", "securityContext.runAsUser", NotValue(0.into())),
        row("Running as Non-root user", "containers.securityContext.runAsUser", NotValue(0.into())),
        row(
            "Seccomp (restricted)",
            "containers.securityContext.seccompProfile.type",
            OneOf(PROFILES),
        ),
        row(
            "Capabilities (restricted)",
            "containers.securityContext.capabilities.drop",
            ListWith("ALL"),
        ),
        row(
            "Capabilities (restricted)",
            "containers.securityContext.capabilities.add",
            NothingOrOnly(&["NET_BIND_SERVICE"]),
        ),
    ]
}

impl Allowed {
    fn allows(&self, value: &Value) -> bool {
        let text_in = |value: &Value, texts: &[&str]| {
            value.as_str().is_some_and(|text| texts.contains(&text))
        };
        let list_in = |texts: &[&str]| {
            value.as_array().is_some_and(|list| list.iter().all(|item| text_in(item, texts)))
        };
        match self {
            Self::NothingOr(wanted) => value.is_null() || value == wanted,
            Self::NothingOrOneOf(texts) => value.is_null() || text_in(value, texts),
            Self::NothingOrOnly(texts) => value.is_null() || list_in(texts),
            Self::Exactly(wanted) => value == wanted,
            Self::OneOf(texts) => text_in(value, texts),
            Self::ListWith(text) => {
                value.as_array().is_some_and(|list| list.iter().any(|item| item == text))
            }
            Self::NotValue(unwanted) => value != unwanted,
            Self::HasKey(keys) => keys.iter().any(|key| value.get(key).is_some()),
        }
    }
}

/// The values of a field: one for each item of the lists on its path, and `null` where it is missing.
fn values<'a>(value: &'a Value, path: &[&str]) -> Vec<&'a Value> {
    if let Some(list) = value.as_array() {
        return list.iter().flat_map(|item| values(item, path)).collect();
    }
    match path.split_first() {
        None => vec![value],
        Some((name, rest)) => value.get(name).map_or(vec![&Value::Null], |inner| {
            if rest.is_empty() && *name != "volumes" { vec![inner] } else { values(inner, rest) }
        }),
    }
}

/// The controls that a pod's `spec` breaks, each as its name and field.
pub fn broken_controls(spec: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for Control { name, field, allowed } in controls() {
        let path: Vec<&str> = field.split('.').collect();
        let owners: Vec<&Value> = if path[0] == "containers" {
            let kinds = ["containers", "initContainers", "ephemeralContainers"];
            kinds.iter().filter_map(|kind| spec[*kind].as_array()).flatten().collect()
        } else {
            vec![spec]
        };
        assert!(!owners.is_empty(), "the pod has no containers");
        let inner = &path[usize::from(path[0] == "containers")..];
        let inherits = matches!(allowed, Allowed::Exactly(_) | Allowed::OneOf(_));
        for owner in owners {
            let ok = values(owner, inner).into_iter().all(|value| {
                let inherited =
                    if value.is_null() && inherits { values(spec, inner)[0] } else { value };
                let absent_list = inner == ["volumes"] && value.is_null();
                absent_list || allowed.allows(inherited)
            });
            if !ok {
                broken.push(format!("{name}: {field}"));
            }
        }
    }
    broken
}
