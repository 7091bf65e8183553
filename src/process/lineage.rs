//! A number that every descendant of a child inherits, also one that clears its environment, starts a
//! session, and leaves its folder and its parent. Where no wall and no control group holds the
//! processes of an agent, the next start finds by it what an earlier afk left.
//!
//! It is a limit of the process, for the CPU time of real-time programs: far above any use, so that it
//! limits nothing. Like the marks, it is no protection against a program that hides on purpose.

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::core::model::digest::Digest;

/// Added to each number: 35 years, in the limit's unit of microseconds.
const LEAST: u64 = 1 << 50;
/// The name of the limit in `/proc/<pid>/limits`.
const NAME: &str = "Max realtime timeout";

/// The number of a journal's processes; none without a journal.
pub(super) fn number_of(state: &str) -> Option<u64> {
    if state.is_empty() {
        return None;
    }
    let digest = Digest::of(&[state.as_bytes()]);
    let hash = digest.bytes().iter().take(6).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    Some(LEAST + hash)
}

/// Gives a child its number. It arrives while the program is still being loaded.
pub(super) fn give(pid: Option<Pid>, number: Option<u64>) {
    if let (Some(pid), Some(number)) = (pid, number) {
        let limit = Rlimit { current: Some(number), maximum: Some(number) };
        // Fails where afk itself has a lower limit; the marks are left then.
        let _ = prlimit(Some(pid), Resource::Rttime, limit);
    }
}

/// The number that a process carries.
pub(super) fn carried(pid: i32) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let values = limits.lines().find_map(|line| line.strip_prefix(NAME))?;
    values.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn descendants_inherit_the_number_through_a_cleared_environment() {
        let number = number_of("a journal");
        assert_ne!(number, number_of("another journal"));
        assert_eq!(number_of(""), None);
        // The first line comes once the number is there; then a descendant reads its own limits.
        let mut child = Command::new("sh")
            .args(["-c", "read -r go; env -i setsid -w cat /proc/self/limits"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        assert_ne!(carried(pid), number);
        give(Pid::from_raw(pid), number);
        assert_eq!(carried(pid), number);
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let limits = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let line = limits.lines().find(|line| line.starts_with(NAME)).unwrap();
        assert!(line.contains(&number.unwrap().to_string()), "{line}");
    }
}
