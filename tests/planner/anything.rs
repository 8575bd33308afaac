//! Generated data centers of one namespace. Names come from small sets, so that collisions are frequent.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use multibond::{
    api::{
        AgentStatus, CarriedNetwork, CarrySource, DataCenter, DataCenterSpec, DefaultNetwork, Host, HostInterface,
        HostSpec, HostStatus, InterfaceNetworks, IscsiBond, IscsiBondSpec, Network, NetworkSpec, Pairing, PortalSpec,
        Storage, Target,
    },
    planner::Objects,
};
use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
    sample::select,
};

const SUBNETS: [&str; 5] = ["10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24", "10.0.0.0/16", "fd00:1::/64"];
const PORTALS: [&str; 9] = [
    "10.0.1.10",
    "10.0.2.10",
    "10.0.3.10",
    "10.0.9.10",
    "192.0.2.10",
    "fd00:1::10",
    "FD00:1:0:0::10",
    "san.example",
    "SAN.example",
];
const ADDRESSES: [&str; 6] =
    ["10.0.1.21/24", "10.0.1.22/24", "10.0.2.21/24", "10.0.3.21/24", "fd00:1::21/64", "172.16.0.21/24"];
const INTERFACES: [&str; 3] = ["ens3", "ens4", "ens5"];

fn meta(name: &str, deleting: bool, created: Option<u8>) -> ObjectMeta {
    let time = |second: u8| Time(Timestamp::from_second(second.into()).expect("a time"));
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("fra".to_owned()),
        deletion_timestamp: deleting.then(|| time(99)),
        creation_timestamp: created.map(time),
        ..ObjectMeta::default()
    }
}

fn rarely() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.1)
}

fn network_name() -> impl Strategy<Value = String> {
    (0..5_u8).prop_map(|n| format!("net-{n}"))
}

fn target_name() -> impl Strategy<Value = String> {
    // Some are near misses of each other.
    select(vec!["t1", "t2", "t3", "t-1", "t12", "t21"]).prop_map(|name| format!("iqn.2003-01.org.example:{name}"))
}

fn data_center_name() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just("hall"), 2 => Just("cellar"), 1 => Just("typo")].prop_map(str::to_owned)
}

fn portals() -> impl Strategy<Value = Vec<PortalSpec>> {
    let pin = option::weighted(0.3, network_name());
    let portal = (select(&PORTALS[..]), select(vec![3260, 860]), 1..3_u16, pin)
        .prop_map(|(address, port, tpgt, network)| PortalSpec { address: address.to_owned(), port, tpgt, network });
    vec(portal, 1..4)
}

fn data_center(name: &'static str) -> impl Strategy<Value = DataCenter> {
    let targets = btree_map(target_name(), portals(), 0..3).prop_map(|targets| {
        targets.into_iter().map(|(iqn, portals)| Target { iqn, portals, chap: None }).collect::<Vec<_>>()
    });
    let storage = vec(targets, 0..3);
    let default = select(vec![DefaultNetwork::Use, DefaultNetwork::Never]);
    (storage, default, rarely()).prop_map(move |(storage, default_network, deleting)| {
        let storage = storage.into_iter().enumerate();
        let storage = storage.map(|(n, targets)| Storage { name: format!("array-{n}"), targets }).collect();
        let spec = DataCenterSpec { storage, default_network, ..DataCenterSpec::default() };
        DataCenter { metadata: meta(name, deleting, None), ..DataCenter::new(name, spec) }
    })
}

fn networks() -> impl Strategy<Value = Vec<Network>> {
    let subnets = btree_set(select(&SUBNETS[..]), 0..3);
    let network = (data_center_name(), subnets, rarely());
    btree_map(network_name(), network, 0..5).prop_map(|networks| {
        let network = |(name, (data_center, subnets, deleting)): (String, (String, _, bool))| {
            let subnets = std::collections::BTreeSet::<&str>::into_iter(subnets).map(str::to_owned).collect();
            let spec = NetworkSpec { data_center, subnets, ..NetworkSpec::default() };
            Network { metadata: meta(&name, deleting, None), ..Network::new(&name, spec) }
        };
        networks.into_iter().map(network).collect()
    })
}

fn bonds() -> impl Strategy<Value = Vec<IscsiBond>> {
    let pairing = select(vec![Pairing::Auto, Pairing::Auto, Pairing::AllPairs]);
    let bond = (data_center_name(), btree_set(network_name(), 0..4), btree_set(target_name(), 0..3), pairing, rarely());
    vec(bond, 0..4).prop_map(|bonds| {
        let bond = |(n, (data_center, networks, targets, pairing, deleting)): (usize, (String, _, _, _, bool))| {
            let list = |names: std::collections::BTreeSet<String>| names.into_iter().collect();
            let (networks, targets) = (list(networks), list(targets));
            let spec = IscsiBondSpec { data_center, description: None, networks, targets, pairing };
            let name = format!("bond-{n}");
            IscsiBond { metadata: meta(&name, deleting, None), ..IscsiBond::new(&name, spec) }
        };
        bonds.into_iter().enumerate().map(bond).collect()
    })
}

fn status() -> impl Strategy<Value = Option<HostStatus>> {
    let reported = btree_map(select(&INTERFACES[..]), btree_set(select(&ADDRESSES[..]), 0..3), 0..3);
    let remembered = btree_map((network_name(), select(&INTERFACES[..])), select(&ADDRESSES[..]), 0..3);
    // Cloned machines have one initiator name.
    let initiator = option::weighted(0.5, (0..8_u8).prop_map(|n| format!("iqn.1993-08.org.debian:01:{n}")));
    let status = (option::weighted(0.9, reported), remembered, data_center_name(), initiator);
    option::weighted(0.8, status).prop_map(|status| {
        status.map(|(reported, remembered, data_center, initiator_name)| HostStatus {
            data_center: Some(data_center),
            agent: Some(AgentStatus { initiator_name, ..AgentStatus::default() }),
            interfaces: reported.map(|interfaces| {
                let interface = |(name, addresses): (&str, std::collections::BTreeSet<&str>)| HostInterface {
                    name: name.into(),
                    addresses: addresses.into_iter().map(str::to_owned).collect(),
                    ..HostInterface::default()
                };
                interfaces.into_iter().map(interface).collect()
            }),
            networks: remembered
                .into_iter()
                .map(|((name, interface), address)| CarriedNetwork {
                    name: name.into(),
                    interface: interface.into(),
                    source: CarrySource::Subnet,
                    address: Some(address.to_owned()),
                })
                .collect(),
            ..HostStatus::default()
        })
    })
}

fn hosts() -> impl Strategy<Value = Vec<Host>> {
    let interfaces = btree_map(select(&INTERFACES[..]), btree_set(network_name(), 0..3), 0..3);
    let claim = (0..6_u8, option::of(0..2_u8), rarely());
    let host = (data_center_name(), interfaces, status(), rarely(), claim);
    vec(host, 1..5).prop_map(|hosts| {
        let host = |(n, (data_center, interfaces, status, maintenance, (node, created, deleting)))| {
            let name = format!("host-{n}");
            let interface = |(name, networks): (&str, std::collections::BTreeSet<String>)| InterfaceNetworks {
                name: name.to_owned(),
                networks: networks.into_iter().collect(),
            };
            let interfaces = std::collections::BTreeMap::into_iter(interfaces).map(interface).collect();
            let spec = HostSpec { data_center, node_name: format!("node-{node}"), maintenance, interfaces };
            Host { metadata: meta(&name, deleting, created), status, ..Host::new(&name, spec) }
        };
        hosts.into_iter().enumerate().map(host).collect()
    })
}

/// Any objects.
pub fn objects() -> impl Strategy<Value = Objects> {
    (data_center("hall"), data_center("cellar"), networks(), bonds(), hosts(), rarely()).prop_map(
        |(hall, cellar, networks, bonds, hosts, terminating)| Objects {
            data_centers: vec![hall, cellar],
            networks,
            bonds,
            hosts,
            terminating_namespaces: terminating.then(|| "fra".to_owned()).into_iter().collect(),
        },
    )
}

/// The same objects, with all unordered lists shuffled.
pub fn shuffled(objects: &Objects, seed: u64) -> Objects {
    let mut objects = objects.clone();
    let mut dice = Dice(seed);
    dice.shuffle(&mut objects.data_centers);
    dice.shuffle(&mut objects.networks);
    dice.shuffle(&mut objects.bonds);
    dice.shuffle(&mut objects.hosts);
    for data_center in &mut objects.data_centers {
        dice.shuffle(&mut data_center.spec.storage);
        for storage in &mut data_center.spec.storage {
            dice.shuffle(&mut storage.targets);
            storage.targets.iter_mut().for_each(|target| dice.shuffle(&mut target.portals));
        }
    }
    objects.networks.iter_mut().for_each(|network| dice.shuffle(&mut network.spec.subnets));
    for bond in &mut objects.bonds {
        dice.shuffle(&mut bond.spec.networks);
        dice.shuffle(&mut bond.spec.targets);
    }
    for host in &mut objects.hosts {
        dice.shuffle(&mut host.spec.interfaces);
        host.spec.interfaces.iter_mut().for_each(|interface| dice.shuffle(&mut interface.networks));
        let Some(status) = &mut host.status else { continue };
        dice.shuffle(Arc::make_mut(&mut status.networks));
        let interfaces = status.interfaces.iter_mut();
        interfaces.for_each(|interfaces| {
            dice.shuffle(interfaces);
            for interface in interfaces {
                dice.shuffle(&mut interface.addresses);
            }
        });
    }
    objects
}

/// A linear congruential generator: enough to shuffle.
struct Dice(u64);

impl Dice {
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            items.swap(end, (self.0 >> 33) as usize % (end + 1));
        }
    }
}
