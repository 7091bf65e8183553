//! `GET /metrics`: gauges computed from the newest snapshot, the counters of the runtime, the count of
//! refusals and of calls to services.
//!
//! A scraper that accepts `OpenMetrics` gets `OpenMetrics` 1.0, as Prometheus does; any other reader gets
//! the older text format, which `promtool check metrics` reads.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::ApiState;
use super::tokens::Caller;
use crate::core::model::outage::OutageKind;
use crate::core::model::run::Outcome;
use crate::core::model::time::Timestamp;
use crate::network::calls;
use crate::runtime::Snapshot;
use crate::runtime::clock::wall;
use crate::version;

/// The content type of `OpenMetrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of the older text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

type SampleLabels = Vec<(&'static str, String)>;
type Figure = Gauge<f64, std::sync::atomic::AtomicU64>;

pub(super) async fn metrics(
    State(state): State<ApiState>,
    headers: HeaderMap,
    _: Caller,
) -> Response {
    let snapshot = state.snapshot();
    let mut registry = Registry::with_prefix("afk");
    let leads = state.handle.leader().is_none();
    gauges(&mut registry, &snapshot, leads, wall());
    if let Some(age) = state.handle.tracker_age() {
        let help = "Time since the trackers were last read";
        figure(&mut registry, "tracker_age", help, Some(Unit::Seconds), age.as_secs_f64());
    }
    counts(&mut registry, &state.handle.refusals().totals());
    let mut text = String::with_capacity(32 * 1024);
    // Writing into a string can't fail.
    let _ = encode_registry(&mut text, &registry);
    let _ = encode_registry(&mut text, state.handle.metrics().registry());
    let _ = encode_eof(&mut text);
    if accepts_open_metrics(&headers) {
        return ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response();
    }
    ([(CONTENT_TYPE, TEXT)], text_format(&text)).into_response()
}

fn accepts_open_metrics(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("application/openmetrics-text"))
}

/// Rewrites `OpenMetrics` as the older text format: there a counter's family has the name of its samples,
/// and there are no infos, units and ends.
fn text_format(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take() {
                text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Adds one figure.
fn figure(to: &mut Registry, name: &str, help: &str, unit: Option<Unit>, value: f64) {
    let gauge = Figure::default();
    gauge.set(value);
    match unit {
        Some(unit) => to.register_with_unit(name, help, unit, gauge),
        None => to.register(name, help, gauge),
    }
}

/// Adds figures that differ in one label.
fn figures(
    to: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    rows: impl IntoIterator<Item = (String, f64)>,
) {
    let family = Family::<SampleLabels, Figure>::default();
    for (value, figure) in rows {
        family.get_or_create(&vec![(label, value)]).inc_by(figure);
    }
    to.register(name, help, family);
}

#[allow(clippy::cast_precision_loss, reason = "the counts stay far below 2^52")]
fn gauges(to: &mut Registry, snapshot: &Snapshot, leads: bool, now: Timestamp) {
    let fleet = &snapshot.fleet;
    let build: SampleLabels = [("version", version::VERSION), ("commit", version::COMMIT)]
        .map(|(name, value)| (name, value.to_owned()))
        .into();
    to.register("build", "The version of this afk", Info::new(build));
    let mut count = |name, help, value: usize| figure(to, name, help, None, value as f64);
    let used = fleet.permits_used();
    count("leads", "1 if this afk leads, 0 if it follows another one", usize::from(leads));
    count("kill_switch", "1 if all pickup is stopped", usize::from(fleet.kill_switch()));
    count(
        "pickup_paused",
        "1 if the breaker pauses pickup",
        usize::from(fleet.breaker.open().is_some()),
    );
    count("permits", "Permits in all", fleet.capacity() as usize);
    count("permits_used", "Permits in use", used);
    count("at_work", "Runs that hold a permit and wait for nobody", fleet.count_at_work());
    let asking = fleet.waiting_for_human();
    count("waiting_for_human", "Live runs whose agent waits for a human", asking.len());
    count("waiting", "Runs that wait for a permit", fleet.live.len().saturating_sub(used));
    count("repositories_locked", "Repositories whose lock a run holds", fleet.locks.len());
    count("issues", "Issues in the trackers", fleet.issues.len());
    count("outbox", "Completion steps that are to be delivered", fleet.outbox.len());
    let held = fleet.outbox.values().filter(|entry| entry.held).count();
    count("outbox_held", "Completion steps that wait for an operator", held);
    count("problems", "Problems that afk reports", snapshot.problems.len());
    count("attached", "Attached cockpits", snapshot.clients.len());
    count("journal_records", "Records of the journal", usize::try_from(snapshot.seq).unwrap_or(0));

    let since = |at: Option<Timestamp>| at.map_or(0.0, |at| now.since(at).max(0) as f64 / 1000.0);
    let inbox = fleet.inbox();
    let oldest = inbox.iter().map(|question| question.raised).min();
    let help = "Age of the oldest open question; 0 without one";
    figure(to, "oldest_question_age", help, Some(Unit::Seconds), since(oldest));
    let first = fleet.live_runs().filter(|run| !run.has_permit()).map(|run| run.progress.claimed);
    let help = "Age of the oldest run that waits for a permit; 0 without one";
    figure(to, "oldest_waiting_run_age", help, Some(Unit::Seconds), since(first.min()));

    let spent = fleet.books.day(now).usd.dollars();
    figure(to, "spend_today_dollars", "Spending of the UTC day in US dollars", None, spent);
    let policy = &fleet.policy;
    let limits =
        [("day", policy.day_limit), ("day-soft", policy.day_soft_limit), ("run", policy.run_limit)];
    let limits = limits
        .into_iter()
        .filter_map(|(name, limit)| limit.map(|limit| (name.to_owned(), limit.dollars())));
    let help = "Limits of spending in US dollars, where they are set";
    figures(to, "spend_limit_dollars", help, "limit", limits);

    let outcomes =
        [Outcome::Done, Outcome::NeedsHuman, Outcome::Frozen, Outcome::Cancelled, Outcome::Failed];
    // Every value of a closed set has a sample, so that an alert on 0 and one on more work at once.
    let zero = outcomes.iter().map(|outcome| outcome.as_str()).chain(["live"]);
    let runs = fleet.runs.values().map(|run| run.progress.outcome.map_or("live", |o| o.as_str()));
    let rows = zero.map(|name| (name.to_owned(), 0.0));
    let rows = rows.chain(runs.map(|name| (name.to_owned(), 1.0)));
    figures(to, "runs", "Known runs by outcome", "outcome", rows);
    let jobs = fleet.runs.values().filter(|run| run.work.job().is_some());
    let rows = jobs.map(|run| (run.job_status().as_str().to_owned(), 1.0));
    figures(to, "jobs", "Known jobs by status", "status", rows);
    let rows = inbox.iter().map(|question| (question.kind.as_str().to_owned(), 1.0));
    figures(to, "escalations", "Open questions by kind", "kind", rows);
    let zero = OutageKind::ALL.iter().map(|kind| (kind.as_str().to_owned(), 0.0));
    let open = fleet.outages.holding().map(|outage| (outage.cause.kind.as_str().to_owned(), 1.0));
    figures(to, "outages", "Outages that hold runs back, by kind", "kind", zero.chain(open));
}

/// Adds the counts that the process keeps besides the journal.
fn counts(to: &mut Registry, refusals: &[(&'static str, u64)]) {
    let refused = Family::<SampleLabels, Counter>::default();
    for (kind, total) in refusals {
        refused.get_or_create(&vec![("kind", (*kind).to_owned())]).inc_by(*total);
    }
    let help = "Refused logins, requests and commands by kind";
    to.register("refusals", help, refused);
    let called = Family::<SampleLabels, Counter>::default();
    for (service, status, total) in calls::totals() {
        let labels = vec![("service", service.to_owned()), ("status", status)];
        called.get_or_create(&labels).inc_by(total);
    }
    let help = "Calls to services by the status of the answer; none is no answer";
    to.register("api_requests", help, called);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::core::fleet::Fleet;
    use crate::runtime::metrics::Metrics;

    /// The metrics of a fleet in which everything has happened once.
    fn open_metrics() -> String {
        let mut snapshot = Snapshot::default();
        snapshot.fleet.policy.day_limit = Some(crate::core::model::budget::MicroUsd(5_000_000));
        let mut registry = Registry::with_prefix("afk");
        gauges(&mut registry, &snapshot, true, Timestamp(1));
        figure(&mut registry, "tracker_age", "x", Some(Unit::Seconds), 1.0);
        calls::record("github", Some(200));
        counts(&mut registry, &[("ssh-login", 3)]);
        let mut text = String::new();
        encode_registry(&mut text, &registry).unwrap();
        encode_registry(&mut text, Metrics::new(&Fleet::default()).registry()).unwrap();
        encode_eof(&mut text).unwrap();
        text
    }

    #[test]
    fn empty_fleet_exports_every_gauge() {
        let text = open_metrics();
        for line in [
            "afk_refusals_total{kind=\"ssh-login\"} 3",
            "afk_kill_switch 1.0",
            "afk_spend_limit_dollars{limit=\"day\"} 5.0",
            "afk_runs{outcome=\"frozen\"} 0.0",
            "afk_oldest_question_age_seconds 0.0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("afk_build_info{version=\"") && text.ends_with("# EOF\n"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit_once(' ').is_some_and(|(_, n)| n.parse::<f64>().is_ok()), "{line}");
        }
    }

    #[test]
    fn text_format_names_a_family_as_its_samples() {
        let text = text_format(&open_metrics());
        assert!(text.contains("# HELP afk_refusals_total Refused"), "{text}");
        assert!(text.contains("\n# TYPE afk_refusals_total counter\n"), "{text}");
        assert!(text.contains("\n# TYPE afk_build_info gauge\n"), "{text}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "a test says when it is skipped")]
    fn promtool_accepts_the_text_format() {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]);
        promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut child) = promtool.spawn() else {
            eprintln!("SKIPPED: promtool is not installed");
            return;
        };
        child.stdin.take().unwrap().write_all(text_format(&open_metrics()).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
    }

    /// The names of metrics in queries.
    fn queried(text: &str) -> BTreeSet<String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let words = text.split(|c| !is_name(c));
        words.filter(|word| word.starts_with("afk_")).map(str::to_owned).collect()
    }

    /// The expressions of a dashboard or of rules: the values of `expr` and of `query`.
    fn expressions(value: &serde_json::Value, found: &mut String) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), value.as_str()) {
                        ("expr" | "query", Some(text)) => {
                            found.push_str(text);
                            found.push('\n');
                        }
                        _ => expressions(value, found),
                    }
                }
            }
            serde_json::Value::Array(all) => all.iter().for_each(|one| expressions(one, found)),
            _ => {}
        }
    }

    #[test]
    fn dashboard_and_rules_query_only_metrics_that_exist() {
        // Families without a closed set of labels have no sample before their first event.
        let later = [
            "afk_runs_claimed_total",
            "afk_runs_ended_total",
            "afk_turns_total",
            "afk_pushes_total",
            "afk_push_rejections_total",
            "afk_run_failures_total",
            "afk_spend_dollars_total",
            "afk_escalations_raised_total",
            "afk_outage_tries_total",
            "afk_turn_duration_seconds_bucket",
            "afk_run_duration_seconds_bucket",
            "afk_escalations",
            "afk_jobs",
        ];
        let text = open_metrics();
        let exported = |name: &str| {
            text.lines().any(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
            })
        };
        let dashboard = include_str!("../../../assets/monitoring/dashboard.json");
        let mut queries = String::new();
        expressions(&serde_json::from_str(dashboard).unwrap(), &mut queries);
        let rules = include_str!("../../../assets/monitoring/alerts.yml");
        let in_rules = rules.lines().filter(|line| !line.contains("description:"));
        let all = in_rules.fold(queries, |all, line| all + line + "\n");
        let names = queried(&all);
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            assert!(exported(&name) || later.contains(&&*name), "{name} is not exported");
        }
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "a test says when it is skipped")]
    fn promtool_accepts_the_alert_rules() {
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/monitoring/alerts.yml");
        let mut promtool = std::process::Command::new("promtool");
        let Ok(output) = promtool.args(["check", "rules", rules]).output() else {
            eprintln!("SKIPPED: promtool is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
    }
}
