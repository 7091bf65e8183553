//! Names of folders and branches made of names from outside.

use crate::core::model::digest::Digest;
use crate::core::model::id::{IssueKey, Repo};

/// A folder's name for a repository: readable, and with a hash, so that `a/b-c` and `a-b/c` differ
/// (and `A/b` and `a/b`, where a file system folds case).
#[must_use]
pub fn folder(repo: &Repo) -> String {
    let hash = Digest::of(&[repo.as_str().as_bytes()]).short();
    format!("{}-{hash}", slug(repo.as_str(), 40))
}

/// The branch of an issue's run: `afk/<number>-<slug of the title>`.
#[must_use]
pub fn branch(key: &IssueKey, title: &str) -> String {
    let slug = slug(title, 40);
    if slug.is_empty() {
        format!("afk/{}", key.number)
    } else {
        format!("afk/{}-{slug}", key.number)
    }
}

/// Lower-case ASCII letters and digits with single dashes between, at most `limit` long.
#[must_use]
pub fn slug(text: &str, limit: usize) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
        if slug.len() >= limit {
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn look_alikes_differ() {
        let name = |repo| folder(&Repo::parse(repo).unwrap());
        assert_ne!(name("a/b-c"), name("a-b/c"));
        assert_ne!(name("A/b"), name("a/b"));
    }

    #[test]
    fn branches_are_readable() {
        let key = IssueKey::parse("a/b#7").unwrap();
        assert_eq!(branch(&key, "Fix: the  \"thing\"!"), "afk/7-fix-the-thing");
        assert_eq!(branch(&key, "日本語"), "afk/7");
    }

    proptest! {
        #[test]
        fn a_slug_is_safe_anywhere(text in "\\PC{0,80}") {
            let slug = slug(&text, 40);
            prop_assert!(slug.len() <= 40);
            prop_assert!(slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert!(!slug.starts_with('-') && !slug.ends_with('-'));
        }
    }
}
