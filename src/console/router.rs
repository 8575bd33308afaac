//! The pages of the console: each [`Route`] has one.

use super::location::{DataCenterRef, Filter, Tab};
use super::model::Model;
use super::page::Page;
use super::views;

/// A page, by what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// All data centers.
    DataCenters(Filter),
    /// One tab of a data center.
    DataCenter(DataCenterRef, Tab, Filter),
    /// A bond of a data center.
    Bond(DataCenterRef, String, Filter),
    /// A host of a data center.
    Host(DataCenterRef, String),
}

impl Route {
    /// Draws the page; when its object does not exist, a page that says so.
    pub fn page(&self, model: &Model) -> Page {
        let mut page = match self {
            Route::DataCenters(filter) => Some(views::data_centers(model, filter)),
            Route::DataCenter(dc, tab, filter) => views::data_center(model, dc, *tab, filter),
            Route::Bond(dc, name, filter) => views::bond(model, dc, name, filter),
            Route::Host(dc, name) => views::host(model, dc, name),
        }
        .unwrap_or_else(views::gone);
        page.fragments.insert(0, views::unreadable(&model.snapshot.unreadable));
        page
    }
}

#[cfg(test)]
mod tests {
    use maud::Render as _;

    use super::*;
    use crate::console::fields::Fields;
    use crate::console::fragment::Fragment;
    use crate::status_view::fixture::snapshot;

    fn model() -> Model {
        Model::new(snapshot(), Vec::new())
    }

    fn dc(name: &str) -> DataCenterRef {
        DataCenterRef { namespace: "storage".to_owned(), name: name.to_owned() }
    }

    /// The text of a page, without its markup.
    fn words(route: &Route) -> String {
        let page = route.page(&model());
        let html: String = page.fragments.iter().map(|fragment| fragment.render().into_string()).collect();
        let text = html.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text.trim());
        text.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn hosts(filter: &str) -> Vec<String> {
        let filter = Filter::parse(&Fields::parse(filter.as_bytes()));
        let page = Route::DataCenter(dc("frankfurt"), Tab::Hosts, filter).page(&model());
        let rows = page.fragments.into_iter().filter_map(|fragment| match fragment {
            Fragment::Table(table) => Some(table.keys().cloned().collect::<Vec<_>>()),
            Fragment::Block { .. } => None,
        });
        rows.flatten().collect()
    }

    #[test]
    fn a_cell_of_the_matrix_shows_the_reason_and_the_next_attempt() {
        let words = words(&Route::Host(dc("frankfurt"), "worker-2".to_owned()));
        let failed = "10.0.2.10:3260 ✕ Failed PortalUnreachable connect timed out after 5 s for 2026-01-31T11:48:00Z , next attempt within 30s";
        assert!(words.contains(failed), "{words}");
        assert!(words.contains("Portal default network 10.0.1.10:3260 ✓ Connected"), "{words}");
        let kept = "Portal no network ens9 10.0.9.9:3260 ▲ Retained InUse sdb is mounted at /data";
        assert!(words.contains(kept) && words.contains("no longer planned"), "{words}");
    }

    #[test]
    fn each_fabric_is_a_column_and_a_portal_is_in_one_of_them() {
        let words = words(&Route::Host(dc("frankfurt"), "worker-1".to_owned()));
        let matrix = "Portal san-a ens2f0 san-b ens2f1 10.0.1.10:3260 ✓ Connected – [fd00::10]:3260,2 – ✓ Connected";
        assert!(words.contains(matrix), "{words}");
    }

    #[test]
    fn hosts_can_be_filtered_by_attention_phase_and_name() {
        assert_eq!(hosts(""), ["worker-1", "worker-2", "worker-3", "worker-4"]);
        assert_eq!(hosts("show=wrong"), ["worker-1", "worker-2", "worker-3"]);
        assert_eq!(hosts("show=Degraded"), ["worker-2"]);
        assert_eq!(hosts("show=wrong&name=-3"), ["worker-3"]);
    }

    #[test]
    fn a_missing_data_center_and_unreadable_objects_are_shown() {
        let words = words(&Route::DataCenters(Filter::default()));
        assert!(words.contains("Not shown: Host broken: spec.nodeName: missing"), "{words}");
        assert!(words.contains("munich storage ✕ does not exist"), "{words}");
    }

    #[test]
    fn an_object_that_does_not_exist_has_a_page_that_says_so() {
        let routes = [
            Route::Host(dc("frankfurt"), "lost".to_owned()),
            Route::Bond(dc("frankfurt"), "none".to_owned(), Filter::default()),
            Route::DataCenter(dc("none"), Tab::Hosts, Filter::default()),
        ];
        for route in routes {
            assert!(!route.page(&model()).found, "{route:?}");
            assert!(words(&route).contains("Not found"), "{route:?}");
        }
    }
}
