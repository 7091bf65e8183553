//! Names and folders of turns that an [executor](crate::executor) carries out, and how to stop
//! them.

use std::path::PathBuf;

use super::Context;
use crate::core::model::id::RunId;

impl Context {
    /// The name of a run at its executor; no other journal uses it.
    pub(super) fn remote_name(&self, run: RunId) -> String {
        format!("afk-{}-{run}", self.journal_id)
    }

    /// The folder in which executors exchange files with workers.
    pub(super) fn remote_root(&self) -> PathBuf {
        self.state.join("elsewhere")
    }

    /// Ends every turn of a run at an executor.
    pub(super) async fn stop_remote(&self, run: RunId, executor: &str) {
        let executor = self.services().executors.get(executor).cloned();
        if let Some(executor) = executor {
            executor.stop(&self.remote_name(run), &self.remote_root()).await;
        }
    }
}
