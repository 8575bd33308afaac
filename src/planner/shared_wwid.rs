//! Disks of different storages that dm-multipath takes for one.
//!
//! Multipath combines disks by their WWID, which is whatever a target says. A target that presents the WWID of another
//! array's LUN, by mistake or on purpose, becomes a path to that LUN: reads and writes go to it. An array that presents one
//! LUN through several targets is not meant: these targets are listed in one storage, and one vendor has named them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::api::{Host, HostWarning, MultipathMap, StorageName, reason::PreparedReason};

use super::plan::HostPlan;

/// Warns of each multipath map over disks of targets that do not belong together: of different storages, or whose names are
/// of different naming authorities. A target that is not planned, such as one that was just taken out, belongs to the others
/// if it has their naming authority, or is held.
#[must_use]
pub fn shared_wwid_warnings(host: &Host, plan: &HostPlan) -> Vec<HostWarning> {
    let Some(status) = &host.status else { return Vec::new() };
    let storages: BTreeMap<&str, &StorageName> =
        plan.paths.iter().map(|path| (path.target.as_str(), &path.storage)).collect();
    // Nobody says to which storage the target of a session belongs that is only kept.
    let is_held = |target: &str| !storages.contains_key(target) && plan.hold.iter().any(|held| held == target);
    let mut warnings = Vec::new();
    // The entries of a map are next to each other, because the agent sorts them by WWID.
    for map in status.multipath.chunk_by(|a, b| a.wwid == b.wwid) {
        let disks: Vec<Disks> = map
            .iter()
            .filter(|entry| !is_held(&entry.target))
            .map(|entry| Disks { entry, storage: storages.get(entry.target.as_str()).copied() })
            .collect();
        let owners: BTreeSet<_> = disks.iter().filter_map(|disks| disks.storage).collect();
        let authorities: BTreeSet<_> = disks.iter().filter_map(Disks::naming_authority).collect();
        if owners.len() > 1 || authorities.len() > 1 {
            warnings.push(HostWarning { reason: PreparedReason::SharedWWID, message: message(&map[0].wwid, &disks) });
        }
    }
    warnings
}

/// The disks that a target has in a map.
struct Disks<'a> {
    entry: &'a MultipathMap,
    /// The storage that the plan has the target in.
    storage: Option<&'a StorageName>,
}

impl Disks<'_> {
    /// Who chose the target's name (RFC 7143, section 4.2.7.4): the date, and the first two labels of the domain. What follows
    /// may be the array's or a host's name, as in `iqn.2003-01.org.linux-iscsi.HOST`. All targets of an array have the same.
    /// The other forms of names do not tell.
    fn naming_authority(&self) -> Option<&str> {
        let authority = self.entry.target.strip_prefix("iqn.")?.split(':').next()?;
        let end = authority.match_indices('.').nth(2).map_or(authority.len(), |(at, _)| at);
        authority.get(..end)
    }
}

impl fmt::Display for Disks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ", self.entry.disks.join(" "), self.entry.target)?;
        match self.storage {
            Some(storage) => write!(f, "(storage {storage})"),
            None => f.write_str("(not planned)"),
        }
    }
}

fn message(wwid: &str, disks: &[Disks<'_>]) -> String {
    let members: Vec<String> = disks.iter().map(ToString::to_string).collect();
    let members = members.join(", ");
    let storages: BTreeSet<_> = disks.iter().filter_map(|member| member.storage).collect();
    if storages.len() < 2 {
        format!(
            "multipath map {wwid} combines disks of targets whose names are of different naming authorities: {members}; an \
             array has one; unless these are one array, one of them presents the WWID of the other's LUN and gets its \
             I/O: take that target out"
        )
    } else {
        format!(
            "multipath map {wwid} combines disks of different storages: {members}; if they are one array, list the targets \
             in one storage; if not, one of them presents the WWID of the other's LUN and gets its I/O: take that target out"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{HostSpec, HostStatus, PlannedPath};

    /// The warnings of a host whose only map has disks of target `iqn.2003-01.org.example:a` in storage `array-a`, and of
    /// this target.
    fn warnings(target: &str, storage: Option<&str>, hold: &[&str]) -> Vec<HostWarning> {
        const FIRST: &str = "iqn.2003-01.org.example:a";
        let entry = |target: &str, disk: &str| MultipathMap {
            wwid: "3600a".into(),
            target: target.into(),
            paths: 1,
            active: 1,
            disks: vec![disk.into()],
        };
        let mut host = Host::new("worker-1", HostSpec::default());
        let multipath = vec![entry(FIRST, "sda"), entry(target, "sdb")];
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
        let second = storage.map(|storage| path(target, storage));
        let paths: Vec<PlannedPath> = [path(FIRST, "array-a")].into_iter().chain(second).collect();
        let hold = hold.iter().map(|target| (*target).into()).collect();
        shared_wwid_warnings(&host, &HostPlan { paths: paths.into(), hold, ..HostPlan::default() })
    }

    const SECOND: &str = "iqn.2003-01.org.example:b";
    const OF_ANOTHER: &str = "iqn.2020-07.net.evil:b";

    #[test]
    fn a_map_over_disks_of_two_storages_is_named_with_disks_and_targets() {
        let warnings = warnings(SECOND, Some("array-b"), &[]);
        assert_eq!(warnings[0].reason, PreparedReason::SharedWWID);
        let expected = "multipath map 3600a combines disks of different storages: sda of iqn.2003-01.org.example:a \
                        (storage array-a), sdb of iqn.2003-01.org.example:b (storage array-b); ";
        assert!(warnings[0].message.starts_with(expected), "{}", warnings[0].message);
    }

    #[test]
    fn targets_of_one_storage_may_present_one_lun() {
        assert_eq!(warnings(SECOND, Some("array-a"), &[]), []);
        assert_eq!(warnings("naa.52004567ba64678d", None, &["naa.52004567ba64678d"]), []);
    }

    #[test]
    fn a_target_that_somebody_else_has_named_is_told_apart_in_one_storage() {
        let warnings = warnings(OF_ANOTHER, Some("array-a"), &[]);
        assert!(warnings[0].message.contains("of different naming authorities"), "{warnings:?}");
    }

    #[test]
    fn a_target_of_somebody_else_that_is_not_planned_counts_unless_it_is_held() {
        let warned = warnings(OF_ANOTHER, None, &[]);
        assert!(warned[0].message.contains("sdb of iqn.2020-07.net.evil:b (not planned)"), "{warned:?}");
        assert_eq!(warnings(OF_ANOTHER, None, &[OF_ANOTHER]), []);
    }

    #[test]
    fn a_target_of_the_same_array_that_was_taken_out_is_no_problem() {
        assert_eq!(warnings(SECOND, None, &[]), []);
    }

    #[test]
    fn hosts_that_one_vendor_has_named_may_be_one_storage() {
        assert_eq!(warnings("iqn.2003-01.org.example.head-2.x8664:sn.1", Some("array-a"), &[]), []);
    }
}
