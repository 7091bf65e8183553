//! The text of a turn's prompt: the issue in a template, then the events since.
//!
//! Templates are strict: an unknown name is an error, not an empty string. A repository may bring
//! its own template for the first prompt.

use crate::core::model::activity::TurnPrompt;
use crate::core::model::brief::Brief;
use crate::core::model::run::{Run, Work};
use crate::core::model::untrusted::Untrusted;

/// The template for repositories without one of their own.
const IMPLEMENT: &str = include_str!("../../assets/prompts/implement.md");

/// Fills in the `{{names}}` of a template. A value is never filled in again, so the text of an
/// issue can't refer to another value.
///
/// # Errors
/// A line that names the unknown or unclosed name.
fn fill(template: &str, values: &[(&str, &str)]) -> Result<String, String> {
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

/// The prompt of a turn. Without a conversation to resume it begins with the issue, in the
/// repository's own `template` if it has one. The text of the issue is the version that was armed,
/// also in later turns.
///
/// # Errors
/// A line that names the unknown or unclosed name of the template.
pub(super) fn of_turn(
    run: &Run,
    brief: Option<&Brief>,
    test: &str,
    prompt: &TurnPrompt,
    resumes: bool,
    template: Option<&str>,
) -> Result<Untrusted, String> {
    let task = match &run.work {
        Work::Prompt { prompt, .. } => prompt.as_received().to_owned(),
        Work::Issue { key, title } => {
            let body = brief.map_or("", |brief| brief.body.as_received());
            let title = brief.map_or(title, |brief| &brief.title);
            let number = key.number.to_string();
            let values = [
                ("issue", key.to_string()),
                ("number", number),
                ("title", title.clean_line()),
                ("body", body.to_owned()),
                ("test", test.to_owned()),
                ("branch", run.workspace.branch.clone().unwrap_or_default()),
            ];
            let values: Vec<_> = values.iter().map(|(k, v)| (*k, v.as_str())).collect();
            fill(template.unwrap_or(IMPLEMENT), &values)
                .map_err(|why| format!("the template of the prompt: {why}"))?
        }
    };
    let update = match prompt {
        TurnPrompt::Implement | TurnPrompt::Adhoc => return Ok(task.into()),
        other => update(other),
    };
    if !resumes {
        return Ok(format!("{task}\n\n# Now\n\n{update}").into());
    }
    let edit = brief.filter(|_| run.issue.shows_edit(run.agent.turns)).map(|brief| {
        let (title, body) = (brief.title.clean_line(), brief.body.as_received());
        format!("\n\n# The issue as it is now\n\n{title}\n\n{body}")
    });
    Ok(format!("{update}{}", edit.unwrap_or_default()).into())
}

/// The events since the first prompt, and the reaction that they need.
fn update(prompt: &TurnPrompt) -> String {
    match prompt {
        TurnPrompt::Implement | TurnPrompt::Adhoc => "Carry out the task.".into(),
        TurnPrompt::GateClosed { why } => format!(
            "Your change was not accepted yet.\n\n{}\n\nFix it and commit.",
            why.as_received()
        ),
        TurnPrompt::FixForward { stage, log } => format!(
            "Your change was pushed, and {} went red. Fix it forward: don't revert, and don't \
             rewrite history. The end of the failing log:\n\n{}\n\nFix it and commit.",
            stage.as_str(),
            log.as_received()
        ),
        TurnPrompt::Conflict { why } => format!(
            "Others pushed meanwhile, and your commits conflict with theirs:\n\n{}\n\nRun \
             `git rebase` onto the remote branch, resolve the conflicts, and check that all tests \
             pass.",
            why.as_received()
        ),
        TurnPrompt::Continue { why, of } => format!(
            "You were stopped in the middle ({}). Look at the work that is already there, and \
             continue.\n\n{}",
            why.clean_line(),
            self::update(of)
        ),
        TurnPrompt::Edited => {
            "A person who may do so edited the issue while you worked. Read it as it \
                               is now, change your work where it needs that, and commit."
                .into()
        }
        TurnPrompt::Guidance { text } if text.is_empty() => {
            "A human looked at it and asks you to continue. Look at the work that is already there \
             first."
                .into()
        }
        TurnPrompt::Guidance { text } => {
            format!(
                "A human looked at it and asks you to continue with this guidance:\n\n{}",
                text.as_received()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::gate_report::ChangeClass;
    use crate::core::model::id::{IssueKey, RunId};
    use crate::core::model::time::Timestamp;

    #[test]
    fn fill_rejects_unknown_names_and_leaves_values_alone() {
        assert_eq!(fill("a {{x}} b", &[("x", "{{y}}")]).unwrap(), "a {{y}} b");
        assert!(fill("{{z}}", &[("x", "1")]).unwrap_err().contains("{{z}}"));
        assert!(fill("{{x", &[("x", "1")]).is_err());
    }

    #[test]
    fn own_template_uses_only_known_names() {
        let key = IssueKey::parse("a/b#7").unwrap();
        let work = Work::Issue { key, title: "Greet".into() };
        let run = Run::claimed(RunId(1), work, None, Timestamp(0));
        let prompt = of_turn(&run, None, "./test.sh", &TurnPrompt::Implement, false, None).unwrap();
        let text = prompt.as_received();
        assert!(text.contains("a/b#7: Greet") && text.contains("`./test.sh`"));
        assert!(!text.contains("{{") && !text.contains("is not a name here"));
    }

    #[test]
    fn repository_template_replaces_ours_and_is_strict() {
        let key = IssueKey::parse("a/b#7").unwrap();
        let work = Work::Issue { key, title: "Greet".into() };
        let run = Run::claimed(RunId(1), work, None, Timestamp(0));
        let prompt =
            |template| of_turn(&run, None, "t", &TurnPrompt::Implement, false, Some(template));
        assert_eq!(prompt("Do {{title}}").unwrap().as_received(), "Do Greet");
        assert!(prompt("Do {{titel}}").unwrap_err().contains("titel"));
    }

    #[test]
    fn resumed_turn_omits_the_issue() {
        let key = IssueKey::parse("a/b#7").unwrap();
        let work = Work::Issue { key, title: "Greet".into() };
        let run = Run::claimed(RunId(1), work, None, Timestamp(0));
        let prompt = TurnPrompt::GateClosed { why: "no test".into() };
        let short = of_turn(&run, None, "t", &prompt, true, None).unwrap();
        assert!(!short.as_received().contains("Greet") && short.as_received().contains("no test"));
        assert!(
            of_turn(&run, None, "t", &prompt, false, None).unwrap().as_received().contains("Greet")
        );
    }

    #[test]
    fn resumed_turn_gets_an_edit_and_no_other_text() {
        let key = IssueKey::parse("a/b#7").unwrap();
        let work = Work::Issue { key, title: "Greet".into() };
        let mut run = Run::claimed(RunId(1), work, None, Timestamp(0));
        let class = ChangeClass::default();
        let brief = Brief { title: "Greet all".into(), body: "In capitals.".into(), class };
        run.agent.turns = 2;
        let prompt = |run: &Run| {
            let text = of_turn(run, Some(&brief), "t", &TurnPrompt::Edited, true, None).unwrap();
            text.as_received().to_owned()
        };
        assert!(!prompt(&run).contains("In capitals."));
        run.issue.edited_for = Some(2);
        assert!(prompt(&run).ends_with("Greet all\n\nIn capitals."), "{}", prompt(&run));
    }
}
