//! Reads fields of an agent's JSON that may be absent or of another type.

use serde_json::Value;

/// Returns the string in a field, or an empty one.
#[must_use]
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Shortens a path inside of the worktree to the part below it, for display.
#[must_use]
pub(crate) fn relative_path<'a>(worktree: &str, path: &'a str) -> &'a str {
    let inside = path.strip_prefix(worktree).and_then(|rest| rest.strip_prefix('/'));
    inside.unwrap_or(path)
}
