//! The state of a converged site: everything written and connected follows from the existing objects
//! through the planner alone, and every session is explained.

use std::{collections::BTreeMap, fmt::Debug};

use k8s_openapi::{api::events::v1::Event, apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{Api, Resource, ResourceExt as _, api::ListParams, core::NamespaceResourceScope};
use multibond::{
    api::{
        AgentStatus, ConnectionState, DataCenter, Host, HostStatus, HostWarning, IscsiBond, Network, PlanStatus,
        PlannedPath, node_owner::owners_of_nodes, reason::EmptyReason,
    },
    planner::{AgentState, HostPlan, Objects, Observation, PlannedHost, View, host_warnings, judge, plan_all},
};
use multibond_testbed::eventually;
use serde::{Deserialize, de::DeserializeOwned};

use super::site::{PATIENCE, Site};

/// A session of a simulated host, as its initiator knows it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Held {
    pub id: u32,
    pub target: String,
    pub portal: String,
    pub tpgt: u16,
    pub interface: Option<String>,
}

impl Held {
    fn is(&self, path: &PlannedPath) -> bool {
        self.target == *path.target
            && self.portal == *path.portal
            && self.tpgt == path.tpgt
            && self.interface.as_deref() == path.interface.as_deref()
    }
}

/// The sessions that the host of a node holds, by number.
pub fn held(site: &Site, node: &str) -> Vec<Held> {
    Option::deserialize(site.held(node)).unwrap().unwrap_or_default()
}

/// Waits until the site is settled.
pub async fn until_settled(site: &Site) {
    eventually("everything follows from the objects that exist", PATIENCE, async || {
        let flaws = flaws(site).await.map_err(|error| error.to_string())?;
        if flaws.is_empty() { Ok(()) } else { Err(flaws.join("\n")) }
    })
    .await;
}

/// The objects of a site.
pub async fn objects(site: &Site) -> kube::Result<Objects> {
    async fn list<K>(site: &Site) -> kube::Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(site.client.clone(), &site.namespace);
        Ok(api.list(&ListParams::default()).await?.items)
    }
    Ok(Objects {
        data_centers: list::<DataCenter>(site).await?,
        networks: list::<Network>(site).await?,
        bonds: list::<IscsiBond>(site).await?,
        hosts: list::<Host>(site).await?,
        ..Objects::default()
    })
}

/// All differences from the expected final state.
async fn flaws(site: &Site) -> kube::Result<Vec<String>> {
    let objects = objects(site).await?;
    let plans = plan_all(&objects).hosts;
    let winners = owners_of_nodes(&objects.hosts);
    let mut flaws = Flaws::default();
    objects.data_centers.iter().for_each(|center| flaws.of_data_center(center, &objects));
    objects.networks.iter().for_each(|network| flaws.of_network(network, &plans));
    objects.bonds.iter().for_each(|bond| flaws.of_bond(bond, &objects, &plans));
    for host in &objects.hosts {
        let winner = winners.get(host.spec.node_name.as_str()).copied();
        let after = objects.data_centers.iter().find(|center| center.name_any() == host.spec.data_center);
        let after = after.map_or(60, |center| center.spec.non_operational_after_seconds);
        let plan = plans.iter().find(|planned| planned.name == host.name_any()).map(|planned| &planned.plan);
        let warnings = warnings(host, plan, &objects);
        flaws.of_host(host, plan, winner, after, &warnings);
    }
    let prefix = format!("{}-", site.namespace);
    for node in site.nodes_held() {
        let host = winners.get(&*node).and_then(|(_, name)| objects.hosts.iter().find(|host| host.name_any() == *name));
        let held = held(site, node.trim_start_matches(&prefix));
        if host.is_some() {
            flaws.of_node(&node, &held, host);
        } else if !held.is_empty() {
            flaws.of_node_without_host(&node, &held, &left_behind(site, &node).await?);
        }
    }
    Ok(flaws.found)
}

/// The Events about sessions that stayed on a node when its Host was deleted.
async fn left_behind(site: &Site, node: &str) -> kube::Result<String> {
    let events: Api<Event> = Api::namespaced(site.client.clone(), &site.namespace);
    let left = events.list(&ListParams::default().fields("reason=SessionsLeft")).await?.items;
    let notes = left.into_iter().filter_map(|event| event.note).filter(|note| note.contains(&format!("node {node},")));
    Ok(notes.collect::<Vec<_>>().join("\n"))
}

/// What wants attention on a host: what its agent found, and what its data center explains.
fn warnings(host: &Host, plan: Option<&HostPlan>, objects: &Objects) -> Vec<HostWarning> {
    let agent = host.status.as_ref().and_then(|status| status.agent.as_ref());
    let mut warnings: Vec<_> = agent.into_iter().flat_map(AgentStatus::all_warnings).cloned().collect();
    let name = &host.spec.data_center;
    let center = objects.data_centers.iter().find(|center| center.name_any() == *name);
    if let (Some(center), Some(plan)) = (center, plan) {
        let networks: Vec<_> = objects.networks.iter().filter(|network| network.spec.data_center == *name).collect();
        let bonds: Vec<_> = objects.bonds.iter().filter(|bond| bond.spec.data_center == *name).collect();
        warnings.extend(host_warnings(&View::compile(center, &networks, &bonds, false), host, plan));
    }
    warnings
}

#[derive(Default)]
struct Flaws {
    found: Vec<String>,
}

impl Flaws {
    fn add(&mut self, flaw: String) {
        self.found.push(flaw);
    }

    fn expect<T: PartialEq + Debug>(&mut self, of: &str, what: &str, found: &T, wanted: &T) {
        if found != wanted {
            self.add(format!("{of}: {what} is {found:?}, it should be {wanted:?}"));
        }
    }

    /// Checks that apply to every kind.
    fn of_any<K: Resource>(&mut self, of: &str, object: &K, observed: Option<i64>) {
        if object.meta().deletion_timestamp.is_some() {
            self.add(format!("{of} is still being deleted"));
        }
        self.expect(of, "observedGeneration", &observed, &object.meta().generation);
    }

    fn of_data_center(&mut self, center: &DataCenter, objects: &Objects) {
        let of = format!("DataCenter {}", center.name_any());
        let status = center.status.clone().unwrap_or_default();
        self.of_any(&of, center, status.observed_generation);
        let named = |name: &str| name == center.name_any();
        let hosts = objects.hosts.iter().filter(|host| named(&host.spec.data_center)).count();
        let bonds = objects.bonds.iter().filter(|bond| named(&bond.spec.data_center)).count();
        self.expect(&of, "hosts.total", &(status.hosts.total as usize), &hosts);
        self.expect(&of, "bonds", &(status.bonds as usize), &bonds);
    }

    fn of_network(&mut self, network: &Network, plans: &[PlannedHost]) {
        let name = network.name_any();
        let of = format!("Network {name}");
        let status = network.status.clone().unwrap_or_default();
        self.of_any(&of, network, status.observed_generation);
        let carries = |planned: &&PlannedHost| {
            planned.data_center == network.spec.data_center
                && planned.plan.in_service()
                && planned.plan.networks.iter().any(|carried| *carried.name == *name)
        };
        self.expect(&of, "hosts", &(status.hosts as usize), &plans.iter().filter(carries).count());
    }

    fn of_bond(&mut self, bond: &IscsiBond, objects: &Objects, plans: &[PlannedHost]) {
        let name = bond.name_any();
        let of = format!("IscsiBond {name}");
        let status = bond.status.clone().unwrap_or_default();
        self.of_any(&of, bond, status.observed_generation);
        let mut paths = (0, 0);
        if objects.data_centers.iter().any(|center| center.name_any() == bond.spec.data_center) {
            for planned in plans.iter().filter(|planned| planned.data_center == bond.spec.data_center) {
                let host = objects.hosts.iter().find(|host| host.name_any() == planned.name);
                let status = host.and_then(|host| host.status.clone()).unwrap_or_default();
                for path in planned.plan.paths.iter().filter(|path| path.bonds.iter().any(|bond| *bond == name)) {
                    paths.0 += 1;
                    paths.1 += u32::from(state(&status, path) == Some(ConnectionState::Connected));
                }
            }
        }
        self.expect(&of, "paths", &(status.paths.desired, status.paths.connected), &paths);
    }

    fn of_host(
        &mut self,
        host: &Host,
        plan: Option<&HostPlan>,
        winner: Option<(&str, &str)>,
        after: u32,
        warnings: &[HostWarning],
    ) {
        let of = format!("Host {}", host.name_any());
        let status = host.status.clone().unwrap_or_default();
        self.of_any(&of, host, status.observed_generation);
        let Some(plan) = plan else { return };
        // A Host without a data center gets no first plan, and a Host whose node another Host owns gets none at all.
        let expected = match plan.reason {
            Some(EmptyReason::NodeClaimed) => None,
            Some(EmptyReason::DataCenterNotFound) if status.plan.is_none() => None,
            // The sequence depends on the history, so it may differ.
            _ => {
                Some(PlanStatus { sequence: status.plan.as_ref().map_or(0, |plan| plan.sequence), ..plan.to_status() })
            }
        };
        let observed = status.agent.as_ref().and_then(|agent| agent.observed_revision.clone());
        self.expect(&of, "plan", &status.plan, &expected);
        self.expect(&of, "acknowledged", &status.acknowledged(), &expected.is_some());
        self.expect(&of, "observedRevision", &observed, &expected.map(|plan| plan.revision));
        self.expect(&of, "networks", &status.networks, &plan.networks);

        let own =
            (host.metadata.namespace.as_deref().unwrap_or_default(), host.metadata.name.as_deref().unwrap_or_default());
        let observation = Observation {
            host,
            node_owner: winner.filter(|winner| *winner != own),
            agent: AgentState::Alive,
            non_operational_after: std::time::Duration::from_secs(after.into()),
            warnings,
        };
        let verdict = judge(plan, &observation, Timestamp::now());
        self.expect(&of, "phase", &status.phase, &Some(verdict.phase));
        if plan.in_service() && (!verdict.settled || verdict.recheck_at.is_some()) {
            self.add(format!("{of} is not settled: {:?}", status.connections));
        }
        for wanted in &verdict.conditions {
            let said =
                |condition: &Condition| (condition.status.clone(), condition.reason.clone(), condition.message.clone());
            let found = status.conditions.iter().find(|condition| condition.type_ == wanted.kind.as_str()).map(said);
            let wanted_now = (wanted.status.as_str().to_owned(), wanted.reason.to_owned(), wanted.message.clone());
            self.expect(&of, wanted.kind.as_str(), &found, &Some(wanted_now));
        }
        self.of_paths(&of, plan, &status);
    }

    /// Planned paths are connected unless their device is missing.
    fn of_paths(&mut self, of: &str, plan: &HostPlan, status: &HostStatus) {
        let interfaces = status.interfaces.clone().unwrap_or_default();
        let usable = |path: &PlannedPath| {
            path.interface
                .as_ref()
                .is_none_or(|name| interfaces.iter().any(|i| i.name == *name && !i.addresses.is_empty()))
        };
        for path in &*plan.paths {
            let wanted = if usable(path) { ConnectionState::Connected } else { ConnectionState::Failed };
            self.expect(of, &format!("{} {:?}", path.portal, path.interface), &state(status, path), &Some(wanted));
        }
    }

    /// Sessions that were in use when the Host of their node was deleted stay, and an Event names them.
    fn of_node_without_host(&mut self, node: &str, held: &[Held], events: &str) {
        for session in held {
            let interface = session.interface.as_deref().unwrap_or("the default network");
            let named = format!("{} {} through {interface}, session {}", session.target, session.portal, session.id);
            if !events.contains(&named) && !events.ends_with(" more") {
                self.add(format!("{node} has no Host and holds a session that no Event names: {session:?}"));
            }
        }
    }

    /// The Host names every session on its node, and each surplus session has a reason.
    fn of_node(&mut self, node: &str, held: &[Held], host: Option<&Host>) {
        let status = host.and_then(|host| host.status.clone()).unwrap_or_default();
        let named: BTreeMap<u32, ConnectionState> =
            status.connections.iter().filter_map(|c| Some((c.session_id?, c.state))).collect();
        let plan = status.plan.unwrap_or_default();
        for session in held {
            let planned = plan.paths.iter().any(|path| session.is(path));
            let of_target = || plan.paths.iter().filter(|path| path.target == session.target);
            let works = |path: &PlannedPath| {
                held.iter().any(|other| other.is(path) && named.get(&other.id) == Some(&ConnectionState::Connected))
            };
            let needed = plan.hold.iter().any(|held| *held == session.target)
                || (of_target().next().is_some() && !of_target().any(works));
            if !planned && !needed {
                self.add(format!("{node} holds a session that is neither planned nor needed: {session:?}"));
            }
            if !named.contains_key(&session.id) {
                self.add(format!("{node} holds a session that its Host does not name: {session:?}"));
            }
        }
        for (id, state) in named {
            if state == ConnectionState::Disconnecting {
                self.add(format!("{node}: session {id} is still being logged out"));
            }
            let alive = matches!(state, ConnectionState::Connected | ConnectionState::Retained);
            if alive && !held.iter().any(|session| session.id == id) {
                self.add(format!("{node} does not hold session {id}, which its Host says is {state:?}"));
            }
        }
    }
}

fn state(status: &HostStatus, path: &PlannedPath) -> Option<ConnectionState> {
    status.connections.iter().find(|connection| connection.key() == path.key()).map(|connection| connection.state)
}
