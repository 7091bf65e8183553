//! The API behind nginx with its defaults, as Debian packages it.

use std::time::Duration;

use serde_json::{Value, json};

use super::service::{go, wait_for_file};
use crate::support::api::{Api, OPERATOR, section};
use crate::support::nginx::Nginx;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn stream_passes_nginx_with_its_defaults_piece_by_piece() {
    let script = r#"
piece() { line '{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'"$1"'"}},"session_id":"'"$SESSION"'"}'; }
init
taken
: > "$HOLD/silent"
until [ -e "$HOLD/speak" ]; do sleep 0.05; done
piece 'so '
until [ -e "$HOLD/go" ]; do sleep 0.05; done
piece 'far'
result
"#;
    let world = World::claude(script);
    let (hold, http) = (world.root().display().to_string(), section(&world));
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let world = world
        .with(&http)
        .with("[service]\nrepository = 'acme/thing'")
        .agent(&format!("set = {{ HOLD = '{hold}' }}"));
    let api = Api::start(&world);
    let Some(nginx) = Nginx::start(&world, &api.address) else {
        eprintln!("!!! SKIPPED: there is no nginx");
        return;
    };
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "stream": true});
    let request = api.client.post(format!("{}/v1/chat/completions", nginx.address));
    let mut answer = request.bearer_auth(OPERATOR).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut text = String::new();
    let mut until = async |part: &str| {
        while !text.contains(part) {
            let chunk = tokio::time::timeout(Duration::from_secs(30), answer.chunk());
            let chunk = chunk.await.unwrap_or_else(|_| panic!("no {part:?} in {text:?}"));
            text.push_str(&String::from_utf8_lossy(&chunk.unwrap().expect("more of the stream")));
        }
    };
    // Each part arrives while the agent waits: nothing collects them.
    until("assistant").await;
    wait_for_file(&world, "silent").await;
    std::fs::write(world.path("speak"), "").unwrap();
    until("so ").await;
    go(&world);
    until("[DONE]").await;
    // Errors and their bodies pass, too, also for a body that afk doesn't read.
    let large = json!({"prompt": "x".repeat(500_000), "agent": "a"});
    for _ in 0..20 {
        let request = api.client.post(format!("{}/execute", nginx.address));
        let refused = request.bearer_auth("wrong-token-0123456789").json(&large).send().await;
        let refused = refused.unwrap();
        assert_eq!(refused.status(), 401);
        let body: Value = refused.json().await.unwrap();
        assert_eq!(body["detail"], "Invalid token");
    }
}
