//! The costs of a plan: what it may make, what it refuses, and the size of a Host with the largest plan.

use std::{collections::BTreeSet, net::Ipv4Addr};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use multibond::{
    agent::reconcile::report::{PathReport, StatusReport},
    api::{
        AgentStatus, Connection, ConnectionState, DataCenter, DataCenterSpec, Host, HostInterface, HostLuns, HostSpec,
        HostStatus, HostWarning, IscsiBond, IscsiBondSpec, LunAddress, LunProblem, LunProblemKind, MultipathMap,
        Network, NetworkSpec, Pairing, PlannedPath, PortalSpec, Storage, Target, TargetStatus,
        condition::{self, ConditionUpdate, Status},
        reason::{ConditionType, PathReason, PreparedReason, Reason},
        size::{AGENT_ROOM, CONTROLLER_ROOM, OBJECT_LIMIT, json_length},
    },
    planner::{HostPlan, MAX_BOND_NAMES, MAX_BONDS, MAX_NETWORKS, Objects, PlanTooLarge, Planner, View, plan_all},
};
use rstest::rstest;

/// A data center in which every address is in every network, and every bond names every network.
#[derive(Clone, Copy)]
struct Shape {
    targets: usize,
    portals: usize,
    networks: usize,
    bonds: usize,
    interfaces: usize,
    /// The length of the targets' names.
    iqn: usize,
}

/// What fits into 57 kB of YAML.
const ATTACK: Shape = Shape { targets: 64, portals: 32, networks: 64, bonds: 500, interfaces: 2, iqn: 40 };

fn objects(shape: Shape) -> Objects {
    let Shape { targets, portals, networks, bonds, interfaces, iqn } = shape;
    let here = |metadata: &mut kube::api::ObjectMeta| metadata.namespace = Some("ns".to_owned());
    let address = |number: usize| Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).expect("a number")).to_string();
    let portal = |number| PortalSpec { address: address(number), ..PortalSpec::default() };
    let target = |number: usize| Target {
        iqn: format!("iqn.2003-01.org.example:{number:0width$}", width = iqn - "iqn.2003-01.org.example:".len()),
        portals: (0..portals).map(|portal_number| portal(number * portals + portal_number)).collect(),
        chap: None,
    };
    let targets: Vec<Target> = (0..targets).map(target).collect();
    let storage = targets.chunks(64).enumerate();
    let storage = storage.map(|(number, targets)| Storage { name: format!("s{number}"), targets: targets.to_vec() });
    let mut data_center =
        DataCenter::new("dc", DataCenterSpec { storage: storage.collect(), ..DataCenterSpec::default() });
    here(&mut data_center.metadata);
    let names: Vec<String> = (0..networks).map(|number| format!("net-{number}")).collect();
    let network = |name: &String| {
        let spec =
            NetworkSpec { data_center: "dc".into(), subnets: vec!["0.0.0.0/0".into()], ..NetworkSpec::default() };
        let mut network = Network::new(name, spec);
        here(&mut network.metadata);
        network
    };
    let bond = |number: usize| {
        let spec = IscsiBondSpec {
            data_center: "dc".into(),
            networks: names.iter().take(64).cloned().collect(),
            pairing: if number.is_multiple_of(2) { Pairing::Auto } else { Pairing::AllPairs },
            ..IscsiBondSpec::default()
        };
        let mut bond = IscsiBond::new(&format!("bond-{number}"), spec);
        here(&mut bond.metadata);
        bond
    };
    let interface = |number: usize| HostInterface {
        name: format!("ens{number}").into(),
        addresses: vec![format!("10.9.9.{}/8", number + 1)],
        ..HostInterface::default()
    };
    let spec = HostSpec { data_center: "dc".into(), node_name: "h".into(), ..HostSpec::default() };
    let mut host = Host::new("h", spec);
    here(&mut host.metadata);
    let interfaces = Some((0..interfaces).map(interface).collect());
    host.status = Some(HostStatus { interfaces, data_center: Some("dc".into()), ..HostStatus::default() });
    Objects {
        data_centers: vec![data_center],
        networks: names.iter().map(network).collect(),
        bonds: (0..bonds).map(bond).collect(),
        hosts: vec![host],
        terminating_namespaces: BTreeSet::new(),
    }
}

fn plan(shape: Shape) -> Result<HostPlan, PlanTooLarge> {
    let objects = objects(shape);
    let view = View::compile(
        &objects.data_centers[0],
        &objects.networks.iter().collect::<Vec<_>>(),
        &objects.bonds.iter().collect::<Vec<_>>(),
        false,
    );
    Planner::new(view.into()).plan_host(&objects.hosts[0], false)
}

/// 500 bonds x 64 networks x 2,048 portals x 2 interfaces are 131 million reasons for 4,096 paths. They are counted as
/// 500 names at each path, and nothing of it is made.
#[test]
fn too_many_bonds_for_the_same_paths_are_refused_by_their_count() {
    let names = 4096 * 500 + 64 * 500;
    assert_eq!(plan(ATTACK), Err(PlanTooLarge::BondNames(names)));
    let report = plan_all(&objects(ATTACK));
    assert_eq!(report.hosts[0].plan.paths.len(), 0);
    let problem = report.problems.iter().find(|problem| problem.reason == "PlanTooLarge").expect("a problem");
    assert_eq!((problem.kind.as_str(), problem.name.as_str()), ("Host", "h"));
    assert!(problem.message.contains("2080000 times") && problem.message.contains("16384"), "{}", problem.message);
}

#[test]
fn bonds_that_ask_for_the_same_path_are_one_path_that_names_each_once() {
    let plan = plan(Shape { targets: 2, portals: 2, bonds: 100, ..ATTACK }).expect("a plan");
    assert_eq!(plan.paths.len(), 2 * 2 * 2);
    for path in plan.paths.iter() {
        assert_eq!(path.bonds.len(), 100);
        assert_eq!(path.network.as_deref(), Some("net-0"));
    }
    assert_eq!(plan.uses.len(), 100 * 64);
    assert!(plan.uses.is_sorted());
}

#[test]
fn a_plan_with_too_many_paths_says_how_many_and_how_much_room_there_is() {
    let refused = plan(Shape { targets: 64, portals: 32, networks: 2, bonds: 1, interfaces: 2, iqn: 40 });
    let Err(PlanTooLarge::Size { paths: 4096, .. }) = &refused else { panic!("{refused:?}") };
    let message = refused.expect_err("too large").to_string();
    assert!(message.contains("4096 paths") && message.contains("665 kB and 740 kB"), "{message}");
}

#[test]
fn a_data_center_with_too_many_bonds_or_networks_is_named_and_not_planned() {
    let small = Shape { targets: 1, portals: 1, networks: 2, bonds: 1, interfaces: 1, iqn: 40 };
    assert!(plan(small).is_ok());
    let many_bonds = Shape { bonds: MAX_BONDS + 1, ..small };
    assert_eq!(plan(many_bonds), Err(PlanTooLarge::Bonds(MAX_BONDS + 1)));
    let many_networks = Shape { networks: MAX_NETWORKS + 1, ..small };
    assert_eq!(plan(many_networks), Err(PlanTooLarge::Networks(MAX_NETWORKS + 1)));
    let report = plan_all(&objects(many_networks));
    let too_large = report.problems.iter().filter(|problem| problem.reason == "PlanTooLarge");
    assert_eq!(too_large.map(|problem| problem.kind.as_str()).collect::<Vec<_>>(), ["DataCenter", "Host"]);
    assert_eq!(report.problems.len(), 2, "no consequence is reported besides: {:?}", report.problems);
}

#[test]
fn a_host_whose_plan_is_too_large_keeps_the_plan_that_was_written() {
    let mut objects = objects(ATTACK);
    let bonds = std::mem::take(&mut objects.bonds);
    objects.bonds = bonds[..1].to_vec();
    objects.data_centers[0].spec.storage[0].targets.truncate(2);
    let before = plan_all(&objects).hosts.remove(0).plan;
    assert_eq!(before.paths.len(), 2 * 32 * 2);
    let status = objects.hosts[0].status.as_mut().expect("a status");
    (status.plan, status.networks) = (Some(before.to_status()), before.networks.clone());
    objects.bonds = bonds;
    let kept = plan_all(&objects).hosts.remove(0).plan;
    assert_eq!((kept.paths, kept.revision), (before.paths, before.revision));
}

/// The largest number of portals with which a host of this shape has a plan.
fn largest(shape: Shape) -> HostPlan {
    let (mut fits, mut too_many) = (1, 4096);
    while fits + 1 < too_many {
        let middle = usize::midpoint(fits, too_many);
        match plan(Shape { targets: middle, ..shape }) {
            Ok(_) => fits = middle,
            Err(_) => too_many = middle,
        }
    }
    plan(Shape { targets: fits, ..shape }).expect("a plan")
}

/// A Host with this plan, and with all that controller and agent may say about it.
fn worst(plan: &HostPlan) -> (Host, HostStatus) {
    let time = Time(Timestamp::from_second(1_900_000_000).expect("a time"));
    let long = |about: &str| format!("the login to {about} has failed: \"{}\"", "\\".repeat(1500));
    let connection = |path: &PlannedPath, state: ConnectionState, interface: Option<&str>| Connection {
        target: path.target.clone(),
        portal: path.portal.clone(),
        tpgt: u16::MAX,
        interface: interface.map(Into::into).or(path.interface.clone()),
        state,
        session_id: Some(u32::MAX),
        reason: Some(PathReason::AuthenticationFailed),
        message: Some(long(&path.target)),
        since: time.clone(),
        retry_every: Some("10m".into()),
    };
    let planned = plan.paths.iter().map(|path| connection(path, ConnectionState::Failed, None));
    let surplus =
        plan.paths.iter().map(|path| connection(path, ConnectionState::Disconnecting, Some("enp0s31f6.4094")));
    let lun = |number: usize| LunProblem {
        problem: LunProblemKind::PathsMissing,
        wwid: format!("3600a0b80000f1e2d{number:016}"),
        at: vec![LunAddress { target: plan.paths[0].target.clone(), lun: i64::MAX }; 16],
        size_bytes: i64::MAX,
        disks: u32::MAX,
        active: u32::MAX,
        expected: u32::MAX,
        message: "l".repeat(1000),
    };
    let map = |number: usize| MultipathMap {
        wwid: format!("3600a0b80000f1e2d{number:016}"),
        target: plan.paths[0].target.to_string(),
        paths: 4,
        active: 4,
        disks: vec!["sdaaa".into(); 4],
    };
    let interface = |number: usize| HostInterface {
        name: format!("enp0s31f6.{number}").into(),
        mac: "00:00:5e:00:53:01".into(),
        mtu: 9000,
        up: true,
        addresses: (0..100).map(|address| format!("2001:db8:ffff:ffff:ffff:ffff:{number:x}:{address:x}/128")).collect(),
        beside: Some("enp0s31f6.lower".into()),
    };
    let warning = HostWarning { reason: PreparedReason::FindMultipaths, message: "w".repeat(500) };
    let report = StatusReport {
        agent: AgentStatus { version: "1.2.3".into(), warnings: vec![warning; 6], ..AgentStatus::default() },
        interfaces: Some((0..64).map(interface).collect()),
        paths: Some(PathReport {
            connections: planned.chain(surplus).collect(),
            multipath: (0..4000).map(map).collect(),
            luns: Some(HostLuns { problems: (0..512).map(lun).collect(), ..HostLuns::default() }),
        }),
    }
    .fit();
    let fields = report.fields();
    assert!(json_length(&fields) <= AGENT_ROOM, "{}", json_length(&fields));
    let reported = report.paths.as_ref().expect("paths");
    let failed = reported.connections.iter().filter(|connection| connection.state == ConnectionState::Failed).count();
    assert_eq!(failed, plan.paths.len(), "each planned path is reported");

    let mut targets: Vec<TargetStatus> = plan
        .paths
        .iter()
        .map(|path| TargetStatus { target: path.target.clone(), lost_at: Some(time.clone()), never_connected: true })
        .collect();
    targets.dedup_by(|a, b| a.target == b.target);
    let kinds = [
        ConditionType::Operational,
        ConditionType::FullyConnected,
        ConditionType::LunsHealthy,
        ConditionType::AgentReady,
        ConditionType::HostPrepared,
        ConditionType::Ready,
    ];
    let conditions =
        kinds.map(|kind| ConditionUpdate::new(kind, Status::False, Reason::PathsFailed, "\"".repeat(9000)));
    let controller = HostStatus {
        networks: plan.networks.clone(),
        targets,
        plan: Some(plan.to_status()),
        conditions: condition::merge(&[], conditions.into(), Some(i64::MAX), Timestamp::UNIX_EPOCH),
        ..HostStatus::default()
    };
    assert!(json_length(&controller) <= CONTROLLER_ROOM, "{}", json_length(&controller));
    let mut host = objects(ATTACK).hosts.remove(0);
    host.status = Some(HostStatus {
        agent: Some(report.agent),
        interfaces: report.interfaces,
        connections: reported.connections.clone(),
        multipath: reported.multipath.clone(),
        luns: reported.luns.clone(),
        ..controller.clone()
    });
    (host, controller)
}

/// One target portal after the other, until the plan is full.
const BASE: Shape = Shape { targets: 0, portals: 1, networks: 2, bonds: 1, interfaces: 1, iqn: 60 };

#[rstest]
#[case::short_names(BASE)]
#[case::long_names(Shape { iqn: 223, ..BASE })]
#[case::four_interfaces(Shape { interfaces: 4, portals: 4, ..BASE })]
#[case::eight_bonds(Shape { bonds: 8, portals: 8, ..BASE })]
#[case::many_networks(Shape { networks: 64, interfaces: 32, ..BASE })]
fn the_largest_host_fits_into_an_object_with_the_longest_messages(#[case] shape: Shape) {
    let plan = largest(shape);
    let (host, controller) = worst(&plan);
    let (size, own) = (json_length(&host), json_length(&controller));
    assert!(size + 100_000 < OBJECT_LIMIT, "{} paths need {size} bytes", plan.paths.len());
    let names: usize = plan.paths.iter().map(|path| path.bonds.len()).sum();
    let is_full = own * 10 > CONTROLLER_ROOM * 8 || plan.paths.len() * (iqn_bytes(&plan) + 300) * 10 > AGENT_ROOM * 8;
    assert!(is_full || names * 10 > MAX_BOND_NAMES * 8, "{} paths are far from the limit", plan.paths.len());
}

fn iqn_bytes(plan: &HostPlan) -> usize {
    plan.paths.first().map_or(0, |path| path.target.len())
}
