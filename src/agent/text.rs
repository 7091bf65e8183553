//! The `text` protocol, for any program that reads a prompt to the end of its input, prints its
//! answer, and reports success by its exit code (docs/agents.md).

use super::{AgentProtocol, ProtocolOutput, TurnSpec, UsageReports, bounded};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::approval::{Answer, DecidedBy};
use crate::core::model::capability::Capabilities;

#[derive(Debug, Default)]
pub(crate) struct TextProtocol {
    /// Emit each line as an [`AgentEvent::Piece`] as well.
    stream: bool,
    /// The agent has printed a line: pieces need a newline between them.
    has_printed: bool,
}

impl AgentProtocol for TextProtocol {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn begin(&mut self, spec: &TurnSpec, out: &mut ProtocolOutput) {
        self.stream = spec.stream_output;
        out.lines.push(spec.prompt.as_received().as_bytes().to_vec());
    }

    fn usage_reports(&self) -> UsageReports {
        UsageReports::Never
    }

    fn keeps_input_open(&self) -> bool {
        false
    }

    fn receive_line(&mut self, line: &[u8], cut: bool, out: &mut ProtocolOutput) {
        let mut text = String::from_utf8_lossy(line).into_owned();
        if cut {
            text.push_str(" […]");
        }
        if self.stream {
            let between = if self.has_printed { "\n" } else { "" };
            out.emit(AgentEvent::Piece { text: bounded(format!("{between}{text}")) });
        }
        self.has_printed = true;
        out.emit(AgentEvent::Text { text: bounded(text) });
    }

    fn steer(&mut self, _text: &str, _out: &mut ProtocolOutput) {}

    fn follow_up(&mut self, _text: &str, _out: &mut ProtocolOutput) {}

    fn answer(
        &mut self,
        _request: &str,
        _answer: &Answer,
        _by: &DecidedBy,
        _out: &mut ProtocolOutput,
    ) {
    }

    fn interrupt(&mut self, _out: &mut ProtocolOutput) {}

    fn end_at_exit(&self, code: Option<i32>, stderr: &str) -> Option<TurnEnd> {
        match code? {
            0 => Some(TurnEnd::Done),
            // The shell could not start the program.
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
    fn exit_code_decides_the_end() {
        let text = TextProtocol::default();
        assert_eq!(text.end_at_exit(Some(0), "a warning"), Some(TurnEnd::Done));
        let why = "exit code 3; no such model".into();
        assert_eq!(text.end_at_exit(Some(3), "no such model\n"), Some(TurnEnd::Crashed { why }));
        for undecided in [None, Some(126), Some(127)] {
            assert_eq!(text.end_at_exit(undecided, ""), None, "{undecided:?}");
        }
    }

    #[test]
    fn pieces_join_to_the_printed_lines() {
        let mut text = TextProtocol { stream: true, has_printed: false };
        let mut out = ProtocolOutput::default();
        text.receive_line("größer".as_bytes(), false, &mut out);
        text.receive_line(b"end", true, &mut out);
        let piece = |text: &str| AgentEvent::Piece { text: text.into() };
        let line = |text: &str| AgentEvent::Text { text: text.into() };
        let expected = [piece("größer"), line("größer"), piece("\nend […]"), line("end […]")];
        assert_eq!(out.events, expected);
    }
}
