//! The agent converges after any events in any order.

use std::{collections::BTreeSet, time::Duration};

use multibond::{
    agent::{
        initiator::simulated::{Fault, FaultKind, Faults},
        types::IscsiPath,
    },
    api::ConnectionState,
};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::harness::{INTERFACES, TestNode, all, path, seconds};

/// An event on a node.
#[derive(Clone, Debug)]
enum Event {
    Plan { paths: Vec<IscsiPath>, hold: Option<u8> },
    Faults(Vec<(FaultKind, Option<IscsiPath>)>),
    KillSession(IscsiPath),
    UseDisk(u8, bool),
    RestartAgent,
    FailWrites(u32),
    Wait(u64),
}

fn any_path() -> impl Strategy<Value = IscsiPath> {
    (1..3_u8, 1..3_u8, proptest::option::of(0..INTERFACES.len())).prop_map(|(t, p, i)| path(t, p, i))
}

fn any_plan() -> impl Strategy<Value = Vec<IscsiPath>> {
    proptest::collection::btree_set(any_path(), 0..7).prop_map(|paths| paths.into_iter().collect())
}

fn any_fault() -> impl Strategy<Value = (FaultKind, Option<IscsiPath>)> {
    let kind = prop::sample::select(vec![
        FaultKind::Unreachable,
        FaultKind::Timeout,
        FaultKind::AuthenticationFailed,
        FaultKind::TargetNotFound,
        FaultKind::Dropped,
        FaultKind::InUse,
        FaultKind::InterfaceNotFound,
    ]);
    (kind, proptest::option::of(any_path()))
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any_plan(), proptest::option::weighted(0.2, 1..3_u8)).prop_map(|(paths, hold)| Event::Plan { paths, hold }),
        3 => proptest::collection::vec(any_fault(), 0..3).prop_map(Event::Faults),
        2 => any_path().prop_map(Event::KillSession),
        2 => (1..3_u8, any::<bool>()).prop_map(|(target, used)| Event::UseDisk(target, used)),
        1 => Just(Event::RestartAgent),
        1 => (1..4_u32).prop_map(Event::FailWrites),
        6 => prop::sample::select(vec![1, 20, 60, 300, 1000, 3100, 12_000]).prop_map(Event::Wait),
    ]
}

impl TestNode {
    async fn apply(&mut self, event: &Event, number: usize) {
        match event {
            Event::Plan { paths, hold } => {
                let hold: Vec<String> = hold.iter().map(|target| path(*target, 1, None).target.to_string()).collect();
                let hold: Vec<&str> = hold.iter().map(String::as_str).collect();
                let paths: Vec<IscsiPath> =
                    paths.iter().filter(|path| !hold.contains(&&*path.target)).cloned().collect();
                self.plan("worker", &format!("r{number}"), &hold, &paths);
            }
            Event::Faults(faults) => {
                let fault = |(kind, path): &(FaultKind, Option<IscsiPath>)| Fault {
                    host: None,
                    portal: path.as_ref().map(|path| path.portal.to_string()),
                    target: path.as_ref().map(|path| path.target.to_string()),
                    interface: path.as_ref().and_then(|path| path.interface.as_deref()).map(str::to_owned),
                    network: None,
                    kind: *kind,
                    after: Duration::ZERO,
                };
                self.simulation.set_faults(Faults { faults: faults.iter().map(fault).collect(), ..Faults::default() });
            }
            Event::KillSession(path) => self.host.kill(path),
            Event::UseDisk(target, used) => self.host.use_lun(&path(*target, 1, None).target, 0, *used),
            Event::RestartAgent => {
                self.kill_agent();
                self.start_agent();
            }
            Event::FailWrites(count) => *self.api.failing.lock().unwrap() = *count,
            Event::Wait(milliseconds) => sleep(Duration::from_millis(*milliseconds)).await,
        }
    }
}

/// After any events in any order exactly the planned sessions exist, everything is reported and acknowledged, no disk in
/// use has lost its last path, and nothing more is written.
async fn converges(events: &[Event], last: &[IscsiPath], foreign: &IscsiPath) -> Result<(), TestCaseError> {
    let mut node = TestNode::new();
    node.host.connect_foreign(foreign.clone(), "default");
    node.add_host("worker", "2024-01-01T00:00:00Z");
    for (number, event) in events.iter().enumerate() {
        node.apply(event, number).await;
        prop_assert_eq!(node.host.harm(), Vec::<String>::new());
    }
    node.plan("worker", "last", &[], last);
    sleep(Duration::from_millis(30)).await;
    node.heal();
    node.host.use_lun(&path(1, 1, None).target, 0, false);
    node.host.use_lun(&path(2, 1, None).target, 0, false);
    // The longest pause between two attempts is ten minutes.
    seconds(660).await;

    prop_assert_eq!(node.host.harm(), Vec::<String>::new());
    let status = node.status("worker");
    prop_assert_eq!(status.agent.as_ref().and_then(|agent| agent.observed_revision.as_deref()), Some("last"));
    let wanted: BTreeSet<IscsiPath> = last.iter().cloned().collect();
    let reported: BTreeSet<IscsiPath> = status.connections.iter().map(IscsiPath::from).collect();
    prop_assert_eq!(&reported, &wanted);
    prop_assert!(all(&status.connections, ConnectionState::Connected), "{:?}", status.connections);
    let (own, others) = node.host.paths();
    prop_assert!(own.is_subset(&wanted), "{:?}", own);
    prop_assert!(wanted.iter().all(|path| own.contains(path) || path == foreign), "{:?}", own);
    prop_assert_eq!(others, BTreeSet::from([foreign.clone()]));

    let (writes, from) = (node.api.writes.lock().unwrap().len(), Instant::now());
    seconds(3600).await;
    prop_assert_eq!(node.api.writes.lock().unwrap().len(), writes, "idle since {:?}", from);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: multibond_testbed::cases(200), ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_ends_with_the_planned_sessions_and_no_harm(
        events in proptest::collection::vec(any_event(), 0..25),
        last in any_plan(),
        foreign in any_path(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(converges(&events, &last, &foreign))?;
    }
}
