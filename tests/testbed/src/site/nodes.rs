//! Reads and changes the Nodes of a site, as other programs do.

use crate::eventually;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{PATIENCE, Site};

/// The type of our condition on a Node.
pub const STORAGE_OPERATIONAL: &str = "multibond.dev/StorageOperational";
/// The key of our taint.
pub const NON_OPERATIONAL: &str = "multibond.dev/non-operational";

/// Our condition on a Node, as status and reason.
pub fn storage_operational(node: &Node) -> Option<(String, String)> {
    let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let ours = conditions.into_iter().find(|condition| condition.type_ == STORAGE_OPERATIONAL);
    ours.map(|NodeCondition { status, reason, .. }| (status.clone(), reason.clone().unwrap_or_default()))
}

/// Our taint on a Node.
pub fn our_taint(node: &Node) -> Option<&Taint> {
    taints(node).find(|taint| taint.key == NON_OPERATIONAL)
}

/// All taints of a Node.
pub fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().filter_map(|spec| spec.taints.as_ref()).flatten()
}

impl Site {
    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// Changes the labels of one of the site's Nodes; `null` removes one.
    pub async fn label_node(&self, name: &str, labels: Value) {
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        self.nodes().patch(&self.node(name), &PatchParams::default(), &patch).await.unwrap();
    }

    /// Deletes one of the site's Nodes.
    pub async fn delete_node(&self, name: &str) {
        self.nodes().delete(&self.node(name), &DeleteParams::default()).await.unwrap();
    }

    /// Adds a taint to a Node by read, change and write, as any other program does.
    pub async fn taint_node(&self, name: &str, key: &str) {
        let nodes = self.nodes();
        eventually(&format!("{name} tainted with {key}"), PATIENCE, async || {
            let mut node = nodes.get(&self.node(name)).await?;
            let taint = Taint { key: key.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
            node.spec.get_or_insert_default().taints.get_or_insert_default().push(taint);
            nodes.replace(&self.node(name), &PostParams::default(), &node).await
        })
        .await;
    }

    /// Waits until `holds` is true of a Node, and returns the Node.
    pub async fn until_node(&self, what: &str, name: &str, holds: impl Fn(&Node) -> bool) -> Node {
        let nodes = self.nodes();
        eventually(&format!("Node {name}: {what}"), PATIENCE, async || {
            let node = nodes.get(&self.node(name)).await.map_err(|error| error.to_string())?;
            let seen = || format!("{:?} {:?}", taints(&node).collect::<Vec<_>>(), storage_operational(&node));
            if holds(&node) { Ok(node) } else { Err(seen()) }
        })
        .await
    }
}
