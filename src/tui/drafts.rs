//! What an operator has begun to write and has not sent: texts of prompts, and comments on diffs.
//!
//! A file in the state folder keeps them for each operator from one cockpit to the next, so that a link that
//! breaks takes no text away. An operator can have several cockpits at once: each writes only its own changes,
//! into what the others have left meanwhile.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kept_file;
use super::review::Reviews;
use crate::core::model::command::Command;
use crate::core::model::id::Actor;

/// The folder in the state folder.
const FOLDER: &str = "drafts";
/// Drafts of prompts that are kept at most; the oldest goes first.
const MOST_PROMPTS: usize = 16;
/// The largest file that is read or written, in bytes.
const LARGEST: usize = 4 * 1024 * 1024;

/// The text of a prompt that was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PromptDraft {
    /// The title of the prompt: it names the run or the escalation.
    title: String,
    text: String,
    /// The command that was made of it and that the fleet has not accepted yet.
    #[serde(skip)]
    sent: Option<Command>,
}

/// The texts that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Drafts {
    /// The newest is last.
    prompts: Vec<PromptDraft>,
    /// Comments on diffs.
    pub(crate) reviews: Reviews,
}

fn file(state: &Path, actor: &Actor) -> PathBuf {
    kept_file::of_operator(&state.join(FOLDER), actor)
}

impl Drafts {
    /// Reads the drafts of an operator: none are there where the file can't be read, since they are a
    /// convenience.
    pub(crate) fn load(state: &Path, actor: &Actor) -> Self {
        let file = file(state, actor);
        let size = std::fs::metadata(&file).map_or(0, |known| known.len());
        if size > LARGEST as u64 {
            return Self::default();
        }
        let read = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut drafts: Self = read.unwrap_or_default();
        drafts.prompts.truncate(MOST_PROMPTS);
        drafts.reviews.bound();
        drafts
    }

    /// Writes what has changed since the drafts were `loaded` into the drafts that an operator has now; without
    /// any, the file goes.
    ///
    /// # Errors
    /// The folder can't be written, or the drafts are larger than what is read again.
    pub(crate) fn save(&self, loaded: &Self, state: &Path, actor: &Actor) -> io::Result<()> {
        if self == loaded {
            return Ok(());
        }
        let _lock = kept_file::lock(&state.join(FOLDER))?;
        let mut kept = Self::load(state, actor);
        kept.take_changes(loaded, self);
        kept.write(&file(state, actor))
    }

    /// Takes over the changes from one state of the drafts to a later one. A text that somebody else has changed
    /// meanwhile is not removed.
    fn take_changes(&mut self, before: &Self, now: &Self) {
        for PromptDraft { title, text, .. } in &before.prompts {
            if now.of(title).is_none() && self.of(title) == Some(text) {
                self.drop(title);
            }
        }
        for PromptDraft { title, text, .. } in &now.prompts {
            if before.of(title) != Some(text) {
                self.keep(title.clone(), text.clone());
            }
        }
        self.reviews.take_changes(&before.reviews, &now.reviews);
    }

    fn write(&self, file: &Path) -> io::Result<()> {
        if *self == Self::default() {
            return match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() > LARGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the drafts are too large"));
        }
        kept_file::replace(file, &bytes)
    }

    /// The text that was typed into a prompt before.
    pub(crate) fn of(&self, title: &str) -> Option<&str> {
        self.prompts.iter().find(|draft| draft.title == title).map(|draft| draft.text.as_str())
    }

    /// Keeps the text of a prompt.
    pub(crate) fn keep(&mut self, title: String, text: String) {
        self.drop(&title);
        if self.prompts.len() == MOST_PROMPTS {
            self.prompts.remove(0);
        }
        self.prompts.push(PromptDraft { title, text, sent: None });
    }

    /// Keeps the text of a prompt, or the draft that it began with, until the fleet has accepted its command.
    pub(crate) fn send(&mut self, title: &str, text: Option<String>, command: Command) {
        if let Some(text) = text {
            self.keep(title.to_owned(), text);
        }
        if let Some(draft) = self.prompts.iter_mut().find(|draft| draft.title == title) {
            draft.sent = Some(command);
        }
    }

    /// Whether the text of a prompt was sent, and no answer has come yet.
    pub(crate) fn is_under_way(&self, title: &str) -> bool {
        self.prompts.iter().any(|draft| draft.title == title && draft.sent.is_some())
    }

    /// Forgets the text of a command that the fleet has accepted.
    pub(crate) fn accepted(&mut self, command: &Command) {
        self.prompts.retain(|draft| draft.sent.as_ref() != Some(command));
    }

    /// Keeps the text of a command that was not sent or not accepted; true if the command had one.
    pub(crate) fn refused(&mut self, command: &Command) -> bool {
        let of_command = |draft: &&mut PromptDraft| draft.sent.as_ref() == Some(command);
        let draft = self.prompts.iter_mut().find(of_command);
        draft.is_some_and(|draft| draft.sent.take().is_some())
    }

    /// Forgets the text of a prompt: it was used, or emptied.
    pub(crate) fn drop(&mut self, title: &str) {
        self.prompts.retain(|draft| draft.title != title);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::id::RunId;
    use crate::tui::review::{ReviewChange, ReviewComment, ReviewedLine};

    fn drafts() -> Drafts {
        let mut drafts = Drafts::default();
        drafts.keep("Answer e1 (api#1)".into(), "wait\nfor ana".into());
        let line = ReviewedLine { place: "a.rs:7".into(), quote: "+x".into() };
        let comment = ReviewComment { row: 4, line, text: "why?".into() };
        drafts.reviews.change(RunId(3), ReviewChange::Put(comment));
        drafts
    }

    #[test]
    fn drafts_are_found_again_by_their_operator_alone() {
        let state = tempfile::tempdir().unwrap();
        let (ana, bob) = (Actor("ana".into()), Actor("../../bob".into()));
        drafts().save(&Drafts::default(), state.path(), &ana).unwrap();
        let read = Drafts::load(state.path(), &ana);
        assert_eq!(read, drafts());
        assert_eq!(read.of("Answer e1 (api#1)"), Some("wait\nfor ana"));
        assert_eq!(Drafts::load(state.path(), &bob), Drafts::default());
        Drafts::default().save(&drafts(), state.path(), &ana).unwrap();
        assert_eq!(Drafts::load(state.path(), &ana), Drafts::default());
        assert_eq!(std::fs::read_dir(state.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn file_of_drafts_is_for_its_user_alone_and_a_broken_one_is_none() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        let ana = Actor("ana".into());
        drafts().save(&Drafts::default(), state.path(), &ana).unwrap();
        let file = file(state.path(), &ana);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        for broken in ["", "{", "{\"prompts\":7}", "[]"] {
            std::fs::write(&file, broken).unwrap();
            assert_eq!(Drafts::load(state.path(), &ana), Drafts::default(), "{broken}");
        }
    }

    #[test]
    fn cockpit_writes_its_own_changes_into_those_of_another() {
        let (state, ana) = (tempfile::tempdir().unwrap(), Actor("ana".into()));
        let kept = || Drafts::load(state.path(), &ana);
        let texts = |drafts: &Drafts| {
            let comments = drafts.reviews.of(RunId(3)).iter().map(|comment| comment.text.clone());
            let prompts = drafts.prompts.iter().map(|draft| draft.text.clone());
            prompts.chain(comments).collect::<Vec<_>>()
        };
        let put = |drafts: &mut Drafts, row: usize, text: &str| {
            let line = ReviewedLine { place: format!("a.rs:{row}"), quote: "+x".into() };
            let comment = ReviewComment { row, line, text: text.into() };
            drafts.reviews.change(RunId(3), ReviewChange::Put(comment));
        };
        let mut first = Drafts::default();
        first.keep("p1".into(), "one".into());
        first.keep("p2".into(), "two".into());
        put(&mut first, 4, "why?");
        put(&mut first, 5, "how?");
        first.save(&Drafts::default(), state.path(), &ana).unwrap();
        // Cockpits open with the same drafts.
        let loaded = kept();
        let (idle, mut writer) = (kept(), kept());
        writer.keep("p1".into(), "one, longer".into());
        writer.keep("p3".into(), "three".into());
        put(&mut writer, 4, "why not?");
        put(&mut writer, 9, "new");
        writer.save(&loaded, state.path(), &ana).unwrap();
        let written = ["two", "one, longer", "three", "why not?", "how?", "new"];
        assert_eq!(texts(&kept()), written);
        idle.save(&loaded, state.path(), &ana).unwrap();
        assert_eq!(texts(&kept()), written);
        // A removed text goes, unless somebody has changed it meanwhile.
        Drafts::default().save(&loaded, state.path(), &ana).unwrap();
        assert_eq!(texts(&kept()), ["one, longer", "three", "why not?", "new"]);
    }

    #[test]
    fn cockpits_that_leave_at_once_lose_no_text() {
        let state = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for at in 0..MOST_PROMPTS {
                let state = state.path();
                scope.spawn(move || {
                    let mut drafts = Drafts::default();
                    drafts.keep(format!("p{at}"), "text".into());
                    drafts.save(&Drafts::default(), state, &Actor("ana".into())).unwrap();
                });
            }
        });
        let kept = Drafts::load(state.path(), &Actor("ana".into()));
        assert_eq!(kept.prompts.len(), MOST_PROMPTS);
    }

    #[test]
    fn draft_of_a_command_stays_until_it_is_accepted() {
        let cancel = |run| Command::Cancel { run: RunId(run) };
        let mut drafts = Drafts::default();
        drafts.send("p1", Some("one".into()), cancel(1));
        assert!(drafts.is_under_way("p1") && drafts.of("p1") == Some("one"));
        drafts.accepted(&cancel(2));
        assert_eq!(drafts.of("p1"), Some("one"));
        assert!(drafts.refused(&cancel(1)) && !drafts.refused(&cancel(1)));
        // A refused text is an ordinary draft, which the next try sends as it is.
        assert!(!drafts.is_under_way("p1"));
        drafts.send("p1", None, cancel(1));
        // Meanwhile the operator begins another text.
        drafts.keep("p1".into(), "later".into());
        drafts.accepted(&cancel(1));
        assert_eq!(drafts.of("p1"), Some("later"));
        drafts.send("p1", None, cancel(1));
        drafts.accepted(&cancel(1));
        assert_eq!(drafts.of("p1"), None);
    }

    #[test]
    fn drafts_of_prompts_are_bounded_and_the_oldest_goes() {
        let mut drafts = Drafts::default();
        for at in 0..MOST_PROMPTS + 3 {
            drafts.keep(format!("p{at}"), "x".into());
        }
        assert_eq!(
            (drafts.prompts.len(), drafts.of("p2"), drafts.of("p3")),
            (MOST_PROMPTS, None, Some("x"))
        );
    }
}
