//! Permission requests, the repository's policy on them, and the grants that an operator gives for
//! a run. `tables::permission` judges a request by these and by the guardrails, which
//! neither can loosen.

use serde::{Deserialize, Serialize};

use crate::model::untrusted::Untrusted;

/// The kind of tool that an agent wants to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// A command in a shell.
    Shell,
    /// Writing, changing, moving or deleting files.
    Edit,
    /// Reading or searching files.
    Read,
    /// Fetching from the network.
    Web,
    /// Any other tool: one of an MCP server, or a change of the agent's own mode.
    Other,
}

impl Tool {
    /// The tool's name in a policy and on the screen.
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

    /// Parses the name that a policy uses.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Shell, Self::Edit, Self::Read, Self::Web, Self::Other]
            .into_iter()
            .find(|tool| tool.as_str() == word)
    }
}

/// An agent's request to use a tool, in every adapter's common form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionRequest {
    /// The kind of tool.
    pub tool: Tool,
    /// The request in one line.
    pub title: Untrusted,
    /// The whole command or diff, which a person reads before answering.
    pub detail: Untrusted,
    /// The texts that policies match: the command, the paths, the address, or the tool's own name.
    pub targets: Vec<Untrusted>,
    /// Whether the agent accepts an edited command.
    #[serde(default)]
    pub editable: bool,
}

/// The most targets of one request. A person has to read all of them.
pub const MAX_TARGETS: usize = 100;
/// The longest target, in bytes: about two thousand lines of a shell script.
pub const MAX_TARGET: usize = 64 * 1024;

/// The mark behind a text that was too long; `lost` says what is missing.
#[must_use]
pub fn cut_mark(lost: &str) -> String {
    format!("{CUT}{lost} here")
}

const CUT: &str = "… afk cut ";

/// Whether a text ends with [`cut_mark`]. An agent that writes the mark itself only harms its own request.
fn is_cut(text: &Untrusted) -> bool {
    text.as_received()
        .strip_suffix(" here")
        .and_then(|text| text.rsplit_once(CUT))
        .is_some_and(|(_, lost)| !lost.contains('\n'))
}

impl PermissionRequest {
    /// Whether the request has more targets, or longer ones, than afk judges. afk refuses such a
    /// request as a whole: what is cut off could be what a policy forbids.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.targets.len() > MAX_TARGETS
            || self.targets.iter().any(|target| target.as_received().len() > MAX_TARGET)
    }

    /// Whether every target is there from its beginning to its end; otherwise no policy can allow it.
    #[must_use]
    pub fn has_whole_targets(&self) -> bool {
        !self.targets.iter().any(is_cut)
    }

    /// Whether a person can be shown all of it; otherwise nobody can approve it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.has_whole_targets() && !is_cut(&self.detail)
    }
}

/// The decision of a policy, from loosest to strictest; the order matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Allow without asking a human.
    Allow,
    /// Ask a human to decide.
    Ask,
    /// Refuse without asking a human.
    Deny,
}

/// A policy's pattern: `shell`, `shell(git push*)`, `edit(src/**)`. A `*` matches any text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    tool: Tool,
    glob: Option<String>,
}

impl Pattern {
    /// Parses a tool's name with an optional glob in parentheses.
    ///
    /// # Errors
    /// A sentence that shows the expected form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a pattern: write shell, edit, read, web or other, or one of them \
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

    /// Whether the pattern matches one target of a request.
    pub(crate) fn fits(&self, request: &PermissionRequest, target: &str) -> bool {
        self.tool == request.tool
            && self.glob.as_ref().is_none_or(|glob| matches_glob(glob, target))
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

/// Whether `text` matches a pattern in which `*` matches any text and nothing else is special.
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

/// A repository's policy, from `[permissions]` in its `.afk.toml` at the base commit. Checked in
/// the order `deny`, `ask`, `allow`, `default`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Permissions {
    /// The decision where no pattern matches. Without it, afk allows everything but tools of an
    /// unknown kind, for which it asks a human.
    pub default: Option<Decision>,
    /// Requests that afk allows without asking a human.
    pub allow: Vec<Pattern>,
    /// Requests about which afk asks a human.
    pub ask: Vec<Pattern>,
    /// Requests that afk refuses without asking a human.
    pub deny: Vec<Pattern>,
}

/// A permission that an operator granted for the rest of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "grant")]
pub enum Grant {
    /// Exactly these commands, addresses or tools.
    Exactly {
        /// The kind of tool.
        tool: Tool,
        /// All targets of the granted request.
        targets: Vec<Untrusted>,
    },
    /// Every change of files inside the worktree.
    Edits,
    /// The kind of a breakglass agent's call, which its request names; see `AgentGrant`.
    Session,
}

impl Grant {
    /// The grant that "approve for this run" gives for a request.
    #[must_use]
    pub fn of(request: &PermissionRequest) -> Self {
        match request.tool {
            Tool::Edit => Self::Edits,
            tool => Self::Exactly { tool, targets: request.targets.clone() },
        }
    }

    /// The grant's effect, shown before the operator gives it.
    #[must_use]
    pub const fn means(&self) -> &'static str {
        match self {
            Self::Exactly { .. } => "allow exactly this for the rest of the run",
            Self::Edits => "allow every edit inside the worktree for the rest of the run",
            Self::Session => "allow its kind, as named above, for the rest of this session",
        }
    }

    pub(crate) fn covers(&self, request: &PermissionRequest) -> bool {
        match self {
            Self::Edits => request.tool == Tool::Edit,
            // The breakglass agent has grants of its own.
            Self::Session => false,
            Self::Exactly { tool, targets } => *tool == request.tool && *targets == request.targets,
        }
    }
}
