//! Decision table T1: who armed an issue, and whether that account may. Called by the GitHub
//! tracker for every labelled issue.
//!
//! The table ignores `author_association`, since the timeline's events don't carry it.

use std::collections::BTreeSet;

use crate::model::id::Actor;
use crate::model::issue::Arming;
use crate::model::time::Timestamp;

/// The account behind an event of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The login; none for a deleted account.
    pub login: Option<Actor>,
    /// Whether the account belongs to a program.
    pub bot: bool,
    /// Whether an app acted in the account's name.
    pub via_app: bool,
    /// The account's rights in the repository.
    pub right: RepoRight,
}

/// The response of the permission endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepoRight {
    /// The role's name and the permission that it builds on.
    Role {
        /// The role's name, as received; a custom role has its own.
        role: String,
        /// The base permission: `admin`, `write`, `read` or `none`.
        permission: String,
    },
    /// Status 404: the account is no collaborator.
    NotThere,
    /// Status 403: afk's own token may not ask.
    Forbidden,
    /// The request failed, with this error.
    Unavailable(String),
}

/// The newest event about the ready label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// Whether the event is `labeled` rather than `unlabeled`.
    pub on: bool,
    /// The account that changed the label.
    pub by: Who,
    /// The time of the change.
    pub at: Timestamp,
}

/// A change of the issue's title, body or class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The time of the latest change.
    pub at: Timestamp,
    /// The account that made it.
    pub by: Who,
}

/// The facts about an issue that the table reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmingFacts {
    /// Whether it is a pull request.
    pub pull_request: bool,
    /// Whether the issue carries the label now, compared byte for byte.
    pub label: bool,
    /// The label's newest event, from all pages of the timeline.
    pub labelled: Option<Labelled>,
    /// The changes of its title, of its body, and of the labels that state the class of the work.
    pub edits: Vec<Edited>,
    /// Whether the events may lack the latest change, because the issue is newer than they are.
    pub lag: bool,
}

/// The accounts that are trusted beside those with the right to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// afk's own login, which never arms an issue.
    pub us: Option<Actor>,
    /// The accounts in `trusted`, including bots and apps.
    pub listed: BTreeSet<Actor>,
    /// Whether the role `triage` may arm issues.
    pub triage: bool,
}

enum LabellerTrust {
    Trusted,
    Untrusted,
    Unknown(String),
}

/// Applies the table; none is row 1, a pull request.
#[must_use]
pub fn judge(facts: &ArmingFacts, trust: &Trust) -> Option<Arming> {
    if facts.pull_request {
        return None;
    }
    if !facts.label {
        return Some(Arming::NotReady);
    }
    if facts.lag {
        let why = "the events of the issue lag behind it; afk reads them again".into();
        return Some(Arming::Unknown { why });
    }
    if facts.labelled.as_ref().is_some_and(|event| !event.on) {
        return Some(Arming::NotReady);
    }
    let Some(event) = &facts.labelled else {
        let why = "the issue has the label, and no event shows who added it".into();
        return Some(Arming::Unknown { why });
    };
    let name = |who: &Who| who.login.clone().unwrap_or_else(|| Actor("a deleted account".into()));
    let by = name(&event.by);
    match standing(&event.by, trust) {
        LabellerTrust::Untrusted => return Some(Arming::Untrusted { by }),
        LabellerTrust::Unknown(why) => return Some(Arming::Unknown { why }),
        LabellerTrust::Trusted => {}
    }
    // The events have seconds: nobody knows which of two in the same second came first.
    let second = |at: Timestamp| at.0.div_euclid(1000);
    for edit in facts.edits.iter().filter(|edit| second(edit.at) >= second(event.at)) {
        let editor = name(&edit.by);
        match standing(&edit.by, trust) {
            LabellerTrust::Trusted => {}
            LabellerTrust::Untrusted => {
                let why =
                    format!("{editor}, who may not arm issues, changed it after {by} armed it");
                return Some(Arming::Hold { why });
            }
            LabellerTrust::Unknown(why) => return Some(Arming::Unknown { why }),
        }
    }
    Some(Arming::Trusted { by, at: event.at })
}

/// Rows 4 to 7: whether one account may arm.
fn standing(who: &Who, trust: &Trust) -> LabellerTrust {
    if who.login.as_ref().is_some_and(|login| trust.listed.contains(login)) {
        return LabellerTrust::Trusted;
    }
    let Some(login) = &who.login else { return LabellerTrust::Untrusted };
    if who.bot || who.via_app || trust.us.as_ref() == Some(login) {
        return LabellerTrust::Untrusted;
    }
    match &who.right {
        RepoRight::Role { role, permission } => match (role.as_str(), permission.as_str()) {
            ("admin" | "maintain" | "write", _) => LabellerTrust::Trusted,
            ("triage", _) if trust.triage => LabellerTrust::Trusted,
            ("triage" | "read" | "none", _) | (_, "read" | "none") => LabellerTrust::Untrusted,
            // A custom role that builds on the right to write.
            (_, "admin" | "write") => LabellerTrust::Trusted,
            _ => LabellerTrust::Unknown(format!("{login} has the unknown role {role:?}")),
        },
        RepoRight::NotThere => LabellerTrust::Untrusted,
        RepoRight::Forbidden => {
            LabellerTrust::Unknown("afk's token can't read permissions: give it push access".into())
        }
        RepoRight::Unavailable(why) => {
            LabellerTrust::Unknown(format!("the permission of {login} is unknown: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(role: &str, permission: &str) -> RepoRight {
        RepoRight::Role { role: role.into(), permission: permission.into() }
    }

    fn who(login: &str, right: RepoRight) -> Who {
        Who { login: Some(Actor(login.into())), bot: false, via_app: false, right }
    }

    fn armed(by: Who) -> ArmingFacts {
        let labelled = Some(Labelled { on: true, by, at: Timestamp(10_000) });
        ArmingFacts { pull_request: false, label: true, labelled, edits: vec![], lag: false }
    }

    fn name(facts: &ArmingFacts, trust: &Trust) -> &'static str {
        match judge(facts, trust) {
            None => "none",
            Some(Arming::NotReady) => "not ready",
            Some(Arming::Trusted { .. }) => "trusted",
            Some(Arming::Untrusted { .. }) => "untrusted",
            Some(Arming::Unknown { .. }) => "unknown",
            Some(Arming::Hold { .. }) => "hold",
        }
    }

    #[test]
    fn judge_follows_every_row() {
        let trust = Trust { us: Some(Actor("afk".into())), ..Trust::default() };
        let ana = || who("ana", right("write", "write"));
        let of = |right| armed(who("bo", right));
        let off = Labelled { on: false, by: ana(), at: Timestamp(11_000) };
        for (row, facts, verdict) in [
            ("1", ArmingFacts { pull_request: true, ..armed(ana()) }, "none"),
            ("2 absent", ArmingFacts { label: false, ..armed(ana()) }, "not ready"),
            ("2 newest", ArmingFacts { labelled: Some(off), ..armed(ana()) }, "not ready"),
            ("3 lag", ArmingFacts { lag: true, ..armed(ana()) }, "unknown"),
            ("2 before lag", ArmingFacts { label: false, lag: true, ..armed(ana()) }, "not ready"),
            ("3", ArmingFacts { labelled: None, ..armed(ana()) }, "unknown"),
            ("4 nobody", armed(Who { login: None, ..ana() }), "untrusted"),
            ("4 bot", armed(Who { bot: true, ..ana() }), "untrusted"),
            ("4 app", armed(Who { via_app: true, ..ana() }), "untrusted"),
            ("4 us", armed(who("afk", right("write", "write"))), "untrusted"),
            ("5 admin", of(right("admin", "admin")), "trusted"),
            ("5 maintain", of(right("maintain", "write")), "trusted"),
            ("5 write", of(right("write", "write")), "trusted"),
            ("5 triage", of(right("triage", "read")), "untrusted"),
            ("5 custom", of(right("releaser", "write")), "trusted"),
            ("6 read", of(right("read", "read")), "untrusted"),
            ("6 none", of(right("none", "none")), "untrusted"),
            ("6 custom", of(right("helper", "read")), "untrusted"),
            ("6 404", of(RepoRight::NotThere), "untrusted"),
            ("7 403", of(RepoRight::Forbidden), "unknown"),
            ("7 5xx", of(RepoRight::Unavailable("502".into())), "unknown"),
            ("unknown words", of(right("wizard", "cast")), "unknown"),
        ] {
            assert_eq!(name(&facts, &trust), verdict, "row {row}");
        }
    }

    #[test]
    fn later_edit_counts_by_its_editors_rights() {
        let trust = Trust::default();
        let edited = |at: i64, by| ArmingFacts {
            edits: vec![Edited { at: Timestamp(at * 1000), by }],
            ..armed(who("ana", right("write", "write")))
        };
        let reader = || who("mallory", right("read", "read"));
        for (facts, verdict) in [
            (edited(9, reader()), "trusted"),
            (edited(10, reader()), "hold"),
            (edited(10, who("bo", right("write", "write"))), "trusted"),
            (edited(11, reader()), "hold"),
            (edited(11, Who { login: None, ..reader() }), "hold"),
            (edited(11, who("bo", right("admin", "admin"))), "trusted"),
            (edited(11, who("bo", RepoRight::Forbidden)), "unknown"),
        ] {
            assert_eq!(name(&facts, &trust), verdict, "{facts:?}");
        }
    }

    #[test]
    fn earlier_edit_by_a_stranger_holds_whoever_edits_last() {
        let by = |login: &str, role: &str| who(login, right(role, role));
        let edit = |at, by| Edited { at: Timestamp(at), by };
        let edits = vec![edit(12_000, by("bo", "write")), edit(11_000, by("mallory", "read"))];
        let facts = ArmingFacts { edits, ..armed(by("ana", "write")) };
        assert_eq!(name(&facts, &Trust::default()), "hold");
    }

    #[test]
    fn trusted_list_and_triage_option_widen_trust() {
        let listed = [Actor("renovate[bot]".into())].into();
        let trust = Trust { listed, triage: true, us: None };
        let bot = Who { bot: true, ..who("renovate[bot]", right("none", "none")) };
        assert_eq!(name(&armed(bot), &trust), "trusted");
        assert_eq!(name(&armed(who("t", right("triage", "read"))), &trust), "trusted");
        assert_eq!(name(&armed(who("r", right("read", "read"))), &trust), "untrusted");
    }
}
