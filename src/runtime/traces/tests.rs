//! Traces from events, and from the batches of a runtime to a collector on loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanCode;
use prost::Message;
use tokio::sync::mpsc;

use super::fold::TraceFold;
use super::start;
use crate::config::Config;
use crate::config::services::TracesConfig;
use crate::core::fleet::Fleet;
use crate::core::model::activity::{Activity, TurnPrompt};
use crate::core::model::agent_event::TurnEnd;
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::event::Event;
use crate::core::model::id::{Actor, IssueKey, Repo, RunId, Sha};
use crate::core::model::run::{Outcome, Work};
use crate::core::model::stage::Phase;
use crate::core::model::time::Timestamp;
use crate::journal::{Journal, JournalRecord};
use crate::notify::otlp::{AttributeValue, RunTrace, SpanStatus, TraceSpan};
use crate::process::Supervisor;
use crate::runtime::Batch;
use crate::runtime::setup::Setup;

const RUN: RunId = RunId(1);

fn claimed(title: &str) -> Event {
    let key = IssueKey { repo: Repo::parse("acme/web").unwrap(), number: 7 };
    let work = Work::Issue { key, title: title.into() };
    Event::Claimed { run: RUN, work, priority: None, term: 0 }
}

fn began(activity: Activity) -> Event {
    Event::Began { run: RUN, activity }
}

/// A run that is sent back by the gate once, and frozen after its push.
fn events() -> Vec<(Timestamp, Event)> {
    let run = RUN;
    let turn = || began(Activity::Turn { prompt: TurnPrompt::Implement });
    let spend =
        Spend { usd: MicroUsd(1_500_000), tokens_in: 10, tokens_out: 2, ..Spend::default() };
    let head = Sha("a".repeat(40));
    let events = [
        (1_000, claimed("Mend\nit\u{1b}[2J")),
        (5_000, Event::Admitted { run }),
        (5_000, Event::Reached { run, phase: Phase::Worktree }),
        (5_000, began(Activity::Worktree)),
        (6_000, turn()),
        (8_000, Event::Spent { run, spend }),
        (9_000, Event::TurnEnded { run, end: TurnEnd::Done }),
        (9_000, began(Activity::Gate)),
        (12_000, Event::GateClosed { run, why: "no test".into(), leaks: Vec::new() }),
        (12_000, turn()),
        (13_000, Event::TurnEnded { run, end: TurnEnd::Done }),
        (13_000, began(Activity::Gate)),
        (14_000, Event::Reached { run, phase: Phase::TestsRed }),
        (14_000, Event::Reached { run, phase: Phase::TestsGreen }),
        (14_000, began(Activity::Push)),
        (15_000, Event::Pushed { run, head }),
        (15_000, Event::Reached { run, phase: Phase::Pushed }),
        (16_000, Event::Ended { run, outcome: Outcome::Frozen, why: "deploy is red".into() }),
    ];
    events.into_iter().map(|(at, event)| (Timestamp(at), event)).collect()
}

fn fold(fold: &mut TraceFold, events: &[(Timestamp, Event)], fleet: &mut Fleet) -> Vec<RunTrace> {
    let mut traces = Vec::new();
    for (at, event) in events {
        fleet.apply(*at, event);
        traces.extend(fold.take(*at, event, fleet));
    }
    traces
}

fn whole(journal: &str) -> RunTrace {
    let mut fleet = Fleet::default();
    let mut traces = TraceFold::new(journal, &fleet);
    let mut traces = fold(&mut traces, &events(), &mut fleet);
    assert_eq!(traces.len(), 1);
    traces.remove(0)
}

fn stretches(trace: &RunTrace) -> Vec<(&str, i64, i64)> {
    trace.spans.iter().map(|span| (&*span.name, span.from.0, span.to.0)).collect()
}

fn attributes(span: &TraceSpan) -> BTreeMap<&str, &AttributeValue> {
    span.attributes.iter().map(|(key, value)| (*key, value)).collect()
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::Text(text.to_owned())
}

#[test]
fn traces_have_the_run_its_phases_and_its_activities_at_their_times() {
    let trace = whole("journal");
    assert_eq!(
        stretches(&trace),
        [
            ("run", 1_000, 16_000),
            ("phase queued", 1_000, 5_000),
            ("phase worktree", 5_000, 14_000),
            ("phase tests-red", 14_000, 14_000),
            ("phase tests-green", 14_000, 15_000),
            ("phase pushed", 15_000, 16_000),
            ("waiting", 1_000, 5_000),
            ("worktree", 5_000, 6_000),
            ("turn", 6_000, 9_000),
            ("gate", 9_000, 12_000),
            ("turn", 12_000, 13_000),
            ("gate", 13_000, 14_000),
            ("push", 14_000, 16_000),
        ]
    );
    let parent = |name: &str| {
        let span = trace.spans.iter().find(|span| span.name == name).unwrap();
        trace.spans.iter().find(|other| Some(other.id) == span.parent).map(|other| &*other.name)
    };
    assert_eq!(parent("run"), None);
    assert_eq!(parent("phase worktree"), Some("run"));
    assert_eq!(parent("gate"), Some("phase worktree"));
    assert_eq!(parent("push"), Some("phase tests-green"));
}

#[test]
fn traces_name_run_issue_outcome_and_spend_with_cleaned_texts() {
    let trace = whole("journal");
    let (run, turn, gate) = (&trace.spans[0], &trace.spans[8], &trace.spans[9]);
    assert_eq!(run.status, SpanStatus::Missed("deploy is red".into()));
    let of_run = attributes(run);
    for (key, value) in [
        ("afk.run", text("r1")),
        ("afk.issue", text("acme/web#7")),
        ("afk.repository", text("acme/web")),
        ("afk.title", text("Mend it")),
        ("afk.outcome", text("frozen")),
        ("afk.spend.usd", AttributeValue::Amount(1.5)),
        ("afk.tokens.in", AttributeValue::Count(10)),
        ("afk.turns", AttributeValue::Count(2)),
    ] {
        assert_eq!(of_run.get(key), Some(&&value), "{key}");
    }
    assert!(!of_run.contains_key("afk.partial"));
    assert_eq!(attributes(turn)["afk.end"], &text("done"));
    assert_eq!(attributes(turn)["afk.spend.usd"], &AttributeValue::Amount(1.5));
    assert_eq!(gate.status, SpanStatus::Missed("no test".into()));
}

#[test]
fn traces_of_the_same_events_have_the_same_ids_and_all_spans_differ() {
    assert_eq!(whole("journal"), whole("journal"));
    assert_ne!(whole("journal").id, whole("another").id);
    let mut ids: Vec<_> = whole("journal").spans.iter().map(|span| span.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn traces_of_a_run_of_an_earlier_life_have_its_phases_and_are_partial() {
    let (before, after) = {
        let mut all = events();
        let after = all.split_off(8);
        (all, after)
    };
    let mut fleet = Fleet::default();
    fold(&mut TraceFold::new("journal", &Fleet::default()), &before, &mut fleet);
    let mut second = TraceFold::new("journal", &fleet);
    let traces = fold(&mut second, &after, &mut fleet);
    let [trace] = &*traces else { panic!("{traces:?}") };
    assert_eq!(trace.id, whole("journal").id, "it is the trace of the same run");
    assert_eq!(
        stretches(trace)[..3],
        [("run", 1_000, 16_000), ("phase queued", 1_000, 5_000), ("phase worktree", 5_000, 14_000)]
    );
    let names: Vec<&str> = trace.spans[6..].iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["gate", "turn", "gate", "push"]);
    let of_run = attributes(&trace.spans[0]);
    assert_eq!(of_run["afk.partial"], &AttributeValue::Flag(true));
    assert_eq!(of_run["afk.spend.usd"], &AttributeValue::Amount(1.5), "the earlier life's");
}

#[test]
fn traces_of_a_reopened_run_begin_at_the_reopening() {
    let mut fleet = Fleet::default();
    let mut traces = TraceFold::new("journal", &fleet);
    fold(&mut traces, &events(), &mut fleet);
    let reopened = Event::Reopened { run: RUN, by: Actor("ana".into()), guidance: "".into() };
    let ended = Event::Ended { run: RUN, outcome: Outcome::Done, why: "".into() };
    let again = [(Timestamp(20_000), reopened), (Timestamp(21_000), ended)];
    let again = fold(&mut traces, &again, &mut fleet);
    let [trace] = &*again else { panic!("{again:?}") };
    assert_ne!(trace.id, whole("journal").id);
    assert_eq!(stretches(trace)[0], ("run", 20_000, 21_000));
    assert_eq!(trace.spans[0].status, SpanStatus::Reached);
}

#[test]
fn traces_are_bounded_and_count_what_found_no_room() {
    let mut fleet = Fleet::default();
    let mut traces = TraceFold::new("journal", &fleet);
    let mut all = vec![(Timestamp(0), claimed(&"long ".repeat(4_000)))];
    all.extend((1..=1_000).map(|at| (Timestamp(at), began(Activity::Rebase))));
    let ended = Event::Ended { run: RUN, outcome: Outcome::Cancelled, why: "".into() };
    all.push((Timestamp(2_000), ended));
    let traces = fold(&mut traces, &all, &mut fleet);
    let [trace] = &*traces else { panic!("{} traces", traces.len()) };
    assert_eq!(trace.spans.len(), 1 + 1 + 400);
    let of_run = attributes(&trace.spans[0]);
    // The wait for the permit is the first of them.
    assert_eq!(of_run["afk.dropped_spans"], &AttributeValue::Count(1_001 - 400));
    let AttributeValue::Text(title) = of_run["afk.title"] else { panic!("{of_run:?}") };
    assert_eq!(title.len(), 300);
}

/// The events of the journals that an earlier afk wrote, by their files.
fn recorded() -> Vec<(String, Vec<(Timestamp, Event)>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal");
    let state = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("demo.sqlite"), state.path().join("journal.sqlite")).unwrap();
    let journal = Journal::open(state.path()).unwrap();
    let mut of_demo = Vec::new();
    let keep = |record: JournalRecord| {
        of_demo.push((record.at, record.event()?));
        Ok(true)
    };
    journal.read(1, keep).unwrap();
    let mut all = vec![("demo".to_owned(), of_demo)];
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|end| end != "jsonl") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let record = |line: &str| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let event = serde_json::from_value(record.get("event")?.clone()).unwrap();
            Some((Timestamp(record["at"].as_i64().unwrap()), event))
        };
        all.push((file.display().to_string(), text.lines().filter_map(record).collect()));
    }
    all
}

#[test]
fn traces_of_recorded_journals_are_trees_with_one_run_each() {
    let mut count = 0;
    for (name, events) in recorded() {
        let (mut fleet, mut by) = (Fleet::default(), TraceFold::new("journal", &Fleet::default()));
        for trace in fold(&mut by, &events, &mut fleet) {
            count += 1;
            let spans: BTreeMap<_, _> = trace.spans.iter().map(|span| (span.id, span)).collect();
            assert_eq!(spans.len(), trace.spans.len(), "{name}: two spans have one id");
            for span in &trace.spans {
                assert!(span.from <= span.to, "{name}: {span:?}");
                let Some(parent) = span.parent else {
                    assert_eq!(span.name, "run");
                    continue;
                };
                let parent = spans[&parent];
                assert!(parent.from <= span.from && span.from <= parent.to, "{name}: {span:?}");
            }
            let roots = trace.spans.iter().filter(|span| span.parent.is_none());
            assert_eq!(roots.count(), 1, "{name}");
        }
        if name == "demo" {
            let ended = events.iter().filter(|(_, event)| matches!(event, Event::Ended { .. }));
            assert_eq!(count, ended.count());
        }
    }
    assert!(count >= 20, "only {count} traces");
}

/// A request to the collector.
struct Received {
    path: String,
    headers: HeaderMap,
    request: ExportTraceServiceRequest,
}

#[derive(Clone)]
struct Collector {
    received: mpsc::UnboundedSender<Received>,
    /// The statuses of the next answers; then 200.
    statuses: Arc<std::sync::Mutex<Vec<u16>>>,
}

async fn take(
    State(to): State<Collector>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let path = uri.path().to_owned();
    to.received.send(Received { path, headers, request }).unwrap();
    let status = to.statuses.lock().unwrap().pop().unwrap_or(200);
    StatusCode::from_u16(status).unwrap()
}

/// A collector on loopback with its first answers, the last one first.
async fn collector(statuses: &[u16]) -> (SocketAddr, mpsc::UnboundedReceiver<Received>) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (received, requests) = mpsc::unbounded_channel();
    let statuses = Arc::new(std::sync::Mutex::new(statuses.to_vec()));
    let app = Router::new().fallback(take).with_state(Collector { received, statuses });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, requests)
}

fn value(attributes: &[KeyValue], key: &str) -> Value {
    let found = attributes.iter().find(|pair| pair.key == key);
    let found = found.and_then(|pair| pair.value.clone()).and_then(|value| value.value);
    found.unwrap_or_else(|| panic!("there is no {key}"))
}

/// A runtime's context with this collector, without its event loop.
fn setup(folder: &std::path::Path, address: SocketAddr, token: Option<String>) -> Setup {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let traces =
        TracesConfig { endpoint: format!("http://{address}"), token, headers: BTreeMap::new() };
    let config = Config { traces: Some(traces), ..Config::default() };
    let supervisor = Supervisor::new("afk".into(), "journal".into(), std::time::Duration::ZERO);
    Setup::new(&config, folder, "journal", &Fleet::default(), 0, supervisor, None).unwrap()
}

#[tokio::test]
async fn traces_reach_a_collector_as_otlp_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    crate::whole_file::replace(&token, b"t-0123456789", 0o600).unwrap();
    let (address, mut requests) = collector(&[]).await;
    let reference = format!("file:{}", token.display());
    let setup = setup(folder.path(), address, Some(reference));
    let tasks = start(&setup.context, &Fleet::default(), setup.handle.snapshots.clone());
    let batch = Batch { last: 18, events: events().into() };
    setup.context.batches.send(batch).unwrap();
    tasks.finish().await;
    let received = requests.try_recv().expect("the end has flushed the trace");
    assert_eq!(received.path, "/v1/traces");
    assert_eq!(received.headers["content-type"], "application/x-protobuf");
    assert_eq!(received.headers["authorization"], "Bearer t-0123456789");
    let [resource_spans] = &*received.request.resource_spans else { panic!("one resource") };
    let resource = resource_spans.resource.as_ref().unwrap();
    assert_eq!(value(&resource.attributes, "service.name"), Value::StringValue("afk".into()));
    let spans: Vec<&Span> =
        resource_spans.scope_spans.iter().flat_map(|scope| &scope.spans).collect();
    let expected = whole("journal");
    assert_eq!(spans.len(), expected.spans.len());
    assert!(spans.iter().all(|span| span.trace_id == expected.id));
    let root = spans.iter().find(|span| span.parent_span_id.is_empty()).unwrap();
    assert_eq!((&*root.name, root.start_time_unix_nano), ("run", 1_000_000_000));
    assert_eq!(root.end_time_unix_nano, 16_000_000_000);
    assert_eq!(value(&root.attributes, "afk.outcome"), Value::StringValue("frozen".into()));
    let status = root.status.as_ref().unwrap();
    assert_eq!((status.code(), &*status.message), (SpanCode::Error, "deploy is red"));
}

#[tokio::test]
async fn traces_that_a_collector_refuses_are_a_problem_and_the_end_does_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let (address, mut requests) = collector(&[503, 401]).await;
    let mut setup = setup(folder.path(), address, None);
    let tasks = start(&setup.context, &Fleet::default(), setup.handle.snapshots.clone());
    setup.context.batches.send(Batch { last: 18, events: events().into() }).unwrap();
    assert!(requests.recv().await.is_some());
    // The report wakes the loop once it is there.
    assert!(setup.urgent.recv().await.is_some());
    let problems = setup.context.side_state.problem_lines();
    assert_eq!(
        problems,
        [
            "traces: the collector answered 401",
            "traces: 1 run has none, because the collector did not take it",
        ]
    );
    // The pause after a refusal is minutes long; the end cuts it short.
    setup.context.batches.send(Batch { last: 36, events: events().into() }).unwrap();
    tasks.finish().await;
    assert!(requests.try_recv().is_ok(), "the end has tried the next trace once");
    assert!(requests.try_recv().is_err());
}
