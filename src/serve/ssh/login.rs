//! The login of one connection: which key was admitted, and which rights its line gives now.
//!
//! A key that is removed, has expired, or stands under another name than at the login loses its rights
//! at once; `server` then ends the connection.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use russh::keys::{HashAlg, PublicKey};
use tokio::sync::watch;
use tokio::time::sleep;

use super::keys::AuthorizedKey;
use super::server::ServerState;
use crate::core::model::command::Role;
use crate::core::model::id::Actor;
use crate::core::model::time::Timestamp;
use crate::lock::LockExt;
use crate::runtime::clock;
use crate::runtime::rights::Rights;

/// The longest sleep until a key expires: the clock may be set meanwhile.
const CLOCK: Duration = Duration::from_secs(60);

/// The login of a connection.
pub(super) struct SshLogin {
    pub(super) server: Arc<ServerState>,
    from: IpAddr,
    /// The line of the admitted key, as of the last read.
    line: Mutex<Option<AuthorizedKey>>,
    /// The last key that was offered and refused.
    refused: Mutex<Option<String>>,
    /// The present role; none before a key is admitted, and once it is not any more.
    pub(super) present: watch::Sender<Option<Role>>,
}

impl SshLogin {
    pub(super) fn new(server: Arc<ServerState>, from: IpAddr) -> Self {
        let (line, refused, present) = (Mutex::default(), Mutex::default(), watch::channel(None).0);
        Self { server, from, line, refused, present }
    }

    /// The line of an offered key, after a read of the file.
    pub(super) async fn offer(&self, key: &PublicKey) -> Option<AuthorizedKey> {
        self.server.keys.refresh().await;
        let line = self.server.keys.admitted_line(key, self.from, clock::wall());
        if line.is_none() {
            *self.refused.locked() = Some(key.fingerprint(HashAlg::Sha256).to_string());
        }
        line
    }

    pub(super) fn admit(&self, line: AuthorizedKey) {
        let role = line.role;
        *self.line.locked() = Some(line);
        self.present.send_replace(Some(role));
    }

    /// Why the connection ended without a login.
    pub(super) fn refusal(&self) -> String {
        match &*self.refused.locked() {
            Some(key) => format!("the key {key} is not admitted"),
            None => "it offered no key".into(),
        }
    }

    /// The name of the admitted key.
    pub(super) fn actor(&self) -> Option<Actor> {
        self.line.locked().as_ref().map(|line| line.actor.clone())
    }

    /// The rights of a session of this connection.
    pub(super) fn rights(self: &Arc<Self>) -> Rights {
        let login = self.clone();
        let refresh = move || {
            let login = login.clone();
            async move {
                login.server.keys.refresh().await;
                login.check();
            }
            .boxed()
        };
        Rights::watched(self.present.subscribe(), Some(Arc::new(refresh)))
    }

    /// Compares the admitted key with its line as of the last read. Returns whether it is still admitted.
    fn check(&self) -> bool {
        let mut known = self.line.locked();
        let Some(before) = known.as_ref() else { return false };
        let line = self.server.keys.admitted_line(&before.key, self.from, clock::wall());
        *known = line.filter(|line| line.actor == before.actor);
        let role = known.as_ref().map(|line| line.role);
        self.present.send_if_modified(|present| {
            let changed = *present != role;
            *present = role;
            changed
        });
        role.is_some()
    }

    /// Follows the file until the key is not admitted any more.
    pub(super) async fn follow(&self) {
        let mut changes = self.server.keys.changes();
        while self.check() {
            let expires = self.line.locked().as_ref().and_then(|line| line.expires);
            let left = expires.map(|at| until(at, clock::wall()).min(CLOCK));
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep(left.unwrap_or(CLOCK)) => {}
            }
        }
    }
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(at.since(now)).unwrap_or(0))
}
