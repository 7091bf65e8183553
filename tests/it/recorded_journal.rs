//! Journals that an earlier afk wrote (commit f1bed79, 2026-11-29) open here and fold to the fleet
//! that they folded to there.
//!
//! `demo.sqlite` is the journal of a whole demo; `seed-N.jsonl` are journals of the simulation, and
//! `every-kind.jsonl` holds the event kinds that these lack. The last line of a `.jsonl` file, and
//! `demo.fleet.json`, is the fleet as the earlier afk serialized it.

use std::path::{Path, PathBuf};

use afk::core::fleet::Fleet;
use afk::core::model::event::Event;
use afk::core::model::time::Timestamp;
use afk::journal::{Journal, chain};
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal")
}

#[test]
fn journal_of_an_earlier_demo_folds_to_the_same_fleet() {
    let state = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures().join("demo.sqlite"), state.path().join("journal.sqlite")).unwrap();
    let journal = Journal::open(state.path()).unwrap();
    assert_eq!(chain::verify(&journal).unwrap().unwrap(), journal.last());
    let recorded = std::fs::read_to_string(fixtures().join("demo.fleet.json")).unwrap();
    let recorded: Value = serde_json::from_str(&recorded).unwrap();
    let folded = serde_json::to_value(journal.fold().unwrap()).unwrap();
    assert_eq!(folded, recorded);
    assert_eq!(folded["runs"].as_object().unwrap().len(), 7);
}

#[test]
fn recorded_events_of_every_kind_keep_their_form_and_their_meaning() {
    let mut read = 0;
    for file in std::fs::read_dir(fixtures()).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|end| end != "jsonl") {
            continue;
        }
        let name = file.display();
        let mut fleet = Fleet::default();
        for (number, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
            let record: Value = serde_json::from_str(line).unwrap();
            if let Some(recorded) = record.get("fleet") {
                assert_eq!(serde_json::to_value(&fleet).unwrap(), *recorded, "{name}");
                let read: Fleet = serde_json::from_value(recorded.clone()).unwrap();
                assert_eq!(read, fleet, "{name}: the fleet does not read back");
                continue;
            }
            let event: Event = serde_json::from_value(record["event"].clone())
                .unwrap_or_else(|why| panic!("{name}:{}: {why}", number + 1));
            let again = serde_json::to_value(&event).unwrap();
            assert_eq!(again, record["event"], "{name}:{}", number + 1);
            fleet.apply(Timestamp(record["at"].as_i64().unwrap()), &event);
            read += 1;
        }
    }
    assert!(read > 500, "only {read} events were read");
}
