//! The one way to replace a file whole: a new file beside it, and a rename that puts it in its place.
//!
//! Readers see the old file or the new one, and never half of either. Several tasks of one afk can replace the
//! same file at the same time, such as the cockpits of one operator: each new file therefore has a name of its
//! own, and the last rename wins.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A new file beside the one that it replaces. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct WholeFile {
    pub(crate) file: File,
    new: PathBuf,
    path: PathBuf,
    is_put: bool,
}

impl WholeFile {
    /// Creates the new file with these permissions, of which the process's mask takes some away. The call follows
    /// no link that somebody put in its place.
    ///
    /// # Errors
    /// The file can't be created in the folder of `path`.
    pub(crate) fn create(path: &Path, mode: u32) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        loop {
            // In another container an afk can have the same number, and a crash can leave a file behind.
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let new = path.with_file_name(format!(".{name}.{}-{number}.new", std::process::id()));
            match File::options().write(true).create_new(true).mode(mode).open(&new) {
                Ok(file) => return Ok(Self { file, new, path: path.to_owned(), is_put: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts the file in the place of the old one.
    ///
    /// # Errors
    /// The rename failed, and the old file is still there.
    pub(crate) fn put(mut self) -> io::Result<()> {
        std::fs::rename(&self.new, &self.path)?;
        self.is_put = true;
        Ok(())
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if !self.is_put {
            // The caller gets the error that kept the file from its place.
            let _ = std::fs::remove_file(&self.new);
        }
    }
}

/// Replaces a file by these bytes.
///
/// # Errors
/// The new file can't be written or renamed.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut whole = WholeFile::create(path, mode)?;
    whole.file.write_all(bytes)?;
    whole.put()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn threads_that_replace_one_file_leave_one_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let text = |writer: usize| vec![b'a' + u8::try_from(writer).unwrap(); 3000 * (writer + 1)];
        std::thread::scope(|scope| {
            for writer in 0..6 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        replace(path, &text(writer), 0o600).unwrap();
                        let read = std::fs::read(path).unwrap();
                        let by = usize::from(read[0] - b'a');
                        assert!(read == text(by), "{} bytes of writer {by}", read.len());
                    }
                });
            }
        });
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn file_that_is_dropped_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        replace(&path, b"old", 0o600).unwrap();
        let mut whole = WholeFile::create(&path, 0o600).unwrap();
        whole.file.write_all(b"ne").unwrap();
        drop(whole);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn name_that_is_taken_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let first = WholeFile::create(&path, 0o600).unwrap();
        let number: u64 = {
            let name = first.new.file_name().unwrap().to_str().unwrap();
            name.rsplit(['-', '.']).nth(1).unwrap().parse().unwrap()
        };
        // Other tests take numbers meanwhile, so that more than the next one is taken here.
        let taken = |number| format!(".kept.{}-{number}.new", std::process::id());
        let all: Vec<PathBuf> =
            (number + 1..number + 2000).map(|number| folder.path().join(taken(number))).collect();
        for path in &all {
            std::os::unix::fs::symlink("elsewhere", path).unwrap();
        }
        replace(&path, b"new", 0o600).unwrap();
        assert!(all.iter().all(|path| path.is_symlink()));
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(!folder.path().join("elsewhere").exists());
    }
}
