//! Free ports for the commands of checkouts: each tree has its own, as long as it exists.
//!
//! afk reserves them among its own trees. It can't keep another program of this machine from taking
//! one, so they lie below the range from which the kernel takes ports for outgoing connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::core::model::digest::Digest;
use crate::lock::LockExt;

/// The ports that are given away.
const RANGE: Range<u16> = 20_000..32_000;

/// The ports of all trees.
#[derive(Debug, Default)]
pub(super) struct Ports(Mutex<BTreeMap<PathBuf, Vec<u16>>>);

impl Ports {
    /// The ports of a tree; the same ones at each call, and after a restart unless they are taken.
    ///
    /// # Errors
    /// A line for a person, if there are not enough.
    pub(super) fn of(&self, tree: &Path, count: u16) -> Result<Vec<u16>, String> {
        let mut all = self.0.locked();
        if let Some(known) = all.get(tree).filter(|known| known.len() >= usize::from(count)) {
            return Ok(known[..usize::from(count)].to_vec());
        }
        let taken: BTreeSet<u16> =
            all.iter().filter(|(other, _)| *other != tree).flat_map(|(_, p)| p).copied().collect();
        let digest = Digest::of(&[tree.as_os_str().as_encoded_bytes()]);
        let [first, second, ..] = *digest.bytes();
        let length = RANGE.end - RANGE.start;
        let start = u16::from_be_bytes([first, second]) % length;
        let free = |port: &u16| {
            !taken.contains(port) && TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok()
        };
        let candidates = (0..length).map(|n| RANGE.start + (start + n) % length);
        let ports: Vec<u16> = candidates.filter(free).take(usize::from(count)).collect();
        if ports.len() < usize::from(count) {
            let (start, end) = (RANGE.start, RANGE.end);
            return Err(format!("there are not {count} free ports from {start} to {end}"));
        }
        all.insert(tree.to_owned(), ports.clone());
        Ok(ports)
    }

    /// Gives the ports of a tree back.
    pub(super) fn release(&self, tree: &Path) {
        self.0.locked().remove(tree);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_have_different_free_ports_and_keep_them() {
        let ports = Ports::default();
        let (one, two) = (Path::new("/a/wt-1"), Path::new("/a/prove"));
        let first = ports.of(one, 3).unwrap();
        let second = ports.of(two, 30).unwrap();
        assert!(first.iter().all(|port| !second.contains(port)), "{first:?} {second:?}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first[0])).unwrap();
        assert_eq!(ports.of(one, 3).unwrap(), first);
        ports.release(one);
        assert!(!ports.of(one, 1).unwrap().contains(&first[0]), "somebody listens there");
        drop(listener);
    }
}
