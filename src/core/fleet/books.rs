//! The books: what each day and each repository has cost. `Fleet::apply` books each spend; dispatch,
//! the budget of a turn and the spend overlay read them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::budget::{MicroUsd, Spend};
use crate::model::id::Repo;
use crate::model::time::Timestamp;

/// Spend by UTC day, for the last 31 days, and by repository since the journal began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Books {
    days: BTreeMap<i64, Spend>,
    repos: BTreeMap<Repo, Spend>,
    /// The last day on which the soft limit was escalated.
    warned: Option<i64>,
}

impl Books {
    /// Books a spend on the UTC day of `at`.
    pub fn book(&mut self, at: Timestamp, repo: Option<&Repo>, spend: Spend) {
        if let Some(repo) = repo {
            self.repos.entry(repo.clone()).or_default().add(spend);
        }
        self.days.entry(at.day()).or_default().add(spend);
        while self.days.len() > 31 {
            self.days.pop_first();
        }
    }

    /// The booked days, newest first, each with its midnight.
    pub fn days(&self) -> impl Iterator<Item = (Timestamp, Spend)> {
        self.days.iter().rev().map(|(day, spend)| (Timestamp(day * 86_400_000), *spend))
    }

    /// What each repository has cost, by name.
    pub fn repos(&self) -> impl Iterator<Item = (&Repo, Spend)> {
        self.repos.iter().map(|(repo, spend)| (repo, *spend))
    }

    /// Whether the day of `at` is over the soft limit and that was not escalated yet.
    #[must_use]
    pub fn to_warn(&self, at: Timestamp, limit: Option<MicroUsd>) -> bool {
        self.warned != Some(at.day()) && limit.is_some_and(|limit| self.day(at).usd > limit)
    }

    /// Records that the soft limit of the day of `at` was escalated.
    pub fn warned(&mut self, at: Timestamp) {
        self.warned = Some(at.day());
    }

    /// What the day of `at` has cost so far.
    #[must_use]
    pub fn day(&self, at: Timestamp) -> Spend {
        self.days.get(&at.day()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::budget::MicroUsd;

    #[test]
    fn day_begins_at_midnight_utc() {
        let mut books = Books::default();
        let spend = Spend { usd: MicroUsd(5), ..Spend::default() };
        books.book(Timestamp(86_399_999), None, spend);
        assert_eq!(books.day(Timestamp(0)).usd, MicroUsd(5));
        assert_eq!(books.day(Timestamp(86_400_000)).usd, MicroUsd(0));
        for day in 0..100 {
            books.book(Timestamp(day * 86_400_000), None, spend);
        }
        assert_eq!(books.days.len(), 31);
    }
}
