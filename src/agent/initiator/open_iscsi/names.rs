//! Portals with a DNS name.
//!
//! iscsid resolves a name again for each session that it makes, and after its restart. So records and sessions are made by
//! address: the address that was judged is the one that is dialled. The record of the session says for which name it is,
//! also to an agent that has just been started. A session keeps its name while it exists, whatever DNS answers by then.
//!
//! A session whose record has the name itself was made by an older version. It counts until it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    agent::{
        initiator::{Login, PathError},
        types::IscsiPath,
    },
    api::{Portal, portal_policy::PortalRules, reason::PathReason},
};

/// What is known about the sessions and portals with a name.
#[derive(Debug, Default)]
pub struct Names(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By the kernel's session number. The record is read once for each session.
    sessions: BTreeMap<u32, KnownSession>,
    /// The address at which the last login of a path has failed.
    failed: BTreeMap<IscsiPath, IpAddr>,
    /// What the sessions of the logins must be that have not ended, by the path by address.
    logging_in: BTreeMap<IscsiPath, Admitted>,
}

/// What the session of a login must be. Another one is logged out in a moment, so nothing may be given up for it.
#[derive(Clone, Debug)]
pub struct Admitted {
    rules: Arc<PortalRules>,
    tpgt: Option<u16>,
}

impl Admitted {
    /// Whether a session with this tag, connected to this address, is kept.
    #[must_use]
    pub fn is_kept(&self, tpgt: u16, connected_to: Option<IpAddr>) -> bool {
        let is_refused = connected_to.is_some_and(|address| self.rules.why_refused(address).is_some());
        !is_refused && self.tpgt.is_none_or(|only| only == tpgt)
    }
}

#[derive(Debug)]
struct KnownSession {
    by_address: IscsiPath,
    requested: IscsiPath,
}

impl Names {
    /// The path that a session of ours was made for. `by_address` is the path that the kernel shows; `stored` looks into its
    /// record, and finds none if there is no record.
    pub fn requested_path(
        &self,
        id: u32,
        by_address: &IscsiPath,
        stored: impl FnOnce() -> Option<IscsiPath>,
    ) -> IscsiPath {
        // Compare more than the ID: after the kernel module was reloaded, IDs are used again.
        if let Some(known) = self.known().sessions.get(&id).filter(|known| known.by_address == *by_address) {
            return known.requested.clone();
        }
        let Some(requested) = stored() else { return by_address.clone() };
        self.set(id, by_address, &requested);
        requested
    }

    /// The session is for this path from now on.
    pub fn set(&self, id: u32, by_address: &IscsiPath, requested: &IscsiPath) {
        let session = KnownSession { by_address: by_address.clone(), requested: requested.clone() };
        self.known().sessions.insert(id, session);
    }

    /// Forgets all sessions but these.
    pub fn retain(&self, ids: &BTreeSet<u32>) {
        self.known().sessions.retain(|id, _| ids.contains(id));
    }

    /// Where the last login of a path has failed.
    #[must_use]
    pub fn failed_at(&self, path: &IscsiPath) -> Option<IpAddr> {
        self.known().failed.get(path).copied()
    }

    /// A login of a path has ended.
    pub fn tried(&self, path: &IscsiPath, address: IpAddr, has_failed: bool) {
        let mut known = self.known();
        if has_failed {
            known.failed.insert(path.clone(), address);
        } else {
            known.failed.remove(path);
        }
    }

    /// Forgets where logins of all paths but these have failed.
    pub fn retain_failed(&self, paths: &BTreeSet<IscsiPath>) {
        self.known().failed.retain(|path, _| paths.contains(path));
    }

    /// A login begins, on this path by address.
    pub fn login_begins(&self, by_address: &IscsiPath, login: &Login) {
        let admitted = Admitted { rules: login.portals.clone(), tpgt: login.only_tpgt };
        self.known().logging_in.insert(by_address.clone(), admitted);
    }

    /// The session of the login was judged.
    pub fn login_ends(&self, by_address: &IscsiPath) {
        self.known().logging_in.remove(by_address);
    }

    /// What a session on this path by address must be, if it belongs to a login that has not ended.
    #[must_use]
    pub fn admitted_by_login(&self, by_address: &IscsiPath) -> Option<Admitted> {
        self.known().logging_in.get(by_address).cloned()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path at an address of its portal.
#[must_use]
pub fn at(path: &IscsiPath, address: IpAddr, port: u16) -> IscsiPath {
    IscsiPath { portal: Portal::new(&address.to_string(), port), ..path.clone() }
}

/// Chooses the address for a login at a portal with a name: one that may be dialled and belongs to no other path. One with a
/// session that is for no planned path comes first, because that session can be used; then the one after the address that
/// has failed last.
///
/// `sessions` are our sessions, by the path by address, with the path that each was made for.
///
/// # Errors
/// `NameNotResolved` if there is no such address.
pub fn choose(
    login: &Login,
    port: u16,
    resolved: &BTreeSet<IpAddr>,
    sessions: &BTreeMap<IscsiPath, IscsiPath>,
    failed: Option<IpAddr>,
) -> Result<IpAddr, PathError> {
    let name = login.path.portal.host();
    let not_resolved = |message| PathError::new(PathReason::NameNotResolved, message);
    let Some(first) = resolved.first() else {
        return Err(not_resolved(format!("the host cannot resolve the portal's name {name}")));
    };
    let allowed: BTreeSet<IpAddr> =
        resolved.iter().copied().filter(|address| login.portals.why_refused(*address).is_none()).collect();
    let Some(first_allowed) = allowed.first() else {
        let why = login.portals.why_refused(*first).unwrap_or_default();
        return Err(not_resolved(format!("no address of the portal's name {name} may be dialled: {why}")));
    };
    let session_at = |address: &IpAddr| sessions.get(&at(&login.path, *address, port));
    let belongs_to_sibling = |address: &IpAddr| {
        login.siblings.contains(&at(&login.path, *address, port))
            || session_at(address).is_some_and(|requested| login.siblings.contains(requested))
    };
    let free: BTreeSet<IpAddr> = allowed.iter().copied().filter(|address| !belongs_to_sibling(address)).collect();
    let with_session = free.iter().find(|address| session_at(address).is_some());
    let after_failed = || free.iter().find(|address| failed.is_some_and(|failed| **address > failed));
    match with_session.or_else(after_failed).or(free.first()) {
        Some(address) => Ok(*address),
        None => Err(not_resolved(format!(
            "the portal's name {name} has no address of its own: at {first_allowed} the target has another portal of the \
             DataCenter"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use rstest::rstest;

    use super::*;
    use crate::{agent::fixtures::path, api::portal_policy::PortalPolicy};

    /// The path by name to target `a`.
    fn by_name(name: &str) -> IscsiPath {
        IscsiPath { portal: Portal::new(name, 3260), ..path("a", "1", "ens1") }
    }

    fn login(policy: &str, siblings: &[IscsiPath]) -> Login {
        let policy: PortalPolicy = policy.parse().unwrap();
        Login {
            path: by_name("san.example.com"),
            network: None,
            settings: crate::api::SessionSettings::default(),
            credentials: None,
            portals: policy.rules("frankfurt"),
            siblings: siblings.iter().cloned().collect(),
            expected_tpgt: 1,
            only_tpgt: None,
        }
    }

    /// The choice among these addresses, with these sessions, after a failure at an address.
    fn choice(login: &Login, resolved: &[&str], sessions: &[(IscsiPath, IscsiPath)], failed: &str) -> String {
        let resolved = resolved.iter().map(|address| address.parse().unwrap()).collect();
        match choose(login, 3260, &resolved, &sessions.iter().cloned().collect(), failed.parse().ok()) {
            Ok(address) => address.to_string(),
            Err(error) => {
                assert_eq!(error.reason, PathReason::NameNotResolved);
                error.message
            }
        }
    }

    #[rstest]
    #[case(&[], "the host cannot resolve the portal's name san.example.com")]
    #[case(&["127.0.0.1"], "127.0.0.1 is a loopback address")]
    #[case(&["::ffff:169.254.169.254"], "169.254.169.254 is a link-local address")]
    #[case(&["fe80::1", "ff02::1", "::"], ":: is the unspecified address")]
    #[case(&["10.96.0.1"], "which the administrator has denied")]
    fn a_name_leads_to_no_refused_address(#[case] resolved: &[&str], #[case] why: &str) {
        let login = login(r#"{"denied": ["10.96.0.0/12"]}"#, &[]);
        let error = choice(&login, resolved, &[], "");
        assert!(error.contains(why), "{error}");
        assert_eq!(choice(&login, &[resolved, &["10.0.1.10"]].concat(), &[], ""), "10.0.1.10", "the allowed one");
    }

    #[test]
    fn with_a_list_a_name_leads_only_into_its_subnets() {
        let login = login(r#"{"allowed": ["10.0.1.0/24"]}"#, &[]);
        let error = choice(&login, &["10.0.2.10"], &[], "");
        assert!(error.contains("10.0.2.10 is in none of the subnets"), "{error}");
        assert_eq!(choice(&login, &["10.0.0.10", "10.0.1.10", "10.0.2.10"], &[], ""), "10.0.1.10");
    }

    #[test]
    fn after_a_failure_the_next_address_of_a_name_is_tried() {
        let login = login("{}", &[]);
        let resolved = ["10.0.1.10", "10.0.2.10", "fd00::10"];
        let tried = ["", "10.0.1.10", "10.0.1.99", "10.0.2.10", "fd00::10"];
        let next = tried.map(|failed| choice(&login, &resolved, &[], failed));
        assert_eq!(next, ["10.0.1.10", "10.0.2.10", "10.0.2.10", "fd00::10", "10.0.1.10"]);
    }

    #[test]
    fn a_session_of_no_planned_path_is_used_and_that_of_a_sibling_is_not() {
        let (one, two) = (path("a", "1", "ens1"), path("a", "2", "ens1"));
        let resolved = ["10.0.1.10", "10.0.2.10"];
        let unplanned = [(two.clone(), two.clone())];
        assert_eq!(choice(&login("{}", &[]), &resolved, &unplanned, ""), "10.0.2.10");
        assert_eq!(
            choice(&login("{}", slice::from_ref(&one)), &resolved, &[], "10.0.2.10"),
            "10.0.2.10",
            "one is planned"
        );
        let other_name = by_name("other.example.com");
        let of_sibling = [(one.clone(), other_name.clone())];
        assert_eq!(choice(&login("{}", slice::from_ref(&other_name)), &resolved, &of_sibling, ""), "10.0.2.10");
        let error = choice(&login("{}", &[one, other_name]), &resolved[..1], &[], "");
        assert!(error.contains("at 10.0.1.10 the target has another portal"), "{error}");
    }

    #[test]
    fn a_session_keeps_its_name_while_it_exists() {
        let names = Names::default();
        let (one, name) = (path("a", "1", "ens1"), by_name("san.example.com"));
        assert_eq!(names.requested_path(1, &one, || None), one, "without a record");
        assert_eq!(names.requested_path(1, &one, || Some(name.clone())), name);
        assert_eq!(names.requested_path(1, &one, || None), name, "a record that is gone takes no name away");
        let two = path("a", "2", "ens1");
        assert_eq!(names.requested_path(1, &two, || None), two, "another session with its number");
        names.set(1, &one, &one);
        assert_eq!(names.requested_path(1, &one, || Some(name.clone())), one);
        names.retain(&BTreeSet::new());
        assert_eq!(names.requested_path(1, &one, || Some(name.clone())), name);
    }
}
