//! The progress comment on a remote tracker: one comment for each issue, edited in place, with the
//! checklist of phases. The runtime asks for its text when it delivers an update. Text of agents and
//! logs never appears in it, except for quoted reasons.

use crate::fleet::Fleet;
use crate::model::id::IssueKey;
use crate::model::ledger::Reason;
use crate::model::run::{Outcome, Run};
use crate::model::stage::Phase;
use crate::model::time::Timestamp;
use crate::model::verdict::{Evidence, Fact, FactKind};

/// The most names of tests that the comment lists.
const NAMES: usize = 10;

/// The present comment in Markdown; none while the issue is neither blocked nor claimed.
#[must_use]
pub fn text(fleet: &Fleet, issue: &IssueKey) -> Option<String> {
    let run = fleet.last_run.get(issue).and_then(|id| fleet.runs.get(id));
    let reason = fleet.ledger.get(issue).map(|entry| &entry.reason);
    match (run, reason) {
        (_, Some(Reason::Blocked { by })) if run.is_none_or(|run| !run.live()) => {
            let by: Vec<String> = by.iter().map(|name| quoted(name)).collect();
            Some(format!("Waits for {}.", by.join(", ")))
        }
        (Some(run), _) => Some(checklist(run)),
        (None, _) => None,
    }
}

fn checklist(run: &Run) -> String {
    let mut text = match run.progress.outcome {
        None => format!("{} is at work: **{}**.\n\n", run.id, run.progress.phase.as_str()),
        Some(Outcome::Done) => format!("{} is **done**.\n\n", run.id),
        Some(outcome) => {
            format!(
                "{} ended as **{}**: {}\n\n",
                run.id,
                outcome.as_str(),
                quoted(run.progress.why.as_received())
            )
        }
    };
    for phase in Phase::ALL {
        let reached = run.progress.reached.iter().find(|(known, _)| *known == phase);
        let mark = if reached.is_some() { 'x' } else { ' ' };
        let at = reached.map(|(_, at)| format!(" {}", time(*at))).unwrap_or_default();
        let link = phase
            .proof_link()
            .and_then(|link| run.proof.get(link))
            .map(verdict_of)
            .unwrap_or_default();
        text.push_str(&format!("- [{mark}] {}{at}{link}\n", phase.as_str()));
        if let Some(link) = phase.proof_link().and_then(|link| run.proof.get(link)) {
            text.push_str(&names(link));
        }
    }
    if let Some(why) = run.issue.withdrawn.as_ref().filter(|_| run.workspace.pushed.is_some()) {
        text.push_str(&format!(
            "\nAfter the push: {}. What was pushed is finished.\n",
            quoted(why)
        ));
    }
    if run.progress.attempts > 0 {
        text.push_str(&format!("\nFix-forward attempts: {}\n", run.progress.attempts));
    }
    text
}

/// The first tests that failed without the change and pass with it.
fn names(link: &Evidence) -> String {
    let of = |fact: &&Fact| fact.kind == FactKind::FailToPass;
    let names: Vec<&Fact> = link.facts.iter().filter(of).collect();
    let lines = names.iter().take(NAMES).map(|fact| quoted(fact.value.as_received()));
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("    - {line}\n"));
    }
    if names.len() > NAMES {
        text.push_str(&format!("    - and {} more\n", names.len() - NAMES));
    }
    text
}

fn verdict_of(link: &Evidence) -> String {
    format!(" – {} ({})", link.verdict.as_str(), link.sha.short())
}

/// Text from outside as a code span, in which a tracker resolves no mention and no link.
#[must_use]
pub fn quoted(text: &str) -> String {
    let line = crate::model::untrusted::clean_line(text).replace('`', "'");
    let line: String = line.chars().take(300).collect();
    format!("`{}`", line.trim())
}

fn time(at: Timestamp) -> String {
    let minutes = at.0.div_euclid(60_000).rem_euclid(24 * 60);
    format!("{:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Event;
    use crate::model::id::Repo;
    use crate::model::id::RunId;
    use crate::model::run::Work;

    #[test]
    fn comment_names_every_phase_and_mentions_nobody() {
        let key = IssueKey::parse("acme/widget#7").unwrap();
        let mut fleet = Fleet::default();
        assert_eq!(text(&fleet, &key), None);
        let reason = Reason::Blocked { by: vec!["#3".into(), "x`@team".into()] };
        fleet.apply(Timestamp(1), &Event::Considered { key: key.clone(), reason });
        assert_eq!(text(&fleet, &key).unwrap(), "Waits for `#3`, `x'@team`.");
        let work = Work::Issue { key: key.clone(), title: "@everyone".into() };
        let run = RunId(4);
        fleet.apply(Timestamp(60_000), &Event::Claimed { run, work, priority: None, term: 0 });
        fleet.apply(Timestamp(120_000), &Event::Reached { run, phase: Phase::Worktree });
        let comment = text(&fleet, &key).unwrap();
        assert!(
            comment.starts_with("r4 is at work: **worktree**.\n\n- [x] queued 00:01 UTC\n"),
            "{comment}"
        );
        assert!(comment.contains("- [x] worktree 00:02 UTC\n- [ ] tests-red\n"), "{comment}");
        assert!(!comment.contains('@'), "{comment}");
        let reason = Reason::Running { run };
        fleet.apply(Timestamp(2), &Event::Considered { key: key.clone(), reason });
        let why = "`rm` @ana".into();
        fleet.apply(Timestamp(3), &Event::Ended { run, outcome: Outcome::Frozen, why });
        assert!(text(&fleet, &key).unwrap().starts_with("r4 ended as **frozen**: `'rm' @ana`\n"));
        assert!(!fleet.policy.remote.contains(&Repo::parse("acme/widget").unwrap()));
    }
}
