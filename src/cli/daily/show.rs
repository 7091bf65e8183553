//! `afk show`: a question as a whole, with the commands that answer this version of it; or a run or an
//! issue with its open questions. It reads the journal alone.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Value, json};

use super::answer::SHORTEST_DIGEST;
use super::inbox;
use crate::cli::complete;
use crate::cli::instance::InstanceArgs;
use crate::cli::status::{describe_escalation, describe_issue, describe_run};
use crate::cli::subject_arg::{self, SubjectArg, open_escalations};
use crate::cli::terminal::{print_json, print_line};
use crate::core::fleet::Fleet;
use crate::core::model::approval::{Escalation, EscalationKind, EscalationState};
use crate::core::model::permission::Grant;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::Untrusted;
use crate::core::query::explain;
use crate::error::Failure;
use crate::runtime::clock::wall;

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// A question, a run or an issue: e5, r2, owner/name#12, name#12 or #12
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::subject))]
    subject: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ShowArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let subject = subject_arg::find(&fleet, &args.subject)?;
    if args.json {
        print_json(&describe(&fleet, &subject));
        return Ok(());
    }
    let lines = match &subject {
        SubjectArg::Escalation(escalation) => card(escalation),
        SubjectArg::Run(run) => explain::run(&fleet, run.id),
        SubjectArg::Issue(key) => {
            let mut lines = vec![key.to_string()];
            lines.extend(explain::issue(&fleet, key));
            lines
        }
    };
    for line in lines {
        print_line(&line);
    }
    if !matches!(subject, SubjectArg::Escalation(_)) {
        for escalation in open_escalations(&fleet, &subject) {
            print_line(&inbox::row(&fleet, escalation, wall()));
        }
    }
    Ok(())
}

fn describe(fleet: &Fleet, subject: &SubjectArg<'_>) -> Value {
    let open = || -> Vec<Value> {
        let open = open_escalations(fleet, subject);
        open.into_iter().map(|known| describe_escalation(fleet, known)).collect()
    };
    match subject {
        SubjectArg::Escalation(escalation) => {
            let mut value = describe_escalation(fleet, escalation);
            value["detail"] = json!(escalation.detail);
            value["options"] = json!(escalation.options);
            value["permission"] = json!(escalation.permission);
            value["state"] = json!(escalation.state);
            let answers = answers(escalation).into_iter();
            value["answers"] = answers
                .map(|answer| json!({ "answer": answer.name, "means": answer.means }))
                .collect();
            value
        }
        SubjectArg::Run(run) => json!({ "run": describe_run(fleet, run), "inbox": open() }),
        SubjectArg::Issue(key) => {
            let runs = fleet.runs.values().filter(|run| run.work.issue() == Some(key));
            let runs: Vec<Value> = runs.map(|run| describe_run(fleet, run)).collect();
            let issue = fleet.issues.get(key).map(|issue| describe_issue(fleet, issue));
            json!({ "issue": issue, "runs": runs, "inbox": open() })
        }
    }
}

/// An answer that a question takes.
struct PossibleAnswer {
    /// The name of the answer in the journal.
    name: &'static str,
    /// The subcommand that gives it.
    subcommand: &'static str,
    /// What the command line has behind the digest.
    rest: &'static str,
    means: &'static str,
}

/// The answers that a question takes now, in the order of the cockpit's keys.
fn answers(escalation: &Escalation) -> Vec<PossibleAnswer> {
    if !escalation.open() {
        return Vec::new();
    }
    let kind = escalation.kind;
    let whole = is_whole(escalation);
    let grant = escalation.grant();
    let edit = escalation.editable().map(|_| "allow this command instead");
    [
        ("approve", "approve", "", kind.approve_means().filter(|_| whole)),
        (
            "approve_run",
            "approve",
            " --for-run",
            grant.as_ref().map(Grant::means).filter(|_| whole),
        ),
        ("edit", "approve", " --edit COMMAND", edit),
        ("deny", "deny", " REASON", kind.deny_means()),
        ("text", "answer", " TEXT", kind.text_means()),
    ]
    .into_iter()
    .filter_map(|(name, subcommand, rest, means)| {
        Some(PossibleAnswer { name, subcommand, rest, means: means? })
    })
    .collect()
}

/// Whether a person can read all that an approval would allow.
fn is_whole(escalation: &Escalation) -> bool {
    escalation.kind != EscalationKind::Permission
        || escalation.permission.as_ref().is_none_or(|asked| asked.is_whole())
}

/// The card of a question: everything that an answer is bound to. Text from outside stands behind a bar,
/// so that it can't pass for a line of afk's.
fn card(escalation: &Escalation) -> Vec<String> {
    let (id, kind) = (escalation.id, escalation.kind.as_str());
    let issue = escalation.issue.as_ref().map_or_else(String::new, |key| format!(" · {key}"));
    let mut lines = vec![format!("{id} · {kind} · {}{issue}", escalation.subject())];
    let mut quote = |text: &str| {
        lines.extend(text.lines().map(|line| format!("  | {line}")));
    };
    let (title, detail) = (escalation.title.revealed(), escalation.detail.revealed());
    if !detail.starts_with(title.as_str()) {
        quote(&title);
    }
    quote(&detail);
    if let Some(asked) = &escalation.permission {
        let targets: Vec<String> = asked.targets.iter().map(Untrusted::revealed).collect();
        // The detail is mostly the one target.
        if targets.iter().any(|target| *target != detail) {
            lines.push(format!("{} · {}:", asked.tool.as_str(), plural(targets.len(), "target")));
            let quoted = targets.iter().flat_map(|target| target.lines());
            lines.extend(quoted.map(|line| format!("  | {line}")));
        }
    }
    for (at, option) in escalation.options.iter().enumerate() {
        lines.push(format!("  {}. {}", at + 1, option.clean_line()));
    }
    lines.push(String::new());
    match &escalation.state {
        EscalationState::Open => {}
        EscalationState::Answered { answer, by, .. } => {
            lines.push(format!("closed: {by} {}", answer.summary()));
        }
        EscalationState::Expired { .. } => lines.push("closed: nobody answered in time".into()),
        EscalationState::Withdrawn { why, .. } => {
            lines.push(format!("closed: {}", Untrusted::from(why.as_str()).clean_line()));
        }
    }
    if !is_whole(escalation) {
        lines.push("a part of it is missing, so it can't be approved".into());
    }
    let digest = escalation.digest.to_string();
    let digest = &digest[..SHORTEST_DIGEST];
    for answer in answers(escalation) {
        let PossibleAnswer { subcommand, rest, means, .. } = answer;
        lines.push(format!("{means}:"));
        lines.push(format!("  afk {subcommand} {id} --digest {digest}{rest}"));
        if subcommand == "answer" && !escalation.options.is_empty() {
            lines.push(format!("  afk {subcommand} {id} --digest {digest} --option NUMBER"));
        }
    }
    lines
}
