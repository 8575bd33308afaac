//! Facts of clusters for the tests.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::version::Info;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    api::{self, Host, LeasePart},
    check::{
        Check, Line, Stage, VERSION,
        facts::{ClusterFacts, Listed, Unavailable},
        judge::judge,
        permissions::required,
    },
};

pub(crate) const NOW: &str = "2026-01-31T12:00:00Z";

pub(crate) fn read<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

/// The only line of a report with this check.
pub(crate) fn line(facts: &ClusterFacts, stage: Stage, check: Check) -> Line {
    let lines = judge(facts, stage).lines;
    let [line] = &lines.iter().filter(|line| line.check == check).collect::<Vec<_>>()[..] else {
        panic!("one line {check:?}: {lines:#?}")
    };
    Line::clone(line)
}

pub(crate) fn lease(name: &str, holder: &str, renewed: Timestamp) -> LeasePart {
    read(json!({"metadata": {"name": name}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15,
        "renewTime": format!("{renewed:.6}")}}))
}

pub(crate) fn host(name: &str, node: &str, status: Value) -> Host {
    let mut host = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host",
        "metadata": {"name": name, "namespace": "ns"}, "spec": {"dataCenter": "dc", "nodeName": node}});
    host["status"] = status;
    read(host)
}

pub(crate) fn with_hosts<const N: usize>(facts: ClusterFacts, hosts: [Host; N]) -> ClusterFacts {
    ClusterFacts { hosts: Ok(Listed { objects: hosts.into(), broken: Vec::new() }), ..facts }
}

/// A cluster without Multibond, seen by an administrator.
pub(crate) fn empty_cluster() -> ClusterFacts {
    let server =
        Info { major: "1".to_owned(), minor: "36".to_owned(), git_version: "v1.36.3".to_owned(), ..Info::default() };
    ClusterFacts {
        namespace: "multibond-system".to_owned(),
        now: NOW.parse().unwrap(),
        server: Ok(server),
        policies: Ok(true),
        permissions: Ok(required().into_iter().map(|right| (right, true)).collect()),
        release_namespace: Ok(None),
        definitions: Ok(Vec::new()),
        policies_in_force: Ok(Vec::new()),
        controller: Ok(None),
        agents: Ok(None),
        leases: Ok(Vec::new()),
        nodes: Ok(vec![read(json!({"metadata": {"name": "w1"}}))]),
        data_centers: Err(Unavailable::UnknownKind),
        networks: Err(Unavailable::UnknownKind),
        hosts: Err(Unavailable::UnknownKind),
        bonds: Err(Unavailable::UnknownKind),
    }
}

/// A cluster with one host, where all is well.
pub(crate) fn working() -> ClusterFacts {
    let now: Timestamp = NOW.parse().unwrap();
    let mut definitions = api::crds();
    for definition in &mut definitions {
        definition.status = read(json!({"conditions": [{"type": "NamesAccepted", "status": "True"},
            {"type": "Established", "status": "True"}]}));
    }
    let labels = json!({"app.kubernetes.io/version": VERSION});
    let controller = json!({"metadata": {"labels": labels}, "spec": {"replicas": 2, "selector": {}, "template": {}},
        "status": {"availableReplicas": 2}});
    let agents = json!({"metadata": {"labels": labels}, "status": {"currentNumberScheduled": 1,
        "desiredNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": 1, "updatedNumberScheduled": 1}});
    let facts = ClusterFacts {
        definitions: Ok(definitions),
        policies_in_force: Ok(super::installed::POLICIES.map(str::to_owned).into()),
        controller: Ok(Some(read(controller))),
        agents: Ok(Some(read(agents))),
        leases: Ok(vec![lease("multibond-controller", "c1", now), lease("agent-w1", "w1", now)]),
        data_centers: Ok(Listed { objects: Vec::new(), broken: Vec::new() }),
        networks: Ok(Listed { objects: Vec::new(), broken: Vec::new() }),
        bonds: Ok(Listed { objects: Vec::new(), broken: Vec::new() }),
        ..empty_cluster()
    };
    let up = json!({"phase": "Up", "agent": {"version": VERSION, "initiatorName": "iqn.2003-01.org.example:w1"}});
    with_hosts(facts, [host("h1", "w1", up)])
}
