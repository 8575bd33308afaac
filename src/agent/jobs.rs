//! The agent's jobs: logins, logouts, changes of records and writes of statuses. Each is a task of its own.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Map, Value};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tracing::{Instrument as _, Span, debug, debug_span, info, info_span};

use super::{
    cluster::{Cluster, ClusterError, HostId},
    initiator::{Initiator, Inventory, LiveSettings, PathError, Session},
    reconcile::{
        Action, LogoutReason,
        logout::{self, LogoutDecision},
        plan::Plan,
    },
    types::IscsiPath,
};
use crate::api::{Host, reason::PathReason};

/// A span whose log lines name the path. The name of a span is a constant, so this cannot be a function.
macro_rules! path_span {
    ($name:literal, $path:expr) => {{
        let IscsiPath { target, portal, interface, .. } = $path;
        info_span!($name, target = %target, portal = %portal, interface = interface.as_deref())
    }};
}

/// The result of a job that has ended.
pub(super) enum JobResult {
    Login(IscsiPath, Result<(), PathError>),
    /// Ok(false): the logout rule, asked again, did not allow it any more.
    Logout(u32, LogoutReason, Result<bool, PathError>),
    Adjust,
    Tidy(Result<(), PathError>),
    StatusWrite(HostId, Result<Box<Host>, ClusterError>),
}

/// The jobs that have not ended.
pub(super) struct Jobs<I, C> {
    initiator: Arc<I>,
    cluster: Arc<C>,
    /// The current plan. A logout looks at it again just before it acts.
    plan: watch::Receiver<Option<Arc<Plan>>>,
    running: JoinSet<JobResult>,
}

impl<I: Initiator, C: Cluster> Jobs<I, C> {
    pub(super) fn new(initiator: Arc<I>, cluster: Arc<C>, plan: watch::Receiver<Option<Arc<Plan>>>) -> Self {
        Jobs { initiator, cluster, plan, running: JoinSet::new() }
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
            Action::Tidy { keep } => self.spawn(debug_span!("tidy"), tidy(initiator, keep)),
        }
    }

    /// Starts a write of a Host's status.
    pub(super) fn write_status(&mut self, host: HostId, fields: Map<String, Value>) {
        let cluster = self.cluster.clone();
        let span = info_span!("write_status", host = %format_args!("{}/{}", host.namespace, host.name));
        self.spawn(span, async move {
            let result = Box::pin(cluster.write_status(&host, &fields)).await.map(Box::new);
            JobResult::StatusWrite(host, result)
        });
    }

    fn spawn(&mut self, span: Span, job: impl Future<Output = JobResult> + Send + 'static) {
        self.running.spawn(job.instrument(span));
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

async fn tidy(initiator: Arc<impl Initiator>, keep: BTreeSet<IscsiPath>) -> JobResult {
    let result = initiator.tidy(&keep).await;
    if let Err(error) = &result {
        debug!(%error, "records of paths that are not planned could not be deleted; trying again");
    }
    JobResult::Tidy(result)
}

/// Logs a session out if the logout rule still allows it, with the newest plan and an inventory that is read just
/// before. Ok(false): it does not.
async fn log_out(
    initiator: &impl Initiator,
    plan: &watch::Receiver<Option<Arc<Plan>>>,
    session: &Session,
    reason: LogoutReason,
    logging_out: &BTreeSet<u32>,
) -> Result<bool, PathError> {
    let mut has_flushed = false;
    loop {
        let inventory = initiator.inventory(&BTreeSet::from([session.id])).await?;
        let Some(found) = find(&inventory, session) else { return Ok(true) };
        let Some(plan) = plan.borrow().clone() else { return Ok(false) };
        match reason {
            LogoutReason::NewCredentials if logout::may_relogin(&plan, &inventory, found, logging_out) => {}
            LogoutReason::NewCredentials => return Ok(false),
            LogoutReason::Surplus => {
                let decisions = logout::decide(&plan, &inventory, logging_out);
                let decision = decisions.into_iter().find(|(session, _)| session.id == found.id);
                match decision.map(|(_, decision)| decision) {
                    Some(LogoutDecision::LogOut { flush }) if flush.is_empty() => {}
                    Some(LogoutDecision::LogOut { flush }) if !has_flushed => {
                        has_flushed = true;
                        for map in flush {
                            initiator.flush(map).await?;
                        }
                        continue;
                    }
                    Some(LogoutDecision::LogOut { .. }) => {
                        let message = "its multipath map came back after it was removed";
                        return Err(PathError::new(PathReason::InUse, message));
                    }
                    Some(LogoutDecision::Keep(_)) | None => return Ok(false),
                }
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
