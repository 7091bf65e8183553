//! A small file system of its own in a folder, which a test can fill to its last byte.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::text;

/// Unmounted when it is dropped.
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts the file system on a new folder; none, with a remark, where this process may not.
    pub fn mount(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let options = ["-t", "tmpfs", "-o", "size=32m,mode=0700", "afk-small-disk"];
        let out = Command::new("mount").args(options).arg(folder).output();
        match out {
            Ok(out) if out.status.success() => Some(Self { folder: folder.to_owned() }),
            other => {
                let why = other.map_or_else(|error| error.to_string(), |out| text(&out.stderr));
                let line = format!("!!! SKIPPED: no file system can be mounted here: {why}\n");
                std::io::stderr().write_all(line.as_bytes()).unwrap();
                None
            }
        }
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    /// Leaves no room for a single page.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        let page = [b'x'; 4096];
        let error = loop {
            if let Err(error) = file.write_all(&page) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }

    /// Makes room again.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that the test started may still end in there.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
