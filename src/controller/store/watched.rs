//! The events of a watch. An object that cannot be decoded is delivered with its readable parts.

use std::{borrow::Cow, collections::BTreeMap};

use kube::{Resource, api::ObjectMeta, runtime::watcher};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};
use tokio::time::Instant;

use crate::api::{Decoded, decode, metadata};

/// An object of one of our kinds, or the reason why it cannot be decoded.
///
/// [`Readable`](crate::api::Readable) keeps only the metadata of an object that cannot be decoded. `spec.dataCenter` is
/// needed too, to know which data center to freeze.
#[derive(Clone, Debug)]
pub(crate) enum Watched<K> {
    Good {
        object: Box<K>,
        /// The fields of its status that cannot be decoded, and why. They count as absent.
        status_error: Option<String>,
    },
    Bad(Box<Undecodable<K>>),
}

/// An object that cannot be decoded.
#[derive(Clone, Debug)]
pub(crate) struct Undecodable<K> {
    pub metadata: ObjectMeta,
    /// `spec.dataCenter`, if it is a string.
    pub data_center: Option<String>,
    pub error: String,
    /// Its metadata, the names in its spec, and its status, if these can be read.
    pub outline: Option<K>,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Watched<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let (value, error) = match decode(raw.get()).map_err(serde::de::Error::custom)? {
            Decoded::Whole(object) => return Ok(Watched::good(object)),
            Decoded::WithoutPartsOfStatus(object, error) => {
                return Ok(Watched::Good { object: Box::new(object), status_error: Some(error) });
            }
            Decoded::Not { value, error } => (value, error),
        };
        let metadata = metadata(&value)?;
        let outline = outline(&value);
        Ok(match outline {
            // The outline is enough for an object that is being deleted: a bad spec must not block its deletion.
            Some(outline) if metadata.deletion_timestamp.is_some() => Watched::good(outline),
            outline => {
                let data_center = value["spec"]["dataCenter"].as_str().map(str::to_owned);
                Watched::Bad(Box::new(Undecodable { metadata, data_center, error, outline }))
            }
        })
    }
}

impl<K> Watched<K> {
    fn good(object: K) -> Self {
        Watched::Good { object: Box::new(object), status_error: None }
    }
}

/// The readable parts of an object that cannot be decoded.
fn outline<K: DeserializeOwned>(text: &Value) -> Option<K> {
    let mut object = text.clone();
    object["spec"].as_object_mut()?.retain(|field, _| field == "dataCenter" || field == "nodeName");
    serde_json::from_value(object.clone()).ok().or_else(|| {
        object["status"] = json!(null);
        serde_json::from_value(object).ok()
    })
}

impl<K: Resource> Resource for Watched<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }
    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }
    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }
    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }
    fn meta(&self) -> &ObjectMeta {
        match self {
            Watched::Good { object, .. } => object.meta(),
            Watched::Bad(bad) => &bad.metadata,
        }
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Watched::Good { object, .. } => object.meta_mut(),
            Watched::Bad(bad) => &mut bad.metadata,
        }
    }
}

/// An event of a watch. An object in it has no fields that the controller does not need.
#[derive(Clone, Debug)]
pub(crate) enum Event<K> {
    /// The watch has failed. When it works again, it starts with a new list.
    Fails {
        /// The list is refused, for an unknown time: the kind does not exist, or it may not be read.
        refused: bool,
    },
    /// A list begins, at this time: it is requested afterwards. Objects that are not in it are gone.
    ListBegins(Instant),
    /// An object of the list.
    Listed(K),
    /// The list is complete.
    ListEnds,
    /// An object was added or has changed.
    Applied(K),
    /// An object is gone.
    Deleted(K),
}

impl<K> Event<K> {
    /// The event of a watch that was received at this time.
    pub(crate) fn new(event: watcher::Event<K>, now: Instant) -> Self {
        match event {
            watcher::Event::Init => Event::ListBegins(now),
            watcher::Event::InitApply(object) => Event::Listed(object),
            watcher::Event::InitDone => Event::ListEnds,
            watcher::Event::Apply(object) => Event::Applied(object),
            watcher::Event::Delete(object) => Event::Deleted(object),
        }
    }
}

/// The version of an object as a number; 0 if it is none. The API server's versions are increasing decimal numbers
/// (KEP-5504).
pub(crate) fn version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Removes the metadata that the controller never reads, to save memory.
pub(crate) fn slim(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| key.starts_with(crate::api::GROUP));
        if annotations.is_empty() {
            metadata.annotations = None;
        }
    }
}

/// The labels of an object.
pub(crate) fn labels(metadata: &ObjectMeta) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    metadata.labels.as_ref().unwrap_or(&NONE)
}

/// Whether an object is marked for deletion.
pub(crate) fn is_being_deleted(metadata: &ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_some()
}
