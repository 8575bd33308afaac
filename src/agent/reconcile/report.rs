//! The agent's part of a Host's status, and its comparison with the status in the API server. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    agent::initiator::{Inventory, Map},
    api::{
        AgentStatus, Connection, ConnectionState, Host, HostInterface, HostLuns, HostStatus, Iqn, MultipathMap,
        size::{AGENT_ROOM, json_length},
    },
};

/// The longest message of a path, in bytes.
const LONGEST_MESSAGE: usize = 1024;
/// The longest message of a path when the report has no room for longer ones.
const SHORT_MESSAGE: usize = 160;
/// The most addresses of an interface when the report has no room for more.
const ADDRESSES: usize = 8;
/// A report with fewer paths and maps has room for the longest names and messages.
const SMALL_REPORT: usize = 100;

/// The agent's fields of a Host's status; [`AGENT_STATUS_FIELDS`](crate::api::AGENT_STATUS_FIELDS) names them.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusReport {
    /// The agent itself, and the plan that it has carried out.
    pub agent: AgentStatus,
    /// The host's interfaces; None for a Host that is not served.
    pub interfaces: Option<Vec<HostInterface>>,
    /// Paths and maps; None leaves the last reported ones as they are, while the Host has no plan.
    pub paths: Option<PathReport>,
}

/// The reported paths of a host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathReport {
    /// Planned paths and surplus sessions, sorted.
    pub connections: Vec<Connection>,
    /// The multipath maps over them, sorted.
    pub multipath: Vec<MultipathMap>,
    /// The LUNs that they show; None for a Host that is not served.
    pub luns: Option<HostLuns>,
}

/// The difference between a report and the status in the API server. It decides how long the write may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Nothing differs.
    None,
    /// Only the multipath maps and the LUNs, which change some seconds after the sessions and one after the other.
    DisksOnly,
    /// Something else.
    Other,
    /// The controller waits for it: the first report, or the acknowledgement of a plan.
    Awaited,
}

impl StatusReport {
    /// The report for a Host that is not served. Its plan counts as carried out, because the agent does nothing for it.
    #[must_use]
    pub fn not_served(agent: AgentStatus, host: &Host) -> Self {
        let plan = host.status.as_ref().and_then(|status| status.plan.as_ref());
        let observed_revision = plan.map(|plan| plan.revision.clone());
        let observed_sequence = plan.map(|plan| plan.sequence);
        StatusReport {
            agent: AgentStatus { observed_revision, observed_sequence, ..agent },
            interfaces: None,
            paths: Some(PathReport::default()),
        }
    }

    /// The report without what the Host has no room for. A report that is too large would be refused for ever, so the
    /// state of each planned path comes first: messages are shortened and then left out, then LUNs without a problem, then
    /// maps, then other LUNs, then surplus sessions of targets with another one, then addresses.
    #[must_use]
    pub fn fit(mut self) -> Self {
        self.shorten_messages(LONGEST_MESSAGE);
        let entries = self.paths.as_ref().map_or(0, |paths| {
            let luns = paths.luns.as_ref().map_or(0, |luns| luns.healthy.len() + luns.problems.len());
            paths.connections.len() + paths.multipath.len() + luns
        });
        let addresses: usize = self.interfaces.iter().flatten().map(|interface| interface.addresses.len()).sum();
        if entries + addresses / 8 < SMALL_REPORT {
            return self;
        }
        for step in [
            |report: &mut Self, _| report.shorten_messages(SHORT_MESSAGE),
            |report: &mut Self, _| report.shorten_messages(0),
            Self::drop_luns,
            Self::drop_maps,
            Self::drop_lun_problems,
            Self::drop_surplus,
            |report: &mut Self, _| {
                report.interfaces.iter_mut().flatten().for_each(|interface| interface.addresses.truncate(ADDRESSES));
            },
        ] {
            let excess = json_length(&self.fields()).saturating_sub(AGENT_ROOM);
            if excess == 0 {
                break;
            }
            step(&mut self, excess);
        }
        self
    }

    fn shorten_messages(&mut self, longest: usize) {
        for connection in self.paths.iter_mut().flat_map(|paths| &mut paths.connections) {
            let Some(message) = connection.message.as_mut().filter(|message| message.len() > longest) else { continue };
            let cut = (0..=longest.saturating_sub(4)).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(cut);
            message.push('…');
            if longest == 0 {
                connection.message = None;
            }
        }
    }

    fn drop_luns(&mut self, excess: usize) {
        let Some(PathReport { luns: Some(luns), .. }) = &mut self.paths else { return };
        luns.left_out += drop_last(&mut luns.healthy, 0, excess);
    }

    /// The worst one stays: the condition says what it is.
    fn drop_lun_problems(&mut self, excess: usize) {
        let Some(PathReport { luns: Some(luns), .. }) = &mut self.paths else { return };
        luns.left_out += drop_last(&mut luns.problems, 1, excess);
    }

    fn drop_maps(&mut self, excess: usize) {
        let Some(PathReport { multipath, .. }) = &mut self.paths else { return };
        drop_last(multipath, 0, excess);
    }

    /// A target keeps one surplus session: it may be the only one, and then keeps the host from being `NonOperational`.
    fn drop_surplus(&mut self, mut excess: usize) {
        let Some(PathReport { connections, .. }) = &mut self.paths else { return };
        let mut kept: Option<Iqn> = None;
        connections.retain(|connection| match connection.state {
            ConnectionState::Connecting | ConnectionState::Connected | ConnectionState::Failed => true,
            ConnectionState::Disconnecting | ConnectionState::Retained => {
                let first = connection.state == ConnectionState::Retained && kept.as_ref() != Some(&connection.target);
                if first {
                    kept = Some(connection.target.clone());
                }
                if first || excess == 0 {
                    return true;
                }
                excess = excess.saturating_sub(json_length(connection));
                false
            }
        });
    }

    /// Compares the report with the status in the API server.
    #[must_use]
    pub fn difference(&self, host: &Host) -> Difference {
        let empty = HostStatus::default();
        let status = host.status.as_ref().unwrap_or(&empty);
        let same_connections = self.paths.as_ref().is_none_or(|paths| paths.connections == status.connections);
        let same_disks =
            self.paths.as_ref().is_none_or(|paths| paths.multipath == status.multipath && paths.luns == status.luns);
        let has_problems = |luns: Option<&HostLuns>| luns.is_some_and(|luns| !luns.problems.is_empty());
        // Only the first and the last problem are urgent: at an outage each LUN has one, one after the other.
        let same_problems = self
            .paths
            .as_ref()
            .is_none_or(|paths| has_problems(paths.luns.as_ref()) == has_problems(status.luns.as_ref()));
        let is_awaited = status.agent.as_ref().is_none_or(|agent| {
            (&agent.observed_revision, agent.observed_sequence)
                != (&self.agent.observed_revision, self.agent.observed_sequence)
        });
        if is_awaited {
            Difference::Awaited
        } else if status.agent.as_ref() != Some(&self.agent)
            || status.interfaces != self.interfaces
            || !same_connections
            || !same_problems
        {
            Difference::Other
        } else if !same_disks {
            Difference::DisksOnly
        } else {
            Difference::None
        }
    }

    /// The agent's fields of the status, with their new values; `null` removes a field. Fields of the controller are not
    /// among them, so that the writes of agent and controller never overwrite each other.
    #[must_use]
    pub fn fields(&self) -> serde_json::Map<String, Value> {
        let StatusReport { agent, interfaces, paths } = self;
        let mut fields = serde_json::Map::new();
        fields.insert("agent".into(), json!(agent));
        fields.insert("interfaces".into(), json!(interfaces));
        if let Some(PathReport { connections, multipath, luns }) = paths {
            fields.insert("connections".into(), json!(connections));
            fields.insert("multipath".into(), json!(multipath));
            fields.insert("luns".into(), json!(luns));
        }
        fields
    }
}

/// Drops the last entries of a list, all but so many, until they make up the excess in bytes. Returns how many were dropped.
fn drop_last(list: &mut Vec<impl Serialize>, keep: usize, mut excess: usize) -> u32 {
    let before = list.len();
    while excess > 0
        && list.len() > keep
        && let Some(entry) = list.pop()
    {
        excess = excess.saturating_sub(json_length(&entry));
    }
    count(before - list.len())
}

/// The multipath maps over the host's sessions, sorted: an entry for each target that a map has paths of. Multipath
/// combines disks by their WWID, which is whatever a target says.
#[must_use]
pub fn multipath_maps(inventory: &Inventory) -> Vec<MultipathMap> {
    let mut maps: Vec<MultipathMap> = inventory.maps.iter().flat_map(|map| entries_of(inventory, map)).collect();
    maps.sort();
    maps
}

fn entries_of(inventory: &Inventory, map: &Map) -> Vec<MultipathMap> {
    let targets: Vec<Option<&str>> = map.paths.iter().map(|path| target_of_disk(inventory, &path.disk)).collect();
    // A path whose session is gone counts for the first target.
    let Some(first) = targets.iter().find_map(|target| *target) else { return Vec::new() };
    let mut by_target: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (path, target) in map.paths.iter().zip(&targets) {
        by_target.entry(target.unwrap_or(first)).or_default().push(path);
    }
    let is_shared = by_target.len() > 1;
    by_target
        .into_iter()
        .map(|(target, paths)| MultipathMap {
            wwid: map.wwid.clone(),
            target: target.to_owned(),
            paths: count(paths.len()),
            active: count(paths.iter().filter(|path| path.active).count()),
            disks: paths.iter().filter(|_| is_shared).map(|path| path.disk.to_string()).collect(),
        })
        .collect()
}

fn target_of_disk<'a>(inventory: &'a Inventory, name: &str) -> Option<&'a str> {
    let session = inventory.sessions.iter().find(|session| session.disks.iter().any(|disk| *disk.name == *name))?;
    Some(session.path.target.as_str())
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::{AGENT_STATUS_FIELDS, HostSpec, HostWarning, PlanStatus, reason::PreparedReason};

    #[test]
    fn a29_a_report_has_only_the_agents_fields_and_what_is_empty_is_left_out() {
        let agent = AgentStatus { version: "1".into(), observed_revision: Some("r".into()), ..AgentStatus::default() };
        let report = StatusReport { agent, interfaces: Some(Vec::new()), paths: Some(PathReport::default()) };
        let expected = json!({
            "agent": {"version": "1", "observedRevision": "r"}, "interfaces": [], "connections": [], "multipath": [],
            "luns": null,
        });
        assert_eq!(json!(report.fields()), expected);
    }

    #[test]
    fn a29_a_full_report_has_every_field_of_the_agent() {
        let report =
            StatusReport { agent: AgentStatus::default(), interfaces: None, paths: Some(PathReport::default()) };
        let fields: BTreeSet<_> = report.fields().keys().cloned().collect();
        assert_eq!(fields, AGENT_STATUS_FIELDS.map(str::to_owned).into());
    }

    #[test]
    fn a29_the_admission_policy_names_exactly_the_fields_of_the_agent() {
        let policy = include_str!("../../../charts/multibond/templates/policy-agent.yaml");
        let fields = AGENT_STATUS_FIELDS.map(|field| format!("'{field}'")).join(", ");
        assert!(policy.contains(&format!("- name: agentFields\n    expression: \"[{fields}]\"\n")), "{policy}");
    }

    #[test]
    fn the_paths_of_a_host_without_a_plan_are_not_in_the_report() {
        let report = StatusReport { agent: AgentStatus::default(), interfaces: Some(Vec::new()), paths: None };
        let fields: Vec<_> = report.fields().keys().cloned().collect();
        assert_eq!(fields, ["agent", "interfaces"]);
    }

    #[test]
    fn a28_a_host_that_is_not_served_is_acknowledged_and_cleared() {
        let plan = PlanStatus { revision: "r".into(), ..PlanStatus::default() };
        let mut host = Host::new("worker-1", HostSpec::default());
        host.status = Some(HostStatus { plan: Some(plan), interfaces: Some(Vec::new()), ..HostStatus::default() });
        let warning = HostWarning { reason: PreparedReason::FindMultipaths, message: "x".into() };
        let agent = AgentStatus { warnings: vec![warning], ..AgentStatus::default() };
        let report = StatusReport::not_served(agent, &host);
        assert_eq!(report.difference(&host), Difference::Awaited);
        assert_eq!(report.fields()["agent"]["observedRevision"], "r");
        assert_eq!(report.fields()["interfaces"], Value::Null);
        assert_eq!(report.fields()["connections"], json!([]));
    }

    #[test]
    fn a69_warnings_with_new_reasons_are_not_where_an_old_controller_decodes_them() {
        // The reasons that the first version decodes. It takes a Host with another one for unreadable.
        let known = [
            "MTUMismatch",
            "ReversePathFilter",
            "MultipathdMissing",
            "FindMultipaths",
            "InitiatorMissing",
            "VersionMismatch",
        ];
        let warning = |reason| HostWarning { reason, message: "x".into() };
        let all: Vec<HostWarning> = PreparedReason::ALL.iter().copied().map(warning).collect();
        let agent = AgentStatus::default().with_warnings(all.clone());
        let written: Vec<&str> = agent.warnings.iter().map(|warning| warning.reason.as_str()).collect();
        assert_eq!(written, known);
        assert_eq!(agent.all_warnings().count(), all.len());
    }

    /// A report with planned and surplus paths, maps, and long messages.
    fn crowded(planned: usize, surplus: usize, maps: usize) -> StatusReport {
        let connection = |number: usize, state| Connection {
            target: format!("iqn.2003-01.org.example:{}", number % 7).into(),
            portal: "10.0.1.10:3260".into(),
            tpgt: 1,
            interface: Some(format!("ens{number}").into()),
            state,
            session_id: Some(1),
            reason: None,
            message: Some("é".repeat(1000)),
            since: Time(Timestamp::UNIX_EPOCH),
            retry_every: None,
        };
        let planned = (0..planned).map(|number| connection(number, ConnectionState::Failed));
        let surplus = (0..surplus).map(|number| connection(number, ConnectionState::Retained));
        let map = |number| MultipathMap {
            wwid: format!("3{number}"),
            target: "iqn.x".into(),
            paths: 1,
            active: 1,
            disks: vec![],
        };
        let mut connections: Vec<Connection> = planned.chain(surplus).collect();
        connections.sort_by(|a, b| a.key().cmp(&b.key()));
        let paths = Some(PathReport { connections, multipath: (0..maps).map(map).collect(), luns: None });
        StatusReport { agent: AgentStatus::default(), interfaces: Some(Vec::new()), paths }
    }

    /// The longest message, the number of maps, and the numbers of planned and of surplus paths.
    fn what_is_left(report: StatusReport) -> (usize, usize, usize, usize) {
        let report = report.fit();
        assert!(json_length(&report.fields()) <= AGENT_ROOM);
        assert_eq!(report.clone().fit(), report, "it fits");
        let paths = report.paths.unwrap();
        let longest = paths.connections.iter().filter_map(|c| c.message.as_ref()).map(String::len).max();
        let planned = paths.connections.iter().filter(|c| c.state == ConnectionState::Failed).count();
        (longest.unwrap_or(0), paths.multipath.len(), planned, paths.connections.len() - planned)
    }

    #[test]
    fn a_report_that_is_too_large_loses_messages_then_maps_then_surplus() {
        assert_eq!(what_is_left(crowded(4, 4, 4)), (1023, 4, 4, 4));
        assert_eq!(what_is_left(crowded(300, 0, 4)), (1023, 4, 300, 0));
        assert_eq!(what_is_left(crowded(1500, 0, 4)), (159, 4, 1500, 0));
        assert_eq!(what_is_left(crowded(3000, 0, 100)), (0, 100, 3000, 0));
        let (_, maps, planned, surplus) = what_is_left(crowded(3500, 0, 9000));
        assert!(maps > 0 && maps < 9000 && (planned, surplus) == (3500, 0), "{maps} maps");
        let (_, maps, planned, surplus) = what_is_left(crowded(3500, 2000, 10));
        assert!(maps == 0 && planned == 3500 && (7..2000).contains(&surplus), "{maps} maps, {surplus} surplus");
    }
}
