//! A report as lines, for people.

use super::super::output::{BOLD, GREEN, RED, YELLOW, paint};
use crate::check::{CheckOutcome, CheckReport, Line};

/// At most this many findings of a line are shown: of a thousand hosts with one problem, a few are enough.
const SHOWN: usize = 5;

/// All lines under their headings, and a summary.
pub fn lines(report: &CheckReport) -> String {
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
        CheckOutcome::Ok => (GREEN, "✓"),
        CheckOutcome::Skipped => (BOLD, "-"),
        CheckOutcome::Warning => (YELLOW, "!"),
        CheckOutcome::Error => (RED, "✗"),
    };
    let mark = paint(style, mark);
    match (outcome, &found[..]) {
        (CheckOutcome::Ok, []) => format!("  {mark} {title}\n"),
        (CheckOutcome::Ok, found) => format!("  {mark} {title}: {}\n", found.join(", ")),
        (CheckOutcome::Skipped, found) => format!("  {mark} {title}: skipped, {}\n", found.join(", ")),
        (CheckOutcome::Warning | CheckOutcome::Error, found) => {
            let mut text = format!("  {mark} {title}\n");
            text.extend(found.iter().take(SHOWN).map(|found| format!("      {found}\n")));
            let more = found.len().saturating_sub(SHOWN);
            text.extend((more > 0).then(|| format!("      and {more} more\n")));
            text.extend(hint.iter().map(|hint| format!("    → {hint}\n")));
            // The page is in the program too.
            let section = documentation.split_once('#').map_or(&documentation[..], |(_, anchor)| anchor);
            text + &format!("    → multibond explain {section}\n")
        }
    }
}

fn summary(report: &CheckReport) -> String {
    let with = |outcome| report.lines.iter().filter(|line| line.outcome == outcome).count();
    let (errors, warnings) = (with(CheckOutcome::Error), with(CheckOutcome::Warning));
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!(
        "{}, {}, {} ok, {} skipped\n",
        plural(errors, "error"),
        plural(warnings, "warning"),
        with(CheckOutcome::Ok),
        with(CheckOutcome::Skipped)
    )
}

#[cfg(test)]
mod tests {
    use crate::check::{Check, Finding};
    use crate::cli::output::plain;

    use super::*;

    fn report() -> CheckReport {
        let hosts = (1..=7).map(|n| Finding::error(format!("Host ns/h{n}: there is no agent on node w{n}")));
        CheckReport {
            version: env!("CARGO_PKG_VERSION"),
            namespace: "multibond-system".to_owned(),
            outcome: CheckOutcome::Error,
            lines: vec![
                Check::ServerAnswers.line(Vec::new(), "look"),
                Check::KubernetesVersion.line(vec![Finding::ok("v1.36.3")], "upgrade"),
                Check::AgentsReady.line(vec![Finding::skipped("no permission to get DaemonSets")], "look"),
                Check::AgentsAlive.line(hosts.collect(), "kubectl get pods"),
                Check::AgentsVersion.line(vec![Finding::warning("version 0.0.9: ns/h1")], "upgrade"),
            ],
        }
    }

    #[test]
    fn lines_have_a_heading_findings_and_a_hint() {
        insta::assert_snapshot!(plain(&lines(&report())));
    }

    #[test]
    fn json_output_has_all_findings() {
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
