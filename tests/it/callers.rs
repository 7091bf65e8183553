//! The habits of the callers of the earlier agent service, which change nothing but an address.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::service::{
    execute, execute_with, go, job, wait_for_file, wait_for_status, with_agent, world,
};
use crate::support::api::{Api, OPERATOR, section};
use crate::support::world::World;
use crate::support::{git, repository_folder};

/// A job's agent that commits, and pushes as the earlier service's agents do.
const COMMITS: &str = r#"
set -e
name=${AFK_JOB:-prompt}
say() { printf '{"type":"text","text":"%s"}\n' "$1"; }
say "$(git symbolic-ref --short HEAD)"
case "$prompt" in
*"beside its own"*) echo own > own; git add own; git $US commit -qm "Stay here" ;;
esac
case "$prompt" in
*"on the side"* | *"from a side"*) git checkout -q -b side ;;
*"in a tag"*) git checkout -q --detach ;;
*"elsewhere"*)
    pushes=$(git remote get-url --push origin)
    git clone -q "$pushes" other 2>/dev/null && cd other ;;
*"without a branch"*) git checkout -q --detach ;;
*"hold on"*) : > "$HOLD/began-$AFK_JOB"; until [ -e "$HOLD/go" ]; do sleep 0.05; done ;;
esac
case "$prompt" in
*"nothing"*) ;;
*) echo "$name" > "$name"; git add . ; git $US commit -qm "Add $name" ;;
esac
case "$prompt" in
*"leak"*) printf 'key = "ghp_%s"\n' 0123456789abcdefghijABCDEFGHIJ012345 > keys; git add .; git $US commit -qm Keys ;;
*"elsewhere"*) git push -q origin HEAD && cd .. && rm -rf other ;;
*"without a branch"*) git push -q origin HEAD:master ;;
*"delete"*) git push -q origin :old ;;
*"outage"*) mv "$HOLD/remote.git" "$HOLD/remote.away"; : > "$HOLD/away" ;;
*"from a side"*) git push -q origin HEAD:refs/heads/master ;;
*"push"*) git push -q origin HEAD ;;
*"in a tag"*) git $US tag -a -m kept v1; git checkout -q master ;;
*"forever"*) : > "$HOLD/committed"; sleep 600 ;;
esac
printf '{"type":"end","status":"done"}\n'
"#;

fn commits(more: &str) -> World {
    with_agent(COMMITS, more, "capacity = 2")
}

fn base_clone(world: &World) -> std::path::PathBuf {
    repository_folder(&world.state(), "acme/thing").join("base.git")
}

/// The subjects of a reference, oldest first.
fn subjects(world: &World, reference: &str) -> Vec<String> {
    crate::support::log(&base_clone(world), reference, "%s")
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_a_job_are_kept_under_a_reference_that_the_job_names() {
    let world = commits("");
    let api = Api::start(&world);
    let before = git(&world.remote(), &["rev-parse", "master"]);
    let id = execute(&api, "work").await;
    let done = wait_for_status(&api, &id, "completed").await;
    assert_eq!(done["output"], json!(["master"]), "its HEAD is not on the branch: {done}");
    let commits = &done["commits"];
    assert_eq!((&commits["count"], &commits["pushed"]), (&json!(1), &json!(false)), "{done}");
    let kept = commits["kept"][0].as_str().unwrap();
    assert_eq!(commits["repository"], json!(base_clone(&world)));
    assert_eq!(subjects(&world, kept).last().unwrap(), &format!("Add {id}"));
    assert_eq!(git(&base_clone(&world), &["rev-parse", kept]).trim(), commits["head"]);
    assert_eq!(git(&world.remote(), &["rev-parse", "master"]), before);
    // An agent's own push fails, and its commit is kept as well.
    let id = execute(&api, "push").await;
    let failed = wait_for_status(&api, &id, "failed").await;
    assert!(failed["stderr"].as_str().unwrap().contains("agents-do-not-push"), "{failed}");
    let kept = failed["commits"]["kept"][0].as_str().unwrap();
    assert_eq!(subjects(&world, kept).last().unwrap(), &format!("Add {id}"));
    // A job without commits names none.
    let id = execute(&api, "nothing").await;
    let done = wait_for_status(&api, &id, "completed").await;
    assert_eq!((&done["commits"], &done["warnings"]), (&Value::Null, &json!([])), "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_job_leaves_its_commits_under_a_reference() {
    let world = commits("push = true");
    let api = Api::start(&world);
    let id = execute(&api, "forever").await;
    wait_for_file(&world, "committed").await;
    let (_, fleet) = api.get("/v1/fleet", Some(OPERATOR)).await;
    let run = fleet["fleet"]["jobs"]["by_id"][&id].clone();
    let (status, _) = api.act(OPERATOR, json!({"action": "cancel", "run": run})).await;
    assert_eq!(status, 200);
    wait_for_status(&api, &id, "error").await;
    let reference = format!("refs/afk/kept/r{}", run.as_u64().unwrap());
    wait_for_reference(&world, &reference).await;
    assert_eq!(subjects(&world, &reference).last().unwrap(), &format!("Add {id}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_an_operators_own_prompt_are_kept() {
    let world = commits("");
    let api = Api::start(&world);
    let submit = json!({"action": "submit", "repo": "acme/thing", "prompt": "work"});
    let (status, accepted) = api.act(OPERATOR, submit).await;
    assert_eq!(status, 200, "{accepted}");
    wait_for_reference(&world, "refs/afk/kept/r1").await;
    assert_eq!(subjects(&world, "refs/afk/kept/r1").last().unwrap(), "Add prompt");
}

fn subjects_of_remote(world: &World) -> Vec<String> {
    crate::support::log(&world.remote(), "master", "%s")
}

/// Waits until afk's clone has a reference.
async fn wait_for_reference(world: &World, reference: &str) {
    let clone = base_clone(world);
    let kept = || {
        let shown = crate::support::try_git(&clone, &["rev-parse", "--verify", "-q", reference]);
        shown.status.success()
    };
    crate::support::world::wait_until("the kept commit", kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_a_completed_job_are_pushed_and_read_back() {
    let world = commits("push = true");
    git(&world.remote(), &["branch", "old", "master"]);
    let api = Api::start(&world);
    // The agent's own push succeeds as well, and goes through afk.
    for prompt in ["work", "push"] {
        let id = execute(&api, prompt).await;
        let done = wait_for_status(&api, &id, "completed").await;
        let commits = &done["commits"];
        assert_eq!((&commits["pushed"], &commits["kept"]), (&json!(true), &json!([])), "{done}");
        let head = git(&world.remote(), &["rev-parse", "master"]);
        assert_eq!(commits["head"], head.trim(), "{done}");
        let subjects = crate::support::log(&world.remote(), "master", "%s");
        assert_eq!(subjects.last().unwrap(), &format!("Add {id}"));
    }
    // Another branch is kept, and not pushed to this one.
    let head = git(&world.remote(), &["rev-parse", "master"]);
    let id = execute(&api, "on the side").await;
    let done = wait_for_status(&api, &id, "completed").await;
    let kept = done["commits"]["kept"][0].as_str().unwrap();
    assert_eq!(subjects(&world, kept).last().unwrap(), &format!("Add {id}"));
    assert_eq!(git(&world.remote(), &["rev-parse", "master"]), head);
    // So is a commit that only an annotated tag names.
    let id = execute(&api, "in a tag").await;
    let done = wait_for_status(&api, &id, "completed").await;
    let kept = done["commits"]["kept"][0].as_str().unwrap_or_else(|| panic!("{done}"));
    assert_eq!(subjects(&world, kept).last().unwrap(), &format!("Add {id}"));
    assert_eq!(git(&world.remote(), &["rev-parse", "master"]), head);
    // The agent pushed the repository's branch, whatever its own is called.
    let id = execute(&api, "from a side").await;
    let done = wait_for_status(&api, &id, "completed").await;
    assert_eq!(done["commits"]["pushed"], true, "{done}");
    assert_eq!(subjects_of_remote(&world).last().unwrap(), &format!("Add {id}"));
    // It pushed from a clone of its own, and from a commit that no branch names.
    for prompt in ["elsewhere", "without a branch"] {
        let id = execute(&api, prompt).await;
        let done = wait_for_status(&api, &id, "completed").await;
        assert_eq!(done["commits"]["pushed"], true, "{prompt}: {done}");
        assert_eq!(subjects_of_remote(&world).last().unwrap(), &format!("Add {id}"), "{prompt}");
    }
    // What it pushed is what goes out, and not what it committed beside that.
    let id = execute(&api, "elsewhere, beside its own").await;
    let done = wait_for_status(&api, &id, "completed").await;
    assert_eq!(done["commits"]["pushed"], true, "{done}");
    assert_eq!(subjects_of_remote(&world).last().unwrap(), &format!("Add {id}"));
    let kept = done["commits"]["kept"][0].as_str().unwrap_or_else(|| panic!("{done}"));
    assert_eq!(subjects(&world, kept).last().unwrap(), "Stay here");
    // It may delete a branch of the remote; that goes no further.
    let id = execute(&api, "delete").await;
    let done = wait_for_status(&api, &id, "completed").await;
    assert_eq!(done["commits"]["pushed"], true, "{done}");
    git(&world.remote(), &["rev-parse", "--verify", "refs/heads/old"]);
    // Others push meanwhile: both changes stay.
    let id = execute(&api, "hold on").await;
    wait_for_file(&world, &format!("began-{id}")).await;
    git(&world.path("work"), &["pull", "-q", world.remote().to_str().unwrap(), "master"]);
    std::fs::write(world.path("work/theirs"), "theirs\n").unwrap();
    world.commit("Theirs");
    go(&world);
    let done = wait_for_status(&api, &id, "completed").await;
    assert_eq!(done["commits"]["pushed"], true, "{done}");
    let subjects = crate::support::log(&world.remote(), "master", "%s");
    assert_eq!(subjects[subjects.len() - 2..], ["Theirs".to_owned(), format!("Add {id}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_whose_remote_is_away_is_pushed_within_its_time() {
    let world = commits("push = true");
    let api = Api::start(&world);
    let id = execute(&api, "outage").await;
    wait_for_file(&world, "away").await;
    let (_, fleet) = api.get("/v1/fleet", Some(OPERATOR)).await;
    let run = fleet["fleet"]["jobs"]["by_id"][&id].as_u64().unwrap();
    // Beyond the tries that a rejected push gets.
    let fifth = || world.transcript(run).contains("pushes again in 8 s");
    crate::support::world::wait_until("the fifth try", fifth).await;
    std::fs::rename(world.path("remote.away"), world.remote()).unwrap();
    let done = wait_for_status(&api, &id, "completed").await;
    assert_eq!(done["commits"]["pushed"], true, "{done}");
    assert_eq!(subjects_of_remote(&world).last().unwrap(), &format!("Add {id}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn job_whose_repository_cannot_be_cloned_yet_waits_within_its_time() {
    let world = commits("push = true").with("[outages]\nlongest_pause_seconds = 1");
    std::fs::rename(world.remote(), world.path("remote.away")).unwrap();
    let api = Api::start(&world);
    let patient = execute(&api, "work").await;
    let body = json!({"prompt": "work", "agent": "implementer", "timeout_seconds": 1});
    let hurried = execute_with(&api, body).await;
    let failed = wait_for_status(&api, &hurried, "error").await;
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("can't be reached") && error.contains("time is over"), "{error}");
    std::fs::rename(world.path("remote.away"), world.remote()).unwrap();
    let done = wait_for_status(&api, &patient, "completed").await;
    assert_eq!(done["commits"]["pushed"], true, "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn job_whose_commits_must_not_or_cannot_be_pushed_has_failed() {
    let world = commits("push = true");
    let api = Api::start(&world);
    let head = git(&world.remote(), &["rev-parse", "master"]);
    let id = execute(&api, "leak").await;
    let failed = wait_for_status(&api, &id, "failed").await;
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("must not be pushed") && error.contains("refs/afk/kept/"), "{failed}");
    assert_eq!(failed["commits"]["pushed"], false);
    assert!(!failed.to_string().contains("ghp_0"), "{failed}");
    let hook = world.remote().join("hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho 'not today' >&2; exit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let id = execute(&api, "work").await;
    let failed = wait_for_status(&api, &id, "failed").await;
    let kept = failed["commits"]["kept"][0].as_str().unwrap();
    assert!(failed["error"].as_str().unwrap().contains(kept), "{failed}");
    assert_eq!(subjects(&world, kept).last().unwrap(), &format!("Add {id}"));
    assert_eq!(git(&world.remote(), &["rev-parse", "master"]), head);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_works_on_the_last_good_base_if_the_remote_cannot_be_fetched() {
    let script = r#"printf '{"type":"text","text":"%s"}\n' "$(git rev-parse HEAD)"
printf '{"type":"end","status":"done"}\n'"#;
    let world = with_agent(script, "fetch_debounce_seconds = 0", "capacity = 1");
    let api = Api::start(&world);
    let id = execute(&api, "say").await;
    let first = wait_for_status(&api, &id, "completed").await;
    assert_eq!(first["warnings"], json!([]));
    let away = world.path("away.git");
    std::fs::rename(world.remote(), &away).unwrap();
    let id = execute(&api, "say").await;
    let stale = wait_for_status(&api, &id, "completed").await;
    assert_eq!(stale["output"], first["output"]);
    let warning = stale["warnings"][0].as_str().unwrap();
    assert!(warning.contains("fetch") && warning.contains("last good base"), "{stale}");
    std::fs::rename(&away, world.remote()).unwrap();
    let id = execute(&api, "say").await;
    assert_eq!(wait_for_status(&api, &id, "completed").await["warnings"], json!([]));
    // A remote that answers without the branch is no outage.
    git(&world.remote(), &["update-ref", "-d", "refs/heads/master"]);
    let id = execute(&api, "say").await;
    let gone = wait_for_status(&api, &id, "error").await;
    assert!(gone["error"].as_str().unwrap().contains("the remote has no"), "{gone}");
}

/// A Claude Code that reads its lines from a file, or asks for a tool.
const CLAUDE: &str = r#"
printf '%s\n' "$@" > "$HOLD/args"
init
taken
printf '%s' "$MESSAGE" > "$HOLD/message"
piece() { line '{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'"$1"'"}},"session_id":"'"$SESSION"'"}'; }
case "$MESSAGE" in
*"read the lines"*) cat "$HOLD/lines" ;;
*"ask for a shell"*) ask 1 Bash '{"command":"curl -s example.com"}'; say "$(printf '%s' "$ANSWER" | grep -o '"behavior":"[a-z]*"' | tr -d '"')" ;;
*"ask for mcp"*) ask 1 mcp__ha__lights '{"on":true}'; say "$(printf '%s' "$ANSWER" | grep -o '"behavior":"[a-z]*"' | tr -d '"')" ;;
*"use a tool"*) piece 'Let me look.'; ask 1 Bash '{"command":"pwd"}'; piece "at $(echo *)" ;;
*"be silent"*) : > "$HOLD/silent"; until [ -e "$HOLD/go" ]; do sleep 0.05; done; say 'at last' ;;
*) piece hello ;;
esac
result
"#;

fn claude(service: &str, rules: &str) -> World {
    let world = World::claude(CLAUDE);
    let (hold, http) = (world.root().display().to_string(), section(&world));
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    world
        .with("capacity = 2")
        .with(&http)
        .with(&format!("[service]\nrepository = 'acme/thing'\n{service}"))
        .agent(&format!("set = {{ HOLD = '{hold}' }}"))
        .rules(rules)
}

fn args(world: &World) -> String {
    std::fs::read_to_string(world.path("args")).unwrap()
}

fn chat(content: &str) -> Value {
    json!({"model": "opus", "messages": [{"role": "user", "content": content}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn path_of_an_agent_is_accepted_and_passed_on() {
    let world = claude("", "");
    let api = Api::start(&world);
    for agent in [".claude/agents/issue-responder", "recruiter-triage"] {
        let id = execute_with(&api, json!({"prompt": "hi", "agent": agent})).await;
        let done = wait_for_status(&api, &id, "completed").await;
        assert_eq!(done["agent"], agent);
        assert!(args(&world).contains(&format!("--agent\n{agent}\n")), "{}", args(&world));
    }
    // Null is no ceiling, as in the earlier service.
    let body =
        json!({"prompt": "hi", "agent": "a", "max_budget_usd": null, "timeout_seconds": null});
    let id = execute_with(&api, body).await;
    wait_for_status(&api, &id, "completed").await;
    assert!(!args(&world).contains("--max-budget-usd"), "{}", args(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_keeps_the_bytes_of_the_answer() {
    let world = claude("", "");
    let value = json!({
        "verdict": "word ".repeat(120),
        "steps": [{"at": 1, "text": "tab\there"}, {"at": 2, "text": "日本 👩‍💻"}],
    });
    let answers = [
        value.to_string(),
        serde_json::to_string_pretty(&value).unwrap(),
        format!("Here it is:\n\n```json\n{value}\n```\n\n\n  - end\n"),
    ];
    let api = Api::start(&world);
    for answer in &answers {
        let line = |value: &Value| value.to_string() + "\n";
        let message = |id: &str, content: Value| {
            line(
                &json!({"type": "assistant", "message": {"id": id, "role": "assistant", "content": [content]}, "parent_tool_use_id": null, "session_id": "session-1"}),
            )
        };
        // Whole, and in pieces.
        let whole = message("m1", json!({"type": "text", "text": answer}));
        let event = |event: Value| {
            line(&json!({"type": "stream_event", "event": event, "session_id": "session-1"}))
        };
        let mut pieces = event(json!({"type": "message_start", "message": {"id": "m2"}}));
        for part in answer.chars().collect::<Vec<_>>().chunks(7) {
            let delta = json!({"type": "text_delta", "text": part.iter().collect::<String>()});
            pieces += &event(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        }
        pieces += &event(json!({"type": "content_block_stop", "index": 0}));
        for lines in [whole, pieces] {
            std::fs::write(world.path("lines"), lines).unwrap();
            let id = execute(&api, "read the lines").await;
            let done = wait_for_status(&api, &id, "completed").await;
            let lines =
                done["output"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
            assert_eq!(&lines.collect::<String>(), answer);
            assert_eq!(done["result"], json!(answer));
            assert_eq!(done["cost_usd"], json!(0.01), "{done}");
            assert_eq!(done["usage"]["total_tokens"], 127, "{done}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_of_the_repository_hold_in_jobs() {
    let rules = "[permissions]\ndeny = ['shell(curl*)']\nallow = ['other(mcp__ha__*)']";
    let world = claude("[service.chat]\ntools = true\nclone = true", rules);
    let api = Api::start(&world);
    for (prompt, answer) in
        [("ask for a shell", "behavior:deny"), ("ask for mcp", "behavior:allow")]
    {
        let id = execute(&api, prompt).await;
        let done = wait_for_status(&api, &id, "completed").await;
        assert_eq!(done["result"], answer, "{prompt}: {done}");
        // And in a chat with tools.
        let (status, done) = api.post("/v1/chat/completions", OPERATOR, chat(prompt)).await;
        let content = &done["choices"][0]["message"]["content"];
        assert_eq!((status, content), (200, &json!(answer)), "{prompt}: {done}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_job_lasts_as_long_as_its_caller_allows() {
    let script = r#"case "$prompt" in *"for ever"*) sleep 600 ;; esac
sleep 4
printf '{"type":"end","status":"done"}\n'"#;
    let world = with_agent(script, "", "capacity = 2\n[limits]\nsilence_seconds = 1");
    let api = Api::start(&world);
    let body = json!({"prompt": "be quiet", "agent": "a", "timeout_seconds": 60});
    let id = execute_with(&api, body).await;
    let body = json!({"prompt": "for ever", "agent": "a", "timeout_seconds": 4});
    let late = execute_with(&api, body).await;
    wait_for_status(&api, &id, "completed").await;
    wait_for_status(&api, &late, "timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_begins_before_the_agent_writes_a_word() {
    let world = claude("", "");
    let api = Api::start(&world);
    let body = json!({"messages": [{"role": "user", "content": "be silent"}], "stream": true});
    let begun = Instant::now();
    let request = api.client.post(format!("{}/v1/chat/completions", api.address));
    let mut answer = request.bearer_auth(OPERATOR).json(&body).send().await.unwrap();
    let first = answer.chunk().await.unwrap().unwrap();
    let took = begun.elapsed();
    assert_eq!(answer.headers()["x-accel-buffering"], "no");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert!(first.starts_with(b":"), "{first:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    wait_for_file(&world, "silent").await;
    go(&world);
    let rest = answer.text().await.unwrap();
    assert!(rest.contains("at last") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
    // The journal's stream begins at once, too.
    let request = api.client.get(format!("{}/v1/events", api.address)).bearer_auth(OPERATOR);
    let mut events = request.send().await.unwrap();
    assert_eq!(events.headers()["x-accel-buffering"], "no");
    assert!(events.chunk().await.unwrap().unwrap().starts_with(b":"));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameter_that_cannot_be_honoured_is_an_error_that_clients_show() {
    let world = claude("", "");
    let api = Api::start(&world);
    let image = json!([{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
    for (key, value, param) in [
        ("n", json!(2), "n"),
        ("response_format", json!({"type": "json_object"}), "response_format"),
        ("tool_choice", json!("required"), "tool_choice"),
        ("tools", json!([{"type": "function", "function": {"name": "f"}}]), "tools"),
        ("messages", json!([{"role": "user", "content": image}]), "messages[0].content[1]"),
    ] {
        for stream in [false, true] {
            let mut body = chat("hi");
            body[key] = value.clone();
            body["stream"] = json!(stream);
            let (status, answer) = api.post("/v1/chat/completions", OPERATOR, body).await;
            assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{answer}");
            assert_eq!(answer["error"]["type"], "invalid_request_error");
            assert!(answer["error"]["message"].is_string() && answer["error"]["code"].is_string());
        }
    }
    let mut harmless = chat("hi");
    for (key, value) in [("temperature", json!(0.1)), ("max_tokens", json!(5)), ("n", json!(1))] {
        harmless[key] = value;
    }
    assert_eq!(api.post("/v1/chat/completions", OPERATOR, harmless).await.0, 200);
    let answer = api.post("/v1/chat/completions", "wrong-token-0123456789", chat("hi")).await;
    assert_eq!((answer.0, &answer.1["error"]["code"]), (401, &json!("invalid_api_key")));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_and_every_error_has_a_body() {
    let world = claude("[service.chat.models.researcher]\nmodel = 'opus'", "");
    let api = Api::start(&world);
    let (status, list) = api.get("/v1/models", Some(OPERATOR)).await;
    assert_eq!((status, &list["object"]), (200, &json!("list")));
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"sonnet") && ids.contains(&"researcher"), "{ids:?}");
    let (status, one) = api.get("/v1/models/opus", Some(OPERATOR)).await;
    assert_eq!((status, &one["id"], &one["object"]), (200, &json!("opus"), &json!("model")));
    for (method, path, status) in [
        ("GET", "/v1/models/gpt-5", 404),
        ("GET", "/v1/embeddings", 404),
        ("POST", "/nothing", 404),
        ("GET", "/execute", 405),
        ("PUT", "/v1/chat/completions", 405),
        ("DELETE", "/health", 405),
        ("GET", "/v1/events?since=x", 400),
    ] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = api.client.request(method.clone(), format!("{}{path}", api.address));
        let answer = request.bearer_auth(OPERATOR).send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.headers()["content-type"], "application/json", "{method} {path}");
        assert_eq!(answer.headers().contains_key("allow"), status == 405, "{method} {path}");
        let body: Value = answer.json().await.unwrap();
        assert!(!body["error"]["message"].as_str().unwrap().is_empty(), "{method} {path} {body}");
    }
    assert_eq!(api.get("/v1/models", None).await.0, 401);
}

/// Sends a request on a connection, and reads its answer's head and body.
fn ask_on(stream: &mut TcpStream, head: &str, body: &[u8]) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let head = format!(
        "{head}\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer)?;
        all.extend(&buffer[..read]);
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| rest.len() >= length.parse::<usize>().unwrap()) {
                return Ok(text);
            }
        }
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_request_leaves_its_connection_usable() {
    let world = world("");
    let api = Api::start(&world);
    let address = api.address.strip_prefix("http://").unwrap();
    let body = format!("{{\"prompt\": \"{}\", \"agent\": \"a\"}}", "x".repeat(700_000));
    let mut stream = TcpStream::connect(address).unwrap();
    for round in 0..20 {
        for (line, status) in [
            ("POST /execute HTTP/1.1", "401"),
            ("POST /v1/chat/completions HTTP/1.1", "401"),
            ("POST /nowhere HTTP/1.1", "404"),
            ("PUT /execute HTTP/1.1", "405"),
        ] {
            let answer = ask_on(&mut stream, line, body.as_bytes()).unwrap();
            assert!(answer.contains(status) && !answer.contains("connection: close"), "{answer}");
        }
        let answer = ask_on(&mut stream, "GET /health HTTP/1.1", b"").unwrap();
        assert!(answer.contains("200 OK"), "{round}: {answer}");
    }
    // A body over the limit of its route is read to its end, too.
    let huge = vec![b'x'; 9 * 1024 * 1024];
    let bearer = format!("POST /execute HTTP/1.1\r\nauthorization: Bearer {OPERATOR}");
    let answer = ask_on(&mut stream, &bearer, &huge).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too large"), "{answer}");
    let answer = ask_on(&mut stream, "GET /health HTTP/1.1", b"").unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    // A client that waits for `100 Continue` is answered, and its connection is closed.
    let waits =
        "POST /execute HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(waits.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn role_persona_tools_and_clone_follow_the_route_and_the_model() {
    let service = "[service.chat]\nrole = 'recruiter-triage'\npersona = 'You are the triage.'\ntools = true\n\
         clone = true\nmax_usd = 2\n[service.chat.models.plain]\nmodel = 'haiku'\ntools = false\nclone = false\n\
         [service.stream]\nrole = 'conversational'\n\
         [service.converse]\nrole = 'talker'\npersona = 'You talk.'\n";
    let world = claude(service, "");
    let api = Api::start(&world);
    let message = || std::fs::read_to_string(world.path("message")).unwrap();
    let (status, answer) = api.post("/v1/chat/completions", OPERATOR, chat("use a tool")).await;
    assert_eq!(status, 200, "{answer}");
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.starts_with("at ") && content.contains("tests"), "only the end: {content:?}");
    let seen = args(&world);
    assert!(seen.contains("--agent\nrecruiter-triage\n") && !seen.contains("--tools"), "{seen}");
    assert!(
        seen.contains("--max-budget-usd\n2.000000\n") && seen.contains("--model\nopus"),
        "{seen}"
    );
    assert!(message().contains(r"You are the triage.\n\nuse a tool"), "{}", message());
    let mut plain = chat("hi");
    plain["model"] = json!("plain");
    let (status, answer) = api.post("/v1/chat/completions", OPERATOR, plain).await;
    assert_eq!((status, &answer["model"]), (200, &json!("plain")), "{answer}");
    let seen = args(&world);
    assert!(seen.contains("--model\nhaiku\n") && seen.contains("--tools\n\n"), "{seen}");
    let mut stream = chat("hi");
    stream["stream"] = json!(true);
    let request = api.client.post(format!("{}/v1/chat/completions", api.address));
    let answer = request.bearer_auth(OPERATOR).json(&stream).send().await.unwrap();
    assert!(answer.text().await.unwrap().contains("hello"));
    let seen = args(&world);
    assert!(seen.contains("--agent\nconversational\n") && seen.contains("--tools\n\n"), "{seen}");
    for persona in [true, false] {
        let body = json!({"session_id": "s", "message": "hi"});
        let (status, answer) = api.post("/v1/conversational", OPERATOR, body).await;
        assert_eq!((status, &answer["reply"]), (200, &json!("hello")), "{answer}");
        assert!(args(&world).contains("--agent\ntalker\n"), "{}", args(&world));
        assert_eq!(message().contains("You talk."), persona, "{}", message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_with_the_same_key_gets_the_same_job() {
    let world = with_agent(
        "printf x >> \"$HOLD/runs\"\nprintf '{\"type\":\"end\",\"status\":\"done\"}\\n'",
        "",
        "capacity = 1\nmax_queue_depth = 1",
    );
    let mut api = Api::start(&world);
    let send = |api: &Api, key: &str, prompt: &str| {
        let body = json!({"prompt": prompt, "agent": "a", "metadata": {"n": 1}});
        let request = api.client.post(format!("{}/execute", api.address)).bearer_auth(OPERATOR);
        let request = request.header("Idempotency-Key", key).json(&body).send();
        async move {
            let answer = request.await.unwrap();
            let replayed = answer.headers().contains_key("idempotent-replayed");
            (answer.status().as_u16(), replayed, answer.json::<Value>().await.unwrap())
        }
    };
    // At the same time, and with a full queue.
    let all = (0..8).map(|_| send(&api, "order-7", "do"));
    let answers = futures::future::join_all(all).await;
    let id = answers[0].2["job_id"].clone();
    assert!(
        answers.iter().all(|(status, _, body)| *status == 202 && body["job_id"] == id),
        "{answers:?}"
    );
    assert_eq!(answers.iter().filter(|(_, replayed, _)| !replayed).count(), 1);
    wait_for_status(&api, id.as_str().unwrap(), "completed").await;
    let (status, _, other) = send(&api, "order-7", "do something else").await;
    assert_eq!(status, 409, "{other}");
    let (status, _, other) = send(&api, "order-8", "do").await;
    assert!(status == 202 && other["job_id"] != id, "{other}");
    wait_for_status(&api, other["job_id"].as_str().unwrap(), "completed").await;
    assert_eq!(send(&api, " ", "do").await.0, 400);
    api.up.kill();
    drop(api);
    let api = Api::start(&world);
    let (status, replayed, body) = send(&api, "order-7", "do").await;
    assert_eq!((status, replayed, &body["job_id"]), (202, true, &id));
    assert_eq!(body["status"], "completed");
    assert_eq!(job(&api, id.as_str().unwrap()).await["status"], "completed");
    assert_eq!(std::fs::read_to_string(world.path("runs")).unwrap(), "xx");
}

#[test]
fn doctor_prints_no_credential_of_a_remote() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let world = World::new("").at(format!("http://bot:s3cret@127.0.0.1:{port}/acme/thing.git"));
    world.config();
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["doctor"]).collect();
    let out = crate::support::afk(&args).output().unwrap();
    let text =
        format!("{}{}", crate::support::text(&out.stdout), crate::support::text(&out.stderr));
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(!text.contains("s3cret") && !text.contains("bot:"), "{text}");
}

/// The blocks of a page that are indented by four spaces.
fn blocks(page: &str) -> Vec<String> {
    let (mut all, mut block) = (Vec::new(), String::new());
    for line in page.lines() {
        match line.strip_prefix("    ") {
            Some(line) => block.push_str(&format!("{line}\n")),
            None if line.is_empty() && !block.is_empty() => block.push('\n'),
            None if !block.is_empty() => all.push(std::mem::take(&mut block).trim().to_owned()),
            None => {}
        }
    }
    all.push(block.trim().to_owned());
    all
}

/// A Claude Code that answers with its own arguments without their quotes, and commits and pushes if it is asked to.
const CONTAINER_CLAUDE: &str = concat!(
    "#!/bin/sh\nARGS=$(printf %s \"$*\" | tr -d '\"')\n",
    include_str!("../support/claude.sh"),
    r#"
init
taken
case "$MESSAGE" in
*"commit it"*) echo x > "$AFK_JOB"; git add . && git $US commit -qm "Add $AFK_JOB" && git push -q origin HEAD || exit 1 ;;
esac
say "$ARGS"
result
"#
);

/// The container of the earlier service below a folder: a clone, a home with agents, and a `claude`.
struct Container {
    world: World,
    path: String,
}

impl Container {
    fn new() -> Self {
        let world = World::claude(CLAUDE);
        let place = |name: &str| world.path(name);
        for folder in ["workspace", "home/agent/.claude/agents", "persistent", "bin", "etc/afk"] {
            std::fs::create_dir_all(place(folder)).unwrap();
        }
        let remote = world.path("infra.git");
        std::fs::rename(world.remote(), &remote).unwrap();
        let infra = place("workspace/infra");
        git(world.root(), &["clone", "-q", remote.to_str().unwrap(), infra.to_str().unwrap()]);
        for role in ["recruiter-triage", "conversational"] {
            let file = format!("home/agent/.claude/agents/{role}.md");
            std::fs::write(place(&file), format!("---\nname: {role}\n---\nYou are {role}.\n"))
                .unwrap();
        }
        let program = place("bin/claude");
        std::fs::write(&program, CONTAINER_CLAUDE).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let path = format!("{}:{}", place("bin").display(), std::env::var("PATH").unwrap());
        Self { world, path }
    }

    /// The folders of the container below this one, and a free port.
    fn here(&self, text: &str) -> String {
        let root = self.world.root().display();
        ["/workspace/", "/secrets/", "/etc/", "/persistent/"]
            .iter()
            .fold(text.to_owned(), |text, folder| text.replace(folder, &format!("{root}{folder}")))
            .replace("0.0.0.0:8080", "127.0.0.1:0")
    }

    fn command(&self, environment: &str, word: &str) -> std::process::Command {
        let mut command = crate::support::afk(&[word]);
        command.env("PATH", &self.path).env("HOME", self.world.path("home/agent"));
        command.env("API_BEARER_TOKEN", OPERATOR);
        for line in self.here(environment).lines() {
            let (name, value) = line.split_once('=').unwrap();
            command.env(name, value);
        }
        command
    }

    fn start(&self, environment: &str) -> Api {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut command = self.command(environment, "up");
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let out = std::io::BufReader::new(child.stdout.take().unwrap());
        let lines: Vec<String> =
            std::io::BufRead::lines(out).map_while(Result::ok).take(2).collect();
        let up = crate::support::world::Up(child);
        let bound = lines[0].strip_prefix("http on ").unwrap_or_else(|| panic!("{lines:?}"));
        Api { up, address: format!("http://{bound}"), client: reqwest::Client::new() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_about_the_earlier_service_describes_a_container_that_works() {
    let page = include_str!("../../docs/earlier-service.md");
    let environment = include_str!("../../assets/container/earlier-service.env").trim();
    let file = include_str!("../../assets/container/earlier-service.toml").trim();
    let blocks = blocks(page);
    assert_eq!((blocks[0].as_str(), blocks[1].as_str()), (environment, file), "the page differs");
    let container = Container::new();
    let path = container.world.path("etc/afk/afk.toml");
    std::fs::write(&path, container.here(file)).unwrap();
    let doctor = container.command(environment, "doctor").output().unwrap();
    let doctor = crate::support::text(&doctor.stdout);
    assert!(
        doctor.contains("ok  configuration") && doctor.contains("armed for 1 repository"),
        "{doctor}"
    );
    let without_key = environment.replace("GIT_CRYPT_KEY=/secrets/git-crypt/key\n", "");
    let api = container.start(&without_key);
    let id = execute(&api, "commit it").await;
    let done = wait_for_status(&api, &id, "completed").await;
    assert_eq!(done["commits"]["pushed"], true, "{done}");
    let remote = container.world.path("infra.git");
    assert_eq!(crate::support::log(&remote, "master", "%s").last().unwrap(), &format!("Add {id}"));
    let (status, answer) = api.post("/v1/chat/completions", OPERATOR, chat("hi")).await;
    let args = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    assert!(status == 200 && args.contains("--agent recruiter-triage"), "{answer}");
    assert!(args.contains("--max-budget-usd 2.0") && !args.contains("--tools"), "{args}");
    let body = json!({"session_id": "s", "message": "hi"});
    let (status, answer) = api.post("/v1/conversational", OPERATOR, body).await;
    let args = answer["reply"].as_str().unwrap_or_default();
    assert!(
        status == 200 && args.contains("--agent conversational") && args.contains("--tools"),
        "{answer}"
    );
    let (_, health) = api.get("/health", None).await;
    assert_eq!((&health["status"], &health["capacity"]), (&json!("ok"), &json!(10)));
}

#[tokio::test(flavor = "multi_thread")]
async fn service_needs_no_configuration_file() {
    let container = Container::new();
    let environment = "WORKSPACE_DIR=/workspace/infra\nAFK_HTTP_LISTEN=127.0.0.1:0\n\
         AFK_AGENT_PRESET=claude\nAFK_KILL_SWITCH=False\nAFK_ALLOWLIST=infra\nAFK_BUDGET_USD=\n\
         AFK_STATE_DIR=/persistent/afk\nAFK_SERVICE_PUSH=yes";
    let api = container.start(environment);
    let id = execute(&api, "commit it").await;
    let done = wait_for_status(&api, &id, "completed").await;
    assert_eq!(done["commits"]["pushed"], true, "{done}");
    let (_, fleet) = api.get("/v1/fleet", Some(OPERATOR)).await;
    assert!(!fleet["problems"].to_string().contains("afk.toml"), "{}", fleet["problems"]);
    drop(api);
    let doctor = container.command(environment, "doctor").output().unwrap();
    let doctor = crate::support::text(&doctor.stdout);
    assert!(doctor.contains("ok  configuration: the environment alone"), "{doctor}");
    // A name that has another meaning now is an error that names the new word.
    let wrong = environment.replace("AFK_ALLOWLIST=infra", "AFK_ALLOWLIST=web");
    let refused = container.command(&wrong, "up").output().unwrap();
    let text = crate::support::text(&refused.stderr);
    assert!(!refused.status.success() && text.contains("owner/name"), "{text}");
    // Without a repository, there is nothing to serve, and a file is asked for.
    let none = "AFK_HTTP_LISTEN=127.0.0.1:0\nAFK_STATE_DIR=/persistent/afk";
    let refused = container.command(none, "up").output().unwrap();
    assert_eq!(refused.status.code(), Some(3), "{}", crate::support::text(&refused.stderr));
}
