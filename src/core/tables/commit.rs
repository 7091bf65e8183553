//! Decision table T4: the verdict on a commit from all of its checks. The CI adapter for GitHub
//! calls it on every poll whose fetch succeeded.

use super::check::{newest, state};
use crate::tables::check::{Check, CheckState};

/// The facts about a commit that the table reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitChecks {
    /// Whether the remote branch still contains the commit.
    pub ancestor: bool,
    /// Whether the branch has newer commits.
    pub moved: bool,
    /// Every repeat of every check.
    pub checks: Vec<Check>,
    /// The names of checks that must pass, from the configuration and the branch rules. When empty,
    /// every check must pass.
    pub required: Vec<String>,
    /// The time since the push, in milliseconds.
    pub age: i64,
    /// The time since the newest suite appeared, in milliseconds.
    pub quiet: i64,
}

/// afk's own deadlines, counted from the push in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// The deadline by which a check must have appeared.
    pub appear: i64,
    /// The deadline by which a check must have ended.
    pub run: i64,
}

/// The time without a new suite before a commit can be green, in milliseconds.
pub(crate) const QUIET: i64 = 30_000;

/// The verdict on a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitVerdict {
    /// The branch no longer contains the commit.
    Lost,
    /// The named checks failed.
    Red(Vec<String>),
    /// The named checks failed, and only a person can fix them.
    RedForHuman(Vec<String>),
    /// The commit waits for the named check or condition.
    Pending(String),
    /// The named check never appeared.
    NoCi(String),
    /// The named checks never ended.
    Stuck(Vec<String>),
    /// The checks were cancelled, because the branch moved on.
    Superseded,
    /// All checks are good, and so many of them passed.
    Green(usize),
}

/// Applies the table. The caller skips it when a fetch fails.
#[must_use]
pub fn judge(seen: &CommitChecks, deadlines: Deadlines) -> CommitVerdict {
    if !seen.ancestor {
        return CommitVerdict::Lost;
    }
    let all = newest(&seen.checks);
    let required = |check: &&Check| {
        seen.required.is_empty() || seen.required.iter().any(|n| n == check.identity.name())
    };
    let said: Vec<(&str, CheckState)> = all
        .into_iter()
        .filter(required)
        .map(|check| {
            let newer = |other: &Check| other.identity == check.identity && other.id > check.id;
            let replaced = seen.moved || seen.checks.iter().any(newer);
            (check.identity.name(), state(check, replaced))
        })
        .collect();
    let names = |wanted: &[CheckState]| -> Vec<String> {
        let those = said.iter().filter(|(_, says)| wanted.contains(says));
        those.map(|(name, _)| (*name).to_owned()).collect()
    };
    let red = names(&[CheckState::Red]);
    if !red.is_empty() {
        return CommitVerdict::Red(red);
    }
    let human = names(&[CheckState::RedForHuman]);
    if !human.is_empty() {
        return CommitVerdict::RedForHuman(human);
    }
    let missing = seen.required.iter().find(|name| !said.iter().any(|(n, _)| n == name));
    if let Some(name) = missing {
        return appears(seen, deadlines, &format!("the required check {name}"));
    }
    if said.is_empty() {
        return appears(seen, deadlines, "any check");
    }
    let pending = names(&[CheckState::Pending, CheckState::NeedsApproval]);
    if !pending.is_empty() {
        if seen.age >= deadlines.run {
            return CommitVerdict::Stuck(pending);
        }
        let approval = names(&[CheckState::NeedsApproval]);
        let what = if approval.is_empty() {
            pending.join(", ")
        } else {
            format!("{}: needs approval", approval.join(", "))
        };
        return CommitVerdict::Pending(what);
    }
    if said.iter().any(|(_, says)| *says == CheckState::Superseded) {
        return CommitVerdict::Superseded;
    }
    let passed = names(&[CheckState::Pass]).len();
    if passed == 0 {
        // Skipped and neutral checks alone are no signal.
        return appears(seen, deadlines, "a successful check");
    }
    if seen.quiet < QUIET {
        return CommitVerdict::Pending("further checks that may appear".into());
    }
    CommitVerdict::Green(passed)
}

fn appears(seen: &CommitChecks, deadlines: Deadlines, what: &str) -> CommitVerdict {
    if seen.age >= deadlines.appear {
        CommitVerdict::NoCi(what.to_owned())
    } else {
        CommitVerdict::Pending(what.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::CheckIdentity;
    use super::*;

    const DEADLINES: Deadlines = Deadlines { appear: 600_000, run: 3_600_000 };

    fn check(name: &str, status: &str) -> Check {
        Check {
            identity: CheckIdentity::Status { context: name.into() },
            id: 1,
            suite: 0,
            status: status.into(),
            conclusion: None,
            url: None,
        }
    }

    fn seen(checks: &[(&str, &str)]) -> CommitChecks {
        CommitChecks {
            ancestor: true,
            moved: false,
            checks: checks.iter().map(|(name, status)| check(name, status)).collect(),
            required: vec![],
            age: 60_000,
            quiet: QUIET,
        }
    }

    #[test]
    fn judge_follows_every_row() {
        let names = |all: &[&str]| all.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        let late = |seen: CommitChecks| CommitChecks { age: 600_000, ..seen };
        let ages = |seen: CommitChecks| CommitChecks { age: 3_600_000, ..seen };
        let requires =
            |seen: CommitChecks, all: &[&str]| CommitChecks { required: names(all), ..seen };
        let any = "any check";
        for (row, seen, verdict) in [
            (
                "1",
                CommitChecks { ancestor: false, ..seen(&[("a", "success")]) },
                CommitVerdict::Lost,
            ),
            ("2", seen(&[("a", "failure"), ("b", "pending")]), CommitVerdict::Red(names(&["a"]))),
            (
                "2 required only",
                requires(seen(&[("a", "failure"), ("b", "success")]), &["b"]),
                CommitVerdict::Green(1),
            ),
            (
                "2 human",
                seen(&[("a", "action_required")]),
                CommitVerdict::RedForHuman(names(&["a"])),
            ),
            (
                "3",
                requires(seen(&[("a", "success")]), &["a", "b"]),
                CommitVerdict::Pending("the required check b".into()),
            ),
            (
                "3 late",
                late(requires(seen(&[("a", "success")]), &["a", "b"])),
                CommitVerdict::NoCi("the required check b".into()),
            ),
            ("4", seen(&[]), CommitVerdict::Pending(any.into())),
            ("4 late", late(seen(&[])), CommitVerdict::NoCi(any.into())),
            (
                "5",
                late(seen(&[("a", "success"), ("b", "pending")])),
                CommitVerdict::Pending("b".into()),
            ),
            ("5 late", ages(seen(&[("b", "pending")])), CommitVerdict::Stuck(names(&["b"]))),
            (
                "5 approval",
                seen(&[("b", "waiting")]),
                CommitVerdict::Pending("b: needs approval".into()),
            ),
            ("6", seen(&[("a", "success"), ("b", "skipped")]), CommitVerdict::Green(1)),
            (
                "6 not quiet",
                CommitChecks { quiet: QUIET - 1, ..seen(&[("a", "success")]) },
                CommitVerdict::Pending("further checks that may appear".into()),
            ),
            (
                "6 weak",
                late(seen(&[("a", "skipped"), ("b", "neutral")])),
                CommitVerdict::NoCi("a successful check".into()),
            ),
            (
                "superseded",
                CommitChecks { moved: true, ..seen(&[("a", "cancelled"), ("b", "success")]) },
                CommitVerdict::Superseded,
            ),
        ] {
            assert_eq!(judge(&seen, DEADLINES), verdict, "row {row}");
        }
    }
}
