//! `GET /metrics`: the text format of `OpenMetrics` 1.0: gauges computed from the newest snapshot, and
//! the count of refusals.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::ApiState;
use super::tokens::Caller;
use crate::runtime::Snapshot;

/// The content type of `OpenMetrics`.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(state): State<ApiState>, _: Caller) -> Response {
    let text = text(&state.snapshot(), &state.handle.refusals().totals());
    ([(CONTENT_TYPE, TYPE)], text).into_response()
}

/// Writes a family of gauges that differ in one label, or a single gauge if `label` is empty.
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

#[allow(clippy::cast_precision_loss, reason = "the counts stay far below 2^52")]
fn text(snapshot: &Snapshot, refusals: &[(&str, u64)]) -> String {
    let fleet = &snapshot.fleet;
    let mut out = String::with_capacity(4096);
    let one = |figure: f64| [("", figure)];
    let count = |count: usize| one(count as f64);
    let used = fleet.permits_used();
    let mut outcomes: BTreeMap<&str, f64> = BTreeMap::new();
    let mut jobs: BTreeMap<&str, f64> = BTreeMap::new();
    for run in fleet.runs.values() {
        *outcomes
            .entry(run.progress.outcome.map_or("live", |outcome| outcome.as_str()))
            .or_default() += 1.0;
        if run.work.job().is_some() {
            *jobs.entry(run.job_status().as_str()).or_default() += 1.0;
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
    family(&mut out, "permits", "Permits in all.", "", &capacity);
    family(&mut out, "permits_used", "Permits in use.", "", &count(used));
    family(
        &mut out,
        "waiting",
        "Runs that wait for a permit.",
        "",
        &count(fleet.live.len() - used),
    );
    family(&mut out, "kill_switch", "1 if all pickup is stopped.", "", &killed);
    family(&mut out, "runs", "Known runs by outcome.", "outcome", &outcomes);
    family(&mut out, "jobs", "Known jobs by status.", "status", &jobs);
    family(&mut out, "escalations", "Open escalations by kind.", "kind", &inbox);
    family(&mut out, "issues", "Issues in the trackers.", "", &count(fleet.issues.len()));
    family(
        &mut out,
        "outbox",
        "Outbox entries that are to be delivered.",
        "",
        &count(fleet.outbox.len()),
    );
    family(&mut out, "spend_today_usd", "Spending of the UTC day in US dollars.", "", &one(spent));
    family(&mut out, "problems", "Problems that afk reports.", "", &count(snapshot.problems.len()));
    family(&mut out, "attached", "Attached cockpits.", "", &count(snapshot.clients.len()));
    family(&mut out, "journal_records", "Records of the journal.", "", &one(snapshot.seq as f64));
    // Writing into a string can't fail.
    let _ = writeln!(
        out,
        "# TYPE afk_refusals counter\n# HELP afk_refusals Refused logins, requests and commands by kind."
    );
    for (kind, total) in refusals {
        let _ = writeln!(out, "afk_refusals_total{{kind=\"{kind}\"}} {total}");
    }
    out.push_str("# EOF\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fleet_exports_every_gauge() {
        let text = text(&Snapshot::default(), &[("ssh-login", 3)]);
        assert!(text.contains("\nafk_refusals_total{kind=\"ssh-login\"} 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n") && text.contains("\nafk_kill_switch 1\n"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.split_once(' ').is_some_and(|(_, n)| n.parse::<f64>().is_ok()), "{line}");
        }
    }
}
