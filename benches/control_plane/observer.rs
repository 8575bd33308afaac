//! A bare client that watches, and records when it has seen what.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, Resource,
    core::{ApiResource, Object},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use multibond::api::{Host, IscsiBond};
use serde::{Deserialize, de::IgnoredAny};
use tokio::{sync::mpsc, time::timeout};

/// A time-out that is longer than any successful wait.
const PATIENCE: Duration = Duration::from_secs(600);

/// The fields of a status that are used; the others are not decoded.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    observed_generation: Option<i64>,
    phase: Option<String>,
    plan: Option<Plan>,
    agent: Option<Agent>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Plan {
    revision: String,
    paths: Vec<IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Agent {
    observed_revision: Option<String>,
}

type Seen = Object<IgnoredAny, Status>;

impl Status {
    /// The number of planned paths.
    pub fn planned(&self) -> Option<usize> {
        self.plan.as_ref().map(|plan| plan.paths.len())
    }

    /// Whether the plan has been carried out, and the verdict says so.
    pub fn is_done(&self) -> bool {
        let planned = self.plan.as_ref().map(|plan| &plan.revision);
        let observed = self.agent.as_ref().and_then(|agent| agent.observed_revision.as_ref());
        planned.is_some() && planned == observed && self.phase.as_deref() == Some("Up")
    }

    /// Whether it is Ready in this generation of the spec.
    pub fn is_ready(&self, generation: i64) -> bool {
        let ready = self.conditions.iter().find(|condition| condition.type_ == "Ready");
        self.observed_generation == Some(generation) && ready.is_some_and(|ready| ready.status == "True")
    }
}

/// What has been seen, and when.
struct Sighting {
    at: Instant,
    of_bond: bool,
    name: String,
    status: Status,
}

/// Watches the Hosts and bonds of a namespace.
pub struct Observer {
    sightings: mpsc::UnboundedReceiver<Sighting>,
    hosts: HashMap<String, Status>,
    bonds: HashMap<String, Status>,
    /// The time of the last event.
    pub latest: Instant,
}

impl Observer {
    /// Starts to watch.
    pub fn new(client: &Client, namespace: &str) -> Self {
        let (sender, sightings) = mpsc::unbounded_channel();
        tokio::spawn(follow::<Host>(client.clone(), namespace.to_owned(), false, sender.clone()));
        tokio::spawn(follow::<IscsiBond>(client.clone(), namespace.to_owned(), true, sender));
        Observer { sightings, hosts: HashMap::new(), bonds: HashMap::new(), latest: Instant::now() }
    }

    /// Waits until a condition holds for this number of hosts, and returns the time when it was seen for the last of
    /// them.
    pub async fn until_hosts(&mut self, what: &str, count: usize, holds: impl Fn(&str, &Status) -> bool) -> Instant {
        let mut done: HashSet<String> =
            self.hosts.iter().filter(|(name, status)| holds(name, status)).map(|(name, _)| name.clone()).collect();
        let mut at = Instant::now();
        while done.len() < count {
            let sighting = self.next(what).await;
            at = sighting.at;
            if !sighting.of_bond {
                if holds(&sighting.name, &sighting.status) {
                    done.insert(sighting.name);
                } else {
                    done.remove(&sighting.name);
                }
            }
        }
        at
    }

    /// Waits until a condition holds for a bond.
    pub async fn until_bond(&mut self, what: &str, bond: &str, holds: impl Fn(&Status) -> bool) -> Instant {
        if self.bonds.get(bond).is_some_and(&holds) {
            return self.latest;
        }
        loop {
            let sighting = self.next(what).await;
            if sighting.of_bond && sighting.name == bond && holds(&sighting.status) {
                return sighting.at;
            }
        }
    }

    /// Waits until nothing has been seen for a while.
    pub async fn until_quiet(&mut self, quiet: Duration) {
        while let Ok(sighting) = timeout(quiet, self.sightings.recv()).await {
            self.take_in(&sighting.unwrap());
        }
    }

    /// The number of known hosts for which a condition holds.
    pub fn count(&self, holds: impl Fn(&Status) -> bool) -> usize {
        self.hosts.values().filter(|status| holds(status)).count()
    }

    async fn next(&mut self, what: &str) -> Sighting {
        let Ok(sighting) = timeout(PATIENCE, self.sightings.recv()).await else {
            panic!("not within {PATIENCE:?}: {what}");
        };
        let sighting = sighting.unwrap();
        self.take_in(&sighting);
        sighting
    }

    fn take_in(&mut self, sighting: &Sighting) {
        let statuses = if sighting.of_bond { &mut self.bonds } else { &mut self.hosts };
        statuses.insert(sighting.name.clone(), sighting.status.clone());
        self.latest = sighting.at;
    }
}

async fn follow<K: Resource<DynamicType = ()>>(
    client: Client,
    namespace: String,
    of_bond: bool,
    sightings: mpsc::UnboundedSender<Sighting>,
) {
    let resource = ApiResource::erase::<K>(&());
    let api: Api<Seen> = Api::namespaced_with(client, &namespace, &resource);
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
        let Some(name) = object.metadata.name else { continue };
        let status = object.status.unwrap_or_default();
        if sightings.send(Sighting { at: Instant::now(), of_bond, name, status }).is_err() {
            return;
        }
    }
}
