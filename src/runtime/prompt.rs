//! The words of a turn's prompt. Templates are strict: an unknown name is an error.

use crate::core::model::issue::Issue;
use crate::core::model::run::{Run, TurnPrompt, Work};
use crate::core::model::untrusted::Untrusted;

const IMPLEMENT: &str = include_str!("../../assets/prompts/implement.md");

/// Fills in a template's `{{names}}`. What is filled in is not looked at again, so an issue's
/// text can't name anything.
///
/// # Errors
/// The name that is not known.
pub fn fill(template: &str, values: &[(&str, &str)]) -> Result<String, String> {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let (name, behind) =
            after.split_once("}}").ok_or_else(|| "a {{ is never closed".to_owned())?;
        let value = values.iter().find(|(known, _)| *known == name.trim());
        out.push_str(value.ok_or_else(|| format!("{{{{{name}}}}} is not a name here"))?.1);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

/// What the agent is told. A turn that resumes no conversation is told the issue as well.
/// `template` is the repository's own, where it has one.
///
/// # Errors
/// Which name of the template is not known.
pub fn words(
    run: &Run,
    issue: Option<&Issue>,
    test: &str,
    prompt: &TurnPrompt,
    resumes: bool,
    template: Option<&str>,
) -> Result<Untrusted, String> {
    let task = match (&run.work, issue) {
        (Work::Prompt { prompt, .. }, _) => prompt.as_received().to_owned(),
        (Work::Issue { key, title }, issue) => {
            let body = issue.map_or("", |issue| issue.body.as_received());
            let number = key.number.to_string();
            let values = [
                ("issue", key.to_string()),
                ("number", number),
                ("title", title.clean_line()),
                ("body", body.to_owned()),
                ("test", test.to_owned()),
                ("branch", run.branch.clone().unwrap_or_default()),
            ];
            let values: Vec<_> = values.iter().map(|(k, v)| (*k, v.as_str())).collect();
            fill(template.unwrap_or(IMPLEMENT), &values)
                .map_err(|why| format!("the template of the prompt: {why}"))?
        }
    };
    let more = match prompt {
        TurnPrompt::Implement | TurnPrompt::Adhoc => return Ok(task.into()),
        other => more(other),
    };
    Ok(if resumes { more.into() } else { format!("{task}\n\n# Now\n\n{more}").into() })
}

fn more(prompt: &TurnPrompt) -> String {
    match prompt {
        TurnPrompt::Implement | TurnPrompt::Adhoc => "Do what you were told.".into(),
        TurnPrompt::GateClosed { why } => format!(
            "Your change was not accepted yet.\n\n{}\n\nMend it and commit.",
            why.as_received()
        ),
        TurnPrompt::FixForward { stage, log } => format!(
            "Your change was pushed, and {} went red. Fix it forward: no reverts, no history \
             rewritten. The end of the failing log:\n\n{}\n\nMend it and commit.",
            stage.as_str(),
            log.as_received()
        ),
        TurnPrompt::Conflict { why } => format!(
            "Others have pushed meanwhile, and your commits do not go onto theirs:\n\n{}\n\nRun \
             `git rebase` onto the remote branch, resolve the conflicts, and see that all tests \
             pass.",
            why.as_received()
        ),
        TurnPrompt::Continue { why, of } => format!(
            "You were stopped in the middle ({}). See what is already there, and go on.\n\n{}",
            why.clean_line(),
            self::more(of)
        ),
        TurnPrompt::Guidance { text } if text.is_empty() => {
            "A human looked at it and sends you on. See what is already there, and go on.".into()
        }
        TurnPrompt::Guidance { text } => {
            format!("A human looked at it and sends you on with this:\n\n{}", text.as_received())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::id::{IssueKey, RunId};
    use crate::core::model::time::Timestamp;

    #[test]
    fn unknown_names_are_errors_and_values_are_left_alone() {
        assert_eq!(fill("a {{x}} b", &[("x", "{{y}}")]).unwrap(), "a {{y}} b");
        assert!(fill("{{z}}", &[("x", "1")]).unwrap_err().contains("{{z}}"));
        assert!(fill("{{x", &[("x", "1")]).is_err());
    }

    #[test]
    fn our_template_names_only_what_there_is() {
        let key = IssueKey::parse("a/b#7").unwrap();
        let work = Work::Issue { key, title: "Greet".into() };
        let run = Run::claimed(RunId(1), work, None, Timestamp(0));
        let told = words(&run, None, "./test.sh", &TurnPrompt::Implement, false, None).unwrap();
        let text = told.as_received();
        assert!(text.contains("a/b#7: Greet") && text.contains("`./test.sh`"));
        assert!(!text.contains("{{") && !text.contains("is not a name here"));
    }

    #[test]
    fn a_repository_has_its_own_template_and_it_is_strict() {
        let key = IssueKey::parse("a/b#7").unwrap();
        let work = Work::Issue { key, title: "Greet".into() };
        let run = Run::claimed(RunId(1), work, None, Timestamp(0));
        let told = |template| words(&run, None, "t", &TurnPrompt::Implement, false, Some(template));
        assert_eq!(told("Do {{title}}").unwrap().as_received(), "Do Greet");
        assert!(told("Do {{titel}}").unwrap_err().contains("titel"));
    }

    #[test]
    fn a_resumed_turn_is_not_told_the_issue_again() {
        let key = IssueKey::parse("a/b#7").unwrap();
        let work = Work::Issue { key, title: "Greet".into() };
        let run = Run::claimed(RunId(1), work, None, Timestamp(0));
        let prompt = TurnPrompt::GateClosed { why: "no test".into() };
        let short = words(&run, None, "t", &prompt, true, None).unwrap();
        assert!(!short.as_received().contains("Greet") && short.as_received().contains("no test"));
        assert!(
            words(&run, None, "t", &prompt, false, None).unwrap().as_received().contains("Greet")
        );
    }
}
