//! Answers that change nothing: one object, lists, pages.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{ApiServer, Key, kinds::Kind, refusal::Refused, request::Call, selector::Selection};

/// Where the next page goes on. A real server's token is opaque too.
struct Continue {
    version: u64,
    namespace: String,
    name: String,
}

impl Continue {
    fn token(&self) -> String {
        format!("{}/{}/{}", self.version, self.namespace, self.name)
    }

    fn read(token: &str) -> Result<Self, Refused> {
        let mut parts = token.splitn(3, '/');
        let (Some(version), Some(namespace), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Refused::bad_request("continue key is not valid"));
        };
        let version = version.parse().map_err(|_| Refused::bad_request("continue key is not valid"))?;
        Ok(Continue { version, namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl ApiServer {
    pub(super) fn get(&self, call: &Call) -> Result<Arc<Value>, Refused> {
        let object = self.stored(call)?;
        Ok(if call.only_metadata { Arc::new(metadata_of(object)) } else { object.clone() })
    }

    /// The object that a request names.
    pub(super) fn stored(&self, call: &Call) -> Result<&Arc<Value>, Refused> {
        self.store.get(&call.key()).ok_or_else(|| Refused::not_found(call.kind, &call.name))
    }

    /// A list. It is always of the newest version, or of the version of its first page.
    pub(super) fn list(&self, call: &Call) -> Result<Value, Refused> {
        let selection = Selection::of(call)?;
        let limit = call.number("limit")?.filter(|limit| *limit > 0);
        if let Some(wanted) = call.number("resourceVersion")?
            && wanted > self.version()
        {
            panic!("the model of the API server does not know lists of the future: {wanted} of {}", self.version());
        }
        let from = call.parameter("continue").map(Continue::read).transpose()?;
        let version = from.as_ref().map_or(self.version(), |from| from.version);
        let past;
        let objects: Vec<_> = if version == self.version() {
            self.store.objects().collect()
        } else {
            if version < self.store.compacted() {
                return Err(Refused::expired(
                    "The provided continue parameter is too old to display a consistent list result.",
                ));
            }
            past = self.store.objects_at(version);
            past.iter().collect()
        };
        let after = from.map(|from| (from.namespace, from.name));
        let mut items: Vec<(&Key, &Arc<Value>)> = objects
            .into_iter()
            .filter(|(key, object)| key.plural == call.kind.plural && selection.has(object))
            .filter(|(key, _)| after.as_ref().is_none_or(|after| (&key.namespace, &key.name) > (&after.0, &after.1)))
            .collect();
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok())
            && items.len() > limit
        {
            let rest = items.split_off(limit);
            let last = items[limit - 1].0;
            let next = Continue { version, namespace: last.namespace.clone(), name: last.name.clone() };
            metadata["continue"] = next.token().into();
            if !selection.is_narrow() {
                metadata["remainingItemCount"] = rest.len().into();
            }
        }
        let shown = |object: &Value| if call.only_metadata { metadata_of(object) } else { in_list(call.kind, object) };
        let items: Vec<_> = items.into_iter().map(|(_, object)| shown(object)).collect();
        let (api_version, kind) = if call.only_metadata {
            ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned())
        } else {
            (call.kind.api_version(), format!("{}List", call.kind.kind))
        };
        // A list of metadata is a copy, in which an empty list is none.
        let items = if items.is_empty() && call.only_metadata { Value::Null } else { items.into() };
        Ok(json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items}))
    }
}

/// The items of a list of a core kind do not say their kind.
fn in_list(kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    if matches!(kind.form, super::kinds::Form::Core(_))
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

fn metadata_of(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}
