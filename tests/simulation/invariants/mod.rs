//! What must hold at every step, whatever happens. docs/dev/simulation.md lists the invariants by number.

mod deletions;
mod io;
mod leading;
mod memory;
mod neighbours;
mod plans;
mod sent;
mod writers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::FutureExt as _;
use multibond::agent::{
    initiator::{Initiator as _, simulated::SimulatedHost},
    types::IscsiPath,
};
use serde_json::Value;
use tokio::sync::watch;

use super::api::{ApiServer, Response};
pub use memory::{Memory, PATHS};
pub use sent::Sent;

/// Everything that the invariants remember.
#[derive(Default)]
pub struct Invariants {
    /// How many requests have changed something but leases.
    pub writes: u64,
    /// How often each actor has read or watched something but leases.
    pub reads: BTreeMap<String, u64>,
    /// Whether each host may have changed.
    changes: BTreeMap<String, watch::Receiver<()>>,
    deletions: deletions::Deletions,
    io: io::Io,
    leading: leading::Leading,
    pub memory: Memory,
    neighbours: neighbours::Neighbours,
    plans: plans::Plans,
    writers: writers::Writers,
}

impl Invariants {
    /// A request of an actor begins.
    pub fn request_begins(&mut self, sent: &Sent) -> Result<(), String> {
        if sent.is_read && sent.plural != "leases" {
            *self.reads.entry(sent.actor.clone()).or_default() += 1;
        }
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
        self.changes.values_mut().for_each(watch::Receiver::mark_changed);
        self.io.forget();
    }

    /// A neighbour on a node logs in or out.
    pub fn neighbour(&mut self, node: &str, change: impl FnOnce(&mut BTreeSet<IscsiPath>) -> bool) {
        self.neighbours.change(node, change);
    }

    /// Something may have changed on the hosts, and in what is remembered.
    pub fn hosts(&mut self, hosts: &BTreeMap<String, Arc<SimulatedHost>>) -> Result<(), String> {
        let none = BTreeSet::new();
        for (node, host) in hosts {
            if !self.has_changed(node, host) {
                continue;
            }
            let read = host.inventory(&none).now_or_never().and_then(Result::ok);
            let inventory = read.ok_or("the host cannot be read")?;
            self.io.look(node, host, &inventory)?;
            self.neighbours.look(node, &inventory)?;
        }
        self.memory.check()
    }

    /// Whether a host may have changed since this was asked last.
    fn has_changed(&mut self, node: &str, host: &SimulatedHost) -> bool {
        if let Some(changes) = self.changes.get_mut(node) {
            let changed = changes.has_changed().unwrap_or(true);
            changes.mark_unchanged();
            return changed;
        }
        self.changes.insert(node.to_owned(), host.changes());
        true
    }
}
