//! Arrows between the rooms of `src` point one way, as docs/architecture.md tells: a room names
//! only the rooms of its row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source::{modules, named_paths};

/// A room and what it may name. `core` is a package of its own, which Cargo keeps from naming any.
const ROOMS: &[(&str, &[&str])] = &[
    ("agent", &["config", "process", "redact", "sandbox"]),
    ("breakglass", &["config", "error", "lock", "network", "trusted_file", "whole_file"]),
    ("ci", &["error", "github", "network", "process", "server_clock"]),
    (
        "cli",
        &[
            "agent",
            "breakglass",
            "cluster",
            "config",
            "deploy",
            "error",
            "executor",
            "github",
            "journal",
            "network",
            "process",
            "redact",
            "runtime",
            "sandbox",
            "secrets",
            "serve",
            "term",
            "test_report",
            "tracker",
            "trusted_file",
            "tui",
            "version",
            "whole_file",
            "workspace",
        ],
    ),
    ("cluster", &["config", "error", "network", "redact"]),
    ("config", &["sandbox", "trusted_file"]),
    ("deploy", &["cluster", "config", "error", "network", "process"]),
    ("egress", &["config", "lock"]),
    ("error", &[]),
    (
        "executor",
        &["agent", "cluster", "config", "error", "network", "process", "redact", "secrets"],
    ),
    (
        "fuzz",
        &[
            "agent",
            "breakglass",
            "ci",
            "config",
            "deploy",
            "egress",
            "executor",
            "github",
            "journal",
            "redact",
            "serve",
            "term",
            "test_report",
            "tracker",
            "tui",
            "workspace",
        ],
    ),
    ("github", &["config", "error", "lock", "network", "redact", "secrets", "server_clock"]),
    ("journal", &["config", "error", "lock", "trusted_file"]),
    ("lock", &[]),
    ("network", &["error"]),
    ("notify", &["config", "error", "lock", "network", "process", "secrets"]),
    ("process", &["error", "lock", "redact", "sandbox"]),
    ("redact", &["lock"]),
    (
        "runtime",
        &[
            "agent",
            "breakglass",
            "ci",
            "cluster",
            "config",
            "deploy",
            "egress",
            "error",
            "executor",
            "github",
            "journal",
            "lock",
            "network",
            "notify",
            "process",
            "redact",
            "sandbox",
            "secrets",
            "test_report",
            "tracker",
            "trusted_file",
            "whole_file",
            "workspace",
        ],
    ),
    ("sandbox", &["error"]),
    ("secrets", &["config", "error", "network", "redact", "trusted_file"]),
    (
        "serve",
        &[
            "breakglass",
            "config",
            "error",
            "journal",
            "lock",
            "network",
            "notify",
            "process",
            "redact",
            "runtime",
            "term",
            "trusted_file",
            "version",
        ],
    ),
    ("server_clock", &[]),
    ("term", &["lock"]),
    ("test_report", &["config", "redact"]),
    ("tracker", &["config", "error", "github", "lock", "whole_file"]),
    ("trusted_file", &[]),
    ("tui", &["breakglass", "config", "error", "journal", "runtime", "term", "whole_file"]),
    ("version", &[]),
    ("whole_file", &[]),
    ("workspace", &["config", "lock", "process", "redact", "sandbox"]),
];

#[test]
fn rooms_name_only_what_stands_below_them() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ROOMS.iter().map(|(room, names)| (*room, names.iter().copied().collect())).collect();
    let mut all = modules(Path::new("src"), &[]);
    all.retain(|module| !module.file.starts_with("src/core") && !module.path.is_empty());
    let rooms: BTreeSet<String> = all.iter().map(|module| module.path[0].clone()).collect();
    let mut wrong = BTreeSet::new();
    let mut named: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for module in &all {
        let room = module.path[0].as_str();
        for path in named_paths(module, &[]) {
            let Some(other) = path.first().filter(|other| rooms.contains(*other)) else { continue };
            if other == room {
                continue;
            }
            named.entry(room).or_default().insert(other.clone());
            if !allowed.get(room).is_some_and(|names| names.contains(other.as_str())) {
                wrong.insert(format!("{} names {other}", module.file.display()));
            }
        }
    }
    assert_eq!(wrong, BTreeSet::new());
    // A row that allows more than is used tells a reader too little.
    for (room, names) in &allowed {
        assert!(rooms.contains(*room), "there is no room {room}");
        let used = named.remove(room).unwrap_or_default();
        let unused: Vec<&str> =
            names.iter().copied().filter(|name| !used.contains(*name)).collect();
        assert_eq!(unused, Vec::<&str>::new(), "{room} does not name these");
    }
}

#[test]
fn core_depends_on_pure_packages_alone() {
    let manifest: toml::Table =
        std::fs::read_to_string("src/core/Cargo.toml").unwrap().parse().unwrap();
    let names: Vec<&String> = manifest["dependencies"].as_table().unwrap().keys().collect();
    assert_eq!(names, ["imbl", "serde", "sha2", "thiserror", "unicode-width"]);
}
