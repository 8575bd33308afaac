//! What must hold at every step, whatever happens. docs/dev/simulation.md lists the invariants by number.

mod deletions;
mod io;
mod leading;
mod plans;
mod sent;
mod writers;

use std::{collections::BTreeMap, sync::Arc};

use multibond::agent::initiator::simulated::SimulatedHost;
use serde_json::Value;

use super::api::{ApiServer, Response};
pub use sent::Sent;

/// Everything that the invariants remember.
#[derive(Default)]
pub struct Invariants {
    /// How many requests have changed something but leases.
    pub writes: u64,
    deletions: deletions::Deletions,
    io: io::Io,
    leading: leading::Leading,
    plans: plans::Plans,
    writers: writers::Writers,
}

impl Invariants {
    /// A request of an actor begins.
    pub fn request_begins(&mut self, sent: &Sent) -> Result<(), String> {
        self.leading.begins(sent)?;
        self.deletions.begins(sent, &self.plans)?;
        writers::begins(sent)
    }

    /// The API server has carried out a request of an actor.
    pub fn answered(&mut self, sent: &Sent, response: &Response, api: &ApiServer) -> Result<(), String> {
        let Response::Object { code: 200..300, .. } = response else { return Ok(()) };
        if sent.is_read {
            return Ok(());
        }
        if sent.plural != "leases" {
            self.writes += 1;
        }
        self.leading.written(sent)?;
        self.writers.written(sent, api)?;
        self.plans.written(sent, api)
    }

    /// The answer to a request reaches its sender.
    pub fn delivered(&mut self, actor: &str, sent: &Sent, object: &Value) {
        self.plans.delivered(actor, sent, object);
    }

    /// An event of a watch reaches an actor.
    pub fn event(&mut self, actor: &str, sent: &Sent, event: &Value) {
        self.plans.event(actor, sent, event);
        self.deletions.event(actor, sent, event);
    }

    /// The fabric has changed: what is lost by that is nobody's fault.
    pub fn fabric_changed(&mut self) {
        self.io.forget();
    }

    /// Something may have changed on the hosts.
    pub fn hosts(&mut self, hosts: &BTreeMap<String, Arc<SimulatedHost>>) -> Result<(), String> {
        self.io.check(hosts)
    }
}
