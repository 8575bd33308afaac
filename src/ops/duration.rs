//! Durations as people write them: in flags, and in the files of a simulation.

use std::time::Duration;

use jiff::SignedDuration;

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
}
