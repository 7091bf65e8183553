//! What the pinned versions of real agents sent against a scripted model, reduced to the fields that
//! matter.

use super::tests::{chunk, ended, receive_lines, running, update};
use super::*;
use crate::agent::overflow;
use crate::core::model::permission::Tool;

fn usage(events: &[AgentEvent]) -> Vec<(u64, u64, i64)> {
    let of = |event: &AgentEvent| match event {
        AgentEvent::Usage(spend) => Some((spend.tokens_in, spend.tokens_out, spend.usd.0)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn answer(id: u64, input: u64, output: u64) -> Value {
    let mut line = ended(id, "end_turn");
    line["result"]["usage"] = json!({"inputTokens": input, "outputTokens": output,
        "totalTokens": input + output, "cachedReadTokens": 0});
    line
}

#[test]
fn copilot_adds_up_the_tokens_of_its_process() {
    let profile = AcpProfile { tokens: ReportedTokens::Process, ..AcpProfile::default() };
    let mut acp = running(profile);
    let first = receive_lines(&mut acp, &[chunk("done"), answer(3, 21_000, 450)]);
    assert_eq!(usage(&first.events), [(21_000, 450, 0)]);
    acp.follow_up("more", &mut ProtocolOutput::default());
    let second = receive_lines(&mut acp, &[chunk("done"), answer(4, 36_000, 680)]);
    assert_eq!(usage(&second.events), [(15_000, 230, 0)]);
    // Nothing new and an error: the model failed, and says why only in its last piece.
    acp.follow_up("more", &mut ProtocolOutput::default());
    let lines = [
        chunk("Info: The conversation exceeded the model's context limit. Compacting history …"),
        chunk(
            "Error: Failed to get response from the AI model; retried 5 times (total retry wait \
               time: 5.00 seconds) Last error: 400 prompt is too long: 213000 tokens > 200000 maximum",
        ),
        answer(5, 36_000, 680),
    ];
    let out = receive_lines(&mut acp, &lines);
    assert!(usage(&out.events).is_empty());
    let end = overflow::or_failure(out.end.unwrap());
    assert!(matches!(end, TurnEnd::ContextOverflow { .. }), "{end:?}");
}

#[test]
fn opencode_tells_money_of_the_prompt_and_tokens_of_its_last_request() {
    let profile = AcpProfile { tokens: ReportedTokens::LastRequest, ..AcpProfile::default() };
    let mut acp = running(profile);
    let money = update(json!({"sessionUpdate": "usage_update", "used": 6000, "size": 200_000,
        "cost": {"amount": 0.06975, "currency": "USD"}}));
    let out = receive_lines(&mut acp, &[chunk("done"), money.clone(), answer(3, 6_000, 100)]);
    assert_eq!(usage(&out.events), [(6_000, 100, 69_750)]);
    let context = ContextUse { used: 6000, size: Some(200_000) };
    assert!(out.events.contains(&AgentEvent::Context(context)), "{:?}", out.events);
    // Money without an answer is not lost.
    let mut acp =
        running(AcpProfile { tokens: ReportedTokens::LastRequest, ..AcpProfile::default() });
    let mut events = receive_lines(&mut acp, &[money]).events;
    acp.flush(&mut events);
    assert_eq!(usage(&events), [(0, 0, 69_750)]);
    assert_eq!(acp.usage_reports(), UsageReports::LastRequest);
}

#[test]
fn overflow_of_each_agent_is_known() {
    let error = |error: Value| vec![json!({"jsonrpc": "2.0", "id": 3, "error": error})];
    for lines in [
        // claude-agent-acp, qwen, gemini.
        error(json!({"code": -32603,
            "message": "Internal error: Prompt is too long · automatic compaction failed"})),
        error(json!({"code": -32603, "message": "Internal error",
            "data": {"details": "400 prompt is too long: 213000 tokens > 200000 maximum"}})),
        error(
            json!({"code": 400, "message": "{\"error\":{\"code\":400,\"message\":\"The input token \
            count (1048577) exceeds the maximum number of tokens allowed (1048576).\"}}"}),
        ),
        // codex-acp ends normally with the body of the API's answer.
        vec![
            chunk(
                "{\"error\": {\"message\": \"prompt is too long: 213000 tokens > 200000 maximum\"}}",
            ),
            ended(3, "end_turn"),
        ],
    ] {
        let end = receive_lines(&mut running(AcpProfile::default()), &lines).end.unwrap();
        let end = overflow::or_failure(end);
        assert!(matches!(end, TurnEnd::ContextOverflow { .. }), "{lines:?}: {end:?}");
    }
}

#[test]
fn tool_that_writes_todos_is_a_plan() {
    let tool = |more: Value| {
        let mut call = json!({"sessionUpdate": "tool_call_update", "toolCallId": "t"});
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        update(call)
    };
    let lines = [
        update(json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "todowrite",
            "kind": "other", "status": "pending", "rawInput": {}})),
        tool(json!({"status": "in_progress", "rawInput": {"todos": [
            {"content": "write test", "status": "completed"}, {"content": "fix", "status": "pending"}]}})),
        tool(json!({"status": "completed", "title": "2 todos"})),
    ];
    let out = receive_lines(&mut running(AcpProfile::default()), &lines);
    let item = |text: &str, done| PlanItem { text: text.into(), done };
    let items = vec![item("write test", true), item("fix", false)];
    assert_eq!(out.events, [AgentEvent::Plan { items }]);
}

/// The request for a permission, after the lines before it.
#[allow(clippy::needless_pass_by_value, reason = "the callers build it on the spot")]
fn asked(profile: AcpProfile, before: &[Value], call: Value) -> (Tool, Vec<String>) {
    let mut acp = running(profile);
    receive_lines(&mut acp, before);
    let request = json!({"jsonrpc": "2.0", "id": 7, "method": "session/request_permission",
        "params": {"sessionId": "s", "toolCall": call, "options": []}});
    let out = receive_lines(&mut acp, &[request]);
    let Some(AgentEvent::PermissionRequest { request, .. }) = out.events.last() else {
        panic!("{:?}", out.events)
    };
    (request.tool, request.targets.iter().map(|t| t.as_received().to_owned()).collect())
}

#[test]
fn harmless_tools_are_asked_for_as_reads() {
    let preset = |name: &str| AcpProfile {
        authenticate: None,
        ..crate::config::agent::presets()[name].acp.clone()
    };
    let todos = json!({"toolCallId": "write_todos__499e5bb0", "status": "pending",
        "title": "Set 2 todo(s)", "kind": "other"});
    let expected = (Tool::Read, vec!["write_todos".to_owned()]);
    assert_eq!(asked(preset("gemini"), &[], todos.clone()), expected);
    // Another agent's tool of the name is not known to be harmless.
    assert_eq!(asked(AcpProfile::default(), &[], todos).0, Tool::Other);
    let subagent = json!({"toolCallId": "c1", "title": "Agent: look around", "kind": "other",
        "_meta": {"toolName": "agent"}});
    assert_eq!(asked(preset("qwen"), &[], subagent).0, Tool::Read);
    let mode = json!({"toolCallId": "c1", "title": "Leave plan mode", "kind": "switch_mode",
        "_meta": {"toolName": "exit_plan_mode"}});
    assert_eq!(asked(preset("qwen"), &[], mode).0, Tool::Other);
}

#[test]
fn folder_outside_is_asked_for_as_the_tool_that_needs_it() {
    let announced = |kind: &str, input: Value| {
        update(json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": kind, "kind": kind,
            "status": "pending", "rawInput": input}))
    };
    let folder = || {
        json!({"toolCallId": "t", "title": "/etc", "kind": "other",
        "locations": [{"path": "/etc/hostname"}, {"path": "/etc"}],
        "rawInput": {"filepath": "/etc/hostname", "parentDir": "/etc"}})
    };
    let paths = vec!["/etc".to_owned(), "/etc/hostname".to_owned()];
    let asked =
        |kind: &str, input| asked(AcpProfile::default(), &[announced(kind, input)], folder());
    assert_eq!(asked("read", json!({})), (Tool::Read, paths.clone()));
    assert_eq!(asked("edit", json!({})), (Tool::Edit, paths));
    let command = json!({"command": "cat /etc/hostname"});
    assert_eq!(asked("execute", command), (Tool::Shell, vec!["cat /etc/hostname".to_owned()]));
}

#[test]
fn exit_code_beside_the_result_counts() {
    let lines = [
        update(json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "make",
            "kind": "execute", "status": "in_progress", "rawInput": {"command": "make"}})),
        update(
            json!({"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed",
            "_meta": {"terminal_output_delta": {"data": "bad\n"},
                "terminal_exit": {"exit_code": 3, "signal": null}}}),
        ),
    ];
    let out = receive_lines(&mut running(AcpProfile::default()), &lines);
    let Some(AgentEvent::ToolEnd { ok: false, code: Some(3), output, .. }) = out.events.last()
    else {
        panic!("{:?}", out.events)
    };
    assert_eq!(output.as_received(), "bad\n");
}

#[test]
fn subagents_and_images_are_marked() {
    let lines = [
        update(json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "Read shot.png",
            "kind": "read", "status": "in_progress",
            "_meta": {"claudeCode": {"toolName": "Read", "parentToolUseId": "agent-1"}}})),
        update(
            json!({"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed",
            "content": [{"type": "content",
                "content": {"type": "image", "mimeType": "image/png", "data": "aGVsbG8="}}]}),
        ),
    ];
    let out = receive_lines(&mut running(AcpProfile::default()), &lines);
    let parent =
        matches!(&out.events[0], AgentEvent::ToolStart { parent: Some(p), .. } if p == "agent-1");
    let Some(AgentEvent::ToolEnd { output, .. }) = out.events.last() else { panic!() };
    assert!(parent && output.as_received() == "[image: image/png, 5 B]", "{:?}", out.events);
}

#[test]
fn every_session_has_the_settings_of_its_preset() {
    let profile = crate::config::agent::presets()["claude-agent-acp"].acp.clone();
    let mut acp = AcpProtocol { prompt: "p".into(), ..AcpProtocol::new(profile) };
    acp.call("initialize", &json!({}), AcpCall::Initialize, &mut ProtocolOutput::default());
    let opened = json!({"id": 1, "result": {"protocolVersion": 1, "agentCapabilities": {}}});
    let out = receive_lines(&mut acp, &[opened]);
    let call: Value = serde_json::from_slice(out.lines.last().unwrap()).unwrap();
    let settings = &call["params"]["_meta"]["claudeCode"]["options"]["settings"];
    assert_eq!(call["method"], "session/new");
    assert_eq!(settings["disableAllHooks"], true);
    let asks = settings["permissions"]["ask"].as_array().unwrap();
    assert!(asks.contains(&json!("Bash")) && asks.contains(&json!("Write")));
}
