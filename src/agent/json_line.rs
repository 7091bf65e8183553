//! Reads a line of JSON from an agent. What agents print is not always valid: a text that was cut in
//! the middle of a character, half of a surrogate pair, a byte order mark, a NUL. One such character
//! must not cost the line, which may be the end of the turn.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Parses a line, with U+FFFD in the place of what is no character. None for a line that is no JSON.
pub(crate) fn parse<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    if let Ok(value) = serde_json::from_slice(line) {
        return Some(value);
    }
    let text = String::from_utf8_lossy(line);
    let text = text.trim_matches(['\u{feff}', '\0', ' ', '\r', '\n']);
    serde_json::from_str(&repaired(text)).ok()
}

/// The text without raw control characters in strings, and with each half of a surrogate pair
/// replaced.
fn repaired(text: &str) -> Cow<'_, str> {
    let is_clean = !text.contains(is_raw_control) && !text.contains("\\u");
    if is_clean {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c| c == '\\' || is_raw_control(c)) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let first = unit(rest);
        let taken = match first {
            Some(0xd800..0xdc00) if matches!(unit(&rest[6..]), Some(0xdc00..0xe000)) => 12,
            Some(0xd800..0xe000) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            Some(_) => 6,
            // Another escape has two characters; a control character stands alone.
            None if rest.starts_with('\\') => {
                1 + rest[1..].chars().next().map_or(0, char::len_utf8)
            }
            None => {
                out.push(if rest.starts_with('\t') { ' ' } else { '\u{fffd}' });
                rest = &rest[1..];
                continue;
            }
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out.into()
}

/// Whether JSON forbids the character in a string.
const fn is_raw_control(character: char) -> bool {
    character < ' '
}

/// The UTF-16 unit that an escape `\uXXXX` at the start of a text stands for.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn broken_characters_cost_one_character() {
        for (line, text) in [
            (&br#"{"a":"ok \ud83d"}"#[..], "ok \u{fffd}"),
            (br#"{"a":"\udc00 \ud83d\ude00 \ud83dx"}"#, "\u{fffd} \u{1f600} \u{fffd}x"),
            (b"\xef\xbb\xbf{\"a\":\"b\"}", "b"),
            (b"\0{\"a\":\"b\"}\0", "b"),
            (b"{\"a\":\"caf\xe9\"}", "caf\u{fffd}"),
            (b"{\"a\":\"x\x01y\"}", "x\u{fffd}y"),
            (br#"{"a":"\\ud83d"}"#, "\\ud83d"),
            (br#"{"a":"\\\ud83d\n"}"#, "\\\u{fffd}\n"),
        ] {
            let shown = String::from_utf8_lossy(line);
            assert_eq!(parse::<Value>(line), Some(json!({"a": text})), "{shown}");
        }
    }

    #[test]
    fn no_json_is_none() {
        for line in [&b"not json"[..], b"", b"\\u", b"{\"a\":\"\\u12\"}", b"\"\\ud83d", b"\xff\xfe"]
        {
            assert_eq!(parse::<Value>(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    proptest::proptest! {
        #[test]
        fn every_text_ends(text in r#"(\\|u|d83d|dc00|"|\{|\}|é|\x00|\x01|a|:){0,40}"#) {
            let _ = parse::<Value>(text.as_bytes());
        }
    }
}
