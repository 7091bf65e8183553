//! The agent service's API as its callers see it: jobs, chats, conversations, health.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};

use crate::support::api::{Api, OPERATOR, VIEWER, section};
use crate::support::git;
use crate::support::world::World;

/// The prompt selects what the job's agent does.
const AGENT: &str = r#"
say() { printf '{"type":"text","text":"%s"}\n' "$1"; }
case "$prompt" in
*"hold on"*) : > "$HOLD/began-$AFK_JOB"; until [ -e "$HOLD/go" ]; do sleep 0.05; done ;;
*"break down"*) say 'so far so good'; echo 'it broke' >&2; exit 3 ;;
*"take forever"*) : > "$HOLD/began-$AFK_JOB"; sleep 600 ;;
*"write down"*) printf '%s' "$prompt" > "$HOLD/prompt" ;;
*"look around"*) say "$(git remote get-url origin)"; say "$(cat state 2>/dev/null || echo none)"
    say "$(find .git/objects -type f -links +1 -o -name "*.pack" | wc -l) shared, $(wc -l < .git/objects/info/alternates) borrowed"; say "$PWD" ;;
esac
say 'first line\nsecond — 日本'
printf '{"type":"end","status":"done"}\n'
"#;

/// A world whose service works in the world's repository.
pub(super) fn world(more: &str) -> World {
    with_agent(AGENT, more, "capacity = 2")
}

pub(super) fn with_agent(script: &str, more: &str, top: &str) -> World {
    let world = World::new(script);
    let (hold, http) = (world.root().display().to_string(), section(&world));
    let service = format!("[service]\nrepository = 'acme/thing'\n{more}");
    // This world's issue is for other tests.
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    world.with(top).with(&http).with(&service).agent(&format!("set = {{ HOLD = '{hold}' }}"))
}

pub(super) async fn execute(api: &Api, prompt: &str) -> String {
    execute_with(api, json!({"prompt": prompt, "agent": "implementer"})).await
}

pub(super) async fn execute_with(api: &Api, body: Value) -> String {
    let (status, answer) = api.post("/execute", OPERATOR, body).await;
    assert_eq!((status, answer["status"].as_str()), (202, Some("queued")), "{answer}");
    let id = answer["job_id"].as_str().unwrap().to_owned();
    assert!(id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    id
}

pub(super) async fn job(api: &Api, id: &str) -> Value {
    let (status, job) = api.get(&format!("/jobs/{id}"), Some(OPERATOR)).await;
    assert_eq!(status, 200, "{job}");
    job
}

/// Polls until a job has the status.
pub(super) async fn wait_for_status(api: &Api, id: &str, status: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    let mut every = tokio::time::interval(Duration::from_millis(20));
    loop {
        every.tick().await;
        let job = job(api, id).await;
        if job["status"] == status {
            return job;
        }
        assert!(Instant::now() < end, "{id} is not {status}: {job}");
    }
}

pub(super) async fn wait_for_file(world: &World, name: &str) {
    let path = world.path(name);
    crate::support::world::wait_until(name, || path.exists()).await;
}

pub(super) fn go(world: &World) {
    std::fs::write(world.path("go"), "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn service_refuses_callers_without_a_known_token() {
    let world = World::new(AGENT);
    let none =
        "[http]\nenabled = true\nlisten = '127.0.0.1:0'\n[service]\nrepository = 'acme/thing'";
    let world = world.with(none);
    let api = Api::start(&world);
    let unauthenticated = json!({"detail": "Service unauthenticated"});
    let bodies = [
        ("/execute", json!({"prompt": "x", "agent": "a"})),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "x"}]})),
        ("/v1/conversational", json!({"session_id": "s", "message": "x"})),
    ];
    for (path, body) in &bodies {
        let (status, answer) = api.post(path, OPERATOR, body.clone()).await;
        assert_eq!((status, &answer["detail"]), (401, &unauthenticated["detail"]), "{path}");
    }
    let answer = api.get("/jobs/0123456789ab", Some(OPERATOR)).await;
    assert_eq!(answer, (401, unauthenticated));
    assert_eq!(api.get("/health", None).await.0, 200);
    drop(api);
    // Once tokens are configured, no token, a wrong one and a viewer's are refused.
    let world = self::world("");
    let api = Api::start(&world);
    for token in [None, Some("wrong-token-0123456789")] {
        assert_eq!(api.get("/jobs/0123456789ab", token).await.0, 401);
    }
    for (path, body) in &bodies {
        assert_eq!(api.post(path, "wrong-token-0123456789", body.clone()).await.0, 401, "{path}");
        assert_eq!(api.post(path, VIEWER, body.clone()).await.0, 403, "{path}");
    }
    let answer = api.get("/jobs/0123456789ab", Some(VIEWER)).await;
    assert_eq!(answer, (404, json!({"detail": "Job not found"})));
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_token_has_the_operator_role() {
    let world = world("");
    let env = [("API_BEARER_TOKEN", "from-environment")];
    let api = Api::start_with(&world, &env);
    let body = json!({"prompt": "say", "agent": "a", "unknown": 1});
    assert_eq!(api.post("/execute", "from-environmen", body.clone()).await.0, 401);
    assert_eq!(api.post("/execute", "from-environment", body).await.0, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_works_in_its_own_clone_and_reports_its_output() {
    let world = world("");
    let api = Api::start(&world);
    let metadata = json!({"ticket": 7, "who": "日本"});
    let body = json!({"prompt": "look around", "agent": "implementer", "metadata": metadata});
    let id = execute_with(&api, body).await;
    let job = wait_for_status(&api, &id, "completed").await;
    assert_eq!((&job["prompt"], &job["agent"]), (&json!("look around"), &json!("implementer")));
    assert_eq!((&job["metadata"], &job["exit_code"]), (&metadata, &json!(0)));
    assert_eq!((&job["error"], &job["stderr"]), (&Value::Null, &json!("")));
    let output: Vec<&str> =
        job["output"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let remote = format!("{}\n", world.remote().display());
    assert_eq!(output[..3], [remote.as_str(), "none\n", "0 shared, 1 borrowed\n"], "{output:?}");
    assert_eq!(output[4..], ["first line\n", "second — 日本"]);
    let left = || !std::path::Path::new(output[3].trim_end()).exists();
    crate::support::world::wait_until("the end of the clone", left).await;
    let times: Vec<&str> = ["created_at", "started_at", "finished_at"]
        .iter()
        .map(|name| job[*name].as_str().unwrap())
        .collect();
    assert!(times.is_sorted() && times[0].ends_with('Z'), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn job_status_reports_its_exit_code_and_reason() {
    let world = world("");
    let api = Api::start(&world);
    let id = execute(&api, "break down").await;
    let failed = wait_for_status(&api, &id, "failed").await;
    assert_eq!((&failed["exit_code"], &failed["stderr"]), (&json!(3), &json!("it broke\n")));
    assert_eq!(failed["output"], json!(["so far so good"]));
    assert!(failed["error"].as_str().unwrap().contains("exit status: 3"), "{failed}");
    let body = json!({"prompt": "take forever", "agent": "a", "timeout_seconds": 1});
    let id = execute_with(&api, body).await;
    let late = wait_for_status(&api, &id, "timeout").await;
    assert!(late["error"].as_str().unwrap().contains("longer than its limit"), "{late}");
    assert_eq!((late["exit_code"].clone(), late["finished_at"].is_string()), (Value::Null, true));
    // No escalation is open, and nothing waits.
    let (_, fleet) = api.get("/v1/fleet", Some(VIEWER)).await;
    assert_eq!(fleet["fleet"]["escalations"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn text_program_with_an_exit_code_is_an_agent() {
    let words = "cat; echo so much for that >&2; exit \"$CODE\"";
    let agent = |name: &str, command: &str, code: u8| {
        format!(
            "[agents.{name}]\nspeaks = 'text'\ncommand = {command}\nset = {{ CODE = '{code}' }}\n"
        )
    };
    let says = format!("['sh', '-c', '''{words}''']");
    let agents = [
        agent("fine", &says, 0),
        agent("fails", &says, 3),
        agent("nothing", "['/bin/true']", 0),
        agent("nowhere", "['/no/such/program']", 0),
    ];
    let world = world("workspace = false\nagent = 'fine'").with(&agents.concat());
    let api = Api::start(&world);
    let (printed, nothing) = (json!(["one\n", "zwei — 日本"]), json!([]));
    for (agent, status, code, output) in [
        ("fine", "completed", json!(0), &printed),
        ("fails", "failed", json!(3), &printed),
        ("nothing", "completed", json!(0), &nothing),
        ("nowhere", "error", json!(127), &nothing),
    ] {
        let body = json!({"prompt": "one\nzwei — 日本", "agent": agent});
        let id = execute_with(&api, body).await;
        let job = wait_for_status(&api, &id, status).await;
        assert_eq!((&job["exit_code"], &job["output"]), (&code, output), "{job}");
        if output == &printed {
            assert_eq!(job["stderr"], "so much for that\n", "{job}");
        }
    }
    let (status, answer) = api.post("/v1/chat/completions", OPERATOR, chat("one\n\ntwo")).await;
    assert_eq!(status, 200, "{answer}");
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.contains("one\n\ntwo"), "{content:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_body_is_refused_with_its_field() {
    let world = world("");
    let api = Api::start(&world);
    for (body, field) in [
        (json!({"agent": "a"}), "prompt"),
        (json!({"prompt": "x"}), "agent"),
        (json!({"prompt": " ", "agent": "a"}), "prompt"),
        (json!({"prompt": 7, "agent": "a"}), "prompt"),
        (json!({"prompt": "x", "agent": "--dangerously"}), "agent"),
        (json!({"prompt": "x", "agent": "../outside"}), "agent"),
        (json!({"prompt": "x", "agent": "/etc/passwd"}), "agent"),
        (json!({"prompt": "x", "agent": "a", "max_budget_usd": "much"}), "max_budget_usd"),
        (json!({"prompt": "x", "agent": "a", "max_budget_usd": -1}), "max_budget_usd"),
        (json!({"prompt": "x", "agent": "a", "timeout_seconds": 0}), "timeout_seconds"),
        (json!({"prompt": "x", "agent": "a", "metadata": []}), "metadata"),
    ] {
        let (status, answer) = api.post("/execute", OPERATOR, body.clone()).await;
        assert_eq!((status, &answer["detail"][0]["loc"]), (422, &json!(["body", field])), "{body}");
    }
    let request = api.client.post(format!("{}/execute", api.address)).bearer_auth(OPERATOR);
    assert_eq!(request.body("{").send().await.unwrap().status(), 422);
    let (status, answer) =
        api.post("/v1/chat/completions", OPERATOR, json!({"model": "opus"})).await;
    assert_eq!((status, &answer["detail"][0]["loc"]), (422, &json!(["body", "messages"])));
    let (status, answer) = api.post("/v1/conversational", OPERATOR, json!({"message": "x"})).await;
    assert_eq!((status, &answer["detail"][0]["loc"]), (422, &json!(["body", "session_id"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_one_repository_run_in_parallel_and_waiting_spends_no_time_limit() {
    let world = world("");
    let api = Api::start(&world);
    let first = execute(&api, "hold on").await;
    let second = execute(&api, "hold on").await;
    wait_for_file(&world, &format!("began-{first}")).await;
    wait_for_file(&world, &format!("began-{second}")).await;
    // The job may work for one second, and waits longer than that.
    let third = json!({"prompt": "look around", "agent": "a", "timeout_seconds": 1});
    let third = execute_with(&api, third).await;
    assert_eq!(job(&api, &third).await["status"], "queued");
    let (_, health) = api.get("/health", None).await;
    let busy = json!({"status": "ok", "busy": true, "active": 2, "queued": 1, "capacity": 2});
    assert_eq!(health, busy);
    let waited = Instant::now();
    crate::support::world::wait_until("two seconds", || waited.elapsed() > Duration::from_secs(2))
        .await;
    assert_eq!(job(&api, &third).await["status"], "queued");
    go(&world);
    for id in [&first, &second, &third] {
        wait_for_status(&api, id, "completed").await;
    }
    let (_, health) = api.get("/health", None).await;
    assert_eq!((&health["busy"], &health["active"]), (&json!(false), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn full_queue_refuses_jobs_and_ended_jobs_are_forgotten() {
    let world = with_agent(AGENT, "job_ttl_seconds = 1", "capacity = 1\nmax_queue_depth = 2");
    let api = Api::start(&world);
    let first = execute(&api, "hold on").await;
    let second = execute(&api, "say").await;
    let body = json!({"prompt": "x", "agent": "a"});
    let full = api.post("/execute", OPERATOR, body).await;
    assert_eq!(full, (429, json!({"detail": "Queue full"})));
    let chat = json!({"messages": [{"role": "user", "content": "x"}]});
    let (status, answer) = api.post("/v1/chat/completions", OPERATOR, chat).await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("execution_failed")));
    // The transcript of a job whose agent has its own protocol.
    std::fs::create_dir_all(world.state().join("raw")).unwrap();
    std::fs::write(world.state().join("raw/r1.jsonl"), "").unwrap();
    go(&world);
    let gone = |id: String| {
        let api = &api;
        async move {
            let end = Instant::now() + Duration::from_secs(60);
            while api.get(&format!("/jobs/{id}"), Some(OPERATOR)).await.0 != 404 {
                assert!(Instant::now() < end, "{id} stays");
            }
        }
    };
    gone(first).await;
    gone(second).await;
    // The files go just after the job is forgotten.
    let files = |folder| std::fs::read_dir(world.state().join(folder)).unwrap().count();
    let none = || (files("transcripts"), files("raw")) == (0, 0);
    crate::support::world::wait_until("no file of the jobs is left", none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_of_jobs_shares_one_fetch() {
    let world = world("fetch_debounce_seconds = 5");
    let api = Api::start(&world);
    let first = execute(&api, "look around").await;
    wait_for_status(&api, &first, "completed").await;
    std::fs::write(world.path("work/state"), "new\n").unwrap();
    world.commit("Newer");
    let shares = execute(&api, "look around").await;
    assert_eq!(wait_for_status(&api, &shares, "completed").await["output"][1], "none\n");
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let id = execute(&api, "look around").await;
        if wait_for_status(&api, &id, "completed").await["output"][1] == "new\n" {
            break;
        }
        assert!(Instant::now() < end, "it is never fetched again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_loses_no_job() {
    let world = with_agent(AGENT, "", "capacity = 1");
    let mut api = Api::start(&world);
    let done = execute(&api, "say").await;
    wait_for_status(&api, &done, "completed").await;
    let failed = execute(&api, "break down").await;
    wait_for_status(&api, &failed, "failed").await;
    let body = json!({"prompt": "take forever", "agent": "a", "timeout_seconds": 1});
    let late = execute_with(&api, body).await;
    wait_for_status(&api, &late, "timeout").await;
    let running = execute(&api, "hold on").await;
    wait_for_file(&world, &format!("began-{running}")).await;
    let queued = execute(&api, "look around").await;
    api.up.kill();
    drop(api);
    let api = Api::start(&world);
    for (id, status) in [(&done, "completed"), (&failed, "failed"), (&late, "timeout")] {
        let job = job(&api, id).await;
        assert_eq!(job["status"], status, "{job}");
        assert!(job["created_at"].is_string() && job["finished_at"].is_string());
    }
    assert_eq!(job(&api, &failed).await["exit_code"], 3);
    assert_eq!(job(&api, &queued).await["status"], "queued");
    go(&world);
    wait_for_status(&api, &running, "completed").await;
    wait_for_status(&api, &queued, "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_job_ends_as_an_error_with_its_reason() {
    let world = world("");
    let api = Api::start(&world);
    let id = execute(&api, "take forever").await;
    wait_for_file(&world, &format!("began-{id}")).await;
    let (_, fleet) = api.get("/v1/fleet", Some(VIEWER)).await;
    let run = fleet["fleet"]["jobs"]["by_id"][&id].clone();
    let cancel = json!({"action": "cancel", "run": run});
    assert_eq!(api.act(OPERATOR, cancel).await.0, 200);
    let job = wait_for_status(&api, &id, "error").await;
    assert_eq!(job["error"], "cancelled by deployer");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_switch_refuses_callers() {
    let world = world("").with_kill_switch();
    let api = Api::start(&world);
    let (status, answer) =
        api.post("/execute", OPERATOR, json!({"prompt": "x", "agent": "a"})).await;
    assert_eq!((status, answer), (503, json!({"detail": "the kill switch is on"})));
}

/// The part of Claude Code that a chat needs: streamed pieces, then token counts.
const CLAUDE: &str = r#"
piece() { line '{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'"$1"'"}},"session_id":"'"$SESSION"'"}'; }
printf '%s\n' "$@" > "$HOLD/args"
init
taken
printf '%s' "$MESSAGE" > "$HOLD/message"
case "$MESSAGE" in
*fail*) failed 529 ;;
*silent*) : > "$HOLD/silent"; sleep 600 ;;
*forever*) piece 'so '; : > "$HOLD/pid"; sleep 600 ;;
esac
for part in 'Grüße' ', ' '日本\n\n' '— ' "${RESUMED:-new}"; do piece "$part"; done
result
"#;

fn claude() -> World {
    let world = World::claude(CLAUDE);
    let (hold, http) = (world.root().display().to_string(), section(&world));
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    world
        .with("capacity = 1")
        .with(&http)
        .with("[service]\nrepository = 'acme/thing'")
        .agent(&format!("set = {{ HOLD = '{hold}' }}"))
}

fn chat(content: &str) -> Value {
    json!({
        "model": "opus",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": content},
        ],
        "temperature": 0.2,
        "tools": [],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_answers_in_the_openai_format() {
    let world = claude();
    let api = Api::start(&world);
    let (status, answer) = api.post("/v1/chat/completions", OPERATOR, chat("hi")).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("opus")));
    let message = json!({"role": "assistant", "content": "Grüße, 日本\n\n— new"});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    assert_eq!(answer["choices"], json!([choice]));
    let usage = json!({"prompt_tokens": 120, "completion_tokens": 7, "total_tokens": 127});
    assert_eq!(answer["usage"], usage);
    let args = std::fs::read_to_string(world.path("args")).unwrap();
    assert!(args.contains("--model\nopus\n") && args.contains("--tools\n\n"), "{args}");
    let reported = std::fs::read_to_string(world.path("message")).unwrap();
    assert!(reported.contains(r"Be brief.\n\nhi"), "{reported}");
    let other = json!({"model": "gpt-5", "messages": []});
    let (status, answer) = api.post("/v1/chat/completions", OPERATOR, other).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("model_not_found")));
    assert_eq!(answer["supported"].as_array().unwrap().len(), 6);
    let (status, answer) = api.post("/v1/chat/completions", OPERATOR, chat("fail")).await;
    assert_eq!((status, &answer["error"]["type"]), (503, &json!("server_error")));
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.contains("529") && detail.len() <= 200 && !detail.contains('\n'), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_sends_chunks_and_ends_with_its_caller() {
    let world = claude();
    let api = Api::start(&world);
    let ask = |content: &str| {
        let mut body = chat(content);
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let request = api.client.post(format!("{}/v1/chat/completions", api.address));
        request.bearer_auth(OPERATOR).json(&body).send()
    };
    let answer = ask("hi").await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = answer.text().await.unwrap();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(lines.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> =
        lines[..lines.len() - 1].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let parts: Vec<&str> = chunks[1..6]
        .iter()
        .map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(parts, ["Grüße", ", ", "日本\n\n", "— ", "new"]);
    assert_eq!(chunks[6]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[7]["usage"]["completion_tokens"], 7);
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"));
    // A failure is reported by the HTTP status, or in the stream if that has begun: on a slow machine
    // the agent fails late.
    let failed = ask("fail").await.unwrap();
    let (status, text) = (failed.status().as_u16(), failed.text().await.unwrap());
    let data = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&text);
    let error: Value = serde_json::from_str(data).unwrap();
    assert!(matches!(status, 503 | 200) && !text.contains("[DONE]"), "{status} {text}");
    assert_eq!(error["error"]["code"], "execution_failed", "{text}");
    // A caller that disconnects ends the agent.
    let mut stream = ask("forever").await.unwrap();
    let mut first = String::new();
    while !first.contains("assistant") {
        first.push_str(&String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()));
    }
    // Behind the wall an agent has a number of its own; its mark is the same everywhere.
    let journal = crate::support::journal_id(&world.state());
    let gone = async || {
        let is_gone = || crate::support::processes_with("AFK_STATE", &journal).is_empty();
        crate::support::world::wait_until("the agent's end", is_gone).await;
    };
    wait_for_file(&world, "pid").await;
    drop(stream);
    gone().await;
    // A disconnect before the first piece ends the agent, too.
    let silent = async {
        let stream = ask("silent").await.unwrap();
        wait_for_file(&world, "silent").await;
        drop(stream);
    };
    silent.await;
    gone().await;
    let (_, answer) = api.post("/v1/chat/completions", OPERATOR, chat("hi")).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "the permit is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversation_continues_across_turns() {
    let world = claude();
    let mut api = Api::start(&world);
    let say = |session: &str| json!({"session_id": session, "message": "hello"});
    let (status, answer) = api.post("/v1/conversational", OPERATOR, say("a")).await;
    assert_eq!((status, &answer["session_id"]), (200, &json!("a")), "{answer}");
    assert_eq!(answer["reply"], "Grüße, 日本\n\n— new");
    let args = std::fs::read_to_string(world.path("args")).unwrap();
    assert!(args.contains("--tools\n\n") && args.contains("--model\nsonnet"), "{args}");
    let (_, answer) = api.post("/v1/conversational", OPERATOR, say("a")).await;
    assert_eq!(answer["reply"], "Grüße, 日本\n\n— session-1");
    let (_, answer) = api.post("/v1/conversational", OPERATOR, say("b")).await;
    assert_eq!(answer["reply"], "Grüße, 日本\n\n— new", "another session is another conversation");
    // The conversation continues after a restart, too.
    api.up.kill();
    drop(api);
    let api = Api::start(&world);
    let (_, answer) = api.post("/v1/conversational", OPERATOR, say("a")).await;
    assert_eq!(answer["reply"], "Grüße, 日本\n\n— session-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_waiting_jobs_use_little_memory() {
    let world = with_agent(AGENT, "", "capacity = 0\nmax_queue_depth = 2000");
    let api = Api::start(&world);
    let prompt = "x".repeat(500);
    let asked = (0..1000).map(|_| async {
        let body = json!({"prompt": prompt, "agent": "a", "metadata": {"n": 1}});
        assert_eq!(api.post("/execute", OPERATOR, body).await.0, 202);
    });
    futures::stream::iter(asked).buffer_unordered(50).collect::<Vec<()>>().await;
    let (_, health) = api.get("/health", None).await;
    assert_eq!(health["queued"], 1000);
    let status = std::fs::read_to_string(format!("/proc/{}/status", api.up.0.id())).unwrap();
    // Excludes the pages of the program itself, which are many in a debug build; the bench counts
    // all.
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 60 * 1024, "{kib} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_crypt_files_are_decrypted_in_a_jobs_clone() {
    let installed = |word: &str| {
        std::process::Command::new(word)
            .arg("version")
            .output()
            .is_ok_and(|out| out.status.success())
    };
    if !installed("git-crypt") {
        eprintln!("!!! SKIPPED: there is no git-crypt");
        return;
    }
    let script = r#"
printf '{"type":"text","text":"%s"}\n' "$(cat secret)"
printf '{"type":"end","status":"done"}\n'
"#;
    let world = with_agent(script, "", "capacity = 1");
    let (work, key) = (world.path("work"), world.path("key"));
    let crypt = |args: &[&str]| {
        let out = std::process::Command::new("git-crypt").args(args).current_dir(&work).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{out:?}");
    };
    crypt(&["init"]);
    std::fs::write(work.join(".gitattributes"), "secret filter=git-crypt diff=git-crypt\n")
        .unwrap();
    std::fs::write(work.join("secret"), "open sesame").unwrap();
    world.commit("Hide it");
    crypt(&["export-key", key.to_str().unwrap()]);
    let hidden = git(&world.remote(), &["cat-file", "-p", "master:secret"]);
    assert!(!hidden.contains("sesame"));
    let bytes = std::fs::read(&key).unwrap();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    for value in [key.display().to_string(), base64] {
        let api = Api::start_with(&world, &[("GIT_CRYPT_KEY", value.as_str())]);
        let id = execute(&api, "read it").await;
        let job = wait_for_status(&api, &id, "completed").await;
        assert_eq!(job["output"], json!(["open sesame"]), "{job}");
    }
    // A wrong key is an error, and leaves no clone with encrypted files.
    let api = Api::start_with(&world, &[("GIT_CRYPT_KEY", "AAAA")]);
    let id = execute(&api, "read it").await;
    wait_for_status(&api, &id, "error").await;
    let left: Vec<_> = std::fs::read_dir(world.state()).unwrap().flatten().collect();
    assert!(!left.iter().any(|file| file.file_name().to_string_lossy().starts_with("git-crypt")));
}
