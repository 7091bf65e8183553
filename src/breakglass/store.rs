//! What verbs wrote, kept by its content for a while.

use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::core::model::breakglass::Verb;
use crate::core::model::digest::Digest;
use crate::core::model::time::Timestamp;

/// One verb's output with how it ended: stdout, stderr, exit and duration apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Which verb.
    pub verb: Verb,
    /// Which VM.
    pub vm: String,
    /// When it began, by this machine's clock.
    pub began: Timestamp,
    /// How long it took, in milliseconds.
    pub ms: i64,
    /// How it ended, in words.
    pub result: String,
    /// What it wrote, as it came.
    pub stdout: String,
    /// What it complained of, as it came.
    pub stderr: String,
    /// One of the two was longer.
    pub cut: bool,
}

/// The folder of captures in a state folder.
#[must_use]
pub fn folder(state: &Path) -> PathBuf {
    state.join("breakglass/captures")
}

/// Makes a folder that is its owner's alone.
///
/// # Errors
/// Where it can't be made.
pub fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

impl Document {
    /// Its bytes, and their name.
    fn named(&self) -> io::Result<(Vec<u8>, Digest)> {
        let bytes = serde_json::to_vec_pretty(self)?;
        let digest = Digest::from_bytes(Sha256::digest(&bytes).into());
        Ok((bytes, digest))
    }

    /// Keeps it: its name, its size, and whether the disk has it.
    pub fn keep(&self, state: &Path) -> (Digest, u64, io::Result<()>) {
        match self.named() {
            Err(error) => (Digest::ZERO, 0, Err(error)),
            Ok((bytes, digest)) => {
                let write = || {
                    let folder = folder(state);
                    private_folder(&folder)?;
                    let new = folder.join(format!("{digest}.new"));
                    let mut options = std::fs::File::options();
                    let mut file =
                        options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
                    file.write_all(&bytes)?;
                    file.sync_all()?;
                    std::fs::rename(new, path(state, &digest))
                };
                (digest, bytes.len() as u64, write())
            }
        }
    }

    /// Reads one back, and holds it against its name.
    ///
    /// # Errors
    /// A line for a person.
    pub fn read(state: &Path, digest: &Digest) -> Result<Self, String> {
        let path = path(state, digest);
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let bytes = std::fs::read(&path).map_err(|error| wrong(&error))?;
        if Digest::from_bytes(Sha256::digest(&bytes).into()) != *digest {
            return Err(wrong(&"its content is not what its name says"));
        }
        serde_json::from_slice(&bytes).map_err(|error| wrong(&error))
    }
}

fn path(state: &Path, digest: &Digest) -> PathBuf {
    folder(state).join(format!("{digest}.json"))
}

/// The changes between what two captures wrote, as a unified diff.
#[must_use]
pub fn diff(old: &Document, new: &Document) -> String {
    let mut options = git2::DiffOptions::new();
    options.context_lines(2);
    let name = Some(Path::new("forensics"));
    let patch = git2::Patch::from_buffers(
        old.stdout.as_bytes(),
        name,
        new.stdout.as_bytes(),
        name,
        Some(&mut options),
    );
    let text = patch.and_then(|mut patch| Ok(patch.to_buf()?.to_vec()));
    text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Takes away what is older than `age`, in one of our folders; says how many files.
#[must_use]
pub fn prune(folder: &Path, age: Duration, now: SystemTime) -> usize {
    let old = |entry: &std::fs::DirEntry| {
        let modified = entry.metadata().and_then(|meta| meta.modified()).ok()?;
        now.duration_since(modified).ok().filter(|since| *since > age)
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let gone = entries.flatten().filter(|entry| old(entry).is_some());
    gone.filter(|entry| std::fs::remove_file(entry.path()).is_ok()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(stdout: &str) -> Document {
        Document {
            verb: Verb::Forensics,
            vm: "devvm".into(),
            began: Timestamp(1),
            ms: 5,
            result: "exit 0".into(),
            stdout: stdout.into(),
            stderr: String::new(),
            cut: false,
        }
    }

    #[test]
    fn a_capture_is_its_content_and_is_held_against_it() {
        let state = tempfile::tempdir().unwrap();
        let (digest, size, kept) = document("a\nb\n").keep(state.path());
        kept.unwrap();
        assert_eq!(Document::read(state.path(), &digest).unwrap(), document("a\nb\n"));
        let file = path(state.path(), &digest);
        let meta = std::fs::metadata(&file).unwrap();
        assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (size, 0o600));
        std::fs::write(&file, "{}").unwrap();
        assert!(Document::read(state.path(), &digest).unwrap_err().contains("not what its name"));
        let diff = diff(&document("a\nb\nc\n"), &document("a\nx\nc\n"));
        assert!(diff.contains("-b\n+x\n"), "{diff}");
    }

    #[test]
    fn what_is_old_goes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        let day = Duration::from_secs(24 * 3600);
        let now = SystemTime::now();
        assert_eq!(prune(folder.path(), day * 90, now + day * 89), 0);
        assert_eq!(prune(folder.path(), day * 90, now + day * 91), 1);
    }
}
