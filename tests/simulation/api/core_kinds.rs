//! What the API server's code does with core kinds: which fields they have, their defaults, and what is refused.

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Node, Secret},
    events::v1::Event,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    kinds::Core,
    metadata,
    refusal::{Cause, Refused},
};

/// Brings an object into the form of its Go type: known fields only, times in its format, defaults.
pub fn decode(core: Core, object: &mut Value) -> Result<(), Refused> {
    let metadata = object["metadata"].take();
    object["metadata"] = json!({});
    match core {
        Core::Namespace => typed::<Namespace>(object),
        Core::Node => typed::<Node>(object),
        Core::Secret => typed::<Secret>(object),
        Core::Lease => typed::<Lease>(object),
        Core::Event => typed::<Event>(object),
    }?;
    object["metadata"] = metadata;
    set_defaults(core, object);
    Ok(())
}

fn typed<K: Serialize + DeserializeOwned>(object: &mut Value) -> Result<(), Refused> {
    let read: K = serde_json::from_value(object.take())
        .map_err(|error| Refused::bad_request(format!("cannot read the object: {error}")))?;
    *object = serde_json::to_value(read).map_err(|error| Refused::internal(error.to_string()))?;
    drop_empty(object);
    Ok(())
}

/// Go leaves out empty lists and maps, and keeps structs, which are those at the top.
fn drop_empty(object: &mut Value) {
    for part in object.as_object_mut().into_iter().flatten().map(|(_, part)| part) {
        if let Some(fields) = part.as_object_mut() {
            fields.retain(|_, value| {
                value.as_array().is_none_or(|list| !list.is_empty())
                    && value.as_object().is_none_or(|map| !map.is_empty())
            });
        }
    }
}

fn set_defaults(core: Core, object: &mut Value) {
    match core {
        Core::Node => {
            if object.get("spec").is_none() {
                object["spec"] = json!({});
            }
            let status = &mut object["status"];
            if status.get("daemonEndpoints").is_none() {
                status["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": 0}});
            }
            if status.get("nodeInfo").is_none() {
                let fields = [
                    "architecture",
                    "bootID",
                    "containerRuntimeVersion",
                    "kernelVersion",
                    "kubeProxyVersion",
                    "kubeletVersion",
                    "machineID",
                    "operatingSystem",
                    "osImage",
                    "systemUUID",
                ];
                status["nodeInfo"] = fields
                    .into_iter()
                    .map(|field| (field.to_owned(), json!("")))
                    .collect::<serde_json::Map<_, _>>()
                    .into();
            }
        }
        Core::Secret => {
            if object.get("type").is_none_or(|kind| kind == "") {
                object["type"] = json!("Opaque");
            }
            if object.get("data").is_some_and(|data| data.as_object().is_some_and(serde_json::Map::is_empty)) {
                object.as_object_mut().and_then(|fields| fields.remove("data"));
            }
        }
        Core::Lease => {
            if object.get("spec").is_none() {
                object["spec"] = json!({});
            }
        }
        Core::Namespace | Core::Event => {}
    }
}

/// Sets what a new object gets.
pub fn prepare_new(core: Core, object: &mut Value) {
    match core {
        Core::Namespace => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        Core::Node => {
            let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
            let taints = metadata::list(&object["spec"], "taints");
            if !taints.contains(&not_ready) {
                let taints: Vec<_> = taints.iter().cloned().chain([not_ready]).collect();
                object["spec"]["taints"] = taints.into();
            }
        }
        Core::Secret | Core::Lease | Core::Event => {}
    }
}

/// Keeps what a write of this part does not change.
pub fn prepare_update(core: Core, object: &mut Value, old: &Value, status: bool) {
    let kept = match core {
        Core::Node | Core::Namespace if status => "spec",
        Core::Node | Core::Namespace => "status",
        Core::Secret | Core::Lease | Core::Event => return,
    };
    object[kept] = old[kept].clone();
    if core == Core::Namespace {
        object["spec"]["finalizers"] = old["spec"]["finalizers"].clone();
    }
}

/// What is wrong with an object.
pub fn validate(core: Core, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    match core {
        Core::Namespace => Vec::new(),
        Core::Node => taints(metadata::list(&object["spec"], "taints")),
        Core::Secret => {
            let changed = old.is_some_and(|old| old["type"] != object["type"]);
            changed.then(|| Cause::new("FieldValueInvalid", "type", "field is immutable")).into_iter().collect()
        }
        Core::Lease => {
            let number = |field: &str| object["spec"][field].as_i64();
            let mut causes = Vec::new();
            if number("leaseDurationSeconds").is_some_and(|seconds| seconds <= 0) {
                causes.push(Cause::new("FieldValueInvalid", "spec.leaseDurationSeconds", "must be greater than 0"));
            }
            if number("leaseTransitions").is_some_and(|count| count < 0) {
                causes.push(Cause::new("FieldValueInvalid", "spec.leaseTransitions", "must not be negative"));
            }
            causes
        }
        Core::Event if old.is_some() => panic!("the model of the API server does not know how Events change"),
        Core::Event => event(object),
    }
}

fn taints(taints: &[Value]) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (at, taint) in taints.iter().enumerate() {
        let mut add = |reason, field: &str| {
            let place = if field.is_empty() {
                format!("metadata.taints[{at}]")
            } else {
                format!("metadata.taints[{at}].{field}")
            };
            causes.push(Cause::new(reason, place, "a valid taint is expected"));
        };
        if !matches!(taint["effect"].as_str(), Some("NoSchedule" | "PreferNoSchedule" | "NoExecute")) {
            add("FieldValueNotSupported", "effect");
        }
        let is_same = |other: &Value| (&other["key"], &other["effect"]) == (&taint["key"], &taint["effect"]);
        if taints[..at].iter().any(is_same) {
            add("FieldValueDuplicate", "");
        }
    }
    causes
}

fn event(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    if object.get("eventTime").is_none() {
        causes.push(Cause::new("FieldValueRequired", "eventTime", "it is required"));
    }
    for field in ["reportingController", "reportingInstance", "action", "reason"] {
        if text(field).is_empty() {
            causes.push(Cause::new("FieldValueRequired", field, "it is required"));
        }
    }
    for (field, place, most) in [
        ("reportingInstance", "reportingInstance", 128),
        ("action", "action", 128),
        ("reason", "reason", 128),
        ("note", "message", 1024),
    ] {
        if text(field).len() > most {
            causes.push(Cause::new("FieldValueInvalid", place, "it is too long"));
        }
    }
    if !matches!(text("type"), "Normal" | "Warning") {
        causes.push(Cause::new("FieldValueInvalid", "type", "it is neither Normal nor Warning"));
    }
    // The API server compares namespaces only where it knows the kind itself.
    let regarding = object["regarding"]["apiVersion"].as_str().unwrap_or_default();
    assert!(
        regarding.starts_with("multibond.dev/"),
        "the model of the API server knows Events on kinds of multibond.dev alone: {regarding:?}"
    );
    causes
}
