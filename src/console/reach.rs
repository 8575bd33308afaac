//! On how many hosts each portal is reached: what everybody wants to know first when a port of an array dies.

use std::collections::HashMap;
use std::fmt;

use crate::api::address::canonical_portal;
use crate::api::{ConnectionState, Phase, PortalSpec};
use crate::status_view::DataCenterView;

/// On how many hosts a portal of a target is reached. Hosts whose agent is silent do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Hosts with a connected path to the portal.
    pub connected: usize,
    /// Hosts on which every path to the portal has failed.
    pub failed: usize,
    /// Hosts with a planned path to the portal.
    pub hosts: usize,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hosts {
            0 => f.write_str("no host has a path"),
            1 => write!(f, "{}/1 host", self.connected),
            hosts => write!(f, "{}/{hosts} hosts", self.connected),
        }
    }
}

/// The portals of a data center's targets, with their reach.
#[derive(Debug, Default)]
pub struct Reaches<'a>(HashMap<(&'a str, &'a str), Reach>);

impl<'a> Reaches<'a> {
    /// The reach of all portals that hosts have in their plans.
    pub fn of(view: &'a DataCenterView) -> Self {
        let mut all: HashMap<_, Reach> = HashMap::new();
        for host in view.hosts.iter().filter(|host| host.phase != Some(Phase::Unknown)) {
            let mut portals: HashMap<(&str, &str), Vec<Option<ConnectionState>>> = HashMap::new();
            for path in host.paths.iter().filter(|path| path.planned) {
                portals.entry((&path.target, &path.portal)).or_default().push(path.state);
            }
            for (portal, states) in portals {
                let reach = all.entry(portal).or_default();
                reach.hosts += 1;
                reach.connected += usize::from(states.contains(&Some(ConnectionState::Connected)));
                reach.failed += usize::from(states.iter().all(|state| *state == Some(ConnectionState::Failed)));
            }
        }
        Reaches(all)
    }

    /// The reach of a portal of a target.
    pub fn portal(&self, target: &str, portal: &PortalSpec) -> Reach {
        self.0.get(&(target, &*canonical_portal(&portal.address, portal.port))).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_view::{HostView, host};

    const TARGET: &str = "iqn.2003-01.org.example:a";

    fn host_with(phase: Phase, paths: &[(&str, Option<&str>)]) -> HostView {
        let planned = paths.iter().enumerate().map(|(number, (portal, _))| {
            serde_json::json!({"target": TARGET, "portal": portal, "tpgt": 1, "storage": "a", "bonds": [],
                "interface": format!("ens{number}"), "network": "san"})
        });
        let connections = paths.iter().enumerate().filter_map(|(number, (portal, state))| {
            Some(serde_json::json!({"target": TARGET, "portal": portal, "tpgt": 1, "state": (*state)?,
                "interface": format!("ens{number}"), "since": "1970-01-01T00:00:00Z"}))
        });
        let object = serde_json::json!({
            "apiVersion": "multibond.dev/v1alpha1", "kind": "Host", "metadata": {"name": "w", "namespace": "ns"},
            "spec": {"dataCenter": "dc", "nodeName": "w"},
            "status": {"phase": phase.as_str(),
                "plan": {"revision": "0", "sequence": 1, "paths": planned.collect::<Vec<_>>()},
                "connections": connections.collect::<Vec<_>>()},
        });
        host(&serde_json::from_value(object).unwrap())
    }

    fn reach(hosts: Vec<HostView>, address: &str) -> Reach {
        let view = DataCenterView { hosts, ..DataCenterView::default() };
        let portal = PortalSpec { address: address.to_owned(), ..PortalSpec::default() };
        Reaches::of(&view).portal(TARGET, &portal)
    }

    #[test]
    fn a_host_reaches_a_portal_through_any_of_its_networks() {
        let one =
            host_with(Phase::Degraded, &[("10.0.1.10:3260", Some("Connected")), ("10.0.1.10:3260", Some("Failed"))]);
        let other = host_with(Phase::Degraded, &[("10.0.1.10:3260", Some("Failed"))]);
        assert_eq!(reach(vec![one, other], "10.0.1.10"), Reach { connected: 1, failed: 1, hosts: 2 });
    }

    #[test]
    fn a_first_attempt_has_not_failed_and_a_silent_host_does_not_count() {
        let first = host_with(Phase::Connecting, &[("[fd00::10]:3260", None)]);
        let silent = host_with(Phase::Unknown, &[("[fd00::10]:3260", Some("Connected"))]);
        let reach = reach(vec![first, silent], "FD00:0::10");
        assert_eq!((reach, reach.to_string().as_str()), (Reach { connected: 0, failed: 0, hosts: 1 }, "0/1 host"));
    }

    #[test]
    fn a_portal_that_no_plan_has_says_so() {
        assert_eq!(reach(Vec::new(), "10.0.1.10").to_string(), "no host has a path");
    }
}
