//! Addresses of pages: data centers, their tabs, and filters.

use super::attention::host_is_wrong;
use super::fields::Fields;
use crate::api::Phase;
use crate::status_view::HostView;

/// What the console shows of which cluster.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The address of the API server, as pages show it.
    pub cluster: String,
    /// The only namespace that is shown; without one, all are.
    pub namespace: Option<String>,
}

/// A data center, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataCenterRef {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl DataCenterRef {
    /// The address of something of the data center.
    pub fn path(&self, rest: &str) -> String {
        format!("/dc/{}/{}/{rest}", self.namespace, self.name)
    }
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
            phase: Phase::ALL.iter().copied().find(|phase| phase.as_str() == show),
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
