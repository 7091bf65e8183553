//! A transcript as an asciicast, version 2: a header, and a line for each entry with its time.

use std::io::{self, Write};

use serde_json::json;

use crate::cli::daily::transcript::lines;
use crate::core::model::run::Run;
use crate::journal::transcript::Reader;

/// Entries that are read at once.
const WINDOW: usize = 512;
/// The columns and rows of the recorded terminal.
const SIZE: (u16, u16) = (100, 30);
/// The longest pause that a player keeps, in seconds.
const LONGEST_PAUSE: u32 = 2;

/// Writes the transcript of a run.
///
/// # Errors
/// The transcript can't be read, or `to` can't be written.
pub(super) fn write(to: &mut dyn Write, run: &Run, reader: &Reader) -> io::Result<()> {
    let begin = reader.read(0, 1)?.first().map_or(run.progress.claimed, |entry| entry.at);
    let header = json!({
        "version": 2,
        "width": SIZE.0,
        "height": SIZE.1,
        "timestamp": begin.0 / 1000,
        "idle_time_limit": LONGEST_PAUSE,
        "title": format!("{} {}", run.id, run.work.title().clean_line()),
    });
    writeln!(to, "{header}")?;
    let (mut next, mut last) = (0, 0);
    loop {
        let entries = reader.read(next, WINDOW)?;
        if entries.is_empty() {
            return Ok(());
        }
        next += entries.len();
        for entry in &entries {
            // A player expects times in order, also where somebody set the clock back.
            last = entry.at.since(begin).max(last);
            let text = lines(entry).join("\r\n");
            if !text.is_empty() {
                #[allow(clippy::cast_precision_loss, reason = "a double has all times of a run")]
                let seconds = last as f64 / 1000.0;
                writeln!(to, "{}", json!([seconds, "o", format!("{text}\r\n")]))?;
            }
        }
    }
}
