//! Invariant 5: nobody writes what is another's, and nothing of a deleted object is written to its successor,
//! and nothing is created twice.

use std::collections::BTreeSet;

use http::Method;
use multibond::api::AGENT_STATUS_FIELDS;
use serde_json::Value;

use super::Sent;
use crate::api::ApiServer;

/// A write names the object that it means by its uid, or by its version.
pub fn begins(sent: &Sent) -> Result<(), String> {
    let changes = [Method::PATCH, Method::PUT, Method::DELETE].contains(&sent.method);
    if !changes || (sent.plural == "leases" && sent.node().is_some()) {
        return Ok(());
    }
    let tests = |path: &str| {
        let ops = sent.body.as_array();
        ops.is_some_and(|ops| ops.iter().any(|op| op["op"] == "test" && op["path"] == path && !op["value"].is_null()))
    };
    let names = |field: &str| !sent.body["metadata"][field].is_null() || !sent.body["preconditions"][field].is_null();
    if tests("/metadata/uid") || names("uid") || names("resourceVersion") {
        return Ok(());
    }
    Err(format!("5: {sent} does not say which object it means: {}", sent.body))
}

/// What was written once.
#[derive(Default)]
pub struct Writers {
    /// The Events, as they were sent.
    events: BTreeSet<String>,
}

impl Writers {
    pub fn written(&mut self, sent: &Sent, api: &ApiServer) -> Result<(), String> {
        // A later Event about the same has another time.
        if sent.plural == "events" && sent.method == Method::POST && !self.events.insert(sent.body.to_string()) {
            return Err(format!("5: {sent} creates an Event twice: {}", sent.body));
        }
        is_its_own(sent, api)
    }
}

/// An agent writes its part of the Hosts that name its node, and its lease.
fn is_its_own(sent: &Sent, api: &ApiServer) -> Result<(), String> {
    let Some(node) = sent.node() else { return Ok(()) };
    let may = match sent.plural.as_str() {
        "leases" => sent.name == format!("agent-{node}") || sent.body["metadata"]["name"] == format!("agent-{node}"),
        "hosts" if sent.is_status => {
            let host = api.object("hosts", &sent.namespace, &sent.name);
            let fields = sent.body.as_array().into_iter().flatten().filter(|op| op["op"] != "test");
            let may = |op: &Value| {
                let path = op["path"].as_str().unwrap_or_default();
                let field = path.strip_prefix("/status/").and_then(|rest| rest.split('/').next());
                field.is_some_and(|field| AGENT_STATUS_FIELDS.contains(&field)) || path == "/status"
            };
            host.is_some_and(|host| host["spec"]["nodeName"] == node) && fields.into_iter().all(may)
        }
        _ => false,
    };
    if may { Ok(()) } else { Err(format!("5: {sent} writes what is not its own: {}", sent.body)) }
}
