//! Habits of the service's callers beside the earlier service's own: requests that are sent twice,
//! numbers in other forms, secrets in a prompt, and agents that give no answer.

use serde_json::{Value, json};

use super::service::{execute_with, wait_for_file, wait_for_status, with_agent};
use crate::support::api::{Api, OPERATOR};
use crate::support::world::World;

/// The prompt selects the answer.
const AGENT: &str = r#"
printf x >> "$HOLD/runs"
say() { printf '{"type":"text","text":"%s"}\n' "$1"; }
case "$prompt" in
*"say nothing"*) ;;
*"ask back"*) printf '{"type":"question","id":"q","text":"Which branch?"}\n'; sleep 600 ;;
*"take forever"*) : > "$HOLD/began"; [ -e "$HOLD/go" ] || sleep 600; say 'at last' ;;
*) say 'an answer' ;;
esac
printf '{"type":"end","status":"done"}\n'
"#;

fn world() -> World {
    with_agent(AGENT, "", "capacity = 4")
}

fn runs(world: &World) -> usize {
    std::fs::read_to_string(world.path("runs")).unwrap_or_default().len()
}

/// Sends a request with a key. Returns the status, whether the answer is a repeated one, and the body.
async fn send(api: &Api, path: &str, key: &str, body: Value) -> (u16, bool, String) {
    let request = api.client.post(format!("{}{path}", api.address)).bearer_auth(OPERATOR);
    let answer = request.header("Idempotency-Key", key).json(&body).send().await.unwrap();
    let repeated = answer.headers().contains_key("idempotent-replayed");
    (answer.status().as_u16(), repeated, answer.text().await.unwrap())
}

fn chat(content: &str, stream: bool) -> Value {
    json!({"messages": [{"role": "user", "content": content}], "stream": stream})
}

#[tokio::test(flavor = "multi_thread")]
async fn question_with_the_same_key_is_answered_once() {
    let world = world();
    let api = Api::start(&world);
    let path = "/v1/chat/completions";
    let all = (0..4).map(|_| send(&api, path, "k1", chat("hi", false)));
    let answers = futures::future::join_all(all).await;
    let all_same = |(status, _, body): &(u16, bool, String)| {
        let body: Value = serde_json::from_str(body).unwrap();
        *status == 200 && body["choices"][0]["message"]["content"] == "an answer"
    };
    assert!(answers.iter().all(all_same), "{answers:?}");
    assert_eq!(answers.iter().filter(|(_, repeated, _)| !repeated).count(), 1, "{answers:?}");
    let (status, repeated, text) = send(&api, path, "k1", chat("hi", true)).await;
    assert!(status == 200 && repeated && text.contains("an answer"), "{text}");
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    // Also the end of the first question is another question.
    for other in ["something else", "i", "hi there"] {
        assert_eq!(send(&api, path, "k1", chat(other, false)).await.0, 409, "{other}");
    }
    assert_eq!(runs(&world), 1);
    // A session's message is answered once too, and its key is not the one of a chat.
    let message = json!({"session_id": "s", "message": "hi"});
    let (status, repeated, text) = send(&api, "/v1/conversational", "k2", message.clone()).await;
    assert_eq!((status, repeated), (200, false), "{text}");
    let (status, repeated, again) = send(&api, "/v1/conversational", "k2", message).await;
    assert_eq!((status, repeated, again), (200, true, text));
    assert_eq!(runs(&world), 2);
    assert_eq!(send(&api, path, " ", chat("hi", false)).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn question_whose_caller_went_away_is_asked_anew_under_its_key() {
    let world = world();
    let api = Api::start(&world);
    let path = "/v1/chat/completions";
    let gone = send(&api, path, "k", chat("take forever", false));
    tokio::select! {
        _ = gone => panic!("it takes for ever"),
        () = wait_for_file(&world, "began") => {}
    }
    std::fs::write(world.path("go"), "").unwrap();
    let (status, repeated, text) = send(&api, path, "k", chat("take forever", false)).await;
    assert!(status == 200 && !repeated && text.contains("at last"), "{status} {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_that_writes_nothing_is_no_empty_answer() {
    let world = world();
    let api = Api::start(&world);
    let body = chat("say nothing", false);
    let (status, answer) = api.post("/v1/chat/completions", OPERATOR, body).await;
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(status == 503 && message.contains("without any text"), "{status} {answer}");
    let (_, _, text) = send(&api, "/v1/chat/completions", "k", chat("say nothing", true)).await;
    assert!(text.contains("without any text") && !text.contains("[DONE]"), "{text}");
    let body = json!({"session_id": "s", "message": "say nothing"});
    let (status, answer) = api.post("/v1/conversational", OPERATOR, body).await;
    let detail = answer["detail"].as_str().unwrap_or_default();
    assert!(status == 503 && detail.contains("without any text"), "{status} {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_a_request_are_kept_out_of_the_journal() {
    let world = world();
    let api = Api::start(&world);
    let secret = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
    let metadata = json!({"note": format!("\"{secret}\""), "all": [{"of": secret}, 7]});
    let body = json!({
        "prompt": format!("use {secret}"), "agent": "a", "metadata": metadata,
        "timeout_seconds": "60.0", "max_budget_usd": "0.5",
    });
    let id = execute_with(&api, body).await;
    let done = wait_for_status(&api, &id, "completed").await;
    assert!(done["metadata"]["all"][1] == 7 && !done.to_string().contains(secret), "{done}");
    assert!(done["prompt"].as_str().unwrap().starts_with("use "), "{done}");
    for entry in std::fs::read_dir(world.state()).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{}", entry.path().display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn job_that_waited_for_a_human_until_its_time_was_over_says_so() {
    let world = world();
    let api = Api::start(&world);
    let body = json!({"prompt": "ask back", "agent": "a", "timeout_seconds": 3.0});
    let id = execute_with(&api, body).await;
    let ended = wait_for_status(&api, &id, "timeout").await;
    let error = ended["error"].as_str().unwrap();
    assert!(error.contains("waited for an answer") && error.contains("Which branch?"), "{ended}");
}
