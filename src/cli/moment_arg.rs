//! A moment on the command line: `18:00`, `2h`, `2026-11-29T18:00Z`, or the number of a journal record.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use crate::core::model::time::Timestamp;
use crate::error::{Failure, FailureKind};
use crate::journal::history::Moment;

/// A time before now: a time of day that has passed last, a duration back, a date, or a date with a time.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, Failure> {
    parse_at(text, &Zoned::now()).ok_or_else(|| {
        Failure::new(FailureKind::Usage, format!("{text:?} is no time"))
            .hint("write 18:00, 2h, 90m, 3d, 2026-11-29 or 2026-11-29T18:00")
    })
}

/// The number of a record, or a time as [`parse_time`] takes it.
pub(super) fn parse(text: &str) -> Result<Moment, Failure> {
    match text.trim().parse::<i64>() {
        Ok(seq) if seq >= 0 => Ok(Moment::Record(seq)),
        _ => parse_time(text).map(Moment::Time).map_err(|error| {
            error.hint("write the number of a record, 18:00, 2h, or 2026-11-29T18:00")
        }),
    }
}

fn parse_at(text: &str, now: &Zoned) -> Option<Timestamp> {
    let text = text.trim();
    let milliseconds = |at: jiff::Timestamp| Timestamp(at.as_millisecond());
    if let Some(span) = duration(text) {
        return Some(milliseconds(now.checked_sub(span).ok()?.timestamp()));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(milliseconds(at));
    }
    let zone = now.time_zone().clone();
    let local =
        |at: DateTime, zone: TimeZone| Some(milliseconds(at.to_zoned(zone).ok()?.timestamp()));
    if let Some(time) = time_of_day(text) {
        let today = now.date().to_datetime(time).to_zoned(zone.clone()).ok()?;
        let day = if today > *now { now.date().yesterday().ok()? } else { now.date() };
        return local(day.to_datetime(time), zone);
    }
    if let Ok(date) = text.parse::<Date>()
        && !text.contains(['T', ' '])
    {
        return local(date.to_datetime(Time::midnight()), zone);
    }
    local(text.parse::<DateTime>().ok()?, zone)
}

/// Hours and minutes: `18:00`.
fn time_of_day(text: &str) -> Option<Time> {
    let (hours, minutes) = text.split_once(':')?;
    Time::new(hours.parse().ok()?, minutes.parse().ok()?, 0, 0).ok()
}

/// A number with its unit: `2h`.
fn duration(text: &str) -> Option<Span> {
    let (unit, digits) = (text.chars().next_back()?, text.get(..text.len().checked_sub(1)?)?);
    let count: i64 = digits.parse::<u32>().ok()?.into();
    Some(match unit {
        'm' => Span::new().try_minutes(count).ok()?,
        'h' => Span::new().try_hours(count).ok()?,
        // The time zone may have days of 23 hours; an operator means the same hour.
        'd' => Span::new().try_days(count).ok()?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_zone_of_the_machine() {
        let now: Zoned = "2026-11-30T07:30[Europe/Berlin]".parse().unwrap();
        for (text, time) in [
            ("07:00", "2026-11-30T06:00Z"),
            ("18:00", "2026-11-29T17:00Z"),
            ("2h", "2026-11-30T04:30Z"),
            ("90m", "2026-11-30T05:00Z"),
            ("1d", "2026-11-29T06:30Z"),
            ("2026-11-29", "2026-11-28T23:00Z"),
            ("2026-11-29T18:00", "2026-11-29T17:00Z"),
            ("2026-11-29 18:00", "2026-11-29T17:00Z"),
            ("2026-11-29T18:00Z", "2026-11-29T18:00Z"),
        ] {
            let expected: jiff::Timestamp = time.parse().unwrap();
            let seen = parse_at(text, &now);
            assert_eq!(seen, Some(Timestamp(expected.as_millisecond())), "{text}");
        }
        for text in
            ["", "h", "25:00", "yesterday", "-2h", "2 h", "99999999999h", "é", "4294967295h"]
        {
            assert_eq!(parse_at(text, &now), None, "{text}");
        }
    }

    #[test]
    fn number_is_a_record() {
        assert_eq!(parse("1042").ok(), Some(Moment::Record(1042)));
        assert!(matches!(parse("2h"), Ok(Moment::Time(_))));
        assert!(parse("-4").is_err());
    }
}
