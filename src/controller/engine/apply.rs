//! Carries out actions: one function, and one request, for each kind of action.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{ApiResource, DynamicObject, NamespaceResourceScope},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    events::{self, Source},
    leadership::Leadership,
};
use crate::{
    api::{
        CONTROLLER_MANAGER, DataCenter, Host, HostSpec, IscsiBond, LeasePart, MADE_FOR_LABEL, NODE_CONDITION,
        NODE_GONE_ANNOTATION, Network, NetworkName, NodePart, ObjectKey, ObjectKind,
    },
    controller::{
        reconcile::action::{Action, EventSpec, NodeCondition, StatusFields},
        store::{Written, watched::Watched},
    },
    ops::{
        Clock,
        patch::{json_patch, status_patch},
    },
};

/// The client and the settings that every request needs.
#[derive(Clone)]
pub(crate) struct Applier {
    pub client: Client,
    /// The name of this replica, for Events.
    pub identity: String,
    pub clock: Clock,
    /// The lead, which may end between the two requests of an action; none if nobody can have it.
    pub leadership: Option<Leadership>,
}

/// The answer to a write: the new version of the object, unless it is deleted or not needed.
type Answer = kube::Result<Option<Written>>;

impl Applier {
    /// Carries out one action.
    pub(crate) async fn apply(&self, action: Action) -> Answer {
        match action {
            Action::WriteStatus { kind, key, uid, fields, event } => {
                let written = self.write_status(kind, &key, uid.as_deref(), &fields).await?;
                if let Some(event) = event {
                    self.publish(kind, &key, uid, event).await;
                }
                Ok(Some(written))
            }
            Action::PublishEvent { kind, key, uid, event, once: true } => {
                events::publish_once(&self.client, self.source(), kind, &key, uid, event).await;
                Ok(None)
            }
            Action::PublishEvent { kind, key, uid, event, once: false } => {
                self.publish(kind, &key, uid, event).await;
                Ok(None)
            }
            Action::AnnounceStorm { uid, storm, event } => {
                let (kind, key) = (ObjectKind::DataCenter, &storm.data_center);
                events::publish(&self.client, self.source(), kind, key, uid, event).await.map(|()| None)
            }
            Action::SetFinalizers { kind, key, uid, before, after } => {
                self.set_finalizers(kind, &key, uid.as_deref(), &before, &after).await
            }
            Action::SetOwners { kind, key, owners, version } => self.set_owners(kind, &key, &owners, version).await,
            Action::DropNetwork { bond, uid, at, network, event } => {
                let written = self.drop_network(&bond, uid.as_deref(), at, &network).await?;
                self.publish(ObjectKind::IscsiBond, &bond, uid, event).await;
                Ok(written)
            }
            Action::Delete { kind, key, uid } => self.delete(kind, &key, uid).await,
            Action::DeleteLease { lease, uid, version } => self.delete_lease(&lease, uid, version).await,
            Action::CreateHost { key, data_center, node, owner } => {
                self.create_host(&key, data_center, node, owner).await
            }
            Action::MoveHost { key, uid, data_center, event } => {
                let body = json!({"metadata": {"uid": uid}, "spec": {"dataCenter": data_center}});
                let written = self.patch(ObjectKind::Host, &key, Part::Object, &Patch::Merge(body)).await?;
                self.publish(ObjectKind::Host, &key, uid, event).await;
                Ok(Some(written))
            }
            Action::NodeGone { key, uid, since } => self.note_node_gone(&key, uid.as_deref(), since).await,
            Action::NodeCondition { node, uid, condition } => {
                self.set_node_condition(&node, uid.as_deref(), condition).await
            }
            Action::NodeTaints { node, taints, version } => self.set_node_taints(&node, &taints, version).await,
        }
    }

    fn source(&self) -> Source<'_> {
        Source { instance: &self.identity, time: self.clock.wall() }
    }

    async fn publish(&self, kind: ObjectKind, key: &ObjectKey, uid: Option<String>, event: EventSpec) {
        if self.leadership.as_ref().is_some_and(|leadership| !leadership.is_leader()) {
            return;
        }
        // It is logged there, and must not hold up the write that the Event is about.
        let _ = events::publish(&self.client, self.source(), kind, key, uid, event).await;
    }

    async fn write_status(
        &self,
        kind: ObjectKind,
        key: &ObjectKey,
        uid: Option<&str>,
        fields: &StatusFields,
    ) -> kube::Result<Written> {
        self.patch(kind, key, Part::Status, &status_patch(uid, &fields.0)?).await
    }

    async fn set_finalizers(
        &self,
        kind: ObjectKind,
        key: &ObjectKey,
        uid: Option<&str>,
        before: &[String],
        after: &[String],
    ) -> Answer {
        let patch = json_patch(finalizer_patch(uid, before, after))?;
        self.patch(kind, key, Part::Object, &patch).await.map(Some)
    }

    async fn set_owners(
        &self,
        kind: ObjectKind,
        key: &ObjectKey,
        owners: &[OwnerReference],
        version: Option<String>,
    ) -> Answer {
        let body = json!({"metadata": {"ownerReferences": owners, "resourceVersion": version}});
        self.patch(kind, key, Part::Object, &Patch::Merge(body)).await.map(Some)
    }

    async fn drop_network(&self, bond: &ObjectKey, uid: Option<&str>, at: usize, network: &NetworkName) -> Answer {
        let element = format!("/spec/networks/{at}");
        let patch = json_patch(json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": element, "value": network},
            {"op": "remove", "path": element},
        ]))?;
        self.patch(ObjectKind::IscsiBond, bond, Part::Object, &patch).await.map(Some)
    }

    async fn delete(&self, kind: ObjectKind, key: &ObjectKey, uid: Option<String>) -> Answer {
        match kind {
            ObjectKind::DataCenter => self.delete_as::<DataCenter>(key, uid, Written::DataCenter).await,
            ObjectKind::Network => self.delete_as::<Network>(key, uid, Written::Network).await,
            ObjectKind::Host => self.delete_as::<Host>(key, uid, Written::Host).await,
            ObjectKind::IscsiBond => self.delete_as::<IscsiBond>(key, uid, Written::Bond).await,
        }
    }

    /// An object with finalizers is only marked for deletion, and is the answer.
    async fn delete_as<K>(
        &self,
        key: &ObjectKey,
        uid: Option<String>,
        written: impl Fn(Watched<K>) -> Written,
    ) -> Answer
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let preconditions = Some(Preconditions { uid, resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::background() };
        let api: Api<Watched<K>> = Api::namespaced(self.client.clone(), &key.namespace);
        api.delete(&key.name, &parameters).await.map(|answer| answer.left().map(written))
    }

    async fn delete_lease(&self, lease: &ObjectKey, uid: Option<String>, version: Option<String>) -> Answer {
        let preconditions = Some(Preconditions { uid, resource_version: version });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        let leases: Api<LeasePart> = Api::namespaced(self.client.clone(), &lease.namespace);
        leases.delete(&lease.name, &parameters).await.map(|_| None)
    }

    async fn create_host(&self, key: &ObjectKey, data_center: String, node: String, owner: OwnerReference) -> Answer {
        let spec = HostSpec { data_center: data_center.clone(), node_name: node, ..HostSpec::default() };
        let mut host = Host::new(&key.name, spec);
        host.metadata.labels = Some([(MADE_FOR_LABEL.to_owned(), data_center)].into());
        host.metadata.owner_references = Some(vec![owner]);
        // Only the fields that the controller owns: the API server sets the defaults of the others.
        let mut body = serde_json::to_value(&host).map_err(kube::Error::SerdeError)?;
        if let Some(spec) = body.get_mut("spec").and_then(Value::as_object_mut) {
            spec.retain(|field, _| field == "dataCenter" || field == "nodeName");
        }
        let host: DynamicObject = serde_json::from_value(body).map_err(kube::Error::SerdeError)?;
        let resource = ApiResource::erase::<Host>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let parameters = PostParams { field_manager: Some(CONTROLLER_MANAGER.to_owned()), ..PostParams::default() };
        match api.create(&parameters, &host).await {
            Ok(created) => {
                let created = serde_json::to_value(created).and_then(serde_json::from_value);
                Ok(created.ok().map(Written::Host))
            }
            // A user has created a Host of that name in the meantime. It is never changed.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn note_node_gone(&self, key: &ObjectKey, uid: Option<&str>, since: Option<Timestamp>) -> Answer {
        let since = since.map(|since| since.to_string());
        let body = json!({"metadata": {"uid": uid, "annotations": {NODE_GONE_ANNOTATION: since}}});
        self.patch(ObjectKind::Host, key, Part::Object, &Patch::Merge(body)).await.map(Some)
    }

    async fn set_node_condition(&self, node: &str, uid: Option<&str>, condition: Option<NodeCondition>) -> Answer {
        let condition = match condition {
            Some(NodeCondition { status, reason, message, since }) => json!({"type": NODE_CONDITION,
                "status": status, "reason": reason, "message": message,
                "lastTransitionTime": since, "lastHeartbeatTime": since}),
            None => json!({"type": NODE_CONDITION, "$patch": "delete"}),
        };
        let body = json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}});
        let node = self.nodes().patch_status(node, &parameters(), &Patch::Strategic(body)).await?;
        Ok(Some(Written::Node(node)))
    }

    async fn set_node_taints(&self, node: &str, taints: &[Taint], version: Option<String>) -> Answer {
        let body = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
        let node = self.nodes().patch(node, &parameters(), &Patch::Merge(body)).await?;
        Ok(Some(Written::Node(node)))
    }

    fn nodes(&self) -> Api<Watched<NodePart>> {
        Api::all(self.client.clone())
    }

    async fn patch(&self, kind: ObjectKind, key: &ObjectKey, part: Part, body: &Patch<Value>) -> kube::Result<Written> {
        Ok(match kind {
            ObjectKind::DataCenter => Written::DataCenter(self.patch_as(key, part, body).await?),
            ObjectKind::Network => Written::Network(self.patch_as(key, part, body).await?),
            ObjectKind::Host => Written::Host(self.patch_as(key, part, body).await?),
            ObjectKind::IscsiBond => Written::Bond(self.patch_as(key, part, body).await?),
        })
    }

    async fn patch_as<K>(&self, key: &ObjectKey, part: Part, body: &Patch<Value>) -> kube::Result<Watched<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<Watched<K>> = Api::namespaced(self.client.clone(), &key.namespace);
        match part {
            Part::Object => api.patch(&key.name, &parameters(), body).await,
            Part::Status => api.patch_status(&key.name, &parameters(), body).await,
        }
    }
}

/// The part of an object that a patch changes.
#[derive(Clone, Copy)]
enum Part {
    /// Metadata and spec.
    Object,
    /// The status subresource.
    Status,
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(CONTROLLER_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Replaces the finalizers of the object with this uid. It tests no resourceVersion: the agent's first report on a new
/// Host must not make the controller's finalizer conflict. Finalizers of others are not lost, since all are tested; if
/// there are none, the field is missing, which tests as null.
fn finalizer_patch(uid: Option<&str>, before: &[String], after: &[String]) -> Value {
    let before = (!before.is_empty()).then_some(before);
    json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/metadata/finalizers", "value": before},
        {"op": "add", "path": "/metadata/finalizers", "value": after},
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_patch_tests_the_uid_and_all_finalizers_only() {
        let ours = || vec!["multibond.dev/disconnect".to_owned()];
        let put = finalizer_patch(Some("u1"), &[], &ours());
        let expected = json!([
            {"op": "test", "path": "/metadata/uid", "value": "u1"},
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["multibond.dev/disconnect"]},
        ]);
        assert_eq!(put, expected);
        let taken = finalizer_patch(Some("u1"), &ours(), &[]);
        assert_eq!((&taken[1]["value"], &taken[2]["value"]), (&json!(["multibond.dev/disconnect"]), &json!([])));
        assert!(json_patch(put).is_ok());
    }
}
