use super::*;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::permission::Tool;

const TURN_NAME: &str = "r1-t1";

/// Feeds lines of the link, reduced to the fields that matter.
fn receive_lines(thread: &mut Thread, lines: &[Value]) -> ProtocolOutput {
    let mut out = ProtocolOutput::default();
    for line in lines {
        thread.receive_line(line.to_string().as_bytes(), false, &mut out);
    }
    out
}

/// A thread whose turn is running; `seen` are the ids that were emitted before a restart.
fn running(seen: &[&str]) -> Thread {
    let mut thread = Thread::new(ThreadSetup {
        name: TURN_NAME.into(),
        instance: "claudeAgent".into(),
        model: "m".into(),
        approvals: true,
        version: None,
        seen_ids: seen.iter().map(|&id| id.to_owned()).collect(),
    });
    thread.cwd = "/w/wt".into();
    thread.id = thread_id(TURN_NAME);
    thread.prompt = "Fix add".into();
    thread.send_prompt(&mut ProtocolOutput::default());
    thread.subscribed = true;
    thread
}

fn event(kind: &str, payload: &Value) -> Value {
    json!({"kind": "event", "event": {"type": kind, "payload": payload}})
}

fn session(status: &str, turn: Option<&str>, error: Option<&str>) -> Value {
    let session = json!({"status": status, "activeTurnId": turn, "lastError": error});
    event("thread.session-set", &json!({"session": session}))
}

fn activity(id: &str, kind: &str, payload: &Value) -> Value {
    json!({"id": id, "kind": kind, "payload": payload, "turnId": "t", "createdAt": id})
}

fn appended(activity: &Value) -> Value {
    event("thread.activity-appended", &json!({"activity": activity}))
}

fn snapshot(messages: &Value, activities: &Value, session: &Value, latest: &Value) -> Value {
    json!({"kind": "snapshot", "snapshot": {"thread": {"messages": messages,
        "activities": activities, "session": session, "latestTurn": latest, "deletedAt": null}}})
}

fn ours(thread: &Thread) -> Value {
    json!({"id": thread.message_id(), "role": "user", "text": "Fix add", "turnId": null,
        "streaming": false, "createdAt": "1"})
}

#[test]
fn turn_ends_when_its_active_session_becomes_idle() {
    let mut thread = running(&[]);
    let idle = session("ready", None, None);
    let out = receive_lines(
        &mut thread,
        &[idle.clone(), idle.clone(), session("running", Some("t"), None)],
    );
    assert_eq!(out.end, None);
    // A late event of an ended turn neither ends nor begins the next one.
    assert_eq!(receive_lines(&mut thread, std::slice::from_ref(&idle)).end, Some(TurnEnd::Done));
    thread.follow_up("and so on", &mut ProtocolOutput::default());
    let late = [idle.clone(), session("running", Some("t"), None), idle.clone()];
    assert_eq!(receive_lines(&mut thread, &late).end, None);
    assert_eq!(
        receive_lines(&mut thread, &[session("running", Some("u"), None), idle]).end,
        Some(TurnEnd::Done)
    );
}

#[test]
fn session_state_decides_between_failure_and_interrupt() {
    for (status, error, end) in [
        ("error", Some("dead"), TurnEnd::ApiError { status: None, why: "dead".into() }),
        ("stopped", None, TurnEnd::Interrupted),
    ] {
        let out = receive_lines(&mut running(&[]), &[session(status, None, error)]);
        assert_eq!(out.end, Some(end));
    }
    // A failure before this turn is no failure of this turn.
    let mut thread = running(&[]);
    let failed = json!({"status": "error", "activeTurnId": null, "lastError": "earlier"});
    let before = json!({"turnId": "old", "requestedAt": "0"});
    let whole = snapshot(&json!([ours(&thread)]), &json!([]), &failed, &before);
    assert_eq!(receive_lines(&mut thread, &[whole]).end, None);
    let now = json!({"turnId": "t", "requestedAt": "1"});
    let whole = snapshot(&json!([ours(&thread)]), &json!([]), &failed, &now);
    assert!(matches!(receive_lines(&mut thread, &[whole]).end, Some(TurnEnd::ApiError { .. })));
}

#[test]
fn snapshot_emits_missed_messages_once_and_open_requests() {
    let mut thread = running(&["2", "m1"]);
    let message = |id: &str, at: &str, text: &str, streaming: bool| {
        json!({"id": id, "role": "assistant", "text": text, "turnId": "t", "streaming": streaming,
            "createdAt": at})
    };
    let asks = |id: &str, request: &str| {
        let detail = "Write: {\"file_path\":\"/w/wt/a.md\",\"content\":\"a\\n\"}";
        activity(id, "approval.requested", &json!({"requestId": request, "detail": detail}))
    };
    let messages = json!([
        ours(&thread),
        message("m1", "2", "seen", false),
        message("m2", "3", "missed", false),
        message("m3", "9", "begun a", true)
    ]);
    let activities = json!([
        activity("2", "runtime.warning", &json!({"message": "seen"})),
        asks("4", "over"),
        activity("5", "approval.resolved", &json!({"requestId": "over"})),
        asks("6", "open")
    ]);
    let running = json!({"status": "running", "activeTurnId": "t", "lastError": null});
    let whole = snapshot(&messages, &activities, &running, &Value::Null);
    let out = receive_lines(&mut thread, std::slice::from_ref(&whole));
    assert_eq!(out.events[0], AgentEvent::Text { text: "missed".into() });
    let AgentEvent::PermissionRequest { id, request: ask } = &out.events[1] else {
        panic!("{out:?}")
    };
    assert_eq!((id.as_str(), ask.targets[0].as_received()), ("open", "/w/wt/a.md"));
    assert_eq!((out.events.len(), out.end), (2, None));
    // A second snapshot, after a lost connection, emits nothing; the rest of the message follows.
    assert_eq!(receive_lines(&mut thread, &[whole]).events, []);
    let rest = json!({"role": "assistant", "messageId": "m3", "turnId": "t", "text": "nd done",
        "streaming": true});
    let end = json!({"role": "assistant", "messageId": "m3", "turnId": "t", "text": "",
        "streaming": false});
    let out = receive_lines(
        &mut thread,
        &[event("thread.message-sent", &rest), event("thread.message-sent", &end)],
    );
    assert_eq!(out.events, [AgentEvent::Text { text: "begun and done".into() }]);
}

#[test]
fn snapshot_of_a_completed_turn_ends_it() {
    let mut thread = running(&[]);
    let idle = json!({"status": "ready", "activeTurnId": null, "lastError": null});
    let latest = json!({"turnId": "t", "requestedAt": "1", "state": "completed"});
    let whole = snapshot(&json!([ours(&thread)]), &json!([]), &idle, &latest);
    assert_eq!(receive_lines(&mut thread, &[whole]).end, Some(TurnEnd::Done));
}

#[test]
fn permission_request_with_a_cut_detail_has_the_class_other() {
    let detail = format!("Bash: {}...", "x".repeat(200));
    let request = json!({"requestId": "r", "requestKind": "command", "detail": detail});
    let out = receive_lines(
        &mut running(&[]),
        &[appended(&activity("1", "approval.requested", &request))],
    );
    let AgentEvent::PermissionRequest { request: ask, .. } = &out.events[0] else {
        panic!("{out:?}")
    };
    assert_eq!(ask.tool, Tool::Other);
    // With the tool's whole input from an earlier activity, the request contains that input.
    let mut thread = running(&[]);
    let data = json!({"toolName": "Bash", "input": {"command": "git push --force"}});
    let tool = json!({"itemType": "command_execution", "detail": detail, "data": data});
    let request = json!({"requestId": "r", "requestKind": "command", "detail": detail});
    let out = receive_lines(
        &mut thread,
        &[
            appended(&activity("1", "tool.updated", &tool)),
            appended(&activity("2", "approval.requested", &request)),
        ],
    );
    let AgentEvent::PermissionRequest { request: ask, .. } = &out.events[1] else {
        panic!("{out:?}")
    };
    assert_eq!((ask.tool, ask.targets[0].as_received()), (Tool::Shell, "git push --force"));
}

#[test]
fn permission_request_is_the_same_after_a_restart() {
    let detail = format!("Bash: {}...", "x".repeat(200));
    let data = json!({"toolName": "Bash", "input": {"command": "make all"}});
    let tool = json!({"itemType": "command_execution", "detail": detail, "data": data});
    let request = json!({"requestId": "r", "requestKind": "command", "detail": detail});
    // The tool's start was emitted before the restart; the thread still knows its input.
    let mut thread = running(&["1", "2"]);
    let out = receive_lines(
        &mut thread,
        &[
            appended(&activity("1", "tool.updated", &tool)),
            appended(&activity("2", "approval.requested", &request)),
            appended(&activity("3", "tool.completed", &tool)),
        ],
    );
    let [AgentEvent::PermissionRequest { request: ask, .. }, AgentEvent::ToolEnd { .. }] =
        &out.events[..]
    else {
        panic!("{out:?}")
    };
    assert_eq!((ask.tool, ask.targets[0].as_received()), (Tool::Shell, "make all"));
}

#[test]
fn command_ids_are_the_same_after_a_restart() {
    let commands_of = |thread: &mut Thread| {
        let mut out = ProtocolOutput::default();
        thread.on_server(Some("0.0.27"), &mut out);
        for kind in ["project.create", "thread.create", "thread.turn.start"] {
            thread.on_response(&json!({"type": kind, "status": 200}), &mut out);
        }
        let lines = out.lines.iter().map(|line| serde_json::from_slice::<Value>(line).unwrap());
        lines.collect::<Vec<_>>()
    };
    let fresh = || {
        let mut thread = running(&[]);
        (thread.subscribed, thread.follow_ups, thread.prompt) = (false, 0, "Fix add".into());
        thread
    };
    let first = commands_of(&mut fresh());
    let kinds: Vec<&str> = first.iter().map(|line| text(line, "type")).collect();
    assert_eq!(kinds, ["project.create", "thread.create", "thread.turn.start", "subscribe"]);
    assert_eq!(first, commands_of(&mut fresh()));
    let ids: BTreeSet<&str> = first[..3].iter().map(|line| text(line, "commandId")).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'8'));
}

#[test]
fn error_response_to_a_command_decides_the_end() {
    let refused = |kind: &str, status: u16, resumed: bool, subscribed: bool| {
        let mut thread = running(&[]);
        (thread.resumed, thread.subscribed) = (resumed, subscribed);
        let body = json!({"reason": "orchestration_dispatch_failed"});
        receive_lines(
            &mut thread,
            &[json!({"answer": {"type": kind, "status": status, "body": body}})],
        )
    };
    let end = refused("thread.turn.start", 500, true, false).end;
    assert!(matches!(end, Some(TurnEnd::NoSession { .. })), "{end:?}");
    let end = refused("thread.create", 500, false, false).end.unwrap();
    assert!(end.summary().contains("orchestration_dispatch_failed"), "{}", end.summary());
    let end = refused("project.create", 401, false, false).end.unwrap();
    assert!(end.summary().contains("rejects the token"), "{}", end.summary());
    let out = refused("thread.turn.interrupt", 500, false, true);
    assert!(out.end.is_none() && matches!(out.events[0], AgentEvent::Notice { .. }));
}

#[test]
fn unknown_lines_are_kept_raw_and_end_nothing() {
    let mut thread = running(&[]);
    let mut out = ProtocolOutput::default();
    for line in [&b"not json"[..], b"[1]", b"{\"kind\":\"dance\"}", b"\xff", b"7"] {
        thread.receive_line(line, false, &mut out);
    }
    let odd =
        [event("thread.dance", &Value::Null), appended(&activity("1", "dance", &Value::Null))];
    out.events.extend(receive_lines(&mut thread, &odd).events);
    assert_eq!(out.events.len(), 7);
    assert!(out.events.iter().all(|event| matches!(event, AgentEvent::Raw { .. })));
    let bare = [json!({"kind": "snapshot"}), json!({"kind": "event"}), session("", None, None)];
    assert_eq!(receive_lines(&mut thread, &bare).end, None);
}

/// Replays the websocket frames of a real server from the file in `AFK_T3_RECORDING`, one record a
/// line.
#[test]
#[ignore = "needs a recording: AFK_T3_RECORDING=file"]
fn recorded_frames_are_all_translated() {
    let path = std::env::var("AFK_T3_RECORDING").unwrap();
    let mut threads: BTreeMap<String, Thread> = BTreeMap::new();
    let mut ends = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let (message, request) = (&record["msg"], text(&record["msg"], "requestId"));
        for value in message["values"].as_array().into_iter().flatten() {
            if text(value, "kind") == "thread-upserted" || value["snapshot"]["projects"].is_array()
            {
                continue;
            }
            let key = format!("{} {request}", text(&record, "part"));
            let thread = threads.entry(key.clone()).or_insert_with(|| running(&[]));
            let out = receive_lines(thread, std::slice::from_ref(value));
            for event in out.events {
                assert!(!matches!(event, AgentEvent::Raw { .. }), "{event:?}");
            }
            if let Some(end) = out.end {
                ends.push(end);
                thread.follow_up("and so on", &mut ProtocolOutput::default());
            }
        }
    }
    let done = ends.iter().filter(|end| **end == TurnEnd::Done).count();
    assert!(done >= 4, "{ends:?}");
}
