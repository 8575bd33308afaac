//! What to do next, and what to report: (plan, inventory, facts, what is remembered, now) -> actions and connections.
//! Pure: it knows no initiator, no client and no clock.
//!
//! [`Reconciler::step`] is called whenever anything may have changed, and always with an inventory that was read just
//! before. It never waits: what it wants done is returned as actions, and what became of them comes back through
//! [`Reconciler::login_ended`] and [`Reconciler::logout_ended`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    input::{PathView, Situation, by_path, credentials, hash},
    logout::Verdict,
    path_state::Standing,
    plan::{Order, Plan, Written},
    surplus::{Judged, Leaving},
};
use super::{
    credentials::{Credentials, SecretState},
    initiator::{Inventory, LiveSettings, Login, PathError, Session},
    path::{IscsiPath, Now},
};
use crate::api::{Connection, MultipathMap, reason::PathReason};

pub mod backoff;
pub mod input;
pub mod logout;
pub mod path_state;
pub mod plan;
pub mod report;
pub mod surplus;

/// Logins at once: those of four portals, each through four networks.
const LOGINS: usize = 16;
/// Logins at once of paths that have failed before: first attempts never wait for dead portals to be tried again.
const RETRIES: usize = 5;
/// How much longer than its login timeout a first login may take before the path counts as failed, whatever the tool is
/// still waiting for: with the default timeout, and a second to write it, a dead portal is reported within ten.
const LOGIN_MARGIN: Duration = Duration::from_secs(4);
/// The pause after a session with old credentials could not be logged out.
const RENEW_PAUSE: Duration = Duration::from_secs(30);
/// The pause after records could not be forgotten. What keeps them, such as a lock, is often gone by then.
const TIDY_PAUSE: Duration = Duration::from_secs(60);
/// How often a session that is kept because its device is used is looked at again: nothing announces the end of use.
const USE_RECHECK: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Connect a path.
    Login(Login),
    /// Log a session out, after the rule has been asked once more with a new inventory.
    Logout {
        /// The session.
        session: Session,
        /// Which rule applies.
        why: Why,
        /// Sessions whose logout is under way at the same time.
        leaving: BTreeSet<u32>,
    },
    /// Bring a live session in line with the settings.
    Adjust {
        /// The session.
        session: Session,
        /// The settings.
        settings: LiveSettings,
    },
    /// Forget our records of paths that are not planned.
    Tidy {
        /// The planned paths.
        keep: BTreeSet<IscsiPath>,
    },
}

/// Why a session is logged out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not planned.
    Surplus,
    /// It was authenticated with credentials that are not valid any more.
    Rotated,
}

/// What a step comes to.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// What to do now.
    pub actions: Vec<Action>,
    /// What to report of the paths, sorted.
    pub connections: Vec<Connection>,
    /// What to report of the multipath maps, sorted.
    pub multipath: Vec<MultipathMap>,
    /// The last plan that has been carried out, as far as that is possible.
    pub observed: Option<Written>,
    /// When time alone will change something.
    pub wake_at: Option<Instant>,
}

/// What is remembered from one step to the next.
#[derive(Debug, Default)]
pub struct Reconciler {
    seed: u64,
    paths: BTreeMap<IscsiPath, Standing>,
    leaving: BTreeMap<u32, Leaving>,
    logins: BTreeMap<IscsiPath, Instant>,
    logouts: BTreeMap<u32, IscsiPath>,
    /// Logins that have ended since the last step.
    ended: Vec<(IscsiPath, Result<(), PathError>)>,
    /// Which replacement timeout was last asked for, by session: a session that does not take it is not asked again.
    adjusted: BTreeMap<u32, LiveSettings>,
    /// No session is made anew before, because the last could not be logged out.
    renew_after: Option<Instant>,
    /// From when on our records of paths that are not planned are to be forgotten: since the plan is followed, by this
    /// agent too, as one before it may have been killed after it had said that it was done; or again, if that failed.
    tidy_at: Option<Instant>,
    reported: BTreeMap<IscsiPath, Connection>,
    current: Option<Written>,
    observed: Option<Written>,
}

impl Reconciler {
    /// Remembers nothing yet but what was last reported. `seed` spreads the retries of hosts.
    #[must_use]
    pub fn new(seed: u64, reported: &[Connection], observed: Option<Written>) -> Self {
        let reported = reported.iter().map(|connection| (IscsiPath::from(connection), connection.clone())).collect();
        Reconciler { seed, reported, observed, ..Reconciler::default() }
    }

    /// From now on another Host is served: what it has acknowledged is not known to have been done.
    pub fn serve_another(&mut self) {
        self.observed = None;
        self.current = None;
    }

    /// A login has ended.
    pub fn login_ended(&mut self, path: IscsiPath, result: Result<(), PathError>) {
        self.logins.remove(&path);
        self.ended.push((path, result));
    }

    /// A logout has ended; Ok(false) when the rule, asked once more, said no.
    pub fn logout_ended(&mut self, id: u32, why: Why, result: Result<bool, PathError>, now: Now) {
        let path = self.logouts.remove(&id);
        match (why, result) {
            (_, Ok(false)) => {}
            (Why::Surplus, Ok(true)) => {
                self.leaving.remove(&id);
            }
            (Why::Rotated, Ok(true)) => {
                if let Some(standing) = path.and_then(|path| self.paths.get_mut(&path)) {
                    standing.renewed(now);
                }
            }
            (Why::Surplus, Err(cause)) => {
                let seed = hash((self.seed, id));
                if let Some(leaving) = self.leaving.get_mut(&id) {
                    leaving.logout_failed(cause, now, seed);
                }
            }
            (Why::Rotated, Err(_)) => self.renew_after = Some(now.instant + RENEW_PAUSE),
        }
    }

    /// Records of paths that are not planned are left behind.
    pub fn tidying_failed(&mut self, now: Now) {
        self.tidy_at = Some(now.instant + TIDY_PAUSE);
    }

    /// Sessions that may have to go as far as this tells: a step has to know what uses their devices.
    #[must_use]
    pub fn in_question(
        &self,
        plan: &Plan,
        inventory: &Inventory,
        secrets: &BTreeMap<Arc<str>, SecretState>,
    ) -> BTreeSet<u32> {
        let is_to_be_renewed = |session: &&Session| {
            plan.paths.get(&session.path).is_some_and(|order| is_outdated(session, order, secrets))
        };
        let mut in_question = logout::in_question(plan, inventory, &self.under_way());
        in_question.extend(inventory.sessions.iter().filter(is_to_be_renewed).map(|session| session.id));
        in_question
    }

    /// Decides what to do next, and what to report.
    #[must_use]
    pub fn step(&mut self, situation: Situation<'_>) -> Step {
        let sessions = by_path(situation.inventory);
        self.follow(situation.plan, situation.now);
        self.take_in_logins(&sessions, situation.now);
        let mut views = self.look_at_paths(situation, &sessions);
        let may_go = self.look_at_leaving(situation);

        let mut actions = self.logouts(situation, &may_go);
        actions.extend(self.rotations(situation, &sessions));
        actions.extend(self.logins(situation, &mut views));
        actions.extend(self.adjustments(situation));
        actions.extend(self.acknowledge(situation.plan, situation.now));

        Step {
            actions,
            connections: self.connections(situation.inventory, &sessions),
            multipath: multipath(situation.inventory),
            observed: self.observed.clone(),
            wake_at: self.wake_at(&views, situation.now),
        }
    }

    /// What left the plan is forgotten; what is new is in its first attempt, unless it was reported on before.
    fn follow(&mut self, plan: &Plan, now: Now) {
        if self.current.as_ref() != Some(&plan.written) {
            // Back to a plan that was acknowledged, with another one between: it has to be carried out anew.
            if self.current.is_some() && self.observed.as_ref() == Some(&plan.written) {
                self.observed = None;
            }
            self.current = Some(plan.written.clone());
            self.tidy_at = Some(now.instant);
        }
        self.paths.retain(|path, _| plan.paths.contains_key(path));
        for path in plan.paths.keys().filter(|path| !self.paths.contains_key(path)).cloned().collect::<Vec<_>>() {
            let reported = self.reported.remove(&path);
            let standing = reported.map_or_else(|| Standing::new(now), |known| Standing::restored(&known, now));
            self.paths.insert(path, standing);
        }
    }

    fn take_in_logins(&mut self, sessions: &BTreeMap<&IscsiPath, &Session>, now: Now) {
        for (path, result) in std::mem::take(&mut self.ended) {
            let seed = self.seed_of(&path);
            let Some(standing) = self.paths.get_mut(&path) else { continue };
            match result {
                Err(cause) => standing.attempt_failed(cause, now, seed),
                Ok(()) if sessions.contains_key(&path) => {}
                Ok(()) => {
                    let gone = "the login has succeeded, and there is no session";
                    standing.attempt_failed(PathError::new(PathReason::Internal, gone), now, seed);
                }
            }
        }
    }

    fn look_at_paths<'a>(
        &mut self,
        situation: Situation<'a>,
        sessions: &BTreeMap<&IscsiPath, &'a Session>,
    ) -> BTreeMap<IscsiPath, PathView<'a>> {
        let patience = patience(situation.plan);
        let mut views = BTreeMap::new();
        for (path, order) in &situation.plan.paths {
            let login = self.logins.get(path).map(|begun| (*begun, patience));
            // A path that is back in the plan has no session before the logout of its old one has ended: it may go yet.
            let is_new = self.paths.get(path).is_some_and(Standing::is_first_attempt);
            let stays = |session: &&Session| !is_new || !self.logouts.contains_key(&session.id);
            let view = PathView::new(path, order, sessions.get(path).copied().filter(stays), login, situation);
            let seed = self.seed_of(path);
            if let Some(standing) = self.paths.get_mut(path) {
                standing.observe(view.found(), situation.now, seed);
            }
            views.insert(path.clone(), view);
        }
        views
    }

    /// Returns the sessions that may go.
    fn look_at_leaving<'a>(&mut self, situation: Situation<'a>) -> Vec<&'a Session> {
        let Situation { plan, inventory, now, .. } = situation;
        let connecting: BTreeSet<Arc<str>> = self
            .paths
            .iter()
            .filter(|(_, standing)| standing.is_first_attempt())
            .map(|(path, _)| path.target.clone())
            .collect();
        let judged = logout::judge(plan, inventory, &self.under_way());
        let ids: BTreeSet<u32> = judged.iter().map(|(session, _)| session.id).collect();
        self.leaving.retain(|id, _| ids.contains(id));

        let mut may_go = Vec::new();
        for (session, verdict) in judged {
            let reported = &mut self.reported;
            let leaving = self.leaving.entry(session.id).or_insert_with(|| {
                reported.remove(&session.path).map_or_else(|| Leaving::new(now), |known| Leaving::restored(&known, now))
            });
            let kept = match verdict {
                Verdict::Go { .. } => {
                    may_go.push(session);
                    None
                }
                Verdict::Keep(kept) => Some(kept),
            };
            let target_is_connecting = connecting.contains(&session.path.target);
            leaving.observe(&Judged { session, kept, target_is_connecting }, now);
        }
        // What was reported before a restart serves the first step only.
        self.reported.clear();
        may_go
    }

    fn logouts(&mut self, situation: Situation<'_>, may_go: &[&Session]) -> Vec<Action> {
        let mut actions = Vec::new();
        for session in may_go {
            let is_due = self.leaving.get(&session.id).is_some_and(|leaving| leaving.is_due(situation.now));
            let is_being_made = self.logins.contains_key(&session.path);
            if is_due && !is_being_made && self.has_its_turn(situation.inventory, session) {
                actions.push(self.log_out(session, Why::Surplus));
            }
        }
        actions
    }

    /// A planned session with credentials that are not valid any more is made anew: one at a time for each target, and
    /// none while another's new credentials are refused.
    fn rotations(&mut self, situation: Situation<'_>, sessions: &BTreeMap<&IscsiPath, &Session>) -> Vec<Action> {
        let Situation { plan, inventory, secrets, now, .. } = situation;
        let mut actions = Vec::new();
        if self.renew_after.is_some_and(|after| after > now.instant) {
            return actions;
        }
        for (path, order) in &plan.paths {
            let Some(session) = sessions.get(path).filter(|session| session.is_live() && session.is_own()) else {
                continue;
            };
            if is_outdated(session, order, secrets)
                && self.target_is_settled(path, sessions)
                && self.has_its_turn(inventory, session)
                && logout::may_rotate(plan, inventory, session, &self.under_way())
            {
                actions.push(self.log_out(session, Why::Rotated));
            }
        }
        actions
    }

    /// Whether no path of the target is being connected, has just lost its session, or has been refused.
    fn target_is_settled(&self, path: &IscsiPath, sessions: &BTreeMap<&IscsiPath, &Session>) -> bool {
        let mut same = self.paths.iter().filter(|(other, _)| other.target == path.target);
        same.all(|(other, standing)| match standing.failure() {
            Some(reason) => !is_refusal(reason) && !self.logins.contains_key(other),
            None => sessions.contains_key(other) && !standing.is_first_attempt(),
        })
    }

    fn log_out(&mut self, session: &Session, why: Why) -> Action {
        let leaving = self.under_way();
        self.logouts.insert(session.id, session.path.clone());
        Action::Logout { session: session.clone(), why, leaving }
    }

    fn under_way(&self) -> BTreeSet<u32> {
        self.logouts.keys().copied().collect()
    }

    fn has_its_turn(&self, inventory: &Inventory, session: &Session) -> bool {
        let under_way = |id: &u32| inventory.sessions.iter().find(|session| session.id == *id);
        !self.logouts.iter().any(|(id, path)| {
            *id == session.id
                || path.target == session.path.target
                || under_way(id).is_some_and(|other| logout::exclude_each_other(inventory, session, other))
        })
    }

    /// First attempts before retries, and spread over the portals, so that one dead portal does not hold all the rest.
    fn logins(&mut self, situation: Situation<'_>, views: &mut BTreeMap<IscsiPath, PathView<'_>>) -> Vec<Action> {
        let mut per_portal: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for path in self.logins.keys() {
            *per_portal.entry(path.portal.clone()).or_default() += 1;
        }
        let mut due = Vec::new();
        for (path, standing) in &self.paths {
            let Some(view) = views.get(path) else { continue };
            // A logout that has not ended may still forget the record that a login would use.
            let is_leaving = self.logouts.values().any(|other| other == path);
            if view.can_be_tried() && !is_leaving && standing.is_due(view.circumstances, situation.now) {
                let is_retry = standing.failure().is_some();
                let turn = per_portal.entry(path.portal.clone()).or_default();
                due.push((is_retry, *turn, path.clone()));
                *turn += 1;
            }
        }
        due.sort();

        let mut retries = self.logins.keys().filter(|path| self.has_failed(path)).count();
        let mut actions = Vec::new();
        for (is_retry, _, path) in due {
            if self.logins.len() >= LOGINS || (is_retry && retries >= RETRIES) {
                break;
            }
            retries += usize::from(is_retry);
            actions.extend(self.log_in(path, situation, views));
        }
        actions
    }

    fn has_failed(&self, path: &IscsiPath) -> bool {
        self.paths.get(path).is_some_and(|standing| standing.failure().is_some())
    }

    fn log_in(
        &mut self,
        path: IscsiPath,
        situation: Situation<'_>,
        views: &mut BTreeMap<IscsiPath, PathView<'_>>,
    ) -> Option<Action> {
        let Situation { plan, secrets, now, .. } = situation;
        let order = plan.paths.get(&path)?;
        let view = views.get_mut(&path)?;
        self.paths.get_mut(&path)?.attempt(view.circumstances);
        view.login = Some((now.instant, patience(plan)));
        self.logins.insert(path.clone(), now.instant);
        Some(Action::Login(Login {
            path,
            network: order.network.clone(),
            settings: plan.settings,
            credentials: credentials(order, secrets).cloned(),
        }))
    }

    fn adjustments(&mut self, situation: Situation<'_>) -> Vec<Action> {
        let Situation { plan, inventory, .. } = situation;
        let wanted = LiveSettings::from(plan.settings);
        let ids: BTreeSet<u32> = inventory.sessions.iter().map(|session| session.id).collect();
        self.adjusted.retain(|id, _| ids.contains(id));
        let differs = |session: &&Session| session.live_settings.is_some_and(|settings| settings != wanted);
        let ours = |session: &&Session| session.is_own() && plan.paths.contains_key(&session.path);
        let mut actions = Vec::new();
        for session in inventory.sessions.iter().filter(ours).filter(differs) {
            if self.adjusted.insert(session.id, wanted) != Some(wanted) {
                actions.push(Action::Adjust { session: session.clone(), settings: wanted });
            }
        }
        actions
    }

    /// A plan is acknowledged when every path has ended its first attempt and every surplus session is gone or kept.
    fn acknowledge(&mut self, plan: &Plan, now: Now) -> Option<Action> {
        let settled = self.logins.keys().all(|path| plan.paths.contains_key(path))
            && !self.paths.values().any(Standing::is_first_attempt)
            && !self.leaving.values().any(Leaving::is_disconnecting);
        let is_untidy = self.tidy_at.is_some_and(|at| at <= now.instant);
        if !settled || !is_untidy {
            return None;
        }
        self.observed = Some(plan.written.clone());
        self.tidy_at = None;
        Some(Action::Tidy { keep: plan.paths.keys().cloned().collect() })
    }

    fn connections(&self, inventory: &Inventory, sessions: &BTreeMap<&IscsiPath, &Session>) -> Vec<Connection> {
        let planned = self.paths.iter().map(|(path, standing)| standing.report(path, sessions.get(path).copied()));
        let surplus = inventory
            .sessions
            .iter()
            .filter_map(|session| Some(self.leaving.get(&session.id)?.report(&session.path, session.id)));
        let mut connections: Vec<Connection> = planned.chain(surplus).collect();
        connections.sort_by_cached_key(|connection| (IscsiPath::from(connection), connection.session_id));
        connections
    }

    fn wake_at(&self, views: &BTreeMap<IscsiPath, PathView<'_>>, now: Now) -> Option<Instant> {
        let paths = self.paths.iter().filter_map(|(path, s)| s.wake_at(views.get(path)?.found(), now));
        let leaving = self.leaving.values().filter_map(|leaving| leaving.wake_at(now));
        let recheck = self.leaving.values().any(Leaving::is_kept_by_use).then(|| now.instant + USE_RECHECK);
        let renew = self.renew_after.filter(|after| *after > now.instant);
        let tidy = self.tidy_at.filter(|at| *at > now.instant);
        paths.chain(leaving).chain(recheck).chain(renew).chain(tidy).min()
    }

    fn seed_of(&self, path: &IscsiPath) -> u64 {
        hash((self.seed, path))
    }
}

/// Whether a session was authenticated with credentials that are not valid any more.
fn is_outdated(session: &Session, order: &Order, secrets: &BTreeMap<Arc<str>, SecretState>) -> bool {
    let wanted = credentials(order, secrets).map(Credentials::fingerprint);
    session.credentials.is_some() && wanted.is_some() && session.credentials != wanted
}

/// Whether a login may have failed because of its credentials: a target that does not prove who it is is not found.
fn is_refusal(reason: PathReason) -> bool {
    matches!(reason, PathReason::AuthenticationFailed | PathReason::TargetNotFound)
}

/// How long a login may take before its path has failed.
fn patience(plan: &Plan) -> Duration {
    Duration::from_secs(plan.settings.login_timeout_seconds.into()) + LOGIN_MARGIN
}

fn multipath(inventory: &Inventory) -> Vec<MultipathMap> {
    let target_of = |disk: &str| {
        let has = |session: &&Session| session.disks.iter().any(|own| *own.name == *disk);
        inventory.sessions.iter().find(has).map(|session| session.path.target.to_string())
    };
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut maps: Vec<MultipathMap> = inventory
        .maps
        .iter()
        .filter_map(|map| {
            Some(MultipathMap {
                wwid: map.wwid.clone(),
                target: map.paths.iter().find_map(|path| target_of(&path.disk))?,
                paths: count(map.paths.len()),
                active: count(map.paths.iter().filter(|path| path.active).count()),
            })
        })
        .collect();
    maps.sort();
    maps
}

#[cfg(test)]
mod tests;
