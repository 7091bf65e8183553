//! Unified diffs of what an agent says it changed.

use std::path::Path;

/// The hunks of the unified diff between two texts of a file; empty where they are equal or too odd to compare.
#[must_use]
pub fn unified(path: &str, old: &str, new: &str) -> String {
    let mut options = git2::DiffOptions::new();
    options.context_lines(3);
    let name = Path::new(path.trim_start_matches('/'));
    // Parts of a file come without their last line's end; that is no change.
    let whole = |text: &str| {
        let open = !(old.ends_with('\n') || new.ends_with('\n') || text.is_empty());
        format!("{text}{}", if open { "\n" } else { "" })
    };
    let (old, new) = (whole(old), whole(new));
    let patch = git2::Patch::from_buffers(
        old.as_bytes(),
        Some(name),
        new.as_bytes(),
        Some(name),
        Some(&mut options),
    );
    let text = patch.and_then(|mut patch| patch.to_buf());
    let text = text.ok().and_then(|text| text.as_str().map(str::to_owned).ok()).unwrap_or_default();
    // The names stand beside it wherever it is shown.
    text.find("@@ ").map_or_else(String::new, |at| text[at..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_hunk() {
        let diff = unified("/w/calc.py", "a\nb\n", "a\nc\n");
        assert!(diff.starts_with("@@ -1,2 +1,2 @@") && diff.contains("-b\n+c\n"), "{diff}");
        assert!(unified("x", "same", "same").is_empty());
        assert!(!unified("x", "old", "new").contains("No newline"));
        assert!(unified("x", "", "new\n").contains("+new"));
    }
}
