//! The one request that the proxy reads from a connection: `CONNECT host:port` with headers that it
//! checks and ignores.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::response::EgressRefusal;
use crate::config::network::{Destination, DestinationHost};

const READ_BYTES: usize = 2048;
const END: &[u8] = b"\r\n\r\n";

/// A request for a tunnel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TunnelRequest {
    pub(super) host: DestinationHost,
    pub(super) port: u16,
    /// The bytes behind the request, which belong to the tunnel.
    pub(super) early: Vec<u8>,
}

/// Reads the request; `None` if the caller closed the connection before its end.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
    deadline: Duration,
) -> Result<Option<TunnelRequest>, EgressRefusal> {
    let Ok(head) = timeout(deadline, read_head(stream, limit)).await else {
        return Err(EgressRefusal::Late(deadline));
    };
    let Some((mut head, length)) = head? else { return Ok(None) };
    let early = head.split_off(length + END.len());
    let (host, port) = parse(&head[..length])?;
    Ok(Some(TunnelRequest { host, port, early }))
}

/// Reads up to the empty line. Returns everything that was read, and the length before that line.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<(Vec<u8>, usize)>, EgressRefusal> {
    let mut all = Vec::new();
    let mut chunk = [0; READ_BYTES];
    loop {
        let Ok(length @ 1..) = stream.read(&mut chunk).await else { return Ok(None) };
        // The end may lie across two reads.
        let from = all.len().saturating_sub(END.len() - 1);
        all.extend_from_slice(&chunk[..length]);
        // A caller of another protocol, such as TLS, would wait for an answer until the deadline.
        if !all[0].is_ascii_uppercase() {
            return Err(EgressRefusal::Malformed("it does not begin with a method".into()));
        }
        let end = memchr::memmem::find(&all[from..], END).map(|at| from + at);
        match end {
            Some(end) if end <= limit => return Ok(Some((all, end))),
            None if all.len() <= limit => {}
            _ => return Err(EgressRefusal::TooLong(limit)),
        }
    }
}

/// Parses the lines of a request without the empty line at its end.
pub(super) fn parse(head: &[u8]) -> Result<(DestinationHost, u16), EgressRefusal> {
    let malformed = |why: &str| EgressRefusal::Malformed(why.into());
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    // This includes a lone CR or LF, which another reader could take for the end of a line.
    let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    if lines.iter().any(|line| line.iter().any(control)) {
        return Err(malformed("it contains control characters"));
    }
    let header = |line: &&[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        name.len() < line.len() && !name.is_empty() && name.iter().all(|byte| is_token(*byte))
    };
    if !lines[1..].iter().all(header) {
        return Err(malformed("a header has no name"));
    }
    let Ok(first) = std::str::from_utf8(lines[0]) else {
        return Err(malformed("the first line is not ASCII"));
    };
    let parts: Vec<&str> = first.split(' ').collect();
    let [method, destination, "HTTP/1.1" | "HTTP/1.0"] = parts[..] else {
        return Err(malformed("the first line is not `CONNECT host:port HTTP/1.1`"));
    };
    if method != "CONNECT" {
        if !method.bytes().all(is_token) {
            return Err(malformed("the method is not one of HTTP"));
        }
        return Err(EgressRefusal::Method);
    }
    let Destination { host, port } = Destination::parse(destination)
        .map_err(|rule| EgressRefusal::Malformed(rule.to_string()))?;
    let port = port.ok_or_else(|| malformed("the host has no port"))?;
    Ok((host, port))
}

/// The characters of methods and names of headers (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(head: &str) -> String {
        parse(head.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn request_names_one_host_and_one_port() {
        let name = |name: &str| DestinationHost::Name(name.into());
        let address = |address: &str| DestinationHost::Address(address.parse().unwrap());
        for (head, host, port) in [
            ("CONNECT example.com:443 HTTP/1.1", name("example.com"), 443),
            ("CONNECT EXAMPLE.com.:8443 HTTP/1.0", name("example.com"), 8443),
            (
                "CONNECT example.com:443 HTTP/1.1\r\nHost: evil.org\r\nX-Empty:\r\nX:\té",
                name("example.com"),
                443,
            ),
            ("CONNECT 1.1.1.1:853 HTTP/1.1", address("1.1.1.1"), 853),
            ("CONNECT [2606:4700::1111]:443 HTTP/1.1", address("2606:4700::1111"), 443),
            ("CONNECT [::ffff:127.0.0.1]:443 HTTP/1.1", address("::ffff:127.0.0.1"), 443),
        ] {
            assert_eq!(parse(head.as_bytes()).unwrap(), (host, port), "{head:?}");
        }
    }

    #[test]
    fn request_in_another_form_is_malformed() {
        for (head, why) in [
            ("CONNECT example.com:443", "first line"),
            ("CONNECT example.com:443 HTTP/2", "first line"),
            ("CONNECT example.com:443 http/1.1", "first line"),
            ("CONNECT  example.com:443 HTTP/1.1", "first line"),
            ("CONNECT example.com:443  HTTP/1.1", "first line"),
            ("CONNECT example.com :443 HTTP/1.1", "first line"),
            ("CONNECT example.com:443 HTTP/1.1 ", "first line"),
            ("CONNECT\texample.com:443 HTTP/1.1", "first line"),
            ("CONNECT example.com:443\tHTTP/1.1", "first line"),
            ("CONNECT example.com:443\r\nX: y HTTP/1.1", "first line"),
            ("CONNECT example.com:443 HTTP/1.1\nX: y", "control"),
            ("CONNECT example.com:443 HTTP/1.1\rX: y", "control"),
            ("CONNECT example.com\0.evil.org:443 HTTP/1.1", "control"),
            ("CONNECT example.com:443 HTTP/1.1\r\nX: \x1b[2J", "control"),
            ("CONNECT example.com:443 HTTP/1.1\r\nno header", "header"),
            ("CONNECT example.com:443 HTTP/1.1\r\n folded: x", "header"),
            ("CONNECT example.com:443 HTTP/1.1\r\n: x", "header"),
            ("CONNECT example.com:443 HTTP/1.1\r\nX : x", "header"),
            ("CONNECT example.com HTTP/1.1", "no port"),
            ("CONNECT example.com: HTTP/1.1", "port"),
            ("CONNECT example.com:0 HTTP/1.1", "port"),
            ("CONNECT user@example.com:443 HTTP/1.1", "host name"),
            ("CONNECT user:secret@example.com:443 HTTP/1.1", "brackets"),
            ("CONNECT https://example.com:443 HTTP/1.1", "brackets"),
            ("CONNECT example.com:443/path HTTP/1.1", "port"),
            ("CONNECT example.com%0d%0a:443 HTTP/1.1", "host name"),
            ("CONNECT 2130706433:443 HTTP/1.1", "number"),
            ("CONNECT 0x7f.1:443 HTTP/1.1", "number"),
            ("CONNECT exämple.com:443 HTTP/1.1", "host name"),
            ("CONNECT\u{a0}example.com:443 HTTP/1.1", "first line"),
            ("C(NNECT example.com:443 HTTP/1.1", "method"),
        ] {
            let refusal = refusal(head);
            assert!(refusal.contains("malformed") && refusal.contains(why), "{head:?}: {refusal}");
        }
        let latin = parse(b"CONNECT ex\xe4mple.com:443 HTTP/1.1").unwrap_err().to_string();
        assert!(latin.contains("not ASCII"), "{latin}");
    }

    #[test]
    fn method_beside_connect_is_told_the_way() {
        for head in ["GET http://example.com/ HTTP/1.1", "POST / HTTP/1.1", "connect a:1 HTTP/1.1"]
        {
            let refusal = refusal(head);
            assert!(refusal.contains("https://"), "{head:?}: {refusal}");
        }
    }

    #[tokio::test]
    async fn request_ends_at_its_empty_line_however_it_is_cut() {
        let text = b"CONNECT example.com:443 HTTP/1.1\r\nA: b\r\n\r\nearly\r\n\r\n";
        for cut in 1..text.len() {
            let mut stream = (&text[..cut]).chain(&text[cut..]);
            let request = read(&mut stream, 100, Duration::from_secs(10)).await.unwrap().unwrap();
            let mut rest = request.early;
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!((rest.as_slice(), request.port), (&b"early\r\n\r\n"[..], 443), "{cut}");
        }
        for cut in 0..text.len() - b"\nearly\r\n\r\n".len() {
            let ended = read(&mut &text[..cut], 100, Duration::from_secs(10)).await.unwrap();
            assert_eq!(ended, None, "{cut}");
        }
    }

    #[tokio::test]
    async fn request_over_the_limit_is_refused() {
        let head = |length: usize| {
            let mut head = b"CONNECT example.com:443 HTTP/1.1\r\nA: ".to_vec();
            head.resize(length, b'a');
            head.extend_from_slice(END);
            head
        };
        for (length, refused) in [(100, false), (8192, false), (8193, true), (1 << 20, true)] {
            let result = read(&mut head(length).as_slice(), 8192, Duration::from_secs(10)).await;
            assert_eq!(matches!(result, Err(EgressRefusal::TooLong(8192))), refused, "{length}");
            assert_eq!(result.is_ok(), !refused, "{length}");
        }
    }
}
