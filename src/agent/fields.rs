//! Fields of an agent's JSON, read without trust in their being there.

use serde_json::Value;

/// A text; empty where there is none.
#[must_use]
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A path as a person reads it: from the top of the worktree.
#[must_use]
pub fn short<'a>(worktree: &str, path: &'a str) -> &'a str {
    let inside = path.strip_prefix(worktree).and_then(|rest| rest.strip_prefix('/'));
    inside.unwrap_or(path)
}
