//! Publishes Kubernetes Events.
//!
//! kube's `Recorder` is not used: it chooses the names of Events, so the Event about a deletion would be repeated with
//! each retry. Here such an Event has a name made of its reason and the object's uid, and a second one is refused by the
//! API server. `Recorder` also fails for a note over the limit of 1 kB, and keeps a cache of all recent Events.

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use crate::{
    api::{GROUP, ObjectKey, ObjectKind, VERSION},
    controller::reconcile::action::EventSpec,
    ops::errors::{ErrorReason, brief},
};

/// events.k8s.io refuses longer notes.
const LONGEST_NOTE: usize = 1000;

/// Who publishes an Event, and when.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The name of the replica.
    pub instance: &'a str,
    /// The wall time.
    pub time: Timestamp,
}

/// Publishes an Event about an object. A failure that may pass is returned, for an Event that stands for others.
pub(super) async fn publish(
    client: &Client,
    source: Source<'_>,
    kind: ObjectKind,
    key: &ObjectKey,
    uid: Option<String>,
    spec: EventSpec,
) -> kube::Result<()> {
    let metadata = ObjectMeta { generate_name: Some(format!("{}-", key.name)), ..ObjectMeta::default() };
    let failure = create(client, key, event(metadata, source, kind, key, uid, spec)).await;
    let stays = |error: &kube::Error| matches!(ErrorReason::from(error), ErrorReason::Forbidden | ErrorReason::Invalid);
    failure.filter(|error| !stays(error)).map_or(Ok(()), Err)
}

/// Publishes an Event about an object that has at most one Event with this reason.
pub(super) async fn publish_once(
    client: &Client,
    source: Source<'_>,
    kind: ObjectKind,
    key: &ObjectKey,
    uid: Option<String>,
    spec: EventSpec,
) {
    let Some(uid) = uid else { return drop(publish(client, source, kind, key, uid, spec).await) };
    let name = format!("{}.{uid}", spec.reason.to_lowercase());
    let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
    create(client, key, event(metadata, source, kind, key, Some(uid), spec)).await;
}

fn event(
    metadata: ObjectMeta,
    source: Source<'_>,
    kind: ObjectKind,
    key: &ObjectKey,
    uid: Option<String>,
    EventSpec { warning, reason, note }: EventSpec,
) -> Event {
    Event {
        metadata: ObjectMeta { namespace: Some(key.namespace.to_string()), ..metadata },
        event_time: Some(MicroTime(source.time)),
        reporting_controller: Some(format!("{GROUP}/controller")),
        reporting_instance: Some(source.instance.to_owned()),
        action: Some("Reconcile".to_owned()),
        reason: Some(reason.to_owned()),
        note: Some(truncated(note)),
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(kind.to_string()),
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            uid,
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

/// Cuts a note that is too long for an Event.
fn truncated(mut note: String) -> String {
    if note.len() > LONGEST_NOTE {
        let cut = (0..=LONGEST_NOTE - 4).rev().find(|&at| note.is_char_boundary(at)).unwrap_or(0);
        note.truncate(cut);
        note.push('…');
    }
    note
}

/// A failure is logged and returned: an Event may be forbidden, or in a namespace that is being deleted, and must not hold
/// up the write that it is about.
async fn create(client: &Client, key: &ObjectKey, event: Event) -> Option<kube::Error> {
    let api: Api<Event> = Api::namespaced(client.clone(), &key.namespace);
    match api.create(&PostParams::default(), &event).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) if status.is_already_exists() => None,
        Err(error) => {
            let (reason, note) = (event.reason.unwrap_or_default(), event.note.unwrap_or_default());
            tracing::info!(reason, note, error = brief(&error), "cannot publish an Event");
            Some(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_at_a_character_below_the_limit() {
        assert_eq!(truncated("short".to_owned()), "short");
        let long = truncated("ä".repeat(600));
        assert!(long.len() <= LONGEST_NOTE && long.ends_with("ä…"), "{}", long.len());
    }
}
