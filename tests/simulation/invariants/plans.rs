//! Invariant 3: a plan in a status is the plan of some state that was delivered to the replica that has written it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use multibond::{
    api::{Host, PlanStatus, reason::EmptyReason},
    planner::{Objects, PlanReport, plan_all},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Sent;
use crate::{api::ApiServer, model};

/// The kinds that a plan depends on.
const KINDS: [&str; 5] = ["datacenters", "networks", "iscsibonds", "hosts", "namespaces"];
/// How many states of each replica are remembered.
const REMEMBERED: usize = 300;
/// Of how many answers to writes it is tried that they do not count yet.
const MOST_ANSWERS: usize = 10;
/// In how many of the last states.
const LAST_STATES: usize = 20;

/// Plural, namespace and name.
type Key = (String, String, String);
type Known = BTreeMap<Arc<Key>, Version>;

/// An object, as a replica knows it.
#[derive(Clone)]
struct Version {
    now: Arc<Value>,
    /// What it was before the answer to a write, until a watch shows it: a replica takes the answers to the writes about an
    /// object into account when the last of them has come.
    before: Option<Arc<Value>>,
}

/// What was delivered to each replica, and the plan of each Host, by its uid.
#[derive(Default)]
pub struct Plans {
    delivered: BTreeMap<String, Delivered>,
    plans: BTreeMap<String, Value>,
}

/// What was delivered to a replica.
#[derive(Default)]
struct Delivered {
    /// The kinds of which it has got a list.
    listed: BTreeSet<String>,
    /// The last states; before all kinds were listed, there is one, which no plan may be of.
    states: VecDeque<Known>,
}

impl Delivered {
    /// Another state, which is the last one so far. A list of this kind may be what it has got.
    fn next(&mut self, listed: Option<&str>) -> &mut Known {
        let last = self.states.back().cloned().unwrap_or_default();
        let was_whole = self.is_whole();
        self.listed.extend(listed.map(ToOwned::to_owned));
        if !was_whole {
            self.states.clear();
        } else if self.states.len() >= REMEMBERED {
            self.states.pop_front();
        }
        self.states.push_back(last);
        let end = self.states.len() - 1;
        &mut self.states[end]
    }

    fn is_whole(&self) -> bool {
        self.listed.len() == KINDS.len()
    }
}

impl Plans {
    pub fn delivered(&mut self, actor: &str, sent: &Sent, object: &Value) {
        if !sent.is_of_controller() || !KINDS.contains(&sent.plural.as_str()) {
            return;
        }
        let listed = object["items"].is_array().then_some(&*sent.plural);
        let known = self.delivered.entry(actor.to_owned()).or_default().next(listed);
        if let Some(items) = object["items"].as_array() {
            known.retain(|key, _| key.0 != sent.plural);
            for item in items {
                put(known, &sent.plural, item, false);
            }
        } else {
            // The answer to a write may come after the event that the object is gone.
            let before = known.get(&key(&sent.plural, object));
            let is_known = before.is_some_and(|before| before.now["metadata"]["uid"] == object["metadata"]["uid"]);
            if is_known || (before.is_none() && sent.method == http::Method::POST) {
                put(known, &sent.plural, object, true);
            }
        }
    }

    pub fn event(&mut self, actor: &str, sent: &Sent, event: &Value) {
        if !sent.is_of_controller() || !KINDS.contains(&sent.plural.as_str()) {
            return;
        }
        let known = self.delivered.entry(actor.to_owned()).or_default().next(None);
        let object = &event["object"];
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => put(known, &sent.plural, object, false),
            Some("DELETED") => drop(known.remove(&key(&sent.plural, object))),
            _ => {}
        }
    }

    /// The states that were delivered to a replica, the last one first; none before all kinds were listed.
    fn states(&self, actor: &str) -> impl Iterator<Item = &Known> {
        let delivered = self.delivered.get(actor).filter(|delivered| delivered.is_whole());
        delivered.into_iter().flat_map(|delivered| delivered.states.iter().rev())
    }

    /// The Host that a request of a replica is about, as it was last delivered to it.
    pub fn host(&self, sent: &Sent) -> Option<&Value> {
        let key = ("hosts".to_owned(), sent.namespace.clone(), sent.name.clone());
        self.states(&sent.actor).next()?.get(&key).map(|object| &*object.now)
    }

    /// The Hosts of a node in the states that were delivered to a replica, the last state first.
    pub fn hosts_of<'a>(&'a self, actor: &str, node: &'a str) -> impl Iterator<Item = Vec<&'a Value>> {
        let is_of_node = |object: &Value| object["spec"]["nodeName"] == *node;
        self.states(actor).map(move |known| {
            let hosts = known.iter().filter(|(key, _)| key.0 == "hosts").map(|(_, object)| &*object.now);
            hosts.filter(|object| is_of_node(object)).collect()
        })
    }

    pub fn written(&mut self, sent: &Sent, api: &ApiServer) -> Result<(), String> {
        if sent.plural != "hosts" {
            return Ok(());
        }
        let Some(host) = api.object("hosts", &sent.namespace, &sent.name) else { return Ok(()) };
        let uid = host["metadata"]["uid"].as_str().unwrap_or_default();
        let plan = &host["status"]["plan"];
        if self.plans.get(uid) == Some(plan) || plan.is_null() {
            return Ok(());
        }
        self.plans.insert(uid.to_owned(), plan.clone());
        if !sent.is_of_controller() {
            return Err(format!("5: {sent} has changed the plan"));
        }
        let plan: PlanStatus = serde_json::from_value(plan.clone()).map_err(|error| error.to_string())?;
        let found = self.states(&sent.actor).find_map(|known| of_state(&plan, known, sent));
        let found = found.or_else(|| {
            let mut others = self.states(&sent.actor).take(LAST_STATES).flat_map(without_answers);
            others.find_map(|known| of_state(&plan, &known, sent))
        });
        if let Some(objects) = found {
            return same_as_model(&plan, &objects, sent);
        }
        let expected = self.states(&sent.actor).next().map(|known| planned(known, sent));
        Err(format!(
            "3: {sent} writes a plan of no state that was delivered to it: {plan:?}; of the last one it is {expected:?}"
        ))
    }
}

fn key(plural: &str, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (plural.to_owned(), text("namespace"), text("name"))
}

fn put(known: &mut Known, plural: &str, object: &Value, is_answer: bool) {
    let key = key(plural, object);
    let version =
        |object: &Value| object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse::<u64>().ok());
    let old = known.get(&key);
    if old.is_none_or(|old| version(&old.now) <= version(object)) {
        let before = old.filter(|_| is_answer).map(|old| old.now.clone());
        known.insert(Arc::new(key), Version { now: Arc::new(object.clone()), before });
    }
}

/// What a state was while some answers to writes did not count yet.
fn without_answers(known: &Known) -> impl Iterator<Item = Known> {
    let answered: Vec<&Arc<Key>> =
        known.iter().filter(|(_, object)| object.before.is_some()).map(|(key, _)| key).collect();
    (1..1_u32 << answered.len().min(MOST_ANSWERS)).map(move |chosen| {
        let mut known = known.clone();
        for (_, key) in answered.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1) {
            let Some(object) = known.get_mut(*key) else { continue };
            object.now = object.before.take().unwrap_or_else(|| object.now.clone());
        }
        known
    })
}

fn objects(known: &Known) -> Objects {
    fn of<K: DeserializeOwned>(known: &Known, plural: &str) -> Vec<K> {
        let those = known.iter().filter(|(key, _)| key.0 == plural);
        those.filter_map(|(_, object)| serde_json::from_value(Value::clone(&object.now)).ok()).collect()
    }
    let ends = |object: &Value| !object["metadata"]["deletionTimestamp"].is_null();
    let namespaces = known.iter().filter(|(key, object)| key.0 == "namespaces" && ends(&object.now));
    Objects {
        data_centers: of(known, "datacenters"),
        networks: of(known, "networks"),
        bonds: of(known, "iscsibonds"),
        hosts: of(known, "hosts"),
        terminating_namespaces: namespaces.map(|(key, _)| key.2.clone()).collect(),
    }
}

/// What the planner gives a Host in a state.
fn planned(known: &Known, sent: &Sent) -> Option<PlanStatus> {
    let report = plan_all(&objects(known));
    let host = report.hosts.iter().find(|host| *host.name == *sent.name && *host.namespace == *sent.namespace);
    host.map(|host| host.plan.to_status())
}

/// The objects of a state, and their plans, if this plan of a Host is one of them.
fn of_state(plan: &PlanStatus, known: &Known, sent: &Sent) -> Option<(Objects, PlanReport)> {
    let key = ("hosts".to_owned(), sent.namespace.clone(), sent.name.clone());
    let objects = objects(known);
    let report = plan_all(&objects);
    let ends = known.get(&key).is_some_and(|host| !host.now["metadata"]["deletionTimestamp"].is_null());
    let host = report.hosts.iter().find(|host| *host.name == *sent.name && *host.namespace == *sent.namespace);
    let is_planned = host.is_some_and(|host| {
        // An earlier plan gives way to one that holds everything until the interfaces are known.
        let holds = host.plan.reason == Some(EmptyReason::InterfacesUnknown) && !plan.hold.is_empty();
        (holds && plan.paths.is_empty()) || PlanStatus { sequence: plan.sequence, ..host.plan.to_status() } == *plan
    });
    let is_last = ends && plan.paths.is_empty() && plan.hold.is_empty();
    (is_last || is_planned).then_some((objects, report))
}

/// Whether the model, which shares no code with the planner, gives it the same paths.
fn same_as_model(plan: &PlanStatus, (objects, report): &(Objects, PlanReport), sent: &Sent) -> Result<(), String> {
    let of = |host: &&Host| host.metadata.name.as_deref() == Some(&sent.name);
    let Some(host) = objects.hosts.iter().find(of) else { return Ok(()) };
    let Some(planned) = report.hosts.iter().find(|planned| *planned.name == *sent.name) else { return Ok(()) };
    if planned.plan.reason.is_some() {
        return Ok(());
    }
    let expected = model::outcomes(objects, &host.spec.data_center, &planned.plan.networks);
    let wanted: BTreeSet<_> = expected
        .iter()
        .flat_map(|(target, outcome)| outcome.paths.keys().map(move |path| (target.clone(), path.clone())))
        .collect();
    let found: BTreeSet<_> = plan
        .paths
        .iter()
        .map(|path| {
            let interface = path.interface.as_ref().map(ToString::to_string);
            (path.target.to_string(), (path.portal.to_string(), path.tpgt, interface))
        })
        .collect();
    if wanted == found { Ok(()) } else { Err(format!("3: {sent} writes {found:?}, the model gives {wanted:?}")) }
}
