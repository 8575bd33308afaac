//! Durations as people write them, in flags and in the files of a simulation; and as they read them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Reads a duration with its unit: `200ms`, `5s`, `1m30s`, and `0s`.
///
/// # Errors
/// In words for the user, when the text is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let form = || format!("{text:?} is not a duration with its unit, such as 200ms, 5s or 1m30s");
    Duration::try_from(text.parse::<SignedDuration>().map_err(|_| form())?).map_err(|_| form())
}

/// Reads a duration of which something lives: as [`duration`] does, but `0s` is none.
///
/// # Errors
/// In words for the user, when the text is none, or is `0s`.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    let read = duration(text)?;
    if read.is_zero() { Err("it must be longer than 0s".to_owned()) } else { Ok(read) }
}

/// How long ago, in the largest unit: `40s`, `12m`, `3h`, `5d`.
#[must_use]
pub fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_with_their_unit() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for bad in ["5", "-5s", "", "5 parsecs"] {
            for read in [duration(bad), positive_duration(bad)] {
                assert!(read.unwrap_err().contains("with its unit"), "{bad}");
            }
        }
    }

    #[test]
    fn what_something_lives_of_is_longer_than_nothing() {
        assert_eq!(positive_duration("200ms"), duration("200ms"));
        assert_eq!(positive_duration("0s"), Err("it must be longer than 0s".to_owned()));
    }

    #[test]
    fn ages_have_one_unit() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let cases = [
            ("2026-01-31T12:00:05Z", "0s"),
            ("2026-01-31T11:58:30Z", "90s"),
            ("2026-01-31T11:50:00Z", "10m"),
            ("2026-01-31T06:00:00Z", "6h"),
            ("2026-01-20T12:00:00Z", "11d"),
        ];
        for (since, expected) in cases {
            assert_eq!(age(since.parse().unwrap(), now), expected);
        }
    }
}
