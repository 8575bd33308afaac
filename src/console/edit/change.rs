//! A change to one object: what the planner makes of it, its manifest, and how it gets to the API server.

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

/// How often the controller may write a status between our reading and our writing.
const TRIES: usize = 5;

/// An object with the spec that it should have.
#[derive(Clone, Debug)]
pub enum Object {
    /// With its storage.
    DataCenter(Box<DataCenter>),
    /// Alone.
    Network(Box<Network>),
    /// Alone.
    Bond(Box<IscsiBond>),
    /// Alone.
    Host(Box<Host>),
}

/// What happens to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It is made; an object of its name is left alone.
    Create,
    /// It gets this spec, if nobody has changed the one of this generation.
    Replace {
        /// The generation that the person has seen.
        generation: i64,
    },
    /// It goes.
    Delete,
}

/// A change that has not happened yet.
#[derive(Clone, Debug)]
pub struct Change {
    /// What happens.
    pub verb: Verb,
    /// To what.
    pub object: Object,
}

/// One of the kinds that the planner knows.
trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
    /// The objects of the kind.
    fn list(objects: &mut Objects) -> &mut Vec<Self>;
    /// Takes over another's spec.
    fn set_spec(&mut self, other: &Self);
}

macro_rules! kinds {
    ($($kind:ident: $list:ident),+) => {$(
        impl Kind for $kind {
            fn list(objects: &mut Objects) -> &mut Vec<Self> {
                &mut objects.$list
            }

            fn set_spec(&mut self, other: &Self) {
                self.spec.clone_from(&other.spec);
            }
        }
    )+};
}
kinds!(DataCenter: data_centers, Network: networks, IscsiBond: bonds, Host: hosts);

/// Runs the same code for the object's kind.
macro_rules! with_kind {
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
    /// The objects as they will be once the controller has seen to what follows.
    #[must_use]
    pub fn applied_to(&self, mut objects: Objects) -> Objects {
        with_kind!(&self.object, it => put(&mut objects, &**it, self.verb));
        if self.verb == Verb::Delete {
            self.cascade(&mut objects);
        }
        objects
    }

    /// What the controller does after a deletion: a network is removed from its bonds, and a data center takes its
    /// bonds, its networks and the hosts that were generated for it along.
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
    /// When it has no form in YAML.
    pub fn manifest(&self) -> anyhow::Result<String> {
        with_kind!(&self.object, it => manifest(&**it))
    }

    /// Has the API server do it, as the person who runs the console.
    ///
    /// # Errors
    /// The API server's own.
    pub async fn send(&self, client: &Client) -> Result<(), Errors> {
        with_kind!(&self.object, it => send(client, &**it, self.verb).await)
    }
}

fn put<K: Kind>(objects: &mut Objects, object: &K, verb: Verb) {
    let list = K::list(objects);
    list.retain(|other| (other.namespace(), other.name_any()) != (object.namespace(), object.name_any()));
    if verb != Verb::Delete {
        list.push(object.clone());
    }
}

/// What a person would write: no status, and nothing that the API server has put into the metadata.
fn manifest<K: Kind>(object: &K) -> anyhow::Result<String> {
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

async fn send<K: Kind>(client: &Client, object: &K, verb: Verb) -> Result<(), Errors> {
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let post = PostParams { field_manager: Some(CONSOLE_MANAGER.to_owned()), ..PostParams::default() };
    match verb {
        Verb::Create => drop(api.create(&post, object).await?),
        Verb::Replace { generation } => replace(&api, &post, object, generation).await?,
        Verb::Delete => drop(api.delete(&object.name_any(), &DeleteParams::default()).await?),
    }
    Ok(())
}

/// Replaces the spec that the person has seen, and no other. Applying would do less: it cannot take out of a list what
/// somebody else has put there. A status that is written in between is no change of the spec, and tried again.
async fn replace<K: Kind>(api: &Api<K>, post: &PostParams, object: &K, generation: i64) -> Result<(), Errors> {
    let name = object.name_any();
    let mut tries = 0;
    loop {
        let mut current = api.get(&name).await?;
        if current.meta().generation != Some(generation) {
            return Err(Errors::general(format!(
                "Somebody has changed {name} in the meantime: open the form again to see how it is now."
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
