//! What the agent writes into a Host's status: its own fields, and nothing else. Pure.

use serde_json::{Map, Value, json};

use crate::api::{AgentStatus, Connection, Host, HostInterface, HostStatus, MultipathMap};

/// The agent's fields of a Host's status.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Who reports, and what it has carried out.
    pub agent: AgentStatus,
    /// The host's interfaces; none on a Host that is not served.
    pub interfaces: Option<Vec<HostInterface>>,
    /// Paths and maps; none leaves those of the last report, for a host that nobody has told what to do.
    pub paths: Option<Paths>,
}

/// What a host is connected to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Paths {
    /// The paths.
    pub connections: Vec<Connection>,
    /// The multipath maps over them.
    pub multipath: Vec<MultipathMap>,
}

/// How a report differs from what the API has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Not at all.
    None,
    /// Only in the multipath maps, which follow the sessions by seconds.
    Maps,
    /// Somewhere.
    Some,
    /// In what the controller waits for: the first report, or the acknowledgement of a plan.
    Awaited,
}

impl Report {
    /// The report on a Host that is not served: there is nothing to do for it, so its plan has been carried out.
    #[must_use]
    pub fn not_served(agent: AgentStatus, host: &Host) -> Self {
        let plan = host.status.as_ref().and_then(|status| status.plan.as_ref());
        let observed_revision = plan.map(|plan| plan.revision.clone());
        let observed_sequence = plan.map(|plan| plan.sequence);
        Report {
            agent: AgentStatus { observed_revision, observed_sequence, ..agent },
            interfaces: None,
            paths: Some(Paths::default()),
        }
    }

    /// Compares the report with what the API has.
    #[must_use]
    pub fn difference(&self, host: &Host) -> Difference {
        let empty = HostStatus::default();
        let status = host.status.as_ref().unwrap_or(&empty);
        let awaited = |agent: &AgentStatus| {
            (&agent.observed_revision, agent.observed_sequence)
                != (&self.agent.observed_revision, self.agent.observed_sequence)
        };
        let same = |paths: &Paths| (paths.connections == status.connections, paths.multipath == status.multipath);
        let (same_connections, same_maps) = self.paths.as_ref().map_or((true, true), same);
        if status.agent.as_ref().is_none_or(awaited) {
            Difference::Awaited
        } else if status.agent.as_ref() != Some(&self.agent)
            || status.interfaces != self.interfaces
            || !same_connections
        {
            Difference::Some
        } else if !same_maps {
            Difference::Maps
        } else {
            Difference::None
        }
    }

    /// The report as a JSON merge patch (RFC 7386) of the status: where a field goes it is null, and nothing but the
    /// agent's fields is in it, so that the controller's writes and these never overwrite each other.
    #[must_use]
    pub fn patch(&self) -> Value {
        let Report { agent, interfaces, paths } = self;
        let AgentStatus { version, observed_revision, observed_sequence, initiator_name, initiator, warnings } = agent;
        let mut status = Map::new();
        status.insert(
            "agent".into(),
            json!({
                "version": version,
                "observedRevision": observed_revision,
                "observedSequence": observed_sequence,
                "initiatorName": initiator_name,
                "initiator": initiator,
                "warnings": if warnings.is_empty() { Value::Null } else { json!(warnings) },
            }),
        );
        status.insert("interfaces".into(), json!(interfaces));
        if let Some(Paths { connections, multipath }) = paths {
            status.insert("connections".into(), json!(connections));
            status.insert("multipath".into(), json!(multipath));
        }
        json!({ "status": status })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::{AGENT_STATUS_FIELDS, HostSpec, PlanStatus, reason::PreparedReason};

    #[test]
    fn a29_the_patch_has_the_agents_fields_and_no_others_and_says_what_goes() {
        let agent = AgentStatus { version: "1".into(), observed_revision: Some("r".into()), ..AgentStatus::default() };
        let report = Report { agent, interfaces: Some(Vec::new()), paths: Some(Paths::default()) };
        let expected = json!({"status": {
            "agent": {"version": "1", "observedRevision": "r", "observedSequence": null, "initiatorName": null, "initiator": null, "warnings": null},
            "interfaces": [], "connections": [], "multipath": [],
        }});
        assert_eq!(report.patch(), expected);
    }

    #[test]
    fn a29_a_full_patch_has_every_field_of_the_agent() {
        let report = Report { agent: AgentStatus::default(), interfaces: None, paths: Some(Paths::default()) };
        let fields: BTreeSet<_> = report.patch()["status"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, AGENT_STATUS_FIELDS.map(str::to_owned).into());
    }

    #[test]
    fn a29_the_admission_policy_names_exactly_the_fields_of_the_agent() {
        let policy = include_str!("../../../charts/multibond/templates/policy-agent.yaml");
        let fields = AGENT_STATUS_FIELDS.map(|field| format!("'{field}'")).join(", ");
        assert!(policy.contains(&format!("- name: agentFields\n    expression: \"[{fields}]\"\n")), "{policy}");
    }

    #[test]
    fn a_host_without_a_plan_keeps_the_paths_of_its_last_report() {
        let report = Report { agent: AgentStatus::default(), interfaces: Some(Vec::new()), paths: None };
        let fields: Vec<_> = report.patch()["status"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, ["agent", "interfaces"]);
    }

    #[test]
    fn a28_a_host_that_is_not_served_is_acknowledged_and_cleared() {
        let plan = PlanStatus { revision: "r".into(), ..PlanStatus::default() };
        let mut host = Host::new("worker-1", HostSpec::default());
        host.status = Some(HostStatus { plan: Some(plan), interfaces: Some(Vec::new()), ..HostStatus::default() });
        let warning = crate::api::HostWarning { reason: PreparedReason::FindMultipaths, message: "x".into() };
        let agent = AgentStatus { warnings: vec![warning], ..AgentStatus::default() };
        let report = Report::not_served(agent, &host);
        assert_eq!(report.difference(&host), Difference::Awaited);
        assert_eq!(report.patch()["status"]["agent"]["observedRevision"], "r");
        assert_eq!(report.patch()["status"]["interfaces"], Value::Null);
        assert_eq!(report.patch()["status"]["connections"], json!([]));
    }
}
