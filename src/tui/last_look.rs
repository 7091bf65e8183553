//! When an operator last looked at the cockpit: a file in the state folder for each operator, and the
//! keys of this session. The brief begins there.

use std::path::{Path, PathBuf};

use super::kept_file;
use crate::core::model::id::Actor;
use crate::core::model::time::Timestamp;

/// The absence after which the cockpit shows the brief by itself, in milliseconds.
const AWAY: i64 = 60 * 60_000;
/// How far back a brief goes for an operator who never looked before, in milliseconds.
const FIRST: i64 = 12 * AWAY;

/// The last look of one operator.
#[derive(Debug)]
pub(super) struct LastLook {
    file: PathBuf,
    /// The begin of the brief: the last look before the present stay.
    since: Timestamp,
    /// The last key of this session, or its begin.
    key: Timestamp,
}

impl LastLook {
    /// Reads the last look, and whether the operator was away for so long that the brief is due.
    pub(super) fn read(state: &Path, actor: &Actor, now: Timestamp) -> (Self, bool) {
        let file = kept_file::of_operator(&state.join("looks"), actor);
        let known = std::fs::read_to_string(&file).ok();
        let known = known.and_then(|text| text.trim().parse().ok()).map(Timestamp);
        // A look in the future is the work of a clock that was ahead.
        let known = known.filter(|at| *at <= now);
        let is_due = known.is_some_and(|at| now.since(at) >= AWAY);
        let since = known.unwrap_or_else(|| now.plus(-FIRST));
        (Self { file, since, key: now }, is_due)
    }

    /// The begin of the brief.
    pub(super) const fn since(&self) -> Timestamp {
        self.since
    }

    /// Notes a key; returns how long the operator was away before it, where that was long.
    pub(super) fn note_key(&mut self, now: Timestamp) -> Option<i64> {
        let (away, last) = (now.since(self.key), self.key);
        self.key = now;
        if away < AWAY {
            return None;
        }
        self.since = last;
        Some(away)
    }

    /// Keeps the present moment as the last look. A state folder of another user keeps none, and a brief
    /// then begins where it did before.
    pub(super) fn keep(&self, now: Timestamp) {
        let _ = kept_file::replace(&self.file, now.0.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brief_is_due_after_an_hour_away_and_begins_with_the_last_look() {
        let state = tempfile::tempdir().unwrap();
        let (ana, bob) = (Actor("ana".into()), Actor("../../bob".into()));
        let read = |actor, now: i64| LastLook::read(state.path(), actor, Timestamp(now));
        let begin = 100 * AWAY;
        let (first, is_due) = read(&ana, begin);
        assert_eq!((first.since(), is_due), (Timestamp(begin - FIRST), false));
        first.keep(Timestamp(begin));
        let (soon, is_due) = read(&ana, begin + AWAY - 1);
        assert_eq!((soon.since(), is_due), (Timestamp(begin), false));
        let (late, is_due) = read(&ana, begin + AWAY);
        assert_eq!((late.since(), is_due), (Timestamp(begin), true));
        assert!(!read(&bob, begin + AWAY).1, "another operator");
        assert_eq!(
            read(&ana, begin - 1).0.since(),
            Timestamp(begin - 1 - FIRST),
            "a clock set back"
        );
        read(&bob, begin).0.keep(Timestamp(begin));
        assert_eq!(std::fs::read_dir(state.path().join("looks")).unwrap().count(), 2);
    }

    #[test]
    fn key_after_an_hour_moves_the_begin_of_the_brief() {
        let state = tempfile::tempdir().unwrap();
        let (mut look, _) = LastLook::read(state.path(), &Actor("ana".into()), Timestamp(FIRST));
        assert_eq!(look.note_key(Timestamp(FIRST + 5)), None);
        assert_eq!(look.since(), Timestamp(0));
        assert_eq!(look.note_key(Timestamp(FIRST + 5 + AWAY)), Some(AWAY));
        assert_eq!(look.since(), Timestamp(FIRST + 5));
    }
}
