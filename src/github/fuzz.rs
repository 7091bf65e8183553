//! A fuzz target for the answers of GitHub's API, before anybody reads what they are about.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::message;
use super::governor::Governor;
use super::transport::{facts, next_page};
use crate::core::tables::answer::{ApiAction, ApiCall, action};

/// Judges an answer: a line with the status, the headers, an empty line and the body.
pub(crate) fn answer(data: &[u8]) {
    let end = memchr::memmem::find(data, b"\n\n");
    let (head, body) = end.map_or((data, &b""[..]), |end| (&data[..end], &data[end + 2..]));
    let mut lines = head.split(|byte| *byte == b'\n');
    let status = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let status = status.and_then(|status| status.trim().parse().ok()).unwrap_or(0);
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    let answer = facts(status, &headers, body);
    for asked in [ApiCall::Read, ApiCall::Write] {
        let action = action(asked, &answer);
        let waits = matches!(
            action,
            ApiAction::Wait(_) | ApiAction::WaitUntil(_) | ApiAction::WaitDoubling
        );
        if waits {
            let _ = Governor::default().wait(action, 1_800_000_000);
        }
    }
    let message = message(body);
    assert!(!message.contains(char::is_control), "{message:?} is not one line");
    assert!(message.chars().count() <= 300, "a message is too long");
    if let Some(link) = headers.get("link").and_then(|link| link.to_str().ok())
        && let Some(next) = next_page(link)
    {
        assert!(link.contains(&next), "the next page is another address");
    }
}
