//! Removes the finalizers, taints and Node conditions of Multibond from the cluster, so that it can be uninstalled.
//!
//! It takes part in the leader election: while it leads, no controller sets them again.

use std::{collections::HashMap, fmt, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Namespace};
use kube::{Api, Client, Resource, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    engine::{
        Applier,
        leadership::{LeaderElection, Leadership, Timing},
    },
    reconcile::{action::Action, finalizer::remove_finalizer, node},
};
use crate::{
    api::{DataCenter, Host, LEADER_LEASE, Network, NodeName, NodePart, ObjectKey, ObjectKind},
    ops::{
        Clock,
        errors::{ErrorReason, brief},
    },
};

/// The times of its leader election; they are the defaults of the controller.
const TIMING: Timing =
    Timing { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(1) };
/// The number of rounds of removal. Other clients change objects too, but rarely while no controller acts.
const ROUNDS: usize = 5;
/// The largest number of requests at a time.
const REQUESTS: usize = 16;

/// Something that Multibond has set on an object, and the action that removes it.
#[derive(Debug)]
pub struct Held {
    what: String,
    action: Action,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Why the release was stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A controller leads, and would set everything again.
    #[error(
        "the controller {holder} still leads in namespace {namespace}, and would put back what is released: uninstall the \
         chart, or scale the controller to 0, and try again"
    )]
    StillLed {
        /// The namespace of its lease.
        namespace: String,
        /// The name of its replica.
        holder: String,
    },
    /// Another replica has taken the lease.
    #[error("a controller has taken the lead meanwhile: see that none runs, and try again")]
    Lost,
    /// A request has failed.
    #[error("{what}: {}", brief(source))]
    Reading {
        /// The purpose of the request.
        what: &'static str,
        /// The error of the request.
        source: kube::Error,
    },
}

/// Lists what Multibond has set in the cluster. A kind that does not exist has nothing set.
///
/// # Errors
/// If objects or Nodes may not be listed.
pub async fn held(client: &Client) -> Result<Vec<Held>, Error> {
    let reading = |source| Error::Reading { what: "listing what is held", source };
    let (hosts, networks, data_centers, nodes) = tokio::try_join!(
        finalizers::<Host>(client, ObjectKind::Host),
        finalizers::<Network>(client, ObjectKind::Network),
        finalizers::<DataCenter>(client, ObjectKind::DataCenter),
        node_marks(client),
    )
    .map_err(reading)?;
    Ok([nodes, hosts, networks, data_centers].into_iter().flatten().collect())
}

/// The finalizers on objects of a kind. Only metadata is read, so an object that cannot be decoded is released too.
async fn finalizers<K>(client: &Client, kind: ObjectKind) -> kube::Result<Vec<Held>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + fmt::Debug,
{
    let objects = match Api::<K>::all(client.clone()).list_metadata(&ListParams::default()).await {
        Ok(objects) => objects.items,
        Err(error) if ErrorReason::from(&error) == ErrorReason::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let held = objects.iter().filter_map(|object| {
        let key = ObjectKey::of(&object.metadata);
        let action = remove_finalizer(kind, &key, &object.metadata)?;
        Some(Held { what: format!("the finalizer of {kind} {key}"), action })
    });
    Ok(held.collect())
}

/// Conditions and taints of Nodes.
async fn node_marks(client: &Client) -> kube::Result<Vec<Held>> {
    let nodes: Api<NodePart> = Api::all(client.clone());
    let nodes = nodes.list(&ListParams::default()).await?;
    Ok(nodes.items.iter().flat_map(marks_of).collect())
}

fn marks_of(node: &NodePart) -> Vec<Held> {
    let name: NodeName = node.metadata.name.as_deref().unwrap_or_default().into();
    let condition = node::drop_condition(&name, node).map(|action| ("condition", action));
    let taint = node::drop_taint(&name, node).map(|action| ("taint", action));
    let marks = condition.into_iter().chain(taint);
    marks.map(|(mark, action)| Held { what: format!("the {mark} of Node {name}"), action }).collect()
}

/// Removes everything that Multibond has set, as soon as no controller leads, and reports each removal. Returns the
/// rest, with the reasons.
///
/// # Errors
/// If a controller still leads after `patience` or takes the lead meanwhile, or if listing fails.
pub async fn release(
    client: &Client,
    namespace: &str,
    identity: &str,
    patience: Duration,
    tell: impl FnMut(&str),
) -> Result<Vec<String>, Error> {
    let lead = Lead::take(client, namespace, identity, patience).await?;
    let ended = release_all(client, identity, &lead, tell).await;
    lead.release().await;
    ended
}

async fn release_all(
    client: &Client,
    identity: &str,
    lead: &Lead,
    mut tell: impl FnMut(&str),
) -> Result<Vec<String>, Error> {
    let applier = Applier {
        client: client.clone(),
        identity: identity.to_owned(),
        clock: Clock::start(),
        leadership: lead.leadership.clone(),
    };
    let mut failures = HashMap::new();
    let mut left = held(client).await?;
    for _ in 0..ROUNDS {
        if left.is_empty() {
            break;
        }
        failures.clear();
        let attempts = left.into_iter().map(async |Held { what, action }| {
            if !lead.is_leader() {
                return Err(Error::Lost);
            }
            Ok((what, applier.apply(action).await))
        });
        let mut attempts = stream::iter(attempts).buffer_unordered(REQUESTS);
        while let Some(attempt) = attempts.next().await {
            match attempt? {
                (what, Ok(_)) => tell(&what),
                (what, Err(error)) => drop(failures.insert(what, brief(&error))),
            }
        }
        // Others may have changed an object meanwhile, and the API server may have refused a write.
        left = held(client).await?;
    }
    let reason = |what: &str| failures.get(what).map_or("somebody puts it back", String::as_str);
    Ok(left.iter().map(|Held { what, .. }| format!("{what}: {}", reason(what))).collect())
}

/// The leadership, or the fact that no controller can have it.
struct Lead {
    /// `None` if there can be no lease, so that no controller can lead.
    leadership: Option<Leadership>,
    done: CancellationToken,
    election: JoinHandle<()>,
}

impl Lead {
    /// Takes part in the election until it leads.
    async fn take(client: &Client, namespace: &str, identity: &str, patience: Duration) -> Result<Self, Error> {
        let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let (election, mut leadership) =
            LeaderElection::new(leases.clone(), identity.to_owned(), TIMING, Clock::start());
        let done = CancellationToken::new();
        let election = tokio::spawn(election.run(done.clone()));
        let until = Instant::now() + patience;
        let ended = loop {
            if leadership.is_leader() {
                break Ok(Some(leadership));
            }
            match state(client, &leases, namespace).await {
                Ok(State::NoPlace) => break Ok(None),
                Ok(State::Held(holder)) if Instant::now() >= until => {
                    break Err(Error::StillLed { namespace: namespace.to_owned(), holder });
                }
                Err(error) if Instant::now() >= until => break Err(error),
                Ok(State::Held(_)) | Err(_) => drop(timeout(TIMING.retry, leadership.changed()).await),
            }
        };
        match ended {
            Ok(leadership) => Ok(Lead { leadership, done, election }),
            Err(error) => {
                Lead { leadership: None, done, election }.release().await;
                Err(error)
            }
        }
    }

    fn is_leader(&self) -> bool {
        self.leadership.as_ref().is_none_or(Leadership::is_leader)
    }

    async fn release(self) {
        self.done.cancel();
        // This fails only if the task has panicked; then the lease runs out.
        let _ = self.election.await;
    }
}

/// The state of the leader's lease.
enum State {
    /// Its holder; empty if nobody has it.
    Held(String),
    /// Its namespace does not exist, or is being deleted, so that there can be no new lease.
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
