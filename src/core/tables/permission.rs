//! Judges an agent's permission request: guardrails first, then the repository's policy, then the
//! operator's grants for the run. [`crate::step`] calls it for every request.

use super::{guardrail, shell_words};
use crate::model::approval::DecidedBy;
use crate::model::guardrail::Guardrail;
use crate::model::permission::{Decision, Grant, Pattern, PermissionRequest, Permissions, Tool};

impl Permissions {
    /// The policy's decision on a request; the strictest decision on any target wins. A compound
    /// command is judged part by part, so that `shell(git status*)` does not allow `git status; rm
    /// -rf x`.
    fn decide(&self, request: &PermissionRequest, worktree: &str) -> Decision {
        let targets: Vec<String> = match request.tool {
            Tool::Shell => request
                .targets
                .iter()
                .flat_map(|target| {
                    let whole = target.as_received().trim().to_owned();
                    let parts =
                        shell_words::commands(&whole).into_iter().map(|words| words.join(" "));
                    let parts: Vec<String> = parts.collect();
                    if parts.len() > 1 { parts } else { vec![whole] }
                })
                .collect(),
            _ => request.targets.iter().map(|t| relative(t.as_received(), worktree)).collect(),
        };
        let of = |target: &str| {
            let any = |patterns: &[Pattern]| patterns.iter().any(|p| p.fits(request, target));
            if any(&self.deny) {
                Decision::Deny
            } else if any(&self.ask) {
                Decision::Ask
            } else if any(&self.allow) {
                Decision::Allow
            } else {
                let unknown = request.tool == Tool::Other;
                self.default.unwrap_or(if unknown { Decision::Ask } else { Decision::Allow })
            }
        };
        let decisions: Vec<Decision> = targets.iter().map(|target| of(target)).collect();
        let empty = decisions.is_empty().then(|| of(""));
        decisions.into_iter().chain(empty).max_by_key(|d| *d as u8).unwrap_or(Decision::Ask)
    }
}

/// A path as policies name it, relative to the worktree.
fn relative(path: &str, worktree: &str) -> String {
    let inside = path.strip_prefix(worktree).and_then(|rest| rest.strip_prefix('/'));
    inside.unwrap_or(path).to_owned()
}

/// The verdict on a permission request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermissionVerdict {
    /// Allowed without asking a human.
    Allow {
        /// The policy or the grant that allowed it.
        by: DecidedBy,
    },
    /// A human must decide.
    Ask,
    /// Refused by the repository's policy.
    Deny,
    /// Refused by a guardrail; afk also raises an escalation.
    Guarded(Guardrail),
}

/// Judges a request. Guardrails come first and can't be loosened.
#[must_use]
pub fn judge(
    request: &PermissionRequest,
    permissions: &Permissions,
    grants: &[Grant],
    worktree: &str,
) -> PermissionVerdict {
    if let Some(rule) = guardrail::violated(request, worktree) {
        return PermissionVerdict::Guarded(rule);
    }
    match permissions.decide(request, worktree) {
        Decision::Deny => PermissionVerdict::Deny,
        // The rest of a target that was cut could be anything.
        _ if !request.has_whole_targets() => PermissionVerdict::Ask,
        Decision::Ask if grants.iter().any(|grant| grant.covers(request)) => {
            PermissionVerdict::Allow { by: DecidedBy::Grant }
        }
        Decision::Ask => PermissionVerdict::Ask,
        Decision::Allow => PermissionVerdict::Allow { by: DecidedBy::Policy },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::permission::matches_glob;

    const HERE: &str = "/w/wt-1";

    fn shell(command: &str) -> PermissionRequest {
        PermissionRequest {
            tool: Tool::Shell,
            title: command.into(),
            detail: command.into(),
            targets: vec![command.into()],
            editable: true,
        }
    }

    fn edit(path: &str) -> PermissionRequest {
        PermissionRequest { tool: Tool::Edit, targets: vec![path.into()], ..shell("") }
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
    fn policy_applies_its_strictest_pattern() {
        let (allow, ask, deny) = (
            PermissionVerdict::Allow { by: DecidedBy::Policy },
            PermissionVerdict::Ask,
            PermissionVerdict::Deny,
        );
        for (text, wanted, judged) in [
            ("", shell("make"), &allow),
            ("default=ask", shell("make"), &ask),
            ("default=ask allow=shell(make*)", shell("make test"), &allow),
            ("default=ask allow=shell(make*)", shell("make; curl x"), &ask),
            ("default=ask allow=shell(make*)", shell("make $(curl x)"), &ask),
            ("deny=shell(curl*)", shell("make && curl x"), &deny),
            ("deny=shell(curl*) allow=shell", shell("curl x"), &deny),
            ("deny=shell(curl*)", shell("make $(echo curl) && $(echo curl) x"), &deny),
            ("deny=shell(curl*)", shell("sh <<EOF\ncurl x\nEOF"), &deny),
            ("deny=shell(curl*)", shell("cat <<EOF | sudo sh\ncurl x\nEOF"), &deny),
            ("deny=shell(curl*)", shell("git commit -F - <<EOF\ncurl x\nEOF"), &allow),
            ("ask=edit(src/*)", edit("/w/wt-1/src/a.rs"), &ask),
            ("ask=edit(src/*)", edit("src/a.rs"), &ask),
            ("ask=edit(src/*)", edit("/w/wt-1/docs/a.md"), &allow),
            ("default=ask allow=read", edit("a"), &ask),
            ("", PermissionRequest { tool: Tool::Other, ..shell("mcp__x") }, &ask),
            ("allow=shell", shell("make\n… afk cut 9 bytes here"), &ask),
            (
                "allow=other(mcp__x)",
                PermissionRequest { tool: Tool::Other, ..shell("mcp__x") },
                &allow,
            ),
        ] {
            assert_eq!(judge(&wanted, &policy(text), &[], HERE), *judged, "{text:?} {wanted:?}");
        }
        let two = PermissionRequest { targets: vec!["docs/a".into(), "src/a".into()], ..edit("") };
        assert_eq!(judge(&two, &policy("deny=edit(src/*)"), &[], HERE), PermissionVerdict::Deny);
    }

    #[test]
    fn grant_covers_exactly_its_targets() {
        let asks = policy("default=ask");
        let granted = PermissionVerdict::Allow { by: DecidedBy::Grant };
        let grants = [Grant::of(&shell("make")), Grant::of(&edit("/w/wt-1/a"))];
        assert_eq!(judge(&shell("make"), &asks, &grants, HERE), granted);
        assert_eq!(judge(&shell("make install"), &asks, &grants, HERE), PermissionVerdict::Ask);
        assert_eq!(judge(&edit("/w/wt-1/b"), &asks, &grants, HERE), granted);
        assert!(matches!(
            judge(&edit("/etc/passwd"), &asks, &grants, HERE),
            PermissionVerdict::Guarded(_)
        ));
        let denied = policy("deny=shell(make*)");
        assert_eq!(judge(&shell("make"), &denied, &grants, HERE), PermissionVerdict::Deny);
    }

    #[test]
    fn pattern_parser_accepts_only_known_tools() {
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
            assert_eq!(matches_glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
