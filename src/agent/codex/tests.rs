use super::*;
use crate::core::model::permission::Tool;

fn receive_lines(codex: &mut CodexProtocol, lines: &[Value]) -> ProtocolOutput {
    let mut out = ProtocolOutput::default();
    for line in lines {
        codex.receive_line(line.to_string().as_bytes(), false, &mut out);
    }
    out
}

/// A conversation whose turn is running.
fn running() -> CodexProtocol {
    let mut codex =
        CodexProtocol { prompt: "do it".into(), cwd: "/w/wt".into(), ..CodexProtocol::default() };
    codex.call("initialize", &json!({}), CodexCall::Initialize, &mut ProtocolOutput::default());
    let out = receive_lines(
        &mut codex,
        &[
            json!({"id": 1, "result": {"userAgent": "afk/0.169.0 (Debian)"}}),
            json!({"id": 2, "result": {"thread": {"id": "th", "model": "m"}}}),
            json!({"id": 3, "result": {"turn": {"id": "tu"}}}),
        ],
    );
    let lines: Vec<Value> =
        out.lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert_eq!(lines[1]["method"], "thread/start");
    assert_eq!(lines[2]["params"]["input"][0]["text"], "do it");
    let version = Some("0.169.0".into());
    let model = Some("m".into());
    assert_eq!(out.events, [AgentEvent::SessionStarted { session: "th".into(), model, version }]);
    codex
}

/// The parameters of the thread and of the first turn.
fn beginning(wall: Option<NetworkPolicy>) -> [Value; 2] {
    let mut codex = CodexProtocol { wall, ..CodexProtocol::default() };
    codex.call("initialize", &json!({}), CodexCall::Initialize, &mut ProtocolOutput::default());
    let answers = [json!({"id": 1, "result": {}}), json!({"id": 2, "result": {"thread": {}}})];
    let out = receive_lines(&mut codex, &answers);
    let lines = out.lines.iter().map(|line| serde_json::from_slice::<Value>(line).unwrap());
    let mut params = lines.filter(|line| !line["params"].is_null());
    std::array::from_fn(|_| params.next().unwrap()["params"].take())
}

#[test]
fn wall_is_named_as_the_external_sandbox() {
    for (network, access) in [
        (NetworkPolicy::Full, "enabled"),
        (NetworkPolicy::Proxy, "enabled"),
        (NetworkPolicy::None, "restricted"),
    ] {
        let [thread, turn] = beginning(Some(network));
        assert_eq!(thread["sandbox"], "read-only");
        let policy = json!({"type": "externalSandbox", "networkAccess": access});
        assert_eq!(turn["sandboxPolicy"], policy, "{network:?}");
    }
    let [thread, turn] = beginning(None);
    assert_eq!(thread["sandbox"], "danger-full-access");
    assert!(turn["sandboxPolicy"].is_null());
}

#[test]
fn approval_request_shows_the_diff_of_a_file_change() {
    let mut codex = running();
    let change = json!({"type": "fileChange", "id": "i1", "changes": [
        {"path": "/w/wt/a.py", "kind": {"type": "update"}, "diff": "@@ -1 +1 @@\n-1\n+2\n"}]});
    let out = receive_lines(
        &mut codex,
        &[
            json!({"method": "item/started", "params": {"item": change}}),
            json!({"method": "item/fileChange/requestApproval", "id": 0, "params": {"itemId": "i1"}}),
        ],
    );
    let Some(AgentEvent::PermissionRequest { id, request: ask }) = out.events.last() else {
        panic!()
    };
    assert_eq!((ask.tool, ask.targets[0].as_received()), (Tool::Edit, "/w/wt/a.py"));
    assert!(ask.detail.as_received().contains("-1\n+2"));
    let mut out = ProtocolOutput::default();
    codex.answer(id, &Answer::Deny { reason: "no".into() }, &"ana".to_owned().into(), &mut out);
    let lines: Vec<Value> = out.lines.iter().map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!(lines[0], json!({"id": 0, "result": {"decision": "decline"}}));
    assert_eq!(lines[1]["method"], "turn/steer");
}

#[test]
fn approval_request_omits_the_shell_of_a_command() {
    let mut codex = running();
    let out = receive_lines(
        &mut codex,
        &[json!({"id": 4, "method": "item/commandExecution/requestApproval",
        "params": {"command": "/bin/bash -lc 'make x'", "cwd": "/w/wt",
            "commandActions": [{"type": "unknown", "command": "make x"}]}})],
    );
    let Some(AgentEvent::PermissionRequest { request: ask, .. }) = out.events.last() else {
        panic!()
    };
    assert_eq!(ask.targets[0].as_received(), "make x");
}

#[test]
fn turn_end_names_its_cause() {
    let turn = |turn: Value| json!({"method": "turn/completed", "params": {"turn": turn}});
    let failed = json!({"method": "error", "params": {"willRetry": false, "error": {
        "message": "unexpected status 400 Bad Request", "codexErrorInfo": null}}});
    for (lines, end) in [
        (vec![turn(json!({"status": "completed"}))], TurnEnd::Done),
        (vec![turn(json!({"status": "interrupted"}))], TurnEnd::Interrupted),
        (
            vec![turn(json!({"status": "failed", "error": {"message": "x",
                "codexErrorInfo": {"responseStreamConnectionFailed": {"httpStatusCode": 529}}}}))],
            TurnEnd::ApiError { status: Some(529), why: "x".into() },
        ),
        (
            vec![failed, turn(json!({"status": "completed"}))],
            TurnEnd::ApiError {
                status: Some(400),
                why: "unexpected status 400 Bad Request".into(),
            },
        ),
    ] {
        assert_eq!(receive_lines(&mut running(), &lines).end, Some(end));
    }
    let mut codex = CodexProtocol { resume: Some("gone".into()), ..CodexProtocol::default() };
    codex.call("initialize", &json!({}), CodexCall::Initialize, &mut ProtocolOutput::default());
    let out = receive_lines(
        &mut codex,
        &[
            json!({"id": 1, "result": {}}),
            json!({"id": 2, "error": {"message": "no rollout found"}}),
        ],
    );
    assert!(matches!(out.end, Some(TurnEnd::NoSession { .. })));
}

#[test]
fn repeated_tokens_of_a_resumed_thread_count_once() {
    let mut codex = CodexProtocol::default();
    let usage = json!({"method": "thread/tokenUsage/updated", "params": {"threadId": "t",
        "tokenUsage": {"last": {"inputTokens": 1000, "outputTokens": 50}}}});
    let began = json!({"method": "turn/started", "params": {"turn": {"id": "turn-2"}}});
    let out = receive_lines(&mut codex, &[usage.clone(), began, usage]);
    let spends = out.events.iter().filter(|event| matches!(event, AgentEvent::Usage(_)));
    assert_eq!(spends.count(), 1, "{:?}", out.events);
}

#[test]
fn invented_tokens_saturate() {
    let usage = json!({"method": "thread/tokenUsage/updated", "params": {"threadId": "th",
        "tokenUsage": {"last": {"inputTokens": u64::MAX, "outputTokens": 50}}}});
    let out = receive_lines(&mut running(), &[usage]);
    let context = ContextUse { used: u64::MAX, size: None };
    assert!(out.events.contains(&AgentEvent::Context(context)), "{:?}", out.events);
}

#[test]
fn dry_turn_tells_a_missing_login() {
    let end = |account: Value| {
        let mut codex = CodexProtocol { dry: true, ..CodexProtocol::default() };
        let mut out = ProtocolOutput::default();
        codex.call("thread/start", &json!({}), CodexCall::Thread { resumed: false }, &mut out);
        let thread = json!({"id": 1, "result": {"thread": {"id": "t"}, "model": "gpt-x"}});
        codex.receive_line(thread.to_string().as_bytes(), false, &mut out);
        let account = json!({"id": 2, "result": {"account": account, "requiresOpenaiAuth": true}});
        codex.receive_line(account.to_string().as_bytes(), false, &mut out);
        // Nothing asks the model.
        let lines: Vec<_> =
            out.lines.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
        assert!(!lines.iter().any(|line| line.contains("turn/start")), "{lines:?}");
        out.end
    };
    assert!(matches!(end(Value::Null), Some(TurnEnd::NotStarted { .. })));
    assert_eq!(end(json!({"type": "apiKey"})), Some(TurnEnd::Done));
}
