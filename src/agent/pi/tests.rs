use super::*;
use crate::core::model::permission::Tool;

/// Feeds lines as version 0.73.1 writes them, reduced to the fields that matter.
fn receive_lines(pi: &mut PiProtocol, lines: &[Value]) -> ProtocolOutput {
    let mut out = ProtocolOutput::default();
    for line in lines {
        pi.receive_line(line.to_string().as_bytes(), false, &mut out);
    }
    out
}

fn loaded(hostile: &Value) -> Value {
    json!({"type": "extension_ui_request", "id": "u1", "method": "setStatus",
        "statusKey": "afk-permissions", "statusText": json!({"hostile": hostile}).to_string()})
}

fn state() -> Value {
    json!({"id": "afk-1", "type": "response", "command": "get_state", "success": true, "data":
        {"model": {"id": "m", "provider": "fake"}, "sessionId": "s-1", "isStreaming": false}})
}

fn running() -> PiProtocol {
    let mut pi =
        PiProtocol { cwd: "/w/wt".into(), prompt: "do it".into(), ..PiProtocol::default() };
    let out = receive_lines(&mut pi, &[loaded(&json!([])), state()]);
    assert!(sent(&out)[0].contains(r#""type":"prompt","message":"do it""#), "{:?}", sent(&out));
    pi
}

fn sent(out: &ProtocolOutput) -> Vec<String> {
    out.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

fn message(reason: &str, error: &str) -> Value {
    json!({"type": "message_end", "message": {"role": "assistant", "stopReason": reason,
        "errorMessage": error, "usage": {"input": 1000, "output": 50, "cacheRead": 10,
        "cacheWrite": 5, "cost": {"total": 0.005}}}})
}

fn user(text: &str) -> Value {
    json!({"type": "message_end", "message": {"role": "user",
        "content": [{"type": "text", "text": text}]}})
}

const END: &str = r#"{"type":"agent_end","messages":[]}"#;

fn end() -> Value {
    serde_json::from_str(END).unwrap()
}

fn piece(text: &str) -> Value {
    json!({"type": "message_update",
        "assistantMessageEvent": {"type": "text_delta", "delta": text}})
}

#[test]
fn turn_reports_its_text_tools_tokens_and_end() {
    let mut pi = running();
    let start = json!({"type": "tool_execution_start", "toolCallId": "c1", "toolName": "bash",
        "args": {"command": "make"}});
    let over = json!({"type": "tool_execution_end", "toolCallId": "c1", "toolName": "bash",
        "isError": true, "result": {"content": [{"type": "text",
        "text": "no rule\n\nCommand exited with code 2"}]}});
    let lines = [
        user("do it"),
        message("toolUse", ""),
        start,
        over,
        piece("All "),
        piece("done."),
        message("stop", ""),
        end(),
    ];
    let out = receive_lines(&mut pi, &lines);
    assert_eq!(out.end, Some(TurnEnd::Done));
    let usd = MicroUsd(5000);
    let spend = Spend { tokens_in: 1015, tokens_out: 50, usd, ..Spend::default() };
    let spends = out.events.iter().filter(|event| **event == AgentEvent::Usage(spend));
    assert_eq!(spends.count(), 2);
    assert!(out.events.contains(&AgentEvent::Text { text: "All done.".into() }));
    let ended = out.events.iter().find_map(|event| match event {
        AgentEvent::ToolEnd { ok, code, .. } => Some((*ok, *code)),
        _ => None,
    });
    assert_eq!(ended, Some((false, Some(2))));
}

#[test]
fn nothing_is_asked_of_a_pi_that_would_ask_for_nothing() {
    let begin = || PiProtocol { prompt: "do it".into(), ..PiProtocol::default() };
    let out = receive_lines(&mut begin(), &[state()]);
    assert!(matches!(out.end, Some(TurnEnd::NotStarted { .. })) && out.lines.is_empty());
    let hostile = loaded(&json!(["shellCommandPrefix"]));
    let out = receive_lines(&mut begin(), &[hostile]);
    let Some(TurnEnd::NotStarted { why }) = out.end else { panic!("{:?}", out.end) };
    assert!(why.as_received().contains("shellCommandPrefix"));
    // Another extension's status is not afk's.
    let other = json!({"type": "extension_ui_request", "id": "u", "method": "setStatus",
        "statusKey": "other", "statusText": "{}"});
    assert!(receive_lines(&mut begin(), &[other, state()]).lines.is_empty());
}

#[test]
fn another_model_than_the_configured_one_does_not_work() {
    let chosen = |wanted: &str| {
        let mut pi = PiProtocol { model: Some(wanted.into()), ..PiProtocol::default() };
        receive_lines(&mut pi, &[loaded(&json!([])), state()]).end
    };
    assert_eq!([chosen("m"), chosen("fake/m")], [None, None]);
    assert!(matches!(chosen("opus"), Some(TurnEnd::NotStarted { .. })));
    let mut none = state();
    for model in [Value::Null, json!({"id": "unknown", "provider": "unknown"})] {
        none["data"]["model"] = model;
        let lines = [loaded(&json!([])), none.clone()];
        let out = receive_lines(&mut PiProtocol::default(), &lines);
        assert!(matches!(out.end, Some(TurnEnd::NotStarted { .. })));
    }
    let mut dry = PiProtocol { dry: true, ..PiProtocol::default() };
    let out = receive_lines(&mut dry, &[loaded(&json!([])), state()]);
    assert!(out.end == Some(TurnEnd::Done) && out.lines.is_empty());
}

#[test]
fn permission_request_is_answered_with_decision_command_and_reason() {
    let asked = |id: &str, tool: &str, input: Value| {
        json!({"type": "extension_ui_request", "id": id, "method": "input", "title": "afk-permission",
            "placeholder": json!({"id": "c1", "tool": tool, "input": input}).to_string()})
    };
    let mut pi = running();
    let lines = [
        asked("p1", "bash", json!({"command": "make"})),
        asked(
            "p2",
            "edit",
            json!({"path": "/w/wt/a.rs", "edits": [{"oldText": "a", "newText": "b"}]}),
        ),
        asked("p3", "mystery", json!({"x": 1})),
    ];
    let out = receive_lines(&mut pi, &lines);
    let requests: Vec<_> = out
        .events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::PermissionRequest { request, .. } => Some(request),
            _ => None,
        })
        .collect();
    let kinds: Vec<Tool> = requests.iter().map(|request| request.tool).collect();
    assert_eq!(kinds, [Tool::Shell, Tool::Edit, Tool::Other]);
    assert!(requests[0].editable && requests[1].detail.as_received().contains("+b"));
    assert_eq!(requests[1].targets, ["/w/wt/a.rs".into()]);
    let mut answered = ProtocolOutput::default();
    let by = DecidedBy::Afk;
    pi.answer("p1", &Answer::Edit { command: "make -j2".into() }, &by, &mut answered);
    pi.answer("p2", &Answer::Deny { reason: "not there".into() }, &by, &mut answered);
    pi.answer("p2", &Answer::Approve, &by, &mut answered);
    let lines = sent(&answered);
    assert!(lines[0].contains(r#"\"decision\":\"allow\",\"command\":\"make -j2\""#), "{lines:?}");
    assert!(lines[1].contains(r#"\"reason\":\"not there\""#) && lines.len() == 2);
    // Dialogs of others wait for nobody, and an interrupt lets go of the open request.
    let confirm = json!({"type": "extension_ui_request", "id": "d", "method": "confirm"});
    assert!(sent(&receive_lines(&mut pi, &[confirm]))[0].contains(r#""cancelled":true"#));
    let mut out = ProtocolOutput::default();
    pi.interrupt(&mut out);
    assert!(sent(&out)[0].contains(r#""id":"p3""#) && sent(&out)[1].contains(r#""type":"abort""#));
}

#[test]
fn failed_model_ends_the_turn_only_when_pi_gives_up() {
    let failed = |error: &str| [message("error", error), end()];
    let idle = |number: u64| {
        json!({"id": format!("afk-{number}"), "type": "response",
        "command": "get_state", "success": true, "data": {}})
    };
    let mut pi = running();
    let out = receive_lines(&mut pi, &failed("400 bad request"));
    assert!(out.end.is_none() && sent(&out)[0].contains("get_state"));
    let settled = idle(pi.last_id);
    let out = receive_lines(&mut pi, &[settled]);
    assert!(matches!(out.end, Some(TurnEnd::ApiError { status: Some(400), .. })));
    let mut pi = running();
    let retry = json!({"type": "auto_retry_start", "attempt": 1, "maxAttempts": 3, "delayMs": 2000,
        "errorMessage": "529 overloaded"});
    let [first, second] = failed("529 overloaded");
    let out = receive_lines(&mut pi, &[first, second, retry]);
    let retry = AgentEvent::Retry { attempt: 1, delay_ms: 2000, status: Some(529) };
    assert!(out.end.is_none() && out.events.contains(&retry));
    let settled = idle(pi.last_id);
    assert_eq!(receive_lines(&mut pi, &[settled]).end, None);
    let gives_up = json!({"type": "auto_retry_end", "success": false, "attempt": 3});
    let mut lines = failed("529 overloaded").to_vec();
    lines.push(gives_up);
    let out = receive_lines(&mut pi, &lines);
    assert!(matches!(out.end, Some(TurnEnd::ApiError { status: Some(529), .. })));
    let mut pi = running();
    let out = receive_lines(&mut pi, &[message("aborted", "Request was aborted."), end()]);
    assert_eq!(out.end, Some(TurnEnd::Interrupted));
}

#[test]
fn message_is_taken_in_the_turn_or_begins_the_next_one() {
    let mut pi = running();
    let mut out = ProtocolOutput::default();
    pi.steer("go left", &mut out);
    assert!(sent(&out)[0].contains(r#""type":"steer","message":"go left""#));
    let out = receive_lines(&mut pi, &[user("go left"), message("stop", ""), end()]);
    assert!(out.events.contains(&AgentEvent::SteerTaken) && out.end == Some(TurnEnd::Done));
    let mut pi = running();
    pi.steer("too late", &mut ProtocolOutput::default());
    let out = receive_lines(&mut pi, &[message("stop", ""), end()]);
    assert!(out.end.is_none() && sent(&out)[0].contains("prompt"));
    let out = receive_lines(&mut pi, &[message("stop", ""), end()]);
    assert_eq!(out.end, Some(TurnEnd::Done));
}

#[test]
fn end_of_the_program_before_the_prompt_says_why() {
    let pi = PiProtocol::default();
    let end = pi.end_at_exit(Some(1), "No session found matching 'x'");
    assert!(matches!(end, Some(TurnEnd::NoSession { .. })));
    let end = pi.end_at_exit(Some(1), "Error: Extension path does not exist: /h/.pi/agent/afk.ts");
    let Some(TurnEnd::NotStarted { why }) = end else { panic!("{end:?}") };
    assert!(why.as_received().contains("set `home`"));
    assert_eq!(running().end_at_exit(Some(1), "killed"), None);
}
