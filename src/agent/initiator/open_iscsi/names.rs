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

use ipnet::IpNet;

use super::{record::record_name, sessions::SessionEntry};
use crate::{
    agent::{
        initiator::{Login, PathError},
        types::IscsiPath,
    },
    api::{Portal, address::parse_ip, portal_policy::PortalRules, reason::PathReason},
};

/// What is known about the sessions and portals with a name.
#[derive(Debug, Default)]
pub struct Names(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By the kernel's session number. The record is read once for each session.
    sessions: BTreeMap<u32, KnownSession>,
    /// The names of sessions as an agent before this one has reported them, by the kernel's session number.
    reported: BTreeMap<u32, IscsiPath>,
    /// The address of the last login of a path, and whether it has failed.
    tried: BTreeMap<IscsiPath, Tried>,
    /// The only portal group tags that the sessions of the logins may have that have not ended, by the path by address. A
    /// session with another one is logged out in a moment, so nothing may be given up for it.
    logging_in: BTreeMap<IscsiPath, Option<u16>>,
    /// Sessions that came up otherwise than wanted, by the kernel's session number, with their path by address and what is
    /// wrong. They count for nothing until they are logged out.
    unwanted: BTreeMap<u32, (IscsiPath, PathError)>,
    /// Where sessions may be connected to.
    rules: Arc<PortalRules>,
}

/// The last login of a path whose portal has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Where it was.
    pub address: IpAddr,
    /// Whether it has failed.
    pub has_failed: bool,
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
        let stored = stored();
        let named = stored.clone().filter(|stored| stored != by_address);
        let was_reported =
            || self.known().reported.get(&id).filter(|path| path.differs_in_host_alone(by_address)).cloned();
        let Some(requested) = named.or_else(was_reported).or(stored) else { return by_address.clone() };
        self.set(id, by_address, &requested);
        requested
    }

    /// These paths were reported by an agent before this one, with the numbers of their sessions. They tell the name of a
    /// session whose record has lost it.
    pub fn reported(&self, paths: &BTreeMap<IscsiPath, Option<u32>>) {
        let mut known = self.known();
        for (path, id) in paths {
            let Some(id) = id.filter(|_| path.portal.has_name()) else { continue };
            known.reported.insert(id, path.clone());
            if let Some(session) = known.sessions.get(&id).filter(|session| session.requested == session.by_address)
                && path.differs_in_host_alone(&session.by_address)
            {
                let by_address = session.by_address.clone();
                known.sessions.insert(id, KnownSession { by_address, requested: path.clone() });
            }
        }
    }

    /// Whether the path is known that this session was made for.
    #[must_use]
    pub fn is_known(&self, session: &SessionEntry) -> bool {
        self.known().sessions.get(&session.id).is_some_and(|known| known.by_address == session.path)
    }

    /// The path that a session on this path by address was made for, if there is one.
    #[must_use]
    pub fn requested_of(&self, by_address: &IscsiPath) -> Option<IscsiPath> {
        let known = self.known();
        let found = known.sessions.values().find(|session| session.by_address == *by_address);
        found.map(|session| session.requested.clone())
    }

    /// The session is for this path from now on.
    pub fn set(&self, id: u32, by_address: &IscsiPath, requested: &IscsiPath) {
        let session = KnownSession { by_address: by_address.clone(), requested: requested.clone() };
        self.known().sessions.insert(id, session);
    }

    /// Forgets all sessions but these.
    pub fn retain(&self, ids: &BTreeSet<u32>) {
        let mut known = self.known();
        known.sessions.retain(|id, _| ids.contains(id));
        known.reported.retain(|id, _| ids.contains(id));
        known.unwanted.retain(|id, _| ids.contains(id));
    }

    /// The last login of a path.
    #[must_use]
    pub fn last_tried(&self, path: &IscsiPath) -> Option<Tried> {
        self.known().tried.get(path).copied()
    }

    /// A login of a path has ended.
    pub fn tried(&self, path: &IscsiPath, tried: Tried) {
        self.known().tried.insert(path.clone(), tried);
    }

    /// Forgets the logins of all paths but these.
    pub fn retain_tried(&self, paths: &BTreeSet<IscsiPath>) {
        self.known().tried.retain(|path, _| paths.contains(path));
    }

    /// A login begins, on this path by address.
    pub fn login_begins(&self, by_address: &IscsiPath, login: &Login) {
        self.known().logging_in.insert(by_address.clone(), login.only_tpgt);
    }

    /// The session of the login was judged.
    pub fn login_ends(&self, by_address: &IscsiPath) {
        self.known().logging_in.remove(by_address);
    }

    /// Whether a session may be undone for its portal group tag or its interface, because its login has not ended.
    #[must_use]
    pub fn may_be_undone(&self, session: &SessionEntry) -> bool {
        let SessionEntry { path, tpgt, record, .. } = session;
        self.known().logging_in.iter().any(|(login, only)| {
            let is_of_login = (&login.target, &login.portal) == (&path.target, &path.portal)
                && **record == record_name(login.interface.as_deref());
            is_of_login && (login.interface != path.interface || only.is_some_and(|only| only != *tpgt))
        })
    }

    /// Sessions are judged by these rules from now on.
    pub fn judge_by(&self, rules: Arc<PortalRules>) {
        self.known().rules = rules;
    }

    /// A session that a login has just made is not as it was wanted, and is logged out. It counts for nothing from now on,
    /// also if that fails.
    pub fn undo(&self, session: &SessionEntry, cause: &PathError) {
        self.known().unwanted.insert(session.id, (session.path.clone(), cause.clone()));
    }

    /// Why a session for this path counts for nothing: it came up otherwise than wanted and could not be logged out, or its
    /// target has sent it on to an address that must not be dialled. A session that is where it was planned is not judged
    /// again: whoever changes the rules does not end it.
    #[must_use]
    pub fn why_refused(&self, session: &SessionEntry, requested: &IscsiPath) -> Option<PathError> {
        let SessionEntry { id, path, connected_to, .. } = session;
        let known = self.known();
        if let Some((_, cause)) = known.unwanted.get(id).filter(|(unwanted, _)| unwanted == path) {
            return Some(cause.clone());
        }
        let (wanted, found) = (parse_ip(path.portal.host())?, (*connected_to)?);
        let why = known.rules.why_refused(found).filter(|_| found != wanted)?;
        let portal = &requested.portal;
        let message = format!("{portal} has sent the session on to an address that is not dialled: {why}");
        Some(PathError::new(PathReason::PortalUnreachable, message))
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

/// The addresses of a name in the order in which a host tries them. Those in a subnet of the interface come first: they are
/// reached without a router. The resolver says which family it prefers; among its addresses each host begins at another
/// one, so that not all of them go to the same port of the array.
fn in_order(resolved: &[IpAddr], subnets: &[IpNet], seed: u64) -> Vec<IpAddr> {
    let (near, far): (Vec<IpAddr>, Vec<IpAddr>) =
        resolved.iter().partition(|address| subnets.iter().any(|subnet| subnet.contains(*address)));
    let rank = |address: &IpAddr| resolved.iter().position(|other| other.is_ipv4() == address.is_ipv4());
    let mut order = Vec::new();
    for mut group in [near, far] {
        group.sort();
        group.sort_by_key(rank);
        for family in group.chunk_by_mut(|one, other| one.is_ipv4() == other.is_ipv4()) {
            let length = u64::try_from(family.len()).unwrap_or(1).max(1);
            family.rotate_left(usize::try_from(seed % length).unwrap_or_default());
            order.extend_from_slice(family);
        }
    }
    order
}

/// Chooses the address for a login at a portal with a name: one that may be dialled and belongs to no other path. One with a
/// session that is for no planned path comes first, because that session can be used; then the one where the last login has
/// succeeded, or the one after that where it has failed.
///
/// `sessions` are our sessions, by the path by address, with the path that each was made for.
///
/// # Errors
/// `NameNotResolved` if there is no such address.
pub fn choose(
    login: &Login,
    port: u16,
    resolved: &[IpAddr],
    sessions: &BTreeMap<IscsiPath, IscsiPath>,
    tried: Option<Tried>,
) -> Result<IpAddr, PathError> {
    let name = login.path.portal.host();
    let not_resolved = |message| PathError::new(PathReason::NameNotResolved, message);
    let Some(first) = resolved.first() else {
        return Err(not_resolved(format!("the host cannot resolve the portal's name {name}")));
    };
    let in_order = in_order(resolved, &login.subnets, login.seed);
    let allowed: Vec<IpAddr> =
        in_order.iter().copied().filter(|address| login.portals.why_refused(*address).is_none()).collect();
    let Some(first_allowed) = allowed.first() else {
        let why = login.portals.why_refused(*first).unwrap_or_default();
        return Err(not_resolved(format!("no address of the portal's name {name} may be dialled: {why}")));
    };
    let session_at = |address: &IpAddr| sessions.get(&at(&login.path, *address, port));
    let belongs_to_sibling = |address: &IpAddr| {
        login.siblings.contains(&at(&login.path, *address, port))
            || session_at(address).is_some_and(|requested| login.siblings.contains(requested))
    };
    let free: Vec<IpAddr> = allowed.iter().copied().filter(|address| !belongs_to_sibling(address)).collect();
    let with_session = free.iter().find(|address| session_at(address).is_some());
    let after_last = || {
        let Tried { address, has_failed } = tried?;
        if !has_failed {
            return free.iter().find(|free| **free == address);
        }
        let at = in_order.iter().position(|other| *other == address)?;
        in_order[at + 1..].iter().find_map(|next| free.iter().find(|free| *free == next))
    };
    match with_session.or_else(after_last).or(free.first()) {
        Some(address) => Ok(*address),
        None => Err(not_resolved(format!(
            "the portal's name {name} has no address of its own: at {first_allowed} the target has another portal of the \
             DataCenter; remove one of them there"
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
            seed: 0,
            subnets: Vec::new(),
        }
    }

    /// The choice among these addresses, with these sessions, after a failure at an address.
    fn choice(login: &Login, resolved: &[&str], sessions: &[(IscsiPath, IscsiPath)], failed: &str) -> String {
        let tried = failed.parse().ok().map(|address| Tried { address, has_failed: true });
        chosen(login, resolved, sessions, tried)
    }

    fn chosen(login: &Login, resolved: &[&str], sessions: &[(IscsiPath, IscsiPath)], tried: Option<Tried>) -> String {
        let resolved: Vec<IpAddr> = resolved.iter().map(|address| address.parse().unwrap()).collect();
        match choose(login, 3260, &resolved, &sessions.iter().cloned().collect(), tried) {
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
    #[case(&["fe80::1", "ff02::1", "::"], "fe80::1 is a link-local address")]
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
        assert_eq!(next, ["10.0.1.10", "10.0.2.10", "10.0.1.10", "fd00::10", "10.0.1.10"]);
        let worked = Tried { address: "10.0.2.10".parse().unwrap(), has_failed: false };
        assert_eq!(chosen(&login, &resolved, &[], Some(worked)), "10.0.2.10", "where it was connected");
    }

    #[test]
    fn hosts_begin_at_different_addresses_of_a_name() {
        let resolved = ["10.0.1.10", "10.0.1.11", "10.0.1.12"];
        let first = |seed| choice(&Login { seed, ..login("{}", &[]) }, &resolved, &[], "");
        assert_eq!([first(0), first(1), first(2)], resolved);
        let fails_all = |seed| {
            let login = Login { seed, ..login("{}", &[]) };
            let mut failed = choice(&login, &resolved, &[], "");
            let tried: BTreeSet<String> = std::iter::repeat_with(|| {
                failed = choice(&login, &resolved, &[], &failed);
                failed.clone()
            })
            .take(3)
            .collect();
            tried.len()
        };
        assert_eq!(fails_all(1), 3, "each is tried in turn");
    }

    #[test]
    fn an_address_in_the_networks_of_the_interface_comes_first() {
        let resolved = ["10.0.1.10", "10.0.2.10"];
        let through = |subnet: &str| Login { subnets: vec![subnet.parse().unwrap()], ..login("{}", &[]) };
        assert_eq!(choice(&through("10.0.2.21/24"), &resolved, &[], ""), "10.0.2.10");
        assert_eq!(choice(&through("10.0.3.21/24"), &resolved, &[], ""), "10.0.1.10", "in none");
    }

    #[test]
    fn the_family_that_the_resolver_prefers_comes_first() {
        assert_eq!(choice(&login("{}", &[]), &["fd00::10", "10.0.1.10"], &[], ""), "fd00::10");
        assert_eq!(choice(&login("{}", &[]), &["10.0.1.10", "fd00::10"], &[], ""), "10.0.1.10");
    }

    #[test]
    fn a_session_that_was_reported_by_name_keeps_it_without_its_record() {
        let (one, name) = (path("a", "1", "ens1"), by_name("san.example.com"));
        let elsewhere = IscsiPath { interface: Some("ens2".into()), ..name.clone() };
        let after = |reported: &IscsiPath, is_read_first: bool| {
            let names = Names::default();
            // A discovery of another tool has taken the record.
            let stored = || Some(one.clone());
            if is_read_first {
                names.requested_path(1, &one, stored);
            }
            names.reported(&BTreeMap::from([(reported.clone(), Some(1))]));
            names.requested_path(1, &one, stored)
        };
        for is_read_first in [false, true] {
            assert_eq!(after(&name, is_read_first), name);
            assert_eq!(after(&elsewhere, is_read_first), one, "another session had the number");
            assert_eq!(after(&path("a", "2", "ens1"), is_read_first), one, "it was by address");
        }
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
