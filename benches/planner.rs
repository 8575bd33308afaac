//! How long plans and verdicts take, per host and per data center, and how both times grow.
#![allow(clippy::panic, reason = "a bench that cannot measure has nothing to tell")]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource as _;
use multibond::{
    api::{
        Connection, ConnectionState, DataCenter, DataCenterSpec, Host, HostInterface, HostSpec, HostStatus, Iqn,
        IscsiBond, IscsiBondSpec, Network, NetworkSpec, PlannedPath, PortalSpec, Storage, Target,
    },
    planner::{AgentState, HostPlan, Objects, Observation, Planner, View, judge, plan_all},
};

/// One data center. Each network is a fabric of its own on which every target has one portal.
#[derive(Clone, Copy)]
struct Shape {
    hosts: usize,
    targets: usize,
    networks: usize,
    bonds: usize,
    /// Whether each bond covers every target, or one target each.
    bonds_cover_all: bool,
}

const SMALL: Shape = Shape { hosts: 1, targets: 4, networks: 2, bonds: 1, bonds_cover_all: true };

fn iqn(target: usize) -> String {
    format!("iqn.2003-01.org.example:target-{target:04}")
}

fn objects(shape: Shape) -> Objects {
    let here = |metadata: &mut kube::api::ObjectMeta| metadata.namespace = Some("bench".to_owned());
    let networks = || (0..shape.networks).map(|network| format!("fabric-{network:02}"));
    let portals = |target: usize| {
        let address = move |network| format!("10.{network}.{}.{}", target / 200, target % 200 + 1);
        (0..shape.networks).map(|network| PortalSpec { address: address(network), ..PortalSpec::default() }).collect()
    };
    let targets = (0..shape.targets).map(|target| Target { iqn: iqn(target), portals: portals(target), chap: None });
    let storage = vec![Storage { name: "array".to_owned(), targets: targets.collect() }];
    let mut data_center = DataCenter::new("hall", DataCenterSpec { storage, ..DataCenterSpec::default() });
    here(data_center.meta_mut());

    let network = |(index, name): (usize, String)| {
        let subnets = vec![format!("10.{index}.0.0/16")];
        let mut network =
            Network::new(&name, NetworkSpec { data_center: "hall".to_owned(), subnets, ..NetworkSpec::default() });
        here(network.meta_mut());
        network
    };
    let bond = |index: usize| {
        let targets = if shape.bonds_cover_all { Vec::new() } else { vec![iqn(index % shape.targets)] };
        let spec = IscsiBondSpec {
            data_center: "hall".to_owned(),
            networks: networks().collect(),
            targets,
            ..IscsiBondSpec::default()
        };
        let mut bond = IscsiBond::new(&format!("bond-{index:04}"), spec);
        here(bond.meta_mut());
        bond
    };
    let host = |index: usize| {
        let name = format!("host-{index:05}");
        let spec = HostSpec { data_center: "hall".to_owned(), node_name: name.clone(), ..HostSpec::default() };
        let interface = |network: usize| HostInterface {
            name: format!("ens{network}").into(),
            addresses: vec![format!("10.{network}.{}.{}/16", 100 + index / 250, index % 250 + 1)],
            ..HostInterface::default()
        };
        let mut host = Host::new(&name, spec);
        here(host.meta_mut());
        host.status = Some(HostStatus {
            data_center: Some("hall".to_owned()),
            interfaces: Some((0..shape.networks).map(interface).collect()),
            ..HostStatus::default()
        });
        host
    };
    Objects {
        data_centers: vec![data_center],
        networks: networks().enumerate().map(network).collect(),
        bonds: (0..shape.bonds).map(bond).collect(),
        hosts: (0..shape.hosts).map(host).collect(),
        terminating_namespaces: std::collections::BTreeSet::new(),
    }
}

fn view(objects: &Objects) -> Arc<View> {
    let networks: Vec<_> = objects.networks.iter().collect();
    let bonds: Vec<_> = objects.bonds.iter().collect();
    Arc::new(View::compile(&objects.data_centers[0], &networks, &bonds, false))
}

/// Every path is connected, except the first one of each target.
fn reported(host: &Host, plan: &HostPlan) -> Host {
    let mut host = host.clone();
    let mut last: Option<Iqn> = None;
    let connection = |path: &PlannedPath| {
        let PlannedPath { target, portal, tpgt, interface, .. } = path;
        let failed = last.replace(target.clone()).as_ref() != Some(target);
        Connection {
            target: target.clone(),
            portal: portal.clone(),
            tpgt: *tpgt,
            interface: interface.clone(),
            state: if failed { ConnectionState::Failed } else { ConnectionState::Connected },
            session_id: None,
            reason: None,
            message: None,
            since: Time(Timestamp::UNIX_EPOCH),
            retry_every: None,
        }
    };
    let connections = plan.paths.iter().map(connection).collect();
    if let Some(status) = &mut host.status {
        status.connections = connections;
    }
    host
}

fn observation(host: &Host) -> Observation<'_> {
    let non_operational_after = Duration::from_secs(60);
    Observation { host, node_owner: None, agent: AgentState::Alive, non_operational_after, warnings: &[] }
}

fn count(number: usize) -> Throughput {
    Throughput::Elements(number as u64)
}

/// The plan of a host that has one.
fn plan_of(planner: &Planner, host: &Host) -> HostPlan {
    planner.plan_host(host, false).unwrap_or_else(|too_large| panic!("{too_large}"))
}

/// Plans a host as the first of its data center, with an empty cache.
fn plan_first(bencher: &mut Bencher<'_>, view: &Arc<View>, host: &Host) {
    let plan = |planner: &mut Planner| planner.plan_host(black_box(host), false);
    bencher.iter_batched_ref(|| Planner::new(view.clone()), plan, BatchSize::LargeInput);
}

/// One host, by its number of paths.
fn one_host(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one host by paths");
    for paths in [8, 64, 512, 2048] {
        let objects = objects(Shape { targets: paths / 4, networks: 4, ..SMALL });
        let view = view(&objects);
        let plan = plan_of(&Planner::new(view.clone()), &objects.hosts[0]);
        assert_eq!(plan.paths.len(), paths);
        group.throughput(count(paths));
        group.bench_function(BenchmarkId::new("plan", paths), |bencher| {
            plan_first(bencher, &view, &objects.hosts[0]);
        });
        let host = reported(&objects.hosts[0], &plan);
        group.bench_function(BenchmarkId::new("judge", paths), |bencher| {
            bencher.iter(|| judge(&plan, black_box(&observation(&host)), Timestamp::UNIX_EPOCH));
        });
    }
    group.finish();
}

/// One host of 8 paths, by the number of bonds of its data center.
fn bonds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one host by bonds");
    for (cover, bonds_cover_all) in [("each covers all targets", true), ("each covers one target", false)] {
        for bonds in [1, 10, 100, 1000] {
            let objects = objects(Shape { bonds, bonds_cover_all, ..SMALL });
            let view = view(&objects);
            group.bench_function(BenchmarkId::new(cover, bonds), |bencher| {
                plan_first(bencher, &view, &objects.hosts[0]);
            });
        }
    }
    // With bonds that do not concern the host: 1,000 targets with a bond each, and all reported problems.
    let objects = objects(Shape { targets: 1000, bonds: 1000, bonds_cover_all: false, ..SMALL });
    group.bench_function("read 1000 bonds and 1000 targets", |bencher| bencher.iter(|| view(black_box(&objects))));
    group
        .bench_function("report 1000 bonds and 1000 targets", |bencher| bencher.iter(|| plan_all(black_box(&objects))));
    group.finish();
}

/// What an editor can do at worst: each of 500 bonds asks for every one of 2,048 portals through every network.
fn too_large(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a data center whose plans are too large");
    group.sample_size(20);
    let objects = objects(Shape { targets: 64, networks: 32, bonds: 500, ..SMALL });
    let view = view(&objects);
    assert!(Planner::new(view.clone()).plan_host(&objects.hosts[0], false).is_err());
    group.bench_function("read it", |bencher| bencher.iter(|| self::view(black_box(&objects))));
    group.bench_function("refuse one host", |bencher| plan_first(bencher, &view, &objects.hosts[0]));
    group.bench_function("report one host", |bencher| bencher.iter(|| plan_all(black_box(&objects))));
    group.finish();
}

/// Whole data centers of 8 paths per host.
fn data_centers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("data center by hosts");
    group.sample_size(20);
    for hosts in [100, 1000, 10_000] {
        let objects = objects(Shape { hosts, ..SMALL });
        let view = view(&objects);
        group.throughput(count(hosts));
        group.bench_function(BenchmarkId::new("plan", hosts), |bencher| {
            let plan_each = |planner: &mut Planner| {
                for host in &objects.hosts {
                    let _ = black_box(planner.plan_host(host, false));
                }
            };
            bencher.iter_batched_ref(|| Planner::new(view.clone()), plan_each, BatchSize::LargeInput);
        });
        group.bench_function(BenchmarkId::new("report", hosts), |bencher| {
            bencher.iter(|| plan_all(black_box(&objects)));
        });
        let planner = Planner::new(view);
        let plans: Vec<HostPlan> = objects.hosts.iter().map(|host| plan_of(&planner, host)).collect();
        let reports: Vec<Host> = objects.hosts.iter().zip(&plans).map(|(host, plan)| reported(host, plan)).collect();
        group.bench_function(BenchmarkId::new("judge", hosts), |bencher| {
            bencher.iter(|| {
                for (plan, host) in plans.iter().zip(&reports) {
                    black_box(judge(plan, &observation(host), Timestamp::UNIX_EPOCH));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, one_host, bonds, too_large, data_centers);
criterion_main!(benches);
