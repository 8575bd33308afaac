//! Plans that are too large, and the limits. They are far above what a data center needs. Without them an edit in one
//! namespace could take the memory and the time of the controller from all others.

use std::fmt;

use crate::api::size::{AGENT_ROOM, CONTROLLER_ROOM};

/// The largest number of bonds of a data center that plans are made from.
pub const MAX_BONDS: usize = 4096;
/// The largest number of networks of a data center that plans are made from.
pub const MAX_NETWORKS: usize = 1024;
/// The largest number of targets that bonds list and no storage has, of a data center that plans are made from.
pub const MAX_UNKNOWN_TARGETS: usize = 4096;
/// How often a plan may name a bond: at each path that the bond asks for, and with each network of the bond that the
/// host carries.
pub const MAX_BOND_NAMES: usize = 16_384;
/// The steps that one plan may take, each a few machine instructions.
pub const MAX_STEPS: usize = 1 << 24;

/// Why there is no plan: it would be too large. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanTooLarge {
    /// The data center has more bonds than plans are made from.
    Bonds(usize),
    /// The data center has more networks than plans are made from.
    Networks(usize),
    /// The bonds list more targets that no storage has than plans are made from.
    UnknownTargets(usize),
    /// The plan names bonds too often.
    BondNames(usize),
    /// A Host has no room for the plan, or for the agent's report on it.
    Size {
        /// The number of paths.
        paths: usize,
        /// The bytes that the controller's fields of the status need.
        plan: usize,
        /// The bytes that the agent's fields need.
        report: usize,
    },
    /// To pair portals and networks takes too many steps.
    Steps,
}

impl fmt::Display for PlanTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanTooLarge::Bonds(bonds) => write!(
                f,
                "the data center has {bonds} bonds, and plans are made from at most {MAX_BONDS}: join bonds that name the same networks, or divide the data center"
            ),
            PlanTooLarge::Networks(networks) => write!(
                f,
                "the data center has {networks} Networks, and plans are made from at most {MAX_NETWORKS}: delete those that no bond names, or divide the data center"
            ),
            PlanTooLarge::UnknownTargets(targets) => write!(
                f,
                "the bonds list {targets} targets that no storage has, and plans are made from at most {MAX_UNKNOWN_TARGETS}: correct spec.targets of the bonds"
            ),
            PlanTooLarge::BondNames(names) => write!(
                f,
                "the plan would name bonds {names} times, at its paths and with their networks, and may do so {MAX_BOND_NAMES} times: let fewer bonds name the same networks for the same targets"
            ),
            PlanTooLarge::Size { paths, plan, report } => write!(
                f,
                "the plan has {paths} paths and needs about {} kB, and the agent's report on it about {} kB; a Host has room for {} kB and {} kB: let the host's bonds have fewer networks or targets, or use pairing Auto",
                plan / 1000,
                report / 1000,
                CONTROLLER_ROOM / 1000,
                AGENT_ROOM / 1000
            ),
            PlanTooLarge::Steps => write!(
                f,
                "the data center has too many bonds, networks and portals to pair them for this host: let the bonds name fewer networks, or divide the data center"
            ),
        }
    }
}
