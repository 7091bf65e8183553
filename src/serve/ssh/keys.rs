//! The `authorized_keys` file: which key is admitted, from where, until when, and with which role.
//!
//! A line with an option that afk doesn't enforce is refused as a whole, since its author relies on
//! that option. The other lines stay valid. `afk doctor` shows the refused lines.

use std::net::IpAddr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use russh::keys::PublicKey;

use crate::core::model::command::Role;
use crate::core::model::id::Actor;
use crate::core::model::time::Timestamp;

/// A valid line of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AuthorizedKey {
    pub(crate) key: PublicKey,
    /// The value of `role=`; a viewer by default.
    pub(crate) role: Role,
    /// The name of its actions: the comment of the line, or else the key's fingerprint.
    pub(crate) actor: Actor,
    /// The patterns of `from=`; without any the key is admitted from everywhere.
    from: Vec<AddressPattern>,
    /// The value of `expiry-time=`.
    pub(super) expires: Option<Timestamp>,
}

/// A pattern of `from=`: an address, a network, or an address with `*` and `?`; negated by a `!`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AddressPattern {
    Network { negated: bool, address: IpAddr, bits: u32 },
    Wildcard { negated: bool, text: String },
}

impl AuthorizedKey {
    /// Whether the key is admitted from an address at a time.
    pub(crate) fn admits(&self, from: IpAddr, now: Timestamp) -> bool {
        let from = from.to_canonical();
        let matches =
            |negated: bool| self.from.iter().any(|p| p.is_negated() == negated && p.matches(from));
        let permitted = self.from.is_empty() || (matches(false) && !matches(true));
        permitted && !self.is_expired(now)
    }

    /// Whether the key is admitted from nowhere any more.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|until| now >= until)
    }
}

impl AddressPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let (negated, body) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let (address, bits) =
            body.split_once('/').map_or((body, None), |(address, bits)| (address, Some(bits)));
        if let Ok(address) = address.parse::<IpAddr>() {
            let all_bits = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Ok(all_bits), str::parse).ok().filter(|bits| *bits <= all_bits);
            let bits = bits.ok_or_else(|| format!("from={body:?} is not a network"))?;
            return Ok(Self::Network { negated, address, bits });
        }
        // A host name is refused, since afk resolves none.
        let numeric = body.chars().all(|c| c.is_ascii_hexdigit() || ".:*?".contains(c));
        if body.is_empty() || !numeric || !body.contains(['*', '?']) {
            return Err(format!(
                "from={body:?} is not an address, a network or a pattern of addresses"
            ));
        }
        Ok(Self::Wildcard { negated, text: body.to_owned() })
    }

    const fn is_negated(&self) -> bool {
        match self {
            Self::Network { negated, .. } | Self::Wildcard { negated, .. } => *negated,
        }
    }

    fn matches(&self, from: IpAddr) -> bool {
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
            (Self::Wildcard { text, .. }, from) => {
                matches_wildcard(text.as_bytes(), from.to_string().as_bytes())
            }
        }
    }
}

/// Matches in at most as many steps as the product of both lengths: only the last `*` ever takes more.
fn matches_wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut next) = (0, 0);
    // The place behind the last `*`, and the end of the text that it has taken.
    let mut star: Option<(usize, usize)> = None;
    while next < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, next));
                at += 1;
            }
            Some(c) if *c == b'?' || *c == text[next] => (at, next) = (at + 1, next + 1),
            _ => {
                let Some((behind, taken)) = star else { return false };
                star = Some((behind, taken + 1));
                (at, next) = (behind, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|c| *c == b'*')
}

/// Parses a file: the valid lines, and an error for each refused line.
pub(crate) fn parse(text: &str) -> (Vec<AuthorizedKey>, Vec<String>) {
    let (mut keys, mut refused) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line) {
            Ok(key) => keys.push(key),
            Err(why) => refused.push(format!("line {}: {why}: the line is refused", at + 1)),
        }
    }
    (keys, refused)
}

fn parse_line(line: &str) -> Result<AuthorizedKey, String> {
    let key_types = ["ssh-", "ecdsa-", "sk-"];
    let (options, rest) = if key_types.iter().any(|prefix| line.starts_with(prefix)) {
        ("", line)
    } else {
        let at = outside_quotes(line, ' ').ok_or("there is no key")?;
        (&line[..at], line[at..].trim_start())
    };
    let key =
        PublicKey::from_openssh(rest).map_err(|error| format!("not a public key: {error}"))?;
    let name = match key.comment().to_string() {
        comment if comment.is_empty() => key.fingerprint(russh::keys::HashAlg::Sha256).to_string(),
        comment => crate::core::model::untrusted::clean_line(&comment),
    };
    let mut authorized = AuthorizedKey {
        key,
        role: Role::Viewer,
        actor: Actor(name),
        from: Vec::new(),
        expires: None,
    };
    let mut options = options;
    while !options.is_empty() {
        let end = outside_quotes(options, ',').unwrap_or(options.len());
        apply_option(&mut authorized, &options[..end])?;
        options = options[end..].trim_start_matches(',');
    }
    Ok(authorized)
}

/// The position of the first separator outside double quotes.
fn outside_quotes(text: &str, separator: char) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(at, c)| {
        quoted ^= c == '"';
        (c == separator && !quoted).then_some(at)
    })
}

fn apply_option(key: &mut AuthorizedKey, option: &str) -> Result<(), String> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let value = value.trim_matches('"');
    match name.to_ascii_lowercase().as_str() {
        "role" => {
            key.role = match value {
                "operator" => Role::Operator,
                "viewer" => Role::Viewer,
                other => return Err(format!("role={other:?} is neither operator nor viewer")),
            };
        }
        "from" => {
            key.from = value.split(',').map(AddressPattern::parse).collect::<Result<_, _>>()?;
        }
        "expiry-time" => key.expires = Some(expiry(value)?),
        // afk never grants the rights that these options withhold.
        "restrict"
        | "no-port-forwarding"
        | "no-agent-forwarding"
        | "no-x11-forwarding"
        | "no-user-rc" => {}
        other => return Err(format!("afk does not enforce the option {other:?}")),
    }
    Ok(())
}

/// Parses `YYYYMMDD[HHMM[SS]][Z]`; without the `Z` the time is local, as in sshd(8).
fn expiry(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("expiry-time={text:?} is not a time like 20270131 or 202701311200Z");
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

    fn parse_one(options: &str) -> Result<AuthorizedKey, String> {
        let (mut keys, refused) = parse(&format!("{options} {KEY} ana@home\n"));
        keys.pop().ok_or_else(|| refused.join(" "))
    }

    #[test]
    fn options_limit_role_time_and_address() {
        let key = parse_one("").unwrap();
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
            let key = parse_one(&format!("role=operator,{options}")).unwrap();
            assert_eq!(key.role, Role::Operator);
            assert_eq!(
                (key.admits(here, now), key.admits(there, now)),
                (from_here, from_there),
                "{options}"
            );
        }
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert!(parse_one("from=\"192.0.2.7\"").unwrap().admits(mapped, now));
        assert!(parse_one("expiry-time=\"20990101\"").unwrap().admits(here, now));
        assert!(!parse_one("expiry-time=\"20200101Z\"").unwrap().admits(here, now));
        assert!(
            !parse_one("restrict,expiry-time=\"202701011200Z\"")
                .unwrap()
                .admits(here, Timestamp(1_900_000_000_000))
        );
    }

    #[test]
    fn pattern_with_many_stars_takes_no_time() {
        let stars = "*1".repeat(60);
        let key = parse_one(&format!("from=\"{stars}*2\"")).unwrap();
        let address = "1111:1111:1111:1111:1111:1111:1111:1111".parse().unwrap();
        assert!(!key.admits(address, Timestamp(0)));
        for (pattern, text, matches) in [
            ("*", "", true),
            ("", "", true),
            ("", "1", false),
            ("1?3*", "123", true),
            ("*2*4", "12342", false),
            ("*2*4", "123424", true),
            ("?", "", false),
            ("**1", "1", true),
        ] {
            assert_eq!(matches_wildcard(pattern.as_bytes(), text.as_bytes()), matches, "{pattern}");
        }
    }

    #[test]
    fn unenforced_options_refuse_the_line() {
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
            assert!(parse_one(options).is_err(), "{options}");
        }
        let text = format!("# a remark\n\ngarbage\n{KEY}\ncommand=\"x\" {KEY}\n");
        let (keys, refused) = parse(&text);
        assert_eq!((keys.len(), refused.len()), (1, 2));
        assert!(refused[0].starts_with("line 3") && keys[0].actor.0.starts_with("SHA256:"));
    }
}
