//! Failed calls to other machines: which address was called, and why no whole answer came.
//!
//! Each adapter that opens a connection turns the error of its library into a [`NetworkError`], so
//! that every message names the address (scheme, host and port; never a credential, a path or a
//! query) and the cause, and so that the hint follows from the kind of the failure.
//!
//! ```text
//! reqwest::Error ──┐
//! octocrab::Error ─┤                                ┌─ error::chain → log, notice, problem, doctor
//! kube::Error ─────┼→ NetworkError { address,       │
//! io::Error (TCP) ─┘    step, fault, cause } ───────┴─ hint() ─────→ doctor
//! ```

pub(crate) mod calls;

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use crate::error::causes;

/// A call that brought no whole answer.
#[derive(Debug, Clone)]
pub struct NetworkError {
    /// `scheme://host:port`, or `address:port` for a plain TCP connection.
    address: String,
    step: CallStep,
    fault: NetworkFault,
    cause: Arc<dyn Error + Send + Sync>,
}

/// How far a call came before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallStep {
    /// There was no connection, so that nothing was sent.
    Connect,
    /// The request may have reached the server.
    Call,
}

/// Why a call failed, as far as the operator's next step differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkFault {
    /// The host answered that nothing listens at the port.
    Refused,
    /// The host name has no address.
    Unresolved,
    /// No route leads to the host.
    Unreachable,
    /// The time limit of the call passed.
    TimedOut,
    /// The server's certificate is not trusted.
    Certificate,
    /// Anything else, such as a connection that was cut off.
    Interrupted,
}

/// The time limit of a call passed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer in {} s", .0.as_secs())]
struct NoAnswer(Duration);

impl NetworkError {
    /// A failed call to `address`, which may be a whole URL: only its origin is kept.
    #[must_use]
    pub fn new(address: &str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let cause: Arc<dyn Error + Send + Sync> = cause.into().into();
        let step = if is_connect(&*cause) { CallStep::Connect } else { CallStep::Call };
        Self { address: origin(address), step, fault: fault(&*cause), cause }
    }

    /// A TCP connection to `address` that was never established.
    #[must_use]
    pub fn connect(address: &str, cause: io::Error) -> Self {
        Self { step: CallStep::Connect, ..Self::new(address, cause) }
    }

    /// A call to `address` that had no answer within its time limit.
    #[must_use]
    pub fn timed_out(address: &str, limit: Duration) -> Self {
        Self { fault: NetworkFault::TimedOut, ..Self::new(address, NoAnswer(limit)) }
    }

    /// Why the call failed.
    #[must_use]
    pub const fn fault(&self) -> NetworkFault {
        self.fault
    }

    /// Whether there was no connection: the server can't have seen the request.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.step == CallStep::Connect
    }

    /// The operator's next step, which follows from the fault.
    #[must_use]
    pub fn hint(&self) -> String {
        let address = &self.address;
        match self.fault {
            NetworkFault::Refused => {
                format!("see that the server runs and listens at {address}")
            }
            NetworkFault::Unresolved => {
                format!("check the host name in {address} and the DNS of this machine")
            }
            NetworkFault::Unreachable => {
                format!("check the route and the firewalls between this machine and {address}")
            }
            NetworkFault::TimedOut => {
                format!("see that {address} answers and that no firewall drops the connection")
            }
            NetworkFault::Certificate => format!(
                "check the certificate of {address} and the CA certificates of this machine"
            ),
            NetworkFault::Interrupted => {
                format!("see the log of the server at {address} and of a proxy in front of it")
            }
        }
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            CallStep::Connect => "connect to",
            CallStep::Call => "call",
        };
        write!(f, "{step} {}", self.address)
    }
}

impl Error for NetworkError {
    /// The root of the library's chain: the layers above it only repeat that a request failed, and
    /// some of them print the whole URL.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        causes(&*self.cause).last()
    }
}

/// Scheme, host and port of an address; text that is neither a URL nor a socket address is not
/// repeated, since it may be a secret.
#[must_use]
pub fn origin(address: &str) -> String {
    if address.parse::<std::net::SocketAddr>().is_ok() {
        return address.to_owned();
    }
    match reqwest::Url::parse(address) {
        Ok(url) if url.has_host() => url.origin().ascii_serialization(),
        _ => "an invalid address".to_owned(),
    }
}

fn is_connect(error: &(dyn Error + 'static)) -> bool {
    use hyper_util::client::legacy::Error as HyperError;
    causes(error).any(|cause| {
        cause.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect)
            || cause.downcast_ref::<HyperError>().is_some_and(HyperError::is_connect)
    })
}

fn fault(error: &(dyn Error + 'static)) -> NetworkFault {
    causes(error).find_map(fault_of).unwrap_or(NetworkFault::Interrupted)
}

/// The fault that one error of a chain stands for, where it says so by itself.
fn fault_of(cause: &(dyn Error + 'static)) -> Option<NetworkFault> {
    if cause.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout) {
        return Some(NetworkFault::TimedOut);
    }
    let cause = cause.downcast_ref::<io::Error>()?;
    match cause.kind() {
        ErrorKind::ConnectionRefused => Some(NetworkFault::Refused),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Some(NetworkFault::Unreachable)
        }
        ErrorKind::TimedOut => Some(NetworkFault::TimedOut),
        // The resolver's errors have no kind of their own (std::net::ToSocketAddrs).
        _ if cause.to_string().starts_with("failed to lookup address information") => {
            Some(NetworkFault::Unresolved)
        }
        _ if matches!(cause.get_ref(), Some(inner) if inner.is::<rustls::Error>()) => {
            Some(NetworkFault::Certificate)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    /// A port of this machine that nothing listens at.
    fn closed_port() -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    }

    #[test]
    fn origin_keeps_scheme_host_and_port_alone() {
        for (address, kept) in [
            (
                "https://ana:secret@vault.acme.com/v1/x?token=secret#secret",
                "https://vault.acme.com",
            ),
            ("http://127.0.0.1:8200/v1", "http://127.0.0.1:8200"),
            ("https://[::1]:6443/api", "https://[::1]:6443"),
            ("10.0.0.7:22", "10.0.0.7:22"),
            ("secret", "an invalid address"),
            ("mailto:secret", "an invalid address"),
        ] {
            assert_eq!(origin(address), kept);
        }
    }

    #[tokio::test]
    async fn refused_connection_names_address_and_cause() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = format!("http://127.0.0.1:{}", closed_port());
        let url = format!("{address}/secret?token=secret");
        let error = reqwest::get(&url).await.unwrap_err();
        let error = NetworkError::new(&url, error);
        assert_eq!(chain(&error), format!("connect to {address}: connection refused"));
        assert_eq!((error.fault(), error.is_connect()), (NetworkFault::Refused, true));
        assert_eq!(error.hint(), format!("see that the server runs and listens at {address}"));
    }

    #[test]
    fn fault_follows_from_the_cause() {
        let of = |cause: io::Error| NetworkError::connect("http://a:1", cause).fault();
        assert_eq!(of(ErrorKind::ConnectionRefused.into()), NetworkFault::Refused);
        assert_eq!(of(ErrorKind::NetworkUnreachable.into()), NetworkFault::Unreachable);
        assert_eq!(of(ErrorKind::TimedOut.into()), NetworkFault::TimedOut);
        assert_eq!(of(ErrorKind::ConnectionReset.into()), NetworkFault::Interrupted);
        let certificate = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        assert_eq!(of(io::Error::other(certificate)), NetworkFault::Certificate);
        let lookup = "failed to lookup address information: Name or service not known";
        assert_eq!(of(io::Error::other(lookup)), NetworkFault::Unresolved);
        let late = NetworkError::timed_out("http://a:1/x", Duration::from_secs(20));
        assert_eq!(chain(&late), "call http://a:1: no answer in 20 s");
        assert_eq!((late.fault(), late.is_connect()), (NetworkFault::TimedOut, false));
    }
}
