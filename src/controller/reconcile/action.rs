//! What is to be done to the API server: decided as values, carried out in one place.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::Taint, events::v1 as events},
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference, Time},
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    api::{
        CONTROLLER_MANAGER, DataCenter, GROUP, Host, HostSpec, IscsiBond, LeasePart, MADE_FOR_LABEL, NODE_CONDITION,
        NODE_GONE_ANNOTATION, Network, NodePart, ObjectKey, VERSION,
    },
    controller::store::{Written, watched::Watched},
    ops::errors::brief,
    planner::Kind,
};

/// What was decided for an object.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// To be done in this order. What fails does not keep the rest from being done; it is decided anew soon.
    pub actions: Vec<Action>,
    /// When time alone may change the decision.
    pub recheck_at: Option<Timestamp>,
}

/// Something to say on an object, as an Event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Announcement {
    pub warning: bool,
    pub reason: &'static str,
    pub note: String,
}

/// A condition of a Node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeCondition {
    pub status: &'static str,
    pub reason: String,
    pub message: String,
    pub since: Time,
}

/// One request to the API server.
#[derive(Debug)]
pub(crate) enum Action {
    /// Writes our part of a status, and says what has changed.
    WriteStatus { kind: Kind, key: ObjectKey, part: Value, uid: Option<String>, announcement: Option<Announcement> },
    /// Says something on an object that is said of it once, however often it is tried.
    Announce { kind: Kind, key: ObjectKey, uid: Option<String>, announcement: Announcement },
    /// Replaces the finalizers of the object that was looked at, if they are still those.
    SetFinalizers { kind: Kind, key: ObjectKey, uid: Option<String>, before: Vec<String>, after: Vec<String> },
    /// Replaces the owner references of the version that was looked at.
    SetOwners { kind: Kind, key: ObjectKey, owners: Vec<OwnerReference>, version: Option<String> },
    /// Takes a network's name out of a bond, if it stands there at this place.
    DropNetwork { bond: ObjectKey, index: usize, network: Arc<str> },
    /// Deletes an object, if it is still the one that was looked at.
    Delete { kind: Kind, key: ObjectKey, uid: Option<String> },
    /// Deletes the lease of an agent, if nobody has renewed it since it was looked at.
    DeleteLease { lease: ObjectKey, uid: Option<String>, version: Option<String> },
    /// Makes a Host for a Node.
    CreateHost { key: ObjectKey, data_center: String, node: String, owner: OwnerReference },
    /// Puts a made Host back into the data center that it was made for.
    MoveHost { key: ObjectKey, data_center: String },
    /// Notes since when a made Host's Node is gone, or that it is back.
    NodeGone { key: ObjectKey, since: Option<Timestamp> },
    /// Sets or removes our condition of a Node.
    NodeCondition { node: Arc<str>, condition: Option<NodeCondition> },
    /// Replaces the taints of the version that was looked at: `spec.taints` is atomic, and most of them are others'.
    NodeTaints { node: Arc<str>, taints: Vec<Taint>, version: Option<String> },
}

impl Action {
    pub(crate) fn write_status(
        kind: Kind,
        key: &ObjectKey,
        part: &impl Serialize,
        uid: Option<String>,
        announcement: Option<Announcement>,
    ) -> Self {
        // Our own types of texts, numbers and lists always have a JSON form.
        let part = serde_json::to_value(part).unwrap_or_default();
        Action::WriteStatus { kind, key: key.clone(), part, uid, announcement }
    }

    /// The object that it gives an owner.
    pub(crate) fn adopted(&self) -> Option<&ObjectKey> {
        match self {
            Action::SetOwners { key, .. } => Some(key),
            _ => None,
        }
    }

    /// The Host that it makes.
    pub(crate) fn made(&self) -> Option<&ObjectKey> {
        match self {
            Action::CreateHost { key, .. } => Some(key),
            _ => None,
        }
    }

    /// What it does, for metrics: a closed set.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Action::WriteStatus { .. } => "status",
            Action::Announce { .. } => "event",
            Action::SetFinalizers { .. } => "finalizers",
            Action::SetOwners { .. } => "owners",
            Action::DropNetwork { .. } => "drop-network",
            Action::Delete { .. } => "delete",
            Action::DeleteLease { .. } => "delete-lease",
            Action::CreateHost { .. } => "create-host",
            Action::MoveHost { .. } => "move-host",
            Action::NodeGone { .. } => "node-gone",
            Action::NodeCondition { .. } => "node-condition",
            Action::NodeTaints { .. } => "node-taints",
        }
    }

    /// Carries it out. What the API server answers is what the object is now.
    pub(crate) async fn carry_out(self, client: &Client, instance: &str) -> kube::Result<Option<Written>> {
        match self {
            Action::WriteStatus { kind, key, part, uid, announcement } => {
                let written = patch(client, kind, &key, true, &Patch::Merge(json!({"status": part}))).await?;
                if let Some(announcement) = announcement {
                    announce(client, instance, kind, &key, uid, announcement, false).await;
                }
                Ok(Some(written))
            }
            Action::Announce { kind, key, uid, announcement } => {
                announce(client, instance, kind, &key, uid, announcement, true).await;
                Ok(None)
            }
            Action::SetFinalizers { kind, key, uid, before, after } => {
                let steps = steps(finalizer_steps(uid.as_deref(), &before, &after))?;
                patch(client, kind, &key, false, &steps).await.map(Some)
            }
            Action::SetOwners { kind, key, owners, version } => {
                let body = json!({"metadata": {"ownerReferences": owners, "resourceVersion": version}});
                patch(client, kind, &key, false, &Patch::Merge(body)).await.map(Some)
            }
            Action::DropNetwork { bond, index, network } => {
                let steps = steps(json!([
                    {"op": "test", "path": format!("/spec/networks/{index}"), "value": network},
                    {"op": "remove", "path": format!("/spec/networks/{index}")},
                ]))?;
                patch(client, Kind::IscsiBond, &bond, false, &steps).await.map(Some)
            }
            Action::Delete { kind, key, uid } => delete(client, kind, &key, uid).await.map(|()| None),
            Action::DeleteLease { lease, uid, version } => {
                let leases: Api<LeasePart> = Api::namespaced(client.clone(), &lease.namespace);
                let preconditions = Some(Preconditions { uid, resource_version: version });
                let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
                leases.delete(&lease.name, &parameters).await.map(|_| None)
            }
            Action::CreateHost { key, data_center, node, owner } => {
                create_host(client, &key, data_center, node, owner).await.map(|()| None)
            }
            Action::MoveHost { key, data_center } => {
                let body = json!({"spec": {"dataCenter": data_center}});
                patch(client, Kind::Host, &key, false, &Patch::Merge(body)).await.map(Some)
            }
            Action::NodeGone { key, since } => {
                let since = since.map(|since| since.to_string());
                let body = json!({"metadata": {"annotations": {NODE_GONE_ANNOTATION: since}}});
                patch(client, Kind::Host, &key, false, &Patch::Merge(body)).await.map(Some)
            }
            Action::NodeCondition { node, condition } => {
                let nodes: Api<Watched<NodePart>> = Api::all(client.clone());
                let condition = match condition {
                    Some(NodeCondition { status, reason, message, since }) => json!({"type": NODE_CONDITION,
                        "status": status, "reason": reason, "message": message,
                        "lastTransitionTime": since, "lastHeartbeatTime": since}),
                    None => json!({"type": NODE_CONDITION, "$patch": "delete"}),
                };
                let body = json!({"status": {"conditions": [condition]}});
                nodes
                    .patch_status(&node, &parameters(), &Patch::Strategic(body))
                    .await
                    .map(|node| Some(Written::Node(node)))
            }
            Action::NodeTaints { node, taints, version } => {
                let nodes: Api<Watched<NodePart>> = Api::all(client.clone());
                let body = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
                nodes.patch(&node, &parameters(), &Patch::Merge(body)).await.map(|node| Some(Written::Node(node)))
            }
        }
    }
}

/// A list of steps is a JSON patch by construction.
fn steps(steps: Value) -> kube::Result<Patch<Value>> {
    serde_json::from_value(steps).map(Patch::Json).map_err(kube::Error::SerdeError)
}

/// No resourceVersion: the agent's first report on a new Host must not make the controller's finalizer conflict. Nobody
/// else's finalizer is lost all the same, for all of them are tested. No finalizers are no list, and that tests as null.
fn finalizer_steps(uid: Option<&str>, before: &[String], after: &[String]) -> Value {
    let before = (!before.is_empty()).then_some(before);
    json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/metadata/finalizers", "value": before},
        {"op": "add", "path": "/metadata/finalizers", "value": after},
    ])
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(CONTROLLER_MANAGER.to_owned()), ..PatchParams::default() }
}

async fn patch(
    client: &Client,
    kind: Kind,
    key: &ObjectKey,
    status: bool,
    body: &Patch<Value>,
) -> kube::Result<Written> {
    async fn send<K>(client: &Client, key: &ObjectKey, status: bool, body: &Patch<Value>) -> kube::Result<Watched<K>>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<Watched<K>> = Api::namespaced(client.clone(), &key.namespace);
        if status {
            api.patch_status(&key.name, &parameters(), body).await
        } else {
            api.patch(&key.name, &parameters(), body).await
        }
    }
    Ok(match kind {
        Kind::DataCenter => Written::DataCenter(send(client, key, status, body).await?),
        Kind::Network => Written::Network(send(client, key, status, body).await?),
        Kind::Host => Written::Host(send(client, key, status, body).await?),
        Kind::IscsiBond => Written::Bond(send(client, key, status, body).await?),
    })
}

async fn gone<K>(client: Client, namespace: &str, name: &str, parameters: &DeleteParams) -> kube::Result<()>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    Api::<Watched<K>>::namespaced(client, namespace).delete(name, parameters).await.map(drop)
}

async fn delete(client: &Client, kind: Kind, key: &ObjectKey, uid: Option<String>) -> kube::Result<()> {
    let parameters = DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version: None }),
        ..DeleteParams::background()
    };
    let (client, namespace, name) = (client.clone(), &key.namespace, &key.name);
    match kind {
        Kind::DataCenter => gone::<DataCenter>(client, namespace, name, &parameters).await,
        Kind::Network => gone::<Network>(client, namespace, name, &parameters).await,
        Kind::Host => gone::<Host>(client, namespace, name, &parameters).await,
        Kind::IscsiBond => gone::<IscsiBond>(client, namespace, name, &parameters).await,
    }
}

async fn create_host(
    client: &Client,
    key: &ObjectKey,
    data_center: String,
    node: String,
    owner: OwnerReference,
) -> kube::Result<()> {
    let mut host =
        Host::new(&key.name, HostSpec { data_center: data_center.clone(), node_name: node, ..HostSpec::default() });
    host.metadata.labels = Some([(MADE_FOR_LABEL.to_owned(), data_center)].into());
    host.metadata.owner_references = Some(vec![owner]);
    // What the controller does not own, it must not seem to set: defaults are the API server's.
    let mut body = serde_json::to_value(&host).map_err(kube::Error::SerdeError)?;
    if let Some(spec) = body.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|field, _| field == "dataCenter" || field == "nodeName");
    }
    let resource = kube::core::ApiResource::erase::<Host>(&());
    let object: kube::core::DynamicObject = serde_json::from_value(body).map_err(kube::Error::SerdeError)?;
    let api: Api<kube::core::DynamicObject> = Api::namespaced_with(client.clone(), &key.namespace, &resource);
    let parameters = PostParams { field_manager: Some(CONTROLLER_MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&parameters, &object).await {
        Ok(_) => Ok(()),
        // A user's Host of that name was quicker; it is never touched.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Publishes an Event; what is said `once` has a name by which it is known to have been said. One that cannot be
/// published (forbidden, or in a namespace that is being deleted) is logged: it must not hold up what it tells of.
async fn announce(
    client: &Client,
    instance: &str,
    kind: Kind,
    key: &ObjectKey,
    uid: Option<String>,
    announcement: Announcement,
    once: bool,
) {
    let Announcement { warning, reason, mut note } = announcement;
    // events.k8s.io refuses notes of more than 1 kB.
    if note.len() > 1000 {
        let cut = (0..=996).rev().find(|&at| note.is_char_boundary(at)).unwrap_or(0);
        note.truncate(cut);
        note.push('…');
    }
    let name = uid.as_ref().filter(|_| once).map(|uid| format!("{}.{uid}", reason.to_lowercase()));
    let event = events::Event {
        metadata: ObjectMeta {
            namespace: Some(key.namespace.to_string()),
            generate_name: name.is_none().then(|| format!("{}-", key.name)),
            name,
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: Some(format!("{GROUP}/controller")),
        reporting_instance: Some(instance.to_owned()),
        action: Some("Reconcile".to_owned()),
        reason: Some(reason.to_owned()),
        note: Some(note),
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        regarding: Some(k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(kind.to_string()),
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            uid,
            ..Default::default()
        }),
        ..events::Event::default()
    };
    let api: Api<events::Event> = Api::namespaced(client.clone(), &key.namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        if matches!(&error, kube::Error::Api(status) if status.is_already_exists()) {
            return;
        }
        let note = event.note.as_deref().unwrap_or_default();
        let error = brief(&error);
        tracing::info!(%kind, object = %key, reason, note, error, "an Event could not be published");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_depends_on_the_other_finalizers_and_on_nothing_else() {
        let ours = || vec!["multibond.dev/disconnect".to_owned()];
        let put = finalizer_steps(Some("u1"), &[], &ours());
        let expected = json!([
            {"op": "test", "path": "/metadata/uid", "value": "u1"},
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["multibond.dev/disconnect"]},
        ]);
        assert_eq!(put, expected);
        let taken = finalizer_steps(Some("u1"), &ours(), &[]);
        assert_eq!((&taken[1]["value"], &taken[2]["value"]), (&json!(["multibond.dev/disconnect"]), &json!([])));
        assert!(steps(put).is_ok());
    }
}
