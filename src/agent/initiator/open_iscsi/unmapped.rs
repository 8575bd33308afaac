//! LUNs of our sessions with several disks and no multipath map: no path takes over for another.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::reader::Read;
use crate::{
    agent::host::sysfs::BlockDevice,
    api::{HostWarning, first_few, reason::PreparedReason},
};

/// The time that multipathd has to make a map of new disks.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
/// The most LUNs that a message names.
const SHOWN: usize = 3;

/// The LUNs without a map, and since when each has none.
#[derive(Debug, Default)]
pub(super) struct Unmapped {
    since: Mutex<BTreeMap<String, Instant>>,
}

/// A LUN with several disks and no map.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lun {
    wwid: String,
    disks: Vec<String>,
    /// The devices that are stacked on one of its disks.
    holders: Vec<String>,
}

impl Unmapped {
    /// The warning about LUNs that have had no map for a while. What cannot be read of a disk is left out: a warning is not
    /// worth a turn of the agent.
    pub(super) fn warning(&self, sys: &Path, read: &Read, now: Instant) -> Option<HostWarning> {
        let found = luns(sys, read);
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|wwid, _| found.iter().any(|lun| lun.wwid == *wwid));
        let is_settled = |lun: &&Lun| {
            let since = *since.entry(lun.wwid.clone()).or_insert(now);
            now.duration_since(since) >= SETTLES_WITHIN
        };
        let luns: Vec<&Lun> = found.iter().filter(is_settled).collect();
        (!luns.is_empty()).then(|| warning(&luns))
    }
}

/// The LUNs of our working sessions with several disks and no map.
fn luns(sys: &Path, read: &Read) -> Vec<Lun> {
    let mut disks: BTreeMap<&str, Vec<&BlockDevice>> = BTreeMap::new();
    let sessions = read.sessions.iter().zip(&read.inventory.sessions);
    for (entry, session) in sessions.filter(|(entry, _)| entry.is_own() && entry.is_live()) {
        for (device, disk) in entry.disks.iter().zip(&session.disks) {
            if let Some(wwid) = &disk.wwid {
                disks.entry(wwid).or_default().push(device);
            }
        }
    }
    luns_of(sys, disks)
}

fn luns_of(sys: &Path, disks: BTreeMap<&str, Vec<&BlockDevice>>) -> Vec<Lun> {
    let mut luns = Vec::new();
    for (wwid, disks) in disks.into_iter().filter(|(_, disks)| disks.len() > 1) {
        if let Ok(Some(holders)) = holders_without_map(sys, &disks) {
            let disks = disks.iter().map(|disk| disk.name.to_string()).collect();
            luns.push(Lun { wwid: wwid.to_owned(), disks, holders });
        }
    }
    luns
}

/// The devices that are stacked on these disks; `None` if a multipath map is among them.
fn holders_without_map(sys: &Path, disks: &[&BlockDevice]) -> io::Result<Option<Vec<String>>> {
    let mut names = Vec::new();
    for disk in disks {
        for holder in disk.holders(sys)? {
            if holder.map_uuid()?.is_some_and(|uuid| uuid.starts_with("mpath-")) {
                return Ok(None);
            }
            names.push(holder.name.to_string());
        }
    }
    Ok(Some(names))
}

fn warning(luns: &[&Lun]) -> HostWarning {
    let listed = first_few(luns, SHOWN, |lun| {
        let held = if lun.holders.is_empty() { String::new() } else { format!(", held by {}", lun.holders.join(" ")) };
        format!("{} (disks {}{held})", lun.wwid, lun.disks.join(" "))
    });
    let message = format!(
        "there is no multipath map over {listed}, so that no path takes over for another: a blacklist or find_multipaths \
         in /etc/multipath.conf hides the LUN (multipath -v3 -d says which), or something has taken one of its disks \
         directly; correct it, and run multipathd reconfigure"
    );
    HostWarning { reason: PreparedReason::Blacklisted, message }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::agent::initiator::open_iscsi::fixtures::FakeHost;

    const TARGET: &str = "iqn.2003-01.org.example:a";

    /// A host with one LUN through two sessions.
    fn two_disks() -> FakeHost {
        let host = FakeHost::new();
        host.session(1, "mb.ens1", TARGET, "10.0.1.10").disk(1, 0, "sda", "8:0");
        host.session(2, "mb.ens2", TARGET, "10.0.2.10").disk(2, 0, "sdb", "8:16");
        host.sysfs("block/sda/device/wwid", "naa.6001").sysfs("block/sdb/device/wwid", "naa.6001");
        host
    }

    fn messages(host: &FakeHost, seconds: &[u64]) -> Vec<Option<String>> {
        let (unmapped, start, sys) = (Unmapped::default(), Instant::now(), host.mount_points().sys);
        let at = |seconds: &u64| {
            let now = start + Duration::from_secs(*seconds);
            let read = host.reader().read(&BTreeSet::new()).unwrap();
            unmapped.warning(&sys, &read, now).map(|warning| warning.message)
        };
        seconds.iter().map(at).collect()
    }

    #[test]
    fn a55_a_lun_without_a_map_is_warned_about_after_half_a_minute() {
        let found = messages(&two_disks(), &[0, 29, 30]);
        assert_eq!(found[..2], [None, None], "multipathd may be about to make it");
        assert!(found[2].as_ref().unwrap().contains("36001 (disks sda sdb)"), "{found:?}");
    }

    #[test]
    fn a55_a_disk_that_something_else_has_taken_is_named_with_its_holder() {
        let mut host = two_disks();
        host.map(("dm-3", "253:3"), "vg-data", "LVM-1", 1, ("linear", ""));
        host.stack("dm-3", "sda");
        let found = messages(&host, &[0, 60]).remove(1).unwrap();
        assert!(found.contains("held by dm-3"), "{found}");
    }

    #[test]
    fn a_disk_that_does_not_tell_its_wwid_hides_no_other_lun() {
        let host = two_disks();
        host.session(3, "mb.ens1", "iqn.2003-01.org.example:b", "10.0.1.11").disk(3, 0, "sdc", "8:32");
        // A directory cannot be read as an attribute, as one for which the kernel has an error.
        host.sysfs("block/sdc/device/wwid/x", "");
        assert!(messages(&host, &[0, 60])[1].is_some());
    }

    #[test]
    fn a_lun_with_a_map_or_with_one_disk_is_no_problem() {
        let mut host = two_disks();
        host.map(("dm-0", "253:0"), "mpatha", "mpath-36001", 0, ("multipath", ""));
        host.stack("dm-0", "sda").stack("dm-0", "sdb");
        assert_eq!(messages(&host, &[0, 60]), [None, None]);
        let host = two_disks();
        host.set(2, "state", "FAILED");
        assert_eq!(messages(&host, &[0, 60]), [None, None], "the other session is lost");
    }
}
