//! Tests that stand in the same file as the code: the line ranges of a file that are tests, by the
//! patterns of common languages. The gate lays them over the base like test files.

/// Lines of a file, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineRange {
    /// The first line of the range.
    pub from: usize,
    /// The line after the last one.
    pub to: usize,
}

impl LineRange {
    /// Whether a line is in the range.
    #[must_use]
    pub const fn contains(self, line: usize) -> bool {
        self.from <= line && line < self.to
    }
}

/// The longest file that is searched, in lines. A longer one counts as code.
const LINES_LIMIT: usize = 50_000;

/// Finds the lines of a file that are tests, as ranges from 0 in order. `marks` are further beginnings
/// of a line that opens a test, for languages that have no row here.
///
/// | files | tests |
/// | --- | --- |
/// | `.rs` | the item after `#[cfg(test)]` or `#[test]`, code blocks in doc comments |
/// | `.py` | `>>>` and `...` lines of docstrings with the output below them |
/// | `.js`, `.ts`, … | the block of `if (import.meta.vitest)` |
/// | any | a line that begins with a mark, and the braces or indented lines that follow it |
#[must_use]
pub fn ranges(path: &str, lines: &[&str], marks: &[String]) -> Vec<LineRange> {
    if lines.len() > LINES_LIMIT {
        return Vec::new();
    }
    let end = path.rsplit('.').next().unwrap_or_default();
    let mut found = match end {
        "rs" => rust(lines),
        "py" => doctests(lines),
        "js" | "mjs" | "cjs" | "ts" | "mts" | "cts" | "jsx" | "tsx" | "vue" | "svelte" => {
            items(lines, |line| line.contains("import.meta.vitest"))
        }
        _ => Vec::new(),
    };
    found.extend(items(lines, |line| marks.iter().any(|mark| line.starts_with(mark.as_str()))));
    found.sort_by_key(|range| range.from);
    found
}

/// The module that a line of Rust declares to stand in a file of its own.
#[must_use]
pub fn declared_module(line: &str) -> Option<&str> {
    let line = line.trim();
    let (visible, item) = line.split_once("mod ").unwrap_or(("-", ""));
    let is_visibility =
        visible.is_empty() || visible.starts_with("pub") && visible.ends_with([' ', ')']);
    item.strip_suffix(';').map(str::trim).filter(|_| is_visibility)
}

/// The name by which another file of Rust declares the module in a file; none for a crate's root.
#[must_use]
pub fn module_of(path: &str) -> Option<&str> {
    let (folders, name) = path.strip_suffix(".rs")?.rsplit_once('/')?;
    match name {
        "lib" | "main" => None,
        "mod" => folders.rsplit('/').next(),
        name => Some(name),
    }
}

fn rust(lines: &[&str]) -> Vec<LineRange> {
    let opens = |line: &str| {
        let Some(attribute) = line.strip_prefix("#[") else { return false };
        let attribute = attribute.split([']', '(']).next().unwrap_or_default();
        line.starts_with("#[cfg(test)]") || attribute.rsplit("::").next() == Some("test")
    };
    let mut found = items(lines, opens);
    let mut fence: Option<usize> = None;
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim_start();
        let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        match (comment.map(str::trim_start), fence) {
            (Some(text), None) if text.starts_with("```") => fence = Some(at),
            (Some(text), Some(from)) if text.starts_with("```") => {
                found.push(LineRange { from, to: at + 1 });
                fence = None;
            }
            (None, Some(_)) => fence = None,
            _ => {}
        }
    }
    found
}

/// The items whose first line `opens` accepts without its indent: up to the brace that closes the
/// first one, or, without a brace on the next lines, as far as lines are indented deeper.
fn items(lines: &[&str], opens: impl Fn(&str) -> bool) -> Vec<LineRange> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if opens(lines[at].trim_start()) {
            let end = item_end(lines, at);
            found.push(LineRange { from: at, to: end });
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

fn item_end(lines: &[&str], from: usize) -> usize {
    let (mut depth, mut opened) = (0_i64, false);
    for (at, line) in lines.iter().enumerate().skip(from) {
        // Braces in strings and comments mostly balance each other.
        for character in line.chars() {
            match character {
                '{' => (depth, opened) = (depth + 1, true),
                '}' => depth -= 1,
                // `#[cfg(test)] mod tests;`, whose file is a test file or not by its name.
                ';' if !opened && depth == 0 => return at + 1,
                _ => {}
            }
        }
        if opened && depth <= 0 {
            return at + 1;
        }
        if !opened && at > from + 8 {
            break;
        }
    }
    if opened { lines.len() } else { indented_end(lines, from) }
}

fn indented_end(lines: &[&str], from: usize) -> usize {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = indent(lines[from]);
    let inside = |line: &&&str| line.trim().is_empty() || indent(line) > own;
    let block = lines[from + 1..].iter().take_while(inside).count();
    let blank =
        lines[from + 1..from + 1 + block].iter().rev().take_while(|l| l.trim().is_empty()).count();
    from + 1 + block - blank
}

fn doctests(lines: &[&str]) -> Vec<LineRange> {
    let mut found: Vec<LineRange> = Vec::new();
    let mut from = None;
    for (at, line) in lines.iter().enumerate() {
        let text = line.trim();
        match from {
            None if text.starts_with(">>>") => from = Some(at),
            // The expected output ends at an empty line or with the docstring.
            Some(start) if text.is_empty() || text.ends_with("\"\"\"") || text.ends_with("'''") => {
                found.push(LineRange { from: start, to: at });
                from = None;
            }
            _ => {}
        }
    }
    found.extend(from.map(|from| LineRange { from, to: lines.len() }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<LineRange> {
        let lines: Vec<&str> = text.lines().collect();
        ranges(path, &lines, &["test \"".to_owned(), "describe_inline".to_owned()])
    }

    fn one(from: usize, to: usize) -> Vec<LineRange> {
        vec![LineRange { from, to }]
    }

    #[test]
    fn test_lines_are_found_by_language() {
        let rust = "fn a() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn b() {}\n}\nfn c() {}";
        assert_eq!(found("src/a.rs", rust), one(1, 6));
        assert_eq!(found("a.rs", "#[smol::test]\nfn a() {\n}\nfn b() {}"), one(0, 3));
        assert_eq!(found("a.rs", "#[cfg(test)]\nmod tests;\nfn a() {}"), one(0, 2));
        let doc = "/// Adds.\n/// ```\n/// assert_eq!(add(1), 2);\n/// ```\nfn add() {}";
        assert_eq!(found("a.rs", doc), one(1, 4));
        let python = "def a():\n    \"\"\"\n    >>> a()\n    1\n    \"\"\"\n    return 1";
        assert_eq!(found("a.py", python), one(2, 4));
        let script = "code()\nif (import.meta.vitest) {\n  it('a', () => {})\n}\nmore()";
        assert_eq!(found("a.ts", script), one(1, 4));
        assert_eq!(found("a.zig", "fn a() {}\ntest \"b\" {\n  try c();\n}\n"), one(1, 4));
        assert_eq!(found("a.hs", "describe_inline a\n  it b\n\nmore"), one(0, 2));
        assert_eq!(found("a.rs", "fn testing() {}\n#[derive(Debug)]\nstruct A;"), Vec::new());
    }

    #[test]
    fn modules_are_named_as_they_are_declared() {
        for (line, module) in [
            ("mod a;", Some("a")),
            ("    pub mod a ;", Some("a")),
            ("pub(crate) mod a;", Some("a")),
            ("mod a {", None),
            ("// mod a;", None),
            ("x.mod a;", None),
        ] {
            assert_eq!(declared_module(line), module, "{line}");
        }
        for (path, module) in [
            ("src/a.rs", Some("a")),
            ("src/a/mod.rs", Some("a")),
            ("src/lib.rs", None),
            ("src/a.py", None),
        ] {
            assert_eq!(module_of(path), module, "{path}");
        }
    }

    #[test]
    fn hostile_text_ends() {
        for text in ["#[test]", "#[cfg(test)]\n{{{{", "///```", ">>>", "}}}}\n#[test]\n}"] {
            for path in ["a.rs", "a.py", "a.ts", "a"] {
                let lines: Vec<&str> = text.lines().collect();
                for range in ranges(path, &lines, &[]) {
                    assert!(range.from < range.to && range.to <= lines.len(), "{text:?}");
                }
            }
        }
    }
}
