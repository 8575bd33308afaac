//! The input of a step, and what it means for each planned path. Pure.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use super::{
    path_state::{PathObservation, PendingLogin},
    plan::{LoginParams, Plan},
};
use crate::{
    agent::{
        initiator::{Facts, Inventory, PathError, Session},
        types::{
            IscsiPath,
            credentials::{Credentials, SecretState, requirements},
        },
    },
    api::{HostInterface, SecretName, reason::PathReason},
    ops::Now,
};

/// The advice for a path that cannot use its device any more.
const HOW_TO_FORGET: &str = "to use other networks from now on, name this one for another device in \
                             Host.spec.interfaces, or put the host into maintenance and back";

/// Everything that a step decides from, except the state that the reconciler keeps.
#[derive(Clone, Copy, Debug)]
pub struct StepInput<'a> {
    /// The plan to carry out.
    pub plan: &'a Plan,
    /// The existing sessions and maps.
    pub inventory: &'a Inventory,
    /// The host's interfaces and initiator.
    pub facts: &'a Facts,
    /// The Secrets that the plan names.
    pub secrets: &'a BTreeMap<SecretName, SecretState>,
    /// The time of the inventory.
    pub now: Now,
}

/// The part of the input that concerns one planned path.
#[derive(Debug)]
pub(super) struct PathInput<'a> {
    session: Option<&'a Session>,
    pub login: Option<PendingLogin>,
    /// Why an attempt would be pointless.
    blocker: Option<PathError>,
    /// Its Secret has not been read yet.
    waits_for_secret: bool,
    /// A hash of everything that may decide the result of a login.
    pub fingerprint: u64,
}

impl<'a> PathInput<'a> {
    pub fn new(
        path: &IscsiPath,
        params: &LoginParams,
        session: Option<&'a Session>,
        login: Option<PendingLogin>,
        input: StepInput<'_>,
    ) -> Self {
        let StepInput { plan, facts, secrets, .. } = input;
        let device = path.interface.as_deref().and_then(|name| facts.interfaces.iter().find(|i| *i.name == *name));
        let secret = params.chap_secret.as_ref().map(|name| secrets.get(name).cloned().unwrap_or_default());
        let fingerprint = credentials(params, secrets).map(Credentials::fingerprint);
        PathInput {
            session,
            login,
            blocker: interface_problem(path, device).or_else(|| secret_problem(params, secret.as_ref())),
            waits_for_secret: secret == Some(SecretState::Unread),
            fingerprint: hash((params, plan.settings, device.map(device_identity), fingerprint)),
        }
    }

    pub fn can_be_tried(&self) -> bool {
        self.session.is_none() && self.login.is_none() && self.blocker.is_none() && !self.waits_for_secret
    }

    pub fn observation(&self) -> PathObservation<'_> {
        PathObservation { session: self.session, blocker: self.blocker.as_ref(), login: self.login }
    }
}

/// Everything about a device that may decide whether a login through it succeeds.
fn device_identity(device: &HostInterface) -> impl Hash {
    let HostInterface { name, mac, mtu, up, addresses } = device;
    (name, mac, mtu, up, addresses)
}

fn interface_problem(path: &IscsiPath, device: Option<&HostInterface>) -> Option<PathError> {
    let name = path.interface.as_deref()?;
    match device {
        None => Some(PathError::new(
            PathReason::InterfaceNotFound,
            format!("the host has no network device {name}; {HOW_TO_FORGET}"),
        )),
        Some(device) if device.addresses.is_empty() => Some(PathError::new(
            PathReason::NoAddress,
            format!("the network device {name} has no address; {HOW_TO_FORGET}"),
        )),
        Some(_) => None,
    }
}

fn secret_problem(params: &LoginParams, secret: Option<&SecretState>) -> Option<PathError> {
    let name = params.chap_secret.as_deref()?;
    match secret? {
        SecretState::Unread | SecretState::Read(_) => None,
        SecretState::Unusable => Some(PathError::new(
            PathReason::SecretNotFound,
            format!("the Secret {name} cannot be used: {}", requirements()),
        )),
    }
}

/// The credentials for a login, if it needs some and they have been read.
pub(super) fn credentials<'a>(
    params: &LoginParams,
    secrets: &'a BTreeMap<SecretName, SecretState>,
) -> Option<&'a Credentials> {
    match secrets.get(params.chap_secret.as_ref()?)? {
        SecretState::Read(credentials) => Some(credentials),
        SecretState::Unread | SecretState::Unusable => None,
    }
}

/// One session for each path. Where a path has several, a session that works is preferred, and then one of ours.
pub(super) fn sessions_by_path(inventory: &Inventory) -> BTreeMap<&IscsiPath, &Session> {
    let mut sessions: Vec<&Session> = inventory.sessions.iter().collect();
    // If paths are equal, the last one stays in the map.
    sessions.sort_by_key(|session| (session.is_live(), session.is_own()));
    sessions.into_iter().map(|session| (&session.path, session)).collect()
}

/// A hash that is stable within this process.
pub(super) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
