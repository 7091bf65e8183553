//! The forms in which a secret appears in an output: as it is, in base64, hexadecimal, percent
//! encoding and JSON. [`units`] splits a value into the parts that reveal it, and [`forms`] encodes
//! one part.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The shortest value that is redacted, in bytes. A shorter one (a port, `true`, a first name) would
/// match harmless words, and it is no protection anyway: eight printable characters are the least
/// that can't be tried out within hours.
pub(super) const MIN_VALUE: usize = 8;
/// The shortest line of a longer value that is redacted by itself, in bytes: such a value also has
/// lines that are no secret.
const MIN_LINE: usize = 12;
/// The longest part that is searched as a whole, in bytes. It bounds what a stream holds back.
const MAX_UNIT: usize = 96;
/// The parts of a longer value: as long as this, and each begins [`STEP`] bytes after the one
/// before. They overlap by three bytes, so that no base64 character between them stays.
const WINDOW: usize = 48;
const STEP: usize = 45;
/// The beginning of every OpenSSH private key, and that of every key in PEM that is in base64 once
/// more. They reveal nothing, and other keys have them as well.
const OPENSSH_MAGIC: &str = "b3BlbnNzaC1rZXktdjE";
const ENCODED_BEGIN: &str = "LS0tLS1CRUdJTi";

/// The parts of a value that must not be seen, each of at most [`MAX_UNIT`] bytes.
pub(super) fn units(value: &str) -> Vec<&str> {
    let value = value.trim();
    let lines = || value.split(['\n', '\r']).flat_map(|line| line.split("\\n")).map(str::trim);
    if lines().nth(1).is_none() {
        return if value.len() < MIN_VALUE { Vec::new() } else { windows(value) };
    }
    let reveals = |line: &&str| {
        line.len() >= MIN_LINE
            && !line.contains([' ', '\t'])
            && !line.starts_with("-----")
            && !line.starts_with(OPENSSH_MAGIC)
    };
    lines().filter(reveals).flat_map(windows).collect()
}

fn windows(text: &str) -> Vec<&str> {
    if text.len() <= MAX_UNIT {
        return vec![text];
    }
    let at_or_before = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let last = text.len() - WINDOW;
    let starts = (0..last).step_by(STEP).chain([last]);
    let windows = starts.map(|at| &text[at_or_before(at)..at_or_before(at + WINDOW)]);
    windows.filter(|window| !window.starts_with(ENCODED_BEGIN)).collect()
}

/// All encodings of one part, without duplicates.
pub(super) fn forms(unit: &str) -> BTreeSet<Vec<u8>> {
    let bytes = unit.as_bytes();
    let mut all = BTreeSet::from([bytes.to_vec()]);
    let json = |text: &str| escaped(text, |_| false);
    let plain = json(unit);
    // Serializers that protect HTML or ASCII escape these, too.
    let html = escaped(unit, |c| "<>&'+=\u{7f}".contains(c) || !c.is_ascii());
    for text in [plain.replace('/', "\\/"), with_upper_digits(&html), plain, html] {
        // Agents report the JSON that a tool printed inside of their own.
        all.insert(json(&text).into_bytes());
        all.insert(text.into_bytes());
    }
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let with_path = |b: u8| unreserved(b) || b == b'/';
    // `encodeURIComponent` leaves these as they are.
    let component = |b: u8| unreserved(b) || b"!*'()".contains(&b);
    for upper in [true, false] {
        all.insert(percent(bytes, upper, unreserved));
        all.insert(percent(bytes, upper, with_path));
        all.insert(percent(bytes, upper, component));
        all.insert(percent(bytes, upper, |_| false));
        let form = percent(bytes, upper, |b| unreserved(b) || b == b' ');
        all.insert(form.into_iter().map(|b| if b == b' ' { b'+' } else { b }).collect());
        all.insert(hex(bytes, upper));
    }
    for skipped in 0..3 {
        all.insert(base64_inside(bytes, skipped, &STANDARD_NO_PAD));
        all.insert(base64_inside(bytes, skipped, &URL_SAFE_NO_PAD));
    }
    all.retain(|form| form.len() >= MIN_VALUE);
    all
}

/// The characters of a base64 text that `bytes` alone decide when they begin at an offset of
/// `skipped` bytes, modulo 3. The characters at both ends depend on the bytes beside them.
fn base64_inside(bytes: &[u8], skipped: usize, engine: &impl Engine) -> Vec<u8> {
    let mut text = engine.encode([&[0; 2][..skipped], bytes].concat()).into_bytes();
    text.truncate((skipped + bytes.len()) * 8 / 6);
    text.drain(..(skipped * 8).div_ceil(6));
    text
}

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

fn hex(bytes: &[u8], upper: bool) -> Vec<u8> {
    let digits = if upper { UPPER } else { LOWER };
    bytes.iter().flat_map(|b| [digits[usize::from(b >> 4)], digits[usize::from(b & 15)]]).collect()
}

fn percent(bytes: &[u8], upper: bool, keep: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() * 3);
    for &byte in bytes {
        if keep(byte) {
            out.push(byte);
        } else {
            out.push(b'%');
            out.extend(hex(&[byte], upper));
        }
    }
    out
}

/// The inside of a JSON string, with those characters as `\uXXXX` that `more` names, beside those
/// that JSON demands.
fn escaped(text: &str, more: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' || more(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// The same escapes with digits in upper case.
fn with_upper_digits(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, after)) = rest.split_once("\\u") {
        let digits = after.get(..4).unwrap_or(after);
        out.push_str(before);
        out.push_str("\\u");
        out.push_str(&digits.to_ascii_uppercase());
        rest = &after[digits.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    #[test]
    fn base64_forms_are_inside_of_every_alignment_of_either_alphabet() {
        let secret = "s3cr?t/>>~value+!";
        let forms = forms(secret);
        for before in ["", "a", "ab", "abc", "user:", "{\"k\":\""] {
            for after in ["", "\"", "xy", "xyz"] {
                let text = format!("{before}{secret}{after}");
                for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
                    let found = forms.iter().any(|form| {
                        let form = std::str::from_utf8(form).unwrap();
                        form.len() >= 18 && encoded.contains(form)
                    });
                    assert!(found, "{text:?} is {encoded:?}");
                }
            }
        }
    }

    #[test]
    fn units_are_short_and_leave_out_lines_that_reveal_nothing() {
        assert!(units("short").is_empty());
        assert_eq!(units(" a passphrase with blanks\n"), ["a passphrase with blanks"]);
        let long = "0123456789".repeat(30);
        let parts = units(&long);
        assert!(parts.iter().all(|part| part.len() == WINDOW) && parts.len() == 7);
        assert!(long.ends_with(parts[6]));
        let body = "MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDZ0r8v2bQ0y1cG";
        let magic = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW";
        for newline in ["\n", "\\n"] {
            let lines = ["-----BEGIN PRIVATE KEY-----", magic, body, "-----END PRIVATE KEY-----"];
            assert_eq!(units(&lines.join(newline)), [body]);
        }
    }

    #[test]
    fn forms_hold_what_common_encoders_write() {
        let forms = forms("a/b \"c\"<é");
        for form in [
            "a/b \"c\"<é",
            "a/b \\\"c\\\"<é",
            "a\\/b \\\"c\\\"<é",
            "a/b \\\\\\\"c\\\\\\\"<é",
            "a/b \\\"c\\\"\\u003c\\u00e9",
            "a/b \\\"c\\\"\\u003C\\u00E9",
            "a%2Fb%20%22c%22%3C%C3%A9",
            "a%2fb%20%22c%22%3c%c3%a9",
            "a/b%20%22c%22%3C%C3%A9",
            "a%2Fb+%22c%22%3C%C3%A9",
            "%61%2F%62%20%22%63%22%3C%C3%A9",
            "612f62202263223cc3a9",
            "612F62202263223CC3A9",
        ] {
            assert!(forms.contains(form.as_bytes()), "{form}");
        }
    }
}
