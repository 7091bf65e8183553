//! The fuzz targets: one for each parser of bytes that nobody here wrote.
//!
//! The targets stand beside their parsers, in files named `fuzz.rs`; this list gives them names. A
//! target panics where a property of its parser is broken: a round trip, a bound, a text without
//! control characters. The tests here run each target on its corpus in `tests/fixtures/fuzz` and on
//! mutations of it; `tests/fuzz.sh` runs it under libFuzzer. No other build compiles this module.

#[cfg(test)]
mod mutation;
#[cfg(test)]
mod tests;
mod text;

use crate::{
    agent, breakglass, ci, config, deploy, egress, executor, github, journal, redact, serve, term,
    test_report, tracker, tui, workspace,
};

/// A parser with the properties that hold for any input.
#[derive(Debug, Clone, Copy)]
pub struct FuzzTarget {
    /// The name of the target, which is also that of its folder in `tests/fixtures/fuzz`.
    pub name: &'static str,
    /// Parses the bytes, and panics if a property is broken.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:literal => $run:path,)*) => {
        /// Every fuzz target, in the order of the names.
        pub const TARGETS: &[FuzzTarget] = &[$(FuzzTarget { name: $name, run: $run },)*];
    };
}

targets! {
    "agent-acp" => agent::fuzz::acp,
    "agent-claude" => agent::fuzz::claude,
    "agent-codex" => agent::fuzz::codex,
    "agent-command" => agent::fuzz::command,
    "agent-pi" => agent::fuzz::pi,
    "agent-t3" => executor::t3::fuzz::thread,
    "attach-request" => serve::attach::fuzz::request,
    "attach-response" => serve::attach::fuzz::response,
    "authorized-keys" => serve::ssh::fuzz::authorized_keys,
    "breakglass-output" => breakglass::fuzz::output,
    "breakglass-pins" => breakglass::fuzz::pins,
    "config" => config::fuzz::configuration,
    "config-repository" => config::fuzz::repository_rules,
    "egress-hello" => egress::fuzz::hello,
    "egress-request" => egress::fuzz::request,
    "front-matter" => tracker::fuzz::front_matter,
    "github-answer" => github::fuzz::answer,
    "github-checks" => ci::fuzz::github_checks,
    "github-issues" => tracker::github::fuzz::issues,
    "http-chat" => serve::http::fuzz::chat,
    "http-command" => serve::http::fuzz::command,
    "http-converse" => serve::http::fuzz::converse,
    "http-execute" => serve::http::fuzz::execute,
    "hunks" => workspace::fuzz::hunks,
    "journal" => journal::fuzz::records,
    "keymap" => tui::fuzz::keymap,
    "kubernetes" => deploy::kubernetes::fuzz::objects,
    "markdown" => tui::fuzz::markdown,
    "permission" => text::permission,
    "recording" => breakglass::fuzz::recording,
    "redact" => redact::fuzz::stream,
    "terminal-input" => term::fuzz::input,
    "terminal-output" => term::fuzz::output,
    "test-report" => test_report::fuzz::reports,
    "theme" => tui::fuzz::theme,
    "transcript" => journal::fuzz::transcript,
    "untrusted" => text::untrusted,
    "woodpecker" => ci::fuzz::woodpecker,
}
