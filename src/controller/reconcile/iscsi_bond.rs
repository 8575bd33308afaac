//! An `IscsiBond`: whether its networks exist and lead somewhere, and how its hosts stand.

use crate::{
    api::{
        BondHostCounts, BondNetwork, IscsiBond, IscsiBondStatus, ObjectKey, Summary,
        condition::{self, Status, Verdict},
        reason::{ConditionType, Reason},
    },
    controller::{
        index::World,
        reconcile::{
            action::{Action, Announcement, Outcome},
            aggregate::{BondSums, Sums},
        },
        store::watched::is_being_deleted,
    },
    ops::Now,
    planner::{Findings, Kind, bond_problems},
};

/// Decides for one bond. A bond that is being deleted needs nothing: gone is gone.
pub(crate) fn reconcile(world: &World, key: &ObjectKey, now: Now) -> Outcome {
    let Some(bond) = world.bonds.get(key) else { return Outcome::default() };
    if is_being_deleted(&bond.metadata) || world.bonds.get_undecodable(key).is_some() {
        return Outcome::default();
    }
    let nothing = IscsiBondStatus::default();
    let current = bond.status.as_ref().unwrap_or(&nothing);
    let desired = status(world, key, bond, current, now);
    if desired == *current {
        return Outcome::default();
    }
    let uid = &bond.metadata.uid;
    let announcement = announcement(world, key, &current.hosts, &desired.hosts);
    let write = Action::write_status(Kind::IscsiBond, key, &desired, uid.clone(), announcement);
    Outcome { actions: vec![write], recheck_at: None }
}

fn status(world: &World, key: &ObjectKey, bond: &IscsiBond, current: &IscsiBondStatus, now: Now) -> IscsiBondStatus {
    let center = key.beside(bond.spec.data_center.as_str());
    let sums = world.sums(&center);
    let own = sums.as_deref().and_then(|sums| sums.bonds.get(&key.name));
    let (hosts, paths) = own.map(|own| (own.hosts, own.paths)).unwrap_or_default();
    let exists = |name: &str| {
        world.networks.get(&key.beside(name)).is_some_and(|network| network.metadata.deletion_timestamp.is_none())
    };
    let usage = sums.as_deref().map(|sums| &sums.usage);
    let findings = bond_problems(bond, world.view(&center).as_deref(), usage, &exists);
    let verdicts = conditions(bond, &findings, sums.as_deref(), own, world.frozen(&center));
    let generation = bond.metadata.generation;
    IscsiBondStatus {
        observed_generation: generation,
        hosts,
        paths,
        networks: networks(bond, sums.as_deref(), own),
        summary: Summary {
            hosts: Some(format!("{}/{}", hosts.connected, hosts.total)),
            paths: Some(format!("{}/{}", paths.connected, paths.desired)),
        },
        conditions: condition::merge(&current.conditions, verdicts, generation, now.wall),
    }
}

fn networks(bond: &IscsiBond, sums: Option<&Sums>, own: Option<&BondSums>) -> Vec<BondNetwork> {
    let of = |name: &String| BondNetwork {
        name: name.clone(),
        hosts: sums.and_then(|sums| sums.carriers.get(name.as_str()).copied()).unwrap_or(0),
        paths: own.and_then(|own| own.by_network.get(name.as_str()).copied()).unwrap_or(0),
    };
    bond.spec.networks.iter().map(of).collect()
}

fn conditions(
    bond: &IscsiBond,
    findings: &Findings,
    sums: Option<&Sums>,
    own: Option<&BondSums>,
    frozen: Option<String>,
) -> Vec<Verdict> {
    let resolved = resolved(bond, findings);
    // Until every host has its new plan, what the networks lead to is not known anew.
    let used = sums.is_none_or(|sums| sums.current).then(|| used(findings));
    let fully = fully_connected(findings, own);
    let ready =
        |status, reason: &'static str, message: &str| Verdict::new(ConditionType::Ready, status, reason, message);
    let ready = if let Some(message) = frozen {
        ready(Status::False, Reason::Frozen.into(), &message)
    } else if resolved.status != Status::True {
        ready(Status::False, resolved.reason, &resolved.message)
    } else if let Some(failing) = sums.map(|sums| &sums.non_operational).filter(|hosts| hosts.count > 0) {
        let message = format!("{} NonOperational: {failing}", counted(failing.count));
        ready(Status::False, Reason::HostsNonOperational.into(), &message)
    } else if sums.is_some_and(|sums| sums.pending > 0 || !sums.current) {
        // Not which are left, and how many: that would be a write for each.
        ready(Status::False, Reason::Progressing.into(), "hosts are connecting")
    } else {
        ready(Status::True, Reason::Ready.into(), "every host has what the bond asks for, as far as its paths allow")
    };
    [Some(resolved), used, Some(fully), Some(ready)].into_iter().flatten().collect()
}

fn used(findings: &Findings) -> Verdict {
    let kind = ConditionType::NetworksUsed;
    if let Some(message) = &findings.data_center_not_found {
        return Verdict::new(kind, Status::Unknown, Reason::DataCenterNotFound, message);
    }
    match findings.unused_message() {
        Some(message) => Verdict::new(kind, Status::False, Reason::NetworkWithoutPath, message),
        None => Verdict::new(kind, Status::True, Reason::Used, "every network leads to a portal"),
    }
}

fn counted(hosts: u32) -> String {
    if hosts == 1 { "1 host is".to_owned() } else { format!("{hosts} hosts are") }
}

fn resolved(bond: &IscsiBond, findings: &Findings) -> Verdict {
    let kind = ConditionType::NetworksResolved;
    if let Some(message) = &findings.data_center_not_found {
        return Verdict::new(kind, Status::False, Reason::DataCenterNotFound, message);
    }
    match findings.unresolved_message(bond) {
        Some((reason, message)) => Verdict::new(kind, Status::False, reason, message),
        None => Verdict::new(kind, Status::True, Reason::Resolved, "every network is part of the data center"),
    }
}

fn fully_connected(findings: &Findings, own: Option<&BondSums>) -> Verdict {
    let kind = ConditionType::FullyConnected;
    if let Some(message) = &findings.data_center_not_found {
        return Verdict::new(kind, Status::Unknown, Reason::DataCenterNotFound, message);
    }
    let Some(own) = own else {
        return Verdict::new(kind, Status::False, Reason::Connecting, "paths are being connected");
    };
    if own.failed > 0 {
        let first = own.degraded.as_deref().or(own.non_operational.as_deref()).unwrap_or("a host");
        return Verdict::new(
            kind,
            Status::False,
            Reason::PathsFailed,
            format!("paths have failed, the first on {first}"),
        );
    }
    if own.pending > 0 {
        return Verdict::new(kind, Status::False, Reason::Connecting, "paths are being connected");
    }
    if let Some(first) = &own.unknown {
        let message = format!("the agents of some hosts are silent, the first is that of {first}");
        return Verdict::new(kind, Status::Unknown, Reason::AgentSilent, message);
    }
    Verdict::new(kind, Status::True, Reason::AllPathsConnected, "every planned path is connected")
}

/// The first host that has a problem is news, and so is the last that had it; of two problems the worse.
fn announcement(world: &World, key: &ObjectKey, before: &BondHostCounts, now: &BondHostCounts) -> Option<Announcement> {
    let bond = world.bonds.get(key);
    let sums = bond.and_then(|bond| world.sums(&key.beside(bond.spec.data_center.as_str())));
    let own = sums.as_deref().and_then(|sums| sums.bonds.get(&key.name));
    let first = |name: Option<&String>| name.cloned().unwrap_or_default();
    let host = first(own.and_then(|own| own.non_operational.as_ref()));
    let degraded = first(own.and_then(|own| own.degraded.as_ref()));
    let failed = |counts: &BondHostCounts| counts.degraded + counts.non_operational > 0;
    let (warning, reason, note) = match (before.non_operational > 0, now.non_operational > 0) {
        (false, true) => (
            true,
            "HostsNonOperational",
            format!("host {host} is NonOperational: see its conditions for targets, portals and reasons"),
        ),
        (true, false) => {
            (false, "HostsOperational", "no host of the data center is NonOperational any more".to_owned())
        }
        (false, false) if !failed(before) && failed(now) => (
            true,
            "PathsFailed",
            format!("host {degraded} is Degraded: see its conditions for targets, portals and reasons"),
        ),
        (false, false) if failed(before) && !failed(now) => {
            (false, "PathsRecovered", "no path of the bond is failed any more".to_owned())
        }
        (false, false) | (true, true) => return None,
    };
    Some(Announcement { warning, reason, note })
}
