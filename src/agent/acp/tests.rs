use super::*;

fn hear(acp: &mut Acp, lines: &[Value]) -> Said {
    let mut said = Said::default();
    for line in lines {
        acp.hear(line.to_string().as_bytes(), false, &mut said);
    }
    said
}

fn began(ways: AcpProfile) -> Acp {
    let mut acp = Acp { prompt: "do it".into(), cwd: "/w/wt".into(), ..Acp::new(ways) };
    acp.call("initialize", &json!({}), Sent::Initialize, &mut Said::default());
    let said = hear(
        &mut acp,
        &[
            json!({"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": 1,
            "agentCapabilities": {"loadSession": true}, "agentInfo": {"name": "X", "version": "1"}}}),
            json!({"jsonrpc": "2.0", "id": 2, "result": {"sessionId": "s"}}),
        ],
    );
    assert!(
        matches!(&said.events[0], AgentEvent::SessionStarted { session, .. } if session == "s")
    );
    acp
}

#[allow(clippy::needless_pass_by_value)] // Made on the spot.
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
fn a_turn_that_ends_without_a_sign_of_a_model_is_a_failure() {
    let said = hear(&mut began(AcpProfile::default()), &[ended(3, "end_turn")]);
    assert!(matches!(said.end, Some(TurnEnd::ApiError { .. })));
    let said = hear(&mut began(AcpProfile::default()), &[chunk("hi"), ended(3, "end_turn")]);
    assert_eq!(said.end, Some(TurnEnd::Done));
    assert_eq!(said.events, [AgentEvent::Text { text: "hi".into() }]);
    let said = hear(
        &mut began(AcpProfile::default()),
        &[json!({"jsonrpc": "2.0", "id": 3,
        "error": {"code": -32603, "message": "Internal error: 529 overloaded"}})],
    );
    let why = "Internal error: 529 overloaded".into();
    assert_eq!(said.end, Some(TurnEnd::ApiError { status: Some(529), why }));
}

#[test]
fn a_tool_is_told_with_its_command_its_output_and_its_diff() {
    let said = hear(
        &mut began(AcpProfile::default()),
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
        matches!(&said.events[0], AgentEvent::ToolStart { title, .. } if title.as_received() == "make x")
    );
    assert!(
        matches!(&said.events[1], AgentEvent::ToolEnd { ok: true, output, .. } if output.as_received() == "out")
    );
    assert!(
        matches!(&said.events[2], AgentEvent::Diff { diff, .. } if diff.as_received().contains("-1\n+2"))
    );
}

#[test]
fn leave_is_asked_and_a_refusal_is_told_its_reason_afterwards() {
    let mut acp = began(AcpProfile::default());
    let options = json!([{"optionId": "once", "kind": "allow_once", "name": "y"},
        {"optionId": "no", "kind": "reject_once", "name": "n"}]);
    let request = |id: u64, call: Value| {
        json!({"jsonrpc": "2.0", "id": id, "method":
        "session/request_permission", "params": {"sessionId": "s", "toolCall": call, "options": options}})
    };
    let said = hear(
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
    let asks: Vec<(&str, Tool, &str)> = said
        .events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::PermissionRequest { id, ask } => {
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
    let mut said = Said::default();
    acp.answer("acp-0", &Answer::Deny { reason: "too slow".into() }, "ana", &mut said);
    acp.answer("acp-1", &Answer::Approve, "ana", &mut said);
    let lines: Vec<Value> = said.lines.iter().map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!(lines[0]["result"]["outcome"]["optionId"], "no");
    assert_eq!(lines[1]["result"]["outcome"]["optionId"], "once");
    assert!(said.later[0].contains("too slow"));
}

#[test]
fn other_requests_are_answered_as_unknown() {
    let said = hear(
        &mut began(AcpProfile::default()),
        &[json!({"jsonrpc": "2.0", "id": 9,
        "method": "fs/write_text_file", "params": {}})],
    );
    assert_eq!(
        serde_json::from_slice::<Value>(said.lines.last().unwrap()).unwrap()["error"]["code"],
        -32601
    );
}

#[test]
fn a_steered_turn_is_over_when_both_prompts_are_answered() {
    let mut acp = began(AcpProfile { steers: true, ..AcpProfile::default() });
    acp.steer("other way", &mut Said::default());
    assert_eq!(hear(&mut acp, &[chunk("x"), ended(3, "end_turn")]).end, None);
    let said = hear(&mut acp, &[ended(4, "end_turn")]);
    assert_eq!(said.end, Some(TurnEnd::Done));
    assert!(said.events.contains(&AgentEvent::SteerTaken));
}

#[test]
fn the_past_is_not_told_again_while_it_is_loaded() {
    let ways = AcpProfile { resumes: true, ..AcpProfile::default() };
    let mut acp = Acp { prompt: "p".into(), resume: Some("s".into()), ..Acp::new(ways) };
    acp.call("initialize", &json!({}), Sent::Initialize, &mut Said::default());
    let said = hear(
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
        said.events.iter().filter(|e| matches!(e, AgentEvent::Text { .. })).collect();
    assert_eq!(texts, [&AgentEvent::Text { text: "new".into() }]);
}
