//! Letting go of everything in the cluster, so that Multibond can leave it: finalizers, taints and Node conditions.
//!
//! It stands for election as a controller does: while it leads, no controller puts back what it takes away.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Namespace};
use kube::{Api, Client, Resource, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{DataCenter, Host, LEADER_LEASE, Network, NodePart, ObjectKey},
    controller::{
        engine::leadership::{Authority, Election, Timing},
        reconcile::{action::Action, finalizer as deletion, node},
    },
    ops::errors::{ErrorReason, brief},
    planner::Kind,
};

/// How long it leads without renewal; the times of a controller.
const TIMING: Timing =
    Timing { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(1) };
/// What has changed meanwhile is tried again; others' writes are few once no controller acts.
const ROUNDS: usize = 5;
/// Requests at once.
const REQUESTS: usize = 16;

/// What is held, and how it is let go.
#[derive(Debug)]
pub struct Hold {
    what: String,
    action: Action,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Why nothing more could be released.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A controller would put everything back.
    #[error(
        "the controller {holder} still leads in namespace {namespace}, and would put back what is released: uninstall the \
         chart, or scale the controller to 0, and try again"
    )]
    StillLed {
        /// Where its lease is.
        namespace: String,
        /// What it calls itself.
        holder: String,
    },
    /// The lease is another's now.
    #[error("a controller has taken the lead meanwhile: see that none runs, and try again")]
    Lost,
    /// The API server refuses to say.
    #[error("{what}: {}", brief(source))]
    Reading {
        /// What was being done.
        what: &'static str,
        /// What it answered.
        source: kube::Error,
    },
}

/// What is held in the cluster. A kind that is gone holds nothing.
///
/// # Errors
/// When objects or Nodes may not be listed.
pub async fn held(client: &Client) -> Result<Vec<Hold>, Error> {
    let reading = |source| Error::Reading { what: "listing what is held", source };
    let (hosts, networks, data_centers, nodes) = tokio::try_join!(
        finalizers::<Host>(client, Kind::Host),
        finalizers::<Network>(client, Kind::Network),
        finalizers::<DataCenter>(client, Kind::DataCenter),
        marks(client),
    )
    .map_err(reading)?;
    Ok([nodes, hosts, networks, data_centers].into_iter().flatten().collect())
}

/// Finalizers of a kind. Metadata is all that is read: an object that cannot be decoded is released like any other.
async fn finalizers<K>(client: &Client, kind: Kind) -> kube::Result<Vec<Hold>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + fmt::Debug,
{
    let objects = match Api::<K>::all(client.clone()).list_metadata(&ListParams::default()).await {
        Ok(objects) => objects.items,
        Err(error) if ErrorReason::from(&error) == ErrorReason::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let hold = |metadata| {
        let key = ObjectKey::of(metadata);
        let action = deletion::drop_finalizer(kind, &key, metadata)?;
        Some(Hold { what: format!("the finalizer of {kind} {key}"), action })
    };
    Ok(objects.iter().filter_map(|object| hold(&object.metadata)).collect())
}

/// Conditions and taints of Nodes.
async fn marks(client: &Client) -> kube::Result<Vec<Hold>> {
    let nodes: Api<NodePart> = Api::all(client.clone());
    let nodes = nodes.list(&ListParams::default()).await?;
    let holds = |node: &NodePart| {
        let name = Arc::from(node.metadata.name.as_deref().unwrap_or_default());
        let hold = |mark: &str, action| Hold { what: format!("the {mark} of Node {name}"), action };
        let condition = node::drop_condition(&name, node).map(|action| hold("condition", action));
        let taint = node::drop_taint(&name, node).map(|action| hold("taint", action));
        condition.into_iter().chain(taint).collect::<Vec<_>>()
    };
    Ok(nodes.items.iter().flat_map(holds).collect())
}

/// Releases all that is held, as soon as no controller leads, and tells of each. Returns what is held still, and why.
///
/// # Errors
/// When a controller still leads after `patience`, or takes the lead meanwhile, and when the API server refuses to say
/// what is held.
pub async fn release(
    client: &Client,
    namespace: &str,
    identity: &str,
    patience: Duration,
    tell: impl FnMut(&str),
) -> Result<Vec<String>, Error> {
    let lead = Lead::take(client, namespace, identity, patience).await?;
    let ended = let_go(client, identity, &lead, tell).await;
    lead.give_back().await;
    ended
}

async fn let_go(
    client: &Client,
    identity: &str,
    lead: &Lead,
    mut tell: impl FnMut(&str),
) -> Result<Vec<String>, Error> {
    let mut failures = HashMap::new();
    let mut holds = held(client).await?;
    for _ in 0..ROUNDS {
        if holds.is_empty() {
            break;
        }
        failures.clear();
        let attempts = holds.into_iter().map(async |Hold { what, action }| {
            if !lead.holds() {
                return Err(Error::Lost);
            }
            Ok((what, action.carry_out(client, identity).await))
        });
        let mut attempts = stream::iter(attempts).buffer_unordered(REQUESTS);
        while let Some(attempt) = attempts.next().await {
            match attempt? {
                (what, Ok(_)) => tell(&what),
                (what, Err(error)) => drop(failures.insert(what, brief(&error))),
            }
        }
        // What was changed by others in between is looked at again; and what was refused is still there.
        holds = held(client).await?;
    }
    let reason = |what: &str| failures.get(what).map_or("somebody puts it back", String::as_str);
    Ok(holds.iter().map(|Hold { what, .. }| format!("{what}: {}", reason(what))).collect())
}

/// The lead, or that nobody can have it.
struct Lead {
    /// None: there is no place for a lease, so that no controller can lead.
    authority: Option<Authority>,
    done: CancellationToken,
    election: JoinHandle<()>,
}

impl Lead {
    /// Stands for election until it leads.
    async fn take(client: &Client, namespace: &str, identity: &str, patience: Duration) -> Result<Self, Error> {
        let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let (election, mut authority) = Election::new(leases.clone(), identity.to_owned(), TIMING);
        let done = CancellationToken::new();
        let election = tokio::spawn(election.run(done.clone()));
        let until = Instant::now() + patience;
        let ended = loop {
            if authority.holds() {
                break Ok(Some(authority));
            }
            match state(client, &leases, namespace).await {
                Ok(State::NoPlace) => break Ok(None),
                Ok(State::Held(holder)) if Instant::now() >= until => {
                    break Err(Error::StillLed { namespace: namespace.to_owned(), holder });
                }
                Err(error) if Instant::now() >= until => break Err(error),
                Ok(State::Held(_)) | Err(_) => drop(timeout(TIMING.retry, authority.changed()).await),
            }
        };
        match ended {
            Ok(authority) => Ok(Lead { authority, done, election }),
            Err(error) => {
                Lead { authority: None, done, election }.give_back().await;
                Err(error)
            }
        }
    }

    fn holds(&self) -> bool {
        self.authority.as_ref().is_none_or(Authority::holds)
    }

    async fn give_back(self) {
        self.done.cancel();
        // Fails only if it has panicked, and then the lease runs out by itself.
        let _ = self.election.await;
    }
}

/// Who has the lead.
enum State {
    /// This one, or nobody.
    Held(String),
    /// Without its namespace there is no lease, and in one that is being deleted no new one.
    NoPlace,
}

async fn state(client: &Client, leases: &Api<Lease>, namespace: &str) -> Result<State, Error> {
    let asking = |what| move |source| Error::Reading { what, source };
    let lease = leases.get_opt(LEADER_LEASE).await.map_err(asking("looking who leads"))?;
    if let Some(spec) = lease.and_then(|lease| lease.spec) {
        return Ok(State::Held(spec.holder_identity.unwrap_or_default()));
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace =
        namespaces.get_metadata_opt(namespace).await.map_err(asking("looking at the namespace of the leases"))?;
    let lives = namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
    Ok(if lives { State::Held(String::new()) } else { State::NoPlace })
}
