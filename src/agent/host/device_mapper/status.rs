//! Parses the status line of a multipath target (`multipath_status` in Linux's `drivers/md/dm-mpath.c`). Pure.

use crate::agent::host::sysfs::DeviceNumber;

/// The disks over which the map sends I/O; none if the line has another format.
///
/// The line consists of words: features and hardware handler (each a count and that many words), the number of path
/// groups, the current group. For each group: its state, the status of its path selector (a count and that many words),
/// the number of its paths, the number of words that the selector adds to each path. For each path: its device number,
/// `A` (active) or `F` (failed), how often it failed, and the selector's words.
#[must_use]
pub fn active_paths(line: &str) -> Option<Vec<DeviceNumber>> {
    let mut words = line.split_ascii_whitespace();
    skip_counted(&mut words)?;
    skip_counted(&mut words)?;
    let groups = count(&mut words)?;
    let _current = count(&mut words)?;
    let mut active = Vec::new();
    for _ in 0..groups {
        let _state = words.next()?;
        skip_counted(&mut words)?;
        let paths = count(&mut words)?;
        let added = count(&mut words)?;
        for _ in 0..paths {
            let disk: DeviceNumber = words.next()?.parse().ok()?;
            match words.next()? {
                "A" => active.push(disk),
                "F" => {}
                _ => return None,
            }
            let _failures = count(&mut words)?;
            skip(&mut words, added)?;
        }
    }
    words.next().is_none().then_some(active)
}

fn count<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<usize> {
    words.next()?.parse().ok()
}

fn skip<'a>(words: &mut impl Iterator<Item = &'a str>, number: usize) -> Option<()> {
    (0..number).try_for_each(|_| words.next().map(|_| ()))
}

fn skip_counted<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<()> {
    let number = count(words)?;
    skip(words, number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    fn active(line: &str) -> Option<Vec<String>> {
        let text = |number: DeviceNumber| format!("{}:{}", number.major, number.minor);
        Some(active_paths(line)?.into_iter().map(text).collect())
    }

    #[test]
    fn active_paths_are_found_with_any_selector_and_any_groups() {
        let cases: [(&str, &str, &[&str]); 9] = [
            ("one group, service-time", "2 0 0 0 1 1 A 0 2 2 8:16 A 0 0 1 8:32 A 0 0 1 ", &["8:16", "8:32"]),
            ("one path has failed", "2 0 0 0 1 1 A 0 2 2 8:16 F 3 0 1 8:32 A 0 0 1 ", &["8:32"]),
            ("two groups", "2 0 0 0 2 1 A 0 1 2 8:16 A 0 0 1 E 0 1 2 8:32 A 0 0 1 ", &["8:16", "8:32"]),
            ("a disabled group", "2 0 1 0 2 2 D 0 1 2 8:16 F 1 0 1 E 0 1 2 8:32 A 0 0 1 ", &["8:32"]),
            ("round-robin", "2 0 0 0 1 1 E 0 2 0 8:0 A 0 65:16 A 0 ", &["8:0", "65:16"]),
            ("queue-length", "2 0 0 0 1 1 A 0 2 1 8:0 A 0 0 8:16 F 7 12 ", &["8:0"]),
            ("historical-service-time", "2 0 0 0 1 1 A 2 50 4 1 3 8:0 A 0 100 0 0 ", &["8:0"]),
            ("a hardware handler", "2 0 0 1 alua 1 1 A 0 1 1 8:0 A 0 0 ", &["8:0"]),
            ("no path left", "2 0 0 0 0 0 ", &[]),
        ];
        for (case, line, expected) in cases {
            let expected = expected.iter().map(|disk| (*disk).to_owned()).collect();
            assert_eq!(active(line), Some(expected), "{case}");
        }
    }

    #[test]
    fn a_line_in_an_unknown_format_is_not_a_map_without_paths() {
        let cut_short = "2 0 0 0 1 1 A 0 2 2 8:16 A 0 0 1 8:32";
        let cases = [
            "",
            "0 2097152 linear",
            cut_short,
            "2 0 0 0 1 1 A 0 1 0 8:16 X 0",
            "2 0 0 0 1 1 A 0 1 0 sda A 0",
            "2 0 0 0 0 0 more",
        ];
        for line in cases {
            assert_eq!(active(line), None, "{line}");
        }
    }

    fuzz! {
        any_status_of_a_map_is_read: "dm-status" => |input| {
            let text = lossy(input);
            Parsed::new().texts(active(&text).into_iter().flatten())
        };
    }
}
