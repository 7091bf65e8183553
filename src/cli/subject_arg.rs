//! The thing that a command line names: a question (`e5`), a run (`r2`), or an issue (`owner/name#12`,
//! `name#12`, `#12`). A run can be named by its issue too, and a question by its run or its issue.

use std::collections::BTreeSet;

use crate::core::fleet::Fleet;
use crate::core::model::approval::Escalation;
use crate::core::model::id::{EscalationId, IssueKey, RunId};
use crate::core::model::run::Run;
use crate::error::{Failure, FailureKind};

/// A question, a run or an issue of a fleet.
#[derive(Debug)]
pub(super) enum SubjectArg<'a> {
    Escalation(&'a Escalation),
    Run(&'a Run),
    /// An issue that a tracker has, or that a run was about.
    Issue(IssueKey),
}

/// Finds a question, a run or an issue.
pub(super) fn find<'a>(fleet: &'a Fleet, text: &str) -> Result<SubjectArg<'a>, Failure> {
    let text = text.trim();
    let negative = |why: String| Failure::new(FailureKind::Negative, why);
    if let Some(id) = number_after('e', text).map(EscalationId) {
        return match fleet.escalations.get(&id) {
            Some(known) => Ok(SubjectArg::Escalation(known)),
            None => Err(negative(format!("there is no escalation {id}"))
                .hint("`afk inbox` lists the open ones")),
        };
    }
    if let Some(id) = number_after('r', text).map(RunId) {
        return match fleet.runs.get(&id) {
            Some(run) => Ok(SubjectArg::Run(run)),
            None => {
                Err(negative(format!("there is no run {id}")).hint("`afk status` lists the runs"))
            }
        };
    }
    if text.contains('#') {
        return find_issue(fleet, text).map(SubjectArg::Issue);
    }
    Err(Failure::new(
        FailureKind::Usage,
        format!("{text:?} names neither a question, a run nor an issue"),
    )
    .hint("write an id like e5, r2, owner/name#12, name#12 or #12"))
}

/// Finds a run by its id, its issue, or a question about it. An issue names its newest run.
pub(super) fn find_run<'a>(fleet: &'a Fleet, text: &str) -> Result<&'a Run, Failure> {
    let negative = |why: String| Failure::new(FailureKind::Negative, why);
    let (id, name) = match find(fleet, text)? {
        SubjectArg::Run(run) => return Ok(run),
        SubjectArg::Escalation(question) => (question.run, question.id.to_string()),
        SubjectArg::Issue(key) => (fleet.last_run.get(&key).copied(), key.to_string()),
    };
    let run = id.and_then(|id| fleet.runs.get(&id));
    run.map(AsRef::as_ref).ok_or_else(|| {
        negative(format!("{name} has no run")).hint(format!("`afk show {name}` shows the reason"))
    })
}

/// Finds a question by its id, or by a run or an issue with only one open question.
pub(super) fn find_escalation<'a>(fleet: &'a Fleet, text: &str) -> Result<&'a Escalation, Failure> {
    let subject = find(fleet, text)?;
    if let SubjectArg::Escalation(question) = subject {
        return Ok(question);
    }
    let open = open_escalations(fleet, &subject);
    match open[..] {
        [question] => Ok(question),
        [] => Err(Failure::new(FailureKind::Negative, format!("{text} has no open question"))
            .hint("`afk inbox` lists the open ones")),
        _ => {
            let ids: Vec<String> = open.iter().map(|question| question.id.to_string()).collect();
            Err(Failure::new(
                FailureKind::Usage,
                format!("{text} has several open questions: {}", ids.join(", ")),
            )
            .hint("name one of them"))
        }
    }
}

/// The open questions about a subject; for an issue also those about its runs.
pub(super) fn open_escalations<'a>(
    fleet: &'a Fleet,
    subject: &SubjectArg<'_>,
) -> Vec<&'a Escalation> {
    let concerns = |known: &Escalation| match subject {
        SubjectArg::Escalation(question) => known.id == question.id,
        SubjectArg::Run(run) => known.run == Some(run.id),
        SubjectArg::Issue(key) => known.issue.as_ref() == Some(key),
    };
    fleet.inbox().into_iter().map(AsRef::as_ref).filter(|known| concerns(known)).collect()
}

/// Finds an issue: `owner/name#number`, or without the owner or the whole name where only one repository
/// has the name or the number.
pub(super) fn find_issue(fleet: &Fleet, text: &str) -> Result<IssueKey, Failure> {
    let unknown = || {
        Failure::new(FailureKind::Negative, format!("afk has seen no issue {text} in its trackers"))
            .hint("`afk status` lists the issues")
    };
    let (name, number) = text.rsplit_once('#').unwrap_or(("", text));
    if let Ok(number) = number.parse::<u64>()
        && !name.contains('/')
    {
        let known: BTreeSet<&IssueKey> = fleet.issues.keys().chain(fleet.last_run.keys()).collect();
        let fits =
            |key: &&IssueKey| key.number == number && (name.is_empty() || key.repo.name() == name);
        let all: Vec<&IssueKey> = known.into_iter().filter(fits).collect();
        return match all[..] {
            [key] => Ok(key.clone()),
            [] => Err(unknown()),
            _ => Err(Failure::new(
                FailureKind::Usage,
                format!("several repositories have {name}#{number}"),
            )
            .hint("write owner/name#number")),
        };
    }
    let key = IssueKey::parse(text).map_err(|error| {
        Failure::new(FailureKind::Usage, error)
            .hint("write owner/name#number, a number, or a run like r4")
    })?;
    let known = fleet.issues.contains_key(&key) || fleet.last_run.contains_key(&key);
    if known { Ok(key) } else { Err(unknown()) }
}

/// The number behind a letter: 5 in `e5`.
fn number_after(letter: char, text: &str) -> Option<u64> {
    let digits = text.strip_prefix(letter)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// A run as an answer names it: `acme/thing#1 "Add a page" (r2)`.
pub(super) fn long_name(run: &Run) -> String {
    let title: String = run.work.title().clean_line().chars().take(80).collect();
    match run.work.issue() {
        Some(key) => format!("{key} \"{title}\" ({})", run.id),
        None => format!("{} \"{title}\"", run.id),
    }
}
