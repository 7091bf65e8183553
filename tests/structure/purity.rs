//! The core stays pure: its source names no clock, no I/O, no async and no other room. Cargo keeps
//! other packages out; this keeps out what the standard library itself could do.

use std::path::Path;

use crate::source::{Module, modules, written_paths};

/// The parts of the standard library that only compute.
const PURE: &[&str] = &["borrow", "cmp", "collections", "fmt", "iter", "mem", "str"];

/// A macro's body is not parsed, so these words are looked for in the text, and the part behind each
/// `std::`.
const FORBIDDEN: &[&str] = &[
    "async ",
    ".await",
    "tokio",
    "Instant::now",
    "SystemTime",
    "print!",
    "println!",
    "dbg!",
    "include_str!",
    "include!",
    "env!",
    "extern crate",
];

#[test]
fn core_names_nothing_impure() {
    let all = modules(Path::new("src/core"), &[]);
    assert!(all.len() > 40, "only {} files were read", all.len());
    assert_eq!(impure(&all), Vec::<String>::new());
}

#[test]
fn planted_impurity_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lib.rs");
    let found = |text: &str| {
        std::fs::write(&file, text).unwrap();
        !impure(&modules(folder.path(), &[])).is_empty()
    };
    for pure in [
        "use std::collections::BTreeMap;\nuse std::{fmt::Write as _, sync::Arc};",
        "//! No clock, as std::time::Instant::now() would be.\npub fn f() -> std::cmp::Ordering { todo!() }",
    ] {
        assert!(!found(pure), "{pure}");
    }
    for impure in [
        "use std::fs;",
        "use std::{collections::BTreeMap, fs::File};",
        "use std as standard;",
        "use std::{self as standard};",
        "use ::std::net::TcpStream;",
        "use std::*;",
        "use std::sync::Mutex;",
        "use tokio::time;",
        "pub async fn f() {}",
        "pub fn f() -> Vec<u8> { std::fs::read(\"file\").unwrap() }",
        "pub fn f() { let _ = <std::time::Instant>::now(); }",
        "pub fn f() -> String { format!(\"{:?}\", std::env::args()) }",
        "pub fn f() -> String { format!(\"{}\", std::process::id()) }",
        "pub fn f() { println!(\"said\"); }",
        "pub fn f() { eprintln![\"said\"]; }",
        "extern crate std as other;",
    ] {
        assert!(found(impure), "{impure}");
    }
}

/// The lines and paths of these modules that would reach outside.
fn impure(all: &[Module]) -> Vec<String> {
    let mut found = Vec::new();
    for module in all {
        for path in written_paths(module) {
            if reaches_outside(&path) {
                found.push(format!("{}: {}", module.file.display(), path.join("::")));
            }
        }
        let text = std::fs::read_to_string(&module.file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            // A brace opens a `use` tree, which the parser has read.
            let outside = code.split("std::").skip(1).any(|rest| {
                let pure = PURE.iter().any(|part| rest.starts_with(part));
                !(pure || rest.starts_with("sync::Arc") || rest.starts_with('{'))
            });
            if outside || FORBIDDEN.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {line}", module.file.display(), number + 1));
            }
        }
    }
    found
}

fn reaches_outside(path: &[String]) -> bool {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["std" | "core" | "alloc", "sync", "Arc", ..] => false,
        ["std" | "core" | "alloc", part, ..] => !PURE.contains(part),
        ["std" | "tokio", ..] => true,
        _ => false,
    }
}
