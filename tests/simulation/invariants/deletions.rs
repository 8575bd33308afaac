//! Invariant 6: the finalizer of a Host goes only when its agent has carried out the empty plan, is silent, or had its time.

use std::{collections::BTreeMap, time::Duration};

use http::Method;
use jiff::Timestamp;
use multibond::api::FINALIZER;
use serde_json::Value;

use super::{Sent, plans::Plans};
use crate::{actors::DELETION_TIMEOUT, clock};

/// An agent certainly counts as alive whose renewals have come for this long without such a pause.
const ALIVE_FOR: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_secs(30);

/// The renewals that each replica has seen.
#[derive(Default)]
pub struct Deletions(BTreeMap<(String, String), Renewals>);

/// Renewals without a long pause.
struct Renewals {
    first: Duration,
    last: Duration,
}

impl Deletions {
    pub fn event(&mut self, actor: &str, sent: &Sent, event: &Value) {
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        let Some(node) = name.strip_prefix("agent-").filter(|_| sent.plural == "leases") else { return };
        let now = clock::elapsed();
        let seen = self.0.entry((actor.to_owned(), node.to_owned())).or_insert(Renewals { first: now, last: now });
        if now > seen.last + PAUSE {
            seen.first = now;
        }
        seen.last = now;
    }

    pub fn begins(&self, sent: &Sent, plans: &Plans) -> Result<(), String> {
        let ours = |value: &Value| value.as_array().is_some_and(|all| all.iter().any(|name| name == FINALIZER));
        let is_removal = |op: &Value| op["op"] == "add" && op["path"] == "/metadata/finalizers" && !ours(&op["value"]);
        let removes = sent.body.as_array().is_some_and(|ops| ops.iter().any(is_removal));
        if sent.plural != "hosts" || sent.method != Method::PATCH || !sent.is_of_controller() || !removes {
            return Ok(());
        }
        let Some(host) = plans.host(sent) else { return Ok(()) };
        let node = host["spec"]["nodeName"].as_str().unwrap_or_default();
        // Another Host may have had the node when this was decided.
        if plans.hosts_of(&sent.actor, node).any(|hosts| hosts.len() > 1) {
            return Ok(());
        }
        let now = clock::elapsed();
        let seen = self.0.get(&(sent.actor.clone(), node.to_owned()));
        let ago = |at| now.saturating_sub(at);
        let alive = seen.is_some_and(|seen| ago(seen.first) >= ALIVE_FOR && ago(seen.last) <= PAUSE);
        let since = host["metadata"]["deletionTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let waited = since.and_then(|since| Duration::try_from(clock::wall().duration_since(since)).ok());
        let plan = &host["status"]["plan"];
        let is_empty = plan["paths"].as_array().is_none_or(Vec::is_empty);
        let done = is_empty && host["status"]["agent"]["observedRevision"] == plan["revision"];
        if !alive || done || waited.is_none_or(|waited| waited >= DELETION_TIMEOUT) {
            return Ok(());
        }
        Err(format!("6: {sent} lets the Host go after {waited:?}, and its agent has not carried out: {plan}"))
    }
}
