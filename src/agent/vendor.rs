//! Where an npm package keeps the program itself. The shim that npm puts on the PATH runs it
//! through Node, and leaves its commands behind when it is stopped.

use std::path::{Path, PathBuf};

/// The program behind a shim: `pattern` names it below `node_modules`, a `*` stands for any part
/// of one name. None where `program` is no shim, or nothing fits.
#[must_use]
pub fn behind(program: &Path, pattern: &str) -> Option<PathBuf> {
    let real = std::fs::canonicalize(program).ok()?;
    let shim = real.extension().is_some_and(|end| end == "js" || end == "cjs" || end == "mjs");
    if !shim {
        return None;
    }
    real.ancestors()
        .filter(|folder| folder.file_name().is_some_and(|name| name == "node_modules"))
        .find_map(|folder| find(folder, &pattern.split('/').collect::<Vec<_>>()))
}

/// A program by its name: a path as it is, a name by our PATH.
#[must_use]
pub fn on_path(program: &str) -> Option<PathBuf> {
    crate::process::on_path(program.as_ref(), std::env::var_os("PATH").as_deref())
}

fn find(folder: &Path, parts: &[&str]) -> Option<PathBuf> {
    let Some((part, rest)) = parts.split_first() else {
        return folder.is_file().then(|| folder.to_owned());
    };
    let Some((before, behind)) = part.split_once('*') else {
        return find(&folder.join(part), rest);
    };
    let mut fits: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= before.len() + behind.len()
                && name.starts_with(before)
                && name.ends_with(behind)
        })
        .map(|entry| entry.path())
        .collect();
    fits.sort();
    fits.iter().find_map(|path| find(path, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_behind_its_shim() {
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
        assert_eq!(behind(&link, pattern), Some(real.clone()));
        assert_eq!(behind(&real, pattern), None);
        assert_eq!(behind(&link, "@openai/none-*/codex"), None);
        assert!(on_path("sh").is_some() && on_path("no-such-program").is_none());
    }
}
