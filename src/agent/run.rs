//! The agent's loop: it reads the host and its Host object, lets [`reconcile`](super::reconcile) decide, and starts
//! [jobs](super::jobs).
//!
//! The loop never waits for a job, so that a dead portal delays nothing else. It sleeps until something has changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::pending,
    sync::Arc,
    time::Duration,
};

use futures::future::select_all;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::ObjectRef;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span};

use super::{
    cluster::{
        Cluster, ClusterError,
        hosts::{HostsOfNode, NodeHosts},
        liveness::Liveness,
        node_owner,
        outbox::{Due, Outbox},
    },
    cold_start::{self, ColdStart},
    initiator::{Facts, Initiator, InterfaceFilter, Inventory, PathError},
    jobs::{JobResult, Jobs},
    metrics::{AgentMetrics, OutcomeLabel, PathGauge},
    reconcile::{
        Reconciler,
        input::StepInput,
        last_plan::Followed,
        plan::{Plan, PlanVersion},
        report::{PathReport, StatusReport},
    },
    types::{HostId, IscsiPath, credentials::SecretState},
};
use crate::{
    api::{
        AgentStatus, Connection, Host, HostStatus, NodeName, SecretName,
        portal_policy::{PortalPolicy, PortalRules},
        reason::PathReason,
    },
    ops::{Clock, GaugePart, Now, Platform, WhatLabel, backoff::random_seed, log_once::LogOnce},
};

/// The interval at which everything is read even if no change was announced.
const RESYNC: Duration = Duration::from_secs(60);
/// The time for running jobs to end when the agent is stopped.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Changes of devices come in bursts: all that are announced within this time are handled by one turn.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// The pause before a host is read again whose devices could not be read.
const READ_RETRY: Duration = Duration::from_secs(5);

/// The agent of one node.
pub struct Agent<I, C> {
    node: NodeName,
    initiator: Arc<I>,
    cluster: Arc<C>,
    /// The Hosts that name the node.
    hosts: watch::Receiver<NodeHosts>,
    clock: Clock,
    seed: u64,
    /// Which portals may be dialled.
    portals: PortalPolicy,
    jobs: Jobs<I, C>,
    served: Option<HostId>,
    /// The version of the served Host that the plan was last taken from.
    plan_source: Option<Arc<Host>>,
    /// The plan that is followed, shared with the jobs.
    plan: watch::Sender<Option<Arc<Plan>>>,
    reconciler: Option<Reconciler>,
    /// The Secrets that the plan names.
    secrets: HashMap<ObjectRef<Secret>, watch::Receiver<SecretState>>,
    /// The file with the last plan, if one is kept.
    cold_start: Option<ColdStart>,
    /// The credentials for the last plan, while it is followed.
    stored_secrets: BTreeMap<SecretName, SecretState>,
    /// One for each Host that names the node.
    outboxes: BTreeMap<HostId, Outbox>,
    /// The time at which the plan changed or a login ended last, until the plan is acknowledged.
    progress_at: Option<Duration>,
    write_log: LogOnce,
    read_log: LogOnce,
    /// Since when the host cannot be read.
    liveness: Liveness,
    metrics: AgentMetrics,
    path_gauge: PathGauge,
    memory: GaugePart,
}

impl<I: Initiator, C: Cluster> Agent<I, C> {
    /// The agent of the node that `hosts` name.
    #[must_use]
    pub fn new(
        node: NodeName,
        initiator: Arc<I>,
        cluster: Arc<C>,
        hosts: watch::Receiver<NodeHosts>,
        metrics: AgentMetrics,
        portals: PortalPolicy,
    ) -> Self {
        let (plan, clock) = (watch::Sender::new(None), Clock::start());
        Agent {
            jobs: Jobs::new(initiator.clone(), cluster.clone(), plan.subscribe()),
            initiator,
            cluster,
            hosts,
            clock,
            seed: random_seed(),
            portals,
            served: None,
            plan_source: None,
            plan,
            reconciler: None,
            secrets: HashMap::new(),
            cold_start: None,
            stored_secrets: BTreeMap::new(),
            outboxes: BTreeMap::new(),
            progress_at: None,
            liveness: Liveness::new(clock),
            write_log: LogOnce::new(format!("write the status of the Host of node {node}")),
            read_log: LogOnce::new(format!("read the devices of node {node}")),
            path_gauge: PathGauge::new(&metrics),
            memory: GaugePart::new(&metrics.memory),
            metrics,
            node,
        }
    }

    /// Takes the time from another clock, and starts its jobs as tasks of another process.
    #[must_use]
    pub fn on(mut self, platform: Platform) -> Self {
        self.clock = platform.clock;
        self.liveness = Liveness::new(platform.clock);
        self.jobs.use_tasks(platform.tasks);
        self
    }

    /// Whether the agent may count as alive.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Keeps the last plan in a file, and follows it while the API server does not answer after a start.
    #[must_use]
    pub fn with_cold_start(mut self, cold_start: ColdStart) -> Self {
        self.cold_start = Some(cold_start);
        self
    }

    /// Runs until `stop` is cancelled. The sessions stay.
    pub async fn run(self, stop: CancellationToken) {
        let span = info_span!("agent", node = %self.node);
        self.run_until(stop).instrument(span).await;
    }

    async fn run_until(mut self, stop: CancellationToken) {
        let mut changes = self.initiator.changes();
        if let Some(cold_start) = &mut self.cold_start {
            cold_start.read().await;
        }
        loop {
            changes.borrow_and_update();
            let wake_at = self.turn().await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = changed(&mut changes) => sleep(DEBOUNCE).await,
                () = changed(&mut self.hosts) => {}
                () = any_changed(&mut self.secrets) => {}
                () = contact_changed(&mut self.cold_start) => {}
                Some(result) = self.jobs.next() => self.job_ended(result),
                () = sleep_until(self.clock.instant(wake_at)) => {}
            }
            while let Some(result) = self.jobs.try_next() {
                self.job_ended(result);
            }
        }
        // A change of records that is interrupted may leave open-iscsi's lock behind. It takes moments. A job that takes
        // longer than the grace is a login, which holds no lock and whose tool ends by itself.
        self.jobs.finish(SHUTDOWN_GRACE).await;
    }

    /// Reads everything, starts the jobs that are due, and returns the time of the next turn if nothing changes.
    async fn turn(&mut self) -> Duration {
        let hosts = self.hosts.borrow_and_update().clone();
        if let Some(HostsOfNode { hosts, list_began }) = hosts {
            self.update_hosts(&hosts, list_began);
        }
        self.liveness.looks();
        let (facts, inventory) = match self.read_host().await {
            Ok(read) => read,
            Err(error) => {
                self.read_log.failed(error);
                return self.clock.now().monotonic + READ_RETRY;
            }
        };
        self.read_log.recovered();
        self.liveness.has_looked();
        let now = self.clock.now();
        if self.begin_or_end_cold_start(&facts, now).await {
            // The interfaces to read depend on the plan.
            return now.monotonic;
        }
        self.keep_plan(&facts, &inventory, now);
        let (report, wake_at) = self.reconcile(facts, &inventory, now);
        let write_at = self.write(&report, now);
        self.show_memory();
        [wake_at, write_at].into_iter().flatten().fold(now.monotonic + RESYNC, Duration::min)
    }

    async fn read_host(&self) -> Result<(Facts, Inventory), PathError> {
        let (facts, inventory) = self.initiator.read(&self.interface_filter()).await?;
        let candidates = match (&self.reconciler, &*self.plan.borrow()) {
            (Some(reconciler), Some(plan)) => reconciler.logout_candidates(plan, &inventory, &self.secret_states()),
            _ => BTreeSet::new(),
        };
        if candidates.is_empty() {
            return Ok((facts, inventory));
        }
        // Read once more, with the users of the candidates' devices. Only then, because the search for users is
        // expensive.
        Ok((facts, self.initiator.inventory(&candidates).await?))
    }

    fn secret_states(&self) -> BTreeMap<SecretName, SecretState> {
        let read = self.secrets.iter();
        let read = read.map(|(secret, state)| (secret.name.as_str().into(), state.borrow().clone()));
        read.chain(self.stored_secrets.clone()).collect()
    }

    /// Which portals the data center of the served Host may have.
    fn rules(&self) -> Arc<PortalRules> {
        self.portals.rules(self.served.as_ref().map_or("", |host| host.namespace.as_str()))
    }

    fn follows_last_plan(&self) -> bool {
        self.plan.borrow().as_ref().is_some_and(|plan| plan.only_connects)
    }

    /// Begins to follow the last plan if no Host was ever listed and the API server is silent, and ends it when that is over.
    /// Returns whether the plan has changed.
    async fn begin_or_end_cold_start(&mut self, facts: &Facts, now: Now) -> bool {
        let follows = self.follows_last_plan();
        let was_listed = self.hosts.borrow().is_some();
        let Some(cold_start) = &mut self.cold_start else { return false };
        if follows == (cold_start.is_silent() && !was_listed) {
            return false;
        }
        if follows {
            self.end_cold_start();
            return true;
        }
        let Some(last) = cold_start.usable(&self.node, facts.initiator_name.as_deref(), now.wall) else { return false };
        let (plan, secrets) = cold_start::plan_with_stored_credentials(&last, &*self.initiator).await;
        self.served = Some(last.host);
        self.initiator.judge_by(self.rules());
        self.stored_secrets = secrets;
        self.plan.send_replace(Some(Arc::new(plan)));
        self.reconciler.get_or_insert_with(|| Reconciler::cold(self.seed));
        true
    }

    /// Logins that have begun end, and what they have connected stays.
    fn end_cold_start(&mut self) {
        info!("the API server answers: the last plan is not followed any more");
        self.plan.send_replace(None);
        self.stored_secrets.clear();
    }

    /// Keeps the plan that the agent follows for the next cold start.
    fn keep_plan(&mut self, facts: &Facts, inventory: &Inventory, now: Now) {
        let plan = self.plan.borrow().clone();
        let served = self.served_host();
        let has_plan = served.and_then(|host| host.status.as_ref()).is_some_and(|status| status.plan.is_some());
        let host = served.map(|host| HostId::from(&**host));
        let was_listed = self.hosts.borrow().is_some();
        let Some(cold_start) = &mut self.cold_start else { return };
        let change = if was_listed && !cold_start.finds_no_hosts() {
            let Some(initiator_name) = facts.initiator_name.as_deref() else { return };
            // A plan that this version cannot decode counts as absent: the agent goes on with the one before.
            if !has_plan && host.as_ref().is_some_and(|host| cold_start.has_plan_of(host)) {
                return;
            }
            let followed = plan.as_deref().zip(host.as_ref().filter(|_| has_plan));
            let node = &self.node;
            let followed = followed.map(|(plan, host)| Followed { node, host, initiator_name, plan, inventory });
            cold_start.keep(followed, now.wall)
        } else {
            cold_start.forget_if_gone()
        };
        if let Some(change) = change {
            self.jobs.change_last_plan(change);
        }
    }

    /// Takes over the Hosts that name the node, and the plan of the one that is served.
    fn update_hosts(&mut self, hosts: &[Arc<Host>], list_began: Instant) {
        if self.follows_last_plan() {
            self.end_cold_start();
        }
        let known: BTreeSet<HostId> = hosts.iter().map(|host| HostId::from(&**host)).collect();
        self.outboxes.retain(|id, _| known.contains(id));
        for host in hosts {
            let outbox = self.outboxes.entry(HostId::from(&**host)).or_insert_with(|| Outbox::new(host.clone()));
            outbox.update(host, list_began);
        }
        // Without a Host the agent keeps following the last plan.
        let Some(served) = node_owner::served_host(hosts).map(|host| HostId::from(&**host)) else { return };
        if self.served.as_ref().is_some_and(|before| *before != served)
            && let Some(reconciler) = &mut self.reconciler
        {
            reconciler.serve_another();
        }
        self.served = Some(served);
        let Some(host) = self.served_host().cloned() else { return };
        if self.plan_source.as_ref().is_some_and(|source| Arc::ptr_eq(source, &host)) {
            return;
        }
        if let Some(status) = &host.status {
            self.follow_plan(status);
        }
        self.plan_source = Some(host);
    }

    /// The newest known version of the Host that is served.
    fn served_host(&self) -> Option<&Arc<Host>> {
        self.outboxes.get(self.served.as_ref()?).map(Outbox::host)
    }

    fn follow_plan(&mut self, status: &HostStatus) {
        let Some(plan) = status.plan.as_ref().map(Plan::from) else { return };
        // The sessions of a cold start are new: a number in the report is that of another session.
        let is_cold = self.reconciler.as_ref().is_some_and(Reconciler::is_cold);
        let is_first = self.reconciler.is_none() || is_cold;
        let reported = status.connections.iter().filter(|_| is_first);
        let reported =
            reported.map(|connection| (IscsiPath::from(connection), connection.session_id.filter(|_| !is_cold)));
        self.initiator.claim(plan.paths.keys().cloned().collect(), reported.collect());
        self.initiator.judge_by(self.rules());
        if self.plan.borrow().as_deref() != Some(&plan) {
            self.watch_secrets(&plan);
            self.plan.send_replace(Some(Arc::new(plan)));
            self.progress_at = Some(self.clock.now().monotonic);
        }
        let acknowledged = acknowledged_version(status);
        match &mut self.reconciler {
            None => self.reconciler = Some(Reconciler::new(self.seed, &status.connections, acknowledged)),
            Some(reconciler) if reconciler.is_cold() => reconciler.begin_again(&status.connections, acknowledged),
            Some(_) => {}
        }
    }

    fn watch_secrets(&mut self, plan: &Plan) {
        let namespace = self.served.as_ref().map(|host| host.namespace.as_str()).unwrap_or_default();
        let wanted: Vec<ObjectRef<Secret>> =
            plan.secrets().iter().map(|name| ObjectRef::new(name).within(namespace)).collect();
        self.secrets.retain(|secret, _| wanted.contains(secret));
        for secret in wanted {
            self.secrets.entry(secret).or_insert_with_key(|secret| self.cluster.secret(secret));
        }
    }

    fn interface_filter(&self) -> InterfaceFilter {
        let host = self.served_host();
        let in_spec = host.iter().flat_map(|host| &host.spec.interfaces);
        InterfaceFilter {
            host: host.and_then(|host| host.metadata.name.as_deref()).map(Into::into),
            in_spec: in_spec.map(|interface| interface.name.as_str().into()).collect(),
            in_plan: self.plan.borrow().as_ref().map(|plan| plan.interfaces()).unwrap_or_default(),
        }
    }

    /// Lets the reconciler decide and starts its actions. Returns the report and the time of the next step.
    fn reconcile(&mut self, facts: Facts, inventory: &Inventory, now: Now) -> (StatusReport, Option<Duration>) {
        let mut paths = None;
        let mut acknowledged = None;
        let mut wake_at = None;
        let mut warnings = Vec::new();
        let plan = self.plan.borrow().clone();
        let secrets = self.secret_states();
        let portals = self.rules();
        if let (Some(plan), Some(reconciler)) = (plan, &mut self.reconciler) {
            let input = StepInput { plan: &plan, inventory, facts: &facts, secrets: &secrets, portals: &portals, now };
            let step = reconciler.step(input);
            if step.acknowledged.as_ref() == Some(&plan.version) {
                self.progress_at = None;
            }
            for action in step.actions {
                self.jobs.start(action);
            }
            let failed = failed_secrets(&plan, &step.connections);
            self.secrets
                .keys()
                .filter(|secret| failed.contains(secret.name.as_str()))
                .for_each(|secret| self.cluster.secret_failed(secret));
            self.path_gauge.set(&step.connections, now.monotonic);
            for interfered in step.interfered {
                self.metrics.interferences.get_or_create(&WhatLabel { what: interfered.as_str() }).inc();
            }
            warnings = step.warnings;
            paths =
                Some(PathReport { connections: step.connections, multipath: step.multipath, luns: Some(step.luns) });
            acknowledged = step.acknowledged;
            wake_at = step.wake_at;
        }
        // While the served Host has no plan, the agent still follows another Host's plan. That is not reported.
        let status = self.served_host().and_then(|host| host.status.as_ref());
        if status.is_none_or(|status| status.plan.is_none()) {
            paths = None;
            acknowledged = None;
            warnings.clear();
        }
        let Facts { interfaces, initiator_name, initiator, warnings: of_host, automatic_records: _ } = facts;
        warnings.extend(of_host);
        warnings.sort();
        let agent = AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            observed_revision: acknowledged.as_ref().map(|version| version.revision.clone()),
            observed_sequence: acknowledged.map(|version| version.sequence),
            initiator_name,
            initiator,
            unusable_secrets: unusable_secrets(&secrets),
            ..AgentStatus::default()
        }
        .with_warnings(warnings);
        (StatusReport { agent, interfaces: Some(interfaces), paths }.fit(), wake_at)
    }

    /// Starts the writes that are due, and returns the time of the next one.
    fn write(&mut self, report: &StatusReport, now: Now) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for (id, outbox) in &mut self.outboxes {
            let is_served = self.served.as_ref() == Some(id);
            let not_served = (!is_served).then(|| StatusReport::not_served(report.agent.clone(), outbox.host()));
            let report = not_served.as_ref().unwrap_or(report);
            match outbox.due(report, self.progress_at.filter(|_| is_served), now) {
                Due::No => {}
                Due::At(at) => next = Some(next.map_or(at, |next| next.min(at))),
                Due::Now => {
                    log_changes(outbox.host(), report);
                    outbox.write_started(report);
                    self.jobs.write_status(id.clone(), report.fields());
                }
            }
        }
        next
    }

    /// Shows how much is remembered: no more than there are Hosts, Secrets, paths and sessions.
    fn show_memory(&mut self) {
        let of_reconciler = self.reconciler.as_ref().map(Reconciler::memory).unwrap_or_default();
        self.memory.set("hosts", self.outboxes.len());
        self.memory.set("secrets", self.secrets.len() + self.stored_secrets.len());
        self.memory.set("paths", of_reconciler.paths);
        self.memory.set("sessions", of_reconciler.sessions);
        self.memory.set("jobs", self.jobs.len());
    }

    fn job_ended(&mut self, result: JobResult) {
        let now = self.clock.now();
        match (result, &mut self.reconciler) {
            (JobResult::Login(path, result), Some(reconciler)) => {
                let outcome = OutcomeLabel::of_path(result.as_ref().err().map(|error| error.reason));
                self.metrics.logins.get_or_create(&outcome).inc();
                self.progress_at = self.progress_at.map(|_| now.monotonic);
                if let Some(cold_start) = self.cold_start.as_mut().filter(|_| reconciler.is_cold()) {
                    cold_start.login_ended(&path, &result);
                }
                reconciler.login_ended(path, result);
            }
            (JobResult::Logout(id, reason, result), Some(reconciler)) => {
                let outcome = OutcomeLabel::of_path(result.as_ref().err().map(|error| error.reason));
                self.metrics.logouts.get_or_create(&outcome).inc();
                reconciler.logout_ended(id, reason, result, now);
            }
            (JobResult::LookUp(path, session, has_moved), Some(reconciler)) => {
                reconciler.look_up_ended(&path, session, has_moved);
            }
            (JobResult::Tidy(Err(_)), Some(reconciler)) => reconciler.tidy_failed(now),
            (JobResult::StatusWrite { host, result, ended }, _) => self.write_ended(&host, result, ended, now),
            (JobResult::LastPlan(changed), _) => {
                if let Some(cold_start) = &mut self.cold_start {
                    cold_start.change_ended(changed);
                }
            }
            (JobResult::Tidy(_) | JobResult::Adjust | JobResult::MakeMaps, _)
            | (JobResult::Login(..) | JobResult::Logout(..) | JobResult::LookUp(..), None) => {}
        }
    }

    fn write_ended(&mut self, id: &HostId, result: Result<Box<Host>, ClusterError>, ended: Instant, now: Now) {
        self.metrics.writes.get_or_create(&OutcomeLabel::of_request(result.is_ok())).inc();
        match &result {
            Ok(_) => self.write_log.recovered(),
            // The watch will show that the Host is gone.
            Err(ClusterError::NotFound) => {}
            Err(error) => self.write_log.failed(error),
        }
        let Some(outbox) = self.outboxes.get_mut(id) else { return };
        match result {
            Ok(host) => outbox.write_succeeded(&Arc::from(host), ended),
            Err(_) => outbox.write_failed(now, self.seed),
        }
    }
}

/// The plan that the agent had acknowledged before it was started.
fn acknowledged_version(status: &HostStatus) -> Option<PlanVersion> {
    let agent = status.agent.as_ref()?;
    Some(PlanVersion { revision: agent.observed_revision.clone()?, sequence: agent.observed_sequence? })
}

/// The most Secrets that are reported as unusable.
const UNUSABLE_SHOWN: usize = 64;

/// The Secrets of the plan that cannot be used. Reported also while their sessions live: after a reboot they would not be
/// made again.
fn unusable_secrets(secrets: &BTreeMap<SecretName, SecretState>) -> Vec<SecretName> {
    let unusable = secrets.iter().filter(|(_, state)| **state == SecretState::Unusable);
    unusable.map(|(name, _)| name.clone()).take(UNUSABLE_SHOWN).collect()
}

/// The Secrets because of which a path fails.
fn failed_secrets<'a>(plan: &'a Plan, connections: &[Connection]) -> BTreeSet<&'a str> {
    // A wrong password of the target, with mutual CHAP, looks like a target that is not there.
    let because_of_a_secret = |connection: &&Connection| {
        use PathReason::{AuthenticationFailed, SecretNotFound, TargetNotFound};
        matches!(connection.reason, Some(AuthenticationFailed | SecretNotFound | TargetNotFound))
    };
    let failed = connections.iter().filter(because_of_a_secret);
    failed.filter_map(|connection| plan.paths.get(&IscsiPath::from(connection))?.chap_secret.as_deref()).collect()
}

/// Waits for a change; for ever if the sender is gone.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Waits until the API server begins or ceases to answer; for ever if no plan is kept.
async fn contact_changed(cold_start: &mut Option<ColdStart>) {
    match cold_start {
        Some(cold_start) => cold_start.changed().await,
        None => pending().await,
    }
}

async fn any_changed<K>(secrets: &mut HashMap<K, watch::Receiver<SecretState>>) {
    if secrets.is_empty() {
        return pending().await;
    }
    select_all(secrets.values_mut().map(|secret| Box::pin(changed(secret)))).await;
}

/// Logs the paths whose state or reason differs from the last report.
fn log_changes(host: &Host, report: &StatusReport) {
    let Some(PathReport { connections, .. }) = &report.paths else { return };
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
