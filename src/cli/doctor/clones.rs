//! Looks for damaged base clones, which `--fix` sets aside.

use std::path::Path;

use super::{CheckResult, git, problem};
use crate::core::model::id::Repo;
use crate::error::chain;
use crate::journal::lock;
use crate::workspace::{base, damage, name, renewal};

/// Checks the base clone of a repository; `None` without one.
pub(super) async fn check(state: &Path, repo: &Repo, fix: bool) -> Option<CheckResult> {
    let clone = state.join("workspaces").join(name::folder(repo)).join(base::FOLDER);
    if !clone.exists() {
        return None;
    }
    let Some(why) = damage_of(&clone).await else { return Some(Ok("sound".into())) };
    if !fix {
        let hint = "the next start of afk sets it aside and clones the remote anew; `afk doctor \
                    --fix` sets it aside now";
        return Some(Err(problem(why, hint)));
    }
    if lock::owner(state).is_some() {
        return Some(Err(problem(why, "end the running afk first: `afk stop`")));
    }
    Some(match renewal::set_aside(&clone) {
        Ok(aside) => {
            let aside = aside.display();
            Ok(format!("{why}; it was set aside as {aside}, and the next run clones it anew"))
        }
        Err(error) => Err(problem(chain(&error), "check the rights on the state folder")),
    })
}

async fn damage_of(clone: &Path) -> Option<String> {
    let dir = clone.to_owned();
    let found = tokio::task::spawn_blocking(move || damage::of(&dir)).await;
    if let Ok(Some(why)) = found {
        return Some(why);
    }
    let list = ["--git-dir", ".", "for-each-ref", "--format=%(objecttype)"];
    git(&list, Some(clone)).await.err().filter(|why| damage::is_reported(why))
}
