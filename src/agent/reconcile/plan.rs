//! A host's plan, as the agent uses it: by path.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    agent::path::IscsiPath,
    api::{PlanStatus, SessionSettings},
};

/// What the controller wants of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Tells this plan from others, and from itself when it was written before.
    pub written: Written,
    /// Targets whose sessions are left as they are.
    pub hold: BTreeSet<Arc<str>>,
    /// Settings of every session.
    pub settings: SessionSettings,
    /// The paths, and what a login needs beside them.
    pub paths: BTreeMap<IscsiPath, Order>,
}

/// A plan as it was written once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// What it asks for.
    pub revision: String,
    /// Which of the plans written to this host it is.
    pub sequence: i64,
}

/// What a login needs beside its path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Order {
    /// The network that the path goes through; none for the default network.
    pub network: Option<Arc<str>>,
    /// The Secret with the target's credentials.
    pub chap_secret: Option<Arc<str>>,
}

impl From<&PlanStatus> for Plan {
    fn from(status: &PlanStatus) -> Self {
        let PlanStatus { revision, sequence, hold, no_network: _, session, paths } = status;
        let order = |path: &crate::api::PlannedPath| Order {
            network: path.network.clone(),
            chap_secret: path.chap_secret.clone(),
        };
        Plan {
            written: Written { revision: revision.clone(), sequence: *sequence },
            hold: hold.iter().cloned().collect(),
            settings: *session,
            paths: paths.iter().map(|path| (IscsiPath::from(path), order(path))).collect(),
        }
    }
}

impl Plan {
    /// The Secrets that the plan names.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<Arc<str>> {
        self.paths.values().filter_map(|order| order.chap_secret.clone()).collect()
    }

    /// The devices that the plan's paths go through.
    #[must_use]
    pub fn interfaces(&self) -> BTreeSet<Arc<str>> {
        self.paths.keys().filter_map(|path| path.interface.clone()).collect()
    }

    /// Whether some path leads to the target.
    #[must_use]
    pub fn has_target(&self, target: &str) -> bool {
        self.paths.keys().any(|path| *path.target == *target)
    }
}
