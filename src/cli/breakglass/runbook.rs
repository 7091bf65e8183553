//! The runbook for paper: the steps that need no afk, with the names and addresses of this configuration.
//! It is plain text of 80 columns.

use std::fmt::Write as _;

use crate::config::breakglass::{BreakglassConfig, HostConfig};

/// The columns of a page.
const WIDTH: usize = 80;
/// The columns before a step's text.
const INDENT: usize = 3;
/// The columns before a command.
const COMMAND_INDENT: usize = 5;

/// The facts that the configuration lacks.
#[derive(Debug)]
pub(super) struct RunbookFacts {
    /// The path of the configuration.
    pub(super) config: String,
    /// The time of the print, in UTC.
    pub(super) printed: String,
    /// The fingerprint of the hypervisor's pinned key.
    pub(super) pinned: Option<String>,
}

/// The pages. No line is longer than 80 columns, unless a single word of it is.
pub(super) fn text(breakglass: &BreakglassConfig, facts: &RunbookFacts) -> String {
    let vm = &breakglass.vm;
    let mut page = PaperPage(String::new());
    page.print(&format!("BREAKGLASS: {vm} hangs, and afk is not available"));
    page.paragraph(0, &format!("Printed at {} from {}.", facts.printed, facts.config));
    page.paragraph(0, "Print it again when an address or a key changes, and keep the key at hand.");
    page.print("");
    page.print(&format!("hypervisor  {}", account(&breakglass.hypervisor)));
    page.print(&format!("host key    {}", facts.pinned.as_deref().unwrap_or("not pinned yet")));
    page.print("            Go on only if ssh shows this one.");
    for (name, host) in &breakglass.hosts {
        page.print(&format!("{name:<10}  {}", account(host)));
    }
    page.step(
        1,
        "Read the status. \"running\" never proves health: a guest whose disk is stalled \
                  reads \"running\" too.",
    );
    page.command(&breakglass.cold_words("status"));
    page.step(2, "Collect the evidence, and keep it. This changes nothing.");
    page.command(&breakglass.cold_words("forensics"));
    page.step(3, &format!(
        "Recover {vm}: forensics, stop (or kill), start. It takes up to 4 minutes. If the connection \
         breaks, it goes on by itself: do step 1 again, and do not repeat this one."
    ));
    page.command(&breakglass.cold_words("cycle"));
    page.paragraph(
        INDENT,
        "Exit code 0: done. 75: another such command is under way; wait, then step 1. \
                            2: refused. Others: it failed; the last line says how the VM reads.",
    );
    page.step(
        4,
        &format!(
            "Log in to {vm} to see that it answers, and note the time (UTC) and what you did."
        ),
    );
    page.step(5, "If the hypervisor itself does not answer, use its out-of-band console:");
    page.print("");
    page.print("     address ______________________________  login ________________________");
    page.print("");
    page.paragraph(
        0,
        "`reset` does not cure a stalled disk, since QEMU stays the same process. This path \
                       needs no AI, DNS, cluster or database: only ssh, the key, and this paper.",
    );
    page.0
}

fn account(host: &HostConfig) -> String {
    let mut text = format!("{}@{} port {}", host.user, host.address.ip(), host.address.port());
    if let Some(via) = &host.via {
        let _ = write!(text, ", through {via}");
    }
    text
}

/// The text in lines of at most `columns`, broken at spaces.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = |line: &String| line.is_empty() || line.len() + 1 + word.len() <= columns;
        if !lines.last().is_some_and(fits) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

struct PaperPage(String);

impl PaperPage {
    fn print(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn paragraph(&mut self, indent: usize, text: &str) {
        for line in wrap(text, WIDTH - indent) {
            self.print(&format!("{:indent$}{line}", ""));
        }
    }

    fn step(&mut self, number: usize, text: &str) {
        self.print("");
        for (at, line) in wrap(text, WIDTH - INDENT).iter().enumerate() {
            let mark = if at == 0 { format!("{number}.") } else { String::new() };
            self.print(&format!("{mark:<INDENT$}{line}"));
        }
    }

    /// A command that can be typed as it stands, continued over lines as a shell does.
    fn command(&mut self, words: &[String]) {
        let mut line = String::new();
        for word in words {
            // Room for the mark of a continued line.
            let is_full = COMMAND_INDENT + line.len() + 1 + word.len() + 2 > WIDTH;
            if is_full && !line.is_empty() {
                self.print(&format!("{:COMMAND_INDENT$}{line} \\", ""));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.print(&format!("{:COMMAND_INDENT$}{line}", ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runbook_fits_on_paper_and_names_what_is_configured() {
        let breakglass: BreakglassConfig = toml::from_str(
            "vm = 'devvm'\n[hypervisor]\naddress = '192.0.2.10:52222'\nuser = 'root'\n\
             key = '/home/ana/a folder/that/is/rather/long/keys/breakglass-hypervisor'\nvia = 'gate'\n\
             [hosts.gate]\naddress = '192.0.2.1:22'\nuser = 'ana'\nagent = 'env'\n\
             [hosts.devvm]\naddress = '[2001:db8::7]:22'\nuser = 'dev'\nagent = 'env'\n",
        )
        .unwrap();
        let facts = RunbookFacts {
            config: "/home/ana/.config/afk/a/very/long/path/to/the/configuration/of/afk.toml"
                .into(),
            printed: "2026-11-30 08:00 UTC".into(),
            pinned: Some("ssh-ed25519 SHA256:uNiVztksCsDhcc0u9e8BgrJXVGDQ2S3rXLmlbD8XpzQ".into()),
        };
        let text = text(&breakglass, &facts);
        for line in text.lines() {
            let fits = line.len() <= WIDTH || line.split_whitespace().count() <= 3;
            assert!(fits && line.is_ascii(), "{} columns: {line}", line.len());
        }
        for part in [
            "devvm",
            "192.0.2.10",
            "52222",
            "through gate",
            "2001:db8::7",
            "ana@192.0.2.1:22",
            "SHA256:uNiV",
            "status\n",
            "forensics\n",
            "cycle\n",
            "'/home/ana/a folder/",
            "2026-11-30 08:00 UTC",
            "____",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        // What is typed from paper is one command.
        let typed = text.replace(" \\\n     ", " ");
        let typed = typed.lines().find(|line| line.trim_end().ends_with(" cycle")).unwrap();
        assert_eq!(typed.trim(), breakglass.cold_words("cycle").join(" "));
    }
}
