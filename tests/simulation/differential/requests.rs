//! Requests by chance: those of our clients and of users, on few names, so that they meet each other.

use multibond_testbed::Chance;
use serde_json::{Value, json};

use super::bodies;
use crate::api::{ApiServer, Key};

pub const NAMESPACES: [&str; 3] = ["one", "two", ENDS];
/// The namespace that is deleted in the end.
pub const ENDS: &str = "going";
pub const DATA_CENTERS: [&str; 3] = ["east", "west", "with.dot"];
pub const NETWORKS: [&str; 3] = ["san-a", "san-b", "san-c"];
pub const BONDS: [&str; 2] = ["storage", "backup"];
pub const HOSTS: [&str; 4] = ["h1", "h2", "h3", "Upper"];
pub const NODES: [&str; 3] = ["n1", "n2", "n3"];

const OURS: [&str; 4] = ["datacenters", "networks", "iscsibonds", "hosts"];
const FINALIZER: &str = "multibond.dev/disconnect";
const NOBODY: &str = "00000000-0000-4000-8000-00000000dead";

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// What is done next.
pub enum Step {
    Request {
        method: &'static str,
        path: String,
        content_type: &'static str,
        accept: &'static str,
        body: Value,
    },
    /// A new object without a name, which is deleted again.
    Generate {
        path: String,
        body: Value,
    },
    NextPage {
        path: String,
    },
    Watch {
        path: String,
        from_now: bool,
    },
}

impl Step {
    pub fn request(method: &'static str, path: impl Into<String>, body: Value) -> Self {
        Step::Request { method, path: path.into(), content_type: JSON, accept: JSON, body }
    }

    fn patch(path: impl AsRef<str>, content_type: &'static str, body: Value) -> Self {
        let path = format!("{}?fieldManager=multibond-test", path.as_ref());
        Step::Request { method: "PATCH", path, content_type, accept: JSON, body }
    }
}

/// The collection of a kind, in a namespace or in all.
fn collection(plural: &str, namespace: Option<&str>) -> String {
    let group = match plural {
        "nodes" | "secrets" | "namespaces" => "/api/v1",
        "leases" => "/apis/coordination.k8s.io/v1",
        "events" => "/apis/events.k8s.io/v1",
        _ => "/apis/multibond.dev/v1alpha1",
    };
    match namespace.filter(|_| !matches!(plural, "nodes" | "namespaces")) {
        Some(namespace) => format!("{group}/namespaces/{namespace}/{plural}"),
        None => format!("{group}/{plural}"),
    }
}

/// Objects with and without a finalizer in a namespace that is to end.
pub fn held(namespace: &str) -> Vec<Step> {
    let host = |name: &str, finalizers: Value| {
        let metadata = json!({"name": name, "finalizers": finalizers});
        json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host", "metadata": metadata,
            "spec": {"dataCenter": "east", "nodeName": name}})
    };
    let hosts = [host("held", json!([FINALIZER])), host("free", json!([]))];
    hosts.into_iter().map(|host| Step::request("POST", collection("hosts", Some(namespace)), host)).collect()
}

/// Requests in a namespace that is being deleted and where the object `held` is left.
pub fn too_late(namespace: &str) -> Vec<Step> {
    let path = format!("{}/held", collection("hosts", Some(namespace)));
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "late"},
        "spec": {"holderIdentity": "c-1"}});
    let put = Step::request("PUT", format!("{}/late", collection("leases", Some(namespace))), lease.clone());
    let post = Step::request("POST", collection("leases", Some(namespace)), lease);
    let patch = Step::patch(&path, MERGE, json!({"spec": {"maintenance": true}}));
    let delete = Step::request("DELETE", &path, json!({}));
    let again = Step::request("DELETE", format!("/api/v1/namespaces/{namespace}"), json!({}));
    held(namespace).into_iter().chain([put, post, patch, delete, again]).collect()
}

/// Patches that remove the finalizers of all objects of a namespace.
pub fn releases(model: &ApiServer, namespace: &str) -> Vec<Step> {
    let all = OURS.iter().chain(&["leases", "secrets", "events"]).flat_map(|plural| model.objects(plural));
    let here = all.filter(|(key, _)| key.namespace == namespace);
    here.map(|(key, _)| Step::patch(path_of(key), MERGE, json!({"metadata": {"finalizers": null}}))).collect()
}

/// Collections to watch from before their history. That of core kinds begins with the real server.
pub fn forgotten() -> Vec<String> {
    let namespaces = [None, Some("one")];
    namespaces.iter().flat_map(|namespace| OURS.map(|plural| collection(plural, *namespace))).collect()
}

/// Lists that show all that there is, but for Events and namespaces of the real server.
pub fn everything() -> Vec<String> {
    let mut paths: Vec<_> = OURS.iter().map(|plural| collection(plural, None)).collect();
    paths.push(collection("nodes", None));
    for namespace in NAMESPACES {
        paths.extend(["leases", "secrets"].map(|plural| collection(plural, Some(namespace))));
    }
    paths
}

/// An object of the model, if there is one.
fn object<'a>(chance: &mut Chance, model: &'a ApiServer, plural: &str) -> Option<(&'a Key, &'a Value)> {
    let all: Vec<_> = model.objects(plural).map(|(key, object)| (key, &**object)).collect();
    (!all.is_empty()).then(|| chance.one_of(&all))
}

/// Draws the next step.
pub fn draw(chance: &mut Chance, model: &ApiServer, page: Option<&str>) -> Step {
    let namespace = chance.one_of(&NAMESPACES);
    let plural = match chance.below(20) {
        0..=1 => "nodes",
        2..=3 => "leases",
        4 => "secrets",
        5 => "events",
        _ => chance.one_of(&OURS),
    };
    match chance.below(100) {
        0..19 => create(chance, model, plural, namespace),
        19 => generate(chance, namespace),
        20..26 => get(chance, plural, namespace),
        26..34 => list(chance, plural, namespace),
        34..36 => page.map_or_else(|| first_page(chance), |path| Step::NextPage { path: path.to_owned() }),
        36..38 => watch(chance, plural, namespace),
        38..48 => delete(chance, model, plural, namespace),
        // No client of ours changes an Event.
        _ if plural == "events" => create(chance, model, plural, namespace),
        48..58 => replace(chance, model, plural, namespace),
        _ => change(chance, model, plural),
    }
}

fn create(chance: &mut Chance, model: &ApiServer, plural: &'static str, namespace: &str) -> Step {
    let name = chance.one_of(bodies::names(plural));
    let mut body = if OURS.contains(&plural) {
        json!({"apiVersion": "multibond.dev/v1alpha1", "kind": kind(plural), "spec": bodies::spec(chance, plural),
            "status": {"phase": "Up"}})
    } else {
        bodies::core(chance, plural, namespace)
    };
    body["metadata"]["name"] = json!(name);
    match chance.below(12) {
        // An Event with a finalizer could not end: no client changes it.
        0 if plural != "events" => body["metadata"]["finalizers"] = json!([FINALIZER]),
        1 | 2 if OURS.contains(&plural) => body["metadata"]["ownerReferences"] = owners(chance, model, namespace),
        3 => body["metadata"]["labels"] = json!({"multibond.dev/made-for": chance.one_of(&["east", "not valid"])}),
        4 => body["metadata"]["annotations"] = json!({"a": "b", "empty": ""}),
        5 => body["metadata"]["resourceVersion"] = json!("1"),
        6 => body["metadata"]["uid"] = json!(NOBODY),
        7 => body["metadata"]["namespace"] = json!(chance.one_of(&NAMESPACES)),
        8 if OURS.contains(&plural) => drop(body.as_object_mut().unwrap().remove("spec")),
        _ => {}
    }
    if plural == "nodes" {
        body["metadata"].as_object_mut().unwrap().remove("namespace");
    }
    Step::request("POST", collection(plural, Some(namespace)), body)
}

fn generate(chance: &mut Chance, namespace: &str) -> Step {
    let plural = chance.one_of(&["events", "secrets", "leases"]);
    let mut body = bodies::core(chance, plural, namespace);
    let long = "n".repeat(61);
    body["metadata"]["generateName"] = json!(chance.one_of(&["h1-", &long]));
    Step::Generate { path: collection(plural, Some(namespace)), body }
}

fn kind(plural: &str) -> &'static str {
    match plural {
        "datacenters" => "DataCenter",
        "networks" => "Network",
        "iscsibonds" => "IscsiBond",
        _ => "Host",
    }
}

/// Owners in the namespace, or one that does not exist.
fn owners(chance: &mut Chance, model: &ApiServer, namespace: &str) -> Value {
    let there: Vec<_> = model.objects("datacenters").filter(|(key, _)| key.namespace == namespace).collect();
    let reference = |name: &str, uid: &Value| json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "DataCenter", "name": name, "uid": uid});
    let mut owners: Vec<_> = there.iter().map(|(key, owner)| reference(&key.name, &owner["metadata"]["uid"])).collect();
    chance.shuffle(&mut owners);
    owners.truncate(2);
    match chance.below(8) {
        0 => owners.push(reference("nobody", &json!(NOBODY))),
        1 => owners.push(json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "DataCenter", "name": "", "uid": ""})),
        2 => owners.iter_mut().for_each(|owner| owner["controller"] = json!(true)),
        _ => {}
    }
    owners.into()
}

fn get(chance: &mut Chance, plural: &str, namespace: &str) -> Step {
    let (namespace, plural) = if chance.below(10) == 0 { (namespace, "namespaces") } else { (namespace, plural) };
    let name = if plural == "namespaces" { namespace } else { chance.one_of(bodies::names(plural)) };
    let path = format!("{}/{name}", collection(plural, Some(namespace)));
    let accept = if chance.below(4) == 0 { METADATA } else { JSON };
    Step::Request { method: "GET", path, content_type: JSON, accept, body: Value::Null }
}

fn list(chance: &mut Chance, plural: &str, namespace: &str) -> Step {
    // The real server has leases and Events of its own elsewhere.
    let everywhere = OURS.contains(&plural) && chance.below(2) == 0;
    let path = format!("{}{}", collection(plural, (!everywhere).then_some(namespace)), selector(chance, plural));
    let accept = if chance.below(4) == 0 { METADATA_LIST } else { JSON };
    Step::Request { method: "GET", path, content_type: JSON, accept, body: Value::Null }
}

fn selector(chance: &mut Chance, plural: &str) -> String {
    let name = chance.one_of(bodies::names(plural));
    match (chance.below(8), plural) {
        (0, _) => format!("?fieldSelector=metadata.name%3D{name}"),
        (1, "hosts") => format!("?fieldSelector=spec.nodeName%3D{}", chance.one_of(&NODES)),
        (2, "hosts") => "?fieldSelector=status.phase%3DUp".to_owned(),
        (1, "networks" | "iscsibonds") => "?fieldSelector=spec.dataCenter%3Deast,metadata.namespace%3Done".to_owned(),
        (3, "hosts" | "datacenters") => "?fieldSelector=spec.unknown%3D1".to_owned(),
        (4, _) => "?labelSelector=multibond.dev/made-for%3Deast".to_owned(),
        (5, _) => "?limit=500".to_owned(),
        (6, _) => "?resourceVersion=0".to_owned(),
        _ => String::new(),
    }
}

fn first_page(chance: &mut Chance) -> Step {
    let path = collection(chance.one_of(&OURS), None);
    Step::request("GET", format!("{path}?limit={}", 1 + chance.below(3)), Value::Null)
}

fn watch(chance: &mut Chance, plural: &str, namespace: &str) -> Step {
    let everywhere = OURS.contains(&plural) && chance.below(2) == 0;
    let selector = loop {
        let selector = selector(chance, plural);
        if !selector.contains("limit") && !selector.contains("resourceVersion") {
            break selector;
        }
    };
    let path = format!("{}{selector}", collection(plural, (!everywhere).then_some(namespace)));
    Step::Watch { path, from_now: chance.below(3) > 0 }
}

fn path_of(key: &Key) -> String {
    format!("{}/{}", collection(key.plural, Some(&key.namespace)), key.name)
}

fn delete(chance: &mut Chance, model: &ApiServer, plural: &'static str, namespace: &str) -> Step {
    let found = object(chance, model, plural).filter(|_| chance.below(6) > 0);
    let Some((key, found)) = found else {
        let path = format!("{}/{}", collection(plural, Some(namespace)), chance.one_of(bodies::names(plural)));
        return Step::request("DELETE", path, json!({}));
    };
    let metadata = &found["metadata"];
    let body = match chance.below(6) {
        0 => json!({}),
        1 => json!({"preconditions": {"uid": NOBODY}}),
        2 => json!({"preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}}),
        3 => json!({"preconditions": {"resourceVersion": "1"}}),
        _ => json!({"propagationPolicy": "Background", "preconditions": {"uid": metadata["uid"]}}),
    };
    Step::request("DELETE", path_of(key), body)
}

fn replace(chance: &mut Chance, model: &ApiServer, plural: &'static str, namespace: &str) -> Step {
    let Some((key, found)) = object(chance, model, plural) else {
        return create(chance, model, plural, namespace);
    };
    let (mut body, mut path) = (found.clone(), path_of(key));
    match (plural, chance.below(3)) {
        ("leases", _) => body["spec"] = bodies::lease_spec(chance),
        ("nodes", _) => body["spec"]["taints"] = bodies::taints(chance),
        ("secrets", 0) => body["type"] = json!("Opaque"),
        ("secrets", _) => body["data"] = json!({"user": "Yw=="}),
        (_, 0) => body["spec"] = bodies::spec(chance, plural),
        (_, 1) => {
            for (field, value) in bodies::status_fields(chance, plural) {
                body["status"][field] = value;
            }
            path += "/status";
        }
        _ => {}
    }
    let metadata = body["metadata"].as_object_mut().unwrap();
    match chance.below(12) {
        0 => metadata["resourceVersion"] = json!("1"),
        1 => drop(metadata.remove("resourceVersion")),
        2 => metadata["uid"] = json!(NOBODY),
        3 => metadata["name"] = json!("other"),
        // Only by the uid the real server gets its own time of deletion.
        4 if !metadata.contains_key("deletionTimestamp") => drop(metadata.remove("uid")),
        5 => drop(metadata.remove("finalizers")),
        6 => drop(metadata.insert("labels".to_owned(), json!({"a": "b"}))),
        7 => drop(metadata.insert("generation".to_owned(), json!(77))),
        8 if path.ends_with("/status") => {}
        8 => {
            let missing = chance.one_of(bodies::names(plural));
            metadata["name"] = json!(missing);
            path = format!("{}/{missing}", collection(plural, Some(&key.namespace)));
        }
        _ => {}
    }
    Step::request("PUT", path, body)
}

/// A patch.
fn change(chance: &mut Chance, model: &ApiServer, plural: &'static str) -> Step {
    let Some((key, found)) = object(chance, model, plural) else {
        return Step::patch(format!("{}/a", collection(plural, Some("one"))), MERGE, json!({"metadata": {}}));
    };
    let path = path_of(key);
    let metadata = &found["metadata"];
    let uid = if chance.below(8) == 0 { json!(NOBODY) } else { metadata["uid"].clone() };
    let version = if chance.below(8) == 0 { json!("1") } else { metadata["resourceVersion"].clone() };
    match plural {
        "nodes" => return change_node(chance, path, &uid, &version),
        "leases" => {
            let spec = json!({"holderIdentity": key.name, "leaseDurationSeconds": 40,
                "renewTime": bodies::lease_spec(chance)["renewTime"]});
            return Step::patch(path, MERGE, json!({"spec": spec}));
        }
        "secrets" => return Step::patch(path, MERGE, json!({"data": {"user": chance.one_of(&[None, Some("ZA==")])}})),
        _ => {}
    }
    match chance.below(16) {
        0..6 => {
            let test = json!({"op": "test", "path": "/metadata/uid", "value": uid});
            let fields = bodies::status_fields(chance, plural).into_iter();
            let add =
                fields.map(|(name, value)| json!({"op": "add", "path": format!("/status/{name}"), "value": value}));
            Step::patch(path + "/status", JSON_PATCH, std::iter::once(test).chain(add).collect())
        }
        6..8 => Step::patch(path, JSON_PATCH, finalizers(chance, metadata, &uid)),
        8 => {
            let owners = owners(chance, model, &key.namespace);
            let body = json!({"metadata": {"ownerReferences": owners, "resourceVersion": version}});
            Step::patch(path, MERGE, body)
        }
        9 => {
            let since = chance.one_of(&[None, Some("2026-01-02T03:04:05Z")]);
            let annotations = json!({"multibond.dev/node-gone-since": since});
            Step::patch(path, MERGE, json!({"metadata": {"uid": uid, "annotations": annotations}}))
        }
        10 => {
            let data_center = chance.one_of(&DATA_CENTERS);
            Step::patch(path, MERGE, json!({"metadata": {"uid": uid}, "spec": {"dataCenter": data_center}}))
        }
        11 => {
            let element = format!("/spec/networks/{}", chance.below(3));
            let network = chance.one_of(&NETWORKS);
            let operations = json!([{"op": "test", "path": "/metadata/uid", "value": uid},
                {"op": "test", "path": element, "value": network}, {"op": "remove", "path": element}]);
            Step::patch(path, JSON_PATCH, operations)
        }
        12 => {
            let fields: serde_json::Map<_, _> = bodies::status_fields(chance, plural)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            let body = json!({"metadata": {"uid": uid, "labels": {"a": "b"}}, "status": fields});
            Step::patch(path + "/status", MERGE, body)
        }
        13 => Step::patch(path, MERGE, json!({"spec": bodies::spec(chance, plural), "status": {"phase": "Up"}})),
        14 => Step::patch(path, STRATEGIC, json!({"spec": {"maintenance": true}})),
        _ => odd_patch(chance, path),
    }
}

fn finalizers(chance: &mut Chance, metadata: &Value, uid: &Value) -> Value {
    let now = metadata["finalizers"].clone();
    let before = if chance.below(6) == 0 { json!(["multibond.dev/other"]) } else { now.clone() };
    let after = match chance.below(4) {
        0 => json!([FINALIZER, "example.org/other"]),
        1 => json!([FINALIZER]),
        _ => json!([]),
    };
    json!([{"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/metadata/finalizers", "value": before},
        {"op": "add", "path": "/metadata/finalizers", "value": after}])
}

/// A patch that a client of ours does not send, but that a mistake could make.
fn odd_patch(chance: &mut Chance, path: String) -> Step {
    match chance.below(7) {
        0 => Step::patch(path, JSON_PATCH, json!([{"op": "remove", "path": "/spec/missing"}])),
        1 => Step::patch(path, JSON_PATCH, json!([{"op": "replace", "path": "/spec/missing", "value": 1}])),
        2 => Step::patch(path, JSON_PATCH, json!([{"op": "add", "path": "/spec/missing/deeper", "value": 1}])),
        3 => Step::patch(path, JSON_PATCH, json!([{"op": "test", "path": "/spec/missing/deeper", "value": null}])),
        4 => Step::patch(path, MERGE, json!({"metadata": {"name": "other"}})),
        5 => Step::patch(path, MERGE, json!({"metadata": {"finalizers": ["unqualified name"]}})),
        _ => Step::patch(path, MERGE, json!({"metadata": {"deletionTimestamp": null, "resourceVersion": null}})),
    }
}

fn change_node(chance: &mut Chance, path: String, uid: &Value, version: &Value) -> Step {
    match chance.below(4) {
        0 | 1 => {
            let body = json!({"metadata": {"uid": uid}, "status": {"conditions": [bodies::node_condition(chance)]}});
            Step::patch(path + "/status", STRATEGIC, body)
        }
        2 => {
            let body = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": bodies::taints(chance)}});
            Step::patch(path, MERGE, body)
        }
        _ => Step::patch(path, MERGE, json!({"metadata": {"labels": {"zone": chance.one_of(&[None, Some("a")])}}})),
    }
}
