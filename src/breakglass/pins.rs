//! The keys that hosts have, by name: a file of ours, since a `known_hosts` reader takes a key of
//! another algorithm for a new host. The pin is the key itself.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use russh::keys::{HashAlg, PublicKey};

/// What is wrong with the file. A missing or unreadable one is an error and no empty list.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// It can't be read or written.
    #[error("the pins {}: {source}; make them with `afk breakglass pin`", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line can't be read: nothing is trusted until it is mended.
    #[error("the pins {}:{line}: {why}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
}

/// The file.
#[derive(Debug, Clone)]
pub struct Pins {
    path: PathBuf,
}

/// What a key is shown as: SHA-256, as `ssh-keygen -l` writes it.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256))
}

impl Pins {
    /// The file at a path; it is read anew each time.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn read(&self) -> Result<Vec<(String, PublicKey)>, PinError> {
        let path = || self.path.clone();
        let text = std::fs::read_to_string(&self.path)
            .map_err(|source| PinError::Io { path: path(), source })?;
        let mut pins = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why| PinError::Line { path: path(), line: at + 1, why };
            let (name, key) = line.split_once(' ').ok_or_else(|| wrong("should be: NAME KEY"))?;
            let key = PublicKey::from_openssh(key).map_err(|_| wrong("is no public key"))?;
            if pins.iter().any(|(known, _)| known == name) {
                return Err(wrong("this name is pinned twice"));
            }
            pins.push((name.to_owned(), key));
        }
        Ok(pins)
    }

    /// The key of a host; none where it has no pin.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn of(&self, name: &str) -> Result<Option<PublicKey>, PinError> {
        Ok(self.read()?.into_iter().find(|(known, _)| known == name).map(|(_, key)| key))
    }

    /// Pins a key in the place of the one before; the others stay. A file that isn't there is made
    /// only where `make` says so.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn set(&self, name: &str, key: &PublicKey, make: bool) -> Result<(), PinError> {
        let io = |source| PinError::Io { path: self.path.clone(), source };
        let mut pins = match self.read() {
            Err(PinError::Io { source, .. })
                if make && source.kind() == io::ErrorKind::NotFound =>
            {
                Vec::new()
            }
            other => other?,
        };
        pins.retain(|(known, _)| known != name);
        pins.push((name.to_owned(), key.clone()));
        let mut text =
            String::from("# NAME KEY, one host a line. Compare a key before it is here.\n");
        for (name, key) in &pins {
            let key = key.to_openssh().map_err(|error| io(io::Error::other(error)))?;
            text.push_str(&format!("{name} {key}\n"));
        }
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let new = self.path.with_extension("new");
        std::fs::write(&new, text).map_err(io)?;
        std::fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(io)?;
        std::fs::rename(&new, &self.path).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPNZi5hqgVpUJ6SO8GmVIXGHcUmkfYF3HNnzZQ+9J3T";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFmvAXeN5SgvzTtPXzwXXP4GDCMTY3dcLdSSMBMzHaaM";

    #[test]
    fn a_missing_or_damaged_file_is_an_error_and_no_empty_list() {
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
