//! The admitted keys while the server runs. The file is read at each login and before each command of
//! a session, and followed in between, so that an edit takes effect at once.
//!
//! ```text
//! authorized_keys ─ watcher, interval, login, command ─▶ KeyFile::refresh ─▶ subscribers: connections
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::Watcher as _;
use russh::keys::PublicKey;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::keys::{self, AuthorizedKey};
use crate::core::model::command::Role;
use crate::core::model::id::Actor;
use crate::core::model::time::Timestamp;
use crate::error::chain;
use crate::runtime::operators::OperatorSource;
use crate::runtime::{Handle, ProblemSource, clock};
use crate::trusted_file;

/// The time between two reads, if the watcher reports nothing: it does not see a link's target.
const READ_INTERVAL: Duration = Duration::from_secs(2);
/// Changes within this time lead to one read, so that an editor's empty file is not read.
const SETTLE: Duration = Duration::from_millis(50);
/// The time that a read may take. A file that is slower admits no key.
const READ: Duration = Duration::from_secs(5);

/// The file of admitted keys, and the keys as of the last read.
pub(super) struct KeyFile {
    path: PathBuf,
    keys: watch::Sender<Arc<[AuthorizedKey]>>,
    /// Keeps an earlier read from overwriting a later one; why the file can't be read.
    reading: Mutex<Option<String>>,
    handle: Handle,
}

impl KeyFile {
    /// Reads the file, and follows it until the runtime ends.
    pub(super) async fn follow(path: PathBuf, handle: &Handle) -> Arc<Self> {
        let (keys, reading) = (watch::channel(Arc::default()).0, Mutex::default());
        let file = Arc::new(Self { path, keys, reading, handle: handle.clone() });
        file.refresh().await;
        let (changed, changes) = mpsc::channel(1);
        let watcher = watch_folder(&file.path, changed);
        tokio::spawn(file.clone().read_on(watcher, changes));
        file
    }

    async fn read_on(
        self: Arc<Self>,
        watcher: notify::Result<notify::RecommendedWatcher>,
        mut changes: mpsc::Receiver<()>,
    ) {
        if let Err(error) = &watcher {
            tracing::warn!(%error, path = %self.path.display(), "the file can't be watched");
        }
        loop {
            tokio::select! {
                Some(()) = changes.recv() => {
                    sleep(SETTLE).await;
                    while changes.try_recv().is_ok() {}
                }
                () = sleep(READ_INTERVAL) => {}
                () = self.handle.ended() => return,
            }
            self.refresh().await;
        }
    }

    /// Reads the file. If it can't be read or trusted, no key is admitted.
    pub(super) async fn refresh(&self) {
        let mut before = self.reading.lock().await;
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path));
        let read = match timeout(READ, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => {
                let (path, seconds) = (self.path.display(), READ.as_secs());
                Err(format!("{path} can't be read within {seconds} s"))
            }
        };
        let (keys, problem) = match read {
            Ok(keys) => (keys, None),
            Err(why) => (Arc::default(), Some(format!("{why}; nobody can log in over SSH"))),
        };
        let operators = operators(&keys, clock::wall());
        self.keys.send_if_modified(|known| {
            let changed = *known != keys;
            *known = keys;
            changed
        });
        // Also of somebody who is not connected: an arming outlives its session.
        self.handle.set_operators(OperatorSource::Keys, operators).await;
        if *before != problem {
            before.clone_from(&problem);
            let lines = problem.into_iter().collect();
            self.handle.report_problems(ProblemSource::AuthorizedKeys, lines).await;
        }
    }

    /// The line that admits a key from an address at a time, as of the last read.
    pub(super) fn admitted_line(
        &self,
        key: &PublicKey,
        from: IpAddr,
        now: Timestamp,
    ) -> Option<AuthorizedKey> {
        let keys = self.keys.borrow();
        let admits =
            |line: &&AuthorizedKey| line.key.key_data() == key.key_data() && line.admits(from, now);
        keys.iter().find(admits).cloned()
    }

    /// Changes whenever the keys do.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<[AuthorizedKey]>> {
        self.keys.subscribe()
    }
}

/// The names with the key of an operator that has not expired.
fn operators(keys: &[AuthorizedKey], now: Timestamp) -> BTreeSet<Actor> {
    let keys = keys.iter().filter(|line| line.role == Role::Operator && !line.is_expired(now));
    keys.map(|line| line.actor.clone()).collect()
}

fn read(path: &Path) -> Result<Arc<[AuthorizedKey]>, String> {
    let text = trusted_file::read(path).map_err(|error| chain(&error))?;
    Ok(keys::parse(&text).0.into())
}

/// Reports each change in the file's folder. Editors replace the file, and a cluster replaces a link
/// that leads to it.
fn watch_folder(
    path: &Path,
    changed: mpsc::Sender<()>,
) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full queue already holds a change.
            let _ = changed.try_send(());
        }
    })?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_is_gone_with_the_last_line_that_names_one() {
        const ONE: &str =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPNZi5hqgVpUJ6SO8GmVIXGHcUmkfYF3HNnzZQ+9J3T";
        const TWO: &str =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFmvAXeN5SgvzTtPXzwXXP4GDCMTY3dcLdSSMBMzHaaM";
        let parsed = |text: &str| keys::parse(text).0;
        let both = parsed(&format!("role=\"operator\" {ONE} ana\nrole=\"operator\" {TWO} ana"));
        let one = parsed(&format!("role=\"operator\" {ONE} ana\nrole=\"viewer\" {TWO} ana"));
        let demoted = parsed(&format!("{ONE} ana"));
        let old = parsed(&format!("role=\"operator\",expiry-time=\"20260101Z\" {ONE} ana"));
        let ana = BTreeSet::from([Actor("ana".into())]);
        let now = Timestamp(1_764_547_200_000);
        assert_eq!([&both, &one].map(|keys| operators(keys, now)), [ana.clone(), ana.clone()]);
        assert!(operators(&demoted, now).is_empty());
        assert_eq!(operators(&old, now), ana);
        assert!(operators(&old, now.plus(365 * 24 * 3_600_000)).is_empty());
    }
}
