//! The output of a job, read from its transcript: the answer's bytes by lines, and the final answer as
//! the agent wrote it. The HTTP service and `afk submit --wait` answer with it.

use super::transcript::Reader;
use crate::core::model::agent_event::AgentEvent;

/// The number of lines of output that an answer holds: the last ones.
const LINES: usize = 10_000;
/// The most bytes that an answer holds of each text: the last ones.
const BYTES: usize = 16 * 1024 * 1024;

/// Text in events of whole lines. An event that doesn't end with a line break stands for a line that
/// does, except for the last one.
#[derive(Debug, Default)]
pub(crate) struct LineText {
    text: String,
    /// The last event had no line break of its own at its end.
    is_open: bool,
}

impl LineText {
    /// The bytes that stand between the events so far and the next one.
    pub(crate) const fn separator(&self) -> &'static str {
        if self.is_open { "\n" } else { "" }
    }

    pub(crate) fn push(&mut self, event: &str) {
        self.text.push_str(self.separator());
        self.text.push_str(event);
        self.is_open = !event.ends_with('\n');
        if self.text.len() > 2 * BYTES {
            self.keep_the_last();
        }
    }

    fn keep_the_last(&mut self) {
        let over = self.text.len().saturating_sub(BYTES);
        if over > 0 {
            let from = self.text.floor_char_boundary(over);
            // A part of a line would look like a whole one.
            let line = self.text[from..].find('\n').map_or(from, |end| from + end + 1);
            self.text.drain(..line);
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// The text, of which the first lines are missing if it is too long.
    fn finish(mut self) -> String {
        self.keep_the_last();
        self.text
    }
}

/// The output of a job so far.
#[derive(Debug, Default)]
pub(crate) struct JobOutput {
    /// The text, by lines with their line breaks: joined, they are the text.
    pub lines: Vec<String>,
    /// The text after the last tool: the final answer.
    pub result: String,
    pub code: Option<i32>,
    pub stderr: String,
}

/// Reads the output from the transcript; it is empty if the transcript can't be read.
pub(crate) fn read(mut reader: Reader) -> JobOutput {
    let mut output = JobOutput::default();
    if reader.refresh().is_err() {
        return output;
    }
    let (mut all, mut result) = (LineText::default(), LineText::default());
    let (mut from, mut is_after_tool) = (0, false);
    while let Ok(entries) = reader.read(from, 512) {
        if entries.is_empty() {
            break;
        }
        from += entries.len();
        for entry in entries {
            match entry.event {
                AgentEvent::Text { text } => {
                    if std::mem::take(&mut is_after_tool) {
                        result.clear();
                    }
                    all.push(text.as_received());
                    result.push(text.as_received());
                }
                AgentEvent::Prompt { .. }
                | AgentEvent::ToolStart { .. }
                | AgentEvent::ToolEnd { .. } => is_after_tool = true,
                AgentEvent::Exited { code, stderr } => {
                    (output.code, output.stderr) = (code, stderr.clean());
                }
                _ => {}
            }
        }
    }
    output.lines = all.finish().split_inclusive('\n').map(str::to_owned).collect();
    let over = output.lines.len().saturating_sub(LINES);
    output.lines.drain(..over);
    output.result = result.finish();
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(events: &[&str]) -> String {
        let mut text = LineText::default();
        for event in events {
            text.push(event);
        }
        text.finish()
    }

    #[test]
    fn events_join_to_the_text_with_its_blank_lines() {
        assert_eq!(joined(&["one", "", "two"]), "one\n\ntwo");
        assert_eq!(joined(&["a\n\n", "b\n", "", "c"]), "a\n\nb\n\nc");
        assert_eq!(joined(&["", "x"]), "\nx");
        assert_eq!(joined(&[]), "");
    }

    #[test]
    fn text_keeps_its_last_whole_lines() {
        let line = format!("{}\n", "x".repeat(1023));
        let text = joined(&vec![line.as_str(); 40 * 1024]);
        assert!(text.len() <= BYTES && text.len() > BYTES - 2048, "{}", text.len());
        assert!(text.split_inclusive('\n').all(|part| part == line));
    }
}
