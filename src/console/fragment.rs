//! The fragments of a page. An open page receives only the fragments, or the rows of a table, that have changed.

use maud::{Markup, Render as _, html};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A fragment of a page, with an id that is unique in it.
#[derive(Clone, Debug)]
pub enum Fragment {
    /// Replaced as a whole.
    Block {
        /// The id of the element.
        id: &'static str,
        /// The content of the element.
        content: Markup,
    },
    /// Replaced row by row, as long as the rows are the same ones.
    Table(Table),
}

/// A table, drawn from its columns.
#[derive(Clone, Debug)]
pub struct Table {
    id: &'static str,
    caption: &'static str,
    head: Vec<&'static str>,
    rows: Vec<Row>,
    empty: Markup,
}

#[derive(Clone, Debug)]
struct Row {
    /// Unique in the table.
    key: String,
    cells: Markup,
}

/// A column of a table whose rows show an `R`: its header, and the cell of each row.
pub struct Column<'a, R> {
    head: &'static str,
    kind: CellKind,
    cell: Box<dyn Fn(&R) -> Markup + 'a>,
}

/// The markup of a cell.
#[derive(Clone, Copy)]
enum CellKind {
    /// Names the row.
    RowHeader,
    /// A cell with this class; most have none.
    Data(Option<&'static str>),
}

impl<'a, R> Column<'a, R> {
    /// A column of text.
    pub fn new(head: &'static str, cell: impl Fn(&R) -> Markup + 'a) -> Column<'a, R> {
        Column { head, kind: CellKind::Data(None), cell: Box::new(cell) }
    }

    /// The column that names the rows.
    #[must_use]
    pub fn row_header(self) -> Self {
        Column { kind: CellKind::RowHeader, ..self }
    }

    /// A column whose cells have a class of the style sheet.
    #[must_use]
    pub fn class(self, class: &'static str) -> Self {
        Column { kind: CellKind::Data(Some(class)), ..self }
    }

    fn render(&self, row: &R) -> Markup {
        let content = (self.cell)(row);
        match self.kind {
            CellKind::RowHeader => html! { th scope="row" { (content) } },
            CellKind::Data(class) => html! { td class=[class] { (content) } },
        }
    }
}

impl Table {
    /// Draws a table. The caption names it for screen readers; `empty` is shown in its place when it has no rows.
    pub fn new<R>(
        id: &'static str,
        caption: &'static str,
        columns: &[Column<'_, R>],
        rows: impl IntoIterator<Item = (String, R)>,
        empty: Markup,
    ) -> Table {
        let row =
            |(key, row): (String, R)| Row { key, cells: html! { @for column in columns { (column.render(&row)) } } };
        Table {
            id,
            caption,
            head: columns.iter().map(|column| column.head).collect(),
            rows: rows.into_iter().map(row).collect(),
            empty,
        }
    }

    fn row(&self, Row { key, cells }: &Row) -> Update {
        let id = format!("{}-{key}", self.id);
        let html = html! { tr id=(id) { (cells) } };
        Update { id, html: html.into_string() }
    }

    /// The keys of the rows, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.rows.iter().map(|row| &row.key)
    }
}

/// HTML that replaces the element with its id.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Update {
    /// The id of the element.
    pub id: String,
    /// The new element.
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
            // A region that scrolls must be reachable by keyboard, hence the tabindex.
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

/// The updates that turn a page of the fragments `before` into one of the fragments `after`.
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
            rows.filter(|(old, new)| old.cells.0 != new.cells.0).map(|(_, row)| new.row(row)).collect()
        }
        _ if before.render().0 == after.render().0 => Vec::new(),
        _ => vec![after.whole()],
    }
}

/// A fingerprint of a page. An open page sends it to identify the state that it shows.
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

    fn table(rows: &[(&'static str, &'static str)]) -> Fragment {
        let columns = [Column::new("Name", |text: &&str| html! { (text) })];
        let rows = rows.iter().map(|(key, text)| ((*key).to_owned(), *text));
        Fragment::Table(Table::new("hosts", "Hosts", &columns, rows, html! { "nothing" }))
    }

    fn ids(updates: &[Update]) -> Vec<&str> {
        updates.iter().map(|update| update.id.as_str()).collect()
    }

    #[test]
    fn only_the_changed_rows_of_a_table_are_sent() {
        let before = [table(&[("a", "Up"), ("b", "Up"), ("c", "Up")])];
        let after = [table(&[("a", "Up"), ("b", "Degraded"), ("c", "Up")])];
        let html = r#"<tr id="hosts-b"><td>Degraded</td></tr>"#.to_owned();
        assert_eq!(updates(&before, &after), [Update { id: "hosts-b".to_owned(), html }]);
    }

    #[test]
    fn a_table_whose_rows_come_or_go_is_sent_as_a_whole() {
        let before = [table(&[("a", "Up")])];
        for after in [table(&[("a", "Up"), ("b", "Up")]), table(&[]), table(&[("b", "Up")])] {
            assert_eq!(ids(&updates(&before, &[after])), ["hosts"]);
        }
    }

    #[test]
    fn unchanged_fragments_are_not_sent() {
        let page = || [Fragment::Block { id: "verdict", content: html! { "Up" } }, table(&[("a", "Up")])];
        assert_eq!(updates(&page(), &page()), []);
        assert_eq!(fingerprint(&page()), fingerprint(&page()));
    }

    #[test]
    fn new_and_changed_fragments_are_sent() {
        let block = |text: &str| Fragment::Block { id: "verdict", content: html! { (text) } };
        assert_eq!(ids(&updates(&[], &[block("Up")])), ["verdict"]);
        assert_eq!(ids(&updates(&[block("Up")], &[block("Unknown")])), ["verdict"]);
        assert_ne!(fingerprint(&[block("Up")]), fingerprint(&[block("Unknown")]));
    }

    #[test]
    fn texts_are_escaped() {
        let html = table(&[("a", "<script>alert(1)</script>")]).render().into_string();
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !html.contains("<script"), "{html}");
    }
}
