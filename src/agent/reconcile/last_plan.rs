//! The last plan that the agent followed, as it is kept on the host for a cold start: what is kept, what a file must be
//! to be used, and the plan that is made of it. Pure.
//!
//! A data center that loses power must come back even where the API server needs the storage that it plans. The file
//! has no secret in it: the initiator's records on the host have the credentials of each path.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plan::{LoginParams, Plan};
use crate::{
    agent::{
        initiator::Inventory,
        types::{HostId, IscsiPath, credentials::SecretState},
    },
    api::{ANY_TPGT, InterfaceName, Iqn, NodeName, Portal, SecretName, SessionSettings, iscsi_name},
    ops::one_line,
};

/// The form of the file. A version that needs another one says so by another number, and older ones leave the file alone.
const FORMAT: u32 = 1;
/// The file is written again when its time is older than this part of the age at which it is not used any more. So the
/// plan of a host that does not change for months is still usable.
const RENEWALS_PER_AGE: u32 = 7;

/// The last plan that the agent followed, of the targets that it has connected.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastPlan {
    format: u32,
    /// The node whose agent has followed it.
    pub node: NodeName,
    /// The Host that it was the plan of.
    pub host: HostId,
    /// The initiator name of the host. Another one is another host, or one whose access at the array has changed.
    pub initiator_name: String,
    /// When the API server last confirmed the plan.
    pub confirmed_at: Timestamp,
    /// The settings of every session.
    pub session: SessionSettings,
    /// The paths, sorted.
    pub paths: Vec<LastPath>,
}

/// A path of the last plan.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct LastPath {
    target: Iqn,
    portal: Portal,
    /// The only portal group tag that may be answered; 1 stands for any.
    tpgt: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<InterfaceName>,
    /// Whether its login needs the credentials that the initiator has stored.
    #[serde(default)]
    chap: bool,
}

/// Where and when the file is to be used.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The node of the agent.
    pub node: &'a NodeName,
    /// The initiator name that the host has now.
    pub initiator_name: Option<&'a str>,
    /// The time of day.
    pub now: Timestamp,
    /// A plan that was confirmed longer ago is not used.
    pub max_age: Duration,
}

/// Why a file is not used. The messages are for the agent's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUsed {
    /// It is not what an agent writes.
    #[error("its content is not that of an agent: {0}")]
    Invalid(String),
    /// Another node's agent has written it.
    #[error("it is the plan of node {0}")]
    OtherNode(String),
    /// The host has another initiator name, or none.
    #[error("it is the plan of initiator {expected}, and this host is {}", found.as_deref().unwrap_or("none"))]
    OtherInitiator {
        /// The name in the file.
        expected: String,
        /// The name of the host.
        found: Option<String>,
    },
    /// The clock is before the time of the file.
    #[error("it was confirmed at {confirmed_at}, and the clock says {now}: the clock is not set")]
    NoClock {
        /// The time of the file.
        confirmed_at: Timestamp,
        /// The time of the host.
        now: Timestamp,
    },
    /// It is too old.
    #[error("it was last confirmed at {0}, which is too long ago")]
    TooOld(Timestamp),
}

/// What to do with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is as it should be.
    AsItIs,
    /// It must have this content.
    Write(Box<LastPlan>),
    /// There must be none.
    Remove,
}

impl LastPlan {
    /// Reads the content of a file. Every name and address in it is checked again: each becomes a file, or an argument of
    /// a tool that runs as root.
    ///
    /// # Errors
    /// If something in it is not what an agent writes.
    pub fn parse(content: &[u8]) -> Result<Self, NotUsed> {
        let invalid = |what: &str| NotUsed::Invalid(one_line(what));
        let plan: LastPlan = serde_json::from_slice(content).map_err(|error| invalid(&error.to_string()))?;
        if plan.format != FORMAT {
            return Err(invalid(&format!("its format is {}, and this version knows {FORMAT}", plan.format)));
        }
        let HostId { namespace, name, uid } = &plan.host;
        if let Some(text) = [&*plan.node, namespace, name, uid].into_iter().find(|text| !is_object_name(text)) {
            return Err(invalid(&format!("{text:?} is no name of an object")));
        }
        if let Some(path) = plan.paths.iter().find_map(why_invalid) {
            return Err(invalid(&path));
        }
        Ok(plan)
    }

    /// The content of a file.
    ///
    /// # Errors
    /// None that a plan could cause.
    pub fn content(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Why the plan must not be followed here and now.
    ///
    /// # Errors
    /// The first reason.
    pub fn check(&self, situation: Situation<'_>) -> Result<(), NotUsed> {
        let Situation { node, initiator_name, now, max_age } = situation;
        if self.node != *node {
            return Err(NotUsed::OtherNode(self.node.to_string()));
        }
        if initiator_name != Some(self.initiator_name.as_str()) {
            let found = initiator_name.map(str::to_owned);
            return Err(NotUsed::OtherInitiator { expected: one_line(&self.initiator_name), found });
        }
        match Duration::try_from(now.duration_since(self.confirmed_at)) {
            Err(_) => Err(NotUsed::NoClock { confirmed_at: self.confirmed_at, now }),
            Ok(age) if age > max_age => Err(NotUsed::TooOld(self.confirmed_at)),
            Ok(_) => Ok(()),
        }
    }

    /// The paths whose login needs credentials.
    pub fn with_chap(&self) -> impl Iterator<Item = IscsiPath> {
        self.paths.iter().filter(|path| path.chap).map(IscsiPath::from)
    }

    /// The plan to follow, with `stored` credentials by path. A path whose credentials are not stored is left out. Each
    /// path has credentials of its own, because its record may be older or newer than another's: they count as a
    /// Secret with the name of the path.
    #[must_use]
    pub fn plan(&self, stored: &BTreeMap<IscsiPath, SecretState>) -> (Plan, BTreeMap<SecretName, SecretState>) {
        let mut plan = Plan { settings: self.session, only_connects: true, ..Plan::default() };
        let mut secrets = BTreeMap::new();
        for last in &self.paths {
            let path = IscsiPath::from(last);
            let only_tpgt = (last.tpgt != ANY_TPGT).then_some(last.tpgt);
            let mut params = LoginParams { only_tpgt, ..LoginParams::default() };
            if last.chap {
                let Some(credentials) = stored.get(&path) else { continue };
                let name = SecretName::from(path.to_string());
                secrets.insert(name.clone(), credentials.clone());
                params.chap_secret = Some(name);
            }
            plan.paths.insert(path, params);
        }
        (plan, secrets)
    }

    /// The targets that it has paths to.
    fn targets(&self) -> BTreeSet<&Iqn> {
        self.paths.iter().map(|path| &path.target).collect()
    }

    fn is_same_but_for_its_time(&self, other: &LastPlan) -> bool {
        LastPlan { confirmed_at: other.confirmed_at, ..self.clone() } == *other
    }
}

/// What is known of the plan that the agent follows.
#[derive(Clone, Copy, Debug)]
pub struct Followed<'a> {
    /// The node of the agent.
    pub node: &'a NodeName,
    /// The Host whose plan it is.
    pub host: &'a HostId,
    /// The initiator name of the host.
    pub initiator_name: &'a str,
    /// The plan.
    pub plan: &'a Plan,
    /// The sessions of the host.
    pub inventory: &'a Inventory,
}

/// What must be kept of the plan that the agent follows; none if nothing. `kept` is what the file has.
///
/// Kept are the targets that have a connected path. One that was kept stays while it is planned: where the power goes, the
/// array often goes before the host, and that is what the file is for. A path that [`LastPlan::parse`] would refuse is left
/// out, as no login is made for it: it must not cost the others their file.
#[must_use]
pub fn to_keep(followed: Followed<'_>, kept: Option<&LastPlan>, confirmed_at: Timestamp) -> Option<LastPlan> {
    let Followed { node, host, initiator_name, plan, inventory } = followed;
    let live = inventory.sessions.iter().filter(|session| session.is_live() && plan.paths.contains_key(&session.path));
    let mut targets: BTreeSet<&Iqn> = live.map(|session| &session.path.target).collect();
    let is_of_this_host = |kept: &&LastPlan| kept.host == *host && kept.node == *node;
    targets.extend(kept.filter(is_of_this_host).map(LastPlan::targets).unwrap_or_default());
    let wanted = plan.paths.iter().filter(|(path, _)| targets.contains(&path.target));
    let paths: Vec<LastPath> = wanted
        .map(|(IscsiPath { target, portal, interface }, params)| LastPath {
            target: target.clone(),
            portal: portal.clone(),
            tpgt: params.only_tpgt.unwrap_or(ANY_TPGT),
            interface: interface.clone(),
            chap: params.chap_secret.is_some(),
        })
        .filter(|path| why_invalid(path).is_none())
        .collect();
    (!paths.is_empty()).then(|| LastPlan {
        format: FORMAT,
        node: node.clone(),
        host: host.clone(),
        initiator_name: initiator_name.to_owned(),
        confirmed_at,
        session: plan.settings,
        paths,
    })
}

/// What to do with a file that has `kept`, so that it has `wanted`. Only a change is written; and from time to time the
/// same plan again, before it becomes too old.
#[must_use]
pub fn keep(kept: Option<&LastPlan>, wanted: Option<LastPlan>, max_age: Duration) -> Keep {
    match (kept, wanted) {
        (None, None) => Keep::AsItIs,
        (Some(_), None) => Keep::Remove,
        (Some(kept), Some(wanted)) if wanted.is_same_but_for_its_time(kept) && !is_due(kept, &wanted, max_age) => {
            Keep::AsItIs
        }
        (_, Some(wanted)) => Keep::Write(Box::new(wanted)),
    }
}

/// Whether the time of the file must be renewed. A clock that was set back makes the file one of the future.
fn is_due(kept: &LastPlan, wanted: &LastPlan, max_age: Duration) -> bool {
    let age = Duration::try_from(wanted.confirmed_at.duration_since(kept.confirmed_at));
    age.map_or(true, |age| age >= max_age / RENEWALS_PER_AGE)
}

impl From<&LastPath> for IscsiPath {
    fn from(path: &LastPath) -> Self {
        let LastPath { target, portal, tpgt: _, interface, chap: _ } = path.clone();
        IscsiPath { target, portal, interface }
    }
}

/// What is wrong with a path.
fn why_invalid(path: &LastPath) -> Option<String> {
    let LastPath { target, portal, tpgt: _, interface, chap: _ } = path;
    if !iscsi_name::is_plausible(target) {
        return Some(format!("{:?} is no iSCSI name", &**target));
    }
    if !is_portal(portal) {
        return Some(format!("{:?} is no portal", &**portal));
    }
    let device = interface.as_deref().filter(|device| !is_device_name(device))?;
    Some(format!("{device:?} is no name of a network device"))
}

/// Whether the text is a portal in canonical form: an IP address or a DNS name, and a port.
fn is_portal(portal: &Portal) -> bool {
    let host = portal.host();
    let port = portal.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).filter(|port| *port > 0);
    // As in the schema, so that `10.0.1.300` is no name.
    let ends_as_a_name =
        || host.split('.').rfind(|label| !label.is_empty()).is_some_and(|label| !starts_with_digit(label));
    let is_host = host.parse::<IpAddr>().is_ok() || (is_object_name(host) && ends_as_a_name());
    port.is_some_and(|port| Portal::new(host, port) == *portal) && is_host
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_digit())
}

/// Whether the kernel takes the text as a name of a network device (`dev_valid_name`), and so do open-iscsi's files.
fn is_device_name(text: &str) -> bool {
    text.len() <= 15 && !text.contains([':', ' ']) && iscsi_name::why_unsafe(text).is_none()
}

/// Whether the text can be the name or the uid of an object, or a DNS name: at most 253 small letters, digits, `-` and
/// `.`, and neither a path nor an option of a tool.
fn is_object_name(text: &str) -> bool {
    let is_allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.".contains(letter);
    text.len() <= 253 && text.chars().all(is_allowed) && iscsi_name::why_unsafe(text).is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::{
        agent::{
            fixtures::{foreign, inventory, lost, path, plan, session, with_secret},
            types::credentials::SecretState,
        },
        api::schema::{
            iqn,
            tests::{admits, matching_texts, released},
        },
        fuzz::{Parsed, fuzz},
    };

    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
    const INITIATOR: &str = "iqn.1993-08.org.debian:01:w1";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn host(uid: &str) -> HostId {
        HostId { namespace: "frankfurt".into(), name: "w1".into(), uid: uid.into() }
    }

    /// What is kept of a plan with these paths while these sessions exist.
    fn kept_of(
        plan: &Plan,
        sessions: Vec<crate::agent::initiator::Session>,
        before: Option<&LastPlan>,
    ) -> Option<LastPlan> {
        let (node, host, inventory) = ("w1".into(), host("1"), inventory(sessions, vec![]));
        let followed = Followed { node: &node, host: &host, initiator_name: INITIATOR, plan, inventory: &inventory };
        to_keep(followed, before, at(0))
    }

    /// A plan of two targets with two paths each, of which one is connected.
    fn kept() -> LastPlan {
        let plan = plan("r", &[path("a", "1", "ens1"), path("a", "2", "ens2"), path("b", "1", "-")]);
        kept_of(&plan, vec![session(1, path("a", "1", "ens1"))], None).unwrap()
    }

    fn portals(plan: &LastPlan) -> Vec<String> {
        plan.paths.iter().map(|path| format!("{} {}", &path.target[23..], path.portal)).collect()
    }

    #[test]
    fn a67_targets_that_are_connected_are_kept_with_all_their_paths() {
        assert_eq!(portals(&kept()), [":a 10.0.1.10:3260", ":a 10.0.2.10:3260"]);
        let both = plan("r", &[path("a", "1", "ens1"), path("b", "1", "-")]);
        assert_eq!(kept_of(&both, vec![lost(session(1, path("a", "1", "ens1")))], None), None);
        let of_firmware = foreign(session(1, path("b", "1", "-")));
        assert_eq!(portals(&kept_of(&both, vec![of_firmware], None).unwrap()), [":b 10.0.1.10:3260"]);
        let not_planned = session(1, path("b", "2", "-"));
        assert_eq!(kept_of(&both, vec![not_planned], None), None);
    }

    #[test]
    fn a67_a_target_that_was_lost_before_the_power_cut_stays_while_it_is_planned() {
        let before = kept();
        let both = plan("r", &[path("a", "2", "ens2"), path("b", "1", "-")]);
        let sessions = || vec![session(1, path("b", "1", "-"))];
        let now = kept_of(&both, sessions(), Some(&before)).unwrap();
        assert_eq!(portals(&now), [":a 10.0.2.10:3260", ":b 10.0.1.10:3260"]);
        let only_b = plan("r", &[path("b", "1", "-")]);
        assert_eq!(portals(&kept_of(&only_b, sessions(), Some(&before)).unwrap()), [":b 10.0.1.10:3260"]);
        let of_another_host = LastPlan { host: host("2"), ..before };
        assert_eq!(portals(&kept_of(&both, sessions(), Some(&of_another_host)).unwrap()), [":b 10.0.1.10:3260"]);
    }

    /// Texts that the schema admits.
    fn admitted(pattern: &str, longest: usize) -> impl Strategy<Value = String> + use<> {
        matching_texts(pattern).prop_filter("longer than maxLength", move |text| text.len() <= longest)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(multibond_testbed::cases(300)))]

        #[test]
        fn a67_whatever_the_schema_admits_voids_no_file(
            target in admitted(released::ANY_IQN, 223),
            host in admitted(&released::address(), 253),
            port in 1..=u16::MAX,
            interface in admitted(released::INTERFACE, 15),
        ) {
            let interface = Some(interface.as_str().into());
            let portal = Portal::new(&host, port);
            let of = |target: &str| IscsiPath { target: target.into(), portal: portal.clone(), ..path("a", "1", "-") };
            let good = path("a", "2", "ens2");
            let odd = IscsiPath { interface, ..of(&target) };
            let paths = [of(&target), odd, path("a", "1", "ens1"), good.clone()];
            let sessions = paths.iter().zip(1..).map(|(path, id)| session(id, path.clone())).collect();
            let kept = kept_of(&plan("r", &paths), sessions, None).unwrap();
            prop_assert_eq!(LastPlan::parse(&kept.content().unwrap()), Ok(kept.clone()));
            let kept: Vec<IscsiPath> = kept.paths.iter().map(IscsiPath::from).collect();
            prop_assert!(kept.contains(&good));
            prop_assert_eq!(kept.contains(&of(&target)), admits(iqn, &target), "{}", of(&target));
        }
    }

    #[test]
    fn a67_an_odd_name_of_an_earlier_version_costs_no_other_target_its_file() {
        let odd = IscsiPath { target: "iqn.2003-01.org.example:array/lun-1".into(), ..path("a", "2", "ens2") };
        let paths = [path("a", "1", "ens1"), odd.clone()];
        let sessions = vec![session(1, paths[0].clone()), session(2, odd.clone())];
        let kept = kept_of(&plan("r", &paths), sessions, None).unwrap();
        assert_eq!(portals(&kept), [":a 10.0.1.10:3260"]);
        assert_eq!(LastPlan::parse(&kept.content().unwrap()), Ok(kept));
        assert_eq!(kept_of(&plan("r", &paths[1..]), vec![session(2, odd)], None), None);
    }

    #[test]
    fn a67_a_file_is_written_only_for_a_change_and_before_it_becomes_too_old() {
        let first = kept();
        let later = |seconds| LastPlan { confirmed_at: at(seconds), ..first.clone() };
        let write = |plan: LastPlan| Keep::Write(Box::new(plan));
        let day = 24 * 3600;
        let cases = [
            (None, None, Keep::AsItIs),
            (Some(&first), None, Keep::Remove),
            (None, Some(first.clone()), write(first.clone())),
            (Some(&first), Some(later(day - 1)), Keep::AsItIs),
            (Some(&first), Some(later(day)), write(later(day))),
            (Some(&first), Some(later(-1)), write(later(-1))),
        ];
        for (kept, wanted, expected) in cases {
            assert_eq!(keep(kept, wanted, WEEK), expected);
        }
        let changed = LastPlan { paths: first.paths[..1].to_vec(), ..later(1) };
        assert_eq!(keep(Some(&first), Some(changed.clone()), WEEK), write(changed));
    }

    #[rstest]
    #[case("w1", Some(INITIATOR), 0, "")]
    #[case("w1", Some(INITIATOR), 604_800, "")]
    #[case("w1", Some(INITIATOR), 604_801, "too long ago")]
    #[case("w1", Some(INITIATOR), -1, "the clock is not set")]
    #[case("w2", Some(INITIATOR), 0, "the plan of node w1")]
    #[case("w1", Some("iqn.1993-08.org.debian:01:w2"), 0, "and this host is iqn.1993-08.org.debian:01:w2")]
    #[case("w1", None, 0, "and this host is none")]
    fn a67_a_file_of_another_host_or_time_is_not_used(
        #[case] node: &str,
        #[case] initiator_name: Option<&str>,
        #[case] seconds: i64,
        #[case] why: &str,
    ) {
        let node = node.into();
        let situation = Situation { node: &node, initiator_name, now: at(seconds), max_age: WEEK };
        let result = kept().check(situation).map_err(|error| error.to_string());
        match why {
            "" => assert_eq!(result, Ok(())),
            why => assert!(result.as_ref().is_err_and(|error| error.contains(why)), "{result:?}"),
        }
    }

    #[test]
    fn a67_the_plan_of_a_file_only_connects_with_what_the_records_have() {
        let chap = with_secret(plan("r", &[path("a", "1", "ens1"), path("a", "2", "ens2")]), "array");
        let kept = kept_of(&chap, vec![session(1, path("a", "1", "ens1"))], None).unwrap();
        assert!(!String::from_utf8(kept.content().unwrap()).unwrap().contains("array"), "not even the Secret's name");
        let kept = LastPlan::parse(&kept.content().unwrap()).unwrap();
        assert_eq!(kept.with_chap().collect::<Vec<_>>(), [path("a", "1", "ens1"), path("a", "2", "ens2")]);
        let stored = BTreeMap::from([(path("a", "2", "ens2"), SecretState::Unread)]);
        let (plan, secrets) = kept.plan(&stored);
        assert!(plan.only_connects);
        assert_eq!(plan.paths.keys().collect::<Vec<_>>(), [&path("a", "2", "ens2")]);
        assert_eq!(plan.secrets(), secrets.into_keys().collect());
    }

    #[rstest]
    #[case(r#""target":"iqn.2003-01.org.example:a""#, r#""target":"iqn.2003-01.a:/../../etc""#, "is no iSCSI name")]
    #[case(r#""target":"iqn.2003-01.org.example:a""#, r#""target":"-p""#, "is no iSCSI name")]
    #[case(r#""portal":"10.0.1.10:3260""#, r#""portal":"010.0.1.10:3260""#, "is no portal")]
    #[case(r#""portal":"10.0.1.10:3260""#, r#""portal":"10.0.1.10:0""#, "is no portal")]
    #[case(r#""portal":"10.0.1.10:3260""#, r#""portal":"--help:3260""#, "is no portal")]
    #[case(r#""interface":"ens1""#, r#""interface":"../ens1""#, "is no name of a network device")]
    #[case(r#""namespace":"frankfurt""#, r#""namespace":"a/b""#, "is no name of an object")]
    #[case(r#""format":1"#, r#""format":2"#, "this version knows 1")]
    #[case(r#""tpgt":1"#, r#""tpgt":70000"#, "not that of an agent")]
    #[case("{", "", "not that of an agent")]
    fn a67_a_file_with_anything_else_in_it_is_refused(#[case] text: &str, #[case] by: &str, #[case] why: &str) {
        let content = String::from_utf8(kept().content().unwrap()).unwrap();
        assert_eq!(LastPlan::parse(content.as_bytes()), Ok(kept()));
        assert!(content.contains(text), "{content}");
        let error = LastPlan::parse(content.replacen(text, by, 1).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    fuzz! {
        any_last_plan_is_read_or_refused: "last-plan" => |input| match LastPlan::parse(input) {
            Err(error) => Parsed::new().shown([error]),
            Ok(plan) => {
                assert_eq!(LastPlan::parse(&plan.content().unwrap()), Ok(plan.clone()));
                let paths: Vec<IscsiPath> = plan.paths.iter().map(IscsiPath::from).collect();
                Parsed::new()
                    .path_parts(paths.iter().map(|path| &path.target))
                    .path_parts(paths.iter().map(|path| &path.portal))
                    .path_parts(paths.iter().filter_map(|path| path.interface.as_ref()))
                    .shown(paths)
            }
        };
    }
}
