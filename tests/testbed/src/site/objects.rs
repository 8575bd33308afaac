//! Fields of objects that tests read.

use serde_json::Value;

/// A Host's phase; empty when it has none.
pub fn phase(host: &Value) -> &str {
    host["status"]["phase"].as_str().unwrap_or_default()
}

/// A condition of an object; `null` when it has none of this type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    let conditions = object["status"]["conditions"].as_array();
    conditions.and_then(|list| list.iter().find(|condition| condition["type"] == kind)).unwrap_or(&NONE)
}

/// Whether an object is Ready in its newest generation.
pub fn ready(object: &Value) -> bool {
    condition(object, "Ready")["status"] == "True"
        && object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// The reason of a condition.
pub fn reason<'a>(object: &'a Value, kind: &str) -> &'a str {
    condition(object, kind)["reason"].as_str().unwrap_or_default()
}

/// The connections of a host as `portal interface state`; `-` stands for the default network.
pub fn paths(host: &Value) -> Vec<String> {
    let connections = host["status"]["connections"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |c: &Value| format!("{} {} {}", text(&c["portal"]), text(&c["interface"]), text(&c["state"]));
    connections.iter().map(line).collect()
}

/// The sessions that a host reports, in the order of its paths.
pub fn sessions(host: &Value) -> Vec<u64> {
    let connections = host["status"]["connections"].as_array().map(Vec::as_slice).unwrap_or_default();
    connections.iter().filter_map(|connection| connection["sessionID"].as_u64()).collect()
}
