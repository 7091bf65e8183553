//! Numbers in the bodies of callers. The replaced service took them in the forms that callers'
//! languages write: a whole number as `5`, `5.0` and `"5"`, an amount as `0.5` and `"0.5"`.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reads a whole number of seconds; null is none.
///
/// # Errors
/// The value is no whole number that is zero or more.
pub(super) fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(from)? else { return Ok(None) };
    let whole = value.as_u64().or_else(|| {
        let time = Duration::try_from_secs_f64(number(&value)?).ok()?;
        (time.subsec_nanos() == 0).then_some(time.as_secs())
    });
    whole.map(Some).ok_or_else(|| D::Error::custom("must be a whole number of seconds"))
}

/// Reads an amount of money; null is none.
///
/// # Errors
/// The value is no number.
pub(super) fn amount<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(from)? else { return Ok(None) };
    number(&value).map(Some).ok_or_else(|| D::Error::custom("must be a number"))
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "seconds")]
        seconds: Option<u64>,
        #[serde(default, deserialize_with = "amount")]
        usd: Option<f64>,
    }

    #[test]
    fn numbers_are_read_in_every_form_that_callers_write() {
        let read = |text: &str| serde_json::from_str::<Body>(text);
        for whole in ["5", "5.0", "\"5\"", "\"5.0\"", "\" 5 \"", "5e0"] {
            let body = read(&format!("{{\"seconds\": {whole}, \"usd\": {whole}}}")).unwrap();
            assert_eq!((body.seconds, body.usd), (Some(5), Some(5.0)), "{whole}");
        }
        for wrong in ["5.5", "-1", "\"\"", "\"five\"", "true", "[5]", "\"NaN\"", "1e300"] {
            assert!(read(&format!("{{\"seconds\": {wrong}}}")).is_err(), "{wrong}");
        }
        for wrong in ["\"\"", "\"five\"", "true", "\"inf\""] {
            assert!(read(&format!("{{\"usd\": {wrong}}}")).is_err(), "{wrong}");
        }
        let none = read("{\"seconds\": null}").unwrap();
        assert_eq!((none.seconds, none.usd), (None, None));
    }
}
