//! The past from the command line: `afk brief`, `afk replay` and `afk export`, on runs of a real afk.

use std::process::Output;

use afk::journal::Journal;
use serde_json::Value;

use crate::support::world::{END, WORK, World, wait_until};
use crate::support::{afk, text};

fn run(world: &World, words: &[&str]) -> (i32, String) {
    let places = world.places();
    let words = places.iter().map(String::as_str).chain(words.iter().copied());
    let Output { status, stdout, stderr } = afk(&words.collect::<Vec<_>>()).output().unwrap();
    (status.code().unwrap(), format!("{}{}", text(&stdout), text(&stderr)))
}

fn prints(world: &World, words: &[&str]) -> String {
    let (code, all) = run(world, words);
    assert_eq!(code, 0, "{words:?}: {all}");
    all
}

fn json(world: &World, words: &[&str]) -> Value {
    let all = prints(world, words);
    serde_json::from_str(&all).unwrap_or_else(|why| panic!("{why}: {all}"))
}

/// A world in which one run has landed, and whose afk has ended.
async fn landed() -> World {
    let hostile =
        "echo '{\"type\":\"text\",\"text\":\"<script>alert(1)</script> & \\\"quotes\\\"\"}'";
    let world = World::new(&format!("{hostile}\n{WORK}\n{END}"));
    let up = world.up();
    let state = world.state();
    wait_until("the end of the run", || {
        let fleet = Journal::open_read_only(&state).and_then(|journal| journal.fold());
        fleet.is_ok_and(|fleet| fleet.runs.values().any(|run| !run.live()))
    })
    .await;
    drop(up);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn brief_and_replay_read_the_journal_of_a_stopped_afk() {
    let world = landed().await;
    let brief = json(&world, &["brief", "--since", "2h", "--json"]);
    assert_eq!(brief["landed"][0]["issue"], "acme/thing#1", "{brief}");
    assert_eq!(brief["landed"].as_array().unwrap().len(), 1, "{brief}");
    assert_eq!(
        (&brief["claimed"], &brief["frozen"]),
        (&1.into(), &Value::Array(vec![])),
        "{brief}"
    );
    let words = prints(&world, &["brief", "--since", "1d"]);
    assert!(words.contains("1 landed") && words.contains("LANDED 1"), "{words}");
    assert!(words.contains("acme/thing#1 (r1)"), "{words}");
    let (code, all) = run(&world, &["brief", "--since", "yesterday"]);
    assert!(code == 2 && all.contains("is no time") && all.contains("hint: write 18:00"), "{all}");

    // The last record is the present; before its claim the run did not exist.
    let status = json(&world, &["status", "--json"]);
    let last = status["seq"].as_i64().unwrap();
    let now = json(&world, &["replay", "--at", &last.to_string(), "--json"]);
    for key in ["runs", "issues", "inbox", "locks", "seq"] {
        assert_eq!(now[key], status[key], "{key}");
    }
    let journal = Journal::open_read_only(&world.state()).unwrap();
    let mut claim = 0;
    journal
        .read(1, |record| {
            if record.body.contains("\"claimed\"") && claim == 0 {
                claim = record.seq;
            }
            Ok(true)
        })
        .unwrap();
    let before = json(&world, &["replay", "--at", &(claim - 1).to_string(), "--json"]);
    assert_eq!(before["runs"], Value::Array(vec![]), "{before}");
    let words = prints(&world, &["replay", "--at", &claim.to_string()]);
    assert!(
        words.starts_with("THE PAST: ") && words.contains(&format!("record {claim} of ")),
        "{words}"
    );
    assert!(words.contains("1 run queued"), "{words}");
    let (code, all) = run(&world, &["replay", "--at", "2001-01-01"]);
    assert!(code == 1 && all.contains("nothing was recorded before 2001-01-01"), "{all}");
    // A place beyond the end is the end.
    assert_eq!(json(&world, &["replay", "--at", "999999", "--json"])["seq"], last);
}

#[tokio::test(flavor = "multi_thread")]
async fn export_writes_a_page_without_scripts_and_a_cast() {
    let world = landed().await;
    let (page, cast) = (world.path("run.html"), world.path("run.cast"));
    let places = [page.to_str().unwrap(), cast.to_str().unwrap()];
    let said = prints(&world, &["export", "#1", "--html", places[0], "--cast", places[1]]);
    assert!(
        said.contains("wrote r1 as a page to ") && said.contains("wrote r1 as an asciicast to"),
        "{said}"
    );
    let html = std::fs::read_to_string(&page).unwrap();
    for part in
        ["<h2>Timeline</h2>", "<h2>Proof</h2>", "<h2>Diff</h2>", "<h2>Transcript</h2>", "done"]
    {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(
        html.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot;"),
        "{html}"
    );
    assert!(!html.contains("<script") && !html.contains("http://"), "{html}");
    // Nobody runs, so nobody can read the worktree; the page says so.
    assert!(html.contains("The diff can't be read"), "{html}");
    let cast = std::fs::read_to_string(&cast).unwrap();
    let mut lines = cast.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(lines.next().unwrap()["version"], 2);
    let mut before = 0.0;
    let mut shown = String::new();
    for line in lines {
        let at = line[0].as_f64().unwrap();
        assert!(at >= before && line[1] == "o", "{line}");
        before = at;
        shown.push_str(line[2].as_str().unwrap());
    }
    assert!(shown.contains("alert(1)") && shown.contains("» turn 1"), "{shown}");
    // Nothing is left beside them, and a folder that isn't there is named.
    let rest = std::fs::read_dir(world.root()).unwrap();
    let rest: Vec<_> = rest.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!rest.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{rest:?}");
    let (code, all) = run(&world, &["export", "r1", "--html", "/nonexistent/x.html"]);
    assert!(code == 5 && all.contains("write /nonexistent/x.html"), "{all}");
    assert_eq!(run(&world, &["export", "r1"]).0, 2);
    let (code, all) = run(&world, &["export", "r9", "--cast", places[1]]);
    assert!(code == 1 && all.contains("there is no run r9"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cockpit_shows_the_brief_after_two_hours_away_and_the_past_by_key() {
    let world = landed().await;
    let mut first = world.cockpit();
    first.shows("1 Queue");
    first.keys("q");
    assert_eq!(first.end(), 0);
    assert!(!first.text().contains("Brief since"), "nobody was away: {}", first.text());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for look in std::fs::read_dir(world.state().join("looks")).unwrap() {
        let two_hours_ago = now.as_millis() - 2 * 60 * 60_000;
        std::fs::write(look.unwrap().path(), two_hours_ago.to_string()).unwrap();
    }
    let mut second = world.cockpit();
    second.shows("Brief since");
    second.shows("1 landed");
    second.keys("q");
    second.until("the end of the brief", |text| !text.contains("Brief since"));
    second.keys("t");
    second.shows("THE PAST");
    second.keys("((");
    second.shows("acme/thing#1 (r1) pushed");
    second.keys("x");
    second.shows("this is the past, where nothing can be done");
    second.keys("\u{1b}");
    second.until("the present", |text| !text.contains("THE PAST"));
    second.keys("q");
    assert_eq!(second.end(), 0);
}
