//! The agent's jobs: logins, logouts, changes of records and writes of statuses. Each is a task of its own.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Map, Value};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::{Instrument as _, Span, debug, debug_span, info, info_span, warn};

use super::{
    cluster::{Cluster, ClusterError},
    cold_start::{Change, Changed},
    initiator::{Initiator, Inventory, LiveSettings, Map as MultipathMap, PathError, Session},
    reconcile::{
        Action, LogoutReason,
        logout::{self, LogoutDecision},
        plan::Plan,
    },
    types::{HostId, IscsiPath},
};
use crate::{
    api::{Host, reason::PathReason},
    ops::Tasks,
};

/// A span whose log lines name the path. The name of a span is a constant, so this cannot be a function.
macro_rules! path_span {
    ($name:literal, $path:expr) => {{
        let IscsiPath { target, portal, interface } = $path;
        info_span!($name, target = %target, portal = %portal, interface = interface.as_deref())
    }};
}

/// The result of a job that has ended.
pub(super) enum JobResult {
    Login(IscsiPath, Result<(), PathError>),
    /// Ok(false): the logout rule, asked again, did not allow it any more.
    Logout(u32, LogoutReason, Result<bool, PathError>),
    Adjust,
    MakeMaps,
    /// Whether the name of the lost session's portal has moved.
    LookUp(IscsiPath, u32, bool),
    Tidy(Result<(), PathError>),
    LastPlan(Changed),
    StatusWrite {
        host: HostId,
        result: Result<Box<Host>, ClusterError>,
        ended: Instant,
    },
}

/// The jobs that have not ended.
pub(super) struct Jobs<I, C> {
    initiator: Arc<I>,
    cluster: Arc<C>,
    /// The current plan. A logout looks at it again just before it acts.
    plan: watch::Receiver<Option<Arc<Plan>>>,
    running: JoinSet<JobResult>,
    tasks: Tasks,
}

impl<I: Initiator, C: Cluster> Jobs<I, C> {
    pub(super) fn new(initiator: Arc<I>, cluster: Arc<C>, plan: watch::Receiver<Option<Arc<Plan>>>) -> Self {
        Jobs { initiator, cluster, plan, running: JoinSet::new(), tasks: Tasks::default() }
    }

    /// Starts jobs as tasks of this process.
    pub(super) fn use_tasks(&mut self, tasks: Tasks) {
        self.tasks = tasks;
    }

    /// Starts an action of the initiator.
    pub(super) fn start(&mut self, action: Action) {
        let initiator = self.initiator.clone();
        match action {
            Action::Login(login) => {
                let span = path_span!("login", &login.path);
                self.spawn(span, async move {
                    debug!("logging in");
                    let result = initiator.login(&login).await;
                    JobResult::Login(login.path, result)
                });
            }
            Action::Logout { session, reason, logging_out } => {
                let span = path_span!("logout", &session.path);
                let plan = self.plan.clone();
                self.spawn(span, async move {
                    info!(session = session.id, ?reason, "logging out");
                    let result = log_out(&*initiator, &plan, &session, reason, &logging_out).await;
                    JobResult::Logout(session.id, reason, result)
                });
            }
            Action::Adjust { session, settings } => {
                let span = path_span!("adjust", &session.path);
                self.spawn(span, adjust(initiator, session, settings));
            }
            Action::MakeMaps { session } => {
                let span = path_span!("maps", &session.path);
                self.spawn(span, make_maps(initiator, session));
            }
            Action::LookUp { session } => {
                let span = path_span!("look_up", &session.path);
                self.spawn(span, look_up(initiator, session));
            }
            Action::Tidy { keep } => self.spawn(debug_span!("tidy"), tidy(initiator, keep)),
        }
    }

    /// Starts a write of a Host's status.
    pub(super) fn write_status(&mut self, host: HostId, fields: Map<String, Value>) {
        let cluster = self.cluster.clone();
        let span = info_span!("write_status", host = %format_args!("{}/{}", host.namespace, host.name));
        self.spawn(span, async move {
            let result = Box::pin(cluster.write_status(&host, &fields)).await.map(Box::new);
            JobResult::StatusWrite { host, result, ended: Instant::now() }
        });
    }

    /// Starts a change of the file with the last plan.
    pub(super) fn change_last_plan(&mut self, change: Change) {
        self.spawn(debug_span!("last_plan"), async move { JobResult::LastPlan(change.carry_out().await) });
    }

    fn spawn(&mut self, span: Span, job: impl Future<Output = JobResult> + Send + 'static) {
        self.tasks.spawn_in(&mut self.running, job.instrument(span));
    }

    /// The number of jobs that have not ended, or whose end was not looked at.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Waits for the next job to end; None if there is none. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<JobResult> {
        loop {
            if let Some(result) = job_result(self.running.join_next().await?) {
                return Some(result);
            }
        }
    }

    /// A job that has ended already, if there is one.
    pub(super) fn try_next(&mut self) -> Option<JobResult> {
        loop {
            if let Some(result) = job_result(self.running.try_join_next()?) {
                return Some(result);
            }
        }
    }

    /// Waits until all jobs have ended, but not longer than `grace`.
    pub(super) async fn finish(&mut self, grace: Duration) {
        let _ = timeout(grace, async { while self.running.join_next().await.is_some() {} }).await;
    }
}

/// None for a job that was cancelled, which happens only when the runtime stops.
///
/// A panic in a job is a bug in the agent and ends it. It is then started again, and the sessions stay.
fn job_result(ended: Result<JobResult, tokio::task::JoinError>) -> Option<JobResult> {
    match ended {
        Ok(result) => Some(result),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

async fn adjust(initiator: Arc<impl Initiator>, session: Session, settings: LiveSettings) -> JobResult {
    if let Err(error) = initiator.adjust(&session, settings).await {
        debug!(%error, "the session keeps its old settings until its next login");
    }
    JobResult::Adjust
}

async fn make_maps(initiator: Arc<impl Initiator>, session: Session) -> JobResult {
    info!(session = session.id, "a disk of the session has lost its multipath map; asking multipathd for it");
    if let Err(error) = initiator.make_maps(&session).await {
        warn!(%error, "multipathd could not be asked for the map");
    }
    JobResult::MakeMaps
}

async fn look_up(initiator: Arc<impl Initiator>, session: Session) -> JobResult {
    let has_moved = initiator.has_moved(&session).await.unwrap_or_else(|error| {
        debug!(%error, "the name of the portal of a lost session cannot be resolved");
        false
    });
    JobResult::LookUp(session.path, session.id, has_moved)
}

async fn tidy(initiator: Arc<impl Initiator>, keep: BTreeSet<IscsiPath>) -> JobResult {
    let result = initiator.tidy(&keep).await;
    if let Err(error) = &result {
        debug!(%error, "records of paths that are not planned could not be deleted; trying again");
    }
    JobResult::Tidy(result)
}

/// Logs a session out if the logout rule still allows it. Ok(false): it does not.
///
/// If the session stays after maps were removed for its logout, they are made again: otherwise the disks of the session
/// would have no map until the next login.
async fn log_out(
    initiator: &impl Initiator,
    plan: &watch::Receiver<Option<Arc<Plan>>>,
    session: &Session,
    reason: LogoutReason,
    logging_out: &BTreeSet<u32>,
) -> Result<bool, PathError> {
    let mut flushed = Vec::new();
    let result = log_out_flushing(initiator, plan, session, reason, logging_out, &mut flushed).await;
    if !matches!(result, Ok(true)) {
        for map in &flushed {
            if let Err(error) = initiator.restore(map).await {
                warn!(%error, "the session stays, and its multipath map {} was not made again", map.name);
            }
        }
    }
    result
}

/// Asks the logout rule with the newest plan and an inventory that is read just before. Adds the maps that it removes to
/// `flushed`.
async fn log_out_flushing(
    initiator: &impl Initiator,
    plan: &watch::Receiver<Option<Arc<Plan>>>,
    session: &Session,
    reason: LogoutReason,
    logging_out: &BTreeSet<u32>,
    flushed: &mut Vec<MultipathMap>,
) -> Result<bool, PathError> {
    loop {
        let inventory = initiator.inventory(&BTreeSet::from([session.id])).await?;
        let Some(found) = find(&inventory, session) else {
            // Another path may have taken the session over meanwhile.
            return Ok(inventory.sessions.iter().all(|found| found.id != session.id));
        };
        let Some(plan) = plan.borrow().clone() else { return Ok(false) };
        let flush = match reason {
            LogoutReason::NewCredentials | LogoutReason::NewAddress => {
                logout::for_relogin(&plan, &inventory, found, logging_out)
            }
            LogoutReason::Surplus | LogoutReason::Refused => {
                let decisions = logout::decide(&plan, &inventory, logging_out);
                decisions.into_iter().find_map(|(session, decision)| match decision {
                    LogoutDecision::LogOut { flush } if session.id == found.id => Some(flush),
                    LogoutDecision::LogOut { .. } | LogoutDecision::Keep(_) => None,
                })
            }
        };
        match flush {
            None => return Ok(false),
            Some(flush) if flush.is_empty() => {}
            Some(flush) if flushed.is_empty() => {
                for map in flush {
                    // Before the removal: even one that fails may have removed it.
                    flushed.push(map.clone());
                    initiator.flush(map).await?;
                }
                continue;
            }
            Some(_) => {
                let message = "its multipath map came back after it was removed";
                return Err(PathError::new(PathReason::InUse, message));
            }
        }
        initiator.logout(found).await?;
        let after = initiator.inventory(&BTreeSet::new()).await?;
        return match find(&after, session) {
            None => Ok(true),
            Some(_) => Err(PathError::new(PathReason::Internal, "the session is still there after its logout")),
        };
    }
}

/// The session in a new inventory. The kernel may have given the number of a removed session to a session of another
/// path.
fn find<'a>(inventory: &'a Inventory, session: &Session) -> Option<&'a Session> {
    inventory.sessions.iter().find(|found| found.id == session.id && found.path == session.path)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Mutex, PoisonError},
    };

    use super::*;
    use crate::agent::{
        fixtures::{inventory, map, path, plan, session},
        initiator::{Facts, InterfaceFilter, Login},
        types::credentials::Credentials,
    };
    use crate::api::portal_policy::PortalRules;

    /// A host with one session over two maps, which nobody uses. It writes down what is done to the maps.
    struct TwoMaps {
        /// The flush of `mpathb` fails.
        is_stuck: bool,
        /// The plan that comes after the first flush.
        new_plan: Option<Plan>,
        plan: watch::Sender<Option<Arc<Plan>>>,
        done: Mutex<Vec<String>>,
    }

    impl TwoMaps {
        fn new(is_stuck: bool, new_plan: Option<Plan>) -> Self {
            let plan = watch::Sender::new(Some(Arc::new(plan("r", &[]))));
            TwoMaps { is_stuck, new_plan, plan, done: Mutex::default() }
        }

        fn note(&self, what: &str) {
            self.done.lock().unwrap_or_else(PoisonError::into_inner).push(what.to_owned());
        }

        fn done(&self) -> Vec<String> {
            self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        async fn log_out(&self) -> Result<bool, PathError> {
            let session = session(1, path("a", "1", "ens1"));
            log_out(self, &self.plan.subscribe(), &session, LogoutReason::Surplus, &BTreeSet::new()).await
        }
    }

    impl Initiator for TwoMaps {
        async fn inventory(&self, _: &BTreeSet<u32>) -> Result<Inventory, PathError> {
            let done = self.done();
            if done.contains(&"logout".to_owned()) {
                return Ok(inventory(vec![], vec![]));
            }
            let maps = ["mpatha", "mpathb"].map(|name| MultipathMap { name: name.into(), ..map(0, &[(1, true)]) });
            let maps = maps.into_iter().filter(|map| !done.contains(&format!("flush {}", map.name))).collect();
            let mut session = session(1, path("a", "1", "ens1"));
            // Each map has a disk of its own.
            session.disks.push(session.disks[0].clone());
            session.disks[1].name = "sd1b".into();
            let mut found = inventory(vec![session], maps);
            for map in found.maps.iter_mut().filter(|map| &*map.name == "mpathb") {
                map.paths[0].disk = "sd1b".into();
            }
            Ok(found)
        }

        async fn flush(&self, map: &MultipathMap) -> Result<(), PathError> {
            if self.is_stuck && &*map.name == "mpathb" {
                return Err(PathError::new(PathReason::InUse, "the map is in use"));
            }
            self.note(&format!("flush {}", map.name));
            if let Some(plan) = &self.new_plan {
                self.plan.send_replace(Some(Arc::new(plan.clone())));
            }
            Ok(())
        }

        async fn restore(&self, map: &MultipathMap) -> Result<(), PathError> {
            self.note(&format!("restore {}", map.name));
            Ok(())
        }

        async fn make_maps(&self, _: &Session) -> Result<(), PathError> {
            Ok(())
        }

        async fn has_moved(&self, _: &Session) -> Result<bool, PathError> {
            Ok(false)
        }

        async fn logout(&self, _: &Session) -> Result<(), PathError> {
            self.note("logout");
            Ok(())
        }

        async fn read(&self, _: &InterfaceFilter) -> Result<(Facts, Inventory), PathError> {
            Ok((Facts::default(), Inventory::default()))
        }

        fn claim(&self, _: BTreeSet<IscsiPath>, _: BTreeMap<IscsiPath, Option<u32>>) {}

        fn judge_by(&self, _: Arc<PortalRules>) {}

        fn changes(&self) -> watch::Receiver<()> {
            watch::Sender::new(()).subscribe()
        }

        async fn login(&self, _: &Login) -> Result<(), PathError> {
            Ok(())
        }

        async fn adjust(&self, _: &Session, _: LiveSettings) -> Result<(), PathError> {
            Ok(())
        }

        async fn stored_credentials(&self, _: &IscsiPath) -> Option<Credentials> {
            None
        }

        async fn tidy(&self, _: &BTreeSet<IscsiPath>) -> Result<(), PathError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn maps_are_made_again_if_another_map_keeps_the_session() {
        let host = TwoMaps::new(true, None);
        assert_eq!(host.log_out().await.unwrap_err().reason, PathReason::InUse);
        assert_eq!(host.done(), ["flush mpatha", "restore mpatha", "restore mpathb"]);
    }

    #[tokio::test]
    async fn maps_are_made_again_if_the_path_returns_to_the_plan() {
        let host = TwoMaps::new(false, Some(plan("r2", &[path("a", "1", "ens1")])));
        assert_eq!(host.log_out().await, Ok(false));
        assert_eq!(host.done(), ["flush mpatha", "flush mpathb", "restore mpatha", "restore mpathb"]);
    }

    #[tokio::test]
    async fn the_maps_of_a_session_that_has_gone_stay_removed() {
        let host = TwoMaps::new(false, None);
        assert_eq!(host.log_out().await, Ok(true));
        assert_eq!(host.done(), ["flush mpatha", "flush mpathb", "logout"]);
    }
}
