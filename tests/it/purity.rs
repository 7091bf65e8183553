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
