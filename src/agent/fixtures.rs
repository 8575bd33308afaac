//! Short constructors for the tests of the agent.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    initiator::{DeviceUser, Disk, Facts, Inventory, Map, MapPath, PathError, Session, SessionOwner, SessionState},
    reconcile::plan::{LoginParams, Plan, PlanVersion},
    types::IscsiPath,
};
use crate::{
    api::{HostInterface, reason::PathReason},
    ops::Now,
};

/// A path to target `a` or `b` by portal and interface; `-` is the default network.
pub fn path(target: &str, portal: &str, interface: &str) -> IscsiPath {
    IscsiPath {
        target: format!("iqn.2003-01.org.example:{target}").into(),
        portal: format!("10.0.{portal}.10:3260").into(),
        interface: (interface != "-").then(|| interface.into()),
    }
}

/// A plan with these paths.
pub fn plan(revision: &str, paths: &[IscsiPath]) -> Plan {
    let paths: BTreeMap<IscsiPath, LoginParams> =
        paths.iter().map(|path| (path.clone(), LoginParams::default())).collect();
    let version = PlanVersion { revision: revision.into(), sequence: 1 };
    Plan { version, paths, ..Plan::default() }
}

/// The plan with a Secret for every path.
pub fn with_secret(mut plan: Plan, name: &str) -> Plan {
    plan.paths.values_mut().for_each(|params| params.chap_secret = Some(name.into()));
    plan
}

/// The plan with a held target.
pub fn holding(mut plan: Plan, target: &str) -> Plan {
    plan.hold.insert(format!("iqn.2003-01.org.example:{target}").into(), None);
    plan
}

/// A session of ours that works, with one disk `sd<id>`.
pub fn session(id: u32, path: IscsiPath) -> Session {
    Session {
        id,
        dialled: path.portal.clone(),
        path,
        tpgt: 1,
        owner: SessionOwner::Agent,
        state: SessionState::LoggedIn,
        refused: None,
        credentials: None,
        stored_credentials: None,
        live_settings: None,
        record_is_kept: Some(true),
        disks: vec![disk(id, &[])],
    }
}

pub fn disk(id: u32, users: &[DeviceUser]) -> Disk {
    Disk { name: format!("sd{id}").into(), users: Some(users.to_vec()), lun: 1, size: 1 << 30, wwid: None }
}

pub fn foreign(session: Session) -> Session {
    Session { owner: SessionOwner::Other("default".into()), ..session }
}

pub fn lost(session: Session) -> Session {
    Session { state: SessionState::Failed, ..session }
}

/// A session that its target has sent on to an address that is not dialled.
pub fn refused(session: Session) -> Session {
    let refused = PathError::new(PathReason::PortalUnreachable, "127.0.0.1 is a loopback address");
    Session { state: SessionState::Free, refused: Some(refused), ..session }
}

pub fn used(session: Session, by: &DeviceUser) -> Session {
    Session {
        disks: session.disks.into_iter().map(|disk| Disk { users: Some(vec![by.clone()]), ..disk }).collect(),
        ..session
    }
}

/// A map over the disks of these sessions, `!` before those that are not active, open so many times.
pub fn map(open_count: u32, disks: &[(u32, bool)]) -> Map {
    let paths = disks.iter().map(|(id, active)| MapPath { disk: format!("sd{id}").into(), active: *active }).collect();
    Map {
        name: "mpatha".into(),
        wwid: "3600a".into(),
        open_count,
        users: Vec::new(),
        paths,
        size: 1 << 30,
        is_known: true,
    }
}

pub fn inventory(sessions: Vec<Session>, maps: Vec<Map>) -> Inventory {
    Inventory { sessions, maps }
}

/// A host with these interfaces, each up and with an address.
pub fn facts(interfaces: &[&str]) -> Facts {
    let interface = |name: &&str| HostInterface {
        name: (*name).into(),
        up: true,
        addresses: vec!["10.0.1.21/24".into()],
        ..HostInterface::default()
    };
    Facts { interfaces: interfaces.iter().map(interface).collect(), ..Facts::default() }
}

/// A clock that moves only by [`TestClock::pass`].
#[derive(Clone, Copy)]
pub struct TestClock(Now);

impl TestClock {
    pub fn new() -> Self {
        let wall = Timestamp::from_second(1_800_000_000).unwrap();
        TestClock(Now { wall, monotonic: Duration::from_secs(1000) })
    }

    pub fn now(&self) -> Now {
        self.0
    }

    pub fn pass(&mut self, milliseconds: u64) -> Now {
        let Now { wall, monotonic } = self.0;
        let by = Duration::from_millis(milliseconds);
        self.0 = Now { wall: wall + SignedDuration::try_from(by).unwrap(), monotonic: monotonic + by };
        self.0
    }
}
