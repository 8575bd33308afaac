//! A change of one object: its effect on the other objects, its manifest, and the request that carries it out.

use std::fmt::Debug;

use kube::api::{DeleteParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::errors::Errors;
use crate::api::{CONSOLE_MANAGER, DataCenter, Host, IscsiBond, Network, ownership};
use crate::ops;
use crate::planner::Objects;

/// The number of attempts to replace an object: each status write of the controller in between costs one attempt.
const TRIES: usize = 5;

/// The object that a change concerns, with its new spec.
#[derive(Clone, Debug)]
pub enum Object {
    /// A data center, with its storage.
    DataCenter(Box<DataCenter>),
    /// A network.
    Network(Box<Network>),
    /// A bond.
    Bond(Box<IscsiBond>),
    /// A host.
    Host(Box<Host>),
}

/// The request to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Creates the object; fails if an object of its name exists.
    Create,
    /// Replaces the spec, if it still has this generation.
    Replace {
        /// The generation that the form was filled from.
        generation: i64,
    },
    /// Deletes the object.
    Delete,
}

/// A change of one object that has not been sent yet.
#[derive(Clone, Debug)]
pub struct Change {
    /// The request.
    pub verb: Verb,
    /// Its object.
    pub object: Object,
}

/// A kind of object that the console can change.
trait Editable:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
    /// The objects of this kind.
    fn list(objects: &mut Objects) -> &mut Vec<Self>;
    /// Replaces the spec with the spec of another object.
    fn set_spec(&mut self, other: &Self);
}

macro_rules! editable {
    ($($kind:ident: $list:ident),+) => {$(
        impl Editable for $kind {
            fn list(objects: &mut Objects) -> &mut Vec<Self> {
                &mut objects.$list
            }

            fn set_spec(&mut self, other: &Self) {
                self.spec.clone_from(&other.spec);
            }
        }
    )+};
}
editable!(DataCenter: data_centers, Network: networks, IscsiBond: bonds, Host: hosts);

/// Runs the same code for an object of any kind.
macro_rules! with_object {
    ($object:expr, $it:ident => $body:expr) => {
        match $object {
            Object::DataCenter($it) => $body,
            Object::Network($it) => $body,
            Object::Bond($it) => $body,
            Object::Host($it) => $body,
        }
    };
}

impl Change {
    /// The objects as they are after the change and after what the controller does because of it.
    #[must_use]
    pub fn applied_to(&self, mut objects: Objects) -> Objects {
        with_object!(&self.object, it => put(&mut objects, &**it, self.verb));
        if self.verb == Verb::Delete {
            self.cascade(&mut objects);
        }
        objects
    }

    /// Applies the effects of a deletion by the controller: a network is removed from its bonds, and a data center is
    /// deleted together with its bonds, its networks and the hosts that were generated for it.
    fn cascade(&self, objects: &mut Objects) {
        match &self.object {
            Object::Network(network) => {
                for bond in objects.bonds.iter_mut().filter(|bond| ownership::bond_names(bond, network)) {
                    bond.spec.networks.retain(|name| *name != network.name_any());
                }
            }
            Object::DataCenter(data_center) => {
                objects.bonds.retain(|it| !ownership::bond_goes_with(it, data_center));
                objects.networks.retain(|it| !ownership::network_goes_with(it, data_center));
                objects.hosts.retain(|it| !ownership::host_goes_with(it, data_center));
            }
            Object::Bond(_) | Object::Host(_) => {}
        }
    }

    /// The object as a manifest for `kubectl apply`.
    ///
    /// # Errors
    /// If a value cannot be written as YAML, which does not occur in these kinds.
    pub fn manifest(&self) -> Result<String, ManifestError> {
        with_object!(&self.object, it => manifest(&**it))
    }

    /// Sends the change to the API server, as the person who runs the console.
    ///
    /// # Errors
    /// The errors from the API server, by field if it names one.
    pub async fn send(&self, client: &Client) -> Result<(), Errors> {
        with_object!(&self.object, it => send(client, &**it, self.verb).await)
    }
}

fn put<K: Editable>(objects: &mut Objects, object: &K, verb: Verb) {
    let list = K::list(objects);
    list.retain(|other| (other.namespace(), other.name_any()) != (object.namespace(), object.name_any()));
    if verb != Verb::Delete {
        list.push(object.clone());
    }
}

/// Why an object has no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The object cannot be serialized.
    #[error(transparent)]
    Object(#[from] serde_json::Error),
    /// The manifest cannot be written as YAML.
    #[error(transparent)]
    Yaml(#[from] ops::YamlError),
}

/// The object as a person would write it: without status and without metadata that the API server sets.
fn manifest<K: Editable>(object: &K) -> Result<String, ManifestError> {
    let value = serde_json::to_value(object)?;
    let mut metadata = json!({"name": object.name_any(), "namespace": object.namespace()});
    for field in ["labels", "annotations"] {
        let own = value["metadata"][field].as_object().map(|own| {
            let own = own.iter().filter(|(key, _)| *key != "kubectl.kubernetes.io/last-applied-configuration");
            own.map(|(key, value)| (key.clone(), value.clone())).collect::<serde_json::Map<_, _>>()
        });
        if let Some(own) = own.filter(|own| !own.is_empty()) {
            metadata[field] = Value::Object(own);
        }
    }
    Ok(ops::yaml(&json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata, "spec": value["spec"],
    }))?)
}

async fn send<K: Editable>(client: &Client, object: &K, verb: Verb) -> Result<(), Errors> {
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let post = PostParams { field_manager: Some(CONSOLE_MANAGER.to_owned()), ..PostParams::default() };
    match verb {
        Verb::Create => drop(api.create(&post, object).await?),
        Verb::Replace { generation } => replace(&api, &post, object, generation).await?,
        Verb::Delete => drop(api.delete(&object.name_any(), &DeleteParams::default()).await?),
    }
    Ok(())
}

/// Replaces the spec that the form was filled from, and no newer one. This is not a server-side apply, which cannot remove
/// from a list what another field manager has put there. When only the status has changed in between, it tries again.
async fn replace<K: Editable>(api: &Api<K>, post: &PostParams, object: &K, generation: i64) -> Result<(), Errors> {
    let name = object.name_any();
    let mut tries = 0;
    loop {
        let mut current = api.get(&name).await?;
        if current.meta().generation != Some(generation) {
            return Err(Errors::general(format!(
                "Somebody has changed {name} in the meantime. Open the form again to see its current state."
            )));
        }
        current.set_spec(object);
        tries += 1;
        match api.replace(&name, post, &current).await {
            Err(kube::Error::Api(status)) if status.code == 409 && tries < TRIES => {}
            answer => return answer.map(drop).map_err(Errors::from),
        }
    }
}
