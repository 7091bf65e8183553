//! `afk approve`, `afk deny` and `afk answer`: answers to a question. Each names the version that was
//! read by its digest, as `afk show` prints it, so that nobody approves something else.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::send::{self, ReplyArgs};
use crate::cli::complete;
use crate::cli::instance::InstanceArgs;
use crate::cli::subject_arg::find_escalation;
use crate::cli::terminal::text_or_input;
use crate::core::model::approval::{Answer, Escalation};
use crate::core::model::command::{Command, Refusal};
use crate::core::model::digest::Digest;
use crate::core::model::permission::Grant;
use crate::error::{Failure, FailureKind};

/// The digits of a digest that an answer must name at least: an agent can't find another text with the
/// same ones.
pub(super) const SHORTEST_DIGEST: usize = 16;
/// The digits of a whole digest.
const WHOLE_DIGEST: usize = 64;

/// The question, and the version of it that was read.
#[derive(Debug, Args)]
struct VersionArgs {
    /// The question, for example e5; or a run or an issue with only one open question
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::question))]
    subject: String,
    /// The digest of the version that you read, or its first 16 digits; `afk show` prints it
    #[arg(long)]
    digest: Option<String>,
    #[command(flatten)]
    reply: ReplyArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ApproveArgs {
    #[command(flatten)]
    version: VersionArgs,
    /// Allow the same for the rest of the run
    #[arg(long, conflicts_with = "edit")]
    for_run: bool,
    /// Allow this command instead of the one that the agent asked for; `-` reads standard input
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    edit: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DenyArgs {
    #[command(flatten)]
    version: VersionArgs,
    /// The reason, which the agent reads; `-` reads standard input
    reason: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AnswerArgs {
    #[command(flatten)]
    version: VersionArgs,
    /// The text of the answer; `-` reads standard input
    #[arg(required_unless_present = "option")]
    text: Option<String>,
    /// The number of one of the offered options
    #[arg(long, value_name = "NUMBER", conflicts_with = "text")]
    option: Option<usize>,
}

pub(super) async fn approve(args: ApproveArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let ApproveArgs { version, for_run, edit } = args;
    let edit = edit.map(text_or_input).transpose()?;
    let answer = |_: &Escalation| -> Result<Answer, Failure> {
        Ok(match edit {
            Some(command) => Answer::Edit { command: command.into() },
            None if for_run => Answer::ApproveRun,
            None => Answer::Approve,
        })
    };
    give(&version, instance, answer).await
}

pub(super) async fn deny(args: DenyArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let reason = args.reason.map(text_or_input).transpose()?.unwrap_or_default();
    let answer = |_: &Escalation| Ok(Answer::Deny { reason: reason.into() });
    give(&args.version, instance, answer).await
}

pub(super) async fn answer(args: AnswerArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let AnswerArgs { version, text, option } = args;
    let text = text.map(text_or_input).transpose()?;
    let answer = |escalation: &Escalation| -> Result<Answer, Failure> {
        let Some(number) = option else {
            return Ok(Answer::Text { text: text.unwrap_or_default().into() });
        };
        let chosen = number.checked_sub(1).and_then(|at| escalation.options.get(at));
        let text = chosen.cloned().ok_or_else(|| {
            let id = escalation.id;
            Failure::new(FailureKind::Usage, format!("{id} has no option {number}"))
                .hint(format!("`afk show {id}` lists its options"))
        })?;
        Ok(Answer::Text { text })
    };
    give(&version, instance, answer).await
}

/// Gives an answer to a question in the version that was read.
async fn give(
    args: &VersionArgs,
    instance: &InstanceArgs,
    answer: impl FnOnce(&Escalation) -> Result<Answer, Failure>,
) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let escalation = find_escalation(&fleet, &args.subject)?;
    let digits = digits(escalation, args.digest.as_deref())?;
    let answer = answer(escalation)?;
    let id = escalation.id;
    let done = format!(
        "{id} ({}) {}{}",
        subject(escalation),
        answer.summary(),
        effect(escalation, &answer)
    );
    let read = read_version(escalation, &digits);
    let digest = read.unwrap_or(escalation.digest);
    let command = Command::Answer { escalation: id, digest, answer };
    if read.is_none() {
        return send::report(&args.reply, &command, Err(Refusal::Stale { escalation: id }), &done);
    }
    send::send(instance, &args.reply, command, &done).await
}

/// The digits of the digest on the command line.
fn digits(escalation: &Escalation, digest: Option<&str>) -> Result<String, Failure> {
    let id = escalation.id;
    let show = format!("`afk show {id}` prints it, with the commands that answer it");
    let Some(digest) = digest else {
        let why =
            format!("an answer to {id} needs --digest, which names the version that you read");
        return Err(Failure::new(FailureKind::Usage, why).hint(show));
    };
    let digits = digest.trim().to_ascii_lowercase();
    let has_length = (SHORTEST_DIGEST..=WHOLE_DIGEST).contains(&digits.len());
    if has_length && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    let why =
        format!("{digits:?} is not a digest of {SHORTEST_DIGEST} to {WHOLE_DIGEST} hex digits");
    Err(Failure::new(FailureKind::Usage, why).hint(show))
}

/// The digest of the version that was read; none if the digits are another version's. The running afk
/// compares a whole digest itself, and refuses every answer to a closed question.
fn read_version(escalation: &Escalation, digits: &str) -> Option<Digest> {
    if let Ok(whole) = Digest::try_from(digits.to_owned()) {
        return Some(whole);
    }
    let is_read = escalation.digest.to_string().starts_with(digits);
    (is_read || !escalation.open()).then_some(escalation.digest)
}

fn subject(escalation: &Escalation) -> String {
    escalation.issue.as_ref().map_or_else(|| escalation.subject(), ToString::to_string)
}

/// The effect of an answer, as `afk show` announced it.
fn effect(escalation: &Escalation, answer: &Answer) -> String {
    let means = match answer {
        Answer::Approve => escalation.kind.approve_means(),
        Answer::ApproveRun => escalation.grant().as_ref().map(Grant::means),
        Answer::Edit { .. } | Answer::Deny { .. } | Answer::Text { .. } => None,
    };
    means.map(|means| format!(": {means}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::approval::{EscalationKind, EscalationState};
    use crate::core::model::id::EscalationId;
    use crate::core::model::time::Timestamp;

    fn question() -> Escalation {
        let mut question = Escalation {
            id: EscalationId(5),
            run: None,
            issue: None,
            kind: EscalationKind::Question,
            title: "Which?".into(),
            detail: "Which one?".into(),
            options: vec![],
            request_id: None,
            permission: None,
            guardrail: None,
            epoch: 0,
            raised: Timestamp(1),
            expires: None,
            digest: Digest::ZERO,
            state: EscalationState::Open,
            notified: Timestamp(1),
            reminded: 0,
            acknowledged: None,
        };
        question.digest = question.digest_of();
        question
    }

    #[test]
    fn answer_is_bound_to_the_digits_that_were_read() {
        let known = question();
        let whole = known.digest.to_string();
        let read = |text: &str| read_version(&known, &digits(&known, Some(text)).unwrap());
        assert_eq!(read(&whole), Some(known.digest));
        assert_eq!(read(&whole[..SHORTEST_DIGEST].to_uppercase()), Some(known.digest));
        assert_eq!(read(&"0".repeat(SHORTEST_DIGEST)), None);
        for wrong in [None, Some(""), Some("0795cda1"), Some("g795cda1g795cda1"), Some(" ")] {
            let failure = digits(&known, wrong).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Usage, "{wrong:?}");
            assert!(failure.hint.is_some_and(|hint| hint.contains("`afk show e5`")), "{wrong:?}");
        }
    }

    #[test]
    fn closed_question_goes_to_afk_which_names_its_answer() {
        let state = EscalationState::Expired { at: Timestamp(2) };
        let known = Escalation { state, ..question() };
        assert_eq!(read_version(&known, &"0".repeat(SHORTEST_DIGEST)), Some(known.digest));
    }
}
