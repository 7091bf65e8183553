//! The tokens that ACP agents tell. The protocol has one form; gemini and qwen have their own.
//!
//! | agent | where | counts |
//! | --- | --- | --- |
//! | most | `usage` of the answer to the prompt | the prompt |
//! | gemini | `_meta.quota.token_count` of the answer | the prompt |
//! | qwen | `_meta.usage` of empty pieces of text | one request to the model |

use serde_json::Value;

use crate::core::model::budget::Spend;

/// The tokens in the answer to a prompt; zero if it tells none.
pub(super) fn of_answer(result: &Value) -> Spend {
    let quota = &result["_meta"]["quota"]["token_count"];
    [&result["usage"], &result["_meta"]["usage"], quota]
        .into_iter()
        .map(of)
        .find(|spend| *spend != Spend::default())
        .unwrap_or_default()
}

/// The tokens of a usage object. Input that was read from a cache counts once, whether or not the
/// agent includes it in the input: the total tells.
pub(super) fn of(usage: &Value) -> Spend {
    let count = |keys: &[&str]| keys.iter().find_map(|key| usage[*key].as_u64()).unwrap_or(0);
    let input = count(&["inputTokens", "input_tokens"]);
    let output = count(&["outputTokens", "output_tokens"]);
    let thought = count(&["thoughtTokens"]);
    let cached = count(&["cachedReadTokens"]).saturating_add(count(&["cachedWriteTokens"]));
    let total = usage["totalTokens"].as_u64();
    let sum = input.saturating_add(output);
    let (tokens_in, tokens_out) = if total == Some(sum.saturating_add(thought)) {
        (input, output.saturating_add(thought))
    } else if total == Some(sum) {
        (input, output)
    } else {
        (input.saturating_add(cached), output)
    };
    Spend { tokens_in, tokens_out, ..Spend::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tokens(usage: &Value) -> (u64, u64) {
        let spend = of_answer(&json!({"usage": usage}));
        (spend.tokens_in, spend.tokens_out)
    }

    #[test]
    fn invented_figures_saturate() {
        let all = json!({"totalTokens": u64::MAX, "inputTokens": u64::MAX, "cachedReadTokens": u64::MAX,
            "cachedWriteTokens": 1, "outputTokens": u64::MAX, "thoughtTokens": 1});
        assert_eq!(tokens(&all), (u64::MAX, u64::MAX));
    }

    #[test]
    fn cached_input_counts_once() {
        // codex-acp 2.6: the cache is beside the input.
        let codex = json!({"totalTokens": 11520, "inputTokens": 7200, "cachedReadTokens": 3600,
            "cachedWriteTokens": 0, "outputTokens": 720, "thoughtTokens": 0});
        assert_eq!(tokens(&codex), (10_800, 720));
        // qwen 0.24: the cache is part of the input, and thoughts stand beside the output.
        let qwen = json!({"totalTokens": 1110, "inputTokens": 1000, "cachedReadTokens": 600,
            "outputTokens": 100, "thoughtTokens": 10});
        assert_eq!(tokens(&qwen), (1000, 110));
        assert_eq!(tokens(&json!({"inputTokens": 5, "outputTokens": 2})), (5, 2));
    }

    #[test]
    fn gemini_tells_its_tokens_as_a_quota() {
        let answer = json!({"stopReason": "end_turn", "_meta": {"quota": {
            "token_count": {"input_tokens": 900, "output_tokens": 40}, "model_usage": []}}});
        let spend = of_answer(&answer);
        assert_eq!((spend.tokens_in, spend.tokens_out), (900, 40));
        assert_eq!(of_answer(&json!({"stopReason": "end_turn"})), Spend::default());
    }
}
