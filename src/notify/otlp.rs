//! Runs as traces of OpenTelemetry, by OTLP over HTTP in the binary encoding, which every collector takes.
//! `runtime::traces` builds a [`RunTrace`] from the journal's events and sends it with [`push`].
//!
//! afk speaks OTLP itself, with the messages of OpenTelemetry: a failed call then has its address, its
//! cause and the collector's own words, as with every other service.

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::ExposeSecret;

use crate::config::services::TracesConfig;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::core::tables::sink::{self, SinkOutcome};
use crate::error::chain;
use crate::network::{NetworkError, calls};
use crate::secrets::Secrets;

/// The bytes of an answer that are read at most.
const LONGEST_ANSWER: usize = 64 * 1024;
/// The characters of an answer that a problem shows at most.
const SHOWN: usize = 400;

/// The encoding of requests and answers.
const PROTOBUF: &str = "application/x-protobuf";

/// The id of a trace, which is not all zeros.
pub(crate) type TraceId = [u8; 16];
/// The id of a span within its trace, which is not all zeros.
pub(crate) type SpanId = [u8; 8];

/// A run from its claim to its end, with everything that it did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunTrace {
    pub id: TraceId,
    /// The run itself first.
    pub spans: Vec<TraceSpan>,
}

/// A stretch of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TraceSpan {
    pub id: SpanId,
    /// None for the run itself.
    pub parent: Option<SpanId>,
    pub name: Cow<'static, str>,
    pub from: Timestamp,
    pub to: Timestamp,
    pub attributes: Vec<(&'static str, AttributeValue)>,
    pub status: SpanStatus,
}

/// The value of an attribute; texts from outside are cleaned and cut before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AttributeValue {
    Text(String),
    Count(i64),
    Amount(f64),
    Flag(bool),
}

/// Whether a stretch of a run reached its goal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum SpanStatus {
    /// It has no goal of its own.
    #[default]
    Unset,
    Reached,
    /// It did not, for this reason.
    Missed(String),
}

/// Encodes traces of the journal with this id as one request.
pub(crate) fn encode(traces: &[RunTrace], journal: &str) -> Vec<u8> {
    let attributes = [
        ("service.name", "afk"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", journal),
    ];
    let attributes = attributes.map(|(key, text)| (key, AttributeValue::Text(text.to_owned())));
    let resource = Resource { attributes: key_values(&attributes), ..Resource::default() };
    let scope = InstrumentationScope { name: "afk".into(), ..InstrumentationScope::default() };
    let spans = traces.iter().flat_map(|trace| trace.spans.iter().map(|span| message(trace, span)));
    let spans = ScopeSpans { scope: Some(scope), spans: spans.collect(), ..ScopeSpans::default() };
    let resource_spans = vec![ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![spans],
        ..ResourceSpans::default()
    }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn message(trace: &RunTrace, span: &TraceSpan) -> Span {
    let (code, message) = match &span.status {
        SpanStatus::Unset => (StatusCode::Unset, ""),
        SpanStatus::Reached => (StatusCode::Ok, ""),
        SpanStatus::Missed(why) => (StatusCode::Error, why.as_str()),
    };
    Span {
        trace_id: trace.id.to_vec(),
        span_id: span.id.to_vec(),
        parent_span_id: span.parent.map(|id| id.to_vec()).unwrap_or_default(),
        name: span.name.to_string(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: nanoseconds(span.from),
        end_time_unix_nano: nanoseconds(span.to),
        attributes: key_values(&span.attributes),
        status: Some(Status { code: code.into(), message: message.to_owned() }),
        ..Span::default()
    }
}

fn key_values(attributes: &[(&'static str, AttributeValue)]) -> Vec<KeyValue> {
    let pair = |(key, value): &(&str, AttributeValue)| {
        let value = match value {
            AttributeValue::Text(text) => Value::StringValue(text.clone()),
            AttributeValue::Count(count) => Value::IntValue(*count),
            AttributeValue::Amount(amount) => Value::DoubleValue(*amount),
            AttributeValue::Flag(flag) => Value::BoolValue(*flag),
        };
        let value = Some(AnyValue { value: Some(value) });
        KeyValue { key: (*key).to_owned(), value, ..KeyValue::default() }
    };
    attributes.iter().map(pair).collect()
}

/// A time of the journal, which counts milliseconds.
fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000_000)
}

/// Sends a request; gives the outcome by table T10, and the collector's words. A request of which the
/// collector rejected a part is [`SinkOutcome::Done`] with its words: it is never sent again.
///
/// # Errors
/// A line for the operator: the collector may or may not have the traces.
pub(crate) async fn push(
    client: &reqwest::Client,
    secrets: &Secrets,
    config: &TracesConfig,
    body: Vec<u8>,
) -> Result<(SinkOutcome, String), String> {
    let address = config.address();
    let mut request = client.post(&address).header(CONTENT_TYPE, PROTOBUF).body(body);
    if let Some(reference) = &config.token {
        let token = secrets.get(reference).await.map_err(|error| chain(&error))?;
        request = request.bearer_auth(token.expose_secret());
    }
    for (name, reference) in &config.headers {
        let value = secrets.get(reference).await.map_err(|error| chain(&error))?;
        let mut value = HeaderValue::from_str(value.expose_secret())
            .map_err(|_| format!("traces.headers.{name}: the secret is no value of a header"))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let failed = |error: reqwest::Error| chain(&NetworkError::new(&address, error));
    let mut answer = calls::send("traces", request).await.map_err(failed)?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        let room = LONGEST_ANSWER - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == LONGEST_ANSWER {
            break;
        }
    }
    Ok(judge(status, &headers, &body))
}

fn judge(status: u16, headers: &HeaderMap, body: &[u8]) -> (SinkOutcome, String) {
    let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let outcome = sink::otlp(status, after.and_then(|text| text.parse().ok()));
    let is_protobuf =
        headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == PROTOBUF.as_bytes());
    if outcome == SinkOutcome::Done {
        let answer = ExportTraceServiceResponse::decode(body).ok().filter(|_| is_protobuf);
        return match answer.and_then(|answer| answer.partial_success) {
            Some(ExportTracePartialSuccess { rejected_spans: 0, error_message })
                if error_message.is_empty() =>
            {
                (outcome, String::new())
            }
            Some(ExportTracePartialSuccess { rejected_spans, error_message }) => {
                let words = shown(&error_message);
                // It keeps the others, and the rejected ones are not sent again.
                (outcome, format!("the collector rejected {rejected_spans} spans: {words}"))
            }
            None => (outcome, String::new()),
        };
    }
    // An error is a `google.rpc.Status`: its number and its message have the tags and types of these fields.
    let words = ExportTracePartialSuccess::decode(body).ok().filter(|_| is_protobuf);
    let words = match words {
        Some(error) => shown(&error.error_message),
        None => shown(&String::from_utf8_lossy(body)),
    };
    (outcome, format!("the collector answered {status} {words}").trim_end().to_owned())
}

fn shown(text: &str) -> String {
    clean_line(&text.chars().take(SHOWN).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let parsed = |(name, value): &(&'static str, &'static str)| {
            (name.parse().unwrap(), HeaderValue::from_static(value))
        };
        pairs.iter().map(parsed).collect()
    }

    #[test]
    fn traces_answer_is_judged_by_status_and_shown_in_a_line() {
        let text = headers(&[("content-type", "text/plain"), ("retry-after", "7")]);
        let (outcome, why) = judge(503, &text, b"over\nloaded\x1b[2J");
        assert_eq!(outcome, SinkOutcome::Retry(7));
        assert_eq!(why, "the collector answered 503 over loaded");
        let binary = headers(&[("content-type", PROTOBUF)]);
        let error =
            ExportTracePartialSuccess { rejected_spans: 3, error_message: "bad span".into() };
        let (outcome, why) = judge(400, &binary, &error.encode_to_vec());
        assert_eq!(outcome, SinkOutcome::Drop);
        assert_eq!(why, "the collector answered 400 bad span");
        assert_eq!(judge(200, &binary, &[]), (SinkOutcome::Done, String::new()));
    }

    #[test]
    fn traces_that_a_collector_rejects_in_part_are_a_problem_and_not_sent_again() {
        let rejected =
            ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".into() };
        let answer = ExportTraceServiceResponse { partial_success: Some(rejected) };
        let binary = headers(&[("content-type", PROTOBUF)]);
        let judged = judge(200, &binary, &answer.encode_to_vec());
        assert_eq!(judged, (SinkOutcome::Done, "the collector rejected 2 spans: too old".into()));
    }
}
