//! The pages of `docs/` that the program carries, so that a hint leads somewhere also where only the program is.

/// The pages, in the order in which a name is looked for.
const PAGES: [(&str, &str); 16] = [
    ("troubleshooting", include_str!("../../../docs/troubleshooting.md")),
    ("first-data-center", include_str!("../../../docs/first-data-center.md")),
    ("concepts", include_str!("../../../docs/concepts.md")),
    ("hosts", include_str!("../../../docs/hosts.md")),
    ("multipath", include_str!("../../../docs/multipath.md")),
    ("timelines", include_str!("../../../docs/timelines.md")),
    ("workloads", include_str!("../../../docs/workloads.md")),
    ("operations", include_str!("../../../docs/operations.md")),
    ("install", include_str!("../../../docs/install.md")),
    ("performance", include_str!("../../../docs/performance.md")),
    ("support", include_str!("../../../docs/support.md")),
    ("security", include_str!("../../../docs/security.md")),
    ("gitops", include_str!("../../../docs/gitops.md")),
    ("migrating-from-ovirt", include_str!("../../../docs/migrating-from-ovirt.md")),
    ("console", include_str!("../../../docs/console.md")),
    ("reference", REFERENCE),
];
/// The page with a table for each kind of word.
const REFERENCE: &str = include_str!("../../../docs/reference.md");

/// What a table of the reference says of one word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The heading of the table, such as `Reasons of paths`.
    pub(super) table: &'static str,
    /// The word.
    pub(super) name: &'static str,
    /// The other cells, each with the heading of its column.
    pub(super) cells: Vec<(&'static str, &'static str)>,
}

/// A part of a page below a heading.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// The page, such as `hosts`.
    pub(super) page: &'static str,
    /// What a link has behind its `#`.
    pub(super) anchor: String,
    /// The heading.
    pub(super) title: &'static str,
    /// The lines below the heading, up to the next heading of its level.
    pub(super) text: &'static str,
    /// Whether no other section is in it.
    pub(super) is_leaf: bool,
}

/// Every word that a table of the reference explains, in its order. A word may be in several tables.
pub(super) fn entries() -> Vec<Entry> {
    let (mut table, mut columns, mut entries) = ("", Vec::new(), Vec::new());
    for line in REFERENCE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            (table, columns) = (title, Vec::new());
        } else if let Some(row) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) {
            let cells: Vec<&str> = row.split(" | ").collect();
            match cells[0].strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) {
                None => columns = cells,
                Some(name) => {
                    let cells = columns.iter().copied().zip(cells).skip(1).collect();
                    entries.push(Entry { table, name, cells });
                }
            }
        }
    }
    entries
}

/// Every section of the pages.
pub(super) fn sections() -> Vec<Section> {
    PAGES.into_iter().flat_map(|(name, page)| sections_of(name, page)).collect()
}

/// The section with an anchor, or with what a link says: `hosts.md#prerequisites`.
pub(super) fn section(name: &str) -> Option<Section> {
    let (page, anchor) = name.rsplit_once('#').unwrap_or(("", name));
    let page = page.trim_start_matches("docs/").trim_end_matches(".md");
    let is_it = |it: &Section| (page.is_empty() || page == it.page) && it.anchor.eq_ignore_ascii_case(anchor);
    sections().into_iter().find(is_it)
}

fn sections_of(name: &'static str, page: &'static str) -> Vec<Section> {
    let headings = headings(page);
    let section = |(index, heading): (usize, &Heading)| {
        let behind = &headings[index + 1..];
        let end = behind.iter().find(|other| other.level <= heading.level).map_or(page.len(), |other| other.start);
        Section {
            page: name,
            anchor: anchor(heading.title),
            title: heading.title,
            text: page.get(heading.end..end).unwrap_or_default().trim(),
            is_leaf: behind.first().is_none_or(|next| next.level <= heading.level),
        }
    };
    headings.iter().enumerate().map(section).collect()
}

/// A heading and where its line starts and ends in the page.
struct Heading {
    level: usize,
    title: &'static str,
    start: usize,
    end: usize,
}

/// The headings of a page. A `#` in a block of code is none.
fn headings(page: &'static str) -> Vec<Heading> {
    let (mut at, mut is_code, mut headings) = (0, false, Vec::new());
    for line in page.split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        is_code ^= line.starts_with("```");
        let title = line.trim_start_matches('#');
        if let Some(words) = title.strip_prefix(' ').filter(|_| !is_code && line.starts_with('#')) {
            headings.push(Heading { level: line.len() - title.len(), title: words.trim(), start, end });
        }
    }
    headings
}

/// The anchor of a heading, as forges make it.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// A text without the targets of its links. A link to another section says how to read that.
pub(super) fn without_links(text: &str) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some((before, label, target, after)) = first_link(rest) {
        shown += before;
        shown += label;
        if target.contains('#') {
            shown.extend([" (multibond explain ", target.trim_start_matches('#'), ")"]);
        }
        rest = after;
    }
    shown + rest
}

/// The text before the first link, its label, its target, and the text after it.
fn first_link(text: &str) -> Option<(&str, &str, &str, &str)> {
    let middle = text.find("](")?;
    let label = text[..middle].rfind('[')?;
    let (target, after) = text[middle + 2..].split_once(')')?;
    Some((&text[..label], &text[label + 1..middle], target, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::reason::{ConditionType, PathReason, PreparedReason, Reason},
        check::Check,
    };

    #[test]
    fn every_condition_and_reason_is_explained() {
        let names: Vec<_> = entries().iter().map(|entry| entry.name).collect();
        let all = ConditionType::ALL.iter().map(|it| it.as_str());
        let all = all.chain(Reason::ALL.iter().map(|it| it.as_str()));
        let all = all.chain(PathReason::ALL.iter().map(|it| it.as_str()));
        for name in all.chain(PreparedReason::ALL.iter().map(|it| it.as_str())) {
            assert!(names.contains(&name), "{name}");
        }
        assert!(entries().iter().all(|entry| entry.cells.len() > 1), "{:?}", entries());
    }

    #[test]
    fn every_line_of_check_leads_to_a_section() {
        let anchors: Vec<_> = sections().into_iter().map(|section| section.anchor).collect();
        for check in Check::ALL {
            assert!(anchors.iter().any(|anchor| anchor == check.anchor()), "{check:?}");
        }
    }

    #[test]
    fn every_command_that_a_link_becomes_shows_a_section() {
        let shown = PAGES.map(|(_, page)| without_links(page)).concat();
        let named: Vec<_> = shown.split("(multibond explain ").skip(1).filter_map(|it| it.split(')').next()).collect();
        assert!(named.len() > 50, "{named:?}");
        let lost: Vec<_> = named.into_iter().filter(|name| section(name).is_none()).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }

    #[test]
    fn a_section_ends_where_the_next_of_its_level_begins() {
        let page = "# Page\n\nx\n\n## One\n\na\n\n```\n# no heading\n```\n\n### In one\n\nb\n\n## Two: `x`\n\nc\n";
        let found: Vec<_> = sections_of("page", page).into_iter().map(|it| (it.anchor, it.text, it.is_leaf)).collect();
        let expected = [
            ("page", &page[8..page.len() - 1], false),
            ("one", "a\n\n```\n# no heading\n```\n\n### In one\n\nb", false),
            ("in-one", "b", true),
            ("two-x", "c", true),
        ];
        assert_eq!(found, expected.map(|(anchor, text, is_leaf)| (anchor.to_owned(), text, is_leaf)));
    }

    #[test]
    fn a_link_becomes_the_command_that_shows_its_target() {
        let text = "See [below](#reasons-of-paths), [GitOps](gitops.md#prerequisites) or [the page](hosts.md).";
        let shown = "See below (multibond explain reasons-of-paths), GitOps (multibond explain gitops.md#prerequisites) or the page.";
        assert_eq!(without_links(text), shown);
        for text in ["no link", "[", "](", "a](b)", "[a](b"] {
            assert!(!without_links(text).is_empty());
        }
    }
}
