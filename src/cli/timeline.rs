//! Events as lines for a person.

use crate::core::fleet::Fleet;
use crate::core::model::breakglass::BreakglassEvent;
use crate::core::model::event::Event;

/// What an event is about and what happened; none for those that are only bookkeeping. `fleet`
/// is the fleet after the event.
#[must_use]
pub fn line(fleet: &Fleet, event: &Event) -> Option<String> {
    let of = |run: &crate::core::model::id::RunId| {
        let subject = fleet
            .runs
            .get(run)
            .map(|r| r.work.issue().map_or_else(|| r.work.repo().to_string(), ToString::to_string));
        format!("{run} {:<16}", subject.unwrap_or_default())
    };
    Some(match event {
        Event::Started => "afk began".into(),
        Event::KillSwitch { on, by } => {
            format!("kill switch {} by {by}", if *on { "thrown" } else { "lifted" })
        }
        Event::Capacity { permits, by } => format!("{permits} permits, set by {by}"),
        Event::Considered { key, reason } => {
            format!("   {key:<16} {}", reason.summary())
        }
        Event::Claimed { run, work, .. } => {
            format!("{} claimed: {}", of(run), work.title().clean_line())
        }
        Event::Reached { run, phase } => format!("{} {}", of(run), phase.as_str()),
        Event::GateClosed { run, why } => {
            let first = why.clean().lines().next().unwrap_or_default().to_owned();
            format!("{} gate closed: {first}", of(run))
        }
        Event::Pushed { run, head } => format!("{} pushed {}", of(run), head.short()),
        Event::PushRejected { run, .. } => format!("{} push rejected; rebases", of(run)),
        Event::Judged { run, stage, link } => format!(
            "{} {} {}: {}",
            of(run),
            stage.as_str(),
            link.verdict.as_str(),
            link.detail.clean_line()
        ),
        Event::Attempt { run, number, stage } => {
            format!("{} fix-forward attempt {number} after {}", of(run), stage.as_str())
        }
        Event::Failed { run, why } => format!("{} failed: {}", of(run), why.clean_line()),
        Event::Ended { run, outcome, why } => {
            format!("{} ended as {}: {}", of(run), outcome.as_str(), why.clean_line())
        }
        Event::Reopened { run, by, .. } => format!("{} sent on by {by}", of(run)),
        Event::LockReleased { run, by } => format!("{} lock released by {by}", of(run)),
        Event::Escalated { escalation } => format!(
            "{} {} {} asks a human: {}",
            escalation.run.as_ref().map_or_else(|| "   ".into(), &of),
            escalation.id,
            escalation.kind.as_str(),
            escalation.title.clean_line()
        ),
        Event::Answered { escalation, answer, by } => {
            format!("   {escalation} {by}: {}", answer.summary())
        }
        Event::Breakglass { what } => format!("   breakglass {}", told(what)?),
        Event::Expired { escalation } => format!("   {escalation} expired"),
        Event::NotDelivered { entry, error, .. } => format!("   {entry} not delivered: {error}"),
        Event::GivenUp { entry, why } => format!("   {entry} given up: {why}"),
        Event::Refused { command, refusal } => {
            format!("   {} by {} refused: {refusal}", command.command.as_str(), command.actor)
        }
        _ => return None,
    })
}

/// What is told of breakglass.
fn told(what: &BreakglassEvent) -> Option<String> {
    Some(match what {
        BreakglassEvent::Armed { arming } => {
            format!("armed by {}: {}", arming.by, arming.reason.clean_line())
        }
        BreakglassEvent::Disarmed { why } => format!("off: {why}"),
        BreakglassEvent::Begun { run } => format!("{} {} by {}", run.id, run.verb.as_str(), run.by),
        BreakglassEvent::Ended { verb, end } => format!("{verb} {}", end.result.summary()),
        BreakglassEvent::Opened { shell, of } => {
            format!("{shell} shell on {} by {}", of.host, of.by)
        }
        BreakglassEvent::Closed { shell, why, .. } => {
            format!("{shell} closed: {}", why.clean_line())
        }
        BreakglassEvent::KeyTrusted { host, by, old, new } => {
            let old = old.as_deref().unwrap_or("none");
            format!("the key of {host} is trusted by {by}: {old} before, {new} now")
        }
        BreakglassEvent::Drilled => "the drill was good".into(),
        BreakglassEvent::Diagnosing { by } => format!("{by} asks an agent"),
        BreakglassEvent::Diagnosed { .. } => return None,
    })
}

/// Milliseconds since a start, as `+12.345s`.
#[must_use]
pub fn offset(ms: i64) -> String {
    format!("+{}.{:03}s", ms / 1000, ms % 1000)
}
