//! The `text` agent: any program that reads a prompt to the end of its input, writes what it has to
//! say, and tells by its exit code whether it could (docs/agents.md).

use super::{Conversation, Said, TurnSpec, bounded};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::approval::Answer;
use crate::core::model::approval::DecidedBy;
use crate::core::model::capability::Capabilities;

/// See the module.
#[derive(Debug, Default)]
pub struct Text {
    /// Emits each line as a piece as soon as it comes.
    streams: bool,
    /// A line was said.
    said: bool,
}

impl Conversation for Text {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn begin(&mut self, spec: &TurnSpec, said: &mut Said) {
        self.streams = spec.stream_output;
        said.lines.push(spec.prompt.as_received().as_bytes().to_vec());
    }

    fn reads_on(&self) -> bool {
        false
    }

    fn hear(&mut self, line: &[u8], cut: bool, said: &mut Said) {
        let mut text = String::from_utf8_lossy(line).into_owned();
        if cut {
            text.push_str(" […]");
        }
        if self.streams {
            let between = if self.said { "\n" } else { "" };
            said.event(AgentEvent::Piece { text: bounded(format!("{between}{text}")) });
        }
        self.said = true;
        said.event(AgentEvent::Text { text: bounded(text) });
    }

    fn steer(&mut self, _text: &str, _said: &mut Said) {}

    fn follow(&mut self, _text: &str, _said: &mut Said) {}

    fn answer(&mut self, _request: &str, _answer: &Answer, _by: &DecidedBy, _said: &mut Said) {}

    fn interrupt(&mut self, _said: &mut Said) {}

    fn closed(&self, code: Option<i32>, stderr: &str) -> Option<TurnEnd> {
        match code? {
            0 => Some(TurnEnd::Done),
            // It could not be started.
            126 | 127 => None,
            code => {
                let why = format!("exit code {code}; {}", stderr.trim());
                Some(TurnEnd::Crashed { why: bounded(why) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_exit_code_says_how_it_ended() {
        let text = Text::default();
        assert_eq!(text.closed(Some(0), "a warning"), Some(TurnEnd::Done));
        let why = "exit code 3; no such model".into();
        assert_eq!(text.closed(Some(3), "no such model\n"), Some(TurnEnd::Crashed { why }));
        for unknown in [None, Some(126), Some(127)] {
            assert_eq!(text.closed(unknown, ""), None, "{unknown:?}");
        }
    }

    #[test]
    fn lines_are_lines_for_whoever_hears_them_too() {
        let mut text = Text { streams: true, said: false };
        let mut said = Said::default();
        text.hear("größer".as_bytes(), false, &mut said);
        text.hear(b"end", true, &mut said);
        let piece = |text: &str| AgentEvent::Piece { text: text.into() };
        let line = |text: &str| AgentEvent::Text { text: text.into() };
        let expected = [piece("größer"), line("größer"), piece("\nend […]"), line("end […]")];
        assert_eq!(said.events, expected);
    }
}
