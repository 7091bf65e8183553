//! `GET /metrics`: figures in the text format of `OpenMetrics` 1.0.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::tokens::Caller;
use crate::runtime::Snapshot;

const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The fleet in figures.
pub(super) async fn metrics(State(shared): State<Shared>, _: Caller) -> Response {
    let snapshot = shared.handle.snapshots.borrow().clone();
    ([(CONTENT_TYPE, TYPE)], text(&snapshot)).into_response()
}

/// Writes one family of gauges, with at most one label.
fn family(out: &mut String, name: &str, help: &str, label: &str, rows: &[(&str, f64)]) {
    // Writing into a string can't fail.
    let _ = writeln!(out, "# TYPE afk_{name} gauge\n# HELP afk_{name} {help}");
    for (value, figure) in rows {
        let _ = if label.is_empty() {
            writeln!(out, "afk_{name} {figure}")
        } else {
            writeln!(out, "afk_{name}{{{label}=\"{value}\"}} {figure}")
        };
    }
}

// Far below 2^52.
#[allow(clippy::cast_precision_loss)]
fn text(snapshot: &Snapshot) -> String {
    let fleet = &snapshot.fleet;
    let mut out = String::with_capacity(4096);
    let one = |figure: f64| [("", figure)];
    let count = |count: usize| one(count as f64);
    let used = fleet.permits_used();
    let mut outcomes: BTreeMap<&str, f64> = BTreeMap::new();
    let mut jobs: BTreeMap<&str, f64> = BTreeMap::new();
    for run in fleet.runs.values() {
        *outcomes.entry(run.outcome.map_or("live", |outcome| outcome.as_str())).or_default() += 1.0;
        if run.work.job().is_some() {
            *jobs.entry((run).job_status().as_str()).or_default() += 1.0;
        }
    }
    let mut inbox: BTreeMap<&str, f64> = BTreeMap::new();
    for escalation in fleet.inbox() {
        *inbox.entry(escalation.kind.as_str()).or_default() += 1.0;
    }
    let rows = |of: &BTreeMap<&'static str, f64>| -> Vec<(&'static str, f64)> {
        of.iter().map(|(name, figure)| (*name, *figure)).collect()
    };
    let (outcomes, jobs, inbox) = (rows(&outcomes), rows(&jobs), rows(&inbox));
    let killed = one(f64::from(u8::from(fleet.kill_switch())));
    let spent = fleet.books.day(fleet.last_event).usd.0 as f64 / 1e6;
    let capacity = count(fleet.capacity() as usize);
    family(&mut out, "permits", "Permits of the semaphore.", "", &capacity);
    family(&mut out, "permits_used", "Permits in use.", "", &count(used));
    family(
        &mut out,
        "waiting",
        "Runs that wait for a permit.",
        "",
        &count(fleet.live.len() - used),
    );
    family(&mut out, "kill_switch", "1 where nothing is picked up.", "", &killed);
    family(&mut out, "runs", "Runs that are known, by outcome.", "outcome", &outcomes);
    family(&mut out, "jobs", "Jobs that are known, by status.", "status", &jobs);
    family(&mut out, "escalations", "Questions to a human, by kind.", "kind", &inbox);
    family(&mut out, "issues", "Issues in the trackers.", "", &count(fleet.issues.len()));
    family(&mut out, "outbox", "Steps that are to be done.", "", &count(fleet.outbox.len()));
    family(&mut out, "spend_today_usd", "Spend of the UTC day.", "", &one(spent));
    family(&mut out, "problems", "What is wrong.", "", &count(snapshot.problems.len()));
    family(&mut out, "attached", "Cockpits that look.", "", &count(snapshot.clients.len()));
    family(&mut out, "journal_records", "Records.", "", &one(snapshot.seq as f64));
    out.push_str("# EOF\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_fleet_is_whole() {
        let text = text(&Snapshot::default());
        assert!(text.ends_with("# EOF\n") && text.contains("\nafk_kill_switch 1\n"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.split_once(' ').is_some_and(|(_, n)| n.parse::<f64>().is_ok()), "{line}");
        }
    }
}
