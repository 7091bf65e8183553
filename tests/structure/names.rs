//! One name a thing, and doc comments that say something.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::Visit;

use crate::source::{Module, modules};

fn all() -> Vec<Module> {
    let mut all = modules(Path::new("src"), &[]);
    all.retain(|module| !module.file.starts_with("src/core"));
    all.extend(modules(Path::new("src/core"), &["core"]));
    assert!(all.len() > 200, "only {} files were read", all.len());
    all
}

/// Types, traits and type aliases that a file defines outside of functions and impls.
fn types(module: &Module) -> Vec<String> {
    let of = |item: &syn::Item| match item {
        syn::Item::Struct(item) => Some(item.ident.to_string()),
        syn::Item::Enum(item) => Some(item.ident.to_string()),
        syn::Item::Trait(item) => Some(item.ident.to_string()),
        syn::Item::Type(item) => Some(item.ident.to_string()),
        _ => None,
    };
    module.syntax.items.iter().filter_map(of).collect()
}

#[test]
fn no_two_files_define_one_type_name() {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for module in all() {
        for name in types(&module) {
            files.entry(name).or_default().insert(module.file.display().to_string());
        }
    }
    files.retain(|_, places| places.len() > 1);
    assert_eq!(files, BTreeMap::new());
}

#[test]
fn old_names_are_gone() {
    const TYPES: [&str; 10] =
        ["Told", "Ask", "No", "Said", "Came", "Ways", "Made", "Happened", "Act", "Shell"];
    const MODULES: [&str; 10] =
        ["made", "ready", "heard", "told", "facts", "outside", "aside", "near", "far", "strays"];
    const METHODS: [&str; 2] = ["word", "line"];
    let mut found = Vec::new();
    for module in all() {
        let file = module.file.display().to_string();
        let old = |name: String| TYPES.contains(&name.as_str()).then_some(name);
        found.extend(
            types(&module).into_iter().filter_map(old).map(|name| format!("{file}: {name}")),
        );
        if module.path.last().is_some_and(|name| MODULES.contains(&name.as_str())) {
            found.push(format!("{file} is a module's old name"));
        }
        for item in &module.syntax.items {
            let syn::Item::Impl(item) = item else { continue };
            for part in &item.items {
                let syn::ImplItem::Fn(method) = part else { continue };
                let name = method.sig.ident.to_string();
                if METHODS.contains(&name.as_str()) && method.sig.receiver().is_some() {
                    found.push(format!("{file}: {name}()"));
                }
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn doc_comments_of_public_items_say_something() {
    let mut short = Vec::new();
    for module in all() {
        let mut docs = Docs { file: module.file.display().to_string(), short: Vec::new() };
        docs.visit_file(&module.syntax);
        short.extend(docs.short);
    }
    assert!(short.is_empty(), "{} doc comments are too short:\n{}", short.len(), short.join("\n"));
}

/// Doc comments of fewer than four words on what `pub` exposes.
struct Docs {
    file: String,
    short: Vec<String>,
}

impl Docs {
    fn check(&mut self, name: &str, attributes: &[syn::Attribute]) {
        let mut text = String::new();
        for attribute in attributes {
            if let syn::Meta::NameValue(pair) = &attribute.meta
                && pair.path.is_ident("doc")
                && let syn::Expr::Lit(literal) = &pair.value
                && let syn::Lit::Str(line) = &literal.lit
            {
                text.push_str(&line.value());
                text.push(' ');
            }
        }
        if !text.is_empty() && text.split_whitespace().count() < 4 {
            self.short.push(format!("{}: {name}: {}", self.file, text.trim()));
        }
    }

    fn fields(&mut self, name: &str, fields: &syn::Fields, always: bool) {
        for field in fields {
            if always || is_public(&field.vis) {
                let field_name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
                self.check(&format!("{name}.{field_name}"), &field.attrs);
            }
        }
    }
}

const fn is_public(visibility: &syn::Visibility) -> bool {
    matches!(visibility, syn::Visibility::Public(_))
}

impl<'ast> Visit<'ast> for Docs {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        if is_public(&item.vis) {
            let name = item.ident.to_string();
            self.check(&name, &item.attrs);
            self.fields(&name, &item.fields, false);
        }
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        if is_public(&item.vis) {
            self.check(&item.ident.to_string(), &item.attrs);
            for variant in &item.variants {
                let name = format!("{}::{}", item.ident, variant.ident);
                self.check(&name, &variant.attrs);
                self.fields(&name, &variant.fields, true);
            }
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if is_public(&item.vis) {
            self.check(&item.sig.ident.to_string(), &item.attrs);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if is_public(&item.vis) {
            self.check(&item.sig.ident.to_string(), &item.attrs);
        }
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        if is_public(&item.vis) {
            self.check(&item.ident.to_string(), &item.attrs);
        }
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if is_public(&item.vis) {
            self.check(&item.ident.to_string(), &item.attrs);
            for part in &item.items {
                if let syn::TraitItem::Fn(method) = part {
                    self.check(&method.sig.ident.to_string(), &method.attrs);
                }
            }
        }
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        if is_public(&item.vis) {
            self.check(&item.ident.to_string(), &item.attrs);
        }
    }
}
