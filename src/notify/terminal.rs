//! Notices in an attached terminal: a line, and a bell or an OSC 9 desktop notification. The server
//! sends a [`TerminalNotice`] to each client, and the client writes its [`TerminalNotice::sound`].

use serde::{Deserialize, Serialize};

use crate::config::notify::NotifyConfig;
use crate::core::model::notice::Notice;
use crate::core::model::run::Outcome;
use crate::core::model::untrusted::clean_line;

/// A notice as a client shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalNotice {
    /// The text of the notice, cleaned.
    pub line: String,
    /// Whether a human is needed, which is worth a sound.
    pub urgent: bool,
}

impl TerminalNotice {
    /// The bytes that make the configured sound; text from outside is in them only cleaned.
    #[must_use]
    pub fn sound(&self, config: &NotifyConfig) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.urgent {
            return bytes;
        }
        if config.bell {
            bytes.push(7);
        }
        if config.osc {
            bytes.extend_from_slice(format!("\u{1b}]9;{}\u{1b}\\", self.line).as_bytes());
        }
        bytes
    }
}

/// A notice as one line of a terminal.
#[must_use]
pub fn terminal_notice(notice: &Notice) -> TerminalNotice {
    match notice {
        Notice::Ended { outcome, text, .. } => TerminalNotice {
            line: format!("{}: {}", outcome.as_str(), clean_line(text)),
            urgent: matches!(outcome, Outcome::Frozen | Outcome::NeedsHuman),
        },
        Notice::Breakglass { text } => {
            TerminalNotice { line: format!("breakglass: {}", clean_line(text)), urgent: true }
        }
        // Nobody has to act: afk goes on by itself.
        Notice::Outage { text } => TerminalNotice { line: clean_line(text), urgent: false },
        Notice::Asked { text, .. } | Notice::Reminder { text, .. } | Notice::Tracker { text } => {
            TerminalNotice { line: clean_line(text), urgent: true }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_notice_that_needs_a_human_makes_a_sound() {
        let both = NotifyConfig { bell: true, osc: true, ..NotifyConfig::default() };
        let done = Notice::Ended { outcome: Outcome::Done, text: "x".into(), asked: None };
        assert_eq!(terminal_notice(&done).sound(&both), b"");
        let text = "a\u{1b}]52;c;x\u{7}b".into();
        let frozen = Notice::Ended { outcome: Outcome::Frozen, text, asked: None };
        assert_eq!(terminal_notice(&frozen).sound(&both), b"\x07\x1b]9;frozen: ab\x1b\\");
        assert_eq!(
            terminal_notice(&frozen)
                .sound(&NotifyConfig { bell: false, ..NotifyConfig::default() }),
            b""
        );
    }
}
