//! The manifests that are shipped in assets/kubernetes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::yaml;

/// The shipped manifests with their objects, in the order of their paths.
pub fn manifests() -> Vec<(PathBuf, Vec<Value>)> {
    fn find(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                find(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/kubernetes"), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let documents = yaml::documents(&std::fs::read_to_string(&path).unwrap());
        assert!(!documents.is_empty(), "{} is empty", path.display());
        (path, documents)
    };
    paths.into_iter().map(read).collect()
}
