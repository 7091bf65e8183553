//! Stores the outputs of verbs as captures, by the digest of their content.
//!
//! `runtime::breakglass` saves and prunes them; the cockpit and `afk breakglass` read them back.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::core::model::breakglass::Verb;
use crate::core::model::digest::Digest;
use crate::core::model::time::Timestamp;
use crate::whole_file::WholeFile;

/// The output and the end of one verb, as a file in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The verb that was run.
    pub verb: Verb,
    /// The name of the VM in the configuration.
    pub vm: String,
    /// The start, by this machine's clock.
    pub began: Timestamp,
    /// The duration in milliseconds.
    pub ms: i64,
    /// The result of the verb, as a person reads it.
    pub result: String,
    /// Standard output as received, up to a bound.
    pub stdout: String,
    /// Standard error as received, up to a bound.
    pub stderr: String,
    /// Whether one of the two outputs was cut at its bound.
    pub cut: bool,
}

/// The folder of captures in a state folder.
#[must_use]
pub(crate) fn folder(state: &Path) -> PathBuf {
    state.join("breakglass/captures")
}

/// Creates a folder that only its owner can open.
///
/// # Errors
/// The folder can't be created, or its permissions can't be set.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

impl Document {
    /// The bytes of the file, and their digest.
    fn encode(&self) -> io::Result<(Vec<u8>, Digest)> {
        let bytes = serde_json::to_vec_pretty(self)?;
        let digest = Digest::from_bytes(Sha256::digest(&bytes).into());
        Ok((bytes, digest))
    }

    /// Writes the capture; returns its digest, its size in bytes, and whether it is durable.
    pub(crate) fn save(&self, state: &Path) -> (Digest, u64, io::Result<()>) {
        match self.encode() {
            Err(error) => (Digest::ZERO, 0, Err(error)),
            Ok((bytes, digest)) => {
                let write = || {
                    let folder = folder(state);
                    private_folder(&folder)?;
                    let mut whole = WholeFile::create(&path(state, &digest), 0o600)?;
                    whole.file.write_all(&bytes)?;
                    whole.file.sync_all()?;
                    whole.put()
                };
                (digest, bytes.len() as u64, write())
            }
        }
    }

    /// Reads a capture, and checks that its content matches its digest.
    ///
    /// # Errors
    /// One line for a person.
    pub(crate) fn read(state: &Path, digest: &Digest) -> Result<Self, String> {
        let path = path(state, digest);
        let failed = |error: &dyn std::fmt::Display| format!("read {}: {error}", path.display());
        let bytes = std::fs::read(&path).map_err(|error| failed(&error))?;
        if Digest::from_bytes(Sha256::digest(&bytes).into()) != *digest {
            return Err(failed(&"its content does not match its digest"));
        }
        serde_json::from_slice(&bytes).map_err(|error| failed(&error))
    }
}

fn path(state: &Path, digest: &Digest) -> PathBuf {
    folder(state).join(format!("{digest}.json"))
}

/// The difference between the standard outputs of two captures, as a unified diff.
#[must_use]
pub(crate) fn diff(old: &Document, new: &Document) -> String {
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

/// Deletes the files in `folder` that are older than `age`, and returns their number.
pub(crate) fn prune(folder: &Path, age: Duration, now: SystemTime) -> usize {
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
            result: "exit code 0".into(),
            stdout: stdout.into(),
            stderr: String::new(),
            cut: false,
        }
    }

    #[test]
    fn read_checks_a_capture_against_its_digest() {
        let state = tempfile::tempdir().unwrap();
        let (digest, size, saved) = document("a\nb\n").save(state.path());
        saved.unwrap();
        assert_eq!(Document::read(state.path(), &digest).unwrap(), document("a\nb\n"));
        let file = path(state.path(), &digest);
        let meta = std::fs::metadata(&file).unwrap();
        assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (size, 0o600));
        std::fs::write(&file, "{}").unwrap();
        assert!(
            Document::read(state.path(), &digest)
                .unwrap_err()
                .contains("does not match its digest")
        );
        let diff = diff(&document("a\nb\nc\n"), &document("a\nx\nc\n"));
        assert!(diff.contains("-b\n+x\n"), "{diff}");
    }

    #[test]
    fn prune_deletes_old_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        let day = Duration::from_secs(24 * 3600);
        let now = SystemTime::now();
        assert_eq!(prune(folder.path(), day * 90, now + day * 89), 0);
        assert_eq!(prune(folder.path(), day * 90, now + day * 91), 1);
    }
}
