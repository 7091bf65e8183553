use super::*;
use crate::core::model::permission::Tool;

pub(super) fn receive_lines(acp: &mut AcpProtocol, lines: &[Value]) -> ProtocolOutput {
    let mut out = ProtocolOutput::default();
    for line in lines {
        acp.receive_line(line.to_string().as_bytes(), false, &mut out);
    }
    out
}

pub(super) fn running(config: AcpProfile) -> AcpProtocol {
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
pub(super) fn update(update: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s", "update": update}})
}

pub(super) fn chunk(text: &str) -> Value {
    update(
        json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}),
    )
}

pub(super) fn ended(id: u64, reason: &str) -> Value {
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
fn failure_that_the_agent_only_tells_fails_the_turn() {
    let said = |lines: &[Value]| receive_lines(&mut running(AcpProfile::default()), lines).end;
    let failed = said(&[chunk("Error: 400 no such model"), ended(3, "end_turn")]);
    let why = "Error: 400 no such model".into();
    assert_eq!(failed, Some(TurnEnd::ApiError { status: Some(400), why }));
    // With tokens or a tool, the model has worked.
    let mut answer = ended(3, "end_turn");
    answer["result"]["usage"] = json!({"inputTokens": 5, "outputTokens": 2});
    assert_eq!(said(&[chunk("Error: 400 was the cause"), answer]), Some(TurnEnd::Done));
    let tool = update(json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "make"}));
    let end = ended(3, "end_turn");
    assert_eq!(said(&[tool, chunk("Error: 400 was the cause"), end]), Some(TurnEnd::Done));
}

#[test]
fn text_of_a_request_comes_before_its_tokens() {
    let piece = |text: &str| {
        update(json!({"sessionUpdate": "agent_message_chunk",
            "content": {"type": "text", "text": text},
            "_meta": {"usage": {"inputTokens": 10, "outputTokens": 1, "totalTokens": 11}}}))
    };
    let said = update(json!({"sessionUpdate": "agent_message_chunk",
        "content": {"type": "text", "text": "It is"}}));
    let out = receive_lines(&mut running(AcpProfile::default()), &[said, piece(" done.")]);
    let order: Vec<&str> = out
        .events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::Text { .. } => Some("text"),
            AgentEvent::Usage(_) => Some("usage"),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["text", "usage"]);
}

#[test]
fn tokens_of_each_request_and_of_the_answer_count_once() {
    let piece = |tokens: u64| {
        update(json!({"sessionUpdate": "agent_message_chunk",
            "content": {"type": "text", "text": ""},
            "_meta": {"usage": {"inputTokens": tokens, "outputTokens": 1, "totalTokens": tokens + 1}}}))
    };
    let mut answer = ended(3, "end_turn");
    answer["result"]["usage"] = json!({"inputTokens": 70, "outputTokens": 3});
    let lines = [piece(10), piece(20), answer];
    let out = receive_lines(&mut running(AcpProfile::default()), &lines);
    let spent: Vec<(u64, u64)> = out
        .events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::Usage(spend) => Some((spend.tokens_in, spend.tokens_out)),
            _ => None,
        })
        .collect();
    assert_eq!(spent, [(10, 1), (20, 1), (40, 1)]);
    assert_eq!(out.end, Some(TurnEnd::Done));
}

#[test]
fn another_message_begins_another_paragraph() {
    let piece = |id: &str, text: &str| {
        update(json!({"sessionUpdate": "agent_message_chunk", "messageId": id,
            "content": {"type": "text", "text": text}}))
    };
    let lines =
        [piece("a", "One"), piece("a", " two."), piece("b", "Three."), ended(3, "end_turn")];
    let out = receive_lines(&mut running(AcpProfile::default()), &lines);
    let texts = ["One two.", "Three."].map(|text| AgentEvent::Text { text: text.into() });
    assert_eq!(out.events, texts);
}

#[test]
fn command_with_an_exit_code_fails_whatever_its_status_is() {
    for (result, content, code) in [
        (json!({"exit_code": 2}), "", Some(2)),
        (json!({"output": "x", "metadata": {"exit": 1}}), "x", Some(1)),
        (json!(null), "boom\nExit Code: 3", Some(3)),
        (json!(null), "boom\n<exited with exit code 4>", Some(4)),
        (json!({"exit_code": 0}), "fine", Some(0)),
        (json!(null), "it prints an exit code: 9 in words", None),
    ] {
        let lines = [
            update(json!({"sessionUpdate": "tool_call", "toolCallId": "t", "kind": "execute",
            "title": "make", "status": "in_progress"})),
            update(json!({"sessionUpdate": "tool_call_update", "toolCallId": "t",
            "_meta": {"terminal_output_delta": {"data": "printed"}}})),
            update(json!({"sessionUpdate": "tool_call_update", "toolCallId": "t",
            "status": "completed", "rawOutput": result,
            "content": [{"type": "content", "content": {"type": "text", "text": content}}]})),
        ];
        let out = receive_lines(&mut running(AcpProfile::default()), &lines);
        let Some(AgentEvent::ToolEnd { ok, code: told, output, .. }) = out.events.last() else {
            panic!("{:?}", out.events)
        };
        assert_eq!((*told, *ok), (code, code.unwrap_or(0) == 0), "{content}");
        let shown = if content.is_empty() { "printed" } else { content };
        assert_eq!(output.as_received(), shown);
    }
}

#[test]
fn approved_tool_is_shown_as_running() {
    let mut acp = running(AcpProfile::default());
    let request = json!({"jsonrpc": "2.0", "id": 9, "method": "session/request_permission",
        "params": {"sessionId": "s", "toolCall": {"toolCallId": "t", "title": "make", "kind": "execute",
        "rawInput": {"command": "make x"}}, "options": [
        {"optionId": "yes", "name": "Yes", "kind": "allow_once"}]}});
    receive_lines(&mut acp, &[request]);
    let mut out = ProtocolOutput::default();
    acp.answer("acp-9", &Answer::Approve, &DecidedBy::Afk, &mut out);
    let start = AgentEvent::ToolStart {
        id: "t".into(),
        kind: "shell".into(),
        title: "make x".into(),
        parent: None,
    };
    assert_eq!(out.events, [start]);
}

/// The end and the last request of an agent that is to use a model.
fn with_model(model: &str, session: &Value) -> (Option<TurnEnd>, Value) {
    let mut acp = AcpProtocol { prompt: "do it".into(), ..AcpProtocol::default() };
    acp.model = Some(model.into());
    acp.call("initialize", &json!({}), AcpCall::Initialize, &mut ProtocolOutput::default());
    let lines = [
        json!({"id": 1, "result": {"protocolVersion": 1, "agentCapabilities": {}}}),
        json!({"id": 2, "result": session}),
    ];
    let out = receive_lines(&mut acp, &lines);
    let last = out.lines.last().map(|line| serde_json::from_slice(line).unwrap());
    (out.end, last.unwrap_or_default())
}

#[test]
fn configured_model_is_set_or_refused() {
    let models = json!({"sessionId": "s", "models": {"currentModelId": "a", "availableModels": [
        {"modelId": "a", "name": "Model A"}, {"modelId": "b", "name": "Model B"}]}});
    for wanted in ["b", "Model B"] {
        let (end, call) = with_model(wanted, &models);
        assert_eq!((end, &call["method"]), (None, &json!("session/set_model")));
        assert_eq!(call["params"], json!({"sessionId": "s", "modelId": "b"}));
    }
    assert_eq!(with_model("a", &models).1["method"], json!("session/prompt"));
    let (end, _) = with_model("c", &models);
    let why = "the agent has no model c; it has a, b".into();
    assert_eq!(end, Some(TurnEnd::NotStarted { why }));
    // An agent that lists none is asked, and may refuse.
    assert_eq!(with_model("c", &json!({"sessionId": "s"})).1["method"], json!("session/set_model"));
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

#[test]
fn dry_turn_tries_mode_and_model_and_sends_no_prompt() {
    let profile = AcpProfile { mode: Some("default".into()), ..AcpProfile::default() };
    let mut acp = AcpProtocol { dry: true, model: Some("m2".into()), ..AcpProtocol::new(profile) };
    let mut out = ProtocolOutput::default();
    acp.open_session(&mut out);
    let models = json!({"currentModelId": "m1", "availableModels": [{"modelId": "m2"}]});
    let lines = [
        json!({"jsonrpc": "2.0", "id": 1, "result": {"sessionId": "s", "models": models}}),
        json!({"jsonrpc": "2.0", "id": 2, "result": {}}),
        json!({"jsonrpc": "2.0", "id": 3, "result": {}}),
    ];
    for line in &lines {
        acp.receive_line(line.to_string().as_bytes(), false, &mut out);
    }
    let sent: Vec<_> = out.lines.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    for (line, method) in sent.iter().zip(["session/new", "session/set_model", "session/set_mode"])
    {
        assert!(line.contains(method), "{sent:?}");
    }
    assert!(sent.len() == 3 && out.end == Some(TurnEnd::Done), "{sent:?}");
}

#[test]
fn model_among_the_options_is_set_as_an_option() {
    let with_model = |wanted: &str| {
        let mut acp =
            AcpProtocol { model: Some(wanted.into()), ..AcpProtocol::new(AcpProfile::default()) };
        let mut out = ProtocolOutput::default();
        acp.open_session(&mut out);
        // As claude-agent-acp 0.101.0 answers.
        let option = json!({"id": "model", "category": "model", "currentValue": "default", "options":
            [{"value": "default", "name": "Default"}, {"value": "sonnet", "name": "Sonnet 5.5"}]});
        let opened = json!({"jsonrpc": "2.0", "id": 1,
            "result": {"sessionId": "s", "configOptions": [option]}});
        acp.receive_line(opened.to_string().as_bytes(), false, &mut out);
        (out.end, String::from_utf8_lossy(out.lines.last().unwrap()).into_owned())
    };
    for wanted in ["sonnet", "Sonnet 5.5"] {
        let (end, sent) = with_model(wanted);
        assert!(end.is_none() && sent.contains("session/set_config_option"), "{sent}");
        assert!(sent.contains(r#""configId":"model","value":"sonnet""#), "{sent}");
    }
    assert!(with_model("default").1.contains("session/prompt"));
    assert!(matches!(with_model("haiku").0, Some(TurnEnd::NotStarted { .. })));
}

#[test]
fn interrupt_of_a_message_is_no_normal_end() {
    let mut acp = running(AcpProfile { steers: true, ..AcpProfile::default() });
    acp.steer("go left", &mut ProtocolOutput::default());
    let out = receive_lines(&mut acp, &[chunk("ok"), ended(3, "end_turn"), ended(4, "cancelled")]);
    assert_eq!(out.end, Some(TurnEnd::Interrupted));
}
