//! The queue: filter, order, groups and folds, also with many issues.

use super::fixture;
use super::script::Script;

#[test]
fn filter_finds_labels_and_blockers() {
    let mut script = Script::on(fixture::many(60), (80, 24));
    script.keys("/label:bug<Enter>");
    script.shows("/ label:bug · 1/20 of 60");
    script.keys("<Esc>/blocked-by:api#1<Enter>");
    script.shows("· 1/12 of 60");
    script.keys("<Esc>/blocked-by:api#1 repo:web<Enter>");
    script.shows("web#");
    script.lacks(" api#");
    script.keys("<Esc>/label:nonsense<Enter>");
    script.shows("no row has these words");
    script.keys("<Esc>");
    script.shows("Queue · 1/60");
}

#[test]
fn frequent_reasons_are_folded_and_enter_unfolds_one() {
    let mut script = Script::on(fixture::many(60), (80, 24));
    script.shows("▸ not labelled 36");
    script.shows("▸ blocked 12");
    script.lacks("not labelled ready");
    // What the keys act on is the head, which is no run.
    script.keys("G");
    while !script.text().contains(">▸ not labelled") {
        script.keys("k");
    }
    assert!(script.keys("x").is_empty());
    script.shows("no run is selected");
    script.keys("<Enter>");
    script.shows(">▾ not labelled 36");
    script.shows("not labelled ready");
    script.keys("<Enter>");
    script.shows(">▸ not labelled 36");
    script.lacks("not labelled ready");
}

#[test]
fn order_and_groups_change_what_stands_where_and_say_so() {
    let mut script = Script::new();
    script.keys("S");
    script.shows("Queue · oldest first · 1/8");
    script.keys("SS");
    script.shows("Queue · by name · 1/8");
    let screen = script.text();
    let place = |part: &str| screen.find(part).unwrap_or_else(|| panic!("{part}: {screen}"));
    assert!(place("greeter#2 ") < place("greeter#3 ") && place("greeter#3 ") < place("ledger#7 "));
    script.keys("SR");
    script.shows("Queue · by repository · 6/8");
    script.shows("acme/greeter 3  at work 1 · held 2");
    script.shows("acme/vault 1  held 1");
    script.lacks("WAITS FOR YOU");
    // The selection stays with its row.
    script.shows(">❄ p1 pulse#9");
    script.keys("R");
    script.shows(">❄ p1 pulse#9");
    script.shows("WAITS FOR YOU 1");
}

#[test]
fn ten_thousand_issues_have_a_place_and_a_scrollbar() {
    let mut script = Script::on(fixture::many(10_000), (80, 24));
    script.keys("/api<Enter>");
    script.shows("/ api · 1/");
    let thumb = |script: &Script| -> Vec<usize> {
        let text = script.text();
        let lines = text.lines().enumerate();
        lines.filter(|(_, line)| line.ends_with('┃')).map(|(at, _)| at).collect()
    };
    let top = thumb(&script);
    script.keys("G");
    let bottom = thumb(&script);
    assert!(!top.is_empty() && top[0] < bottom[0], "{top:?} {bottom:?}");
    script.keys("<Esc>");
    script.shows("/10000");
    // A short list has none.
    assert!(thumb(&Script::new()).is_empty());
}
