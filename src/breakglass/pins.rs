//! The pinned keys of hosts, by the hosts' names in the configuration.
//!
//! The file is afk's own: a `known_hosts` reader would take a key of another algorithm for that of
//! a new host. A pin is the whole key and no hash. `ssh` checks pins; `afk breakglass pin` and the
//! operator's decision on a changed key write them.

use std::io;
use std::path::{Path, PathBuf};

use russh::keys::{HashAlg, PublicKey};

use crate::trusted_file::{self, TrustedFileError};
use crate::whole_file;

/// The pins can't be used. A missing or unreadable file is an error and not an empty list.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file can't be read or written.
    #[error("access the pins {}; create them with `afk breakglass pin`", path.display())]
    Io {
        /// The path of the pins.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Another user could change the file, so that no pin in it can be trusted.
    #[error(transparent)]
    NotTrusted(TrustedFileError),
    /// A line is invalid: no host is trusted until somebody fixes it.
    #[error("the pins {}:{line}: {why}", path.display())]
    Line {
        /// The path of the pins.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The fault, as a predicate of the line.
        why: &'static str,
    },
}

impl From<TrustedFileError> for PinError {
    fn from(error: TrustedFileError) -> Self {
        match error {
            TrustedFileError::Io { path, source } => Self::Io { path, source },
            other => Self::NotTrusted(other),
        }
    }
}

/// A file of pins, which may not exist yet.
#[derive(Debug, Clone)]
pub struct Pins {
    path: PathBuf,
}

/// The algorithm and SHA-256 fingerprint of a key, as `ssh-keygen -l` prints them.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256))
}

impl Pins {
    /// The pins at a path; every call reads the file again.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn read(&self) -> Result<Vec<(String, PublicKey)>, PinError> {
        Self::parse(&self.path, &trusted_file::read(&self.path)?)
    }

    /// Parses the lines of the file at `path`, which the error names.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<(String, PublicKey)>, PinError> {
        let path = || path.to_owned();
        let mut pins = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why| PinError::Line { path: path(), line: index + 1, why };
            let (name, key) = line.split_once(' ').ok_or_else(|| wrong("must be: NAME KEY"))?;
            let key = PublicKey::from_openssh(key).map_err(|_| wrong("is no public key"))?;
            if pins.iter().any(|(known, _)| known == name) {
                return Err(wrong("pins a name for the second time"));
            }
            pins.push((name.to_owned(), key));
        }
        Ok(pins)
    }

    /// The pinned key of a host; `None` for a host without a pin.
    pub(crate) fn of(&self, name: &str) -> Result<Option<PublicKey>, PinError> {
        Ok(self.read()?.into_iter().find(|(known, _)| known == name).map(|(_, key)| key))
    }

    /// Pins a key for a host, instead of the host's present pin. `create` allows a file that does
    /// not exist yet.
    pub(crate) fn set(&self, name: &str, key: &PublicKey, create: bool) -> Result<(), PinError> {
        let io = |source| PinError::Io { path: self.path.clone(), source };
        let mut pins = match self.read() {
            Err(PinError::Io { source, .. })
                if create && source.kind() == io::ErrorKind::NotFound =>
            {
                Vec::new()
            }
            other => other?,
        };
        pins.retain(|(known, _)| known != name);
        pins.push((name.to_owned(), key.clone()));
        let mut text = String::from(
            "# One host a line: NAME KEY. Compare a key with the host's own before you pin it.\n",
        );
        for (name, key) in &pins {
            let key = key.to_openssh().map_err(|error| io(io::Error::other(error)))?;
            text.push_str(&format!("{name} {key}\n"));
        }
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        whole_file::replace(&self.path, text.as_bytes(), 0o600).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const ED: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPNZi5hqgVpUJ6SO8GmVIXGHcUmkfYF3HNnzZQ+9J3T";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFmvAXeN5SgvzTtPXzwXXP4GDCMTY3dcLdSSMBMzHaaM";

    #[test]
    fn pins_refuse_a_missing_or_damaged_file() {
        let folder = tempfile::tempdir().unwrap();
        let pins = Pins::at(&folder.path().join("pins"));
        let key = PublicKey::from_openssh(ED).unwrap();
        assert!(pins.of("a").unwrap_err().to_string().contains("afk breakglass pin"));
        assert!(pins.set("a", &key, false).is_err());
        pins.set("a", &key, true).unwrap();
        assert_eq!(pins.of("a").unwrap(), Some(key.clone()));
        assert_eq!(pins.of("b").unwrap(), None);
        let mode = std::fs::metadata(folder.path().join("pins")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = PublicKey::from_openssh(OTHER).unwrap();
        pins.set("b", &other, false).unwrap();
        pins.set("a", &other, false).unwrap();
        assert_eq!(
            (pins.of("a").unwrap(), pins.of("b").unwrap()),
            (Some(other.clone()), Some(other))
        );
        for (text, why) in [("a", "NAME KEY"), ("a x", "no public key")] {
            std::fs::write(folder.path().join("pins"), format!("a {ED}\n{text}\n")).unwrap();
            let said = pins.of("a").unwrap_err().to_string();
            assert!(said.contains(":2: ") && said.contains(why), "{said}");
        }
    }
}
