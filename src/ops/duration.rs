//! Durations as people write them (in flags and in the files of a simulation), and ages as people read them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Why a text is not a duration. The messages are for users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It has no number, no unit, or a minus sign.
    #[error("{0:?} is not a duration with its unit, such as 200ms, 5s or 1m30s")]
    Malformed(String),
    /// It is `0s`, where only a positive duration makes sense.
    #[error("it must be longer than 0s")]
    Zero,
}

/// Reads a duration with its unit: `200ms`, `5s`, `1m30s`, and `0s`.
///
/// # Errors
/// If the text is not a duration.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let signed: Option<SignedDuration> = text.parse().ok();
    let unsigned = signed.and_then(|signed| Duration::try_from(signed).ok());
    unsigned.ok_or_else(|| DurationError::Malformed(text.to_owned()))
}

/// Reads a duration as [`duration`] does, and refuses `0s`.
///
/// # Errors
/// If the text is not a duration, or is `0s`.
pub fn positive_duration(text: &str) -> Result<Duration, DurationError> {
    match duration(text)? {
        Duration::ZERO => Err(DurationError::Zero),
        positive => Ok(positive),
    }
}

/// The time since `since`, in its largest unit: `40s`, `12m`, `3h`, `5d`.
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
    fn durations_need_a_unit() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for bad in ["5", "-5s", "", "5 parsecs"] {
            for read in [duration(bad), positive_duration(bad)] {
                assert!(read.unwrap_err().to_string().contains("with its unit"), "{bad}");
            }
        }
    }

    #[test]
    fn zero_is_rejected_where_a_duration_must_be_positive() {
        assert_eq!(positive_duration("200ms"), duration("200ms"));
        assert_eq!(positive_duration("0s").unwrap_err().to_string(), "it must be longer than 0s");
    }

    #[test]
    fn an_age_has_one_unit() {
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
