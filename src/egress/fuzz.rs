//! Fuzz targets for what programs behind the wall send to the proxy.

use super::request::parse;
use super::server_name::ServerNameCheck;

/// Reads a request: none with a control character is accepted, and no refusal can forge a header.
pub(crate) fn request(data: &[u8]) {
    match parse(data) {
        Ok((host, _)) => {
            let lines: Vec<u8> = data.iter().copied().filter(|b| !b"\r\n\t".contains(b)).collect();
            assert!(!lines.iter().any(u8::is_ascii_control), "a control character is accepted");
            assert!(!host.to_string().contains([' ', '/', '@']), "{host} is no host");
        }
        Err(refusal) => {
            let answer = refusal.answer();
            let parts: Vec<&str> = answer.split("\r\n\r\n").collect();
            let [head, body] = parts[..] else { panic!("{answer:?} has another body") };
            assert!(head.lines().count() <= 5, "{head:?} has another header");
            assert!(!body.trim_end().contains(char::is_control), "{body:?} is not one line");
            assert!(answer.len() <= 4 * data.len() + 1024, "{} bytes of answer", answer.len());
        }
    }
}

/// Reads the begin of a tunnel: it is judged the same however it is cut.
pub(crate) fn hello(data: &[u8]) {
    let whole = ServerNameCheck::new("example.org").read(data).ok();
    let mut check = ServerNameCheck::new("example.org");
    let mut cut = Some(false);
    for byte in data {
        cut = check.read(&[*byte]).ok();
        if cut != Some(false) {
            break;
        }
    }
    assert_eq!(whole.is_some(), cut.is_some(), "one of {whole:?} and {cut:?} is refused");
}
