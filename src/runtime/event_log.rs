//! The log lines of the journal: one line for each durable event that an operator would look for, with
//! its run, issue and repository. The event loop passes each batch once it is durable, so the log has no
//! line that the journal lacks.
//!
//! ```text
//! BatchInFlight ─ written ─▶ event_log::write ─ line ─▶ tracing (target afk::events) ─▶ file, stderr
//! ```
//!
//! Refused commands are not here: `refusals` logs them with a bound, since anybody can cause them.

use tracing::Level;

use crate::core::fleet::Fleet;
use crate::core::model::activity::Activity;
use crate::core::model::approval::Escalation;
use crate::core::model::event::Event;
use crate::core::model::id::{EscalationId, OutboxId, RunId};
use crate::core::model::outbox::FailedDelivery;
use crate::core::model::run::Outcome;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::core::model::verdict::Verdict;

/// The target of these lines, for the filter in `AFK_LOG`.
const TARGET: &str = "afk::events";

/// A line before it is written.
#[derive(Debug, PartialEq)]
struct EventLine {
    level: Level,
    /// The event's name, which stays the same from release to release.
    event: &'static str,
    text: String,
    run: Option<RunId>,
    issue: Option<String>,
    repository: Option<String>,
}

/// Writes the lines of a durable batch.
pub(super) fn write(events: &[(Timestamp, Event)], fleet: &Fleet) {
    for (_, event) in events {
        if let Some(line) = line(event, fleet) {
            line.emit();
        }
    }
}

impl EventLine {
    fn emit(&self) {
        let run = self.run.map(|run| run.to_string());
        let (run, event, text) = (run.as_deref(), self.event, &self.text);
        let (issue, repository) = (self.issue.as_deref(), self.repository.as_deref());
        match self.level {
            Level::ERROR => {
                tracing::error!(target: TARGET, event, run, issue, repository, "{text}");
            }
            Level::WARN => tracing::warn!(target: TARGET, event, run, issue, repository, "{text}"),
            _ => tracing::info!(target: TARGET, event, run, issue, repository, "{text}"),
        }
    }

    /// Adds the issue and the repository that the run works on.
    fn about(mut self, fleet: &Fleet, run: RunId) -> Self {
        self.run = Some(run);
        if let Some(known) = fleet.runs.get(&run) {
            self.issue = known.work.issue().map(ToString::to_string);
            self.repository = Some(known.work.repo().to_string());
        }
        self
    }
}

fn new(level: Level, event: &'static str, text: impl Into<String>) -> EventLine {
    // Errors and the words of services come from outside.
    let text = clean_line(&text.into());
    EventLine { level, event, text, run: None, issue: None, repository: None }
}

fn info(event: &'static str, text: impl Into<String>) -> EventLine {
    new(Level::INFO, event, text)
}

fn warn(event: &'static str, text: impl Into<String>) -> EventLine {
    new(Level::WARN, event, text)
}

/// The line of an event; none for events that only keep the books.
fn line(event: &Event, fleet: &Fleet) -> Option<EventLine> {
    of_run(event, fleet).or_else(|| of_question(event, fleet)).or_else(|| of_fleet(event, fleet))
}

/// The lines about the work of a run.
fn of_run(event: &Event, fleet: &Fleet) -> Option<EventLine> {
    let (run, line) = match event {
        Event::Claimed { run, work, .. } => {
            (run, info("claimed", format!("claimed: {}", work.title().clean_line())))
        }
        Event::Admitted { run } => (run, info("admitted", "received a permit")),
        Event::PermitReturned { run } => {
            (run, info("permit-returned", "returned its permit until an outage is over"))
        }
        Event::Began { run, activity: Activity::Turn { prompt } } => {
            (run, info("turn-began", format!("the agent begins a turn: {}", prompt.as_str())))
        }
        Event::Began { run, activity: activity @ (Activity::Gate | Activity::Push) } => {
            (run, info("began", activity.as_str()))
        }
        Event::TurnEnded { run, end } => (run, info("turn-ended", end.summary())),
        Event::FellBack { run, agent, .. } => {
            (run, warn("fell-back", format!("the agent {agent} takes the turns from now on")))
        }
        Event::AgentRestored { run } => {
            (run, info("agent-restored", "the configured agent takes the turns again"))
        }
        Event::RanUnasked { run, command } => {
            let text = format!("the agent ran a refused command unasked: {}", command.clean_line());
            (run, warn("ran-unasked", text))
        }
        Event::ContextOverflowed { run } => {
            (run, warn("context-overflowed", "the conversation outgrew the model's context"))
        }
        Event::Reached { run, phase } => {
            (run, info("reached", format!("reached {}", phase.as_str())))
        }
        Event::GateOpened { run, head, .. } => {
            (run, info("gate-opened", format!("the gate opened for {}", head.short())))
        }
        Event::GateClosed { run, why, .. } => {
            (run, warn("gate-closed", format!("the gate stayed closed: {}", why.clean_line())))
        }
        Event::ApprovalNeeded { run, .. } => {
            (run, warn("approval-needed", "a human must approve the change before the push"))
        }
        Event::ChangeApproved { run, by, .. } => {
            (run, info("change-approved", format!("{by} approved the change")))
        }
        Event::Pushed { run, head } => {
            (run, info("pushed", format!("the remote has {}", head.short())))
        }
        Event::PushRejected { run, why } => {
            let text = format!("the remote rejected the push: {}", why.clean_line());
            (run, warn("push-rejected", text))
        }
        Event::Rebased { run, base } => {
            (run, info("rebased", format!("rebased onto {}", base.short())))
        }
        Event::Collected { run, .. } => (run, info("collected", "took the job's commits in")),
        Event::BaseStale { run, why } => {
            (run, warn("base-stale", format!("works on an old base: {}", why.clean_line())))
        }
        Event::Judged { run, stage, link } => {
            let verdict = link.verdict;
            let text =
                format!("{}: {}: {}", stage.as_str(), verdict.as_str(), link.detail.clean_line());
            let is_fine = matches!(verdict, Verdict::Green | Verdict::Pending);
            (run, if is_fine { info("judged", text) } else { warn("judged", text) })
        }
        Event::Attempt { run, number, stage } => {
            let text = format!("fix-forward attempt {number} after {}", stage.as_str());
            (run, warn("attempt", text))
        }
        Event::Failed { run, why } => (run, warn("failed", why.clean_line())),
        Event::Held { run, cause, .. } => {
            (run, warn("held", format!("waits: {}", cause.summary())))
        }
        Event::IssueWithdrawn { run, why } => {
            (run, warn("issue-withdrawn", format!("the tracker took the issue back: {why}")))
        }
        Event::Ended { run, outcome, why } => {
            let text = match why.clean_line() {
                why if why.is_empty() => format!("ended: {}", outcome.as_str()),
                why => format!("ended: {}: {why}", outcome.as_str()),
            };
            let is_fine = matches!(outcome, Outcome::Done | Outcome::Cancelled);
            (run, if is_fine { info("ended", text) } else { warn("ended", text) })
        }
        Event::Reopened { run, by, .. } => (run, info("reopened", format!("{by} reopened it"))),
        Event::LookedAgain { run, by } => {
            (run, info("looked-again", format!("{by} has afk read CI and deploy again")))
        }
        Event::LockReleased { run, by } => {
            (run, info("lock-released", format!("{by} released the repository's lock")))
        }
        Event::CapsuleKept { run, path } => {
            (run, info("capsule-kept", format!("the evidence is in {path}")))
        }
        Event::RequestDecided { run, answer, by, .. } => {
            (run, info("request-decided", format!("{by}: {}", answer.summary())))
        }
        Event::Granted { run, by, .. } => {
            (run, info("granted", format!("{by} granted a permission for the rest of the run")))
        }
        Event::Steered { run, by, .. } => {
            (run, info("steered", format!("{by} sent the agent a message")))
        }
        _ => return None,
    };
    Some(line.about(fleet, *run))
}

/// The lines about questions to humans.
fn of_question(event: &Event, fleet: &Fleet) -> Option<EventLine> {
    let known = |id: &EscalationId| fleet.escalations.get(id).map(|known| &**known);
    let (line, question): (EventLine, Option<&Escalation>) = match event {
        Event::Escalated { escalation } => {
            let (id, kind) = (escalation.id, escalation.kind.as_str());
            let text = format!("asks a human: {id} {kind}: {}", escalation.title.clean_line());
            (warn("escalated", text), Some(&**escalation))
        }
        Event::Answered { escalation, answer, by } => {
            let text = format!("{by} answered {escalation}: {}", answer.summary());
            (info("answered", text), known(escalation))
        }
        Event::Expired { escalation } => {
            (warn("expired", format!("{escalation} expired without an answer")), known(escalation))
        }
        Event::Withdrawn { escalation, why } => {
            (info("withdrawn", format!("{escalation} needs no answer: {why}")), known(escalation))
        }
        Event::Acknowledged { escalation, by } => {
            (info("acknowledged", format!("{by} acknowledged {escalation}")), known(escalation))
        }
        _ => return None,
    };
    let Some(question) = question else { return Some(line) };
    let line = match question.run {
        Some(run) => line.about(fleet, run),
        None => line,
    };
    let issue = question.issue.as_ref();
    Some(EventLine {
        repository: line.repository.or_else(|| issue.map(|issue| issue.repo.to_string())),
        issue: line.issue.or_else(|| issue.map(ToString::to_string)),
        ..line
    })
}

/// The lines about the fleet, its environment and the completion steps.
fn of_fleet(event: &Event, fleet: &Fleet) -> Option<EventLine> {
    let step = |entry: &OutboxId| {
        fleet.outbox.get(entry).map_or_else(|| entry.to_string(), |known| known.step.summary())
    };
    Some(match event {
        Event::KillSwitch { on: true, by } => warn("kill-switch", format!("{by} stopped pickup")),
        Event::KillSwitch { on: false, by } => {
            info("kill-switch", format!("{by} lifted the kill switch"))
        }
        Event::Capacity { permits, by } => {
            info("capacity", format!("{by} set the number of permits to {permits}"))
        }
        Event::PolicySet { .. } => info("policy-set", "the configured rules changed"),
        Event::Draining { by } => warn("draining", format!("{by} has afk end after its runs")),
        Event::Tripped { cause } => {
            warn("tripped", format!("pickup is paused, because several runs failed: {}", cause.0))
        }
        Event::Reset => info("reset", "pickup continues"),
        Event::Unavailable { cause, why, repo, .. } => EventLine {
            repository: repo.as_ref().map(ToString::to_string),
            ..warn("unavailable", format!("{}: {}", cause.summary(), why.clean_line()))
        },
        Event::OutageEnded { cause } => info("outage-ended", format!("over: {}", cause.summary())),
        Event::SoftLimit => warn("soft-limit", "the day's soft limit of spending is passed"),
        Event::TimeSkipped { ms } => {
            warn("time-skipped", format!("{} s passed in which afk could do nothing", ms / 1000))
        }
        Event::NotDelivered(FailedDelivery { entry, error, .. }) => {
            warn("not-delivered", format!("{}: {error}", step(entry)))
        }
        Event::DeliveryHeld { entry, why } => {
            warn("delivery-held", format!("{}: {why}", step(entry)))
        }
        Event::GivenUp { entry, why } => warn("given-up", format!("{}: {why}", step(entry))),
        Event::Accepted { command } => info(
            "command",
            format!("{} ({}): {}", command.actor, command.origin, command.command.as_str()),
        ),
        Event::RepositoryReplaced { repo, .. } => EventLine {
            repository: Some(repo.to_string()),
            ..warn("repository-replaced", "another repository has the name of a known one")
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::id::{Actor, IssueKey, Repo, Sha};
    use crate::core::model::run::Work;

    fn fleet() -> Fleet {
        let mut fleet = Fleet::default();
        let repo = Repo::parse("acme/web").unwrap();
        let key = IssueKey { repo, number: 7 };
        let work = Work::Issue { key, title: "Mend\nit\u{1b}[2J".into() };
        let claimed = Event::Claimed { run: RunId(1), work, priority: None, term: 0 };
        fleet.apply(Timestamp(1), &claimed);
        fleet
    }

    #[test]
    fn line_of_a_run_has_run_issue_and_repository() {
        let fleet = fleet();
        let pushed = Event::Pushed { run: RunId(1), head: Sha("a".repeat(40)) };
        let line = line(&pushed, &fleet).unwrap();
        assert_eq!((line.level, line.event), (Level::INFO, "pushed"));
        assert_eq!(line.text, "the remote has aaaaaaaa");
        assert_eq!(line.run, Some(RunId(1)));
        assert_eq!(line.issue.as_deref(), Some("acme/web#7"));
        assert_eq!(line.repository.as_deref(), Some("acme/web"));
    }

    #[test]
    fn text_from_outside_stays_in_its_line() {
        let fleet = fleet();
        let work = fleet.runs[&RunId(1)].work.clone();
        let claimed = Event::Claimed { run: RunId(1), work, priority: None, term: 0 };
        let line = line(&claimed, &fleet).unwrap();
        assert!(!line.text.chars().any(char::is_control), "{:?}", line.text);
        assert!(line.text.starts_with("claimed: Mend it"), "{:?}", line.text);
    }

    #[test]
    fn failures_are_warnings_and_bookkeeping_has_no_line() {
        let fleet = fleet();
        let failed = Event::Failed { run: RunId(1), why: "git failed".into() };
        assert_eq!(line(&failed, &fleet).unwrap().level, Level::WARN);
        let ended =
            Event::Ended { run: RunId(1), outcome: Outcome::Frozen, why: "deploy is red".into() };
        let ended = line(&ended, &fleet).unwrap();
        assert_eq!((ended.level, &*ended.text), (Level::WARN, "ended: frozen: deploy is red"));
        let kill = Event::KillSwitch { on: true, by: Actor("ana".into()) };
        assert_eq!(line(&kill, &fleet).unwrap().text, "ana stopped pickup");
        assert_eq!(line(&Event::Started, &fleet), None);
    }
}
