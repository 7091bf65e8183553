//! The shapes of keys, as documented by their issuers.
//!
//! Each kind has two patterns. The wide one finds everything that may be such a key, for redaction,
//! where a false match costs a word. The strict one decides about a push: it matches whole keys
//! alone, so that a text about keys can be pushed.

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};

/// A kind of key: its name with an article, its wide and its strict pattern.
type Shape = (&'static str, &'static str, &'static str);

/// All kinds. `\b` keeps a word such as `task-…` from being a key.
const SHAPES: &[Shape] = &[
    (
        "a private key",
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
        // Headers such as `DEK-Info` may precede the body; line breaks may be escaped.
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr])*(?:[A-Za-z-]+: [^\n]*\n\s*)*[A-Za-z0-9+/=]{40,}",
    ),
    (
        "an Anthropic key",
        r"\bsk-ant-[A-Za-z0-9_-]{16,}",
        r"\bsk-ant-[a-z]{3,8}[0-9]{2}-[A-Za-z0-9_-]{40,}",
    ),
    (
        "an OpenAI key",
        r"\bsk-[A-Za-z0-9_-]{16,}",
        r"\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,}|\bsk-[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20,}",
    ),
    (
        "a GitHub token",
        r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}",
        r"\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    ),
    ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{16,}", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    (
        "an AWS key",
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r#"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b|(?i:aws_?secret_?(?:access_?)?key)["']?\s*[=:]\s*["']?[A-Za-z0-9/+]{40}\b"#,
    ),
    ("a Google API key", r"\bAIza[A-Za-z0-9_-]{30,}", r"\bAIza[A-Za-z0-9_-]{35}"),
    (
        "a Slack token",
        r"\bxox[abprs]-[A-Za-z0-9-]{10,}|\bhooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
        r"\bxox[abprs]-(?:[0-9]+-){1,4}[A-Za-z0-9]{16,}|\bhooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,}",
    ),
    ("an npm token", r"\bnpm_[A-Za-z0-9]{30,}", r"\bnpm_[A-Za-z0-9]{36}"),
    ("a Stripe key", r"\b[sr]k_live_[A-Za-z0-9]{16,}", r"\b[sr]k_live_[A-Za-z0-9]{16,}"),
    (
        "an age key",
        r"\bAGE-SECRET-KEY-1[A-Z0-9]{20,}",
        r"\bAGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}",
    ),
    (
        "a kubeconfig's client key",
        r"\bclient-key-data:\s*[A-Za-z0-9+/=]{40,}",
        r#"\bclient-key-data"?:\s*"?[A-Za-z0-9+/=]{100,}"#,
    ),
    ("a Vault token", r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}", r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}"),
];

/// Wide patterns of values that are often harmless in a file: JSON web tokens, and passwords in
/// addresses. The address itself stays.
const WEB_TOKEN: &str = r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}";
const PASSWORD: &str = r"://[^/\s:@]{1,64}:[^/\s@]{3,}@";

fn compile(pattern: &str) -> Option<Regex> {
    // The patterns are constant, and a test compiles them. Keys are ASCII, and so is `\b` here.
    RegexBuilder::new(pattern).unicode(false).build().ok()
}

static WIDE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let all: Vec<&str> = SHAPES.iter().map(|shape| shape.1).chain([WEB_TOKEN, PASSWORD]).collect();
    compile(&all.join("|"))
});

static STRICT: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    SHAPES.iter().filter_map(|(name, _, strict)| Some((*name, compile(strict)?))).collect()
});

/// Assigns a secret to a name in an environment file: `API_KEY=…`.
static ASSIGNMENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compile(
        r#"(?m)^[ \t]*(?:export[ \t]+)?([A-Za-z0-9_]*(?i:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL)[A-Za-z0-9_]*)[ \t]*=[ \t]*["']?([^\s"'#]{8,})"#,
    )
});

/// Parts of values that stand for a value to fill in.
const PLACEHOLDERS: [&str; 9] =
    ["<", "$", "change", "example", "your", "xxx", "todo", "dummy", "placeholder"];

/// The places that may be keys. What remains of an address around its password is not in the range.
pub(super) fn wide(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let all = WIDE.as_ref().map(|pattern| pattern.find_iter(text));
    all.into_iter().flatten().map(|found| {
        let bytes = found.as_bytes();
        if bytes.starts_with(b"://") { found.start() + 3..found.end() - 1 } else { found.range() }
    })
}

/// The places that certainly are keys, each with its kind.
pub(super) fn strict(text: &[u8]) -> impl Iterator<Item = (&'static str, Range<usize>)> {
    STRICT.iter().flat_map(move |(name, pattern)| {
        // The keys of AWS's documentation end with this word.
        let real = |found: &regex::bytes::Match<'_>| !found.as_bytes().ends_with(b"EXAMPLE");
        pattern.find_iter(text).filter(real).map(|found| (*name, found.range()))
    })
}

/// The names in an environment file that have a value which looks like a secret, and where.
pub(super) fn assignments(text: &[u8]) -> Vec<(String, Range<usize>)> {
    let Some(pattern) = ASSIGNMENT.as_ref() else { return Vec::new() };
    pattern
        .captures_iter(text)
        .filter_map(|found| {
            let value = found.get(2)?;
            let lower = String::from_utf8_lossy(value.as_bytes()).to_lowercase();
            let filled = !PLACEHOLDERS.iter().any(|part| lower.contains(part));
            let name = String::from_utf8_lossy(found.get(1)?.as_bytes()).into_owned();
            filled.then(|| (name, value.range()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert!(WIDE.is_some() && ASSIGNMENT.is_some());
        assert_eq!(STRICT.len(), SHAPES.len());
    }

    #[test]
    fn strict_finds_keys_and_no_text_about_keys() {
        let x = |count| "x7Gq".repeat(count);
        let pem = |kind: &str| {
            format!("-----BEGIN {kind}PRIVATE KEY-----\nMIIE{}\n-----END", "A1b2".repeat(12))
        };
        for (kind, text) in [
            ("a private key", pem("")),
            ("a private key", pem("OPENSSH ")),
            ("a private key", pem("EC ").replace('\n', "\\n")),
            ("an Anthropic key", format!("sk-ant-api03-{}", x(20))),
            ("an OpenAI key", format!("sk-proj-{}", x(15))),
            ("an OpenAI key", format!("sk-{}T3BlbkFJ{}", x(5), x(5))),
            ("a GitHub token", format!("ghp_{}", x(9))),
            ("a GitHub token", format!("github_pat_{}xx_{}xxx", x(5), x(14))),
            ("a GitLab token", format!("glpat-{}", x(5))),
            ("an AWS key", "AKIAQ3EGRZ7TVL2MXN5B".to_owned()),
            ("an AWS key", format!("aws_secret_access_key = {}", x(10))),
            ("a Google API key", format!("AIza{}xyz", x(8))),
            ("a Slack token", format!("xoxb-123456789012-123456789012-{}", x(6))),
            ("an npm token", format!("npm_{}", x(9))),
            ("a Stripe key", format!("sk_live_{}", x(6))),
            ("an age key", format!("AGE-SECRET-KEY-1{}", "Q".repeat(58))),
            ("a kubeconfig's client key", format!("    client-key-data: {}", x(30))),
            ("a Vault token", format!("hvs.{}", x(8))),
        ] {
            let found: Vec<&str> = strict(text.as_bytes()).map(|found| found.0).collect();
            assert_eq!(found, [kind], "{text}");
            assert!(wide(text.as_bytes()).next().is_some() || kind == "an AWS key", "{text}");
        }
        for text in [
            "-----BEGIN [A-Z ]*PRIVATE KEY-----",
            "a file that begins with -----BEGIN PRIVATE KEY----- is a key",
            "AKIAIOSFODNN7EXAMPLE",
            "sk-ant-api03-AAAA, ghp_short, xoxb-token, task-0123456789abcdef0123",
            "client-key-data: REDACTED",
        ] {
            assert_eq!(strict(text.as_bytes()).next(), None, "{text}");
        }
    }

    #[test]
    fn assignments_are_found_without_placeholders() {
        let text = b"# API_KEY=1234567890\nDEBUG=true-or-false\nexport DB_PASSWORD='k8Fj2ldP0'\nAPI_KEY=your-key-here\nTOKEN=${TOKEN_OF_CI}\n";
        let found = assignments(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "DB_PASSWORD");
        assert_eq!(&text[found[0].1.clone()], b"k8Fj2ldP0");
    }
}
