//! Usage limits that an agent tells in words, with the time until they are reset.

use std::time::Duration;

use jiff::Timestamp as Instant;

use super::bounded;
use crate::core::model::agent_event::TurnEnd;
use crate::core::model::time::Timestamp;

/// The longest part of a message that is searched, in bytes.
const SEARCHED: usize = 2048;

/// A failure of the model, or the limit that its words tell: "usage limit reached, try again in
/// 2 hours 5 minutes". A failure without a time stays one, and is retried as such.
pub(crate) fn or_failure(end: TurnEnd) -> TurnEnd {
    let TurnEnd::ApiError { status: None | Some(402 | 403 | 429), why } = &end else { return end };
    match in_words(why.as_received(), now()) {
        Some(until) => TurnEnd::UsageLimit { until, why: bounded(why.as_received()) },
        None => end,
    }
}

/// The end of a turn at a limit that is reset at a time in seconds since 1970.
pub(crate) fn until(seconds: i64, why: &str) -> TurnEnd {
    TurnEnd::UsageLimit { until: Timestamp(seconds.saturating_mul(1000)), why: bounded(why) }
}

fn now() -> Timestamp {
    Timestamp(Instant::now().as_millisecond())
}

fn in_words(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text[..text.floor_char_boundary(SEARCHED)].to_lowercase();
    let is_limit = ["usage limit", "rate limit", "quota", "limit reached", "hit your limit"];
    if !is_limit.iter().any(|words| text.contains(words)) {
        return None;
    }
    // Claude Code told the time of the reset behind a bar: `usage limit reached|1796000000`.
    let stamp = text.rsplit_once('|').and_then(|(_, rest)| rest.trim().parse::<i64>().ok());
    if let Some(seconds) = stamp.filter(|seconds| *seconds > 1_000_000_000) {
        return Some(Timestamp(seconds.saturating_mul(1000)));
    }
    let openings = ["try again in ", "retry in ", "retry after ", "resets in ", "reset after "];
    let rest = openings.iter().find_map(|words| text.split_once(words)).map(|(_, rest)| rest)?;
    let wait = duration(rest)?;
    Some(now.plus(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2)))
}

/// A duration such as `2 hours 5 minutes`, `1h30m`, `45s` or `12.5 seconds` at the start of a text.
fn duration(text: &str) -> Option<Duration> {
    let mut total = None;
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest);
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Ok(number) = rest[..end].parse::<f64>() else { return total };
        let unit = rest[end..].trim_start();
        let word = unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len());
        let seconds = match &unit[..word] {
            "d" | "day" | "days" => 86_400.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "ms" => 0.001,
            _ => return total,
        };
        let part = Duration::try_from_secs_f64(number * seconds).ok()?;
        total = Some(total.unwrap_or(Duration::ZERO).saturating_add(part));
        rest = &unit[word..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_is_read_from_the_words() {
        let now = Timestamp(1_000_000);
        for (text, seconds) in [
            ("You've hit your usage limit. Try again in 3 hours 4 minutes.", Some(11_040)),
            ("Rate limit reached for m: please try again in 1.5s", Some(1)),
            ("quota exceeded; retry after 90", None),
            ("Quota exceeded, resets in 1h30m", Some(5400)),
            ("usage limit reached, retry in 2 days, 1 hour and 5 min", Some(176_700)),
            ("try again in 5 minutes", None),
            ("usage limit reached", None),
        ] {
            let found = in_words(text, now).map(|until| until.since(now) / 1000);
            assert_eq!(found, seconds, "{text}");
        }
        let stamp = in_words("Claude AI usage limit reached|1796000000", now);
        assert_eq!(stamp, Some(Timestamp(1_796_000_000_000)));
    }

    #[test]
    fn only_failures_of_the_model_become_limits() {
        let why = || "usage limit: try again in 5 minutes".into();
        for (end, is_limit) in [
            (TurnEnd::ApiError { status: Some(429), why: why() }, true),
            (TurnEnd::ApiError { status: None, why: why() }, true),
            (TurnEnd::ApiError { status: Some(500), why: why() }, false),
            (TurnEnd::Blocked { why: why() }, false),
            (TurnEnd::ApiError { status: Some(429), why: "overloaded".into() }, false),
        ] {
            let ended = or_failure(end.clone());
            assert_eq!(matches!(ended, TurnEnd::UsageLimit { .. }), is_limit, "{end:?}");
        }
    }
}
