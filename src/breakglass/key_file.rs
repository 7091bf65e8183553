//! Private keys in files. A key with a passphrase is decrypted once, and stays in this process's memory.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use russh::keys::{PrivateKey, PublicKey};
use serde::{Deserialize, Serialize};

use super::ssh::ConnectError;
use crate::config::breakglass::BreakglassConfig;
use crate::core::model::digest::Digest;
use crate::error::chain;
use crate::lock::LockExt;
use crate::trusted_file;

/// The decrypted keys by the paths of their files, each with the digest of the text that it was read
/// from: a file that somebody renews holds another key.
static UNLOCKED: Mutex<BTreeMap<PathBuf, (Digest, Arc<PrivateKey>)>> = Mutex::new(BTreeMap::new());

/// Loads a private key from a file that only its owner may read.
pub(super) fn load(path: &Path) -> Result<Arc<PrivateKey>, ConnectError> {
    let text = read(path)?;
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) => {
            UNLOCKED.locked().remove(path);
            Ok(Arc::new(key))
        }
        Err(russh::keys::Error::KeyIsEncrypted) => {
            unlocked(path, &text).ok_or_else(|| ConnectError::Locked { path: path.to_owned() })
        }
        Err(error) => Err(wrong(path, chain(&error))),
    }
}

/// The decrypted key of a file with this text. Forgets the key of another text.
fn unlocked(path: &Path, text: &str) -> Option<Arc<PrivateKey>> {
    let mut all = UNLOCKED.locked();
    let (of, key) = all.get(path)?;
    if *of == Digest::of_bytes(text.as_bytes()) {
        return Some(key.clone());
    }
    all.remove(path);
    None
}

/// The public half beside a private key, if there is one.
pub(super) fn public_half(path: &Path) -> Option<PublicKey> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PublicKey::from_openssh(&trusted_file::read(Path::new(&name)).ok()?).ok()
}

/// A typed passphrase. It has no readable `Debug`, so that no log contains it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Passphrase(String);

impl Passphrase {
    pub(crate) const fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// The key files with a passphrase that nobody has typed yet, and that no ssh-agent stands in for.
fn locked(breakglass: &BreakglassConfig) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = breakglass
        .all_hosts()
        .filter(|host| host.agent.is_none())
        .filter_map(|host| host.key.clone())
        .filter(|path| matches!(load(path), Err(ConnectError::Locked { .. })))
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Decrypts every key that a passphrase fits, so that it is asked for once, and returns the keys that
/// are still locked. Blocks: deriving the secret takes a while by design.
pub(crate) fn unlock(
    breakglass: &BreakglassConfig,
    passphrase: Option<&Passphrase>,
) -> Vec<PathBuf> {
    let mut all = locked(breakglass);
    if let Some(Passphrase(passphrase)) = passphrase {
        all.retain(|path| {
            let text = read(path).unwrap_or_default();
            match russh::keys::decode_secret_key(&text, Some(passphrase.as_str())) {
                Ok(key) => {
                    let of = Digest::of_bytes(text.as_bytes());
                    UNLOCKED.locked().insert(path.clone(), (of, Arc::new(key)));
                    false
                }
                Err(_) => true,
            }
        });
    }
    all
}

fn read(path: &Path) -> Result<String, ConnectError> {
    let file = trusted_file::open(path).map_err(|error| wrong(path, chain(&error)))?;
    let meta = file.metadata().map_err(|error| wrong(path, chain(&error)))?;
    if meta.mode() & 0o077 != 0 {
        return Err(wrong(path, "others can read it: chmod 600".into()));
    }
    trusted_file::text(&file, path).map_err(|error| wrong(path, chain(&error)))
}

fn wrong(path: &Path, why: String) -> ConnectError {
    ConnectError::Key { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use russh::keys::ssh_key::private::Ed25519Keypair;
    use russh::keys::ssh_key::{Cipher, Kdf, LineEnding};

    use super::*;

    /// Writes a private key, with a passphrase if there is one; returns its public half.
    fn write(path: &Path, seed: u8, passphrase: Option<&str>) -> PublicKey {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
        let kdf = Kdf::Bcrypt { salt: vec![seed; 16], rounds: 1 };
        let stored = match passphrase {
            Some(word) => key.encrypt_with(Cipher::Aes256Ctr, kdf, 7, word).unwrap(),
            None => key.clone(),
        };
        std::fs::write(path, stored.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        key.public_key().clone()
    }

    #[test]
    fn renewed_key_file_is_read_and_its_passphrase_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let text = format!(
            "vm = 'devvm'\n[hypervisor]\naddress = '127.0.0.1:22'\nuser = 'root'\nkey = '{}'\n",
            path.display()
        );
        let config: BreakglassConfig = toml::from_str(&text).unwrap();
        let loaded = || load(&path).map(|key| key.public_key().key_data().clone());
        let is_locked = || matches!(loaded(), Err(ConnectError::Locked { .. }));
        let word = |text: &str| Passphrase::new(text.to_owned());

        let first = write(&path, 1, Some("one"));
        assert!(is_locked());
        assert_eq!(unlock(&config, Some(&word("two"))), std::slice::from_ref(&path));
        assert!(unlock(&config, Some(&word("one"))).is_empty());
        assert_eq!(loaded().unwrap(), *first.key_data());

        let second = write(&path, 2, Some("two"));
        assert!(is_locked(), "the old key is offered");
        assert_eq!(
            unlock(&config, None),
            std::slice::from_ref(&path),
            "no passphrase is asked for"
        );
        assert!(unlock(&config, Some(&word("two"))).is_empty());
        assert_eq!(loaded().unwrap(), *second.key_data());

        // A file that held another key meanwhile is asked about again, and a plain key needs no passphrase.
        let third = write(&path, 3, None);
        assert_eq!(loaded().unwrap(), *third.key_data());
        write(&path, 4, Some("four"));
        assert!(is_locked());
        write(&path, 2, Some("two"));
        assert!(is_locked(), "the old key was kept");
    }
}
