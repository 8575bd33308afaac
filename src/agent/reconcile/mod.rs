//! Decides the next actions and the report: (plan, inventory, facts, memory, now) -> actions and connections. Pure: no
//! I/O, no client, no clock.
//!
//! [`Reconciler::step`] is called whenever something may have changed, each time with an inventory that was read just
//! before. It never waits: it returns actions, and their results come back through [`Reconciler::login_ended`],
//! [`Reconciler::logout_ended`] and [`Reconciler::tidy_failed`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use self::{
    input::{PathInput, StepInput, credentials, hash, sessions_by_path, subnets},
    interference::{Interfered, Interference},
    logout::LogoutDecision,
    lost_maps::LostMaps,
    luns::Luns,
    moved::LookUp,
    path_state::{PathState, PendingLogin},
    plan::{Plan, PlanVersion},
    schedule::Attempt,
    silence::Silence,
    surplus::SurplusSessions,
};
use super::{
    initiator::{Inventory, LiveSettings, Login, PathError, Session},
    types::{
        IscsiPath,
        credentials::{Credentials, Fingerprint, SecretState},
    },
};
use crate::{
    api::{Connection, HostLuns, HostWarning, Iqn, MultipathMap, Portal, SecretName, reason::PathReason},
    ops::Now,
};

pub mod backoff;
pub mod flapping;
pub mod foreign;
mod group_tags;
pub mod input;
pub mod interference;
pub mod last_plan;
pub mod logout;
pub mod lost_maps;
mod luns;
mod moved;
mod neighbours;
pub mod path_state;
pub mod plan;
mod relogin;
pub mod report;
pub mod schedule;
pub mod silence;
pub mod surplus;

/// A first login may take this much longer than its login timeout before the path is reported as Failed, even if the
/// tool is still waiting. With the default timeout a dead portal is reported within ten seconds.
const LOGIN_MARGIN: Duration = Duration::from_secs(4);
/// The pause after a failed logout for new credentials, before a session is logged out for that purpose again.
const RELOGIN_PAUSE: Duration = Duration::from_secs(30);
/// The pause before records that could not be deleted are tried again. The usual cause, a lock, is often gone by then.
const TIDY_PAUSE: Duration = Duration::from_secs(60);
/// The interval at which a session with a device in use is checked again: the end of use is not announced.
const USAGE_RECHECK: Duration = Duration::from_secs(10);

/// Something for the initiator to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Connect a path.
    Login(Login),
    /// Log a session out, if the logout rule still allows it with an inventory that is read just before.
    Logout {
        /// The session.
        session: Session,
        /// The reason, which selects the part of the rule that applies.
        reason: LogoutReason,
        /// Sessions that are being logged out at the same time.
        logging_out: BTreeSet<u32>,
    },
    /// Apply the settings that can be changed on a live session.
    Adjust {
        /// The session.
        session: Session,
        /// The settings.
        settings: LiveSettings,
    },
    /// Ask for the multipath maps that disks of a session have lost.
    MakeMaps {
        /// The session.
        session: Session,
    },
    /// Ask whether the DNS name of a lost session's portal stands for other addresses now.
    LookUp {
        /// The session.
        session: Session,
    },
    /// Delete our records of paths that are not planned.
    Tidy {
        /// The planned paths, whose records stay.
        keep: BTreeSet<IscsiPath>,
    },
}

/// Why a session is logged out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutReason {
    /// It is not planned.
    Surplus,
    /// The Secret has new credentials: the session is logged in again with them.
    NewCredentials,
    /// It is lost, and the DNS name of its portal stands for other addresses now: the path is connected at one of those.
    NewAddress,
    /// Its target has sent it on to an address that must not be dialled.
    Refused,
}

/// The sessions that the logout rule allows to log out.
struct MayGo<'a> {
    /// They are not planned.
    surplus: Vec<&'a Session>,
    /// They are planned, and at an address that must not be dialled.
    refused: Vec<&'a Session>,
}

/// The result of [`Reconciler::step`].
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The actions to start now.
    pub actions: Vec<Action>,
    /// The paths to report, sorted.
    pub connections: Vec<Connection>,
    /// The multipath maps to report, sorted.
    pub multipath: Vec<MultipathMap>,
    /// The LUNs to report.
    pub luns: HostLuns,
    /// What others have made or changed.
    pub warnings: Vec<HostWarning>,
    /// What others have changed since the last step.
    pub interfered: Vec<Interfered>,
    /// The last plan that has been carried out as far as possible.
    pub acknowledged: Option<PlanVersion>,
    /// The time at which another step is needed without another event.
    pub wake_at: Option<Duration>,
}

/// How many entries a reconciler has from one step to the next. One path or session may have one in each of its maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Entries of paths.
    pub paths: usize,
    /// Entries of sessions and their disks.
    pub sessions: usize,
}

/// The state that is kept from one step to the next.
#[derive(Debug, Default)]
pub struct Reconciler {
    seed: u64,
    paths: BTreeMap<IscsiPath, PathState>,
    surplus: SurplusSessions,
    lost_maps: LostMaps,
    luns: Luns,
    /// Logins that have not ended, and when they were started.
    logins: BTreeMap<IscsiPath, Duration>,
    /// Logouts that have not ended, by session.
    logouts: BTreeMap<u32, IscsiPath>,
    /// Logins that have ended since the last step.
    ended_logins: Vec<(IscsiPath, Result<(), PathError>)>,
    /// The settings that were last asked for, by session. A session that does not take them is not asked again.
    adjusted: BTreeMap<u32, LiveSettings>,
    /// The credentials for which a path was last logged out. It is not logged out for the same again, whatever its session
    /// shows afterwards.
    relogged_in: BTreeMap<IscsiPath, Fingerprint>,
    /// Until then no planned session is logged out, because the last such logout has failed.
    relogin_after: Option<Duration>,
    /// The time to delete our records of paths that are not planned: with every new plan, after a failure, and once
    /// after a start, because the agent may have been killed between its acknowledgement and the deletion.
    tidy_at: Option<Duration>,
    tidied_at: Option<Duration>,
    interference: Interference,
    /// Looks at the names of portals whose session is lost.
    look_ups: BTreeMap<IscsiPath, LookUp>,
    /// The portal group tag that was last answered, by target and portal.
    answered_tpgts: BTreeMap<(Iqn, Portal), u16>,
    /// The last report before this start, for the first step.
    reported: BTreeMap<IscsiPath, Connection>,
    current: Option<PlanVersion>,
    acknowledged: Option<PlanVersion>,
    /// It has followed nothing but the last plan of a cold start.
    is_cold: bool,
}

impl Reconciler {
    /// Starts from the last report in the Host's status. `seed` spreads the retries of different hosts.
    #[must_use]
    pub fn new(seed: u64, reported: &[Connection], acknowledged: Option<PlanVersion>) -> Self {
        let answered = |it: &Connection| ((it.target.clone(), it.portal.clone()), it.tpgt);
        Reconciler {
            seed,
            answered_tpgts: reported.iter().map(answered).collect(),
            reported: reported.iter().map(|connection| (IscsiPath::from(connection), connection.clone())).collect(),
            acknowledged,
            ..Reconciler::default()
        }
    }

    /// Starts with the last plan of a cold start.
    #[must_use]
    pub fn cold(seed: u64) -> Self {
        Reconciler { is_cold: true, ..Reconciler::new(seed, &[], None) }
    }

    /// Begins again from the last report in the Host's status, after the last plan of a cold start was followed. Logins that
    /// have not ended are still known.
    pub fn begin_again(&mut self, reported: &[Connection], acknowledged: Option<PlanVersion>) {
        let begun = Reconciler::new(self.seed, reported, acknowledged);
        let (logins, ended_logins) = (std::mem::take(&mut self.logins), std::mem::take(&mut self.ended_logins));
        *self = Reconciler { logins, ended_logins, ..begun };
    }

    /// Whether it has followed nothing but the last plan of a cold start.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        self.is_cold
    }

    /// How much it remembers.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let paths = [
            self.paths.len(),
            self.logins.len(),
            self.ended_logins.len(),
            self.relogged_in.len(),
            self.look_ups.len(),
            self.answered_tpgts.len(),
            self.reported.len(),
            self.interference.paths(),
        ];
        let sessions = [
            self.surplus.len(),
            self.logouts.len(),
            self.adjusted.len(),
            self.lost_maps.len(),
            self.luns.len(),
            self.interference.sessions(),
        ];
        Memory { paths: paths.iter().sum(), sessions: sessions.iter().sum() }
    }

    /// Another Host is served from now on. It is not known whether its acknowledged plan was carried out here.
    pub fn serve_another(&mut self) {
        self.acknowledged = None;
        self.current = None;
    }

    /// A login has ended.
    pub fn login_ended(&mut self, path: IscsiPath, result: Result<(), PathError>) {
        self.logins.remove(&path);
        self.ended_logins.push((path, result));
    }

    /// A logout has ended. Ok(false) means that the logout rule, asked again, did not allow it any more.
    pub fn logout_ended(&mut self, id: u32, reason: LogoutReason, result: Result<bool, PathError>, now: Now) {
        let path = self.logouts.remove(&id);
        if let (LogoutReason::NewCredentials, Ok(false) | Err(_), Some(path)) = (reason, &result, &path) {
            self.relogged_in.remove(path);
        }
        if !matches!(result, Ok(true)) {
            self.lost_maps.stays(id);
        }
        match (reason, result) {
            (_, Ok(false)) | (LogoutReason::Refused, Ok(true)) => {}
            (LogoutReason::Surplus, Ok(true)) => {
                self.surplus.logged_out(id);
                // The plan may be acknowledged since the session was kept, and its interface record tidied around it.
                self.tidy_at.get_or_insert(now.monotonic);
            }
            (LogoutReason::NewCredentials | LogoutReason::NewAddress, Ok(true)) => {
                if let Some(state) = path.and_then(|path| self.paths.get_mut(&path)) {
                    state.logged_out_for_relogin(now);
                }
            }
            (LogoutReason::Surplus, Err(cause)) => {
                self.surplus.logout_failed(id, cause, now, hash((self.seed, id)));
            }
            (LogoutReason::NewCredentials | LogoutReason::NewAddress | LogoutReason::Refused, Err(_)) => {
                self.relogin_after = Some(now.monotonic + RELOGIN_PAUSE);
            }
        }
    }

    /// Some records of paths that are not planned could not be deleted.
    pub fn tidy_failed(&mut self, now: Now) {
        self.tidy_at = Some(now.monotonic + TIDY_PAUSE);
    }

    /// Sessions that a step may want to log out. Its inventory must contain the users of their devices.
    #[must_use]
    pub fn logout_candidates(
        &self,
        plan: &Plan,
        inventory: &Inventory,
        secrets: &BTreeMap<SecretName, SecretState>,
    ) -> BTreeSet<u32> {
        let mut candidates = logout::candidates(plan, inventory, &self.logging_out());
        for session in &inventory.sessions {
            let params = plan.paths.get(&session.path);
            let is_old = |params| self.new_credentials(session, params, secrets).is_some();
            let goes = params.is_some_and(is_old) || self.has_moved(session);
            if goes && !logout::waits_for_hold(plan, session) {
                candidates.insert(session.id);
            }
        }
        candidates
    }

    /// Decides the next actions, and the report.
    #[must_use]
    pub fn step(&mut self, input: StepInput<'_>) -> Step {
        let sessions = sessions_by_path(input.inventory);
        self.follow_plan(input.plan, &sessions, input.now);
        let interfered = self.observe_interference(input);
        self.remember_tpgts(input);
        self.apply_login_results(&sessions, input.now);
        let mut path_inputs = self.observe_paths(input, &sessions);
        self.hasten_lonely_targets(input.inventory);
        self.fail_untried(&path_inputs, input.now);
        let may_go = self.observe_surplus(input);

        let mut actions = self.surplus_logouts(input, &may_go.surplus);
        actions.extend(self.refused_logouts(input, &may_go.refused));
        actions.extend(self.relogins(input, &sessions));
        actions.extend(self.follow_names(input, &sessions));
        actions.extend(self.due_logins(input, &mut path_inputs));
        actions.extend(self.adjustments(input));
        actions.extend(self.missing_maps(input));
        actions.extend(self.acknowledge(input.plan, input.now));

        let (luns, luns_at) = self.luns.report(input.plan, &sessions, &input.inventory.maps, input.now.monotonic);
        Step {
            actions,
            connections: self.connections(input, &sessions),
            multipath: report::multipath_maps(input.inventory),
            warnings: self.warnings(input),
            interfered,
            acknowledged: self.acknowledged.clone(),
            luns,
            wake_at: [self.wake_at(&path_inputs, input.now), luns_at].into_iter().flatten().min(),
        }
    }

    /// Drops the state of paths that have left the plan; their sessions begin with it. A new path is in its first attempt,
    /// unless the last report has it.
    fn follow_plan(&mut self, plan: &Plan, sessions: &BTreeMap<&IscsiPath, &Session>, now: Now) {
        if self.current.as_ref() != Some(&plan.version) {
            // The plan was acknowledged once, and another plan was followed since: it has to be carried out again.
            if self.current.is_some() && self.acknowledged.as_ref() == Some(&plan.version) {
                self.acknowledged = None;
            }
            self.current = Some(plan.version.clone());
            self.tidy_at = Some(now.monotonic);
        }
        let reported = &mut self.reported;
        self.paths.retain(|path, state| {
            let stays = plan.paths.contains_key(path);
            if let Some(session) = sessions.get(path).filter(|_| !stays) {
                reported.insert(path.clone(), state.report(path, session.tpgt, Some(session)));
            }
            stays
        });
        self.relogged_in.retain(|path, _| plan.paths.contains_key(path));
        for path in plan.paths.keys() {
            if self.paths.contains_key(path) {
                continue;
            }
            let state = match self.reported.remove(path) {
                Some(reported) => PathState::from_report(&reported, now),
                None => PathState::new(now),
            };
            self.paths.insert(path.clone(), state);
        }
    }

    fn apply_login_results(&mut self, sessions: &BTreeMap<&IscsiPath, &Session>, now: Now) {
        for (path, result) in std::mem::take(&mut self.ended_logins) {
            let seed = self.path_seed(&path);
            let Some(state) = self.paths.get_mut(&path) else { continue };
            match result {
                Err(cause) => state.attempt_failed(cause, now, seed),
                Ok(()) if sessions.contains_key(&path) => {}
                Ok(()) => {
                    let gone = "the login has succeeded, and there is no session";
                    state.attempt_failed(PathError::new(PathReason::Internal, gone), now, seed);
                }
            }
        }
    }

    fn observe_paths<'a>(
        &mut self,
        input: StepInput<'a>,
        sessions: &BTreeMap<&IscsiPath, &'a Session>,
    ) -> BTreeMap<IscsiPath, PathInput<'a>> {
        let timeout = attempt_timeout(input.plan);
        let mut path_inputs = BTreeMap::new();
        for (path, params) in &input.plan.paths {
            let login = self.logins.get(path).map(|started| PendingLogin { started: *started, timeout });
            let mut session = sessions.get(path).copied();
            // The path is back in the plan while its old session is being logged out: that session may still go.
            if self.paths.get(path).is_some_and(PathState::is_first_attempt) {
                session = session.filter(|session| !self.logouts.contains_key(&session.id));
            }
            let path_input = PathInput::new(path, params, session, login, input);
            let seed = self.path_seed(path);
            if let Some(state) = self.paths.get_mut(path) {
                state.observe(path_input.observation(), input.now, seed);
            }
            path_inputs.insert(path.clone(), path_input);
        }
        path_inputs
    }

    /// Paths whose first login has not ended, or not begun, fail with those that nobody has answered. They keep their turn.
    fn fail_untried(&mut self, path_inputs: &BTreeMap<IscsiPath, PathInput<'_>>, now: Now) {
        let silence = Silence::of(&self.paths);
        let waits = |path: &IscsiPath| {
            self.logins.contains_key(path) || path_inputs.get(path).is_some_and(PathInput::can_be_tried)
        };
        let untried = self.paths.iter().filter(|(path, state)| state.is_waiting(now) && waits(path));
        let causes: Vec<_> = untried.filter_map(|(path, _)| Some((path.clone(), silence.around(path)?))).collect();
        for (path, cause) in causes {
            if let Some(state) = self.paths.get_mut(&path) {
                state.fail_untried(&cause, now);
            }
        }
    }

    /// Returns the sessions that the logout rule allows to log out.
    fn observe_surplus<'a>(&mut self, input: StepInput<'a>) -> MayGo<'a> {
        let decisions = logout::decide(input.plan, input.inventory, &self.logging_out());
        let is_planned = |session: &Session| input.plan.paths.contains_key(&session.path);
        let (planned, decisions): (Vec<_>, Vec<_>) =
            decisions.into_iter().partition(|(session, _)| is_planned(session));
        let allowed = planned.into_iter().filter(|(_, decision)| matches!(decision, LogoutDecision::LogOut { .. }));
        let refused = allowed.map(|(session, _)| session).collect();
        let first_attempts = self.paths.iter().filter(|(_, state)| state.is_first_attempt());
        let connecting_targets = first_attempts.map(|(path, _)| path.target.clone()).collect();
        let surplus = self.surplus.observe(decisions, &connecting_targets, &mut self.reported, input.now);
        // The last report before the start serves the first step only.
        self.reported.clear();
        MayGo { surplus, refused }
    }

    /// Sessions of planned paths at addresses that must not be dialled.
    fn refused_logouts(&mut self, input: StepInput<'_>, may_go: &[&Session]) -> Vec<Action> {
        let mut actions = Vec::new();
        for session in may_go {
            let is_due = self.relogin_after.is_none_or(|after| after <= input.now.monotonic);
            if is_due && !self.logins.contains_key(&session.path) && self.may_start_logout(input.inventory, session) {
                actions.push(self.log_out(session, LogoutReason::Refused));
            }
        }
        actions
    }

    fn surplus_logouts(&mut self, input: StepInput<'_>, may_go: &[&Session]) -> Vec<Action> {
        let mut actions = Vec::new();
        for session in may_go {
            if self.surplus.is_logout_due(session.id, input.now)
                && !self.logins.contains_key(&session.path)
                && !self.may_be_taken_over(&session.path)
                && self.may_start_logout(input.inventory, session)
            {
                actions.push(self.log_out(session, LogoutReason::Surplus));
            }
        }
        actions
    }

    /// Whether a planned path in its first attempt may take a session on this path over: its portal may be the same one, now
    /// written as a name, or no longer.
    fn may_be_taken_over(&self, path: &IscsiPath) -> bool {
        self.paths.iter().any(|(other, state)| {
            state.is_first_attempt()
                && (other.portal.has_name() || path.portal.has_name())
                && path.differs_in_host_alone(other)
        })
    }

    fn log_out(&mut self, session: &Session, reason: LogoutReason) -> Action {
        let logging_out = self.logging_out();
        self.logouts.insert(session.id, session.path.clone());
        Action::Logout { session: session.clone(), reason, logging_out }
    }

    fn logging_out(&self) -> BTreeSet<u32> {
        self.logouts.keys().copied().collect()
    }

    /// Whether a logout may start: no other one of the session, of its target or of a shared map is under way.
    fn may_start_logout(&self, inventory: &Inventory, session: &Session) -> bool {
        !self.logouts.iter().any(|(id, path)| {
            let other = inventory.sessions.iter().find(|other| other.id == *id);
            *id == session.id
                || path.target == session.path.target
                || other.is_some_and(|other| logout::exclude_each_other(inventory, session, other))
        })
    }

    /// Starts the logins that are due, as many as there are slots.
    fn due_logins(
        &mut self,
        input: StepInput<'_>,
        path_inputs: &mut BTreeMap<IscsiPath, PathInput<'_>>,
    ) -> Vec<Action> {
        let attempt = |path| Attempt { path, is_retry: self.is_retry(path) };
        let running: Vec<Attempt<'_>> = self.logins.keys().map(attempt).collect();
        let is_due = |path: &IscsiPath, state: &PathState| {
            let path_input = path_inputs.get(path).filter(|path_input| path_input.can_be_tried());
            // A logout that has not ended may still delete the record that the login would use.
            let is_logging_out = self.logouts.values().any(|other| other == path);
            !is_logging_out && path_input.is_some_and(|path_input| state.is_due(path_input.fingerprint, input.now))
        };
        let due =
            self.paths.iter().filter(|(path, state)| is_due(path, state)).map(|(path, _)| attempt(path)).collect();
        let devices: BTreeSet<_> = self.paths.keys().map(|path| &path.interface).collect();
        let chosen: Vec<IscsiPath> = schedule::choose(&running, due, devices.len()).into_iter().cloned().collect();
        chosen.into_iter().filter_map(|path| self.log_in(path, input, path_inputs)).collect()
    }

    fn is_retry(&self, path: &IscsiPath) -> bool {
        self.paths.get(path).is_some_and(PathState::is_retry)
    }

    fn log_in(
        &mut self,
        path: IscsiPath,
        input: StepInput<'_>,
        path_inputs: &mut BTreeMap<IscsiPath, PathInput<'_>>,
    ) -> Option<Action> {
        let StepInput { plan, secrets, portals, facts, now, .. } = input;
        let params = plan.paths.get(&path)?;
        let path_input = path_inputs.get_mut(&path)?;
        let credentials = credentials(params, secrets);
        // A login with other credentials ends no rotation to these.
        if self.relogged_in.get(&path) != credentials.map(Credentials::fingerprint).as_ref() {
            self.relogged_in.remove(&path);
        }
        self.paths.get_mut(&path)?.attempt_started(path_input.fingerprint);
        path_input.login = Some(PendingLogin { started: now.monotonic, timeout: attempt_timeout(plan) });
        self.logins.insert(path.clone(), now.monotonic);
        Some(Action::Login(Login {
            siblings: plan.siblings(&path),
            expected_tpgt: self.expected_tpgt(&path, params.only_tpgt),
            only_tpgt: params.only_tpgt,
            seed: self.path_seed(&path),
            subnets: subnets(&path, facts),
            path,
            network: params.network.clone(),
            settings: plan.settings,
            credentials: credentials.cloned(),
            portals: portals.clone(),
        }))
    }

    fn adjustments(&mut self, input: StepInput<'_>) -> Vec<Action> {
        let StepInput { plan, inventory, .. } = input;
        let wanted = LiveSettings::from(plan.settings);
        // A session that was lost may have come back with other settings.
        let ids: BTreeSet<u32> = inventory.sessions.iter().filter(|it| it.is_live()).map(|it| it.id).collect();
        self.adjusted.retain(|id, _| ids.contains(id));
        let mut actions = Vec::new();
        for session in &inventory.sessions {
            let is_ours = session.is_own() && plan.paths.contains_key(&session.path);
            let differs = session.live_settings.is_some_and(|settings| settings != wanted);
            if is_ours && session.is_live() && differs && self.adjusted.insert(session.id, wanted) != Some(wanted) {
                actions.push(Action::Adjust { session: session.clone(), settings: wanted });
            }
        }
        actions
    }

    fn missing_maps(&mut self, input: StepInput<'_>) -> Vec<Action> {
        let logging_out = self.logging_out();
        let found = self.lost_maps.find(input.plan, input.inventory, &logging_out);
        found.into_iter().map(|session| Action::MakeMaps { session: session.clone() }).collect()
    }

    /// A plan is acknowledged when every path has ended its first attempt and every surplus session is gone or kept.
    fn acknowledge(&mut self, plan: &Plan, now: Now) -> Option<Action> {
        // A logout deletes its record after its session is gone. Records that are being changed are not tidied.
        let settled = self.logins.keys().chain(self.logouts.values()).all(|path| plan.paths.contains_key(path))
            && !self.paths.values().any(PathState::is_first_attempt)
            && !self.surplus.is_any_disconnecting();
        let is_tidy_due = self.tidy_at.is_some_and(|at| at <= now.monotonic);
        if !settled || !is_tidy_due || plan.only_connects {
            return None;
        }
        self.acknowledged = Some(plan.version.clone());
        self.tidy_at = None;
        self.tidied_at = Some(now.monotonic);
        Some(Action::Tidy { keep: plan.paths.keys().cloned().collect() })
    }

    fn connections(&self, input: StepInput<'_>, sessions: &BTreeMap<&IscsiPath, &Session>) -> Vec<Connection> {
        let planned = self.paths.iter().map(|(path, state)| {
            let only = input.plan.paths.get(path).and_then(|params| params.only_tpgt);
            let session = sessions.get(path).copied();
            let tpgt = session.map_or_else(|| self.expected_tpgt(path, only), |session| session.tpgt);
            state.report(path, tpgt, session)
        });
        let mut connections: Vec<Connection> = planned.chain(self.surplus.report(input.inventory)).collect();
        connections.sort_by_cached_key(|connection| (IscsiPath::from(connection), connection.session_id));
        connections
    }

    fn wake_at(&self, path_inputs: &BTreeMap<IscsiPath, PathInput<'_>>, now: Now) -> Option<Duration> {
        let paths = self
            .paths
            .iter()
            .filter_map(|(path, state)| state.wake_at(path_inputs.get(path)?.observation(), now))
            .min();
        let is_any_in_use = self.surplus.is_any_in_use() || path_inputs.values().any(PathInput::is_refused);
        let recheck = is_any_in_use.then(|| now.monotonic + USAGE_RECHECK);
        let relogin = self.relogin_after.filter(|after| *after > now.monotonic);
        let tidy = self.tidy_at.filter(|at| *at > now.monotonic);
        let interference = self.interference.wake_at(now);
        [paths, self.surplus.wake_at(now), recheck, relogin, tidy, interference].into_iter().flatten().min()
    }

    fn path_seed(&self, path: &IscsiPath) -> u64 {
        hash((self.seed, path))
    }
}

/// The time for a first attempt before its path is reported as Failed.
fn attempt_timeout(plan: &Plan) -> Duration {
    Duration::from_secs(plan.settings.login_timeout_seconds.into()) + LOGIN_MARGIN
}

#[cfg(test)]
mod tests;
