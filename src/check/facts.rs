//! The facts that the checks judge: what the API server answered to each question.

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

use super::{Finding, permissions::Permission};
use crate::{
    api::{DataCenter, Host, IscsiBond, LeasePart, Network, NodePart},
    ops::errors::{ErrorReason, brief},
};

/// An answer of the API server, or why there is none.
pub(crate) type Fact<T> = Result<T, Unavailable>;

/// Why a fact is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// It was not requested, because the API server does not answer.
    NotAsked,
    /// The caller lacks this permission, such as `list Nodes`.
    Forbidden(String),
    /// The API server does not know the kind: its CRD is missing.
    UnknownKind,
    /// The request failed; the text says which and why.
    Failed(String),
}

impl Unavailable {
    /// Classifies the error of a request; `what` describes the request, such as `list Nodes`.
    pub(crate) fn new(what: &str, error: &kube::Error) -> Self {
        match ErrorReason::from(error) {
            ErrorReason::Forbidden => Unavailable::Forbidden(what.to_owned()),
            ErrorReason::NotFound => Unavailable::UnknownKind,
            ErrorReason::Conflict
            | ErrorReason::Invalid
            | ErrorReason::Overloaded
            | ErrorReason::Unreachable
            | ErrorReason::Undecodable
            | ErrorReason::Other => Unavailable::Failed(format!("cannot {what}: {}", brief(error))),
        }
    }

    /// An error only for a failed request: a missing permission or kind is not a fault of the cluster.
    pub(crate) fn finding(&self) -> Finding {
        match self {
            Unavailable::Failed(_) => Finding::error(self.to_string()),
            Unavailable::NotAsked | Unavailable::Forbidden(_) | Unavailable::UnknownKind => {
                Finding::skipped(self.to_string())
            }
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::NotAsked => f.write_str("the API server does not answer"),
            Unavailable::Forbidden(what) => write!(f, "no permission to {what}"),
            Unavailable::UnknownKind => f.write_str("its CRD is missing"),
            Unavailable::Failed(why) => f.write_str(why),
        }
    }
}

/// The objects of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Listed<K> {
    /// The objects that can be decoded.
    pub objects: Vec<K>,
    /// The metadata of those that cannot, and the decoding error.
    pub broken: Vec<(ObjectMeta, String)>,
}

impl<K: Resource> Listed<K> {
    /// The metadata of all objects, decoded or not.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = &ObjectMeta> {
        self.objects.iter().map(Resource::meta).chain(self.broken.iter().map(|(metadata, _)| metadata))
    }
}

/// Everything that the checks need to know of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterFacts {
    /// The namespace of the release: of its pods and leases. It need not exist yet.
    pub namespace: String,
    /// The time of the API server's clock; the local clock may be wrong.
    pub now: Timestamp,
    /// The version of the API server.
    pub server: Fact<Info>,
    /// Whether the API server serves `ValidatingAdmissionPolicies`.
    pub policies: Fact<bool>,
    /// The caller's permissions; requested before an installation only.
    pub permissions: Fact<Vec<(Permission, bool)>>,
    /// The Namespace of the release, if it exists.
    pub release_namespace: Fact<Option<Namespace>>,
    /// The CRDs of Multibond that exist.
    pub definitions: Fact<Vec<CustomResourceDefinition>>,
    /// Names of the admission policies that exist and have a binding.
    pub policies_in_force: Fact<Vec<String>>,
    /// The controller's Deployment, if it exists.
    pub controller: Fact<Option<Deployment>>,
    /// The agents' `DaemonSet`, if it exists.
    pub agents: Fact<Option<DaemonSet>>,
    /// The leases in the release's namespace: the leader's and the agents'.
    pub leases: Fact<Vec<LeasePart>>,
    /// All Nodes.
    pub nodes: Fact<Vec<NodePart>>,
    /// All data centers.
    pub data_centers: Fact<Listed<DataCenter>>,
    /// All networks.
    pub networks: Fact<Listed<Network>>,
    /// All hosts.
    pub hosts: Fact<Listed<Host>>,
    /// All bonds.
    pub bonds: Fact<Listed<IscsiBond>>,
}

impl ClusterFacts {
    /// Facts of a cluster before the first request.
    pub(crate) fn not_asked(namespace: &str, now: Timestamp) -> Self {
        ClusterFacts {
            namespace: namespace.to_owned(),
            now,
            server: Err(Unavailable::NotAsked),
            policies: Err(Unavailable::NotAsked),
            permissions: Err(Unavailable::NotAsked),
            release_namespace: Err(Unavailable::NotAsked),
            definitions: Err(Unavailable::NotAsked),
            policies_in_force: Err(Unavailable::NotAsked),
            controller: Err(Unavailable::NotAsked),
            agents: Err(Unavailable::NotAsked),
            leases: Err(Unavailable::NotAsked),
            nodes: Err(Unavailable::NotAsked),
            data_centers: Err(Unavailable::NotAsked),
            networks: Err(Unavailable::NotAsked),
            hosts: Err(Unavailable::NotAsked),
            bonds: Err(Unavailable::NotAsked),
        }
    }
}
