//! Conversations that no longer fit into the context of their model. No two vendors use the same
//! words, and most agents pass on the words of the model's API.
//!
//! | agent | words |
//! | --- | --- |
//! | claude, claude-agent-acp | `Prompt is too long`, `input length and max_tokens exceed context limit` |
//! | codex, codex-acp | `contextWindowExceeded`, `ran out of room in the model's context window` |
//! | gemini | `The input token count (N) exceeds the maximum number of tokens allowed (M)` |
//! | qwen | `Range of input length should be [1, N]`, `Session token limit exceeded` |
//! | copilot, opencode | those of the provider, such as `context_length_exceeded` |

use super::bounded;
use crate::core::model::agent_event::TurnEnd;

/// The longest part of a message that is searched, in bytes.
const SEARCHED: usize = 4096;

/// Words that mean it wherever they stand.
const PLAIN: [&str; 18] = [
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "input too long",
    "conversation is too long",
    "conversation too long",
    "context_length_exceeded",
    "context_window_exceeded",
    "contextwindowexceeded",
    "contextoverflow",
    "context overflow",
    "exceed_context_size",
    "exceed context limit",
    "exceeds context limit",
    "max_prompt_tokens_exceeded",
    "range of input length should be",
    "session token limit exceeded",
    "exceeds the maximum number of tokens",
];

/// Words for the room of a conversation; they mean it beside one of [`TOO_MUCH`].
const ROOM: [&str; 7] = [
    "context window",
    "context length",
    "context size",
    "context limit",
    "model token limit",
    "prompt token count",
    "input token count",
];
const TOO_MUCH: [&str; 8] = [
    "exceed",
    "ran out",
    "too long",
    "too large",
    "too many",
    "longer than",
    "overflow",
    "maximum context",
];

/// A failure of the model, or the overflow that its words tell.
pub(crate) fn or_failure(end: TurnEnd) -> TurnEnd {
    let TurnEnd::ApiError { status: None | Some(400 | 413 | 422 | 500), why } = &end else {
        return end;
    };
    if is_told(why.as_received()) {
        return TurnEnd::ContextOverflow { why: bounded(why.as_received()) };
    }
    end
}

/// Whether a failure's words say that the conversation is too long.
pub(crate) fn is_told(text: &str) -> bool {
    let text = text[..text.floor_char_boundary(SEARCHED)].to_lowercase();
    let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
    // A rate of tokens is a limit of time, whatever else its words name.
    let is_rate = has(&["per minute", "per day", "rate limit", "tpm"]);
    !is_rate && (has(&PLAIN) || has(&ROOM) && has(&TOO_MUCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_is_read_from_the_words_of_every_vendor() {
        for words in [
            "Prompt is too long",
            "400 prompt is too long: 213000 tokens > 200000 maximum",
            "Internal error: Prompt is too long · automatic compaction failed",
            "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000",
            "This model's maximum context length is 128000 tokens. However, your messages resulted in \
             130000 tokens.",
            "Your input exceeds the context window of this model. Please adjust your input.",
            "Codex ran out of room in the model's context window. Start a new conversation.",
            "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
            "<400> InternalError: Range of input length should be [1, 98304]",
            "Error: 400 prompt token count of 130000 exceeds the limit of 128000",
            "the request exceeds the available context size",
            "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
            r#"{"error": {"message": "too long", "code": "context_length_exceeded"}}"#,
        ] {
            let end = or_failure(TurnEnd::ApiError { status: Some(400), why: words.into() });
            assert_eq!(end, TurnEnd::ContextOverflow { why: words.into() });
        }
    }

    #[test]
    fn other_failures_stay_failures() {
        for (status, words) in [
            (Some(429), "prompt is too long"),
            (Some(400), "Rate limit: too many tokens per minute, context window 128000"),
            (Some(400), "the model's context window is unknown"),
            (None, "overloaded"),
        ] {
            let end = TurnEnd::ApiError { status, why: words.into() };
            assert_eq!(or_failure(end.clone()), end, "{words}");
        }
    }
}
