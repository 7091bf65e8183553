//! Copies a folder with the modes and times of its files, which build tools compare. Where the file
//! system can share content between files, std's copy lets it.
//!
//! No program may write to either folder meanwhile.

use std::fs::{FileTimes, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The deepest folder that is copied.
const DEPTH_LIMIT: u32 = 256;

/// Copies what a folder holds into an existing one. Links are copied as links; sockets, pipes and
/// devices are left out.
pub(super) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    copy(from, to, 0)
}

fn copy(from: &Path, to: &Path, depth: u32) -> io::Result<()> {
    if depth > DEPTH_LIMIT {
        return Err(io::Error::other(format!("{} lies too deep", from.display())));
    }
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let found = entry.metadata()?;
        if found.is_dir() {
            std::fs::create_dir(&target)?;
            copy(&source, &target, depth + 1)?;
            // The times and a mode without the right to write come last.
            let times = FileTimes::new().set_modified(found.modified()?);
            std::fs::File::open(&target)?.set_times(times)?;
            let mode = found.permissions().mode() & 0o7777;
            std::fs::set_permissions(&target, Permissions::from_mode(mode))?;
        } else if found.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &target)?;
        } else if found.is_file() {
            std::fs::copy(&source, &target)?;
            let times = FileTimes::new().set_modified(found.modified()?);
            std::fs::File::open(&target)?.set_times(times)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn copy_keeps_modes_times_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("bin")).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join("bin/tool"), "x").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        mode(&from.join("bin/tool"), 0o555);
        let then = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        std::fs::File::open(from.join("bin/tool")).unwrap().set_modified(then).unwrap();
        std::os::unix::fs::symlink("/nonexistent", from.join("link")).unwrap();
        std::fs::File::open(from.join("bin")).unwrap().set_modified(then).unwrap();
        mode(&from.join("bin"), 0o555);
        copy_tree(&from, &to).unwrap();
        for name in ["bin", "bin/tool"] {
            let found = to.join(name).metadata().unwrap();
            assert_eq!(found.permissions().mode() & 0o777, 0o555, "{name}");
            assert_eq!(found.modified().unwrap(), then, "{name}");
        }
        assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("/nonexistent"));
        mode(&from.join("bin"), 0o755);
        mode(&to.join("bin"), 0o755);
    }
}
