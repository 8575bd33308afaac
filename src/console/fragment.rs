//! Pages in parts: only the parts that have changed are sent to a page that is open.

use maud::{Markup, Render as _, html};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A part of a page.
#[derive(Clone, Debug)]
pub enum Fragment {
    /// Replaced as a whole.
    Block {
        /// Its id in the page.
        id: &'static str,
        /// What is in it.
        content: Markup,
    },
    /// Replaced row by row.
    Table(Table),
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its id in the page.
    pub id: &'static str,
    /// What it lists, for those who do not see it.
    pub caption: String,
    /// The columns.
    pub head: Vec<&'static str>,
    /// The rows: what tells each from the others, and its cells.
    pub rows: Vec<(String, Markup)>,
    /// What is said when there are none.
    pub empty: Markup,
}

impl Table {
    fn row(&self, (key, cells): &(String, Markup)) -> Update {
        let id = format!("{}-{key}", self.id);
        let html = html! { tr id=(id) { (cells) } };
        Update { id, html: html.into_string() }
    }

    fn keys(&self) -> impl Iterator<Item = &String> {
        self.rows.iter().map(|(key, _)| key)
    }
}

/// A piece of HTML that takes the place of the element with its id.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Update {
    /// Which element.
    pub id: String,
    /// What takes its place.
    pub html: String,
}

impl Fragment {
    fn id(&self) -> &'static str {
        match self {
            Fragment::Block { id, .. } | Fragment::Table(Table { id, .. }) => id,
        }
    }

    fn whole(&self) -> Update {
        Update { id: self.id().to_owned(), html: self.render().into_string() }
    }
}

impl maud::Render for Fragment {
    fn render(&self) -> Markup {
        match self {
            Fragment::Block { id, content } => html! { div id=(id) { (content) } },
            Fragment::Table(table) if table.rows.is_empty() => html! { div id=(table.id) .empty { (table.empty) } },
            // A region that scrolls must be reachable by keyboard.
            Fragment::Table(table) => html! {
                div id=(table.id) .scroll role="region" aria-label=(table.caption) tabindex="0" {
                    table {
                        caption { (table.caption) }
                        thead { tr { @for column in &table.head { th scope="col" { (column) } } } }
                        tbody { @for row in &table.rows { (maud::PreEscaped(table.row(row).html)) } }
                    }
                }
            },
        }
    }
}

/// What takes a page from one state to another.
pub fn updates(before: &[Fragment], after: &[Fragment]) -> Vec<Update> {
    after
        .iter()
        .flat_map(|part| match before.iter().find(|old| old.id() == part.id()) {
            Some(old) => changes(old, part),
            None => vec![part.whole()],
        })
        .collect()
}

fn changes(before: &Fragment, after: &Fragment) -> Vec<Update> {
    match (before, after) {
        (Fragment::Table(old), Fragment::Table(new)) if !new.rows.is_empty() && old.keys().eq(new.keys()) => {
            let rows = old.rows.iter().zip(&new.rows);
            rows.filter(|((_, old), (_, new))| old.0 != new.0).map(|(_, row)| new.row(row)).collect()
        }
        _ if before.render().0 == after.render().0 => Vec::new(),
        _ => vec![after.whole()],
    }
}

/// A fingerprint of a page: a page that is open says which state it shows.
pub fn fingerprint(parts: &[Fragment]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.render().0);
    }
    hash.finalize().first_chunk().map_or_else(String::new, |first| format!("{:016x}", u64::from_be_bytes(*first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, &str)]) -> Fragment {
        let rows = rows.iter().map(|(key, text)| ((*key).to_owned(), html! { td { (text) } })).collect();
        let empty = html! { "nothing" };
        Fragment::Table(Table { id: "hosts", caption: "Hosts".to_owned(), head: vec!["Name"], rows, empty })
    }

    fn ids(updates: &[Update]) -> Vec<&str> {
        updates.iter().map(|update| update.id.as_str()).collect()
    }

    #[test]
    fn of_a_table_only_the_rows_that_have_changed_are_sent() {
        let before = [table(&[("a", "Up"), ("b", "Up"), ("c", "Up")])];
        let after = [table(&[("a", "Up"), ("b", "Degraded"), ("c", "Up")])];
        let html = r#"<tr id="hosts-b"><td>Degraded</td></tr>"#.to_owned();
        assert_eq!(updates(&before, &after), [Update { id: "hosts-b".to_owned(), html }]);
    }

    #[test]
    fn a_table_with_other_rows_is_sent_as_a_whole() {
        let before = [table(&[("a", "Up")])];
        for after in [table(&[("a", "Up"), ("b", "Up")]), table(&[]), table(&[("b", "Up")])] {
            assert_eq!(ids(&updates(&before, &[after])), ["hosts"]);
        }
    }

    #[test]
    fn what_has_not_changed_is_not_sent() {
        let page = || [Fragment::Block { id: "verdict", content: html! { "Up" } }, table(&[("a", "Up")])];
        assert_eq!(updates(&page(), &page()), []);
        assert_eq!(fingerprint(&page()), fingerprint(&page()));
    }

    #[test]
    fn a_part_is_sent_when_it_is_new_or_has_changed() {
        let block = |text: &str| Fragment::Block { id: "verdict", content: html! { (text) } };
        assert_eq!(ids(&updates(&[], &[block("Up")])), ["verdict"]);
        assert_eq!(ids(&updates(&[block("Up")], &[block("Unknown")])), ["verdict"]);
        assert_ne!(fingerprint(&[block("Up")]), fingerprint(&[block("Unknown")]));
    }

    #[test]
    fn texts_are_never_taken_for_markup() {
        let html = table(&[("a", "<script>alert(1)</script>")]).render().into_string();
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !html.contains("<script"), "{html}");
    }
}
