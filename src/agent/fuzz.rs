//! Fuzz targets for the lines of the agents' protocols.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bounds::bound;
use super::screen::AgentScreen;
use super::{
    AgentProtocol, ProtocolOutput, TEXT_LIMIT, Tariff, TurnLimits, TurnSpec, limit, overflow,
    protocol_for,
};
use crate::config::agent::{AcpProfile, Protocol};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::approval::{Answer, DecidedBy};
use crate::core::model::budget::MicroUsd;
use crate::redact::Redactor;

/// The bytes that afk writes at most for each line of an agent, beside what the line contained.
const WRITTEN_PER_LINE: usize = 8 * 1024;
/// Room for the remark behind a text that was cut.
const CUT_MARK: usize = 64;

/// Feeds lines of Claude Code.
pub(crate) fn claude(data: &[u8]) {
    lines_of(Protocol::Claude, data);
}

/// Feeds lines of Codex.
pub(crate) fn codex(data: &[u8]) {
    lines_of(Protocol::Codex, data);
}

/// Feeds lines of an agent with the Agent Client Protocol.
pub(crate) fn acp(data: &[u8]) {
    lines_of(Protocol::Acp, data);
}

/// Feeds lines of pi.
pub(crate) fn pi(data: &[u8]) {
    lines_of(Protocol::Pi, data);
}

/// Feeds lines of the protocol `command`.
pub(crate) fn command(data: &[u8]) {
    lines_of(Protocol::Command, data);
}

fn lines_of(speaks: Protocol, data: &[u8]) {
    feed(protocol_for(speaks, &AcpProfile::default()).as_mut(), speaks, data);
}

/// Runs a turn whose agent prints `data`, answers each request, and sends the conversation on once.
pub(crate) fn feed(agent: &mut dyn AgentProtocol, speaks: Protocol, data: &[u8]) {
    let mut turn = FedTurn::default();
    turn.take(|out| agent.begin(&spec(speaks), out), 0);
    for line in data.split(|byte| *byte == b'\n') {
        turn.received += line.len();
        turn.lines += 1;
        let requests = turn.take(|out| agent.receive_line(line, false, out), line.len());
        for request in requests {
            turn.take(|out| agent.answer(&request, &Answer::Approve, &DecidedBy::Afk, out), 0);
        }
        let _ = agent.pending_end();
    }
    turn.take(|out| agent.steer("and the tests", out), 0);
    turn.take(|out| agent.interrupt(out), 0);
    turn.take(|out| agent.follow_up("go on", out), 0);
    turn.take(|out| agent.flush(&mut out.events), data.len());
    // A request can be repeated, and each answer contains it.
    let most = 8 * turn.received + WRITTEN_PER_LINE * (turn.lines + 8);
    assert!(turn.written <= most, "{} bytes were written for {}", turn.written, turn.received);
}

/// The figures of a turn that is fed.
#[derive(Default)]
struct FedTurn {
    received: usize,
    lines: usize,
    written: usize,
}

impl FedTurn {
    /// Checks the output of one call, and returns the ids of the requests in it.
    fn take(&mut self, call: impl FnOnce(&mut ProtocolOutput), given: usize) -> Vec<String> {
        let mut out = ProtocolOutput::default();
        call(&mut out);
        self.written += out.lines.iter().map(Vec::len).sum::<usize>();
        assert!(out.events.len() <= given + 16, "{} events of {given} bytes", out.events.len());
        for line in &out.lines {
            assert!(!line.contains(&b'\n'), "a line for the agent has a line break");
        }
        if let Some(end) = out.end {
            out.events.push(AgentEvent::TurnEnd(limit::or_failure(overflow::or_failure(end))));
        }
        let mut requests = Vec::new();
        for event in out.events {
            let mut event = bound(event);
            assert_eq!(
                bound(event.clone()),
                event,
                "a second pass of the bounds changes the event"
            );
            assert_reads_back(&event);
            event.texts(&mut |text| {
                assert!(text.as_received().len() <= TEXT_LIMIT + CUT_MARK, "a text is too long");
                let _ = AgentScreen::in_text(text.as_received());
            });
            if let AgentEvent::PermissionRequest { id, .. } | AgentEvent::Question { id, .. } =
                event
            {
                requests.push(id);
            }
        }
        requests
    }
}

/// The transcript keeps events as JSON.
fn assert_reads_back(event: &AgentEvent) {
    let written = serde_json::to_vec(event);
    let read = written.and_then(|bytes| serde_json::from_slice::<AgentEvent>(&bytes));
    match read {
        Ok(read) => assert_eq!(read, *event, "the event reads back as another one"),
        Err(error) => panic!("{event:?} does not read back: {error}"),
    }
}

fn spec(speaks: Protocol) -> TurnSpec {
    TurnSpec {
        owner: "r1".into(),
        speaks,
        acp: AcpProfile::default(),
        command: vec!["agent".into()],
        cwd: "/w/wt".into(),
        env: BTreeMap::new(),
        prompt: "do it".into(),
        resume: None,
        session_cost: MicroUsd(0),
        budget: None,
        model: None,
        max_steps: None,
        tools: true,
        tool_server: None,
        dry: false,
        tariff: Tariff::Reported,
        limits: TurnLimits {
            turn: Duration::from_secs(3600),
            silence: Duration::from_secs(60),
            may_be_silent: false,
            tool: Duration::from_secs(600),
            memory: u64::MAX,
        },
        inherit: Vec::new(),
        redactor: Redactor::new(Vec::<String>::new()),
        sandbox: None,
        stream_output: true,
        record: None,
    }
}
