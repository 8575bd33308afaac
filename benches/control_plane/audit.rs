//! Counts writes by user, from the API server's audit log.

use multibond_testbed::{ControlPlane, Write};

/// The numbers of writes in a period.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writes {
    /// Statuses of Hosts by the controller.
    pub by_controller: usize,
    /// Statuses of Hosts by agents.
    pub by_agents: usize,
    /// Writes by both to anything else, without leases.
    pub other: usize,
    /// Writes that were refused with a conflict.
    pub conflicts: usize,
}

/// Counts from the end of the last count.
pub struct Audit {
    controller: String,
    counted: usize,
    enabled: bool,
}

impl Audit {
    /// `controller` is the user name of the controller; everybody else is an agent or the bench itself.
    pub fn new(controller: String, enabled: bool) -> Self {
        Audit { controller, counted: 0, enabled }
    }

    /// Writes in a namespace, and those of Nodes, since the last call. Those of the bench are none: it writes no
    /// status.
    pub fn count(&mut self, cluster: &ControlPlane, namespace: &str) -> Writes {
        let mut counts = Writes::default();
        if !self.enabled {
            return counts;
        }
        let all = cluster.writes().unwrap();
        for write in &all[self.counted..] {
            self.add(&mut counts, write, namespace);
        }
        self.counted = all.len();
        counts
    }

    fn add(&self, counts: &mut Writes, write: &Write, namespace: &str) {
        let ours = write.user == self.controller;
        let status = write.subresource == "status";
        if write.resource == "leases" || (write.namespace != namespace && !write.namespace.is_empty()) {
            return;
        }
        counts.conflicts += usize::from(write.code == 409);
        match (write.resource.as_str(), status, ours) {
            ("hosts", true, true) => counts.by_controller += 1,
            ("hosts", true, false) => counts.by_agents += 1,
            (_, _, true) => counts.other += 1,
            (_, _, false) => {}
        }
    }
}
