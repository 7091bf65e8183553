//! Unified diffs of the changes that agents report, for the transcript and permission requests.

use std::path::Path;

/// Returns the hunks of the unified diff between two texts of a file, without file headers. It is
/// empty if the texts are equal or binary.
#[must_use]
pub(crate) fn unified(path: &str, old: &str, new: &str) -> String {
    let mut options = git2::DiffOptions::new();
    options.context_lines(3);
    let name = Path::new(path.trim_start_matches('/'));
    // Excerpts of a file lack their last newline, which is no change.
    let with_newline = |text: &str| {
        let open = !(old.ends_with('\n') || new.ends_with('\n') || text.is_empty());
        format!("{text}{}", if open { "\n" } else { "" })
    };
    let (old, new) = (with_newline(old), with_newline(new));
    let patch = git2::Patch::from_buffers(
        old.as_bytes(),
        Some(name),
        new.as_bytes(),
        Some(name),
        Some(&mut options),
    );
    let text = patch.and_then(|mut patch| patch.to_buf());
    let text = text.ok().and_then(|text| text.as_str().map(str::to_owned).ok()).unwrap_or_default();
    // Every view shows the path beside the diff.
    text.find("@@ ").map_or_else(String::new, |at| text[at..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unified_returns_only_hunks() {
        let diff = unified("/w/calc.py", "a\nb\n", "a\nc\n");
        assert!(diff.starts_with("@@ -1,2 +1,2 @@") && diff.contains("-b\n+c\n"), "{diff}");
        assert!(unified("x", "same", "same").is_empty());
        assert!(!unified("x", "old", "new").contains("No newline"));
        assert!(unified("x", "", "new\n").contains("+new"));
    }
}
