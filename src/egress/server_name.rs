//! The server name in a TLS `ClientHello`, which has to be the host of the tunnel. A host of a
//! content network can be a door to all of its other sites (domain fronting); the name in the open
//! part of TLS closes the widest of these doors. The names inside of TLS stay unread.

use rustls::server::Acceptor;

use crate::config::network::{Destination, DestinationHost};

/// The first byte of a TLS record that carries a handshake.
const HANDSHAKE: u8 = 0x16;
/// The most bytes up to the end of a `ClientHello`; those of browsers have about 2 KiB.
pub(super) const HELLO_BYTES: usize = 16 * 1024;

/// The fatal alert `unrecognized_name` as a whole TLS record.
pub(super) const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];

/// The name in a `ClientHello` is not the host of the tunnel.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ServerNameError {
    #[error("the TLS server name {0} is not the host of the tunnel")]
    Other(String),
    #[error("the ClientHello can't be read: {0}")]
    Unreadable(String),
}

/// Reads a `ClientHello` as it arrives.
pub(super) struct ServerNameCheck<'a> {
    host: &'a str,
    acceptor: Acceptor,
    length: usize,
}

impl<'a> ServerNameCheck<'a> {
    pub(super) fn new(host: &'a str) -> Self {
        Self { host, acceptor: Acceptor::default(), length: 0 }
    }

    /// Takes the next bytes. Returns whether the check is complete: the name is that of the host,
    /// there is none, or the tunnel carries something else than TLS.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<bool, ServerNameError> {
        if self.length == 0 && bytes.first().is_some_and(|first| *first != HANDSHAKE) {
            return Ok(true);
        }
        let unreadable = |why: &dyn std::fmt::Display| ServerNameError::Unreadable(why.to_string());
        self.length += bytes.len();
        while !bytes.is_empty() {
            self.acceptor.read_tls(&mut bytes).map_err(|error| unreadable(&error))?;
            if let Some(accepted) =
                self.acceptor.accept().map_err(|(error, _)| unreadable(&error))?
            {
                return match accepted.client_hello().server_name() {
                    Some(name) if !self.is_host(name) => {
                        Err(ServerNameError::Other(name.to_owned()))
                    }
                    _ => Ok(true),
                };
            }
        }
        if self.length > HELLO_BYTES {
            return Err(unreadable(&format!("it is longer than {HELLO_BYTES} bytes")));
        }
        Ok(false)
    }

    fn is_host(&self, name: &str) -> bool {
        match Destination::parse(name) {
            Ok(Destination { host: DestinationHost::Name(name), port: None }) => name == self.host,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::tests::client_hello;

    #[test]
    fn hello_for_the_host_completes_the_check_however_it_is_cut() {
        let hello = client_hello("api.example.com");
        for size in [1, 7, 100, hello.len()] {
            let mut check = ServerNameCheck::new("api.example.com");
            let mut results = hello.chunks(size).map(|part| check.read(part).unwrap());
            assert_eq!(results.position(|done| done), Some(hello.len().div_ceil(size) - 1));
        }
        // What follows in the same read, such as early data, does not disturb.
        let more = [hello, vec![0x17, 3, 3, 0, 1, 0]].concat();
        assert_eq!(ServerNameCheck::new("api.example.com").read(&more), Ok(true));
    }

    #[test]
    fn hello_for_another_host_is_refused() {
        let hello = client_hello("evil.example.org");
        let other = Err(ServerNameError::Other("evil.example.org".into()));
        assert_eq!(ServerNameCheck::new("api.example.com").read(&hello), other);
        let mut check = ServerNameCheck::new("api.example.com");
        let refused = hello.chunks(1).map(|part| check.read(part)).find(|read| *read != Ok(false));
        assert_eq!(refused, Some(other));
        let parent = client_hello("example.com");
        assert!(ServerNameCheck::new("api.example.com").read(&parent).is_err());
    }

    #[test]
    fn hello_without_a_name_and_other_protocols_pass() {
        // A client that calls an address sends no name.
        let nameless = client_hello("1.1.1.1");
        assert_eq!(ServerNameCheck::new("api.example.com").read(&nameless), Ok(true));
        assert_eq!(ServerNameCheck::new("api.example.com").read(b"SSH-2.0-x\r\n"), Ok(true));
        assert_eq!(ServerNameCheck::new("api.example.com").read(b""), Ok(false));
    }

    #[test]
    fn hello_that_is_no_hello_is_refused() {
        let mut check = ServerNameCheck::new("api.example.com");
        assert!(matches!(check.read(b"\x16GET / HTTP"), Err(ServerNameError::Unreadable(_))));
        // Records of a hello that never ends.
        let mut check = ServerNameCheck::new("api.example.com");
        let record = [&[0x16, 3, 1, 0x10, 0, 1, 0, 0xff, 0xff][..], &[0; 0xffc]].concat();
        let more = [&[0x16, 3, 1, 0x10, 0][..], &[0; 0x1000]].concat();
        assert_eq!(check.read(&record), Ok(false));
        let refused = (0..8).map(|_| check.read(&more)).find(|read| *read != Ok(false));
        assert!(matches!(refused, Some(Err(ServerNameError::Unreadable(_)))), "{refused:?}");
    }
}
