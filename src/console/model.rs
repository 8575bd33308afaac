//! The model: the objects from the watches, in the form that pages and forms need.

use std::sync::Arc;

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;

use super::location::DataCenterRef;
use crate::api::{DataCenter, Host, IscsiBond, Network};
use crate::planner::Objects;
use crate::status_view::{DataCenterView, Snapshot, StatusView};

/// The objects of the cluster as pages and forms read them.
pub struct Model {
    /// The objects, and what could not be read.
    pub snapshot: Snapshot,
    /// The status of the same objects, by data center.
    pub status_view: StatusView,
    /// Events about these objects.
    pub events: Vec<Arc<Event>>,
}

impl Model {
    /// Builds the model from the objects that were read.
    pub fn new(snapshot: Snapshot, events: Vec<Arc<Event>>) -> Model {
        Model { status_view: StatusView::from(&snapshot), snapshot, events }
    }

    /// The status of a data center, also of one that does not exist but is named by other objects.
    pub fn view(&self, dc: &DataCenterRef) -> Option<&DataCenterView> {
        let same = |view: &&DataCenterView| (&view.namespace, &view.name) == (&dc.namespace, &dc.name);
        self.status_view.data_centers.iter().find(same)
    }

    /// The `DataCenter` object.
    pub fn data_center(&self, dc: &DataCenterRef) -> Option<&DataCenter> {
        let mut data_centers = self.snapshot.data_centers.iter().map(Arc::as_ref);
        data_centers.find(|it: &&DataCenter| is(*it, &dc.namespace, &dc.name))
    }

    /// The networks of a data center, by name.
    pub fn networks(&self, dc: &DataCenterRef) -> Vec<&Network> {
        let ours = |it: &&Network| it.namespace().as_deref() == Some(&*dc.namespace) && it.spec.data_center == dc.name;
        self.snapshot.networks.iter().map(Arc::as_ref).filter(ours).collect()
    }

    /// A network of a data center.
    pub fn network(&self, dc: &DataCenterRef, name: &str) -> Option<&Network> {
        self.networks(dc).into_iter().find(|it| it.name_any() == name)
    }

    /// A bond of a data center.
    pub fn bond(&self, dc: &DataCenterRef, name: &str) -> Option<&IscsiBond> {
        let mut bonds = self.snapshot.bonds.iter().map(Arc::as_ref);
        bonds.find(|it| is(*it, &dc.namespace, name) && it.spec.data_center == dc.name)
    }

    /// A host of a data center.
    pub fn host(&self, dc: &DataCenterRef, name: &str) -> Option<&Host> {
        let mut hosts = self.snapshot.hosts.iter().map(Arc::as_ref);
        hosts.find(|it| is(*it, &dc.namespace, name) && it.spec.data_center == dc.name)
    }

    /// A copy of the objects for the planner.
    pub fn objects(&self) -> Objects {
        let Snapshot { data_centers, networks, bonds, hosts, unreadable: _ } = &self.snapshot;
        Objects {
            data_centers: owned(data_centers),
            networks: owned(networks),
            bonds: owned(bonds),
            hosts: owned(hosts),
            ..Objects::default()
        }
    }
}

fn is<K: kube::ResourceExt>(object: &K, namespace: &str, name: &str) -> bool {
    object.namespace().as_deref() == Some(namespace) && object.meta().name.as_deref() == Some(name)
}

fn owned<K: Clone>(objects: &[Arc<K>]) -> Vec<K> {
    objects.iter().map(|object| K::clone(object)).collect()
}
