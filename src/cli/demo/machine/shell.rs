//! The shell of the demo's VM: a line editor and a few commands, without I/O.

use std::time::Duration;

use super::GuestState;

/// The longest line that is kept.
const LONGEST_LINE: usize = 1024;

/// A key's effect on a terminal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TypedKey {
    /// Text to show.
    Echo(String),
    /// A finished line.
    Line(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D on an empty line.
    End,
}

/// Edits one line; arrows and other sequences are ignored.
#[derive(Debug, Default)]
pub(super) struct LineEditor {
    line: Vec<u8>,
    /// Inside an escape sequence.
    escape: bool,
}

impl LineEditor {
    /// The effects of typed bytes, in order.
    pub(super) fn keys(&mut self, bytes: &[u8]) -> Vec<TypedKey> {
        bytes.iter().filter_map(|byte| self.key(*byte)).collect()
    }

    fn key(&mut self, byte: u8) -> Option<TypedKey> {
        if self.escape {
            // A sequence ends with a letter or `~`.
            self.escape = !(byte.is_ascii_alphabetic() && byte != b'O' || byte == b'~');
            return None;
        }
        match byte {
            0x1b => {
                self.escape = true;
                None
            }
            0x03 => {
                self.line.clear();
                Some(TypedKey::Interrupt)
            }
            0x04 if self.line.is_empty() => Some(TypedKey::End),
            b'\r' | b'\n' => {
                let line = std::mem::take(&mut self.line);
                Some(TypedKey::Line(String::from_utf8_lossy(&line).into_owned()))
            }
            0x08 | 0x7f => self.line.pop().map(|_| TypedKey::Echo("\u{8} \u{8}".into())),
            0x15 => {
                let length = self.line.len();
                self.line.clear();
                Some(TypedKey::Echo("\u{8} \u{8}".repeat(length)))
            }
            0x20..=0x7e if self.line.len() < LONGEST_LINE => {
                self.line.push(byte);
                Some(TypedKey::Echo(char::from(byte).to_string()))
            }
            _ => None,
        }
    }
}

/// What a command does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ShellAnswer {
    /// It prints and ends with this exit code.
    Text { text: String, code: u32 },
    /// The shell ends.
    Exit,
    /// It waits for the disk for ever.
    Hangs,
    /// It stalls the disk.
    Wedge,
}

fn text(text: impl Into<String>) -> ShellAnswer {
    ShellAnswer::Text { text: text.into(), code: 0 }
}

/// Runs a line of the shell.
pub(super) fn answer(line: &str, state: GuestState) -> ShellAnswer {
    let mut words = line.split_whitespace();
    let Some(command) = words.next() else { return text("") };
    // The shell itself knows these, so that they need no disk.
    match command {
        "exit" | "logout" => return ShellAnswer::Exit,
        "echo" => return text(format!("{}\n", words.collect::<Vec<_>>().join(" "))),
        "help" => return text(HELP),
        _ => {}
    }
    let GuestState::Up(up) = state else { return ShellAnswer::Hangs };
    match command {
        "wedge" => ShellAnswer::Wedge,
        "uptime" => text(format!(" up {}, 1 user, load average: 0.08, 0.02, 0.01\n", duration(up))),
        "hostname" => text("devvm\n"),
        "whoami" => text("dev\n"),
        "uname" => text("Linux devvm 6.12.0-demo x86_64 GNU/Linux\n"),
        "ls" => text("afk  notes.md  projects\n"),
        "free" => text(
            "        total   used    free\nMem:   24576M  3120M  21456M\nSwap:   8192M     0M   8192M\n",
        ),
        "df" => text(
            "Filesystem  Size  Used  Avail  Use%  Mounted on\n/dev/vda1   200G   61G   139G   31%  /\n",
        ),
        "dmesg" => text(
            "[    0.000000] Linux version 6.12.0-demo\n[    1.204411] EXT4-fs (vda1): mounted, recovery complete\n\
             [    3.880120] systemd[1]: Reached target multi-user\n",
        ),
        other => ShellAnswer::Text {
            text: format!("sh: {other}: not found (`help` lists the commands of the demo's VM)\n"),
            code: 127,
        },
    }
}

const HELP: &str = "help echo exit                           need no disk\n\
                    uptime ls df free dmesg uname hostname   read the disk\n\
                    wedge                                    stalls the disk: then only the hypervisor helps\n";

fn duration(up: Duration) -> String {
    let seconds = up.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editor_takes_lines_and_ignores_sequences() {
        let mut editor = LineEditor::default();
        let keys = editor.keys(b"lx\x7fs\x1b[A\x1bOB\r");
        assert_eq!(keys.last(), Some(&TypedKey::Line("ls".into())));
        assert_eq!(keys.len(), 5);
        assert_eq!(
            editor.keys(b"ab\x03"),
            [TypedKey::Echo("a".into()), TypedKey::Echo("b".into()), TypedKey::Interrupt]
        );
        assert_eq!(editor.keys(b"\x04"), [TypedKey::End]);
        assert!(editor.keys(&[b'x'; 5000]).len() == LONGEST_LINE);
    }

    #[test]
    fn stalled_disk_hangs_what_reads_it() {
        let up = GuestState::Up(Duration::from_secs(7));
        assert_eq!(answer("uptime", up), text(" up 7 s, 1 user, load average: 0.08, 0.02, 0.01\n"));
        assert_eq!(answer("uptime", GuestState::Wedged), ShellAnswer::Hangs);
        assert_eq!(answer("echo  a  b", GuestState::Wedged), text("a b\n"));
        assert_eq!(answer("exit", GuestState::Wedged), ShellAnswer::Exit);
        assert_eq!(answer("wedge", up), ShellAnswer::Wedge);
        assert!(matches!(answer("rm -rf /", up), ShellAnswer::Text { code: 127, .. }));
    }
}
