//! The status line of a multipath target, as `multipath_status` in Linux's `drivers/md/dm-mpath.c` writes it. Pure.

use crate::agent::host::sysfs::Number;

/// The disks over which the map would send I/O; none when the line is not what the kernel writes.
///
/// The line has words: features, hardware handler (each a count and so many words), the number of path groups, the
/// current group; then for each group its state, its selector's status (a count and so many words), the number of its
/// paths and of words that the selector adds to each; then for each path its device, `A` or `F`, how often it failed,
/// and those words.
#[must_use]
pub fn active_paths(line: &str) -> Option<Vec<Number>> {
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
            let disk: Number = words.next()?.parse().ok()?;
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

    fn active(line: &str) -> Option<Vec<String>> {
        let text = |number: Number| format!("{}:{}", number.major, number.minor);
        Some(active_paths(line)?.into_iter().map(text).collect())
    }

    #[test]
    fn active_paths_are_found_whatever_the_selector_and_the_groups() {
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
    fn a_line_that_is_not_understood_is_not_taken_for_a_map_without_paths() {
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
}
