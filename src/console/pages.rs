//! Which pages there are, and what they are made from.

use std::sync::Arc;

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;

use super::fields::Fields;
use super::part::Part;
use super::views;
use crate::api::{DataCenter, Host, IscsiBond, Network, Phase};
use crate::overview::{BondView, DataCenterView, HostView, Overview, Snapshot, complaints, ready};
use crate::planner::Objects;

/// Everything that pages are made from.
pub struct Model {
    /// The objects.
    pub snapshot: Snapshot,
    /// The same, by data center.
    pub overview: Overview,
    /// Events of our kinds.
    pub events: Vec<Arc<Event>>,
}

/// A data center, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Place {
    /// The address of something of the data center.
    pub fn path(&self, rest: &str) -> String {
        format!("/dc/{}/{}/{rest}", self.namespace, self.name)
    }
}

impl Model {
    /// What was read, and what follows from it.
    pub fn new(snapshot: Snapshot, events: Vec<Arc<Event>>) -> Model {
        Model { overview: Overview::from(&snapshot), snapshot, events }
    }

    /// A data center as it is shown, also one that is only named.
    pub fn view(&self, place: &Place) -> Option<&DataCenterView> {
        let same = |view: &&DataCenterView| (&view.namespace, &view.name) == (&place.namespace, &place.name);
        self.overview.data_centers.iter().find(same)
    }

    /// A data center.
    pub fn data_center(&self, place: &Place) -> Option<&DataCenter> {
        let mut data_centers = self.snapshot.data_centers.iter().map(Arc::as_ref);
        data_centers.find(|it: &&DataCenter| is(*it, &place.namespace, &place.name))
    }

    /// The networks of a data center, by name.
    pub fn networks(&self, place: &Place) -> Vec<&Network> {
        let ours =
            |it: &&Network| it.namespace().as_deref() == Some(&*place.namespace) && it.spec.data_center == place.name;
        self.snapshot.networks.iter().map(Arc::as_ref).filter(ours).collect()
    }

    /// A bond of a data center.
    pub fn bond(&self, place: &Place, name: &str) -> Option<&IscsiBond> {
        let mut bonds = self.snapshot.bonds.iter().map(Arc::as_ref);
        bonds.find(|it| is(*it, &place.namespace, name) && it.spec.data_center == place.name)
    }

    /// A host of a data center.
    pub fn host(&self, place: &Place, name: &str) -> Option<&Host> {
        let mut hosts = self.snapshot.hosts.iter().map(Arc::as_ref);
        hosts.find(|it| is(*it, &place.namespace, name) && it.spec.data_center == place.name)
    }

    /// What the planner needs.
    pub fn objects(&self) -> Objects {
        let Snapshot { data_centers, networks, bonds, hosts, unreadable: _ } = &self.snapshot;
        Objects {
            data_centers: owned(data_centers),
            networks: owned(networks),
            bonds: owned(bonds),
            hosts: owned(hosts),
            ..Objects::default()
        }
    }
}

fn is<K: kube::ResourceExt>(object: &K, namespace: &str, name: &str) -> bool {
    object.namespace().as_deref() == Some(namespace) && object.meta().name.as_deref() == Some(name)
}

fn owned<K: Clone>(objects: &[Arc<K>]) -> Vec<K> {
    objects.iter().map(|object| K::clone(object)).collect()
}

/// A tab of a data center.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// Its storage.
    Storage,
    /// Its networks.
    Networks,
    /// Its bonds.
    Bonds,
    /// Its hosts.
    Hosts,
    /// What happened in it.
    Events,
}

impl Tab {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Tab; 5] = [Tab::Storage, Tab::Networks, Tab::Bonds, Tab::Hosts, Tab::Events];

    /// As addresses have it.
    pub fn path(self) -> &'static str {
        match self {
            Tab::Storage => "storage",
            Tab::Networks => "networks",
            Tab::Bonds => "bonds",
            Tab::Hosts => "hosts",
            Tab::Events => "events",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Tab::Storage => "Storage",
            Tab::Networks => "Networks",
            Tab::Bonds => "iSCSI Bonds",
            Tab::Hosts => "Hosts",
            Tab::Events => "Events",
        }
    }
}

/// Which rows of a table are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only what is wrong.
    pub wrong: bool,
    /// Only hosts of this phase.
    pub phase: Option<Phase>,
    /// Only names with this in them.
    pub name: String,
}

impl Filter {
    /// What an address says after its question mark.
    pub fn parse(query: &Fields) -> Filter {
        let show = query.get("show");
        Filter {
            wrong: show == "wrong",
            phase: Phase::ALL.into_iter().find(|phase| phase.as_str() == show),
            name: query.get("name").to_owned(),
        }
    }

    /// Whether a host is shown.
    pub fn takes(&self, host: &HostView) -> bool {
        (!self.wrong || host_is_wrong(host))
            && self.phase.is_none_or(|phase| host.phase == Some(phase))
            && host.name.contains(&self.name)
    }
}

/// Whether a host wants attention. One in maintenance does not, and one that connects does not yet.
pub fn host_is_wrong(host: &HostView) -> bool {
    match host.phase {
        None | Some(Phase::Maintenance | Phase::Connecting) => false,
        Some(Phase::Up) => !complaints(&host.conditions).is_empty(),
        Some(Phase::Unassigned | Phase::Degraded | Phase::NonOperational | Phase::Unknown) => true,
    }
}

/// Whether a bond wants attention.
pub fn bond_is_wrong(bond: &BondView) -> bool {
    !complaints(&bond.conditions).is_empty()
}

/// Whether a data center wants attention, or something in it.
pub fn data_center_is_wrong(view: &DataCenterView) -> bool {
    !view.exists
        || ready(&view.conditions) == Some(false)
        || !complaints(&view.conditions).is_empty()
        || view.hosts.iter().any(host_is_wrong)
        || view.bonds.iter().any(bond_is_wrong)
}

/// A page that can be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// All data centers.
    DataCenters(Filter),
    /// A tab of a data center.
    DataCenter(Place, Tab, Filter),
    /// A bond of a data center.
    Bond(Place, String, Filter),
    /// A host of a data center.
    Host(Place, String),
}

/// A page in parts.
pub struct Page {
    /// What it shows.
    pub title: String,
    /// Where it is: titles and addresses of the pages above it.
    pub above: Vec<(String, String)>,
    /// Whether there is what it shows.
    pub found: bool,
    /// What is on it.
    pub parts: Vec<Part>,
}

impl Route {
    /// Makes the page.
    pub fn page(&self, model: &Model) -> Page {
        let mut page = match self {
            Route::DataCenters(filter) => Some(views::data_centers(model, filter)),
            Route::DataCenter(place, tab, filter) => views::data_center(model, place, *tab, filter),
            Route::Bond(place, name, filter) => views::bond(model, place, name, filter),
            Route::Host(place, name) => views::host(model, place, name),
        }
        .unwrap_or_else(views::gone);
        page.parts.insert(0, views::unreadable(&model.snapshot.unreadable));
        page
    }
}

#[cfg(test)]
mod tests {
    use maud::Render as _;

    use super::*;
    use crate::overview::fixture::snapshot;

    fn model() -> Model {
        Model::new(snapshot(), Vec::new())
    }

    fn place(name: &str) -> Place {
        Place { namespace: "storage".to_owned(), name: name.to_owned() }
    }

    /// The words of a page, without its markup.
    fn words(route: &Route) -> String {
        let page = route.page(&model());
        let html: String = page.parts.iter().map(|part| part.render().into_string()).collect();
        let text = html.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text.trim());
        text.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn hosts(filter: &str) -> Vec<String> {
        let filter = Filter::parse(&Fields::parse(filter.as_bytes()));
        let page = Route::DataCenter(place("frankfurt"), Tab::Hosts, filter).page(&model());
        let rows = page.parts.into_iter().filter_map(|part| match part {
            Part::Table(table) => Some(table.rows),
            Part::Block { .. } => None,
        });
        rows.flatten().map(|(key, _)| key).collect()
    }

    #[test]
    fn a_host_is_a_matrix_whose_cells_say_why_and_when_it_is_tried_again() {
        let words = words(&Route::Host(place("frankfurt"), "worker-2".to_owned()));
        let failed = "10.0.2.10:3260 ✕ Failed PortalUnreachable connect timed out after 5 s for 2026-01-31T11:48:00Z , next attempt within 30s";
        assert!(words.contains(failed), "{words}");
        assert!(words.contains("Portal default network 10.0.1.10:3260 ✓ Connected"), "{words}");
        let kept = "Portal no network ens9 10.0.9.9:3260 ▲ Retained InUse sdb is mounted at /data";
        assert!(words.contains(kept) && words.contains("not planned any more"), "{words}");
    }

    #[test]
    fn two_fabrics_are_two_columns_and_a_portal_is_on_one_of_them() {
        let words = words(&Route::Host(place("frankfurt"), "worker-1".to_owned()));
        let matrix = "Portal san-a ens2f0 san-b ens2f1 10.0.1.10:3260 ✓ Connected – [fd00::10]:3260,2 – ✓ Connected";
        assert!(words.contains(matrix), "{words}");
    }

    #[test]
    fn filters_show_what_is_wrong_a_phase_or_a_name() {
        assert_eq!(hosts(""), ["worker-1", "worker-2", "worker-3", "worker-4"]);
        assert_eq!(hosts("show=wrong"), ["worker-1", "worker-2", "worker-3"]);
        assert_eq!(hosts("show=Degraded"), ["worker-2"]);
        assert_eq!(hosts("show=wrong&name=-3"), ["worker-3"]);
    }

    #[test]
    fn a_data_center_that_is_only_named_and_what_cannot_be_read_are_said() {
        let words = words(&Route::DataCenters(Filter::default()));
        assert!(words.contains("Not shown: Host broken: spec.nodeName: missing"), "{words}");
        assert!(words.contains("munich storage ✕ does not exist"), "{words}");
    }

    #[test]
    fn what_does_not_exist_has_a_page_that_says_so() {
        let routes = [
            Route::Host(place("frankfurt"), "lost".to_owned()),
            Route::Bond(place("frankfurt"), "none".to_owned(), Filter::default()),
            Route::DataCenter(place("none"), Tab::Hosts, Filter::default()),
        ];
        for route in routes {
            assert!(!route.page(&model()).found, "{route:?}");
            assert!(words(&route).contains("Not there"), "{route:?}");
        }
    }
}
