//! The terminal as a notifier: a bell, or an OSC 9 desktop notification.

use serde::{Deserialize, Serialize};

use crate::config::notify::NotifyConfig;
use crate::core::model::notice::Notice;
use crate::core::model::run::Outcome;

/// What a client shows: one line, cleaned, and whether it is worth a sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The line.
    pub line: String,
    /// A human is needed.
    pub urgent: bool,
}

/// A notice as a line.
#[must_use]
pub fn shown(notice: &Notice) -> Shown {
    match notice {
        Notice::Ended { outcome, text, .. } => Shown {
            line: format!(
                "{}: {}",
                outcome.as_str(),
                crate::core::model::untrusted::clean_line(text)
            ),
            urgent: matches!(outcome, Outcome::Frozen | Outcome::NeedsHuman),
        },
        Notice::Breakglass { text } => Shown {
            line: format!("breakglass: {}", crate::core::model::untrusted::clean_line(text)),
            urgent: true,
        },
        Notice::Asked { text, .. } | Notice::Reminder { text, .. } => {
            Shown { line: crate::core::model::untrusted::clean_line(text), urgent: true }
        }
    }
}

/// The bytes for a terminal, as configured. Nothing from outside is in them but cleaned text.
#[must_use]
pub fn bytes(shown: &Shown, config: &NotifyConfig) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !shown.urgent {
        return bytes;
    }
    if config.bell {
        bytes.push(7);
    }
    if config.osc {
        bytes.extend_from_slice(format!("\u{1b}]9;{}\u{1b}\\", shown.line).as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_a_human_makes_a_sound() {
        let both = NotifyConfig { bell: true, osc: true, ..NotifyConfig::default() };
        let done = Notice::Ended { outcome: Outcome::Done, text: "x".into(), asked: None };
        assert_eq!(bytes(&shown(&done), &both), b"");
        let text = "a\u{1b}]52;c;x\u{7}b".into();
        let frozen = Notice::Ended { outcome: Outcome::Frozen, text, asked: None };
        assert_eq!(bytes(&shown(&frozen), &both), b"\x07\x1b]9;frozen: ab\x1b\\");
        assert_eq!(
            bytes(&shown(&frozen), &NotifyConfig { bell: false, ..NotifyConfig::default() }),
            b""
        );
    }
}
