use super::*;
use crate::core::model::permission::Tool;

fn receive_lines(acp: &mut AcpProtocol, lines: &[Value]) -> ProtocolOutput {
    let mut out = ProtocolOutput::default();
    for line in lines {
        acp.receive_line(line.to_string().as_bytes(), false, &mut out);
    }
    out
}

fn running(config: AcpProfile) -> AcpProtocol {
    let mut acp =
        AcpProtocol { prompt: "do it".into(), cwd: "/w/wt".into(), ..AcpProtocol::new(config) };
    acp.call("initialize", &json!({}), AcpCall::Initialize, &mut ProtocolOutput::default());
    let out = receive_lines(
        &mut acp,
        &[
            json!({"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": 1,
            "agentCapabilities": {"loadSession": true}, "agentInfo": {"name": "X", "version": "1"}}}),
            json!({"jsonrpc": "2.0", "id": 2, "result": {"sessionId": "s"}}),
        ],
    );
    assert!(matches!(&out.events[0], AgentEvent::SessionStarted { session, .. } if session == "s"));
    acp
}

#[allow(clippy::needless_pass_by_value, reason = "the callers build it on the spot")]
fn update(update: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s", "update": update}})
}

fn chunk(text: &str) -> Value {
    update(
        json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}),
    )
}

fn ended(id: u64, reason: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"stopReason": reason}})
}

#[test]
fn turn_without_model_output_is_a_failure() {
    let out = receive_lines(&mut running(AcpProfile::default()), &[ended(3, "end_turn")]);
    assert!(matches!(out.end, Some(TurnEnd::ApiError { .. })));
    let out =
        receive_lines(&mut running(AcpProfile::default()), &[chunk("hi"), ended(3, "end_turn")]);
    assert_eq!(out.end, Some(TurnEnd::Done));
    assert_eq!(out.events, [AgentEvent::Text { text: "hi".into() }]);
    let out = receive_lines(
        &mut running(AcpProfile::default()),
        &[json!({"jsonrpc": "2.0", "id": 3,
        "error": {"code": -32603, "message": "Internal error: 529 overloaded"}})],
    );
    let why = "Internal error: 529 overloaded".into();
    assert_eq!(out.end, Some(TurnEnd::ApiError { status: Some(529), why }));
}

#[test]
fn tool_events_contain_command_output_and_diff() {
    let out = receive_lines(
        &mut running(AcpProfile::default()),
        &[
            update(json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "bash",
            "kind": "execute", "status": "pending", "rawInput": {}})),
            update(json!({"sessionUpdate": "tool_call_update", "toolCallId": "t",
            "status": "in_progress", "title": "make x", "rawInput": {"command": "make x"}})),
            update(json!({"sessionUpdate": "tool_call_update", "toolCallId": "t",
            "status": "completed", "content": [
                {"type": "content", "content": {"type": "text", "text": "out"}},
                {"type": "diff", "path": "/w/wt/a", "oldText": "1\n", "newText": "2\n"}]})),
        ],
    );
    assert!(
        matches!(&out.events[0], AgentEvent::ToolStart { title, .. } if title.as_received() == "make x")
    );
    assert!(
        matches!(&out.events[1], AgentEvent::ToolEnd { ok: true, output, .. } if output.as_received() == "out")
    );
    assert!(
        matches!(&out.events[2], AgentEvent::Diff { diff, .. } if diff.as_received().contains("-1\n+2"))
    );
}

#[test]
fn denial_queues_its_reason_for_a_later_turn() {
    let mut acp = running(AcpProfile::default());
    let options = json!([{"optionId": "once", "kind": "allow_once", "name": "y"},
        {"optionId": "no", "kind": "reject_once", "name": "n"}]);
    let request = |id: u64, call: Value| {
        json!({"jsonrpc": "2.0", "id": id, "method":
        "session/request_permission", "params": {"sessionId": "s", "toolCall": call, "options": options}})
    };
    let out = receive_lines(
        &mut acp,
        &[
            request(
                0,
                json!({"toolCallId": "t", "title": "make", "kind": "execute", "rawInput": {"command": "make"}}),
            ),
            request(
                1,
                json!({"toolCallId": "u", "title": "a", "kind": "edit", "locations": [{"path": "/w/wt/a"}]}),
            ),
            request(2, json!({"toolCallId": "v", "title": "somewhere", "kind": "edit"})),
        ],
    );
    let asks: Vec<(&str, Tool, &str)> = out
        .events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::PermissionRequest { id, request: ask } => {
                Some((id.as_str(), ask.tool, ask.targets[0].as_received()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        asks,
        [
            ("acp-0", Tool::Shell, "make"),
            ("acp-1", Tool::Edit, "/w/wt/a"),
            ("acp-2", Tool::Other, "somewhere")
        ]
    );
    let mut out = ProtocolOutput::default();
    acp.answer(
        "acp-0",
        &Answer::Deny { reason: "too slow".into() },
        &"ana".to_owned().into(),
        &mut out,
    );
    acp.answer("acp-1", &Answer::Approve, &"ana".to_owned().into(), &mut out);
    let lines: Vec<Value> = out.lines.iter().map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!(lines[0]["result"]["outcome"]["optionId"], "no");
    assert_eq!(lines[1]["result"]["outcome"]["optionId"], "once");
    assert!(out.later[0].contains("too slow"));
}

#[test]
fn unknown_request_gets_an_error_response() {
    let out = receive_lines(
        &mut running(AcpProfile::default()),
        &[json!({"jsonrpc": "2.0", "id": 9,
        "method": "fs/write_text_file", "params": {}})],
    );
    assert_eq!(
        serde_json::from_slice::<Value>(out.lines.last().unwrap()).unwrap()["error"]["code"],
        -32601
    );
}

#[test]
fn steered_turn_ends_after_the_responses_to_both_prompts() {
    let mut acp = running(AcpProfile { steers: true, ..AcpProfile::default() });
    acp.steer("other way", &mut ProtocolOutput::default());
    assert_eq!(receive_lines(&mut acp, &[chunk("x"), ended(3, "end_turn")]).end, None);
    let out = receive_lines(&mut acp, &[ended(4, "end_turn")]);
    assert_eq!(out.end, Some(TurnEnd::Done));
    assert!(out.events.contains(&AgentEvent::SteerTaken));
}

#[test]
fn loading_a_session_emits_no_old_events() {
    let ways = AcpProfile { resumes: true, ..AcpProfile::default() };
    let mut acp =
        AcpProtocol { prompt: "p".into(), resume: Some("s".into()), ..AcpProtocol::new(ways) };
    acp.call("initialize", &json!({}), AcpCall::Initialize, &mut ProtocolOutput::default());
    let out = receive_lines(
        &mut acp,
        &[
            json!({"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}}),
            chunk("old"),
            json!({"jsonrpc": "2.0", "id": 2, "result": {}}),
            chunk("new"),
            ended(3, "end_turn"),
        ],
    );
    let texts: Vec<_> =
        out.events.iter().filter(|e| matches!(e, AgentEvent::Text { .. })).collect();
    assert_eq!(texts, [&AgentEvent::Text { text: "new".into() }]);
}
