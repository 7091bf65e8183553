//! The core stays pure: its source names no clock, no I/O, no async and no other room.

use std::path::Path;

#[test]
fn core_names_nothing_impure() {
    let forbidden = [
        "async ",
        ".await",
        "tokio",
        "std::fs",
        "std::net",
        "std::process",
        "std::thread",
        "std::env",
        "std::time",
        "Instant::now",
        "SystemTime",
        "reqwest",
        "rusqlite",
        "git2",
        "rustix",
        "println!",
        "eprintln!",
        "crate::runtime",
        "crate::journal",
        "crate::tui",
        "crate::config",
        "crate::process",
        "crate::workspace",
        "rand::",
    ];
    let mut read = 0;
    for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core")) {
        let text = std::fs::read_to_string(&path).unwrap();
        read += 1;
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            let found = forbidden.iter().find(|word| code.contains(**word));
            assert_eq!(found, None, "{}:{}: {line}", path.display(), number + 1);
        }
    }
    assert!(read > 10, "only {read} files were read");
}

#[test]
fn rooms_depend_in_one_direction() {
    // Each room with the rooms that it must not name (docs/architecture.md).
    let rules: &[(&str, &[&str])] = &[
        ("tui", &["serve", "agent", "ci", "deploy", "tracker", "workspace", "secrets", "cli"]),
        ("runtime", &["tui", "cli", "serve"]),
        ("agent", &["ci", "deploy", "tracker", "workspace", "runtime", "tui", "cli"]),
        ("serve", &["tui", "cli", "agent", "ci", "deploy", "tracker", "workspace"]),
        ("github", &["agent", "ci", "deploy", "tracker", "workspace", "runtime", "tui", "cli"]),
        ("notify", &["agent", "ci", "deploy", "tracker", "workspace", "runtime", "tui", "cli"]),
        ("secrets", &["agent", "ci", "deploy", "tracker", "github", "runtime", "tui", "cli"]),
        ("executor", &["ci", "deploy", "tracker", "workspace", "runtime", "tui", "cli"]),
        ("ci", &["agent", "deploy", "tracker", "workspace", "runtime", "tui", "cli"]),
        ("deploy", &["agent", "ci", "tracker", "workspace", "runtime", "tui", "cli"]),
        ("tracker", &["agent", "ci", "deploy", "workspace", "runtime", "tui", "cli"]),
        ("workspace", &["agent", "ci", "deploy", "tracker", "runtime", "tui", "cli"]),
        ("journal", &["runtime", "tui", "cli", "agent", "workspace"]),
        ("process", &["runtime", "tui", "cli", "agent", "workspace", "journal"]),
        ("term", &["runtime", "tui", "cli", "agent", "workspace", "journal"]),
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (room, not) in rules {
        for path in files(&src.join(room)) {
            let text = std::fs::read_to_string(&path).unwrap();
            for other in *not {
                let name = format!("crate::{other}::");
                assert!(!text.contains(&name), "{} names {name}", path.display());
            }
        }
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            all.push(path);
        }
    }
    all
}
