//! How a turn of claude has ended.

use serde_json::{Value, json};

use crate::agent::bounded;
use crate::agent::fields::text;
use crate::core::model::agent_event::TurnEnd;

/// The end of a dry turn, from the response to the control request `initialize`.
pub(super) fn of_dry_turn(response: &Value) -> TurnEnd {
    if text(response, "subtype") != "success" {
        return TurnEnd::NotStarted { why: bounded(text(response, "error")) };
    }
    let response = &response["response"];
    let account = &response["account"];
    let told = |key| !matches!(text(account, key), "" | "none");
    let mode = text(response, "current_permission_mode");
    // Another provider than Anthropic has logins of its own.
    if text(account, "apiProvider") == "firstParty"
        && !["tokenSource", "apiKeySource", "email"].into_iter().any(told)
    {
        let why = "claude is not logged in: run `claude` once and log in, or set ANTHROPIC_API_KEY";
        return TurnEnd::NotStarted { why: why.into() };
    }
    if !matches!(mode, "" | "default") {
        let why =
            format!("claude starts in the permission mode {mode}, in which it doesn't ask for all");
        return TurnEnd::NotStarted { why: bounded(why) };
    }
    TurnEnd::Done
}

/// Derives the turn's end from a `result` line. The `subtype` is "success" even when the model
/// failed, therefore `is_error` and `terminal_reason` decide.
pub(super) fn of_result(line: &Value) -> TurnEnd {
    let (subtype, reason) = (text(line, "subtype"), text(line, "terminal_reason"));
    let errors: Vec<&str> =
        line["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let message = [text(line, "result"), &errors.join("; ")]
        .into_iter()
        .find(|text| !text.is_empty())
        .map_or_else(|| format!("{subtype} {reason}"), str::to_owned);
    if message.contains("No conversation found") {
        return TurnEnd::NoSession { why: bounded(message) };
    }
    match (subtype, reason) {
        ("error_max_budget_usd", _) => TurnEnd::Budget,
        ("error_max_turns", _) => TurnEnd::TurnLimit,
        (_, "aborted_tools" | "aborted_streaming") => TurnEnd::Interrupted,
        (_, "api_error") => {
            let status = line["api_error_status"].as_u64().and_then(|s| u16::try_from(s).ok());
            TurnEnd::ApiError { status, why: bounded(message) }
        }
        _ if text(line, "stop_reason") == "refusal" => TurnEnd::Refused { why: bounded(message) },
        _ if line["is_error"] == json!(true) => {
            TurnEnd::ApiError { status: None, why: bounded(message) }
        }
        ("success", _) if text(line, "stop_reason") == "max_tokens" => TurnEnd::TurnLimit,
        ("success", _) => TurnEnd::Done,
        _ => TurnEnd::ApiError { status: None, why: bounded(message) },
    }
}
