//! Events of the journal as lines for a person; `afk demo --headless` prints them.

use crate::core::fleet::Fleet;
use crate::core::model::breakglass::{AgentDecision, BreakglassEvent};
use crate::core::model::event::Event;
use crate::core::model::id::RunId;
use crate::core::model::plural::plural;

/// Describes an event in a line; `None` for pure bookkeeping. `fleet` is the fleet after the event.
pub(super) fn describe(fleet: &Fleet, event: &Event) -> Option<String> {
    let subject_of = |run: &RunId| {
        let subject = fleet
            .runs
            .get(run)
            .map(|r| r.work.issue().map_or_else(|| r.work.repo().to_string(), ToString::to_string));
        format!("{run} {:<16}", subject.unwrap_or_default())
    };
    Some(match event {
        Event::Started => "afk started".into(),
        Event::KillSwitch { on, by } => {
            format!("kill switch {} by {by}", if *on { "set" } else { "lifted" })
        }
        Event::Capacity { permits, by } => format!("{}, set by {by}", plural(*permits, "permit")),
        Event::Considered { key, reason } => {
            format!("   {key:<16} {}", reason.summary())
        }
        Event::Claimed { run, work, .. } => {
            format!("{} claimed: {}", subject_of(run), work.title().clean_line())
        }
        Event::Reached { run, phase } => format!("{} {}", subject_of(run), phase.as_str()),
        Event::GateClosed { run, why, .. } => {
            let first = why.clean().lines().next().unwrap_or_default().to_owned();
            format!("{} gate closed: {first}", subject_of(run))
        }
        Event::Pushed { run, head } => format!("{} pushed {}", subject_of(run), head.short()),
        Event::PushRejected { run, .. } => format!("{} push rejected; rebasing", subject_of(run)),
        Event::Judged { run, stage, link } => format!(
            "{} {} {}: {}",
            subject_of(run),
            stage.as_str(),
            link.verdict.as_str(),
            link.detail.clean_line()
        ),
        Event::Attempt { run, number, stage } => {
            format!("{} fix-forward attempt {number} after {}", subject_of(run), stage.as_str())
        }
        Event::Failed { run, why } => format!("{} failed: {}", subject_of(run), why.clean_line()),
        Event::Ended { run, outcome, why } => {
            format!("{} ended as {}: {}", subject_of(run), outcome.as_str(), why.clean_line())
        }
        Event::LookedAgain { run, by } => format!("{by} had afk look at {} again", subject_of(run)),
        Event::Reopened { run, by, .. } => format!("{} reopened by {by}", subject_of(run)),
        Event::LockReleased { run, by } => format!("{} lock released by {by}", subject_of(run)),
        Event::Escalated { escalation } => format!(
            "{} {} {} asks a human: {}",
            escalation.run.as_ref().map_or_else(|| "   ".into(), &subject_of),
            escalation.id,
            escalation.kind.as_str(),
            escalation.title.clean_line()
        ),
        Event::Answered { escalation, answer, by } => {
            format!("   {escalation} {by}: {}", answer.summary())
        }
        Event::Breakglass { what } => format!("   breakglass {}", describe_breakglass(what)?),
        Event::Expired { escalation } => format!("   {escalation} expired"),
        Event::NotDelivered(failure) => {
            format!("   {} not delivered: {}", failure.entry, failure.error)
        }
        Event::DeliveryHeld { entry, why } => format!("   {entry} can't be delivered: {why}"),
        Event::EditUnjudged { run, .. } => {
            format!("{} waits for the editor of its issue before the push", subject_of(run))
        }
        Event::IssueWithdrawn { run, why } => format!("{} {why}", subject_of(run)),
        Event::GivenUp { entry, why } => format!("   {entry} given up: {why}"),
        Event::Refused { command, refusal } => {
            format!("   {} by {} refused: {refusal}", command.command.as_str(), command.actor)
        }
        _ => return None,
    })
}

fn describe_breakglass(what: &BreakglassEvent) -> Option<String> {
    Some(match what {
        BreakglassEvent::Armed { arming } => {
            format!("armed by {}: {}", arming.by, arming.reason.clean_line())
        }
        BreakglassEvent::Disarmed { why } => format!("off: {why}"),
        BreakglassEvent::Begun { run } => format!("{} {} by {}", run.id, run.verb.as_str(), run.by),
        BreakglassEvent::Ended { verb, end } => format!("{verb} {}", end.summary()),
        BreakglassEvent::Opened { shell, of } => {
            format!("{shell} shell on {} by {}", of.host, of.by)
        }
        BreakglassEvent::Closed { shell, why, .. } => {
            format!("{shell} closed: {}", why.clean_line())
        }
        BreakglassEvent::KeyTrusted { host, by, old, new } => {
            let old = old.as_deref().unwrap_or("none");
            format!("{by} trusts a new key of {host}: {new}, {old} before")
        }
        BreakglassEvent::Drilled => "the drill succeeded".into(),
        BreakglassEvent::Diagnosing { by } => format!("{by} requests a diagnosis of an agent"),
        BreakglassEvent::AgentStarted { terms } => format!(
            "{} agent {} by {} at the level {}",
            terms.id,
            terms.agent,
            terms.by,
            terms.level.as_str()
        ),
        BreakglassEvent::AgentCalled { call, tool, decision } => {
            let decision = match decision {
                AgentDecision::Allowed => "allowed".into(),
                AgentDecision::Asked { escalation } => format!("asked in {escalation}"),
                AgentDecision::Refused { why } => format!("refused: {why}"),
            };
            format!("agent {call} {} ({decision})", tool.summary())
        }
        BreakglassEvent::AgentAllowed { call, by, grant } => {
            let kind = grant.as_ref().map(|kind| format!(", and {}", kind.means()));
            format!("agent {call} allowed by {by}{}", kind.unwrap_or_default())
        }
        BreakglassEvent::AgentBegan { call, verb } => format!("agent {call} begins {verb}"),
        BreakglassEvent::AgentCallEnded { call, said, .. } => {
            format!("agent {call} ended: {}", said.clean_line())
        }
        BreakglassEvent::AgentEnded { why } => format!("agent ended: {}", why.clean_line()),
        BreakglassEvent::Diagnosed { .. } => return None,
    })
}

/// Formats milliseconds since a start, as `+12.345s`.
pub(super) fn offset(ms: i64) -> String {
    format!("+{}.{:03}s", ms / 1000, ms % 1000)
}
