//! Whether an agent may do what it asks leave for: the repository's policy, what an operator
//! granted for the run, and the guardrails that neither can loosen.

use serde::{Deserialize, Serialize};

use crate::model::untrusted::Untrusted;

/// What kind of thing an agent wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// A command.
    Shell,
    /// Writing, changing, moving or deleting files.
    Edit,
    /// Reading or searching files.
    Read,
    /// Fetching from the network.
    Web,
    /// Anything else: a tool of a server, a change of the agent's own mode.
    Other,
}

impl Tool {
    /// As it is written in a policy and on the screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Edit => "edit",
            Self::Read => "read",
            Self::Web => "web",
            Self::Other => "other",
        }
    }

    /// Reads a policy's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Shell, Self::Edit, Self::Read, Self::Web, Self::Other]
            .into_iter()
            .find(|tool| tool.as_str() == word)
    }
}

/// What an agent asks leave for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionRequest {
    /// What kind of thing.
    pub tool: Tool,
    /// In a line.
    pub title: Untrusted,
    /// The whole command or diff: what a person reads before they answer.
    pub detail: Untrusted,
    /// What policies look at: the command, the paths, the address, or the tool's own name.
    pub targets: Vec<Untrusted>,
    /// The agent would take an edited command.
    #[serde(default)]
    pub editable: bool,
}

/// What a policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Yes, without a human.
    Allow,
    /// A human decides.
    Ask,
    /// No, without a human.
    Deny,
}

/// A pattern of a policy: `shell`, `shell(git push*)`, `edit(src/**)`. A `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    tool: Tool,
    glob: Option<String>,
}

impl Pattern {
    /// Reads it.
    ///
    /// # Errors
    /// What a pattern should look like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no pattern: write shell, edit, read, web or other, or one of them \
                 with a pattern in parentheses, like shell(git push*)"
            )
        };
        let (word, glob) = match text.split_once('(') {
            None => (text, None),
            Some((word, rest)) => (word, Some(rest.strip_suffix(')').ok_or_else(wrong)?)),
        };
        let tool = Tool::parse(word.trim()).ok_or_else(wrong)?;
        Ok(Self { tool, glob: glob.map(str::to_owned) })
    }

    /// Whether one target of an ask fits.
    pub(crate) fn fits(&self, ask: &PermissionRequest, target: &str) -> bool {
        self.tool == ask.tool && self.glob.as_ref().is_none_or(|glob| matches_glob(glob, target))
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        match pattern.glob {
            None => pattern.tool.as_str().into(),
            Some(glob) => format!("{}({glob})", pattern.tool.as_str()),
        }
    }
}

/// Whether `text` fits a pattern in which `*` stands for any text and nothing else is special.
pub(crate) fn matches_glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A repository's policy, from `[permissions]` in its `.afk.toml` at the base commit. `deny` is
/// looked at first, then `ask`, then `allow`, then the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Permissions {
    /// What nothing below says; without it all is allowed but tools of an unknown kind, for
    /// which a human is asked.
    pub default: Option<Decision>,
    /// Done without a human.
    pub allow: Vec<Pattern>,
    /// A human decides.
    pub ask: Vec<Pattern>,
    /// Refused without a human.
    pub deny: Vec<Pattern>,
}

/// What an operator allowed for the rest of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "grant")]
pub enum Grant {
    /// Exactly these commands, addresses or tools.
    Exactly {
        /// What kind of thing.
        tool: Tool,
        /// The targets, all of them.
        targets: Vec<Untrusted>,
    },
    /// Every change of files inside the worktree.
    Edits,
}

impl Grant {
    /// What "allow for this run" means for an ask.
    #[must_use]
    pub fn of(ask: &PermissionRequest) -> Self {
        match ask.tool {
            Tool::Edit => Self::Edits,
            tool => Self::Exactly { tool, targets: ask.targets.clone() },
        }
    }

    /// Said before it is given.
    #[must_use]
    pub const fn means(&self) -> &'static str {
        match self {
            Self::Exactly { .. } => "allow exactly this for the rest of the run",
            Self::Edits => "allow every edit inside the worktree for the rest of the run",
        }
    }

    pub(crate) fn covers(&self, ask: &PermissionRequest) -> bool {
        match self {
            Self::Edits => ask.tool == Tool::Edit,
            Self::Exactly { tool, targets } => *tool == ask.tool && *targets == ask.targets,
        }
    }
}
