//! Invariant 7: when the faults have stopped, everything is as the planner says. And 6: nothing is deleted for ever.

use std::time::Duration;

use jiff::Timestamp;
use multibond::{
    api::{ConnectionState, DataCenter, Host, IscsiBond, Network, PlanStatus, reason::EmptyReason},
    planner::{Objects, plan_all},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{actors::DELETION_TIMEOUT, api::ApiServer, clock, cluster::Cluster};

/// How much longer than its time-out a deletion may last: while the API server, the agents and the controllers fail.
const PATIENCE: Duration = Duration::from_secs(600);

fn of<K: DeserializeOwned>(api: &ApiServer, plural: &str) -> Vec<K> {
    api.objects(plural).map(|(_, object)| serde_json::from_value(Value::clone(object)).unwrap()).collect()
}

/// What is not as it should be in the end.
pub fn flaws(cluster: &Cluster) -> Vec<String> {
    let objects = cluster.read(|api| Objects {
        data_centers: of::<DataCenter>(api, "datacenters"),
        networks: of::<Network>(api, "networks"),
        bonds: of::<IscsiBond>(api, "iscsibonds"),
        hosts: of::<Host>(api, "hosts"),
        ..Objects::default()
    });
    let report = plan_all(&objects);
    let mut flaws = Vec::new();
    for host in &objects.hosts {
        let name = host.metadata.name.clone().unwrap_or_default();
        let status = host.status.clone().unwrap_or_default();
        let Some(planned) = report.hosts.iter().find(|planned| planned.name == name) else { continue };
        let expected = match planned.plan.reason {
            Some(EmptyReason::NodeClaimed) => None,
            Some(EmptyReason::DataCenterNotFound) if status.plan.is_none() => None,
            _ => {
                let sequence = status.plan.as_ref().map_or(0, |plan| plan.sequence);
                Some(PlanStatus { sequence, ..planned.plan.to_status() })
            }
        };
        if status.plan != expected {
            flaws.push(format!("{name} has the plan {:?}, it should be {expected:?}", status.plan));
        }
        if status.acknowledged() != expected.is_some() {
            flaws.push(format!("{name} has not acknowledged its plan: {:?}", status.agent));
        }
        for path in &*planned.plan.paths {
            let found = status.connections.iter().find(|connection| connection.key() == path.key());
            if expected.is_some() && found.map(|connection| connection.state) != Some(ConnectionState::Connected) {
                flaws.push(format!("{name} is not connected by {path:?}: {found:?}"));
            }
        }
    }
    cluster.read(|api| {
        for plural in ["datacenters", "networks", "iscsibonds", "hosts"] {
            for (key, object) in api.objects(plural) {
                if !object["metadata"]["deletionTimestamp"].is_null() {
                    flaws.push(format!("{plural} {} is still being deleted", key.name));
                }
                if object["status"]["observedGeneration"] != object["metadata"]["generation"] {
                    flaws.push(format!("{plural} {} has an old observedGeneration", key.name));
                }
            }
        }
    });
    flaws
}

/// No finalizer stays for ever.
pub fn deletions(cluster: &Cluster) -> Result<(), String> {
    let now = clock::wall();
    cluster.read(|api| {
        for plural in ["datacenters", "networks", "iscsibonds", "hosts"] {
            for (key, object) in api.objects(plural) {
                let Some(since) = object["metadata"]["deletionTimestamp"].as_str() else { continue };
                let since: Timestamp = since.parse().map_err(|error| format!("{error}"))?;
                let lasts = Duration::try_from(now.duration_since(since)).unwrap_or_default();
                if lasts > DELETION_TIMEOUT + PATIENCE {
                    let finalizers = &object["metadata"]["finalizers"];
                    return Err(format!("6: {plural} {} is being deleted for {lasts:?}: {finalizers}", key.name));
                }
            }
        }
        Ok(())
    })
}
