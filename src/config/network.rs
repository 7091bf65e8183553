//! Host patterns: which hosts a program may reach through the egress proxy.
//!
//! | pattern | reaches |
//! | --- | --- |
//! | `api.example.com` | this host at port 443 |
//! | `*.example.com` | every host below `example.com`, and not `example.com` itself |
//! | `example.com:8443` | the port 8443 in place of 443 |
//! | `1.1.1.1`, `[2606:4700:4700::1111]:853` | an address, by which a program has to call it |
//! | `private:git.lan:3000`, `private:10.0.0.7` | a host whose addresses may be private |
//!
//! The configuration lists patterns, and the proxy reads a caller's request with the same
//! `Destination::parse`, so that both sides agree on what is one host.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::AddressKind;

/// The port of a pattern that names none.
const HTTPS: u16 = 443;
/// The marker of patterns whose hosts may have private addresses.
const PRIVATE: &str = "private:";

/// The host of a connection, in one form: lower case, without a dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum DestinationHost {
    /// A host name in `[a-z0-9-_.]`, which no resolver takes for an address.
    Name(String),
    /// An address in its usual form: four decimal parts, or IPv6 in brackets.
    Address(IpAddr),
}

/// Where a connection leads: a host, and a port where the text has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: DestinationHost,
    pub(crate) port: Option<u16>,
}

/// The rule that the text of a host breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    #[error("it names no host")]
    Empty,
    #[error(
        "a host name consists of letters, digits, `-`, `_` and dots (other letters in their \
             xn-- form)"
    )]
    Characters,
    #[error("each part of a host name has 1 to 63 characters and no `-` at its ends")]
    Label,
    #[error("a host name has at most 253 characters")]
    Length,
    #[error("it ends with a number and is not an IPv4 address of four decimal parts")]
    Number,
    #[error("an IPv6 address stands in brackets, as in [2606:4700::1111]:443")]
    Brackets,
    #[error("a port is a number from 1 to 65535")]
    Port,
}

impl Destination {
    /// Parses `host` or `host:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(bracketed) = text.strip_prefix('[') {
            let (address, rest) = bracketed.split_once(']').ok_or(HostError::Brackets)?;
            let address: Ipv6Addr = address.parse().map_err(|_| HostError::Brackets)?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(parse_port(port)?),
                None if rest.is_empty() => None,
                None => return Err(HostError::Brackets),
            };
            return Ok(Self { host: DestinationHost::Address(address.into()), port });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err(HostError::Brackets),
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        Ok(Self { host: parse_host(host)?, port })
    }
}

impl fmt::Display for DestinationHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

fn parse_port(text: &str) -> Result<u16, HostError> {
    // `u16::from_str` also takes a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port > 0);
    port.ok_or(HostError::Port)
}

/// A name or an IPv4 address. Forms that a resolver would take for an address (`127.1`, `0x7f.1`,
/// `2130706433`) are neither.
fn parse_host(text: &str) -> Result<DestinationHost, HostError> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if let Ok(address) = name.parse::<std::net::Ipv4Addr>() {
        return Ok(DestinationHost::Address(address.into()));
    }
    check_name(&name)?;
    Ok(DestinationHost::Name(name))
}

fn check_name(name: &str) -> Result<(), HostError> {
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > 253 {
        return Err(HostError::Length);
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err(HostError::Characters);
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !name.split('.').all(label) {
        return Err(HostError::Label);
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return Err(HostError::Number);
    }
    Ok(())
}

/// One entry of an allow-list of hosts.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    hosts: HostRange,
    port: u16,
    private: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum HostRange {
    One(DestinationHost),
    /// Every name that ends with a dot and this name.
    Below(String),
}

/// The text is no host pattern, or one that no program may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} can't be allowed: {rule}")]
pub struct HostPatternError {
    /// The beginning of the text.
    pattern: String,
    rule: PatternRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum PatternRule {
    #[error("{0}")]
    Host(HostError),
    #[error("write the host alone, without a scheme or a path, as in example.com:8443")]
    Url,
    #[error("`*` stands only at the beginning, before at least two parts, as in *.example.com")]
    Wildcard,
    #[error("it is {0}; mark it with `private:` in front if programs shall reach it")]
    Private(&'static str),
    #[error("it is {0}, and no program behind the proxy may reach one")]
    Refused(&'static str),
    #[error("it is this machine, and no program behind the proxy may reach it")]
    Localhost,
}

impl HostPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`HostPatternError`] names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, HostPatternError> {
        parse_pattern(text)
            .map_err(|rule| HostPatternError { pattern: text.chars().take(80).collect(), rule })
    }

    /// Whether the pattern covers a host at a port.
    pub(crate) fn covers(&self, host: &DestinationHost, port: u16) -> bool {
        let host = match (&self.hosts, host) {
            (HostRange::One(one), host) => one == host,
            (HostRange::Below(base), DestinationHost::Name(name)) => name
                .strip_suffix(base.as_str())
                .and_then(|front| front.strip_suffix('.'))
                .is_some_and(|front| !front.is_empty()),
            (HostRange::Below(_), DestinationHost::Address(_)) => false,
        };
        host && self.port == port
    }

    /// Whether the hosts of the pattern may have private addresses.
    pub(crate) const fn is_private(&self) -> bool {
        self.private
    }
}

fn parse_pattern(text: &str) -> Result<HostPattern, PatternRule> {
    if text.contains('/') {
        return Err(PatternRule::Url);
    }
    let (private, rest) = match text.strip_prefix(PRIVATE) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (below, rest) = match rest.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.contains('*') {
        return Err(PatternRule::Wildcard);
    }
    let Destination { host, port } = Destination::parse(rest).map_err(PatternRule::Host)?;
    let hosts = match host {
        DestinationHost::Name(name) if name == "localhost" || name.ends_with(".localhost") => {
            return Err(PatternRule::Localhost);
        }
        DestinationHost::Name(name) if below => {
            if !name.contains('.') {
                return Err(PatternRule::Wildcard);
            }
            HostRange::Below(name)
        }
        DestinationHost::Address(_) if below => return Err(PatternRule::Wildcard),
        DestinationHost::Address(address) => match AddressKind::of(address) {
            AddressKind::Refused(range) => return Err(PatternRule::Refused(range)),
            AddressKind::Private(range) if !private => return Err(PatternRule::Private(range)),
            AddressKind::Private(_) | AddressKind::Public => HostRange::One(host),
        },
        DestinationHost::Name(_) => HostRange::One(host),
    };
    Ok(HostPattern { hosts, port: port.unwrap_or(HTTPS), private })
}

impl TryFrom<String> for HostPattern {
    type Error = HostPatternError;
    fn try_from(text: String) -> Result<Self, HostPatternError> {
        Self::parse(&text)
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.private {
            f.write_str(PRIVATE)?;
        }
        match &self.hosts {
            HostRange::One(host) => host.fmt(f)?,
            HostRange::Below(base) => write!(f, "*.{base}")?,
        }
        if self.port == HTTPS { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, destination: &str) -> bool {
        let Destination { host, port } = Destination::parse(destination).unwrap();
        HostPattern::parse(pattern).unwrap().covers(&host, port.unwrap())
    }

    #[test]
    fn pattern_covers_only_its_hosts_and_its_port() {
        for (pattern, destination) in [
            ("example.com", "example.com:443"),
            ("Example.COM", "EXAMPLE.com.:443"),
            ("example.com.", "example.com:443"),
            ("example.com:8443", "example.com:8443"),
            ("*.example.com", "a.example.com:443"),
            ("*.example.com", "a.b.example.com:443"),
            ("private:*.corp.example.com:8443", "git.corp.example.com:8443"),
            ("private:registry:5000", "registry:5000"),
            ("1.1.1.1", "1.1.1.1:443"),
            ("1.1.1.1", "1.1.1.1.:443"),
            ("[2606:4700:4700::1111]:853", "[2606:4700:4700:0:0:0:0:1111]:853"),
            ("private:10.0.0.7:8080", "10.0.0.7:8080"),
            ("xn--bcher-kva.example", "XN--bcher-kva.example:443"),
        ] {
            assert!(covers(pattern, destination), "{pattern} {destination}");
        }
        for (pattern, destination) in [
            ("example.com", "example.com:80"),
            ("example.com", "a.example.com:443"),
            ("example.com", "example.com.evil.org:443"),
            ("example.com", "notexample.com:443"),
            ("*.example.com", "example.com:443"),
            ("*.example.com", "notexample.com:443"),
            ("*.example.com", "a.example.com:8443"),
            ("example.com:8443", "example.com:443"),
            ("1.1.1.1", "1.1.1.2:443"),
            ("1.1.1.1", "[::ffff:1.1.1.1]:443"),
        ] {
            assert!(!covers(pattern, destination), "{pattern} {destination}");
        }
    }

    #[test]
    fn destination_is_refused_in_every_other_form_of_an_address() {
        for (text, error) in [
            ("", HostError::Empty),
            (".", HostError::Empty),
            (":443", HostError::Empty),
            ("2130706433", HostError::Number),
            ("2130706433:443", HostError::Number),
            ("0x7f.1", HostError::Number),
            ("0x7f000001", HostError::Number),
            ("0X7F000001", HostError::Number),
            ("127.1", HostError::Number),
            ("127.0.0.01", HostError::Number),
            ("0177.0.0.1", HostError::Number),
            ("127.0.0.1.5", HostError::Number),
            ("127.0.0.256", HostError::Number),
            ("127.0.0.0x1", HostError::Number),
            ("example.123", HostError::Number),
            ("127.0.0.1..", HostError::Label),
            ("a..b", HostError::Label),
            (".a", HostError::Label),
            ("-a.example.com", HostError::Label),
            ("a-.example.com", HostError::Label),
            ("%31%32%37.0.0.1", HostError::Characters),
            ("example.com%00.evil.org", HostError::Characters),
            ("user@example.com", HostError::Characters),
            ("example.com /", HostError::Characters),
            ("exämple.com", HostError::Characters),
            ("①②⑦.0.0.1", HostError::Characters),
            ("example。com", HostError::Characters),
            ("user:secret@example.com:443", HostError::Brackets),
            ("::1", HostError::Brackets),
            ("::1:443", HostError::Brackets),
            ("[::1", HostError::Brackets),
            ("[::1]443", HostError::Brackets),
            ("[fe80::1%eth0]:443", HostError::Brackets),
            ("[127.0.0.1]:443", HostError::Brackets),
            ("[example.com]:443", HostError::Brackets),
            ("a:", HostError::Port),
            ("a:0", HostError::Port),
            ("a:65536", HostError::Port),
            ("a:+443", HostError::Port),
            ("a:-1", HostError::Port),
            ("a: 443", HostError::Port),
            ("a:https", HostError::Port),
            ("[::1]:", HostError::Port),
        ] {
            assert_eq!(Destination::parse(text), Err(error), "{text:?}");
        }
        let long = |length: usize| Destination::parse(&format!("{}.com", "a".repeat(length)));
        assert!(long(63).is_ok());
        assert_eq!(long(64), Err(HostError::Label));
        assert_eq!(Destination::parse(&"a.".repeat(128)), Err(HostError::Length));
    }

    #[test]
    fn pattern_error_names_the_text_and_the_rule() {
        for (text, message) in [
            (
                "https://example.com",
                "\"https://example.com\" can't be allowed: write the host alone",
            ),
            ("example.com/path", "\"example.com/path\" can't be allowed: write the host alone"),
            ("*", "\"*\" can't be allowed: `*` stands only at the beginning"),
            ("*.com", "\"*.com\" can't be allowed: `*` stands only at the beginning"),
            ("a.*.com", "\"a.*.com\" can't be allowed: `*` stands only at the beginning"),
            ("*.*.com", "\"*.*.com\" can't be allowed: `*` stands only at the beginning"),
            ("*.1.1.1.1", "\"*.1.1.1.1\" can't be allowed: `*` stands only at the beginning"),
            ("", "\"\" can't be allowed: it names no host"),
            ("a b", "\"a b\" can't be allowed: a host name consists of letters"),
            ("a:99999", "\"a:99999\" can't be allowed: a port is a number"),
            ("::1", "\"::1\" can't be allowed: an IPv6 address stands in brackets"),
            ("2130706433", "\"2130706433\" can't be allowed: it ends with a number"),
            (
                "10.0.0.7",
                "\"10.0.0.7\" can't be allowed: it is a private address; mark it with `private:`",
            ),
            (
                "private:127.0.0.1:11434",
                "\"private:127.0.0.1:11434\" can't be allowed: it is a loopback address, and no \
                 program",
            ),
            ("[::1]", "\"[::1]\" can't be allowed: it is a loopback address"),
            ("private:169.254.169.254", "\"private:169.254.169.254\" can't be allowed: it is the"),
            ("[::ffff:10.0.0.7]", "\"[::ffff:10.0.0.7]\" can't be allowed: it is an IPv6 form"),
            ("localhost:8080", "\"localhost:8080\" can't be allowed: it is this machine"),
            ("private:a.localhost", "\"private:a.localhost\" can't be allowed: it is this machine"),
            ("Private:a.lan", "\"Private:a.lan\" can't be allowed: a port is a number"),
        ] {
            let error = HostPattern::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let long = HostPattern::parse(&"é".repeat(10_000)).unwrap_err().to_string();
        assert!(long.len() < 400, "{long}");
    }

    #[test]
    fn pattern_survives_serialization_in_one_form() {
        #[derive(Debug, Deserialize, Serialize)]
        struct Section {
            hosts: Vec<HostPattern>,
        }
        let text = "hosts = [\"API.example.com.:443\", \"*.example.com:8443\", \
                    \"private:[fd12::0:1]:22\"]";
        let section: Section = super::super::parse("afk.toml", text).unwrap();
        assert_eq!(
            toml::to_string(&section).unwrap().trim(),
            "hosts = [\"api.example.com\", \"*.example.com:8443\", \"private:[fd12::1]:22\"]"
        );
        assert!(section.hosts[2].is_private() && !section.hosts[1].is_private());
        let error = super::super::parse::<Section>("afk.toml", "hosts = ['a.com', '10.0.0.7']");
        let error = error.unwrap_err().to_string();
        let expected =
            "afk.toml:1:19: hosts[1]: \"10.0.0.7\" can't be allowed: it is a private address";
        assert!(error.starts_with(expected), "{error}");
    }
}
