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
use crate::error::chain;
use crate::lock::LockExt;
use crate::trusted_file;

/// The decrypted keys, by the paths of their files.
static UNLOCKED: Mutex<BTreeMap<PathBuf, Arc<PrivateKey>>> = Mutex::new(BTreeMap::new());

/// Loads a private key from a file that only its owner may read.
pub(super) fn load(path: &Path) -> Result<Arc<PrivateKey>, ConnectError> {
    let text = read(path)?;
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) => Ok(Arc::new(key)),
        Err(russh::keys::Error::KeyIsEncrypted) => {
            let known = UNLOCKED.locked().get(path).cloned();
            known.ok_or_else(|| ConnectError::Locked { path: path.to_owned() })
        }
        Err(error) => Err(wrong(path, chain(&error))),
    }
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
                    UNLOCKED.locked().insert(path.clone(), Arc::new(key));
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
