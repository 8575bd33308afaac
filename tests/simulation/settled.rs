//! Invariant 7: when the faults have stopped, everything is as the planner says. And 6: nothing is deleted for ever. And 8:
//! nobody remembers what is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use futures::FutureExt as _;
use jiff::Timestamp;
use multibond::{
    agent::{
        initiator::{Facts, Initiator as _, InterfaceFilter, Inventory, Map, Session},
        types::{IscsiPath, credentials::Credentials},
    },
    api::{
        AgentStatus, ConnectionState, DataCenter, Host, HostStatus, IscsiBond, Network, PlanStatus,
        reason::{EmptyReason, PreparedReason},
    },
    planner::{Objects, plan_all},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    actors::DELETION_TIMEOUT,
    api::ApiServer,
    clock,
    cluster::{Cluster, NAMESPACE},
    invariants::PATHS,
    luns,
    users::{SECRET, TARGETS},
};

/// The kinds of the product.
const KINDS: [&str; 4] = ["datacenters", "networks", "iscsibonds", "hosts"];
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
        if expected.is_some() {
            let (facts, inventory) = read(cluster, &host.spec.node_name);
            let paths: Vec<IscsiPath> = planned.plan.paths.iter().map(IscsiPath::from).collect();
            let of_host = old_credentials(cluster, &inventory, &paths)
                .into_iter()
                .chain(luns::flaws(&planned.plan.paths, &inventory, &status))
                .chain(warnings(&facts, &inventory, &status));
            flaws.extend(of_host.map(|flaw| format!("{name}: {flaw}")));
        }
        for path in &*planned.plan.paths {
            let found = status.connections.iter().find(|connection| connection.key() == path.key());
            if expected.is_some() && found.map(|connection| connection.state) != Some(ConnectionState::Connected) {
                flaws.push(format!("{name} is not connected by {path:?}: {found:?}"));
            }
        }
    }
    cluster.read(|api| {
        for plural in KINDS {
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

/// What there is on a node.
fn read(cluster: &Cluster, node: &str) -> (Facts, Inventory) {
    cluster.hosts[node].read(&InterfaceFilter::default()).now_or_never().unwrap().unwrap()
}

/// What neighbours have made that leads to planned targets is named, and nothing else is.
fn warnings(facts: &Facts, inventory: &Inventory, status: &HostStatus) -> Vec<String> {
    let planned: Vec<IscsiPath> = status.plan.iter().flat_map(|plan| &*plan.paths).map(IscsiPath::from).collect();
    let is_foreign = |session: &&Session| {
        let path = &session.path;
        let leads_to_ours = planned.iter().any(|planned| planned.target == path.target);
        !session.is_own() && leads_to_ours && !(path.interface.is_none() && planned.contains(path))
    };
    let sessions: Vec<String> =
        inventory.sessions.iter().filter(is_foreign).map(|session| session.path.to_string()).collect();
    let records = facts
        .automatic_records
        .iter()
        .filter(|record| planned.iter().any(|path| (&path.target, &path.portal) == (&record.target, &record.portal)));
    let records: Vec<String> = records.map(ToString::to_string).collect();
    let found: Vec<_> = status.agent.iter().flat_map(AgentStatus::all_warnings).collect();
    let mut flaws = Vec::new();
    for (reason, wanted) in [(PreparedReason::ForeignSession, sessions), (PreparedReason::AutomaticRecords, records)] {
        let warning = found.iter().find(|warning| warning.reason == reason);
        // A message names the first three.
        let is_right = match warning {
            Some(warning) => !wanted.is_empty() && wanted.iter().take(3).all(|it| warning.message.contains(it)),
            None => wanted.is_empty(),
        };
        if !is_right {
            flaws.push(format!("the warning {reason} is {warning:?}, and should be about {wanted:?}"));
        }
    }
    let prepared = status.conditions.iter().find(|condition| condition.type_ == "HostPrepared");
    if !found.is_empty() && prepared.is_none_or(|condition| condition.status != "False") {
        flaws.push(format!("HostPrepared is {prepared:?}, and the agent warns: {found:?}"));
    }
    flaws
}

/// The planned paths of each node.
pub fn planned(cluster: &Cluster) -> Vec<(String, IscsiPath)> {
    let hosts = cluster.read(|api| of::<Host>(api, "hosts"));
    let paths = hosts.iter().flat_map(|host| {
        let plan = host.status.as_ref().and_then(|status| status.plan.as_ref());
        plan.into_iter().flat_map(|plan| &*plan.paths).map(|path| (host.spec.node_name.clone(), path.into()))
    });
    paths.collect()
}

/// The Hosts that say that something interferes with them, with what they say.
fn interference(cluster: &Cluster) -> Vec<(Host, String)> {
    let hosts = cluster.read(|api| of::<Host>(api, "hosts"));
    let said = |host: &Host| {
        let agent = host.status.as_ref()?.agent.as_ref()?;
        let warning = agent.all_warnings().find(|warning| warning.reason == PreparedReason::Interference)?;
        Some(warning.message.clone())
    };
    hosts.into_iter().filter_map(|host| said(&host).map(|said| (host, said))).collect()
}

/// The Hosts that say that something interferes with them.
pub fn interfered(cluster: &Cluster) -> Vec<String> {
    interference(cluster).into_iter().map(|(_, said)| said).collect()
}

/// Whether the Host of a node does not say that a session was logged out.
pub fn unnamed_logout(cluster: &Cluster, node: &str, path: &IscsiPath) -> Option<String> {
    let what = format!("the session to {path} was logged out");
    let said = interference(cluster);
    let is_named = said.iter().any(|(host, said)| host.spec.node_name == node && said.contains(&what));
    (!is_named).then(|| format!("{node} does not say that {what}: {said:?}"))
}

/// A session that has other credentials than the Secret, though its maps and its target would work without it meanwhile.
fn old_credentials(cluster: &Cluster, inventory: &Inventory, planned: &[IscsiPath]) -> Option<String> {
    let secret = cluster.read(|api| api.object("secrets", NAMESPACE, SECRET).cloned())?;
    let secret = serde_json::from_value(Value::clone(&secret)).ok()?;
    let current = Credentials::from_secret(&secret).ok()?.fingerprint();
    let of_target = |session: &&Session| *session.path.target == *TARGETS[1] && planned.contains(&session.path);
    let of_target: Vec<&Session> = inventory.sessions.iter().filter(of_target).collect();
    let goes_on_without = |old: &Session| {
        let others: Vec<&Session> = of_target.iter().filter(|other| other.id != old.id).copied().collect();
        let has = |session: &Session, disk: &str| session.disks.iter().any(|own| *own.name == *disk);
        let of_old = inventory.maps.iter().filter(|map| map.paths.iter().any(|path| has(old, &path.disk)));
        let has_other =
            |map: &Map| map.paths.iter().any(|path| path.active && others.iter().any(|other| has(other, &path.disk)));
        !others.is_empty() && of_old.into_iter().all(has_other)
    };
    let is_old = |session: &&&Session| session.is_own() && session.credentials != Some(current);
    let old = of_target.iter().filter(is_old).find(|session| goes_on_without(session))?;
    Some(format!("there are old credentials on {}", old.path))
}

/// No finalizer stays for ever.
pub fn deletions(cluster: &Cluster) -> Result<(), String> {
    let now = clock::wall();
    cluster.read(|api| {
        for plural in KINDS {
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

/// What processes remember that is gone, or do not know, in the end.
pub fn memory(cluster: &Cluster) -> Vec<String> {
    let count = |plural: &str| cluster.read(|api| i64::try_from(api.objects(plural).count()).unwrap());
    let exactly = |count: i64| count..=count;
    let leases = cluster.read(|api| {
        let is_agents = |name: &str| name.starts_with("agent-");
        api.objects("leases").filter(|(key, _)| is_agents(&key.name)).count()
    });
    let leases = i64::try_from(leases).unwrap();
    let data_centers = cluster.read(|api| {
        let named =
            |plural| api.objects(plural).map(|(key, object)| (&key.namespace, object["spec"]["dataCenter"].as_str()));
        let own = api.objects("datacenters").map(|(key, _)| (&key.namespace, Some(&*key.name)));
        let all: BTreeSet<_> = named("networks").chain(named("iscsibonds")).chain(named("hosts")).chain(own).collect();
        i64::try_from(all.len()).unwrap()
    });
    let mut of_controller: Vec<(&'static str, RangeInclusive<i64>)> =
        ["queue", "debounced", "requests", "retries", "answers", "storms", "refused_hosts", "deletions"]
            .map(|what| (what, exactly(0)))
            .into();
    of_controller.extend([
        ("objects", exactly(KINDS.iter().map(|plural| count(plural)).sum())),
        ("nodes", exactly(count("nodes"))),
        ("namespaces", exactly(count("namespaces"))),
        ("leases", exactly(count("leases"))),
        ("agents", exactly(leases)),
        ("data_centers", exactly(data_centers)),
        ("host_states", 0..=count("hosts")),
        ("later", 0..=count("hosts")),
    ]);
    let of_agent = |node: &str| {
        let of_node = |object: &&Value| object["spec"]["nodeName"] == *node;
        let hosts: Vec<Value> =
            cluster.read(|api| api.objects("hosts").map(|(_, host)| &**host).filter(of_node).cloned().collect());
        let paths = |host: &Value| Some(i64::try_from(host["status"]["plan"]["paths"].as_array()?.len()).unwrap());
        // Without a plan the agent goes on with the last one, of a Host that is gone.
        let planned = hosts.iter().filter_map(paths).reduce(|one, other| one + other).unwrap_or(PATHS);
        let inventory = cluster.hosts[node].inventory(&BTreeSet::new()).now_or_never().unwrap().unwrap();
        let sessions = i64::try_from(inventory.sessions.len()).unwrap();
        vec![
            ("hosts", exactly(i64::try_from(hosts.len()).unwrap())),
            ("jobs", exactly(0)),
            // What was asked for, what was answered, and with which credentials.
            ("paths", 0..=3 * planned),
            // What was asked for, and what was seen: the session, its disks, its LUNs.
            ("sessions", 0..=4 * sessions),
        ]
    };
    let of_agents: BTreeMap<&str, _> = cluster.hosts.keys().map(|node| (&**node, of_agent(node))).collect();
    cluster.memory(|memory| {
        memory.settled(|name| match name.strip_prefix("agent-").and_then(|rest| rest.split('#').next()) {
            Some(node) => of_agents[node].clone(),
            None => of_controller.clone(),
        })
    })
}
