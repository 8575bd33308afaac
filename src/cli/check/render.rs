//! A report as lines, for people.

use super::super::output::{BOLD, GREEN, RED, YELLOW, paint};
use crate::check::{Line, Outcome, Report};

/// Of a thousand hosts with one trouble, a few tell what it is.
const SHOWN: usize = 5;

/// All lines under their headings, and how many have come out how.
pub fn lines(report: &Report) -> String {
    let mut text = String::new();
    for section in report.lines.chunk_by(|a, b| a.section == b.section) {
        text += &(paint(BOLD, section[0].section.heading()) + "\n");
        text.extend(section.iter().map(shown));
        text.push('\n');
    }
    text + &summary(report)
}

fn shown(line: &Line) -> String {
    let Line { section: _, check: _, outcome, title, found, hint, documentation } = line;
    let (style, mark) = match outcome {
        Outcome::Ok => (GREEN, "✓"),
        Outcome::Skipped => (BOLD, "-"),
        Outcome::Warning => (YELLOW, "!"),
        Outcome::Error => (RED, "✗"),
    };
    let mark = paint(style, mark);
    match (outcome, &found[..]) {
        (Outcome::Ok, []) => format!("  {mark} {title}\n"),
        (Outcome::Ok, found) => format!("  {mark} {title}: {}\n", found.join(", ")),
        (Outcome::Skipped, found) => format!("  {mark} {title}: skipped, {}\n", found.join(", ")),
        (Outcome::Warning | Outcome::Error, found) => {
            let mut text = format!("  {mark} {title}\n");
            text.extend(found.iter().take(SHOWN).map(|found| format!("      {found}\n")));
            let more = found.len().saturating_sub(SHOWN);
            text.extend((more > 0).then(|| format!("      and {more} more\n")));
            text.extend(hint.iter().map(|hint| format!("    → {hint}\n")));
            text + &format!("    → {documentation}\n")
        }
    }
}

fn summary(report: &Report) -> String {
    let with = |outcome| report.lines.iter().filter(|line| line.outcome == outcome).count();
    let (errors, warnings) = (with(Outcome::Error), with(Outcome::Warning));
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!(
        "{}, {}, {} ok, {} skipped\n",
        plural(errors, "error"),
        plural(warnings, "warning"),
        with(Outcome::Ok),
        with(Outcome::Skipped)
    )
}

#[cfg(test)]
mod tests {
    use crate::check::{Check, Finding};
    use crate::cli::output::plain;

    use super::*;

    fn report() -> Report {
        let hosts = (1..=7).map(|n| Finding::error(format!("Host ns/h{n}: there is no agent on node w{n}")));
        Report {
            version: env!("CARGO_PKG_VERSION"),
            namespace: "multibond-system".to_owned(),
            outcome: Outcome::Error,
            lines: vec![
                Check::ServerAnswers.line(Vec::new(), "look"),
                Check::KubernetesVersion.line(vec![Finding::ok("v1.36.3")], "upgrade"),
                Check::AgentsReady.line(vec![Finding::skipped("you may not get DaemonSets")], "look"),
                Check::AgentsAlive.line(hosts.collect(), "kubectl get pods"),
                Check::AgentsVersion.line(vec![Finding::warning("version 0.0.9: ns/h1")], "upgrade"),
            ],
        }
    }

    #[test]
    fn lines_stand_under_headings_with_what_was_found_and_what_to_do() {
        insta::assert_snapshot!(plain(&lines(&report())));
    }

    #[test]
    fn programs_get_all_of_it() {
        let json = crate::cli::output::json(&report()).unwrap();
        insta::assert_snapshot!(json.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    }

    #[test]
    fn colours_change_no_text() {
        let coloured = lines(&report());
        let bare = ["1", "31", "32", "33", "0"]
            .iter()
            .fold(coloured.clone(), |text, code| text.replace(&format!("\x1b[{code}m"), ""));
        assert_eq!(bare, plain(&lines(&report())));
        assert!(coloured.contains("\x1b[31m✗\x1b[0m"), "{coloured}");
    }
}
