//! Events as lines for a person.

use crate::core::breakglass::Happened;
use crate::core::event::Event;
use crate::core::state::Fleet;

/// What an event is about and what happened; none for those that are only bookkeeping. `fleet`
/// is the fleet after the event.
#[must_use]
pub fn line(fleet: &Fleet, event: &Event) -> Option<String> {
    let of = |run: &crate::core::id::RunId| {
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
            format!("   {key:<16} {}", reason.line())
        }
        Event::Claimed { run, work, .. } => {
            format!("{} claimed: {}", of(run), work.title().clean_line())
        }
        Event::Reached { run, phase } => format!("{} {}", of(run), phase.word()),
        Event::GateClosed { run, why } => {
            let first = why.clean().lines().next().unwrap_or_default().to_owned();
            format!("{} gate closed: {first}", of(run))
        }
        Event::Pushed { run, head } => format!("{} pushed {}", of(run), head.short()),
        Event::PushRejected { run, .. } => format!("{} push rejected; rebases", of(run)),
        Event::Judged { run, stage, link } => format!(
            "{} {} {}: {}",
            of(run),
            stage.word(),
            link.verdict.word(),
            link.detail.clean_line()
        ),
        Event::Attempt { run, number, stage } => {
            format!("{} fix-forward attempt {number} after {}", of(run), stage.word())
        }
        Event::Failed { run, why } => format!("{} failed: {}", of(run), why.clean_line()),
        Event::Ended { run, outcome, why } => {
            format!("{} ended as {}: {}", of(run), outcome.word(), why.clean_line())
        }
        Event::Reopened { run, by, .. } => format!("{} sent on by {by}", of(run)),
        Event::LockReleased { run, by } => format!("{} lock released by {by}", of(run)),
        Event::Escalated { escalation } => format!(
            "{} {} {} asks a human: {}",
            escalation.run.as_ref().map_or_else(|| "   ".into(), &of),
            escalation.id,
            escalation.kind.word(),
            escalation.title.clean_line()
        ),
        Event::Answered { escalation, answer, by } => {
            format!("   {escalation} {by}: {}", answer.line())
        }
        Event::Breakglass { what } => format!("   breakglass {}", told(what)?),
        Event::Expired { escalation } => format!("   {escalation} expired"),
        Event::NotDelivered { entry, error, .. } => format!("   {entry} not delivered: {error}"),
        Event::GivenUp { entry, why } => format!("   {entry} given up: {why}"),
        Event::Refused { command, refusal } => {
            format!("   {} by {} refused: {refusal}", command.action.word(), command.actor)
        }
        _ => return None,
    })
}

/// What is told of breakglass.
fn told(what: &Happened) -> Option<String> {
    Some(match what {
        Happened::Armed { arming } => {
            format!("armed by {}: {}", arming.by, arming.reason.clean_line())
        }
        Happened::Disarmed { why } => format!("off: {why}"),
        Happened::Begun { run } => format!("{} {} by {}", run.id, run.verb.word(), run.by),
        Happened::Ended { verb, end } => format!("{verb} {}", end.result.line()),
        Happened::Opened { shell, of } => format!("{shell} shell on {} by {}", of.host, of.by),
        Happened::Closed { shell, why, .. } => format!("{shell} closed: {}", why.clean_line()),
        Happened::KeyTrusted { host, by, old, new } => {
            let old = old.as_deref().unwrap_or("none");
            format!("the key of {host} is trusted by {by}: {old} before, {new} now")
        }
        Happened::Drilled => "the drill was good".into(),
        Happened::Diagnosing { by } => format!("{by} asks an agent"),
        Happened::Diagnosed { .. } => return None,
    })
}

/// Milliseconds since a start, as `+12.345s`.
#[must_use]
pub fn offset(ms: i64) -> String {
    format!("+{}.{:03}s", ms / 1000, ms % 1000)
}
