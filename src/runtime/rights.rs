//! The rights of a session that can shrink while it lasts: its key may be removed from
//! `authorized_keys`, or its token from the configuration.
//!
//! ```text
//! serve (the file, the configuration) ─ role, or none ─▶ Rights ─▶ client: before a command is sent
//!                                                              └─▶ event_loop: when it is applied
//! ```

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::core::model::command::Role;

/// Reads the source of the rights again.
pub(crate) type Refresh = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The present rights of a session; none once they are revoked. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rights {
    present: watch::Receiver<Option<Role>>,
    refresh: Option<Refresh>,
}

impl Rights {
    /// Rights that nothing can take away, such as those of the user who runs afk.
    pub(crate) fn fixed(role: Role) -> Self {
        Self { present: watch::channel(Some(role)).1, refresh: None }
    }

    /// Rights that `present` reports, and that `refresh` updates before each command.
    pub(crate) fn watched(
        present: watch::Receiver<Option<Role>>,
        refresh: Option<Refresh>,
    ) -> Self {
        Self { present, refresh }
    }

    /// Reads the source again, so that a change that no watcher has reported yet counts.
    pub(super) async fn refresh(&self) {
        if let Some(refresh) = &self.refresh {
            refresh().await;
        }
    }

    /// The present role. A session whose rights are revoked is read-only until it has ended.
    pub(crate) fn role(&self) -> Role {
        self.present.borrow().unwrap_or(Role::Viewer)
    }

    /// Resolves to the new role after each change; never for fixed rights.
    pub(super) async fn changed(&mut self) -> Role {
        if self.present.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.present.borrow_and_update().unwrap_or(Role::Viewer)
    }

    /// Resolves once the rights are revoked.
    pub(crate) async fn revoked(&self) {
        let mut present = self.present.clone();
        if present.wait_for(Option::is_none).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rights").field("present", &self.present).finish_non_exhaustive()
    }
}
