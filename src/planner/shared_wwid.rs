//! Disks of different storages that dm-multipath takes for one.
//!
//! Multipath combines disks by their WWID, which is whatever a target says. A target that presents the WWID of another
//! array's LUN, by mistake or on purpose, becomes a path to that LUN: reads and writes go to it. An array that presents one
//! LUN through several targets is not meant: these targets are listed in one storage.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Host, HostWarning, MultipathMap, StorageName, reason::PreparedReason};

use super::plan::HostPlan;

/// Warns of each multipath map with paths of targets that the plan has in different storages.
#[must_use]
pub fn shared_wwid_warnings(host: &Host, plan: &HostPlan) -> Vec<HostWarning> {
    let Some(status) = &host.status else { return Vec::new() };
    // The entries of a map are next to each other, because the agent sorts them by WWID.
    let shared = status.multipath.chunk_by(|a, b| a.wwid == b.wwid).filter(|entries| entries.len() > 1);
    let mut warnings = Vec::new();
    for entries in shared {
        let storage_of: BTreeMap<&str, &StorageName> =
            plan.paths.iter().map(|path| (path.target.as_str(), &path.storage)).collect();
        let storage = |entry: &MultipathMap| storage_of.get(entry.target.as_str()).copied();
        let storages: BTreeSet<&StorageName> = entries.iter().filter_map(storage).collect();
        if storages.len() < 2 {
            continue;
        }
        let members: Vec<String> = entries
            .iter()
            .filter_map(|entry| {
                let storage = storage(entry)?;
                Some(format!("{} of {} (storage {storage})", entry.disks.join(" "), entry.target))
            })
            .collect();
        let message = format!(
            "multipath map {} combines disks of different storages: {}; if they are one array, list the targets in one \
             storage; if not, one of them presents the WWID of the other's LUN and gets its I/O: take that target out",
            entries[0].wwid,
            members.join(", ")
        );
        warnings.push(HostWarning { reason: PreparedReason::SharedWWID, message });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{HostSpec, HostStatus, PlannedPath};

    /// The warnings of a host whose only map has paths of targets `a` and `b`.
    fn warnings(storage_of_b: &str) -> Vec<HostWarning> {
        let entry = |target: &str, disk: &str| MultipathMap {
            wwid: "3600a".into(),
            target: target.into(),
            paths: 1,
            active: 1,
            disks: vec![disk.into()],
        };
        let mut host = Host::new("worker-1", HostSpec::default());
        let multipath = vec![entry("iqn.a", "sda"), entry("iqn.b", "sdb")];
        host.status = Some(HostStatus { multipath, ..HostStatus::default() });
        let path = |target: &str, storage: &str| PlannedPath {
            target: target.into(),
            portal: "10.0.1.10:3260".into(),
            tpgt: 1,
            interface: None,
            network: None,
            storage: storage.into(),
            bonds: Vec::new(),
            chap_secret: None,
        };
        let paths = vec![path("iqn.a", "array-a"), path("iqn.b", storage_of_b)];
        shared_wwid_warnings(&host, &HostPlan { paths: paths.into(), ..HostPlan::default() })
    }

    #[test]
    fn a_map_over_disks_of_two_storages_is_named_with_disks_and_targets() {
        let warnings = warnings("array-b");
        assert_eq!(warnings[0].reason, PreparedReason::SharedWWID);
        let expected = "multipath map 3600a combines disks of different storages: sda of iqn.a (storage array-a), \
                        sdb of iqn.b (storage array-b); ";
        assert!(warnings[0].message.starts_with(expected), "{}", warnings[0].message);
    }

    #[test]
    fn targets_of_one_storage_may_present_one_lun() {
        assert_eq!(warnings("array-a"), []);
    }
}
