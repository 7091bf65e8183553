//! Reads a tree of Rust files: which module each file is, and which paths its code names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// One file that is a module of its own.
pub struct Module {
    /// From the repository's root, or from a planted tree's.
    pub file: PathBuf,
    /// The module's path in its crate: `["tui", "panes", "queue"]`.
    pub path: Vec<String>,
    /// The parsed file without what only a test build compiles.
    pub syntax: syn::File,
}

/// The modules below a folder whose own module path is `prefix`.
pub fn modules(root: &Path, prefix: &[&str]) -> Vec<Module> {
    let mut files = Vec::new();
    collect(root, &mut files);
    let mut all = Vec::new();
    let mut test_only = Vec::new();
    for file in files {
        let mut path: Vec<String> = prefix.iter().map(|part| (*part).to_owned()).collect();
        let inside = file.strip_prefix(root).unwrap().with_extension("");
        path.extend(inside.iter().map(|part| part.to_str().unwrap().to_owned()));
        if matches!(path.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            path.pop();
        }
        let mut syntax = syn::parse_file(&std::fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        syntax.items.retain(|item| {
            let test = attributes(item).iter().any(is_test);
            if test && let syn::Item::Mod(declared) = item {
                let mut child = path.clone();
                child.push(declared.ident.to_string());
                test_only.push(child);
            }
            !test
        });
        all.push(Module { file, path, syntax });
    }
    all.retain(|module| !test_only.iter().any(|test| module.path.starts_with(test)));
    all.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!all.is_empty(), "{} holds no Rust file", root.display());
    all
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}

/// The attributes of an item that can be switched off in a test build.
fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    list.path.is_ident("cfg") && list.tokens.to_string() == "test"
}

/// Every path of more than one part that a module's code writes: in `use` trees, expressions and
/// types. A glob stands as the path before it.
pub fn written_paths(module: &Module) -> Vec<Vec<String>> {
    let mut written = Written(Vec::new());
    written.visit_file(&module.syntax);
    written.0
}

struct Written(Vec<Vec<String>>);

impl Written {
    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) if name.ident == "self" => self.0.push(before.to_vec()),
            syn::UseTree::Name(name) => self.0.push(with(&name.ident)),
            syn::UseTree::Rename(rename) if rename.ident == "self" => self.0.push(before.to_vec()),
            syn::UseTree::Rename(rename) => self.0.push(with(&rename.ident)),
            syn::UseTree::Glob(_) => self.0.push(before.to_vec()),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(before, tree));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Written {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if names.len() > 1 {
            self.0.push(names);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {
        // `pub(in super::super)` imports nothing.
    }
}

/// Every path that a module's code names, resolved to the crate's root. Paths of other crates and of
/// local names are left out.
pub fn named_paths(module: &Module, children: &[String]) -> Vec<Vec<String>> {
    let resolve = |path: &Vec<String>| match path.first().map_or("", String::as_str) {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([&module.path, &path[1..]].concat()),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            let kept = module.path.len().checked_sub(ups)?;
            Some([&module.path[..kept], &path[ups..]].concat())
        }
        child if children.iter().any(|known| known == child) => {
            Some([module.path.as_slice(), path].concat())
        }
        _ => None,
    };
    written_paths(module).iter().filter_map(resolve).collect()
}

/// The imports of each module, as indices into `modules`: the deepest module that a path leads to.
pub fn imports(modules: &[Module]) -> Vec<Vec<usize>> {
    let places: BTreeMap<&[String], usize> =
        modules.iter().enumerate().map(|(at, module)| (module.path.as_slice(), at)).collect();
    let children = |of: &Module| -> Vec<String> {
        let below = modules.iter().filter(|module| {
            module.path.len() == of.path.len() + 1 && module.path.starts_with(&of.path)
        });
        below.filter_map(|module| module.path.last().cloned()).collect()
    };
    let resolve = |path: &Vec<String>| {
        (0..=path.len()).rev().find_map(|length| places.get(&path[..length]).copied())
    };
    modules
        .iter()
        .enumerate()
        .map(|(at, module)| {
            let named = named_paths(module, &children(module));
            let mut targets: Vec<usize> =
                named.iter().filter_map(resolve).filter(|target| *target != at).collect();
            targets.sort_unstable();
            targets.dedup();
            targets
        })
        .collect()
}
