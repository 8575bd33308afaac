//! Invariant 3: a plan in a status is the plan of some state that was delivered to the replica that has written it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use multibond::{
    api::{Host, PlanStatus, reason::EmptyReason},
    planner::{Objects, plan_all},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Sent;
use crate::{api::ApiServer, model};

/// The kinds that a plan depends on.
const KINDS: [&str; 5] = ["datacenters", "networks", "iscsibonds", "hosts", "namespaces"];
/// How many states of each replica are remembered.
const REMEMBERED: usize = 300;

/// Plural, namespace and name.
type Key = (String, String, String);
type Known = BTreeMap<Arc<Key>, Arc<Value>>;

/// What was delivered to each replica, and the plan of each Host, by its uid.
#[derive(Default)]
pub struct Plans {
    delivered: BTreeMap<String, VecDeque<Known>>,
    plans: BTreeMap<String, Value>,
}

impl Plans {
    pub fn delivered(&mut self, actor: &str, sent: &Sent, object: &Value) {
        if !sent.is_of_controller() || !KINDS.contains(&sent.plural.as_str()) {
            return;
        }
        let Some(known) = self.next(actor) else { return };
        if let Some(items) = object["items"].as_array() {
            known.retain(|key, _| key.0 != sent.plural);
            for item in items {
                put(known, &sent.plural, item);
            }
        } else {
            // The answer to a write may come after the event that the object is gone.
            let before = known.get(&key(&sent.plural, object));
            let is_known = before.is_some_and(|before| before["metadata"]["uid"] == object["metadata"]["uid"]);
            if is_known || (before.is_none() && sent.method == http::Method::POST) {
                put(known, &sent.plural, object);
            }
        }
    }

    pub fn event(&mut self, actor: &str, sent: &Sent, event: &Value) {
        if !sent.is_of_controller() || !KINDS.contains(&sent.plural.as_str()) {
            return;
        }
        let Some(known) = self.next(actor) else { return };
        let object = &event["object"];
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => put(known, &sent.plural, object),
            Some("DELETED") => drop(known.remove(&key(&sent.plural, object))),
            _ => {}
        }
    }

    /// Another state of a replica, which is the last one so far.
    fn next(&mut self, actor: &str) -> Option<&mut Known> {
        let states = self.delivered.entry(actor.to_owned()).or_default();
        let next = states.back().cloned().unwrap_or_default();
        if states.len() >= REMEMBERED {
            states.pop_front();
        }
        states.push_back(next);
        states.back_mut()
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
        let states = self.delivered.get(&sent.actor);
        let mut states = states.into_iter().flatten().rev();
        let found = states.find(|known| is_plan_of(&plan, known, sent));
        match found {
            Some(known) => same_as_model(&plan, known, sent),
            None => Err(format!("3: {sent} writes a plan of no state that was delivered to it: {plan:?}")),
        }
    }
}

fn key(plural: &str, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (plural.to_owned(), text("namespace"), text("name"))
}

fn put(known: &mut Known, plural: &str, object: &Value) {
    let key = key(plural, object);
    let version =
        |object: &Value| object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse::<u64>().ok());
    if known.get(&key).is_none_or(|before| version(before) <= version(object)) {
        known.insert(Arc::new(key), Arc::new(object.clone()));
    }
}

fn objects(known: &Known) -> Objects {
    fn of<K: DeserializeOwned>(known: &Known, plural: &str) -> Vec<K> {
        let those = known.iter().filter(|(key, _)| key.0 == plural);
        those.filter_map(|(_, object)| serde_json::from_value(Value::clone(object)).ok()).collect()
    }
    let ends = |object: &Value| !object["metadata"]["deletionTimestamp"].is_null();
    let namespaces = known.iter().filter(|(key, object)| key.0 == "namespaces" && ends(object));
    Objects {
        data_centers: of(known, "datacenters"),
        networks: of(known, "networks"),
        bonds: of(known, "iscsibonds"),
        hosts: of(known, "hosts"),
        terminating_namespaces: namespaces.map(|(key, _)| key.2.clone()).collect(),
    }
}

/// Whether the planner gives a Host this plan in a state.
fn is_plan_of(plan: &PlanStatus, known: &Known, sent: &Sent) -> bool {
    let key = ("hosts".to_owned(), sent.namespace.clone(), sent.name.clone());
    let ends = known.get(&key).is_some_and(|host| !host["metadata"]["deletionTimestamp"].is_null());
    if ends && plan.paths.is_empty() && plan.hold.is_empty() {
        return true;
    }
    let report = plan_all(&objects(known));
    let host = report.hosts.iter().find(|host| *host.name == *sent.name && *host.namespace == *sent.namespace);
    host.is_some_and(|host| {
        // An earlier plan gives way to one that holds everything until the interfaces are known.
        let holds = host.plan.reason == Some(EmptyReason::InterfacesUnknown) && !plan.hold.is_empty();
        (holds && plan.paths.is_empty()) || PlanStatus { sequence: plan.sequence, ..host.plan.to_status() } == *plan
    })
}

/// Whether the model, which shares no code with the planner, gives it the same paths.
fn same_as_model(plan: &PlanStatus, known: &Known, sent: &Sent) -> Result<(), String> {
    let objects = objects(known);
    let of = |host: &&Host| host.metadata.name.as_deref() == Some(&sent.name);
    let Some(host) = objects.hosts.iter().find(of) else { return Ok(()) };
    let report = plan_all(&objects);
    let Some(planned) = report.hosts.iter().find(|planned| *planned.name == *sent.name) else { return Ok(()) };
    if planned.plan.reason.is_some() {
        return Ok(());
    }
    let expected = model::outcomes(&objects, &host.spec.data_center, &planned.plan.networks);
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
