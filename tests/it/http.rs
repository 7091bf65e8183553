//! The HTTP API as a caller sees it.

use serde_json::{Value, json};

use crate::support::pve::Pve;
use crate::support::world::{Up, World};

const OPERATOR: &str = "operator-token-0123456789";
const VIEWER: &str = "viewer-token-0123456789";

struct Api {
    _up: Up,
    address: String,
    client: reqwest::Client,
}

impl Api {
    fn start(world: &World) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (up, lines) = world.up_with(2);
        let bound = lines[0].strip_prefix("http on ").unwrap_or_else(|| panic!("{lines:?}"));
        Self { _up: up, address: format!("http://{bound}"), client: reqwest::Client::new() }
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        let request = self.client.get(format!("{}{path}", self.address));
        let request = token.iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn act(&self, token: &str, action: Value) -> (u16, Value) {
        let request = self.client.post(format!("{}/v1/commands", self.address)).bearer_auth(token);
        let answer = request.json(&action).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

/// `[http]` on a free port with two tokens.
fn section(world: &World) -> String {
    let file = |name: &str, token: &str| {
        let path = world.path(name);
        std::fs::write(&path, format!("{token}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        path.display().to_string()
    };
    format!(
        "[http]\nenabled = true\nlisten = '127.0.0.1:0'\n\
         [http.tokens.deployer]\nsecret = 'file:{}'\nrole = 'operator'\n\
         [http.tokens.wall]\nsecret = 'file:{}'",
        file("operator-token", OPERATOR),
        file("viewer-token", VIEWER)
    )
}

fn kind(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["kind"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_a_name_and_a_role_and_nothing_else_is() {
    let world = World::new("").held();
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
    // In the record under the token's name.
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
async fn breakglass_over_http_has_the_checks_of_keys() {
    let world = World::new("").held();
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
    // A viewer sees who is armed, and what a confirmation would be bound to.
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
