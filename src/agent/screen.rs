//! Screens that agents show in place of working: questions of trust, logins, notices. An agent that
//! shows one waits for a key that nobody will press, so its silence needs no further patience.

use crate::core::model::agent_event::TurnEnd;
use crate::core::model::untrusted::Untrusted;

/// The longest part of a text that is searched, from its end, in bytes.
const SEARCHED: usize = 4096;

/// A kind of screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgentScreen {
    Trust,
    Login,
    FirstStart,
    Key,
    Update,
}

const WORDS: [(AgentScreen, &[&str]); 5] = [
    (
        AgentScreen::Trust,
        &[
            "do you trust the",
            "do you trust this",
            "one you trust?",
            "trust the contents of this",
            "trust this workspace",
            "trust this folder",
            "untrusted folder",
        ],
    ),
    (
        AgentScreen::Login,
        &[
            "select login method",
            "please run /login",
            "not logged in",
            "how would you like to authenticate",
            "select auth method",
            "please set an auth method",
            "sign in with chatgpt",
            "log in with google",
            "login with google",
            "waiting for authentication",
            "waiting for auth",
            "enter the authorization code",
            "paste code here",
            "visit the following url",
            "open this url in your browser",
            "one-time code",
            "no authentication information found",
            "authentication required",
        ],
    ),
    (
        AgentScreen::FirstStart,
        &[
            "choose the text style",
            "choose a theme",
            "select a theme",
            "by proceeding, you accept",
            "accept the terms",
            "yes, i accept",
        ],
    ),
    (
        AgentScreen::Key,
        &[
            "press enter to continue",
            "press any key",
            "[y/n]",
            "(y/n)",
            "raw mode is not supported",
            "stdin is not a terminal",
            "stdin is not a tty",
        ],
    ),
    (
        AgentScreen::Update,
        &[
            "update available",
            "new version available",
            "a new version of",
            "would you like to update",
        ],
    ),
];

impl AgentScreen {
    /// The screen that a text ends with.
    pub(crate) fn in_text(text: &str) -> Option<Self> {
        let end = &text[text.ceil_char_boundary(text.len().saturating_sub(SEARCHED))..];
        let end = Untrusted::from(end).clean().to_lowercase();
        let of = |words: &[&str]| words.iter().any(|words| end.contains(words));
        WORDS.iter().find(|(_, words)| of(words)).map(|(dialog, _)| *dialog)
    }

    /// The screen in words, for "the agent …".
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Trust => "asks on a screen of its own whether to trust the folder",
            Self::Login => "shows its login screen",
            Self::FirstStart => "shows the dialog of its first start",
            Self::Key => "waits for a key at a prompt of its own",
            Self::Update => "shows a notice about an update",
        }
    }

    /// The end of a turn that waits at the screen. A missing login is one cause for every run.
    pub(crate) fn end(self) -> TurnEnd {
        let advice = match self {
            Self::Login => "log in once by hand, or set its key",
            Self::Trust | Self::FirstStart => {
                "start it once by hand in the same home and answer it"
            }
            Self::Key | Self::Update => {
                "start it once by hand, and turn the notice off in its settings"
            }
        };
        let why = format!("the agent {}: {advice}", self.as_str()).into();
        match self {
            Self::Login => TurnEnd::ApiError { status: Some(401), why },
            _ => TurnEnd::NotStarted { why },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screens_of_real_agents_are_named() {
        for (shown, dialog) in [
            (
                "\u{1b}[1mDo you trust the files in this folder?\u{1b}[0m\n1. Yes",
                Some(AgentScreen::Trust),
            ),
            ("Is this a project you created or one you trust?", Some(AgentScreen::Trust)),
            ("Invalid API key · Please run /login", Some(AgentScreen::Login)),
            ("How would you like to authenticate for this project?", Some(AgentScreen::Login)),
            (
                "Please visit the following URL to authorize the application:",
                Some(AgentScreen::Login),
            ),
            ("Choose the text style that looks best", Some(AgentScreen::FirstStart)),
            ("✨ Update available! 0.169.0 -> 0.170.0", Some(AgentScreen::Update)),
            (
                "ERROR Raw mode is not supported on the current process.stdin",
                Some(AgentScreen::Key),
            ),
            ("I updated the login screen's tests.", None),
            ("", None),
        ] {
            assert_eq!(AgentScreen::in_text(shown), dialog, "{shown}");
        }
    }

    #[test]
    fn login_screen_is_a_refused_login() {
        assert!(matches!(AgentScreen::Login.end(), TurnEnd::ApiError { status: Some(401), .. }));
        assert!(matches!(AgentScreen::Trust.end(), TurnEnd::NotStarted { .. }));
    }
}
