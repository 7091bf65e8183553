use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::agent::acp::AcpProtocol;
use crate::agent::text::TextProtocol;
use crate::agent::{Tariff, TurnLimits};
use crate::config::agent::{AcpProfile, Protocol};
use crate::core::model::budget::{MicroUsd, Spend};
use crate::process::Usage;
use crate::redact::Redactor;

fn spec(speaks: Protocol, tariff: Tariff, budget: Option<f64>) -> TurnSpec {
    let seconds = Duration::from_secs;
    TurnSpec {
        owner: "r1".into(),
        speaks,
        acp: AcpProfile::default(),
        command: vec!["agent".into()],
        cwd: "/w".into(),
        env: BTreeMap::new(),
        prompt: "do it".into(),
        resume: None,
        session_cost: MicroUsd(0),
        budget: budget.map(MicroUsd::from_usd),
        model: None,
        max_steps: None,
        tools: true,
        tool_server: None,
        dry: false,
        tariff,
        limits: TurnLimits {
            turn: seconds(100_000),
            silence: seconds(60),
            may_be_silent: false,
            tool: seconds(1800),
            memory: u64::MAX,
        },
        inherit: Vec::new(),
        redactor: Redactor::new(Vec::<String>::new()),
        sandbox: None,
        stream_output: false,
        record: None,
    }
}

/// Processes that use a share of a core, in clock ticks per look.
struct Host {
    ticks: AtomicU64,
    per_look: u64,
    youngest: Option<Duration>,
}

impl Host {
    const fn with(per_look: u64, youngest: Option<Duration>) -> Self {
        Self { ticks: AtomicU64::new(0), per_look, youngest }
    }
}

impl TurnHost for Host {
    fn usage(&self) -> Usage {
        let cpu_ticks = self.ticks.fetch_add(self.per_look, Ordering::Relaxed) + self.per_look;
        Usage { cpu_ticks, youngest: self.youngest, ..Usage::default() }
    }
}

/// A turn in progress: lines go in, and lines, events and the outcome come out.
struct Turn {
    to_loop: mpsc::Sender<AgentLine>,
    from_loop: mpsc::Receiver<Vec<u8>>,
    events: mpsc::Receiver<AgentEvent>,
    control: mpsc::Sender<TurnControl>,
    outcome: tokio::task::JoinHandle<TurnOutcome>,
}

impl Turn {
    fn start(protocol: Box<dyn AgentProtocol>, spec: TurnSpec, host: Host) -> Self {
        let (to_loop, lines) = mpsc::channel(64);
        let (out, from_loop) = mpsc::channel(TO_WRITE);
        let (sender, events) = mpsc::channel(1024);
        let (control, mut controls) = mpsc::channel(8);
        let outcome = tokio::spawn(async move {
            let mut turn = TurnLoop::new(protocol, &spec, &sender, out);
            turn.run(&host, lines, &mut controls).await
        });
        Self { to_loop, from_loop, events, control, outcome }
    }

    /// An ACP agent whose session is open and whose prompt is sent.
    async fn acp(profile: AcpProfile, spec: TurnSpec, host: Host) -> Self {
        let mut turn = Self::start(Box::new(AcpProtocol::new(profile)), spec, host);
        turn.send(json!({"id": 1, "result": {"protocolVersion": 1, "agentCapabilities": {}}}))
            .await;
        turn.send(json!({"id": 2, "result": {"sessionId": "s"}})).await;
        assert_eq!(turn.receive("session/prompt").await["id"], 3);
        turn
    }

    #[allow(clippy::needless_pass_by_value, reason = "the callers build it on the spot")]
    async fn send(&self, line: Value) {
        self.send_text(&line.to_string()).await;
    }

    async fn send_text(&self, line: &str) {
        let line = AgentLine { bytes: line.as_bytes().to_vec(), cut: false };
        self.to_loop.send(line).await.ok().unwrap();
    }

    /// A tool of an ACP agent with so many bytes of output.
    async fn tool(&self, id: &str, bytes: usize) {
        let update = |update: Value| json!({"method": "session/update", "params": {"sessionId": "s", "update": update}});
        let start = json!({"sessionUpdate": "tool_call", "toolCallId": id, "title": "make",
            "kind": "execute", "status": "in_progress"});
        self.send(update(start)).await;
        let output =
            json!([{"type": "content", "content": {"type": "text", "text": "x".repeat(bytes)}}]);
        let end = json!({"sessionUpdate": "tool_call_update", "toolCallId": id,
            "status": "completed", "content": output});
        self.send(update(end)).await;
    }

    /// The next line for the agent with this method.
    async fn receive(&mut self, method: &str) -> Value {
        loop {
            let line = self.from_loop.recv().await.expect("the loop ended");
            let line: Value = serde_json::from_slice(&line).unwrap();
            if line["method"] == method {
                return line;
            }
        }
    }

    /// Every event until the end, and the end.
    async fn end(mut self) -> (Vec<AgentEvent>, TurnEnd) {
        let mut events = Vec::new();
        while let Some(event) = self.events.recv().await {
            events.push(event);
        }
        drop(self.control);
        let end = match self.outcome.await.unwrap() {
            TurnOutcome::Reported(end) | TurnOutcome::Stopped(end) => end,
            TurnOutcome::OutputClosed => TurnEnd::Crashed { why: "closed".into() },
        };
        (events, end)
    }
}

fn spent(events: &[AgentEvent]) -> Spend {
    let mut sum = Spend::default();
    for event in events {
        if let AgentEvent::Usage(spend) = event {
            sum.add(*spend);
        }
    }
    sum
}

fn answer(id: u64, reason: &str, tokens: Option<u64>) -> Value {
    let mut line = json!({"id": id, "result": {"stopReason": reason}});
    if let Some(tokens) = tokens {
        line["result"]["usage"] =
            json!({"inputTokens": tokens, "outputTokens": 0, "totalTokens": tokens});
    }
    line
}

/// One dollar for a thousand tokens.
const DEAR: Tariff = Tariff::Priced { input: 1000.0, output: 0.0 };

#[tokio::test]
async fn budget_holds_within_a_turn_of_an_agent_that_reports_at_its_end() {
    // The agent's instructions alone are worth $8.
    let spec = spec(Protocol::Acp, DEAR, Some(20.0));
    let mut turn = Turn::acp(AcpProfile::default(), spec, Host::with(0, None)).await;
    for id in ["a", "b", "c"] {
        turn.tool(id, 40).await;
    }
    // The third request is likely over it: afk has the agent report.
    turn.receive("session/cancel").await;
    turn.send(answer(3, "cancelled", Some(6_000))).await;
    let again = turn.receive("session/prompt").await;
    assert!(again["params"]["prompt"][0]["text"].as_str().unwrap().contains("Continue"));
    // It was $6 in truth, so that there is room for more requests than before.
    for id in 0..6 {
        turn.tool(&format!("d{id}"), 40).await;
    }
    turn.tool("e", 40).await;
    turn.receive("session/cancel").await;
    turn.send(answer(4, "cancelled", Some(14_500))).await;
    let (events, end) = turn.end().await;
    assert_eq!(end, TurnEnd::Budget);
    assert_eq!(spent(&events).usd.to_string(), "$20.50");
}

#[tokio::test]
async fn turn_that_is_done_at_a_checkpoint_is_done() {
    let spec = spec(Protocol::Acp, DEAR, Some(10.0));
    let mut turn = Turn::acp(AcpProfile::default(), spec, Host::with(0, None)).await;
    turn.tool("a", 40).await;
    turn.tool("b", 40).await;
    turn.receive("session/cancel").await;
    turn.send(answer(3, "end_turn", Some(3_000))).await;
    let (events, end) = turn.end().await;
    assert_eq!((end, spent(&events).usd), (TurnEnd::Done, MicroUsd::from_usd(3.0)));
}

#[tokio::test]
async fn interrupt_of_an_operator_during_a_checkpoint_ends_the_turn() {
    let spec = spec(Protocol::Acp, DEAR, Some(10.0));
    let mut turn = Turn::acp(AcpProfile::default(), spec, Host::with(0, None)).await;
    turn.tool("a", 40).await;
    turn.tool("b", 40).await;
    turn.receive("session/cancel").await;
    turn.control.send(TurnControl::Interrupt).await.unwrap();
    // The loop reads its controls in order: once the message is on its way, it knows the interrupt.
    let (text, by) = ("stop there".into(), "ana".into());
    turn.control.send(TurnControl::Steer { text, by }).await.unwrap();
    while !matches!(turn.events.recv().await.expect("the turn goes on"), AgentEvent::Steered { .. })
    {
    }
    turn.send(answer(3, "cancelled", Some(3_000))).await;
    let (_, end) = turn.end().await;
    assert_eq!(end, TurnEnd::Interrupted);
}

#[tokio::test]
async fn interrupt_of_an_operator_after_a_nudge_ends_the_turn() {
    let mut turn = Turn::acp(AcpProfile::default(), impatient(500), Host::with(0, None)).await;
    turn.receive("session/cancel").await;
    turn.control.send(TurnControl::Interrupt).await.unwrap();
    let (text, by) = ("stop there".into(), "ana".into());
    turn.control.send(TurnControl::Steer { text, by }).await.unwrap();
    while !matches!(turn.events.recv().await.expect("the turn goes on"), AgentEvent::Steered { .. })
    {
    }
    turn.send(answer(3, "cancelled", None)).await;
    let (_, end) = turn.end().await;
    assert_eq!(end, TurnEnd::Interrupted);
}

#[tokio::test]
async fn usage_that_no_agent_tells_is_estimated_and_marked() {
    let spec = spec(Protocol::Acp, Tariff::Reported, None);
    let turn = Turn::acp(AcpProfile::default(), spec, Host::with(0, None)).await;
    turn.tool("a", 4000).await;
    turn.tool("b", 40).await;
    turn.send(answer(3, "end_turn", None)).await;
    let (events, end) = turn.end().await;
    let spend = spent(&events);
    assert_eq!(end, TurnEnd::Done);
    assert!((17_000..18_000).contains(&spend.tokens_in), "{spend:?}");
    assert_eq!(spend.estimated_tokens, spend.tokens_in + spend.tokens_out);
    assert!(spend.summary().starts_with('~'), "{}", spend.summary());
}

#[tokio::test]
async fn failed_request_costs_nothing() {
    let spec = spec(Protocol::Acp, DEAR, None);
    let turn = Turn::acp(AcpProfile::default(), spec, Host::with(0, None)).await;
    let said = json!({"sessionUpdate": "agent_message_chunk",
        "content": {"type": "text", "text": "Error: 400 no such model"}});
    turn.send(json!({"method": "session/update", "params": {"sessionId": "s", "update": said}}))
        .await;
    turn.send(answer(3, "end_turn", None)).await;
    let (events, end) = turn.end().await;
    assert!(matches!(end, TurnEnd::ApiError { status: Some(400), .. }), "{end:?}");
    assert_eq!(spent(&events), Spend::default());
}

#[tokio::test]
async fn text_agent_with_a_price_is_estimated_and_stopped() {
    let spec = spec(Protocol::Text, DEAR, Some(7.0));
    let turn = Turn::start(Box::new(TextProtocol::default()), spec, Host::with(0, None));
    turn.send_text("I am working on it.").await;
    let (events, end) = turn.end().await;
    assert_eq!(end, TurnEnd::Budget);
    assert!(spent(&events).estimated.0 > 7_000_000, "{:?}", spent(&events));
}

/// Limits that are short enough to be waited for.
fn impatient(silence_ms: u64) -> TurnSpec {
    let mut spec = spec(Protocol::Acp, Tariff::Reported, None);
    spec.limits.silence = Duration::from_millis(silence_ms);
    spec.limits.tool = Duration::from_secs(6);
    spec
}

/// How long a silent ACP agent lasts. The first look at its processes is after two seconds.
async fn silence(host: Host) -> Duration {
    let turn = Turn::acp(AcpProfile::default(), impatient(1500), host).await;
    let began = Instant::now();
    let (_, end) = turn.end().await;
    assert_eq!(end, TurnEnd::Silent);
    began.elapsed()
}

#[tokio::test]
async fn process_that_works_is_life_up_to_the_limit_of_a_tool() {
    let computes = silence(Host::with(100, None));
    let runs_command = silence(Host::with(0, Some(Duration::ZERO)));
    let idle = silence(Host::with(3, None));
    // It began before the session, as servers of tools do.
    let serves = silence(Host::with(0, Some(Duration::from_secs(100_000))));
    let (computes, runs_command, idle, serves) = tokio::join!(computes, runs_command, idle, serves);
    let limit = Duration::from_secs(6);
    assert!(idle < limit && serves < limit, "{idle:?} {serves:?}");
    assert!(computes >= limit && runs_command >= limit, "{computes:?} {runs_command:?}");
}

#[tokio::test]
async fn running_tool_is_told_with_its_time() {
    let mut turn = Turn::acp(AcpProfile::default(), impatient(1500), Host::with(0, None)).await;
    let update = |update: Value| json!({"method": "session/update", "params": {"sessionId": "s", "update": update}});
    let start = json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "make world",
        "kind": "execute", "status": "in_progress"});
    turn.send(update(start)).await;
    let told = async {
        loop {
            match turn.events.recv().await.expect("the turn ended") {
                AgentEvent::ToolRunning { title, seconds } => return (title, seconds),
                AgentEvent::Quiet { .. } => panic!("a running tool is no silence"),
                _ => {}
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    assert_eq!(told.0.as_received(), "make world");
    assert!((1..6).contains(&told.1), "{told:?}");
    let end =
        json!({"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed"});
    turn.send(update(end)).await;
    turn.send(answer(3, "end_turn", Some(5))).await;
    let (events, end) = turn.end().await;
    assert_eq!(end, TurnEnd::Done);
    assert!(events.contains(&AgentEvent::Active), "{events:?}");
}

#[tokio::test]
async fn screen_in_place_of_work_is_named_at_the_first_silence() {
    for (screen, named) in [
        ("Do you trust the files in this folder?", "whether to trust the folder"),
        ("How would you like to authenticate for this project?", "its login screen"),
    ] {
        let turn =
            Turn::start(Box::new(AcpProtocol::default()), impatient(300), Host::with(0, None));
        turn.send_text(screen).await;
        turn.send_text("  1. Yes").await;
        let (events, end) = turn.end().await;
        assert!(end.summary().contains(named), "{end:?}");
        let quiet = events.iter().any(|event| matches!(event, AgentEvent::Quiet { .. }));
        assert!(!quiet, "it was waited for: {events:?}");
    }
}
