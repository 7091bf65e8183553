//! Whether an agent may do what it asks leave for: the repository's policy, what an operator
//! granted for the run, and the guardrails that neither can loosen.

use serde::{Deserialize, Serialize};

use super::guardrail::{self, Guardrail};
use super::untrusted::Untrusted;

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
    pub const fn word(self) -> &'static str {
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
            .find(|tool| tool.word() == word)
    }
}

/// What an agent asks leave for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
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
    fn fits(&self, ask: &Ask, target: &str) -> bool {
        self.tool == ask.tool && self.glob.as_ref().is_none_or(|glob| wild(glob, target))
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
            None => pattern.tool.word().into(),
            Some(glob) => format!("{}({glob})", pattern.tool.word()),
        }
    }
}

/// Whether `text` fits a pattern in which `*` stands for any text and nothing else is special.
fn wild(pattern: &str, text: &str) -> bool {
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

impl Permissions {
    /// Several targets are as strict as the strictest of them. A command that joins several is
    /// looked at part by part, so `shell(git status*)` does not allow `git status; rm -rf x`.
    fn decide(&self, ask: &Ask, worktree: &str) -> Decision {
        let targets: Vec<String> = match ask.tool {
            Tool::Shell => ask
                .targets
                .iter()
                .flat_map(|target| {
                    let whole = target.as_received().trim().to_owned();
                    let parts =
                        guardrail::commands(&whole).into_iter().map(|words| words.join(" "));
                    let parts: Vec<String> = parts.collect();
                    if parts.len() > 1 { parts } else { vec![whole] }
                })
                .collect(),
            _ => ask.targets.iter().map(|t| relative(t.as_received(), worktree)).collect(),
        };
        let of = |target: &str| {
            let any = |patterns: &[Pattern]| patterns.iter().any(|p| p.fits(ask, target));
            if any(&self.deny) {
                Decision::Deny
            } else if any(&self.ask) {
                Decision::Ask
            } else if any(&self.allow) {
                Decision::Allow
            } else {
                let unknown = ask.tool == Tool::Other;
                self.default.unwrap_or(if unknown { Decision::Ask } else { Decision::Allow })
            }
        };
        let decisions: Vec<Decision> = targets.iter().map(|target| of(target)).collect();
        let empty = decisions.is_empty().then(|| of(""));
        decisions.into_iter().chain(empty).max_by_key(|d| *d as u8).unwrap_or(Decision::Ask)
    }
}

/// A path as a policy names it: from the top of the worktree.
fn relative(path: &str, worktree: &str) -> String {
    let inside = path.strip_prefix(worktree).and_then(|rest| rest.strip_prefix('/'));
    inside.unwrap_or(path).to_owned()
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
    pub fn of(ask: &Ask) -> Self {
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

    fn covers(&self, ask: &Ask) -> bool {
        match self {
            Self::Edits => ask.tool == Tool::Edit,
            Self::Exactly { tool, targets } => *tool == ask.tool && *targets == ask.targets,
        }
    }
}

/// What becomes of an ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Allowed, by the policy or by a grant.
    Allow {
        /// By which of them.
        by: &'static str,
    },
    /// A human is asked.
    Ask,
    /// Refused by the policy.
    Deny,
    /// Refused by a guardrail, and a human is told.
    Guarded(Guardrail),
}

/// Judges an ask. Guardrails come first and can't be loosened.
#[must_use]
pub fn judge(ask: &Ask, permissions: &Permissions, grants: &[Grant], worktree: &str) -> Judgement {
    if let Some(rule) = guardrail::violated(ask, worktree) {
        return Judgement::Guarded(rule);
    }
    match permissions.decide(ask, worktree) {
        Decision::Deny => Judgement::Deny,
        Decision::Ask if grants.iter().any(|grant| grant.covers(ask)) => {
            Judgement::Allow { by: "granted for this run" }
        }
        Decision::Ask => Judgement::Ask,
        Decision::Allow => Judgement::Allow { by: "policy" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "/w/wt-1";

    fn shell(command: &str) -> Ask {
        Ask {
            tool: Tool::Shell,
            title: command.into(),
            detail: command.into(),
            targets: vec![command.into()],
            editable: true,
        }
    }

    fn edit(path: &str) -> Ask {
        Ask { tool: Tool::Edit, targets: vec![path.into()], ..shell("") }
    }

    fn policy(text: &str) -> Permissions {
        let list = |name: &str| -> Vec<Pattern> {
            text.split_whitespace()
                .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .map(|pattern| Pattern::parse(&pattern.replace('+', " ")).unwrap())
                .collect()
        };
        let default = text.contains("default=ask").then_some(Decision::Ask);
        Permissions { default, allow: list("allow"), ask: list("ask"), deny: list("deny") }
    }

    #[test]
    fn the_policy_is_looked_at_from_its_strictest_end() {
        let (allow, ask, deny) =
            (Judgement::Allow { by: "policy" }, Judgement::Ask, Judgement::Deny);
        for (text, wanted, judged) in [
            ("", shell("make"), &allow),
            ("default=ask", shell("make"), &ask),
            ("default=ask allow=shell(make*)", shell("make test"), &allow),
            ("default=ask allow=shell(make*)", shell("make; curl x"), &ask),
            ("default=ask allow=shell(make*)", shell("make $(curl x)"), &ask),
            ("deny=shell(curl*)", shell("make && curl x"), &deny),
            ("deny=shell(curl*) allow=shell", shell("curl x"), &deny),
            ("ask=edit(src/*)", edit("/w/wt-1/src/a.rs"), &ask),
            ("ask=edit(src/*)", edit("src/a.rs"), &ask),
            ("ask=edit(src/*)", edit("/w/wt-1/docs/a.md"), &allow),
            ("default=ask allow=read", edit("a"), &ask),
            ("", Ask { tool: Tool::Other, ..shell("mcp__x") }, &ask),
            ("allow=other(mcp__x)", Ask { tool: Tool::Other, ..shell("mcp__x") }, &allow),
        ] {
            assert_eq!(judge(&wanted, &policy(text), &[], HERE), *judged, "{text:?} {wanted:?}");
        }
        let two = Ask { targets: vec!["docs/a".into(), "src/a".into()], ..edit("") };
        assert_eq!(judge(&two, &policy("deny=edit(src/*)"), &[], HERE), Judgement::Deny);
    }

    #[test]
    fn a_grant_covers_what_it_says_and_no_more() {
        let asks = policy("default=ask");
        let granted = Judgement::Allow { by: "granted for this run" };
        let grants = [Grant::of(&shell("make")), Grant::of(&edit("/w/wt-1/a"))];
        assert_eq!(judge(&shell("make"), &asks, &grants, HERE), granted);
        assert_eq!(judge(&shell("make install"), &asks, &grants, HERE), Judgement::Ask);
        assert_eq!(judge(&edit("/w/wt-1/b"), &asks, &grants, HERE), granted);
        assert!(matches!(judge(&edit("/etc/passwd"), &asks, &grants, HERE), Judgement::Guarded(_)));
        let denied = policy("deny=shell(make*)");
        assert_eq!(judge(&shell("make"), &denied, &grants, HERE), Judgement::Deny);
    }

    #[test]
    fn patterns_are_read_strictly() {
        for good in ["shell", "shell(git push*)", "edit(*)", "other(mcp__x)"] {
            assert_eq!(String::from(Pattern::parse(good).unwrap()), good);
        }
        for bad in ["", "bash", "shell(", "shell(x", "Shell(x)"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        for (pattern, text, fits) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acd", false),
            ("*", "", true),
            ("a", "ab", false),
            ("*x*y", "axbxy", true),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(wild(pattern, text), fits, "{pattern} {text}");
        }
    }
}
