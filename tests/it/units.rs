//! The shipped systemd units: how exposed they are by systemd's own measure, and that they allow what
//! the launcher of agents needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The highest exposure of a unit, of 10.
const EXPOSURE: f64 = 3.0;

fn unit(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/systemd/system");
    folder.join(format!("{name}.service"))
}

/// The breakglass unit followed by its drop-in for an agent, which systemd reads in this order.
fn breakglass_with_agent() -> String {
    let drop_in = unit("afk-breakglass").with_extension("service.d").join("agent.conf");
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    // The drop-in has the section [Service] alone, and the unit another one at its end.
    text(&unit("afk-breakglass")) + &text(&drop_in)
}

/// The values of a setting, with those of all its lines; an empty line takes back those before it.
fn values(text: &str, key: &str) -> Vec<String> {
    let mut values = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')) {
        if line.is_empty() {
            values.clear();
        }
        values.extend(line.split_whitespace().map(str::to_owned));
    }
    values
}

fn setting(name: &str, key: &str) -> Vec<String> {
    values(&std::fs::read_to_string(unit(name)).unwrap(), key)
}

/// Runs `systemd-analyze`; none where it is missing or too old to read a file.
fn analyze(args: &[&str]) -> Option<String> {
    let output = Command::new("systemd-analyze").args(args).arg("--no-pager").output();
    match output {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        other => {
            eprintln!("!!! SKIPPED: systemd-analyze {args:?} gives no answer here: {other:?}");
            None
        }
    }
}

/// The overall exposure in a report of `systemd-analyze security`.
fn exposure(report: &str) -> f64 {
    let overall = report.lines().find_map(|line| line.split_once("Overall exposure level for"));
    let words = overall.and_then(|(_, rest)| rest.split_once(": ")).unwrap().1;
    words.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn system_units_are_little_exposed() {
    for name in ["afk-pipeline", "afk-breakglass"] {
        let path = unit(name).display().to_string();
        let Some(text) = analyze(&["security", "--offline=yes", &path]) else { return };
        let exposure = exposure(&text);
        assert!(exposure <= EXPOSURE, "{name} has the exposure {exposure}:\n{text}");
        // The single findings.
        let found = analyze(&["security", "--offline=yes", "--json=short", &path]).unwrap();
        let found: Value = serde_json::from_str(&found).unwrap();
        let open: BTreeSet<&str> = found
            .as_array()
            .unwrap()
            .iter()
            .filter(|finding| finding["set"] == false)
            .map(|finding| finding["json_field"].as_str().unwrap())
            .collect();
        for field in
            ["NoNewPrivileges", "UserOrDynamicUser", "ProtectSystem", "ProtectKernelModules"]
        {
            assert!(!open.contains(field), "{name}: {field} is missing");
        }
        let capabilities = |field: &&&str| field.starts_with("CapabilityBoundingSet");
        assert_eq!(open.iter().filter(capabilities).count(), 0, "{name}: {open:?}");
    }
}

/// Anything mounted over a part of /proc makes the kernel refuse a fresh /proc in the user namespace
/// of an agent.
#[test]
fn pipeline_unit_leaves_proc_visible_and_allows_namespaces() {
    for key in ["ProtectKernelTunables", "ProtectKernelLogs", "ProtectHostname", "ProcSubset"] {
        assert_eq!(setting("afk-pipeline", key), Vec::<String>::new(), "{key}");
    }
    let namespaces = setting("afk-pipeline", "RestrictNamespaces");
    for wanted in ["user", "mnt", "pid", "ipc", "uts", "net"] {
        assert!(namespaces.iter().any(|found| found == wanted), "{wanted}: {namespaces:?}");
    }
    for key in ["PrivateUsers", "MemoryDenyWriteExecute", "ProtectControlGroups"] {
        assert_eq!(setting("afk-pipeline", key), Vec::<String>::new(), "{key}");
    }
    assert_eq!(setting("afk-breakglass", "RestrictNamespaces"), ["true"]);
}

/// The level `strong`, without which the agent of breakglass does not start, needs what agents of the
/// pipeline need.
#[test]
fn breakglass_unit_with_its_drop_in_allows_an_agent_what_the_pipeline_does() {
    let text = breakglass_with_agent();
    for key in
        ["Delegate", "DelegateSubgroup", "KillMode", "RestrictNamespaces", "SystemCallFilter"]
    {
        let wanted = setting("afk-pipeline", key);
        assert!(!wanted.is_empty() && values(&text, key) == wanted, "{key}: {wanted:?}");
    }
    for key in [
        "MemoryDenyWriteExecute",
        "ProtectControlGroups",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelTunables",
    ] {
        assert_eq!(values(&text, key).last().map(String::as_str), Some("false"), "{key}");
    }
    assert_eq!(values(&text, "ProcSubset").last().map(String::as_str), Some("all"));
    assert_eq!(values(&text, "PrivateUsers"), Vec::<String>::new());
    // It stays as little exposed as the pipeline.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("afk-breakglass.service");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    let Some(text) = analyze(&["security", "--offline=yes", &path]) else { return };
    let exposure = exposure(&text);
    assert!(exposure <= EXPOSURE, "the exposure is {exposure}:\n{text}");
}

/// A program's control group lies below the unit's own, in which afk itself must not stay.
#[test]
fn units_that_start_agents_delegate_their_control_group() {
    let user = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/systemd/user/afk.service");
    for path in [unit("afk-pipeline"), user] {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in ["Delegate=cpu memory pids", "DelegateSubgroup=afk"] {
            assert!(text.lines().any(|found| found == line), "{line}: {}", path.display());
        }
    }
    assert_eq!(setting("afk-breakglass", "Delegate"), Vec::<String>::new());
}

/// afk reports its state, so that `systemctl start` waits for it, and a hung one is started again.
#[test]
fn units_wait_for_afk_and_watch_it() {
    let user = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/systemd/user/afk.service");
    for path in [unit("afk-pipeline"), unit("afk-breakglass"), user] {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in ["Type=notify", "NotifyAccess=main", "ExecReload=/bin/kill -HUP $MAINPID"] {
            assert!(text.lines().any(|found| found == line), "{line}: {}", path.display());
        }
        assert!(
            text.contains("\nWatchdogSec=") && text.contains("\nRestart="),
            "{}",
            path.display()
        );
    }
}

/// The reason for what the unit of the pipeline leaves out, tried on this kernel: each of these mounts
/// is one that a left-out setting makes.
#[test]
fn kernel_refuses_a_fresh_proc_where_a_part_of_proc_is_covered() {
    let agent = "unshare --user --map-root-user --mount --pid --fork mount -t proc proc /proc";
    let started = |covering: &str| {
        let script = format!("{covering} && {agent}");
        let unit = ["--user", "--map-root-user", "--mount", "sh", "-c", &script];
        Command::new("unshare").args(unit).output().is_ok_and(|output| output.status.success())
    };
    if !started("true") {
        eprintln!("!!! SKIPPED: no user namespace with a /proc of its own can be made here");
        return;
    }
    for covering in [
        "mount --bind /proc/sys /proc/sys",
        "mount --bind /dev/null /proc/kmsg",
        "mount --bind /proc/sys/kernel/hostname /proc/sys/kernel/hostname",
    ] {
        assert!(!started(covering), "{covering}");
    }
}

/// The system calls that a filter allows: single names, and those of systemd's groups.
fn allowed_calls(name: &str) -> Option<BTreeSet<String>> {
    let mut allowed = BTreeSet::new();
    let mut groups: Vec<String> = setting(name, "SystemCallFilter");
    assert!(groups.iter().all(|word| !word.starts_with('~')), "{name} takes calls away");
    while let Some(word) = groups.pop() {
        if word.starts_with('@') {
            let text = analyze(&["syscall-filter", &word])?;
            let lines = text.lines().skip(1).map(str::trim);
            groups.extend(
                lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned),
            );
        } else {
            allowed.insert(word);
        }
    }
    Some(allowed)
}

#[test]
fn pipeline_unit_allows_the_system_calls_of_the_launcher() {
    let Some(allowed) = allowed_calls("afk-pipeline") else { return };
    for call in [
        "mount",
        "umount2",
        "pivot_root",
        "mount_setattr",
        "open_tree",
        "move_mount",
        "unshare",
        "clone",
        "clone3",
        "setns",
        "seccomp",
        "prctl",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "pidfd_open",
        "pidfd_send_signal",
        "execve",
        "execveat",
        "setrlimit",
        "prlimit64",
        "setresuid",
        "setgroups",
        "memfd_create",
        "close_range",
    ] {
        assert!(allowed.contains(call), "{call} is refused");
    }
    for call in
        ["bpf", "ptrace", "init_module", "kexec_load", "reboot", "swapon", "perf_event_open"]
    {
        assert!(!allowed.contains(call), "{call} is allowed");
    }
}
