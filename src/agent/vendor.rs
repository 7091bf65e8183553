//! Finds the programs of agents.
//!
//! An npm package puts a shim on the PATH that starts the real program through Node. Stopping the
//! shim leaves the agent's child processes running, therefore afk starts the real program.

use std::path::{Path, PathBuf};

/// Returns the real program of an npm shim, or `None` if `program` is no shim or nothing matches.
///
/// `pattern` is its path below `node_modules`; each component may contain one `*`.
#[must_use]
pub(crate) fn program_behind_shim(program: &Path, pattern: &str) -> Option<PathBuf> {
    let real = std::fs::canonicalize(program).ok()?;
    let shim = real.extension().is_some_and(|end| end == "js" || end == "cjs" || end == "mjs");
    if !shim {
        return None;
    }
    real.ancestors()
        .filter(|folder| folder.file_name().is_some_and(|name| name == "node_modules"))
        .find_map(|folder| find(folder, &pattern.split('/').collect::<Vec<_>>()))
}

/// Resolves a program's name through the PATH of this process; a path stays as it is.
#[must_use]
pub fn on_path(program: &str) -> Option<PathBuf> {
    crate::process::on_path(program.as_ref(), std::env::var_os("PATH").as_deref())
}

/// Returns the first file below `folder` whose path matches `parts`, in alphabetical order.
fn find(folder: &Path, parts: &[&str]) -> Option<PathBuf> {
    let Some((part, rest)) = parts.split_first() else {
        return folder.is_file().then(|| folder.to_owned());
    };
    let Some((prefix, suffix)) = part.split_once('*') else {
        return find(&folder.join(part), rest);
    };
    let mut matches: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= prefix.len() + suffix.len()
                && name.starts_with(prefix)
                && name.ends_with(suffix)
        })
        .map(|entry| entry.path())
        .collect();
    matches.sort();
    matches.iter().find_map(|path| find(path, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shim_resolves_to_its_program() {
        let dir = tempfile::tempdir().unwrap();
        let modules = dir.path().join("node_modules");
        let vendor = modules.join("@openai/codex-linux-x64/vendor/x86/bin");
        std::fs::create_dir_all(&vendor).unwrap();
        std::fs::create_dir_all(modules.join("@openai/codex/bin")).unwrap();
        std::fs::write(vendor.join("codex"), "").unwrap();
        let shim = modules.join("@openai/codex/bin/codex.js");
        std::fs::write(&shim, "").unwrap();
        let link = dir.path().join("codex");
        std::os::unix::fs::symlink(&shim, &link).unwrap();
        let pattern = "@openai/codex-*/vendor/*/bin/codex";
        let real = std::fs::canonicalize(vendor.join("codex")).unwrap();
        assert_eq!(program_behind_shim(&link, pattern), Some(real.clone()));
        assert_eq!(program_behind_shim(&real, pattern), None);
        assert_eq!(program_behind_shim(&link, "@openai/none-*/codex"), None);
        assert!(on_path("sh").is_some() && on_path("no-such-program").is_none());
    }
}
