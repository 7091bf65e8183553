//! Reads the YAML of the shipped manifests: block and flow maps and lists, plain and quoted scalars,
//! comments and several documents. It panics on anything else.

use serde_json::{Map, Value};

/// The documents of a text.
pub fn documents(text: &str) -> Vec<Value> {
    let mut all = vec![String::new()];
    for line in text.lines() {
        if line == "---" {
            all.push(String::new());
        } else if let Some(last) = all.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    all.iter().map(|text| document(text)).filter(|value| !value.is_null()).collect()
}

fn document(text: &str) -> Value {
    let lines: Vec<(usize, &str)> = text
        .lines()
        .map(|line| line.split_once(" #").map_or(line, |(before, _)| before).trim_end())
        .filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
        .map(|line| (line.len() - line.trim_start().len(), line.trim_start()))
        .collect();
    let mut at = 0;
    let value = block(&lines, &mut at);
    assert_eq!(at, lines.len(), "the line {:?} has an unexpected indentation", lines.get(at));
    value
}

/// Reads the lines of one indentation.
fn block(lines: &[(usize, &str)], at: &mut usize) -> Value {
    let Some(&(indent, first)) = lines.get(*at) else { return Value::Null };
    if first.starts_with("- ") {
        let mut list = Vec::new();
        while let Some(item) = lines
            .get(*at)
            .filter(|line| line.0 == indent)
            .and_then(|line| line.1.strip_prefix("- "))
        {
            if is_entry(item) {
                // The item is a map, whose first entry stands on the line of the dash.
                let mut inner: Vec<(usize, &str)> = vec![(indent + 2, item)];
                inner.extend(lines[*at + 1..].iter().take_while(|line| line.0 > indent));
                let mut read = 0;
                list.push(block(&inner, &mut read));
                assert_eq!(read, inner.len(), "{item}");
                *at += read;
            } else {
                list.push(scalar(item));
                *at += 1;
            }
        }
        return Value::Array(list);
    }
    let mut map = Map::new();
    while let Some(&(found, line)) = lines.get(*at).filter(|line| line.0 == indent) {
        assert!(is_entry(line), "{line:?} is no entry of a map");
        let (key, value) = line.split_once(':').unwrap();
        *at += 1;
        let value = match value.trim() {
            "" if lines.get(*at).is_some_and(|next| next.0 > found || next.1.starts_with("- ")) => {
                block(lines, at)
            }
            value => scalar(value),
        };
        map.insert(key.trim_matches('"').to_owned(), value);
    }
    Value::Object(map)
}

fn is_entry(line: &str) -> bool {
    !line.starts_with(['{', '[', '"']) && (line.ends_with(':') || line.contains(": "))
}

/// Reads a scalar, or a map or list in brackets.
fn scalar(text: &str) -> Value {
    let inside = |open: char, close: char| text.strip_prefix(open)?.strip_suffix(close);
    if let Some(items) = inside('[', ']') {
        return parts(items).into_iter().map(scalar).collect();
    }
    if let Some(entries) = inside('{', '}') {
        let entry = |part: &str| {
            let (key, value) = part.split_once(':').unwrap();
            (key.trim().to_owned(), scalar(value.trim()))
        };
        return Value::Object(parts(entries).into_iter().map(entry).collect());
    }
    if let Some(text) = inside('"', '"') {
        return text.into();
    }
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// Splits the content of brackets at the commas that are in no bracket and no quotes of their own.
fn parts(text: &str) -> Vec<&str> {
    let (mut all, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                all.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    all.push(text[start..].trim());
    all.retain(|part| !part.is_empty());
    all
}

#[test]
fn yaml_reader_reads_the_shapes_of_manifests() {
    let text = "# note\na: 1\nb:\n  - x\n  - {c: [\"d\", e], f: true}\n  - g: h # note\n    i:\n      j: \"k: l\"\n---\nm:\n- n: {}\n";
    assert_eq!(
        documents(text),
        [
            serde_json::json!({"a": 1, "b": ["x", {"c": ["d", "e"], "f": true}, {"g": "h", "i": {"j": "k: l"}}]}),
            serde_json::json!({"m": [{"n": {}}]}),
        ]
    );
}
