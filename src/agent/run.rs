//! The agent's loop: reads what is and what should be, lets [`reconcile`](super::reconcile) decide, and carries it out.
//!
//! The loop itself never waits for an action: logins, logouts and writes are jobs of their own, so that a dead portal
//! delays nothing else. It sleeps until something has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::select_all;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    cluster::{
        Cluster, ClusterError,
        hosts::Seen,
        node_owner,
        outbox::{Due, Outbox},
    },
    credentials::SecretState,
    initiator::{Facts, Initiator, InterfaceFilter, Inventory, PathError, Session},
    metrics::{AgentMetrics, OutcomeLabel, PathShare, accepted},
    path::{IscsiPath, Now},
    reconcile::{
        Action, Reconciler, Why,
        input::Situation,
        logout::{self, Verdict},
        plan::{Plan, Written},
        report::{Paths, Report},
    },
};
use crate::{
    api::{AgentStatus, Connection, Host, HostStatus, reason::PathReason},
    ops::log_once::LogOnce,
};

/// How often everything is looked at though nothing has been announced.
const RESYNC: Duration = Duration::from_secs(60);
/// How long what is under way may take to end when the agent is stopped.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Devices come and go in crowds: what is announced within this time is looked at once.
const CROWD: Duration = Duration::from_millis(100);
/// How soon a host whose devices cannot be read is looked at again.
const REREAD: Duration = Duration::from_secs(5);

/// The agent of one node.
pub struct Agent<I, C> {
    initiator: Arc<I>,
    cluster: Arc<C>,
    seen: watch::Receiver<Seen>,
    seed: u64,
    jobs: JoinSet<Done>,
    served: Option<Identity>,
    /// The Host as the plan was last taken from it.
    followed: Option<Arc<Host>>,
    /// What should be; jobs look at it again before they act.
    plan: watch::Sender<Option<Arc<Plan>>>,
    reconciler: Option<Reconciler>,
    /// By namespace and name.
    secrets: BTreeMap<(String, Arc<str>), watch::Receiver<SecretState>>,
    outboxes: BTreeMap<Identity, Outbox>,
    /// When something of the plan being carried out last made progress.
    progress_at: Option<Instant>,
    writing: LogOnce,
    reading: LogOnce,
    metrics: AgentMetrics,
    paths: PathShare,
}

/// Namespace, name and uid.
type Identity = (String, String, String);

/// A job that has ended.
enum Done {
    Login(IscsiPath, Result<(), PathError>),
    Logout(u32, Why, Result<bool, PathError>),
    Write(Identity, Result<Box<Host>, ClusterError>),
    Tidy(Result<(), PathError>),
    Adjust,
}

impl<I: Initiator, C: Cluster> Agent<I, C> {
    /// The agent of the node whose Hosts are seen.
    #[must_use]
    pub fn new(
        node: &str,
        initiator: Arc<I>,
        cluster: Arc<C>,
        seen: watch::Receiver<Seen>,
        metrics: AgentMetrics,
    ) -> Self {
        Agent {
            initiator,
            cluster,
            seen,
            seed: RandomState::new().hash_one(node),
            jobs: JoinSet::new(),
            served: None,
            followed: None,
            plan: watch::Sender::new(None),
            reconciler: None,
            secrets: BTreeMap::new(),
            outboxes: BTreeMap::new(),
            progress_at: None,
            writing: LogOnce::new(format!("write the status of the Host of node {node}")),
            reading: LogOnce::new(format!("read the devices of node {node}")),
            paths: PathShare::of(&metrics),
            metrics,
        }
    }

    /// Runs until it is told to stop. Sessions stay as they are.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.initiator.changes();
        loop {
            changes.borrow_and_update();
            let wake_at = self.turn().await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = changed(&mut changes) => sleep(CROWD).await,
                () = changed(&mut self.seen) => {}
                () = any_changed(&mut self.secrets) => {}
                Some(done) = self.jobs.join_next() => self.take_in(done),
                () = sleep_until(wake_at.into()) => {}
            }
            while let Some(done) = self.jobs.try_join_next() {
                self.take_in(done);
            }
        }
        // A change of records that is cut short may leave open-iscsi's lock behind. It takes moments; what takes longer is
        // a login, which holds no lock, and whose tool ends by itself after the agent has.
        let _ = timeout(LAST_WORDS, async { while self.jobs.join_next().await.is_some() {} }).await;
    }

    /// One look at everything; returns when to look again.
    async fn turn(&mut self) -> Instant {
        let seen = self.seen.borrow_and_update().clone();
        let hosts = seen.as_deref().unwrap_or_default();
        self.see(hosts);
        let named = self.interface_filter();
        let read = async { Ok((self.initiator.facts(&named).await?, self.inventory().await?)) };
        let (facts, inventory): (Facts, Inventory) = match read.await {
            Ok(read) => read,
            Err(error) => {
                let error: PathError = error;
                self.reading.failed(error);
                return Now::read().instant + REREAD;
            }
        };
        self.reading.recovered();
        let now = Now::read();
        let (report, wake_at) = self.decide(facts, &inventory, now);
        let write_at = self.write(&report, now);
        [wake_at, write_at].into_iter().flatten().fold(now.instant + RESYNC, Instant::min)
    }

    /// The inventory, with what uses the devices of sessions that may have to go.
    async fn inventory(&self) -> Result<Inventory, PathError> {
        let inventory = self.initiator.inventory(&BTreeSet::new()).await?;
        let in_question = match (&self.reconciler, &*self.plan.borrow()) {
            (Some(reconciler), Some(plan)) => reconciler.in_question(plan, &inventory, &self.secret_states()),
            _ => BTreeSet::new(),
        };
        if in_question.is_empty() {
            return Ok(inventory);
        }
        self.initiator.inventory(&in_question).await
    }

    fn secret_states(&self) -> BTreeMap<Arc<str>, SecretState> {
        self.secrets.iter().map(|((_, name), state)| (name.clone(), state.borrow().clone())).collect()
    }

    /// Which Host is served, and what it wants.
    fn see(&mut self, hosts: &[Arc<Host>]) {
        let known: BTreeSet<Identity> = hosts.iter().map(|host| identity(host)).collect();
        self.outboxes.retain(|identity, _| known.contains(identity));
        for host in hosts {
            self.outboxes.entry(identity(host)).or_insert_with(|| Outbox::new(host.clone())).saw(host);
        }
        // Nobody asks for anything else: what the last plan wants is kept up.
        let Some(served) = node_owner::served(hosts).map(|host| identity(host)) else { return };
        if self.served.as_ref().is_some_and(|before| *before != served)
            && let Some(reconciler) = &mut self.reconciler
        {
            reconciler.serve_another();
        }
        self.served = Some(served);
        if let Some(host) = self.served_host().cloned()
            && self.followed.as_ref().is_none_or(|followed| !Arc::ptr_eq(followed, &host))
        {
            host.status.iter().for_each(|status| self.follow(status));
            self.followed = Some(host);
        }
    }

    /// The newest known version of the Host that is served.
    fn served_host(&self) -> Option<&Arc<Host>> {
        self.outboxes.get(self.served.as_ref()?).map(Outbox::host)
    }

    fn follow(&mut self, status: &HostStatus) {
        let Some(plan) = status.plan.as_ref().map(Plan::from) else { return };
        if self.plan.borrow().as_deref() != Some(&plan) {
            self.follow_secrets(&plan);
            self.plan.send_replace(Some(Arc::new(plan)));
            self.progress_at = Some(Now::read().instant);
        }
        let observed = || {
            let agent = status.agent.as_ref()?;
            Some(Written { revision: agent.observed_revision.clone()?, sequence: agent.observed_sequence? })
        };
        self.reconciler.get_or_insert_with(|| Reconciler::new(self.seed, &status.connections, observed()));
    }

    fn follow_secrets(&mut self, plan: &Plan) {
        let namespace = self.served.as_ref().map(|(namespace, ..)| namespace.clone()).unwrap_or_default();
        let wanted: BTreeSet<_> = plan.secrets().into_iter().map(|name| (namespace.clone(), name)).collect();
        self.secrets.retain(|secret, _| wanted.contains(secret));
        for secret in wanted {
            let cluster = &self.cluster;
            self.secrets.entry(secret).or_insert_with_key(|(namespace, name)| cluster.secret(namespace, name));
        }
    }

    fn interface_filter(&self) -> InterfaceFilter {
        let host = self.served_host();
        InterfaceFilter {
            host: host.and_then(|host| host.metadata.name.as_deref()).map(Arc::from),
            in_spec: host
                .iter()
                .flat_map(|host| &host.spec.interfaces)
                .map(|named| named.name.as_str().into())
                .collect(),
            in_plan: self.plan.borrow().as_ref().map(|plan| plan.interfaces()).unwrap_or_default(),
        }
    }

    /// Lets the pure part decide, and begins what it wants done.
    fn decide(&mut self, facts: Facts, inventory: &Inventory, now: Now) -> (Report, Option<Instant>) {
        let mut paths = None;
        let mut observed = None;
        let mut wake_at = None;
        let plan = self.plan.borrow().clone();
        let secrets = self.secret_states();
        if let (Some(plan), Some(reconciler)) = (plan, &mut self.reconciler) {
            let situation = Situation { plan: &plan, inventory, facts: &facts, secrets: &secrets, now };
            let step = reconciler.step(situation);
            if step.observed.as_ref() == Some(&plan.written) {
                self.progress_at = None;
            }
            for action in step.actions {
                self.begin(action);
            }
            self.paths.set(&step.connections);
            paths = Some(Paths { connections: step.connections, multipath: step.multipath });
            observed = step.observed;
            wake_at = step.wake_at;
        }
        // A Host that has no plan yet must not be told of what another's plan wants.
        let status = self.served_host().and_then(|host| host.status.as_ref());
        let has_plan = status.is_some_and(|status| status.plan.is_some());
        let observed = observed.filter(|_| has_plan);
        let Facts { interfaces, initiator_name, initiator, warnings } = facts;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let agent = AgentStatus {
            version,
            observed_revision: observed.as_ref().map(|written| written.revision.clone()),
            observed_sequence: observed.map(|written| written.sequence),
            initiator_name,
            initiator,
            warnings,
        };
        (Report { agent, interfaces: Some(interfaces), paths: paths.filter(|_| has_plan) }, wake_at)
    }

    fn begin(&mut self, action: Action) {
        let initiator = self.initiator.clone();
        match action {
            Action::Login(login) => {
                debug!(path = %login.path, "logging in");
                self.jobs.spawn(async move {
                    let result = initiator.login(&login).await;
                    Done::Login(login.path, result)
                });
            }
            Action::Logout { session, why, leaving } => {
                info!(path = %session.path, session = session.id, ?why, "logging out");
                let plan = self.plan.subscribe();
                self.jobs.spawn(async move {
                    let result = log_out(&*initiator, &plan, &session, why, &leaving).await;
                    Done::Logout(session.id, why, result)
                });
            }
            Action::Adjust { session, settings } => {
                self.jobs.spawn(async move {
                    if let Err(error) = initiator.adjust(&session, settings).await {
                        debug!(path = %session.path, %error, "the session keeps its old settings until it is made anew");
                    }
                    Done::Adjust
                });
            }
            Action::Tidy { keep } => {
                self.jobs.spawn(async move {
                    let result = initiator.tidy(&keep).await;
                    if let Err(error) = &result {
                        debug!(%error, "records of paths that are not planned are left behind for now");
                    }
                    Done::Tidy(result)
                });
            }
        }
    }

    /// Writes what is due, and returns when the next write is.
    fn write(&mut self, report: &Report, now: Now) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut due = Vec::new();
        for (identity, outbox) in &mut self.outboxes {
            let is_served = self.served.as_ref() == Some(identity);
            let other = (!is_served).then(|| Report::not_served(report.agent.clone(), outbox.host()));
            let report = other.as_ref().unwrap_or(report);
            match outbox.due(report, self.progress_at.filter(|_| is_served), now) {
                Due::No => {}
                Due::At(at) => next = Some(next.map_or(at, |next| next.min(at))),
                Due::Now => {
                    log_changes(outbox.host(), report);
                    outbox.writing();
                    due.push((identity.clone(), report.patch()));
                }
            }
        }
        for (identity, patch) in due {
            let cluster = self.cluster.clone();
            self.jobs.spawn(async move {
                let (namespace, name, _) = &identity;
                let result = Box::pin(cluster.write_status(namespace, name, &patch)).await.map(Box::new);
                Done::Write(identity, result)
            });
        }
        next
    }

    fn take_in(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = Now::read();
        let done = match done {
            Ok(done) => done,
            // A bug in a job is a bug in the agent; whoever runs it starts it again, and sessions stay.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return,
        };
        match (done, &mut self.reconciler) {
            (Done::Login(path, result), Some(reconciler)) => {
                let outcome = OutcomeLabel::of(result.as_ref().err().map(|error| error.reason));
                self.metrics.logins.get_or_create(&outcome).inc();
                self.progress_at = self.progress_at.map(|_| now.instant);
                reconciler.login_ended(path, result);
            }
            (Done::Logout(id, why, result), Some(reconciler)) => {
                let outcome = OutcomeLabel::of(result.as_ref().err().map(|error| error.reason));
                self.metrics.logouts.get_or_create(&outcome).inc();
                reconciler.logout_ended(id, why, result, now);
            }
            (Done::Write(identity, result), _) => self.take_in_write(&identity, result, now),
            (Done::Tidy(Err(_)), Some(reconciler)) => reconciler.tidying_failed(now),
            (Done::Tidy(_) | Done::Adjust, _) | (Done::Login(..) | Done::Logout(..), None) => {}
        }
    }

    fn take_in_write(&mut self, identity: &Identity, result: Result<Box<Host>, ClusterError>, now: Now) {
        self.metrics.writes.get_or_create(&accepted(&result)).inc();
        match &result {
            Ok(_) => self.writing.recovered(),
            // The watch is about to tell.
            Err(ClusterError::NotFound) => {}
            Err(error) => self.writing.failed(error),
        }
        let Some(outbox) = self.outboxes.get_mut(identity) else { return };
        match result {
            Ok(host) => outbox.written(&Arc::from(host)),
            Err(_) => outbox.failed(now, self.seed),
        }
    }
}

fn identity(host: &Host) -> Identity {
    let metadata = &host.metadata;
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name), text(&metadata.uid))
}

/// One who tells nothing any more has nothing to tell.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}

async fn any_changed<K>(secrets: &mut BTreeMap<K, watch::Receiver<SecretState>>) {
    if secrets.is_empty() {
        return pending().await;
    }
    select_all(secrets.values_mut().map(|secret| Box::pin(changed(secret)))).await;
}

/// Logs a session out if the rule, asked with the newest plan and an inventory that is read just before, still says so.
/// Ok(false): it does not.
async fn log_out(
    initiator: &impl Initiator,
    plan: &watch::Receiver<Option<Arc<Plan>>>,
    session: &Session,
    why: Why,
    leaving: &BTreeSet<u32>,
) -> Result<bool, PathError> {
    let find = |inventory: &Inventory| {
        inventory.sessions.iter().find(|found| found.id == session.id && found.path == session.path).cloned()
    };
    let mut flushed = false;
    loop {
        let inventory = initiator.inventory(&BTreeSet::from([session.id])).await?;
        let Some(found) = find(&inventory) else { return Ok(true) };
        let Some(plan) = plan.borrow().clone() else { return Ok(false) };
        match why {
            Why::Rotated if logout::may_rotate(&plan, &inventory, &found, leaving) => {}
            Why::Rotated => return Ok(false),
            Why::Surplus => {
                let judged = logout::judge(&plan, &inventory, leaving);
                let verdict = judged.into_iter().find(|(judged, _)| judged.id == found.id).map(|(_, verdict)| verdict);
                match verdict {
                    Some(Verdict::Go { flush }) if flush.is_empty() => {}
                    Some(Verdict::Go { flush }) if !flushed => {
                        flushed = true;
                        for map in flush {
                            initiator.flush(map).await?;
                        }
                        continue;
                    }
                    Some(Verdict::Go { .. }) => {
                        return Err(PathError::new(
                            PathReason::InUse,
                            "its multipath map came back after it was removed",
                        ));
                    }
                    Some(Verdict::Keep(_)) | None => return Ok(false),
                }
            }
        }
        initiator.logout(&found).await?;
        return match find(&initiator.inventory(&BTreeSet::new()).await?) {
            None => Ok(true),
            Some(_) => Err(PathError::new(PathReason::Internal, "the session is still there after its logout")),
        };
    }
}

/// What is about to be reported and was not before, for who reads the log.
fn log_changes(host: &Host, report: &Report) {
    let Some(Paths { connections, .. }) = &report.paths else { return };
    let known: BTreeMap<IscsiPath, &Connection> = host
        .status
        .iter()
        .flat_map(|status| &status.connections)
        .map(|connection| (IscsiPath::from(connection), connection))
        .collect();
    for connection in connections {
        let path = IscsiPath::from(connection);
        let before = known.get(&path).map(|before| (before.state, before.reason));
        if before != Some((connection.state, connection.reason)) {
            let reason = connection.reason.map(PathReason::as_str);
            let message = connection.message.as_deref();
            info!(%path, state = ?connection.state, reason, message, "the path has changed");
        }
    }
}
