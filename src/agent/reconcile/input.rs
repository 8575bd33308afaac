//! What a step is decided from, and what it says of each planned path. Pure.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    path_state::Found,
    plan::{Order, Plan},
};
use crate::{
    agent::{
        credentials::{Credentials, SecretState},
        initiator::{Facts, Inventory, PathError, Session},
        path::{IscsiPath, Now},
    },
    api::{HostInterface, reason::PathReason},
};

/// Everything that a step is decided from, beside what is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What should be.
    pub plan: &'a Plan,
    /// What is.
    pub inventory: &'a Inventory,
    /// What the host has.
    pub facts: &'a Facts,
    /// The Secrets that the plan names.
    pub secrets: &'a BTreeMap<Arc<str>, SecretState>,
    /// When.
    pub now: Now,
}

/// What a step knows of a planned path.
#[derive(Debug)]
pub(super) struct PathView<'a> {
    pub session: Option<&'a Session>,
    pub login: Option<(Instant, Duration)>,
    trouble: Option<PathError>,
    /// Its Secret has not been read yet.
    waits: bool,
    pub circumstances: u64,
}

impl<'a> PathView<'a> {
    pub fn new(
        path: &IscsiPath,
        order: &Order,
        session: Option<&'a Session>,
        login: Option<(Instant, Duration)>,
        situation: Situation<'_>,
    ) -> Self {
        let Situation { plan, facts, secrets, .. } = situation;
        let device = path.interface.as_deref().and_then(|name| facts.interfaces.iter().find(|i| *i.name == *name));
        let secret = order.chap_secret.as_ref().map(|name| secrets.get(name).cloned().unwrap_or_default());
        let fingerprint = credentials(order, secrets).map(Credentials::fingerprint);
        PathView {
            session,
            login,
            trouble: interface_trouble(path, device).or_else(|| secret_trouble(order, secret.as_ref())),
            waits: secret == Some(SecretState::Unread),
            circumstances: hash((order, plan.settings, device.map(identity), fingerprint)),
        }
    }

    pub fn can_be_tried(&self) -> bool {
        self.session.is_none() && self.login.is_none() && self.trouble.is_none() && !self.waits
    }

    pub fn found(&self) -> Found<'_> {
        Found { session: self.session, trouble: self.trouble.as_ref(), login: self.login }
    }
}

/// Everything about a device that may let a login succeed that failed before.
fn identity(device: &HostInterface) -> impl Hash {
    let HostInterface { name, mac, mtu, up, addresses } = device;
    (name, mac, mtu, up, addresses)
}

fn interface_trouble(path: &IscsiPath, device: Option<&HostInterface>) -> Option<PathError> {
    let name = path.interface.as_deref()?;
    let forget = "to use other networks from now on, name this one for another device in Host.spec.interfaces, or \
                  put the host into maintenance and back";
    match device {
        None => Some(PathError::new(
            PathReason::InterfaceNotFound,
            format!("the host has no network device {name}; {forget}"),
        )),
        Some(device) if device.addresses.is_empty() => {
            Some(PathError::new(PathReason::NoAddress, format!("the network device {name} has no address; {forget}")))
        }
        Some(_) => None,
    }
}

fn secret_trouble(order: &Order, secret: Option<&SecretState>) -> Option<PathError> {
    let name = order.chap_secret.as_deref()?;
    match secret? {
        SecretState::Unread | SecretState::Read(_) => None,
        SecretState::Unusable(why) => {
            Some(PathError::new(PathReason::SecretNotFound, format!("the Secret {name} cannot be used: {why}")))
        }
    }
}

pub(super) fn credentials<'a>(order: &Order, secrets: &'a BTreeMap<Arc<str>, SecretState>) -> Option<&'a Credentials> {
    match secrets.get(order.chap_secret.as_ref()?)? {
        SecretState::Read(credentials) => Some(credentials),
        SecretState::Unread | SecretState::Unusable(_) => None,
    }
}

/// Of several sessions on one path the one that works counts, and of these ours.
pub(super) fn by_path(inventory: &Inventory) -> BTreeMap<&IscsiPath, &Session> {
    let mut sessions: Vec<&Session> = inventory.sessions.iter().collect();
    sessions.sort_by_key(|session| (session.is_live(), session.is_own()));
    sessions.into_iter().map(|session| (&session.path, session)).collect()
}

/// Equal values have equal hashes within one version of the program, which is all that is asked of it.
pub(super) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
