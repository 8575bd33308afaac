//! The input of a step, and what it means for each planned path. Pure.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    path_state::{PathObservation, PendingLogin},
    plan::{LoginParams, Plan},
};
use crate::{
    agent::{
        initiator::{Facts, Inventory, PathError, Session},
        types::{
            FileName, IscsiPath,
            credentials::{Credentials, SecretState, requirements},
        },
    },
    api::{HostInterface, SecretName, portal_policy::PortalRules, reason::PathReason},
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
    /// Which portals may be dialled.
    pub portals: &'a Arc<PortalRules>,
    /// The time of the inventory.
    pub now: Now,
}

/// The part of the input that concerns one planned path.
#[derive(Debug)]
pub(super) struct PathInput<'a> {
    session: Option<&'a Session>,
    /// Its session is where it must not be.
    is_refused: bool,
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
        let StepInput { plan, facts, secrets, portals, .. } = input;
        let device = path.interface.as_deref().and_then(|name| facts.interfaces.iter().find(|i| *i.name == *name));
        let secret = params.chap_secret.as_ref().map(|name| secrets.get(name).cloned().unwrap_or_default());
        let fingerprint = credentials(params, secrets).map(Credentials::fingerprint);
        PathInput {
            is_refused: session.is_some_and(|session| session.refused.is_some()),
            session,
            login,
            blocker: session
                .and_then(session_problem)
                .or_else(|| name_problem(path))
                .or_else(|| portal_problem(path, portals))
                .or_else(|| interface_problem(path, device))
                .or_else(|| secret_problem(params, secret.as_ref())),
            waits_for_secret: secret == Some(SecretState::Unread),
            fingerprint: hash((params, plan.settings, device.map(device_identity), fingerprint)),
        }
    }

    pub fn can_be_tried(&self) -> bool {
        self.session.is_none() && self.login.is_none() && self.blocker.is_none() && !self.waits_for_secret
    }

    /// Whether a login would not even be tried.
    pub fn is_blocked(&self) -> bool {
        self.blocker.is_some()
    }

    /// Whether its session is where it must not be. It is no session of the path, and no other is made beside it.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    pub fn observation(&self) -> PathObservation<'_> {
        let session = self.session.filter(|_| !self.is_refused);
        PathObservation { session, blocker: self.blocker.as_ref(), login: self.login }
    }
}

/// Everything about a device that may decide whether a login through it succeeds.
fn device_identity(device: &HostInterface) -> impl Hash {
    let HostInterface { name, mac, mtu, up, addresses, beside: _ } = device;
    (name, mac, mtu, up, addresses)
}

/// A session may come up otherwise than wanted, and be sent on to another address by its target whenever it is made or
/// restored.
fn session_problem(session: &Session) -> Option<PathError> {
    let cause = session.refused.as_ref()?;
    let message = format!("{cause}; it does not count, and is logged out as soon as nothing needs it");
    Some(PathError::new(cause.reason, message))
}

/// The subnets of a path's interface.
pub(super) fn subnets(path: &IscsiPath, facts: &Facts) -> Vec<IpNet> {
    let device = facts.interfaces.iter().find(|device| path.interface.as_deref() == Some(&*device.name));
    device.into_iter().flat_map(|device| &device.addresses).filter_map(|address| address.parse().ok()).collect()
}

/// The schema refuses such a name, but the data center may be older than that rule.
fn name_problem(path: &IscsiPath) -> Option<PathError> {
    let error = FileName::new(&path.target).err()?;
    let message = format!("the target's name {error}; correct it in the DataCenter");
    Some(PathError::new(PathReason::InvalidRecord, message))
}

/// The admission policy refuses such a portal, but it may be older than the policy's rules.
fn portal_problem(path: &IscsiPath, portals: &PortalRules) -> Option<PathError> {
    let why = portals.why_portal_refused(&path.portal)?;
    let message = format!("the portal is not dialled: {why}; correct it in the DataCenter");
    Some(PathError::new(PathReason::PortalUnreachable, message))
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

/// The sessions of ours that work.
pub(super) fn live_own_sessions(inventory: &Inventory) -> impl Iterator<Item = &Session> {
    inventory.sessions.iter().filter(|session| session.is_own() && session.is_live())
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{
        agent::fixtures::{TestClock, facts},
        api::portal_policy::PortalPolicy,
    };

    /// Why a login of this path would be pointless.
    fn blocker(target: &str, portal: &str, policy: &str) -> Option<PathError> {
        let path = IscsiPath { target: target.into(), portal: portal.into(), interface: None };
        let policy: PortalPolicy = policy.parse().unwrap();
        let input = StepInput {
            plan: &Plan::default(),
            inventory: &Inventory::default(),
            facts: &facts(&["ens1"]),
            secrets: &BTreeMap::new(),
            portals: &policy.rules("frankfurt"),
            now: TestClock::new().now(),
        };
        let path_input = PathInput::new(&path, &LoginParams::default(), None, None, input);
        assert_eq!(path_input.can_be_tried(), path_input.blocker.is_none());
        path_input.blocker
    }

    #[rstest]
    #[case("iqn.2003-01.a:x/../../../../srv/pwn")]
    #[case("iqn.2003-01.a:..")]
    #[case("iqn.2003-01.a:x\ny")]
    fn a65_a_target_whose_name_is_no_file_name_is_never_dialled(#[case] target: &str) {
        let error = blocker(target, "10.0.1.10:3260", "{}").unwrap();
        assert_eq!(error.reason, PathReason::InvalidRecord);
        assert!(error.message.contains("correct it in the DataCenter"), "{error}");
    }

    #[rstest]
    #[case("127.0.0.1:10250", "a loopback address")]
    #[case("169.254.169.254:80", "a link-local address")]
    #[case("[fe80::1]:3260", "a link-local address")]
    #[case("0.0.0.0:3260", "the unspecified address")]
    #[case("224.0.0.1:3260", "a multicast address")]
    #[case("localhost:3260", "the loopback address")]
    #[case("10.96.0.1:443", "which the administrator has denied")]
    #[case("10.0.2.10:3260", "in none of the subnets")]
    fn a_portal_that_the_rules_refuse_is_never_dialled(#[case] portal: &str, #[case] why: &str) {
        let policy = r#"{"allowed": ["10.0.1.0/24", "10.96.0.0/12"], "denied": ["10.96.0.0/12"]}"#;
        let error = blocker("iqn.2003-01.a:x", portal, policy).unwrap();
        assert_eq!(error.reason, PathReason::PortalUnreachable);
        assert!(error.message.contains(why), "{error}");
        assert_eq!(blocker("iqn.2003-01.a:x", "10.0.1.10:3260", policy), None);
        assert_eq!(blocker("iqn.2003-01.a:x", "san.example.com:3260", policy), None, "the host knows its addresses");
    }
}
