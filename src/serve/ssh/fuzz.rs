//! A fuzz target for the file of admitted keys.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::keys;
use crate::core::model::time::Timestamp;

/// Reads the file: each line gives at most one key or one error, and no name forges another line.
pub(crate) fn authorized_keys(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (keys, refused) = keys::parse(&text);
    assert!(keys.len() + refused.len() <= text.lines().count(), "a line was read twice");
    for key in &keys {
        let name = &key.actor.0;
        assert!(!name.is_empty() && !name.contains(char::is_control), "{name:?} is no name");
        for from in [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let admitted = key.admits(from, Timestamp(1_800_000_000_000));
            assert!(!admitted || key.admits(from, Timestamp(i64::MIN)), "a key is admitted later");
        }
    }
}
