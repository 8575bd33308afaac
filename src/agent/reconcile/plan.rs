//! A host's plan as the agent uses it: a map by path.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    agent::{initiator::Session, types::IscsiPath},
    api::{InterfaceName, Iqn, NetworkName, PlanStatus, PlannedPath, Portal, Revision, SecretName, SessionSettings},
};

/// The plan of a host: the paths to connect, and the targets to leave alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The version of the plan.
    pub version: PlanVersion,
    /// Targets whose sessions are left as they are.
    /// If the portals are known that such a target has, only sessions at these.
    pub hold: BTreeMap<Iqn, Option<BTreeSet<Portal>>>,
    /// The settings of every session.
    pub settings: SessionSettings,
    /// The paths, with the parameters of a login for each.
    pub paths: BTreeMap<IscsiPath, LoginParams>,
    /// Nothing is logged out or deleted for it, because it may be out of date: it is the last plan of a cold start.
    pub only_connects: bool,
}

/// Identifies a plan among all that were written to one Host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanVersion {
    /// Equal for plans that ask for the same.
    pub revision: Revision,
    /// Counts the plans, so that a plan that comes back has another version than before.
    pub sequence: i64,
}

/// The parameters of a login besides its path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LoginParams {
    /// The network of the path; none for the default network.
    pub network: Option<NetworkName>,
    /// The Secret with the target's CHAP credentials.
    pub chap_secret: Option<SecretName>,
    /// The only portal group tag that the target may answer; none if it may answer any.
    pub only_tpgt: Option<u16>,
}

impl From<&PlanStatus> for Plan {
    fn from(status: &PlanStatus) -> Self {
        let PlanStatus { revision, sequence, hold, hold_portals, no_network: _, session, paths } = status;
        let known: BTreeMap<&Iqn, &[Portal]> =
            hold_portals.iter().map(|held| (&held.target, held.portals.as_slice())).collect();
        let portals = |target: &Iqn| Some(known.get(target)?.iter().cloned().collect());
        Plan {
            version: PlanVersion { revision: revision.clone(), sequence: *sequence },
            hold: hold.iter().map(|target| (target.clone(), portals(target))).collect(),
            settings: *session,
            paths: paths.iter().map(|path| (IscsiPath::from(path), LoginParams::from(path))).collect(),
            only_connects: false,
        }
    }
}

impl From<&PlannedPath> for LoginParams {
    fn from(path: &PlannedPath) -> Self {
        LoginParams {
            network: path.network.clone(),
            chap_secret: path.chap_secret.clone(),
            only_tpgt: path.only_tpgt(),
        }
    }
}

impl Plan {
    /// The names of the Secrets that the plan needs.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<SecretName> {
        self.paths.values().filter_map(|params| params.chap_secret.clone()).collect()
    }

    /// The devices that the plan's paths go through.
    #[must_use]
    pub fn interfaces(&self) -> BTreeSet<InterfaceName> {
        self.paths.keys().filter_map(|path| path.interface.clone()).collect()
    }

    /// The other paths to the target of a path, through the same device.
    #[must_use]
    pub fn siblings(&self, path: &IscsiPath) -> BTreeSet<IscsiPath> {
        // Paths are sorted by target, then by portal.
        let first = IscsiPath { target: path.target.clone(), portal: "".into(), interface: None };
        let of_target =
            self.paths.range(first..).map(|(other, _)| other).take_while(|other| other.target == path.target);
        of_target.filter(|other| other.interface == path.interface && *other != path).cloned().collect()
    }

    /// Whether a session stays as it is, planned or not. A portal of the plan with a DNS name may be that of any session:
    /// whoever writes a portal otherwise takes no session out.
    #[must_use]
    pub fn holds(&self, session: &Session) -> bool {
        let is_among = |portals: &BTreeSet<Portal>| {
            [&session.path.portal, &session.dialled].iter().any(|portal| portals.contains(*portal))
                || portals.iter().any(Portal::has_name)
        };
        let portals = self.hold.get(&session.path.target);
        portals.is_some_and(|portals| portals.as_ref().is_none_or(is_among))
    }

    /// Whether some path leads to the target.
    #[must_use]
    pub fn has_target(&self, target: &str) -> bool {
        self.paths.keys().any(|path| *path.target == *target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::fixtures::{path, plan};

    #[test]
    fn siblings_have_the_target_and_the_device_of_a_path() {
        let (one, two) = (path("b", "1", "ens1"), path("b", "2", "ens1"));
        let others = [path("a", "1", "ens1"), path("b", "1", "ens2"), path("b", "1", "-"), path("c", "1", "ens1")];
        let plan = plan("r", &[&[one.clone(), two.clone()], &others[..]].concat());
        assert_eq!(plan.siblings(&one), BTreeSet::from([two]));
        assert_eq!(plan.siblings(&others[1]), BTreeSet::new());
    }
}
