//! No file of `core` or `tui` imports, through others, itself.

use std::path::Path;

use crate::source::{Module, imports, modules};

/// The imports that lie on a circle, as `a.rs -> b.rs`; none where there is no circle.
fn circles(modules: &[Module]) -> Vec<String> {
    let mut edges: Vec<(usize, usize)> = imports(modules)
        .iter()
        .enumerate()
        .flat_map(|(from, targets)| targets.iter().map(move |to| (from, *to)))
        .collect();
    // An import is on a circle only if its file is imported and its target imports.
    loop {
        let kept: Vec<(usize, usize)> = edges
            .iter()
            .copied()
            .filter(|(from, to)| {
                edges.iter().any(|(_, target)| target == from)
                    && edges.iter().any(|(source, _)| source == to)
            })
            .collect();
        if kept.len() == edges.len() {
            break;
        }
        edges = kept;
    }
    let name = |at: usize| modules[at].file.display().to_string();
    edges.into_iter().map(|(from, to)| format!("{} -> {}", name(from), name(to))).collect()
}

#[test]
fn core_has_no_import_circle() {
    let all = modules(Path::new("src/core"), &[]);
    assert!(all.len() > 40, "only {} files were read", all.len());
    assert_eq!(circles(&all), Vec::<String>::new());
}

#[test]
fn tui_has_no_import_circle() {
    let all = modules(Path::new("src/tui"), &["tui"]);
    assert!(all.len() > 20, "only {} files were read", all.len());
    assert_eq!(circles(&all), Vec::<String>::new());
}

#[test]
fn planted_circle_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("deep")).unwrap();
    write("lib.rs", "mod a; mod b; mod deep; mod leaf;");
    write("a.rs", "use crate::{deep::{self, inner::Thing}, leaf};\npub struct A(Thing);");
    write("leaf.rs", "pub const fn leaf() {}");
    write("b.rs", "pub struct B(super::a::A);");
    write("deep/mod.rs", "pub mod inner;");
    write("deep/inner.rs", "pub type Thing = u8;");
    assert_eq!(circles(&modules(folder.path(), &[])), Vec::<String>::new());
    // Now `inner` names `b`, which names `a`, which names `inner`.
    write(
        "deep/inner.rs",
        "use super::super::b::B as Other;\npub type Thing = Option<Box<Other>>;",
    );
    let found = circles(&modules(folder.path(), &[]));
    let has = |edge: (&str, &str)| {
        found.iter().any(|line| {
            line.split_once(" -> ")
                .is_some_and(|(from, to)| from.ends_with(edge.0) && to.ends_with(edge.1))
        })
    };
    assert!(has(("a.rs", "deep/inner.rs")), "{found:?}");
    assert!(has(("deep/inner.rs", "b.rs")), "{found:?}");
    assert!(has(("b.rs", "a.rs")), "{found:?}");
    assert!(!found.iter().any(|line| line.contains("leaf")), "{found:?}");
}
