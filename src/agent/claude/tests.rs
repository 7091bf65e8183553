use super::*;
use crate::core::model::permission::{PermissionRequest, Tool};

/// Feeds lines as version 2.1.330 writes them, reduced to the fields that matter.
fn receive_lines(claude: &mut ClaudeProtocol, lines: &[Value]) -> ProtocolOutput {
    let mut out = ProtocolOutput::default();
    for line in lines {
        claude.receive_line(line.to_string().as_bytes(), false, &mut out);
    }
    out
}

fn running() -> ClaudeProtocol {
    let mut claude = ClaudeProtocol { cwd: "/w/wt".into(), ..ClaudeProtocol::default() };
    claude.send_message("do it", &mut ProtocolOutput::default());
    claude
}

fn replay(text: &str) -> Value {
    json!({"type": "user", "isReplay": true,
        "message": {"role": "user", "content": [{"type": "text", "text": text}]}})
}

fn done(cost: f64) -> Value {
    json!({"total_cost_usd": cost, "usage": {"input_tokens": 10, "cache_read_input_tokens": 4,
        "output_tokens": 7}, "subtype": "success", "is_error": false, "stop_reason": "end_turn",
        "terminal_reason": "completed", "result": "ok", "type": "result"})
}

fn background(tasks: &Value) -> Value {
    json!({"type": "system", "subtype": "background_tasks_changed", "tasks": tasks})
}

#[test]
fn result_before_the_prompt_is_no_end() {
    let mut claude = running();
    let mut early = done(0.0);
    early["num_turns"] = json!(0);
    assert_eq!(receive_lines(&mut claude, &[early]).end, None);
    let out = receive_lines(&mut claude, &[replay("do it"), done(0.1)]);
    assert_eq!(out.end, Some(TurnEnd::Done));
    // A conversation that is gone ends the turn, whether or not the prompt was taken.
    let gone = json!({"type": "result", "subtype": "error_during_execution", "is_error": true,
        "num_turns": 0, "errors": ["No conversation found with session ID x"]});
    let out = receive_lines(&mut running(), &[gone]);
    assert!(matches!(out.end, Some(TurnEnd::NoSession { .. })));
}

#[test]
fn work_in_the_background_keeps_the_turn_open() {
    let mut claude = running();
    claude.background_limit = Duration::from_secs(900);
    let task = json!([{"task_id": "b1", "task_type": "local_bash", "description": "make test"},
        {"task_id": "w", "task_type": "watch", "description": "files", "ambient": true}]);
    let out = receive_lines(&mut claude, &[replay("do it"), background(&task), done(0.1)]);
    assert_eq!(out.end, None);
    let text = "in the background: make test".into();
    assert!(out.events.contains(&AgentEvent::Notice { text }), "{:?}", out.events);
    assert_eq!(claude.pending_end(), Some((Duration::from_secs(900), TurnEnd::Done)));
    // Without it claude may begin a turn about the result, which ends with a result of its own.
    receive_lines(&mut claude, &[background(&json!([]))]);
    assert_eq!(claude.pending_end(), Some((NEXT_TURN, TurnEnd::Done)));
    let start = json!({"type": "stream_event", "parent_tool_use_id": null,
        "event": {"type": "message_start", "message": {"id": "m9"}}});
    assert_eq!(receive_lines(&mut claude, &[start]).end, None);
    assert_eq!(claude.pending_end(), None);
    assert_eq!(receive_lines(&mut claude, &[done(0.2)]).end, Some(TurnEnd::Done));
    // A watcher alone is no work.
    let watcher = json!([{"task_id": "w", "task_type": "watch", "ambient": true}]);
    let out = receive_lines(&mut running(), &[replay("do it"), background(&watcher), done(0.1)]);
    assert_eq!(out.end, Some(TurnEnd::Done));
}

#[test]
fn rejected_request_waits_for_the_reset_of_its_limit() {
    let limit = |status: &str| {
        json!({"type": "rate_limit_event", "rate_limit_info":
            {"status": status, "resetsAt": 1_796_000_090, "rateLimitType": "five_hour"}})
    };
    let mut failed = done(0.0);
    failed["is_error"] = json!(true);
    failed["result"] = json!("You've hit your limit");
    let end = |status: &str| {
        let lines = [replay("do it"), limit(status), failed.clone()];
        receive_lines(&mut running(), &lines).end
    };
    let why = "You've hit your limit".into();
    let until = crate::core::model::time::Timestamp(1_796_000_090_000);
    assert_eq!(end("rejected"), Some(TurnEnd::UsageLimit { until, why }));
    assert!(matches!(end("allowed_warning"), Some(TurnEnd::ApiError { .. })));
}

#[test]
fn last_words_without_an_end_are_flushed() {
    let mut claude = running();
    let delta = json!({"type": "stream_event", "parent_tool_use_id": null, "event":
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "I was"}}});
    let mut events = receive_lines(&mut claude, &[delta]).events;
    claude.flush(&mut events);
    assert_eq!(events, [AgentEvent::Text { text: "I was".into() }]);
}

#[test]
fn end_with_half_a_character_ends_the_turn() {
    let mut claude = running();
    let mut out = ProtocolOutput::default();
    let line = done(0.1).to_string().replace("\"ok\"", "\"ok \\ud83d\"");
    claude.receive_line(line.as_bytes(), false, &mut out);
    assert_eq!(out.end, Some(TurnEnd::Done));
}

#[test]
fn streamed_text_is_emitted_once() {
    let message = |content: Value| json!({"type": "assistant", "message": {"id": "m1", "content": [content]}});
    let event =
        |event: Value| json!({"type": "stream_event", "event": event, "parent_tool_use_id": null});
    let out = receive_lines(
        &mut running(),
        &[
            event(json!({"type": "message_start", "message": {"id": "m1"}})),
            event(
                json!({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}}),
            ),
            event(
                json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hel"}}),
            ),
            event(
                json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "lo"}}),
            ),
            message(json!({"type": "text", "text": "Hello"})),
            event(json!({"type": "content_block_stop"})),
            message(
                json!({"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "make"}}),
            ),
        ],
    );
    assert_eq!(
        out.events,
        [
            AgentEvent::Thought { text: "hm".into() },
            AgentEvent::Text { text: "Hello".into() },
            AgentEvent::ToolStart {
                id: "t1".into(),
                kind: "shell".into(),
                title: "make".into(),
                parent: None,
            },
        ]
    );
}

#[test]
fn usage_contains_only_the_cost_since_the_last_report() {
    let mut claude = ClaudeProtocol {
        reported_cost: MicroUsd(58_320),
        prompt_taken: true,
        ..ClaudeProtocol::default()
    };
    let out = receive_lines(&mut claude, &[done(0.07128)]);
    let spend = Spend { tokens_in: 14, tokens_out: 7, usd: MicroUsd(12_960), ..Spend::default() };
    assert_eq!(out.events, [AgentEvent::Usage(spend)]);
    assert_eq!(out.end, Some(TurnEnd::Done));
}

#[test]
fn turn_end_follows_the_reason_and_not_the_subtype() {
    let result = |change: Value| {
        let mut line = done(0.0);
        for (key, value) in change.as_object().unwrap() {
            line[key] = value.clone();
        }
        super::end::of_result(&line)
    };
    let api = |status| TurnEnd::ApiError { status, why: "ok".into() };
    for (change, end) in [
        (json!({}), TurnEnd::Done),
        (
            json!({"is_error": true, "terminal_reason": "api_error", "api_error_status": 529}),
            api(Some(529)),
        ),
        (json!({"is_error": true}), api(None)),
        (json!({"subtype": "error_max_budget_usd", "is_error": true}), TurnEnd::Budget),
        (json!({"subtype": "error_max_turns", "is_error": true}), TurnEnd::TurnLimit),
        (
            json!({"subtype": "error_during_execution", "terminal_reason": "aborted_tools"}),
            TurnEnd::Interrupted,
        ),
        (json!({"subtype": "something_new"}), api(None)),
        (json!({"stop_reason": "refusal"}), TurnEnd::Refused { why: "ok".into() }),
    ] {
        assert_eq!(result(change.clone()), end, "{change}");
    }
    let gone = json!({"result": "", "subtype": "error_during_execution", "is_error": true,
        "errors": ["No conversation found with session ID: x"]});
    assert!(matches!(result(gone), TurnEnd::NoSession { .. }));
}

#[test]
fn permission_response_repeats_the_requested_input() {
    let mut claude = running();
    let request = |id: &str, name: &str, input: Value| {
        json!({"type": "control_request", "request_id": id,
            "request": {"subtype": "can_use_tool", "tool_name": name, "input": input}})
    };
    let out = receive_lines(
        &mut claude,
        &[
            request("a", "Bash", json!({"command": "make x", "description": "Make"})),
            request(
                "b",
                "Edit",
                json!({"file_path": "/w/wt/a.py", "old_string": "1\n", "new_string": "2\n"}),
            ),
        ],
    );
    let asks: Vec<&PermissionRequest> = out
        .events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::PermissionRequest { request: ask, .. } => Some(ask.as_ref()),
            _ => None,
        })
        .collect();
    assert_eq!((asks[0].tool, asks[0].targets[0].as_received()), (Tool::Shell, "make x"));
    assert!(asks[0].editable && !asks[1].editable);
    assert!(asks[1].detail.as_received().contains("-1\n+2"));
    for (id, answer, response) in [
        (
            "a",
            Answer::Edit { command: "make y".into() },
            json!({"behavior": "allow", "updatedInput": {"command": "make y", "description": "Make"}}),
        ),
        (
            "b",
            Answer::Deny { reason: "not there".into() },
            json!({"behavior": "deny", "message": "not there"}),
        ),
    ] {
        let mut out = ProtocolOutput::default();
        claude.answer(id, &answer, &"ana".to_owned().into(), &mut out);
        let line: Value = serde_json::from_slice(&out.lines[0]).unwrap();
        assert_eq!(line["response"]["response"], response);
    }
    let mut late = ProtocolOutput::default();
    claude.answer("a", &Answer::Approve, &"ana".to_owned().into(), &mut late);
    assert!(late.lines.is_empty() && matches!(late.events[0], AgentEvent::Notice { .. }));
}

#[test]
fn question_accepts_an_option_number_or_text() {
    for (typed, label) in [("2", "Green"), ("blue", "blue")] {
        let mut claude = running();
        let input = json!({"questions": [{"question": "Colour?", "options": [{"label": "Red"}, {"label": "Green"}]}]});
        let out = receive_lines(
            &mut claude,
            &[json!({"type": "control_request", "request_id": "q",
            "request": {"subtype": "can_use_tool", "tool_name": "AskUserQuestion", "input": input}})],
        );
        assert!(
            matches!(&out.events[0], AgentEvent::Question { options, .. } if options.len() == 2)
        );
        let mut out = ProtocolOutput::default();
        claude.answer(
            "q",
            &Answer::Text { text: typed.into() },
            &"ana".to_owned().into(),
            &mut out,
        );
        let line: Value = serde_json::from_slice(&out.lines[0]).unwrap();
        assert_eq!(line["response"]["response"]["updatedInput"]["answers"]["Colour?"], label);
    }
}

#[test]
fn echo_acknowledges_a_message_and_a_late_message_begins_a_turn() {
    let mut claude = running();
    assert!(receive_lines(&mut claude, &[replay("do it")]).events.is_empty());
    claude.steer("other way", &mut ProtocolOutput::default());
    assert_eq!(receive_lines(&mut claude, &[replay("other way")]).events, [AgentEvent::SteerTaken]);
    claude.steer("too late", &mut ProtocolOutput::default());
    assert_eq!(receive_lines(&mut claude, &[done(0.1)]).end, None);
    let out = receive_lines(&mut claude, &[replay("too late"), done(0.2)]);
    assert_eq!(out.end, Some(TurnEnd::Done));
}

#[test]
fn unknown_lines_are_kept_raw_and_end_nothing() {
    let mut claude = running();
    let mut out = ProtocolOutput::default();
    for line in [
        &b"not json"[..],
        b"[1]",
        b"{\"type\":\"dance\"}",
        b"\xff",
        b"{\"type\":\"assistant\"}",
        b"{\"type\":\"user\",\"message\":7}",
        b"{\"type\":\"result\"}",
    ] {
        claude.receive_line(line, false, &mut out);
    }
    let raw = out.events.iter().filter(|event| matches!(event, AgentEvent::Raw { .. })).count();
    assert_eq!(raw, 4);
    // An empty result is a failure, never a success.
    assert!(matches!(out.end, Some(TurnEnd::ApiError { .. })));
}

#[test]
fn dry_turn_tells_a_missing_login_and_a_wrong_mode() {
    let end = |account: Value, mode: &str| {
        let mut claude = ClaudeProtocol { dry: true, ..ClaudeProtocol::default() };
        let response = json!({"account": account, "current_permission_mode": mode});
        let response = json!({"subtype": "success", "request_id": "dry", "response": response});
        let line = json!({"type": "control_response", "response": response});
        receive_lines(&mut claude, &[line]).end
    };
    // As version 2.1.330 answers without a login, with a key, and with a subscription.
    let none = json!({"tokenSource": "none", "apiProvider": "firstParty"});
    let key = json!({"tokenSource": "none", "apiKeySource": "ANTHROPIC_API_KEY",
        "apiProvider": "firstParty"});
    let plan = json!({"email": "a@b", "tokenSource": "claude.ai", "apiProvider": "firstParty"});
    let cloud = json!({"tokenSource": "none", "apiProvider": "bedrock"});
    assert!(matches!(end(none, "default"), Some(TurnEnd::NotStarted { .. })));
    for account in [key.clone(), plan, cloud] {
        assert_eq!(end(account, "default"), Some(TurnEnd::Done));
    }
    let Some(TurnEnd::NotStarted { why }) = end(key, "bypassPermissions") else { panic!() };
    assert!(why.as_received().contains("bypassPermissions"));
}

#[test]
fn subagent_is_marked_and_its_words_are_left_to_its_result() {
    let line = json!({"type": "assistant", "parent_tool_use_id": "agent-1", "message": {"id": "m",
        "usage": {"input_tokens": 9000}, "content": [{"type": "text", "text": "inner words"},
        {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "make"}}]}});
    let out = receive_lines(&mut running(), &[line]);
    let [AgentEvent::ToolStart { parent: Some(parent), .. }] = &out.events[..] else {
        panic!("{:?}", out.events)
    };
    assert_eq!(parent, "agent-1");
}

#[test]
fn context_is_told_with_its_size_once_known() {
    let message = json!({"type": "assistant", "parent_tool_use_id": null, "message": {"id": "m",
        "usage": {"input_tokens": 1000, "cache_read_input_tokens": 500}, "content": []}});
    let mut result = done(0.1);
    result["modelUsage"] =
        json!({"big": {"contextWindow": 1_000_000}, "side": {"contextWindow": 200_000}});
    let out = receive_lines(&mut running(), &[replay("do it"), message, result]);
    let told: Vec<ContextUse> = out
        .events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::Context(context) => Some(*context),
            _ => None,
        })
        .collect();
    let context = |size| ContextUse { used: 1500, size };
    assert_eq!(told, [context(None), context(Some(1_000_000))]);
}

#[test]
fn stream_that_broke_off_is_shown_once() {
    let event =
        |event: Value| json!({"type": "stream_event", "event": event, "parent_tool_use_id": null});
    let start = |id: &str| event(json!({"type": "message_start", "message": {"id": id}}));
    let text = |text: &str| {
        event(json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}))
    };
    let retry =
        json!({"type": "system", "subtype": "api_retry", "attempt": 1, "error_status": 529});
    let lines = [
        start("m1"),
        text("I will fix"),
        retry,
        start("m2"),
        text("I will"),
        text(" fix the parser."),
        event(json!({"type": "message_stop"})),
    ];
    let out = receive_lines(&mut running(), &lines);
    let texts: String = out
        .events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::Text { text } => Some(text.as_received()),
            _ => None,
        })
        .collect();
    assert_eq!(texts, "I will fix the parser.");
}

#[test]
fn overflow_ends_the_conversation() {
    let mut failed = done(0.0);
    failed["is_error"] = json!(true);
    failed["result"] = json!("Prompt is too long");
    let end = receive_lines(&mut running(), &[replay("do it"), failed]).end.unwrap();
    let why = "Prompt is too long".into();
    assert_eq!(crate::agent::overflow::or_failure(end), TurnEnd::ContextOverflow { why });
}

#[test]
fn settings_of_claude_are_valid_and_ask() {
    let settings: Value = serde_json::from_str(SETTINGS).unwrap();
    assert!(settings["permissions"]["ask"].as_array().unwrap().contains(&json!("Bash")));
    let preset = &crate::config::agent::presets()["claude-agent-acp"];
    let meta: Value = serde_json::from_str(preset.acp.session_meta.as_deref().unwrap()).unwrap();
    assert_eq!(meta["claudeCode"]["options"]["settings"], settings, "both run claude");
}
