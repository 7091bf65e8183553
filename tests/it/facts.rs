//! Checks the doubles against recorded facts from the services' own descriptions. A field that afk
//! reads and the real service doesn't send fails here.

use serde_json::Value;

use crate::support::github::GitHub;
use crate::support::json_kind;
use crate::support::world::{END, World};

/// Whether an answer has only recorded fields, each of a recorded kind.
fn check_fields(recorded: &Value, reported: &Value, at: &str) {
    match recorded {
        Value::Object(fields) => {
            // The double may leave out fields that afk doesn't read, but may not invent any.
            let reported =
                reported.as_object().unwrap_or_else(|| panic!("{at} is not an object: {reported}"));
            for (name, value) in reported {
                let known = fields.get(name);
                let known = known.unwrap_or_else(|| panic!("{at}.{name} is in no recorded answer"));
                check_fields(known, value, &format!("{at}.{name}"));
            }
        }
        Value::Array(one) => {
            let reported =
                reported.as_array().unwrap_or_else(|| panic!("{at} is not a list: {reported}"));
            for value in reported {
                check_fields(&one[0], value, &format!("{at}[]"));
            }
        }
        Value::String(kinds) => {
            let kind = json_kind(reported);
            assert!(kinds.split('|').any(|known| known == kind), "{at} is {kind}, not {kinds}");
        }
        other => panic!("{at}: {other} is no fact"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn github_double_answers_like_the_recorded_github() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let facts: Value = serde_json::from_str(include_str!("../facts/github.json")).unwrap();
    let world = World::new(END);
    let github = GitHub::start(&world.remote());
    github.issue(1, "A title", "Blocked by #2", "ana");
    github.issue(2, "Another", "", "ana");
    github.block(1, 2);
    github.comment(1, "afk-user", "a comment");
    github.require(&["test"]);
    let client = reqwest::Client::new();
    let mut asked = 0;
    for (path, recorded) in facts.as_object().unwrap() {
        let answer = client
            .get(format!("{}{path}", github.address))
            .bearer_auth("tok-afk")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let reported: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        check_fields(recorded, &reported, path);
        asked += 1;
    }
    assert!(asked >= 10, "only {asked} were asked");
}
