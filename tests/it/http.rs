//! The HTTP API as its callers see it.

use serde_json::{Value, json};

use crate::support::api::{Api, OPERATOR, VIEWER, section};
use crate::support::pve::Pve;
use crate::support::world::World;

fn kind(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["kind"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn token_gives_a_name_and_a_role() {
    let world = World::new("").with_kill_switch();
    let section = section(&world);
    let world = world.with(&section);
    let api = Api::start(&world);
    for token in [None, Some("wrong-token-0123456789"), Some(""), Some(&OPERATOR[1..])] {
        let answer = api.get("/v1/fleet", token).await;
        assert_eq!(kind(&answer), (401, "unauthenticated"), "{token:?}");
    }
    let (status, fleet) = api.get("/v1/fleet", Some(VIEWER)).await;
    assert_eq!((status, &fleet["fleet"]["policy"]["kill_switch"]), (200, &json!(true)));
    let throw = json!({"action": "set_kill_switch", "on": true});
    assert_eq!(kind(&api.act(VIEWER, throw.clone()).await), (403, "viewer"));
    assert_eq!(api.act(OPERATOR, throw).await, (200, json!({"accepted": "ok"})));
    // The journal names the token.
    let (_, fleet) = api.get("/v1/fleet", Some(OPERATOR)).await;
    assert_eq!(fleet["fleet"]["operator_kill"], json!(true));
    let lift = json!({"action": "set_kill_switch", "on": false});
    assert_eq!(kind(&api.act(OPERATOR, lift).await), (409, "refused"));
    let (status, answer) = api.act(OPERATOR, json!({"action": "dance"})).await;
    assert_eq!((status, answer["error"]["kind"].as_str()), (422, Some("body")));
    let request = api.client.post(format!("{}/v1/commands", api.address));
    let big = request.bearer_auth(OPERATOR).body(vec![b'x'; 2 << 20]).send().await;
    assert!(big.map_or(true, |answer| answer.status().is_client_error()));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_breakglass_has_the_checks_of_the_cockpit() {
    let world = World::new("").with_kill_switch();
    let Some(pve) = Pve::start(world.root()) else { return };
    let both = format!("{}\n{}", pve.section(world.root(), ""), section(&world));
    let world = world.with(&both);
    let api = Api::start(&world);
    let ask = |ask: Value| json!({"action": "breakglass", "ask": ask});
    let arm = ask(json!({"ask": "arm", "reason": "it hangs"}));
    let status = ask(json!({"ask": "verb", "verb": "status"}));
    let shell = ask(json!({"ask": "shell", "host": "devvm"}));
    for action in [&arm, &status, &shell, &ask(json!({"ask": "disarm"}))] {
        assert_eq!(kind(&api.act(VIEWER, action.clone()).await), (403, "viewer"), "{action}");
    }
    let (code, answer) = api.act(OPERATOR, status.clone()).await;
    assert_eq!(
        (code, answer["error"]["message"].as_str()),
        (409, Some("breakglass is off: arm it first, with a reason"))
    );
    assert_eq!(api.act(OPERATOR, arm).await.0, 200);
    // A viewer sees the armed actor and the digests that confirmations need.
    let (code, seen) = api.get("/v1/breakglass", Some(VIEWER)).await;
    assert_eq!((code, seen["state"]["armed"]["by"].as_str()), (200, Some("deployer")));
    let bare = ask(json!({"ask": "verb", "verb": "cycle"}));
    assert_eq!(kind(&api.act(OPERATOR, bare).await), (409, "refused"));
    let confirm = json!({"name": "devvm", "seen": seen["seen"]["cycle"]});
    let cycle = ask(json!({"ask": "verb", "verb": "cycle", "confirm": confirm}));
    let (code, answer) = api.act(OPERATOR, cycle).await;
    assert_eq!((code, answer["accepted"].as_str()), (200, Some("verb")), "{answer}");
    let over = |seen: &Value| seen["state"]["past"].as_array().is_some_and(|past| !past.is_empty());
    let mut seen = Value::Null;
    while !over(&seen) {
        seen = api.get("/v1/breakglass", Some(VIEWER)).await.1;
    }
    assert_eq!(seen["state"]["past"][0]["end"][1]["result"]["code"], json!(0), "{seen}");
    assert_eq!(pve.actions(), ["stop", "start"]);
}

/// Reads `count` events from a stream.
async fn sse(api: &Api, path: &str, last: Option<i64>, count: usize) -> Vec<Value> {
    let request = api.client.get(format!("{}{path}", api.address)).bearer_auth(VIEWER);
    let request = last.iter().fold(request, |r, last| r.header("Last-Event-ID", last.to_string()));
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (mut text, mut events) = (String::new(), Vec::new());
    while events.len() < count {
        let chunk = tokio::time::timeout(std::time::Duration::from_secs(30), answer.chunk());
        let chunk = chunk.await.expect("an event").unwrap().expect("more of the stream");
        text.push_str(&String::from_utf8_lossy(&chunk));
        while let Some(end) = text.find("\n\n") {
            let event: String = text.drain(..end + 2).collect();
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            if let Some(data) = field("data: ") {
                let data: Value = serde_json::from_str(data).unwrap();
                assert_eq!(field("id: ").unwrap(), data["seq"].to_string());
                events.push(data);
            }
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn event_stream_continues_from_any_record_without_a_gap() {
    let world = World::new("").with_kill_switch();
    let section = section(&world);
    let world = world.with(&section);
    let api = Api::start(&world);
    let throw = |on: bool| json!({"action": "set_capacity", "permits": u32::from(on)});
    for n in 0..600 {
        assert_eq!(api.act(OPERATOR, throw(n % 2 == 0)).await.0, 200);
    }
    // More than a page of past events, then new ones.
    let (_, fleet) = api.get("/v1/fleet", Some(VIEWER)).await;
    let seq = fleet["seq"].as_i64().unwrap();
    let many = usize::try_from(seq).unwrap() + 2;
    let later = async {
        tokio::task::yield_now().await;
        api.act(OPERATOR, throw(true)).await
    };
    let (events, _) = tokio::join!(sse(&api, "/v1/events?since=0", None, many), later);
    let numbers: Vec<i64> = events.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=i64::try_from(many).unwrap()).collect::<Vec<_>>());
    assert_eq!(events[0]["event"]["event"], "started");
    // A caller that reconnects continues after its last event.
    let again = sse(&api, "/events?since=1", Some(seq), 2).await;
    assert_eq!(again[0]["seq"], json!(seq + 1));
    // Without a number the stream begins now.
    let answer = sse(&api, "/v1/events", None, 1);
    let later = async {
        loop {
            api.act(OPERATOR, throw(true)).await;
        }
    };
    tokio::select! {
        events = answer => assert!(events[0]["seq"].as_i64().unwrap() > seq + 2),
        () = later => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_and_transcripts_are_served_in_pages() {
    let world = World::new(
        "for n in 1 2 3 4 5 6; do echo '{\"type\":\"text\",\"text\":\"line '$n'\"}'; done\n\
         echo '{\"type\":\"end\",\"status\":\"done\"}'",
    );
    let section = section(&world);
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let world = world.with(&section);
    let api = Api::start(&world);
    let submit = json!({"action": "submit", "repo": "acme/thing", "prompt": "go"});
    let (_, answer) = api.act(OPERATOR, submit).await;
    assert_eq!(answer["run"], json!(1), "{answer}");
    let mut reported = Value::Null;
    while reported["run"]["outcome"] != "done" {
        reported = api.get("/v1/runs/r1", Some(VIEWER)).await.1;
    }
    assert_eq!(api.get("/runs/1", Some(VIEWER)).await.1["run"]["id"], json!(1));
    let (_, all) = api.get("/v1/runs/1/transcript", Some(VIEWER)).await;
    let records = all["records"].as_u64().unwrap();
    assert!(records >= 8 && all["entries"].as_array().unwrap().len() as u64 == records, "{all}");
    let (_, two) = api.get("/v1/runs/1/transcript?from=3&count=2", Some(VIEWER)).await;
    assert_eq!(two["entries"].as_array().unwrap()[..], all["entries"].as_array().unwrap()[3..5]);
    let answer = api.get("/v1/runs/1/transcript?from=x", Some(VIEWER)).await;
    assert_eq!(kind(&answer), (422, "query"));
    for path in ["/v1/runs/99", "/v1/runs/x", "/v1/runs/99/transcript"] {
        assert_eq!(kind(&api.get(path, Some(VIEWER)).await), (404, "no-run"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openapi_description_matches_the_served_routes() {
    let world = World::new("").with_kill_switch();
    let section = section(&world);
    let world = world.with(&section).with("[service]\nrepository = 'acme/thing'");
    let api = Api::start(&world);
    let (status, described) = api.get("/openapi.json", None).await;
    assert_eq!((status, described["openapi"].as_str()), (200, Some("3.1.0")));
    let paths = described["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 17, "{:?}", paths.keys());
    for (path, methods) in paths {
        for (method, about) in methods.as_object().unwrap() {
            let address = format!("{}{}", api.address, path.replace("{id}", "0123456789ab"));
            let address = address.replace("{model}", "sonnet");
            let send = |token: Option<&str>| {
                let method = method.to_uppercase().parse().unwrap();
                let request = api.client.request(method, &address).json(&json!({}));
                token.iter().fold(request, reqwest::RequestBuilder::bearer_auth).send()
            };
            let open = about.get("security").is_none();
            let bare = send(None).await.unwrap().status().as_u16();
            assert_eq!(bare == 401, !open, "{path} answers {bare}");
            let answer = send(Some(OPERATOR)).await.unwrap();
            let known = answer.status().as_u16().to_string();
            let response = &about["responses"][&known];
            assert!(response.is_object(), "{path} answers {known}");
            let kind = answer.headers()["content-type"].to_str().unwrap();
            let kind = kind.split(';').next().unwrap().to_owned();
            let schema = &response["content"][&kind]["schema"];
            assert!(schema.is_object(), "{path} answers {known} in {kind}");
            if let Some(name) = schema["$ref"].as_str() {
                let schema = described.pointer(&name[1..]).unwrap();
                let body: Value = answer.json().await.unwrap();
                let fields = body.as_object().unwrap();
                let is_described = |field: &String| schema["properties"].get(field).is_some();
                assert!(fields.keys().all(is_described), "{path} answers {body}");
                let required = schema["required"].as_array().unwrap().iter();
                let mut names = required.map(|field| field.as_str().unwrap());
                assert!(names.all(|field| fields.contains_key(field)), "{path} answers {body}");
            }
        }
    }
    let request = api.client.get(format!("{}/metrics", api.address)).bearer_auth(VIEWER);
    let request = request.header("accept", "application/openmetrics-text");
    let answer = request.send().await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = answer.text().await.unwrap();
    assert!(text.contains("\nafk_permits 10.0\n") && text.ends_with("# EOF\n"), "{text}");
    // No route is served that is not described.
    assert_eq!(
        api.client.get(format!("{}/v2/fleet", api.address)).send().await.unwrap().status(),
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_tell_whether_afk_works_and_may_get_requests() {
    let world = World::new("").with_kill_switch();
    let section = section(&world);
    let world = world.with(&section);
    let api = Api::start(&world);
    assert_eq!(api.get("/livez", None).await, (200, json!({"live": true})));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let ready = loop {
        let (status, body) = api.get("/readyz", None).await;
        if status == 200 || std::time::Instant::now() > deadline {
            break (status, body);
        }
        assert_eq!(body["reasons"], json!(["the tracker was not read yet"]), "{body}");
    };
    assert_eq!((ready.0, &ready.1["ready"], &ready.1["leads"]), (200, &json!(true), &json!(true)));
    assert!(ready.1["tracker_age_seconds"].as_u64().is_some_and(|age| age < 60), "{}", ready.1);
}
