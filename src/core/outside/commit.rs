//! T4: a commit, from its checks.

use super::check::{Check, Says, newest, says};

/// What was seen of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// It is an ancestor of the remote branch's head.
    pub ancestor: bool,
    /// The branch has moved on since.
    pub moved: bool,
    /// Every repeat of every check.
    pub checks: Vec<Check>,
    /// Names that must pass: the configuration's and the branch rules'. With none, all must.
    pub required: Vec<String>,
    /// Milliseconds since the push.
    pub age: i64,
    /// Milliseconds since the newest suite came.
    pub quiet: i64,
}

/// Our own deadlines, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// A check that should have appeared.
    pub appear: i64,
    /// A check that should have ended.
    pub run: i64,
}

/// No new suite for this long before green, in milliseconds.
pub const QUIET: i64 = 30_000;

/// What a commit's checks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is on the branch no more.
    Lost,
    /// These failed.
    Red(Vec<String>),
    /// These failed and no agent can mend it.
    RedForHuman(Vec<String>),
    /// For this.
    Pending(String),
    /// This never came.
    NoCi(String),
    /// These never ended.
    Stuck(Vec<String>),
    /// Cut off, because the branch moved on.
    Superseded,
    /// All good, as many.
    Green(usize),
}

/// The table; a failed fetch never comes here.
#[must_use]
pub fn judge(seen: &Seen, deadlines: Deadlines) -> Verdict {
    if !seen.ancestor {
        return Verdict::Lost;
    }
    let all = newest(&seen.checks);
    let required = |check: &&Check| {
        seen.required.is_empty() || seen.required.iter().any(|n| n == check.identity.name())
    };
    let said: Vec<(&str, Says)> = all
        .into_iter()
        .filter(required)
        .map(|check| {
            let newer = |other: &Check| other.identity == check.identity && other.id > check.id;
            let replaced = seen.moved || seen.checks.iter().any(newer);
            (check.identity.name(), says(check, replaced))
        })
        .collect();
    let names = |wanted: &[Says]| -> Vec<String> {
        let those = said.iter().filter(|(_, says)| wanted.contains(says));
        those.map(|(name, _)| (*name).to_owned()).collect()
    };
    let red = names(&[Says::Red]);
    if !red.is_empty() {
        return Verdict::Red(red);
    }
    let human = names(&[Says::RedForHuman]);
    if !human.is_empty() {
        return Verdict::RedForHuman(human);
    }
    let missing = seen.required.iter().find(|name| !said.iter().any(|(n, _)| n == name));
    if let Some(name) = missing {
        return appears(seen, deadlines, &format!("the required check {name}"));
    }
    if said.is_empty() {
        return appears(seen, deadlines, "any check");
    }
    let pending = names(&[Says::Pending, Says::NeedsApproval]);
    if !pending.is_empty() {
        if seen.age >= deadlines.run {
            return Verdict::Stuck(pending);
        }
        let approval = names(&[Says::NeedsApproval]);
        let what = if approval.is_empty() {
            pending.join(", ")
        } else {
            format!("{}: needs approval", approval.join(", "))
        };
        return Verdict::Pending(what);
    }
    if said.iter().any(|(_, says)| *says == Says::Superseded) {
        return Verdict::Superseded;
    }
    let passed = names(&[Says::Pass]).len();
    if passed == 0 {
        // Skipped and neutral ones alone are no signal.
        return appears(seen, deadlines, "a check that says success");
    }
    if seen.quiet < QUIET {
        return Verdict::Pending("other checks that may still come".into());
    }
    Verdict::Green(passed)
}

fn appears(seen: &Seen, deadlines: Deadlines, what: &str) -> Verdict {
    if seen.age >= deadlines.appear {
        Verdict::NoCi(what.to_owned())
    } else {
        Verdict::Pending(what.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Identity;
    use super::*;

    const DEADLINES: Deadlines = Deadlines { appear: 600_000, run: 3_600_000 };

    fn check(name: &str, status: &str) -> Check {
        Check {
            identity: Identity::Status { context: name.into() },
            id: 1,
            suite: 0,
            status: status.into(),
            conclusion: None,
            url: None,
        }
    }

    fn seen(checks: &[(&str, &str)]) -> Seen {
        Seen {
            ancestor: true,
            moved: false,
            checks: checks.iter().map(|(name, status)| check(name, status)).collect(),
            required: vec![],
            age: 60_000,
            quiet: QUIET,
        }
    }

    #[test]
    fn every_row() {
        let names = |all: &[&str]| all.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        let late = |seen: Seen| Seen { age: 600_000, ..seen };
        let ages = |seen: Seen| Seen { age: 3_600_000, ..seen };
        let requires = |seen: Seen, all: &[&str]| Seen { required: names(all), ..seen };
        let any = "any check";
        for (row, seen, verdict) in [
            ("1", Seen { ancestor: false, ..seen(&[("a", "success")]) }, Verdict::Lost),
            ("2", seen(&[("a", "failure"), ("b", "pending")]), Verdict::Red(names(&["a"]))),
            (
                "2 required only",
                requires(seen(&[("a", "failure"), ("b", "success")]), &["b"]),
                Verdict::Green(1),
            ),
            ("2 human", seen(&[("a", "action_required")]), Verdict::RedForHuman(names(&["a"]))),
            (
                "3",
                requires(seen(&[("a", "success")]), &["a", "b"]),
                Verdict::Pending("the required check b".into()),
            ),
            (
                "3 late",
                late(requires(seen(&[("a", "success")]), &["a", "b"])),
                Verdict::NoCi("the required check b".into()),
            ),
            ("4", seen(&[]), Verdict::Pending(any.into())),
            ("4 late", late(seen(&[])), Verdict::NoCi(any.into())),
            ("5", late(seen(&[("a", "success"), ("b", "pending")])), Verdict::Pending("b".into())),
            ("5 late", ages(seen(&[("b", "pending")])), Verdict::Stuck(names(&["b"]))),
            ("5 approval", seen(&[("b", "waiting")]), Verdict::Pending("b: needs approval".into())),
            ("6", seen(&[("a", "success"), ("b", "skipped")]), Verdict::Green(1)),
            (
                "6 not quiet",
                Seen { quiet: QUIET - 1, ..seen(&[("a", "success")]) },
                Verdict::Pending("other checks that may still come".into()),
            ),
            (
                "6 weak",
                late(seen(&[("a", "skipped"), ("b", "neutral")])),
                Verdict::NoCi("a check that says success".into()),
            ),
            (
                "superseded",
                Seen { moved: true, ..seen(&[("a", "cancelled"), ("b", "success")]) },
                Verdict::Superseded,
            ),
        ] {
            assert_eq!(judge(&seen, DEADLINES), verdict, "row {row}");
        }
    }
}
