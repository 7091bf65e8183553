//! The journal's anchor, through the program: it shows what the hash chain can't.

use serde_json::json;

use crate::support::api::{Api, OPERATOR, section};
use crate::support::world::World;
use crate::support::{afk, text};

fn verify(world: &World) -> (bool, String) {
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["verify"]).collect();
    let out = afk(&args).output().unwrap();
    (out.status.success(), text(&out.stdout) + &text(&out.stderr))
}

fn harm(world: &World, sql: &str) {
    let db = rusqlite::Connection::open(world.state().join("journal.sqlite")).unwrap();
    db.execute_batch(&format!("DROP TRIGGER IF EXISTS append_only_delete; {sql}")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_the_records_that_were_cut_off() {
    let world = World::new("").with_kill_switch();
    let key = world.path("anchor-key");
    std::fs::write(&key, "a key of many characters\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, mode).unwrap();
    let section = section(&world);
    let anchored =
        format!("[journal]\nanchor_file = 'anchor'\nanchor_key = 'file:{}'", key.display());
    let world = world.with(&section).with(&anchored);
    let api = Api::start(&world);
    let seq = loop {
        let throw = json!({"action": "set_capacity", "permits": 2});
        assert_eq!(api.act(OPERATOR, throw).await.0, 200);
        let seq = api.get("/v1/fleet", Some(OPERATOR)).await.1["seq"].as_i64().unwrap();
        if seq >= 10 {
            break seq;
        }
    };
    // The end of afk anchors the last record.
    drop(api);
    let (holds, printed) = verify(&world);
    assert!(holds && printed.contains("anchored up to record "), "{printed}");
    harm(&world, "DELETE FROM events WHERE seq > 5");
    let (holds, printed) = verify(&world);
    assert!(!holds && printed.contains("records 6 to "), "{printed}");
    assert!(printed.contains("are missing: the journal ends at record 5"), "{printed}");
    // A new start goes on with a chain that holds, and doesn't cover the gap up.
    let api = Api::start(&world);
    let (_, fleet) = api.get("/v1/fleet", Some(OPERATOR)).await;
    let problems = fleet["problems"].to_string();
    assert!(problems.contains("the journal is not anchored"), "{problems}");
    for _ in 0..seq {
        let throw = json!({"action": "set_capacity", "permits": 3});
        assert_eq!(api.act(OPERATOR, throw).await.0, 200);
    }
    drop(api);
    let (holds, printed) = verify(&world);
    assert!(!holds && printed.contains("were rewritten"), "{printed}");
    // Without the anchor, nothing of this shows.
    std::fs::remove_file(world.path("anchor")).unwrap();
    let (holds, printed) = verify(&world);
    assert!(!holds && printed.contains("has no anchored record"), "{printed}");
}
