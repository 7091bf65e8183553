//! Removes secrets from afk's own log.

use std::io::{self, Write};

use super::Redactor;

/// A writer that redacts each write. A logger writes one whole line at once.
#[derive(Debug, Clone)]
pub(crate) struct RedactingWriter<W> {
    inner: W,
    redactor: Redactor,
}

impl<W> RedactingWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, redactor: Redactor::default() }
    }
}

impl<W: Write> Write for RedactingWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.inner.write_all(&self.redactor.clean_bytes(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
