//! The issues that block an issue, and those that block them (table T2).

use std::collections::{BTreeMap, BTreeSet};

use super::dto::IssueDto;
use super::{GitHubTracker, gone};
use crate::core::model::id::IssueKey;
use crate::core::model::issue::Blocker;
use crate::core::tables::blocking::{self, BlockerStanding};
use crate::github::ApiError;

/// The issues that are followed from blocker to blocker at most.
const BLOCKERS: usize = 50;

impl GitHubTracker {
    /// The blockers by table T2: GitHub's own list and the references in the body, followed from
    /// blocker to blocker to find circles.
    pub(super) async fn blockers(
        &self,
        key: &IssueKey,
        dto: &IssueDto,
    ) -> Result<Vec<Blocker>, ApiError> {
        let mut edges: BTreeMap<IssueKey, BTreeSet<IssueKey>> = BTreeMap::new();
        let mut found: BTreeMap<IssueKey, BlockerStanding> = BTreeMap::new();
        let mut next = vec![(key.clone(), dto.clone())];
        while let Some((at, dto)) = next.pop() {
            let mut waits = blocking::references(dto.body.as_deref().unwrap_or_default(), &at.repo);
            let native =
                dto.issue_dependencies_summary.as_ref().is_none_or(|s| s.total_blocked_by > 0);
            if native {
                let path = format!("{}/dependencies/blocked_by?per_page=100", Self::path(&at));
                match self.api.list::<IssueDto>(&path, None).await {
                    Ok(all) => {
                        for blocker in all {
                            let Some(blocked_by) = blocker.key(&at.repo) else { continue };
                            waits.insert(blocked_by.clone());
                            if found.insert(blocked_by.clone(), blocker.found()).is_none()
                                && blocker.found() == BlockerStanding::Open
                            {
                                next.push((blocked_by, blocker));
                            }
                        }
                    }
                    // An older server has no list of dependencies.
                    Err(error)
                        if error.status() == Some(404)
                            && dto.issue_dependencies_summary.is_none() => {}
                    Err(error) if at == *key => return Err(error),
                    Err(_) => {}
                }
            }
            for blocker in &waits {
                if found.contains_key(blocker) || blocker == key || found.len() >= BLOCKERS {
                    continue;
                }
                match self.api.get::<IssueDto>(&Self::path(blocker)).await {
                    Ok(dto) => {
                        found.insert(blocker.clone(), dto.found());
                        if dto.found() == BlockerStanding::Open {
                            next.push((blocker.clone(), dto));
                        }
                    }
                    Err(error) if gone(&error) => {
                        found.insert(blocker.clone(), BlockerStanding::Unreadable);
                    }
                    Err(error) => return Err(error),
                }
            }
            edges.insert(at, waits);
        }
        Ok(blocking::blockers(key, &edges, &found, self.config.not_planned_blocks))
    }
}
