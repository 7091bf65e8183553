//! The answers of the proxy: `200`, or the reason of a refusal as a status and one line for the
//! person or the agent who reads it.

use std::io;
use std::time::Duration;

use crate::config::network::DestinationHost;

/// The answer after which the tunnel is open.
pub(super) const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// The reason why a request gets no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum EgressRefusal {
    #[error("this request is malformed: {0}")]
    Malformed(String),
    #[error("this proxy carries only CONNECT: call the host by https:// in place of http://")]
    Method,
    #[error("the request was not complete after {} s", .0.as_secs_f32())]
    Late(Duration),
    #[error("the request is longer than {0} bytes")]
    TooLong(usize),
    #[error("{host}:{port} isn't in {list}; a person can add it there")]
    NotListed { host: DestinationHost, port: u16, list: String },
    #[error("{host} leads to {range}, which no program behind this proxy may reach")]
    RefusedAddress { host: DestinationHost, range: &'static str },
    #[error(
        "{host} leads to {range}; a person can allow that with `private:` in front of its entry \
         in {list}"
    )]
    PrivateAddress { host: DestinationHost, range: &'static str, list: String },
    #[error("resolve {host}: {cause}")]
    Unresolved { host: DestinationHost, cause: io::Error },
    #[error("connect to {host}:{port}: {cause}")]
    Unreachable { host: DestinationHost, port: u16, cause: io::Error },
}

impl EgressRefusal {
    fn status(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "400 Bad Request",
            Self::NotListed { .. } | Self::RefusedAddress { .. } | Self::PrivateAddress { .. } => {
                "403 Forbidden"
            }
            Self::Method => "405 Method Not Allowed\r\nAllow: CONNECT",
            Self::Late(_) => "408 Request Timeout",
            Self::TooLong(_) => "431 Request Header Fields Too Large",
            Self::Unresolved { cause, .. } | Self::Unreachable { cause, .. } => {
                match cause.kind() {
                    io::ErrorKind::TimedOut => "504 Gateway Timeout",
                    _ => "502 Bad Gateway",
                }
            }
        }
    }

    /// The whole answer, after which the connection ends.
    pub(super) fn answer(&self) -> String {
        let (status, body) = (self.status(), format!("afk: {self}\n"));
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }

    /// Whether the program asked for something that it may not have. The network's own failures
    /// are none of its doing.
    pub(super) const fn is_refused(&self) -> bool {
        !matches!(self, Self::Unresolved { .. } | Self::Unreachable { .. })
    }
}
