//! Events on a site, writes to it, and the sessions that its simulated hosts hold.

use crate::{Write, eventually};
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use serde_json::Value;

use super::{PATIENCE, SYSTEM, Site};

impl Site {
    /// Events on an object as `type reason: note`, oldest first.
    pub async fn events(&self, kind: &str, name: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut events = events.list(&ListParams::default()).await.unwrap().items;
        events.retain(|event| {
            let regarding = event.regarding.as_ref();
            regarding.is_some_and(|object| object.kind.as_deref() == Some(kind) && object.name.as_deref() == Some(name))
        });
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let text = |text: Option<String>| text.unwrap_or_default();
        events.into_iter().map(|e| format!("{} {}: {}", text(e.type_), text(e.reason), text(e.note))).collect()
    }

    /// Waits for an Event on an object that begins like this, and returns all of them so far.
    pub async fn until_event(&self, kind: &str, name: &str, begins: &str) -> Vec<String> {
        eventually(&format!("{kind} {name}: Event {begins}"), PATIENCE, async || {
            let events = self.events(kind, name).await;
            if events.iter().any(|event| event.starts_with(begins)) { Ok(events) } else { Err(events.join("\n")) }
        })
        .await
    }

    /// The controller's writes to an object: for each its subresource, empty for the object itself.
    pub fn controller_writes(&self, plural: &str, name: &str) -> Vec<String> {
        let controller = format!("system:serviceaccount:{SYSTEM}:multibond-controller");
        let of_object = |write: &Write| {
            let Write { user, resource, namespace, name: of, .. } = write;
            *user == controller && resource == plural && *namespace == self.namespace && of == name
        };
        let writes = self.cluster.writes().unwrap();
        writes.into_iter().filter(of_object).map(|write| write.subresource).collect()
    }

    /// The portals of the sessions that a simulated host holds, reported or not.
    pub fn held_sessions(&self, node: &str) -> Vec<String> {
        let file = self.file("sessions").join(format!("{}.json", self.node(node)));
        let saved = std::fs::read_to_string(file).unwrap_or_else(|_| "[]".to_owned());
        let saved: Vec<Value> = serde_json::from_str(&saved).unwrap();
        let mut portals: Vec<_> = saved.iter().map(|session| session["portal"].as_str().unwrap().to_owned()).collect();
        portals.sort();
        portals
    }
}
