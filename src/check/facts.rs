//! What a cluster was asked, and what it has said.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment},
        core::v1::Namespace,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::version::Info,
};
use kube::{Resource, api::ObjectMeta};

use super::{Finding, rights::Right};
use crate::{
    api::{DataCenter, Host, IscsiBond, LeasePart, Network, NodePart},
    ops::errors::{ErrorReason, brief},
};

/// What was asked for, or why it is not known.
pub(crate) type Seen<T> = Result<T, Unseen>;

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// It was not asked for, because the API server does not answer.
    Unasked,
    /// Whoever asks may not see it: what was to be done, such as `list nodes`.
    Forbidden(String),
    /// The API server does not know the kind.
    UnknownKind,
    /// What was to be done, and what went wrong.
    Failed(String),
}

impl Unseen {
    /// Why it is not known, when doing `what` has led to this error.
    pub(crate) fn new(what: &str, error: &kube::Error) -> Self {
        match ErrorReason::from(error) {
            ErrorReason::Forbidden => Unseen::Forbidden(what.to_owned()),
            ErrorReason::NotFound => Unseen::UnknownKind,
            ErrorReason::Conflict
            | ErrorReason::Invalid
            | ErrorReason::Overloaded
            | ErrorReason::Unreachable
            | ErrorReason::Undecodable
            | ErrorReason::Other => Unseen::Failed(format!("cannot {what}: {}", brief(error))),
        }
    }

    /// Only a failure is a fault of the cluster.
    pub(crate) fn finding(&self) -> Finding {
        match self {
            Unseen::Failed(_) => Finding::error(self.to_string()),
            Unseen::Unasked | Unseen::Forbidden(_) | Unseen::UnknownKind => Finding::skipped(self.to_string()),
        }
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unseen::Unasked => f.write_str("the API server does not answer"),
            Unseen::Forbidden(what) => write!(f, "you may not {what}"),
            Unseen::UnknownKind => f.write_str("its CRD is not there"),
            Unseen::Failed(why) => f.write_str(why),
        }
    }
}

/// The objects of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Listed<K> {
    /// Those that can be decoded.
    pub objects: Vec<K>,
    /// Those that cannot, and why.
    pub broken: Vec<(ObjectMeta, String)>,
}

impl<K: Resource> Listed<K> {
    /// The metadata of all of them.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = &ObjectMeta> {
        self.objects.iter().map(Resource::meta).chain(self.broken.iter().map(|(metadata, _)| metadata))
    }
}

/// What is known of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Where the release is, or is to be: the namespace of its pods and leases.
    pub namespace: String,
    /// The time by the API server's clock: this machine's may be wrong.
    pub now: Timestamp,
    /// What the API server is.
    pub server: Seen<Info>,
    /// Whether it serves `ValidatingAdmissionPolicies`.
    pub policies: Seen<bool>,
    /// What whoever asks may do; asked before an installation only.
    pub rights: Seen<Vec<(Right, bool)>>,
    /// The release's namespace.
    pub home: Seen<Option<Namespace>>,
    /// Those of our CRDs that are there.
    pub definitions: Seen<Vec<CustomResourceDefinition>>,
    /// Names of the admission policies that are there and bound.
    pub policies_in_force: Seen<Vec<String>>,
    /// The controller's Deployment.
    pub controller: Seen<Option<Deployment>>,
    /// The agents' `DaemonSet`.
    pub agents: Seen<Option<DaemonSet>>,
    /// The leases in the release's namespace: the leader's and the agents'.
    pub leases: Seen<Vec<LeasePart>>,
    /// All Nodes.
    pub nodes: Seen<Vec<NodePart>>,
    /// All data centers.
    pub data_centers: Seen<Listed<DataCenter>>,
    /// All networks.
    pub networks: Seen<Listed<Network>>,
    /// All hosts.
    pub hosts: Seen<Listed<Host>>,
    /// All bonds.
    pub bonds: Seen<Listed<IscsiBond>>,
}

impl Facts {
    /// Nothing is known yet.
    pub(crate) fn unasked(namespace: &str, now: Timestamp) -> Self {
        Facts {
            namespace: namespace.to_owned(),
            now,
            server: Err(Unseen::Unasked),
            policies: Err(Unseen::Unasked),
            rights: Err(Unseen::Unasked),
            home: Err(Unseen::Unasked),
            definitions: Err(Unseen::Unasked),
            policies_in_force: Err(Unseen::Unasked),
            controller: Err(Unseen::Unasked),
            agents: Err(Unseen::Unasked),
            leases: Err(Unseen::Unasked),
            nodes: Err(Unseen::Unasked),
            data_centers: Err(Unseen::Unasked),
            networks: Err(Unseen::Unasked),
            hosts: Err(Unseen::Unasked),
            bonds: Err(Unseen::Unasked),
        }
    }
}
