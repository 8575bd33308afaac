//! Addresses of pages: data centers, their tabs, and filters.

use super::attention::host_needs_attention;
use super::fields::Fields;
use crate::api::Phase;
use crate::status_view::HostView;

/// The cluster and the namespaces that the console shows.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The address of the API server, as pages show it.
    pub cluster: String,
    /// The only namespace that is shown; without one, all are.
    pub namespace: Option<String>,
}

/// Names a data center. There may be no such object: networks, bonds and hosts can name one that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataCenterRef {
    /// The namespace of the data center, and of everything in it.
    pub namespace: String,
    /// The name of the `DataCenter`.
    pub name: String,
}

impl DataCenterRef {
    /// The address of a tab.
    pub fn tab(&self, tab: Tab) -> String {
        self.path(tab.path())
    }

    /// The address of something in the data center.
    pub fn path(&self, rest: &str) -> String {
        format!("/dc/{}/{}/{rest}", self.namespace, self.name)
    }
}

/// A tab of a data center.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// Storages and their targets.
    Storage,
    /// Networks.
    Networks,
    /// Bonds.
    Bonds,
    /// Hosts.
    Hosts,
    /// Events of all its objects.
    Events,
}

impl Tab {
    /// All tabs, in the order of the page.
    pub const ALL: [Tab; 5] = [Tab::Storage, Tab::Networks, Tab::Bonds, Tab::Hosts, Tab::Events];

    /// The segment of the address.
    pub fn path(self) -> &'static str {
        match self {
            Tab::Storage => "storage",
            Tab::Networks => "networks",
            Tab::Bonds => "bonds",
            Tab::Hosts => "hosts",
            Tab::Events => "events",
        }
    }

    /// The title on the page.
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

/// The rows of a table to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only what needs attention.
    pub wrong: bool,
    /// Only hosts of this phase.
    pub phase: Option<Phase>,
    /// Only names that contain this.
    pub name: String,
}

impl Filter {
    /// Reads the query of an address: `show=wrong` or `show=PHASE`, and `name=TEXT`.
    pub fn parse(query: &Fields) -> Filter {
        let show = query.get("show");
        Filter {
            wrong: show == "wrong",
            phase: Phase::ALL.iter().copied().find(|phase| phase.as_str() == show),
            name: query.get("name").to_owned(),
        }
    }

    /// Whether the filter shows a host.
    pub fn matches(&self, host: &HostView) -> bool {
        (!self.wrong || host_needs_attention(host))
            && self.phase.is_none_or(|phase| host.phase == Some(phase))
            && host.name.contains(&self.name)
    }
}
