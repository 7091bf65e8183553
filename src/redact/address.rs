//! Addresses without the credentials that stand in them, such as the token in the address of a remote.
//! Unlike the secrets of the parent module, they need not be known beforehand.

/// A text without the user names and passwords in its addresses. The name in front of an SSH host
/// stays: it is no secret, and the host can't be reached without it.
#[must_use]
pub(crate) fn without_credentials(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let is_end =
            |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '\'' | '"' | '<' | '>');
        let end = after.find(is_end).unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((login, host)) if before.ends_with("ssh://") => {
                let user = login.split(':').next().unwrap_or_default();
                clean.push_str(&format!("{user}@{host}"));
            }
            Some((_, host)) => clean.push_str(host),
            None => clean.push_str(authority),
        }
        rest = path;
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_removed_from_every_address_of_a_text() {
        for (text, clean) in [
            ("https://bot:t0ken@git.acme.com/a/b.git", "https://git.acme.com/a/b.git"),
            ("https://t0ken@github.com/a/b", "https://github.com/a/b"),
            ("https://a:b@c@host:8443", "https://host:8443"),
            ("ssh://git@host/a", "ssh://git@host/a"),
            ("ssh://git:t0ken@host:22/a", "ssh://git@host:22/a"),
            ("git@host:a/b.git", "git@host:a/b.git"),
            ("/srv/a@b", "/srv/a@b"),
            ("https://host/a@b", "https://host/a@b"),
            (
                "unable to access 'https://x:t0ken@h/': at http://y:t0ken@i?z",
                "unable to access 'https://h/': at http://i?z",
            ),
            ("", ""),
        ] {
            assert_eq!(without_credentials(text), clean);
        }
    }
}
