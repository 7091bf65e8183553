//! Marks the parts of a diff that no test needs, as the gate's proof names them.

use crate::core::model::run::Run;
use crate::core::model::verdict::FactKind;

/// The words behind the head of such a part.
const MARK: &str = "  no test needs this";

/// The parts of a run's change that no test needs, as its proof shows them: `src/lib.rs:12`.
pub(super) fn places(run: &Run) -> Vec<String> {
    let evidence = run.proof.chain().filter_map(|(_, evidence)| evidence);
    let facts = evidence.flat_map(|evidence| &evidence.facts);
    let spare = facts.filter(|fact| fact.kind == FactKind::NotNeeded);
    spare.map(|fact| fact.value.clean_line()).collect()
}

/// The lines of a diff. The mark stands behind the head of each hunk that has one of the places; a
/// place that has moved since the proof is listed above the diff alone.
pub(super) fn marked(diff: &str, places: &[String]) -> Vec<String> {
    let mut lines: Vec<String> =
        places.iter().map(|place| format!("not needed by any test: {place}")).collect();
    let mut file = "";
    for line in diff.lines() {
        if let Some(path) = line.strip_prefix("+++ b/") {
            file = path;
        }
        let is_spare = hunk_lines(line).is_some_and(|hunk| {
            places
                .iter()
                .filter_map(|place| place_of(place))
                .any(|(path, at)| path == file && hunk.contains(&at))
        });
        lines.push(if is_spare { format!("{line}{MARK}") } else { line.to_owned() });
    }
    lines
}

/// The lines of the new file that a hunk shows, from its head `@@ -1,2 +3,4 @@`.
fn hunk_lines(head: &str) -> Option<std::ops::Range<usize>> {
    let new = head.strip_prefix("@@ -")?.split_once(" +")?.1.split_once(" @@")?.0;
    let (start, count) = new.split_once(',').unwrap_or((new, "1"));
    let start: usize = start.parse().ok()?;
    Some(start..start + count.parse::<usize>().ok()?)
}

/// The file and the line of a place such as `src/lib.rs:12 and 2 more`.
fn place_of(place: &str) -> Option<(&str, usize)> {
    let (path, rest) = place.rsplit_once(':')?;
    Some((path, rest.split(' ').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunk_that_no_test_needs_is_marked() {
        let diff =
            "+++ b/a.rs\n@@ -1,2 +1,3 @@ fn a()\n+x\n@@ -9 +10 @@\n+y\n+++ b/b.rs\n@@ -1 +10 @@";
        let lines = marked(diff, &["a.rs:10".to_owned()]);
        let heads: Vec<&str> =
            lines.iter().filter(|line| line.ends_with(MARK)).map(String::as_str).collect();
        assert_eq!(heads, ["@@ -9 +10 @@  no test needs this"]);
        assert_eq!(lines[0], "not needed by any test: a.rs:10");
        assert_eq!(marked(diff, &[]).join("\n"), diff);
    }

    #[test]
    fn hunk_and_place_are_read() {
        assert_eq!(hunk_lines("@@ -1,2 +3,4 @@ fn a()"), Some(3..7));
        assert_eq!(hunk_lines("@@ -1 +1 @@"), Some(1..2));
        assert_eq!(hunk_lines("+@@ -1 +1 @@"), None);
        assert_eq!(place_of("src/a:b.rs:12 and 2 more"), Some(("src/a:b.rs", 12)));
        assert_eq!(place_of("src/a.rs:7"), Some(("src/a.rs", 7)));
    }
}
