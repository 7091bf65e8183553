//! Who may come in: lines of an `authorized_keys` file, each read for itself. A line with an option
//! that is not enforced here is refused, since its writer counts on it.

use std::net::IpAddr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use russh::keys::PublicKey;

use crate::core::model::command::Role;
use crate::core::model::id::Actor;
use crate::core::model::time::Timestamp;

/// One key that may come in.
#[derive(Debug, Clone)]
pub struct Allowed {
    /// The key.
    pub key: PublicKey,
    /// As what.
    pub role: Role,
    /// Under which name: the line's comment, or the key's fingerprint.
    pub actor: Actor,
    /// From where; empty is from everywhere.
    from: Vec<Source>,
    /// Until when.
    expires: Option<Timestamp>,
}

/// A pattern of `from=`: an address, a network, or an address with `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Network { not: bool, address: IpAddr, bits: u32 },
    Pattern { not: bool, text: String },
}

impl Allowed {
    /// Whether this key may come in now and from there.
    #[must_use]
    pub fn admits(&self, from: IpAddr, now: Timestamp) -> bool {
        let from = from.to_canonical();
        let hit = |source: &Source| source.fits(from);
        let not = |source: &Source| match source {
            Source::Network { not, .. } | Source::Pattern { not, .. } => *not,
        };
        let here = self.from.is_empty()
            || (self.from.iter().any(|source| !not(source) && hit(source))
                && !self.from.iter().any(|source| not(source) && hit(source)));
        here && self.expires.is_none_or(|until| now < until)
    }
}

impl Source {
    fn parse(text: &str) -> Result<Self, String> {
        let (not, body) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let (address, bits) =
            body.split_once('/').map_or((body, None), |(address, bits)| (address, Some(bits)));
        if let Ok(address) = address.parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Ok(most), str::parse).ok().filter(|bits| *bits <= most);
            let bits = bits.ok_or_else(|| format!("from={body:?} is no network"))?;
            return Ok(Self::Network { not, address, bits });
        }
        // Names are not looked up: a line that counts on it is refused.
        let numeric = body.chars().all(|c| c.is_ascii_hexdigit() || ".:*?".contains(c));
        if body.is_empty() || !numeric || !body.contains(['*', '?']) {
            return Err(format!("from={body:?} is no address, network or pattern of addresses"));
        }
        Ok(Self::Pattern { not, text: body.to_owned() })
    }

    fn fits(&self, from: IpAddr) -> bool {
        match (self, from) {
            (Self::Network { address: IpAddr::V4(net), bits, .. }, IpAddr::V4(from)) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                net.to_bits() & mask == from.to_bits() & mask
            }
            (Self::Network { address: IpAddr::V6(net), bits, .. }, IpAddr::V6(from)) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                net.to_bits() & mask == from.to_bits() & mask
            }
            (Self::Network { .. }, _) => false,
            (Self::Pattern { text, .. }, from) => {
                wild(text.as_bytes(), from.to_string().as_bytes())
            }
        }
    }
}

fn wild(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| wild(rest, &text[at..])),
        Some((b'?', rest)) => !text.is_empty() && wild(rest, &text[1..]),
        Some((c, rest)) => text.first() == Some(c) && wild(rest, &text[1..]),
    }
}

/// Reads a file's text: the keys, and what is wrong with the lines that are left out.
#[must_use]
pub fn parse(text: &str) -> (Vec<Allowed>, Vec<String>) {
    let (mut keys, mut wrong) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match allowed(line) {
            Ok(key) => keys.push(key),
            Err(why) => wrong.push(format!("line {}: {why}: the line is refused", at + 1)),
        }
    }
    (keys, wrong)
}

fn allowed(line: &str) -> Result<Allowed, String> {
    let kinds = ["ssh-", "ecdsa-", "sk-"];
    let (options, rest) = if kinds.iter().any(|kind| line.starts_with(kind)) {
        ("", line)
    } else {
        let at = outside_quotes(line, ' ').ok_or("there is no key")?;
        (&line[..at], line[at..].trim_start())
    };
    let key = PublicKey::from_openssh(rest).map_err(|error| format!("no key: {error}"))?;
    let name = match key.comment().to_string() {
        comment if comment.is_empty() => key.fingerprint(russh::keys::HashAlg::Sha256).to_string(),
        comment => crate::core::model::untrusted::clean_line(&comment),
    };
    let mut found =
        Allowed { key, role: Role::Viewer, actor: Actor(name), from: Vec::new(), expires: None };
    let mut options = options;
    while !options.is_empty() {
        let end = outside_quotes(options, ',').unwrap_or(options.len());
        option(&mut found, &options[..end])?;
        options = options[end..].trim_start_matches(',');
    }
    Ok(found)
}

/// The place of the first separator that is not inside double quotes.
fn outside_quotes(text: &str, separator: char) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(at, c)| {
        quoted ^= c == '"';
        (c == separator && !quoted).then_some(at)
    })
}

fn option(found: &mut Allowed, option: &str) -> Result<(), String> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let value = value.trim_matches('"');
    match name.to_ascii_lowercase().as_str() {
        "role" => {
            found.role = match value {
                "operator" => Role::Operator,
                "viewer" => Role::Viewer,
                other => return Err(format!("role={other:?} is neither operator nor viewer")),
            };
        }
        "from" => {
            found.from = value.split(',').map(Source::parse).collect::<Result<_, _>>()?;
        }
        "expiry-time" => found.expires = Some(expiry(value)?),
        // All that they forbid is never given.
        "restrict"
        | "no-port-forwarding"
        | "no-agent-forwarding"
        | "no-x11-forwarding"
        | "no-user-rc" => {}
        other => return Err(format!("the option {other:?} is not enforced here")),
    }
    Ok(())
}

/// `YYYYMMDD[HHMM[SS]][Z]`, in this machine's time without the `Z` (sshd(8)).
fn expiry(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("expiry-time={text:?} is no time like 20270131 or 202701311200Z");
    let (digits, utc) = text.strip_suffix('Z').map_or((text, false), |rest| (rest, true));
    if !matches!(digits.len(), 8 | 12 | 14) {
        return Err(wrong());
    }
    let whole = format!("{digits:0<14}");
    let civil = DateTime::strptime("%Y%m%d%H%M%S", &whole).map_err(|_| wrong())?;
    let zone = if utc { TimeZone::UTC } else { TimeZone::system() };
    let at = civil.to_zoned(zone).map_err(|_| wrong())?;
    Ok(Timestamp(at.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn one(options: &str) -> Result<Allowed, String> {
        let (mut keys, wrong) = parse(&format!("{options} {KEY} ana@home\n"));
        keys.pop().ok_or_else(|| wrong.join(" "))
    }

    #[test]
    fn roles_times_and_places_are_honoured() {
        let key = one("").unwrap();
        assert_eq!((key.role, key.actor.0.as_str()), (Role::Viewer, "ana@home"));
        let here: IpAddr = "192.0.2.7".parse().unwrap();
        let there: IpAddr = "198.51.100.1".parse().unwrap();
        let now = Timestamp(1_800_000_000_000);
        assert!(key.admits(here, now) && key.admits(there, now));
        for (options, from_here, from_there) in [
            ("from=\"192.0.2.0/24\"", true, false),
            ("from=\"192.0.2.*\"", true, false),
            ("from=\"*,!192.0.2.7\"", false, true),
            ("from=\"192.0.2.7,198.51.100.1\"", true, true),
            ("from=\"::/0\"", false, false),
            ("from=\"0.0.0.0/0\"", true, true),
        ] {
            let key = one(&format!("role=operator,{options}")).unwrap();
            assert_eq!(key.role, Role::Operator);
            assert_eq!(
                (key.admits(here, now), key.admits(there, now)),
                (from_here, from_there),
                "{options}"
            );
        }
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert!(one("from=\"192.0.2.7\"").unwrap().admits(mapped, now));
        assert!(one("expiry-time=\"20990101\"").unwrap().admits(here, now));
        assert!(!one("expiry-time=\"20200101Z\"").unwrap().admits(here, now));
        assert!(
            !one("restrict,expiry-time=\"202701011200Z\"")
                .unwrap()
                .admits(here, Timestamp(1_900_000_000_000))
        );
    }

    #[test]
    fn a_line_that_counts_on_what_is_not_enforced_is_refused() {
        for options in [
            "command=\"ls\"",
            "no-pty",
            "environment=\"A=b\"",
            "role=root",
            "from=\"home.example\"",
            "from=\"10.0.0.0/33\"",
            "expiry-time=\"soon\"",
            "expiry-time=\"20271399\"",
            "permitopen=\"x:1\",role=operator",
            "cert-authority",
        ] {
            assert!(one(options).is_err(), "{options}");
        }
        let text = format!("# a remark\n\ngarbage\n{KEY}\ncommand=\"x\" {KEY}\n");
        let (keys, wrong) = parse(&text);
        assert_eq!((keys.len(), wrong.len()), (1, 2));
        assert!(wrong[0].starts_with("line 3") && keys[0].actor.0.starts_with("SHA256:"));
    }
}
