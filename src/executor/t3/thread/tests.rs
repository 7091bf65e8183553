use super::*;
use crate::core::model::permission::Tool;

const US: &str = "r1-t1";

/// Lines of the link, cut to the fields that matter.
fn hear(thread: &mut Thread, lines: &[Value]) -> Said {
    let mut said = Said::default();
    for line in lines {
        thread.hear(line.to_string().as_bytes(), false, &mut said);
    }
    said
}

/// A thread whose turn was begun, with what was told before a restart.
fn begun(told: &[&str]) -> Thread {
    let mut thread = Thread::new(Begin {
        name: US.into(),
        instance: "claudeAgent".into(),
        model: "m".into(),
        approvals: true,
        version: None,
        told: told.iter().map(|&id| id.to_owned()).collect(),
    });
    thread.cwd = "/w/wt".into();
    thread.id = id(US);
    thread.prompt = "Fix add".into();
    thread.start(&mut Said::default());
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
fn a_turn_ends_when_its_session_is_idle_and_not_before() {
    let mut thread = begun(&[]);
    let idle = session("ready", None, None);
    let said =
        hear(&mut thread, &[idle.clone(), idle.clone(), session("running", Some("t"), None)]);
    assert_eq!(said.end, None);
    // A late word of a turn that is over neither ends nor begins the next.
    assert_eq!(hear(&mut thread, std::slice::from_ref(&idle)).end, Some(TurnEnd::Done));
    thread.follow("and so on", &mut Said::default());
    let late = [idle.clone(), session("running", Some("t"), None), idle.clone()];
    assert_eq!(hear(&mut thread, &late).end, None);
    assert_eq!(
        hear(&mut thread, &[session("running", Some("u"), None), idle]).end,
        Some(TurnEnd::Done)
    );
}

#[test]
fn a_failed_session_is_a_failure_and_a_stopped_one_an_interrupt() {
    for (status, error, end) in [
        ("error", Some("dead"), TurnEnd::ApiError { status: None, why: "dead".into() }),
        ("stopped", None, TurnEnd::Interrupted),
    ] {
        let said = hear(&mut begun(&[]), &[session(status, None, error)]);
        assert_eq!(said.end, Some(end));
    }
    // That it failed before this turn is no failure of this turn.
    let mut thread = begun(&[]);
    let failed = json!({"status": "error", "activeTurnId": null, "lastError": "earlier"});
    let before = json!({"turnId": "old", "requestedAt": "0"});
    let whole = snapshot(&json!([ours(&thread)]), &json!([]), &failed, &before);
    assert_eq!(hear(&mut thread, &[whole]).end, None);
    let now = json!({"turnId": "t", "requestedAt": "1"});
    let whole = snapshot(&json!([ours(&thread)]), &json!([]), &failed, &now);
    assert!(matches!(hear(&mut thread, &[whole]).end, Some(TurnEnd::ApiError { .. })));
}

#[test]
fn a_snapshot_tells_what_was_missed_once_and_what_still_waits() {
    let mut thread = begun(&["2", "m1"]);
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
        message("m1", "2", "told", false),
        message("m2", "3", "missed", false),
        message("m3", "9", "begun a", true)
    ]);
    let activities = json!([
        activity("2", "runtime.warning", &json!({"message": "told"})),
        asks("4", "over"),
        activity("5", "approval.resolved", &json!({"requestId": "over"})),
        asks("6", "open")
    ]);
    let running = json!({"status": "running", "activeTurnId": "t", "lastError": null});
    let whole = snapshot(&messages, &activities, &running, &Value::Null);
    let said = hear(&mut thread, std::slice::from_ref(&whole));
    assert_eq!(said.events[0], AgentEvent::Text { text: "missed".into() });
    let AgentEvent::PermissionRequest { id, request: ask } = &said.events[1] else {
        panic!("{said:?}")
    };
    assert_eq!((id.as_str(), ask.targets[0].as_received()), ("open", "/w/wt/a.md"));
    assert_eq!((said.events.len(), said.end), (2, None));
    // The same again, after the connection was lost, tells nothing; the rest of a message follows.
    assert_eq!(hear(&mut thread, &[whole]).events, []);
    let rest = json!({"role": "assistant", "messageId": "m3", "turnId": "t", "text": "nd done",
        "streaming": true});
    let end = json!({"role": "assistant", "messageId": "m3", "turnId": "t", "text": "",
        "streaming": false});
    let said = hear(
        &mut thread,
        &[event("thread.message-sent", &rest), event("thread.message-sent", &end)],
    );
    assert_eq!(said.events, [AgentEvent::Text { text: "begun and done".into() }]);
}

#[test]
fn a_turn_that_was_over_before_it_was_followed_is_over() {
    let mut thread = begun(&[]);
    let idle = json!({"status": "ready", "activeTurnId": null, "lastError": null});
    let latest = json!({"turnId": "t", "requestedAt": "1", "state": "completed"});
    let whole = snapshot(&json!([ours(&thread)]), &json!([]), &idle, &latest);
    assert_eq!(hear(&mut thread, &[whole]).end, Some(TurnEnd::Done));
}

#[test]
fn what_may_be_cut_is_judged_by_no_rule_for_its_kind() {
    let detail = format!("Bash: {}...", "x".repeat(200));
    let request = json!({"requestId": "r", "requestKind": "command", "detail": detail});
    let said = hear(&mut begun(&[]), &[appended(&activity("1", "approval.requested", &request))]);
    let AgentEvent::PermissionRequest { request: ask, .. } = &said.events[0] else {
        panic!("{said:?}")
    };
    assert_eq!(ask.tool, Tool::Other);
    // Where the tool was told in full, that is what is asked.
    let mut thread = begun(&[]);
    let data = json!({"toolName": "Bash", "input": {"command": "git push --force"}});
    let tool = json!({"itemType": "command_execution", "detail": detail, "data": data});
    let request = json!({"requestId": "r", "requestKind": "command", "detail": detail});
    let said = hear(
        &mut thread,
        &[
            appended(&activity("1", "tool.updated", &tool)),
            appended(&activity("2", "approval.requested", &request)),
        ],
    );
    let AgentEvent::PermissionRequest { request: ask, .. } = &said.events[1] else {
        panic!("{said:?}")
    };
    assert_eq!((ask.tool, ask.targets[0].as_received()), (Tool::Shell, "git push --force"));
}

#[test]
fn after_a_restart_leave_is_asked_in_the_same_words() {
    let detail = format!("Bash: {}...", "x".repeat(200));
    let data = json!({"toolName": "Bash", "input": {"command": "make all"}});
    let tool = json!({"itemType": "command_execution", "detail": detail, "data": data});
    let request = json!({"requestId": "r", "requestKind": "command", "detail": detail});
    // The tool was told in the last life; that it runs is known in this one, and what it is.
    let mut thread = begun(&["1", "2"]);
    let said = hear(
        &mut thread,
        &[
            appended(&activity("1", "tool.updated", &tool)),
            appended(&activity("2", "approval.requested", &request)),
            appended(&activity("3", "tool.completed", &tool)),
        ],
    );
    let [AgentEvent::PermissionRequest { request: ask, .. }, AgentEvent::ToolEnd { .. }] =
        &said.events[..]
    else {
        panic!("{said:?}")
    };
    assert_eq!((ask.tool, ask.targets[0].as_received()), (Tool::Shell, "make all"));
}

#[test]
fn commands_are_the_same_after_a_restart() {
    let of = |thread: &mut Thread| {
        let mut said = Said::default();
        thread.server(Some("0.0.27"), &mut said);
        for kind in ["project.create", "thread.create", "thread.turn.start"] {
            thread.answered(&json!({"type": kind, "status": 200}), &mut said);
        }
        let lines = said.lines.iter().map(|line| serde_json::from_slice::<Value>(line).unwrap());
        lines.collect::<Vec<_>>()
    };
    let fresh = || {
        let mut thread = begun(&[]);
        (thread.subscribed, thread.sent, thread.prompt) = (false, 0, "Fix add".into());
        thread
    };
    let first = of(&mut fresh());
    let kinds: Vec<&str> = first.iter().map(|line| text(line, "type")).collect();
    assert_eq!(kinds, ["project.create", "thread.create", "thread.turn.start", "subscribe"]);
    assert_eq!(first, of(&mut fresh()));
    let ids: BTreeSet<&str> = first[..3].iter().map(|line| text(line, "commandId")).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'8'));
}

#[test]
fn what_the_server_refuses_is_told_by_what_it_was() {
    let refused = |kind: &str, status: u16, resumed: bool, subscribed: bool| {
        let mut thread = begun(&[]);
        (thread.resumed, thread.subscribed) = (resumed, subscribed);
        let body = json!({"reason": "orchestration_dispatch_failed"});
        hear(&mut thread, &[json!({"answer": {"type": kind, "status": status, "body": body}})])
    };
    let end = refused("thread.turn.start", 500, true, false).end;
    assert!(matches!(end, Some(TurnEnd::NoSession { .. })), "{end:?}");
    let end = refused("thread.create", 500, false, false).end.unwrap();
    assert!(end.summary().contains("orchestration_dispatch_failed"), "{}", end.summary());
    let end = refused("project.create", 401, false, false).end.unwrap();
    assert!(end.summary().contains("refuses the token"), "{}", end.summary());
    let said = refused("thread.turn.interrupt", 500, false, true);
    assert!(said.end.is_none() && matches!(said.events[0], AgentEvent::Notice { .. }));
}

#[test]
fn odd_lines_are_kept_and_end_nothing() {
    let mut thread = begun(&[]);
    let mut said = Said::default();
    for line in [&b"not json"[..], b"[1]", b"{\"kind\":\"dance\"}", b"\xff", b"7"] {
        thread.hear(line, false, &mut said);
    }
    let odd =
        [event("thread.dance", &Value::Null), appended(&activity("1", "dance", &Value::Null))];
    said.events.extend(hear(&mut thread, &odd).events);
    assert_eq!(said.events.len(), 7);
    assert!(said.events.iter().all(|event| matches!(event, AgentEvent::Raw { .. })));
    let bare = [json!({"kind": "snapshot"}), json!({"kind": "event"}), session("", None, None)];
    assert_eq!(hear(&mut thread, &bare).end, None);
}

/// The websocket frames of a real server, one record a line, as `AFK_T3_RECORDING` names them.
#[test]
#[ignore = "needs a recording: AFK_T3_RECORDING=file"]
fn a_recorded_server_is_understood() {
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
            let thread = threads.entry(key.clone()).or_insert_with(|| begun(&[]));
            let said = hear(thread, std::slice::from_ref(value));
            for event in said.events {
                assert!(!matches!(event, AgentEvent::Raw { .. }), "{event:?}");
            }
            if let Some(end) = said.end {
                ends.push(end);
                thread.follow("and so on", &mut Said::default());
            }
        }
    }
    let done = ends.iter().filter(|end| **end == TurnEnd::Done).count();
    assert!(done >= 4, "{ends:?}");
}
