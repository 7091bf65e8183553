//! Comments on the diff of a run: they wait with the cockpit until they are sent to the run's agent as
//! one message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::model::id::RunId;

/// The comments on one run's diff that wait at most.
const MOST_COMMENTS: usize = 200;
/// The runs with comments that are kept at most; those of the lowest number go first.
const MOST_RUNS: usize = 32;

/// A line of a diff, which stays the same one when the diff grows around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReviewedLine {
    /// The file and the line in it: `src/app.sh:7`.
    pub(crate) place: String,
    /// The line of the diff, with its sign.
    pub(crate) quote: String,
}

/// A comment on a line of a diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReviewComment {
    /// The number of the line in the diff when the comment was written, from 0: comments are sent in this
    /// order.
    pub(crate) row: usize,
    /// The line itself.
    pub(crate) line: ReviewedLine,
    /// The comment as it was typed.
    pub(crate) text: String,
}

impl ReviewComment {
    /// Whether both are the same text on the same line, wherever that line stands in the diff.
    fn is_same(&self, other: &Self) -> bool {
        self.line == other.line && self.text == other.text
    }
}

/// A change of the comments on one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReviewChange {
    /// Adds a comment, or replaces the one on the same line.
    Put(ReviewComment),
    /// Removes the comment on a line of the diff.
    Remove(ReviewedLine),
    /// Removes these, and none whose text is another one by now: they were sent.
    Drop(Vec<ReviewComment>),
}

/// The comments that wait, by run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reviews(BTreeMap<RunId, Vec<ReviewComment>>);

impl Reviews {
    /// The comments on a run, in the order of the diff.
    pub(crate) fn of(&self, run: RunId) -> &[ReviewComment] {
        self.0.get(&run).map_or(&[], Vec::as_slice)
    }

    /// Changes the comments on a run.
    pub(crate) fn change(&mut self, run: RunId, change: ReviewChange) {
        let comments = self.0.entry(run).or_default();
        match change {
            ReviewChange::Put(comment) => {
                comments.retain(|known| known.line != comment.line);
                comments.push(comment);
                comments.sort_by_key(|comment| comment.row);
            }
            ReviewChange::Remove(line) => comments.retain(|known| known.line != line),
            ReviewChange::Drop(gone) => {
                comments.retain(|known| !gone.iter().any(|gone| gone.is_same(known)));
            }
        }
        self.bound();
    }

    /// Takes over the changes from one state of the comments to a later one. A comment that somebody else has
    /// changed meanwhile is not removed.
    pub(crate) fn take_changes(&mut self, before: &Self, now: &Self) {
        for (run, comments) in &before.0 {
            let is_gone =
                |known: &&ReviewComment| now.of(*run).iter().all(|new| new.line != known.line);
            let gone = comments.iter().filter(is_gone).cloned().collect();
            self.change(*run, ReviewChange::Drop(gone));
        }
        for (run, comments) in &now.0 {
            for comment in comments {
                if !before.of(*run).iter().any(|known| known.is_same(comment)) {
                    self.change(*run, ReviewChange::Put(comment.clone()));
                }
            }
        }
    }

    /// Keeps no more comments and runs than there is room for.
    pub(crate) fn bound(&mut self) {
        for comments in self.0.values_mut() {
            comments.truncate(MOST_COMMENTS);
        }
        self.0.retain(|_, comments| !comments.is_empty());
        while self.0.len() > MOST_RUNS {
            self.0.pop_first();
        }
    }
}

/// The comments as one message to an agent.
pub(crate) fn message(comments: &[ReviewComment]) -> String {
    let mut text = "This is a review of your changes so far. Take up each comment.\n".to_owned();
    for (at, comment) in comments.iter().enumerate() {
        let ReviewComment { line: ReviewedLine { place, quote }, text: said, .. } = comment;
        text.push_str(&format!("\n{}. {place}\n   > {quote}\n", at + 1));
        for line in said.lines() {
            text.push_str(&format!("   {line}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(row: usize) -> ReviewedLine {
        ReviewedLine { place: format!("a.rs:{row}"), quote: format!("+line {row}") }
    }

    fn comment(row: usize, text: &str) -> ReviewComment {
        ReviewComment { row, line: line(row), text: text.into() }
    }

    #[test]
    fn comments_are_sent_in_the_order_of_the_diff_and_once_per_line() {
        let (mut reviews, run) = (Reviews::default(), RunId(3));
        reviews.change(run, ReviewChange::Put(comment(9, "later")));
        reviews.change(run, ReviewChange::Put(comment(2, "first")));
        reviews.change(run, ReviewChange::Put(comment(2, "better\nwords")));
        reviews.change(run, ReviewChange::Put(comment(5, "gone")));
        reviews.change(run, ReviewChange::Remove(line(5)));
        assert_eq!(
            message(reviews.of(run)),
            "This is a review of your changes so far. Take up each comment.\n\
             \n1. a.rs:2\n   > +line 2\n   better\n   words\n\
             \n2. a.rs:9\n   > +line 9\n   later\n"
        );
        assert!(reviews.of(RunId(4)).is_empty());
        let sent = reviews.of(run).to_vec();
        reviews.change(run, ReviewChange::Put(comment(9, "changed since")));
        reviews.change(run, ReviewChange::Put(comment(11, "new since")));
        reviews.change(run, ReviewChange::Drop(sent));
        assert_eq!(reviews.of(run), [comment(9, "changed since"), comment(11, "new since")]);
    }

    #[test]
    fn comments_are_bounded() {
        let mut reviews = Reviews::default();
        for run in 0..100 {
            reviews.change(RunId(run), ReviewChange::Put(comment(1, "x")));
        }
        for row in 0..500 {
            reviews.change(RunId(99), ReviewChange::Put(comment(row, "x")));
        }
        assert_eq!((reviews.0.len(), reviews.of(RunId(99)).len()), (MOST_RUNS, MOST_COMMENTS));
    }
}
