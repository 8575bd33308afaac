//! `multibond explain`: what a condition, a reason or a section of the documentation means, without the documentation.

mod pages;

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::output::{self, BOLD, columns, paint};
use pages::{Entry, Section, without_links};

/// At most this many sections are named as further reading.
const SECTIONS_SHOWN: usize = 3;

/// Explains conditions, reasons, and the sections that `multibond check` names
///
/// Without a name it lists all of them. A part of a name lists those that have it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  multibond explain
  multibond explain PathsFailed
  multibond explain a-path-has-failed")]
pub(super) struct Arguments {
    /// A condition, a reason, or the anchor of a section
    #[arg(env = "MULTIBOND_NAME")]
    name: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let text = match &arguments.name {
        Some(name) => explain(name)?,
        None => list(""),
    };
    output::print_styled(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// All that there is about a name.
fn explain(name: &str) -> anyhow::Result<String> {
    let is_it = |known: &str| known.eq_ignore_ascii_case(name);
    let sections = pages::sections();
    let mut text: String = pages::entries().iter().filter(|entry| is_it(entry.name)).map(shown).collect();
    if text.is_empty() {
        if let Some(section) = pages::section(name) {
            return Ok(format!("{}\n\n{}\n", paint(BOLD, section.title), without_links(section.text)));
        }
        let similar = list(name);
        if similar.is_empty() {
            bail!("there is no condition, reason or section {name:?}; `multibond explain` lists all of them");
        }
        return Ok(similar);
    }
    let name = format!("`{}`", name.to_lowercase());
    let names_it = |section: &&Section| section.is_leaf && section.text.to_lowercase().contains(&name);
    let more = sections.iter().filter(names_it).filter(|section| !is_table(section)).take(SECTIONS_SHOWN);
    text.extend(more.map(|section| format!("More: multibond explain {}\n", section.anchor)));
    Ok(text)
}

/// Whether a section is one of the tables that [`shown`] has read.
fn is_table(section: &Section) -> bool {
    pages::entries().iter().any(|entry| entry.table == section.title)
}

fn shown(entry: &Entry) -> String {
    let rows = entry.cells.iter().map(|(column, cell)| vec![(*column).to_owned(), without_links(cell)]);
    let rows: Vec<_> = rows.collect();
    format!("{} ({})\n{}\n", paint(BOLD, entry.name), entry.table, columns(&rows, "  "))
}

/// The names that have this part, each with its table, or with the title of its section.
fn list(part: &str) -> String {
    let part = part.to_lowercase();
    let entries = pages::entries().into_iter().map(|entry| vec![entry.name.to_owned(), entry.table.to_owned()]);
    let sections = pages::sections().into_iter().filter(|section| section.is_leaf);
    let sections = sections.map(|section| vec![section.anchor, format!("{}.md: {}", section.page, section.title)]);
    let rows: Vec<_> = entries.chain(sections).filter(|row| row[0].to_lowercase().contains(&part)).collect();
    columns(&rows, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::plain;

    #[test]
    fn a_reason_has_its_meaning_what_to_do_and_where_more_is() {
        let text = plain(&explain("sharedwwid").unwrap());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "SharedWWID (Reasons of HostPrepared)");
        assert!(lines[1].starts_with("  Meaning     A multipath map has paths"), "{text}");
        assert!(lines[2].starts_with("  What to do  If they are one array"), "{text}");
        assert_eq!(lines[4], "More: multibond explain something-on-a-host-wants-attention", "{text}");
    }

    #[test]
    fn a_word_that_means_several_things_has_all_of_them() {
        let text = plain(&explain("InitiatorMissing").unwrap());
        for table in ["(Reasons of paths)", "(Reasons of HostPrepared)"] {
            assert!(text.contains(table), "{text}");
        }
    }

    #[test]
    fn a_section_is_found_by_the_link_that_check_prints() {
        let text = plain(&explain("docs/troubleshooting.md#versions-differ").unwrap());
        assert!(text.starts_with("Versions differ\n\n"), "{text}");
    }

    #[test]
    fn a_part_of_a_name_lists_what_has_it_and_nonsense_is_an_error() {
        let text = explain("resolve").unwrap();
        assert!(text.contains("NameNotResolved") && text.contains("NetworksResolved"), "{text}");
        let error = explain("Nonsense").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no condition, reason or section \"Nonsense\"; `multibond explain` lists all of them"
        );
    }
}
