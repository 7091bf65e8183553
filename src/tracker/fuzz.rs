//! A fuzz target for the files of issues.

use super::front_matter::{IssueFile, IssueState, time};

/// Reads the file of an issue: afk's own edits keep what a person wrote, and an error is one line.
pub(crate) fn front_matter(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut file = match IssueFile::parse(&text) {
        Ok(file) => file,
        Err(why) => return assert!(!why.contains(char::is_control), "{why:?} is not one line"),
    };
    let _ = (file.key(), file.priority(), file.class(), time(file.front.created));
    let read = |file: &IssueFile| match IssueFile::parse(&file.text()) {
        Ok(again) => again,
        Err(why) => panic!("{why} in a file that afk wrote: {:?}", file.text()),
    };
    let same = read(&file);
    assert_eq!(same.front, file.front, "writing changes the front matter");
    assert_eq!(same.body(), file.body(), "writing changes the text");
    let body = file.body().to_owned();
    file.set_labels(vec!["ready".into(), "a \"b\"".into()]);
    file.comment("<!-- afk 1 -->", "It is done.");
    file.close();
    let edited = read(&file);
    assert_eq!((edited.front.state, &edited.front), (IssueState::Closed, &file.front));
    assert_eq!(edited.body(), body, "a comment changes the text");
}
