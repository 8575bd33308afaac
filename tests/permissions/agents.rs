//! Agents: each writes what it observes on its own node, and nothing else.

use std::collections::BTreeSet;

use kube::api::{Patch, PatchParams};
use multibond::api::{AGENT_STATUS_FIELDS, HostStatus};
use serde_json::{Value, json};

use crate::attempt::Outcome::{May, MayNot};
use crate::attempt::{
    Attempt, api, apply_status, check, create, delete, get, list, patch, patch_status, watch, watch_by_name,
};
use crate::namespaces::{Namespaces, Right, SYSTEM, bond, chap_secret, data_center_of, host, lease, network};

const TARGET: &str = "iqn.2003-01.org.example:array";

fn path(number: usize) -> Value {
    json!({"target": TARGET, "portal": format!("10.0.{}.{}:3260", number / 250, number % 250), "tpgt": 1,
        "interface": "ens2f0", "network": "san-a", "storage": "array", "bonds": ["storage"]})
}

fn connection(number: usize) -> Value {
    json!({"target": TARGET, "portal": path(number)["portal"], "tpgt": 1, "interface": "ens2f0", "state": "Connected",
        "sessionID": number, "since": "2026-01-01T00:00:00Z"})
}

/// What a controller has written into the status of the Hosts.
fn planned(paths: usize) -> Value {
    json!({"phase": "Connecting", "dataCenter": "frankfurt", "observedGeneration": 1,
        "paths": {"desired": paths, "connected": 0}, "summary": {"paths": format!("0/{paths}")},
        "networks": [{"name": "san-a", "interface": "ens2f0", "source": "Subnet", "address": "10.0.0.251/16"}],
        "targets": [{"target": TARGET}],
        "plan": {"revision": "8c1f2a9e", "paths": (0..paths).map(path).collect::<Vec<_>>()}})
}

/// A status as an agent writes it.
fn observed(paths: usize) -> Value {
    json!({"agent": {"version": env!("CARGO_PKG_VERSION"), "observedRevision": "8c1f2a9e"},
        "interfaces": [{"name": "ens2f0", "mtu": 9000, "up": true, "addresses": ["10.0.0.251/16"]}],
        "connections": (0..paths).map(connection).collect::<Vec<_>>(),
        "multipath": [{"wwid": "3600", "target": TARGET, "paths": 1, "active": 1}],
        "luns": {"summary": "0/1", "problems": [{"problem": "NoActivePath", "wwid": "3600", "sizeBytes": 1_073_741_824}]}})
}

/// Every field of a Host's status, as the API names it.
fn status_fields() -> BTreeSet<String> {
    let schema = schemars::schema_for!(HostStatus);
    schema.as_value()["properties"].as_object().unwrap().keys().cloned().collect()
}

async fn write_plan(namespaces: &Namespaces, object: &Value, paths: usize) {
    let admin = namespaces.cluster.client().await.unwrap();
    let name = object["metadata"]["name"].as_str().unwrap();
    let status = json!({"status": planned(paths)});
    api(&admin, object).patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test]
async fn a29_an_agent_writes_what_it_observes_on_its_node() {
    let namespaces = Namespaces::new().await;
    let own = host(&namespaces.home, "host-1", "worker-1");
    write_plan(&namespaces, &own, 2).await;
    let mut table = vec![
        (list(&host(&namespaces.away, "any", "any")), May),
        (get(&own), May),
        (apply_status(&own, &observed(2)), May),
        (patch_status(&own, &observed(2)), May),
        // What the controller has written, sent back as it is.
        (patch_status(&own, &planned(2)), May),
        (create(&lease(SYSTEM, "agent-worker-1")), May),
    ];
    table.extend(AGENT_STATUS_FIELDS.map(|field| (patch_status(&own, &json!({field: observed(2)[field]})), May)));
    check("the agent of worker-1", &namespaces.agent(Some("worker-1")).await, &table).await;
}

/// A stolen token writes its own Host only, and there only what everybody can read.
#[tokio::test]
async fn a29_an_agent_writes_no_number_or_time_that_nobody_can_read() {
    let namespaces = Namespaces::new().await;
    let own = host(&namespaces.home, "host-1", "worker-1");
    let agent = namespaces.agent(Some("worker-1")).await;
    let with = |field: &str, value: Value| {
        let mut connection = connection(1);
        connection[field] = value;
        json!({"connections": [connection]})
    };
    let map = json!({"wwid": "3600", "target": TARGET, "paths": 5_000_000_000_u64, "active": 1});
    let refused = [
        (with("sessionID", json!(5_000_000_000_u64)), "sessionID"),
        (with("sessionID", json!(-1)), "sessionID"),
        (with("tpgt", json!(70_000)), "tpgt"),
        (with("since", json!("9999-12-31T23:59:59-14:00")), "since"),
        (with("since", json!("2026-01-01T00:00:00+99:99")), "since"),
        (json!({"interfaces": [{"name": "ens1", "mtu": 5_000_000_000_u64}]}), "mtu"),
        (json!({"multipath": [map]}), "paths"),
        (json!({"agent": {"observedSequence": 1e30}}), "observedSequence"),
    ];
    for (status, field) in refused {
        let patch = Patch::Merge(json!({"status": status}));
        let answer = api(&agent, &own).patch_status("host-1", &PatchParams::default(), &patch).await;
        let Err(kube::Error::Api(answer)) = answer else { panic!("{field}: {answer:?}") };
        assert!(answer.code == 422 && answer.message.contains(field), "{answer:?}");
    }
    let largest = [("sessionID", json!(u32::MAX)), ("tpgt", json!(u16::MAX)), ("since", json!("9998-12-31T23:59:59Z"))];
    let table = largest.map(|(field, value)| (patch_status(&own, &with(field, value)), May));
    check("the agent of worker-1", &agent, &table).await;
}

#[tokio::test]
async fn a29_an_agent_writes_no_status_that_is_the_controllers() {
    let namespaces = Namespaces::new().await;
    let own = host(&namespaces.home, "host-1", "worker-1");
    write_plan(&namespaces, &own, 2).await;
    let ready = json!([{"type": "Ready", "status": "True", "reason": "Up", "message": "All is well",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let claims: [(&str, Value, &'static str); 9] = [
        ("plan", json!({"revision": "8c1f2a9e", "paths": [path(7)]}), "status.plan belongs to the controller"),
        ("phase", json!("Up"), "status.phase belongs"),
        ("conditions", ready, "status.conditions belongs"),
        ("networks", json!([]), "status.networks belongs"),
        ("paths", json!({"desired": 2, "connected": 2}), "status.paths belongs"),
        ("summary", json!({"paths": "2/2"}), "status.summary belongs"),
        ("targets", json!([{"target": TARGET, "lostAt": "2026-01-01T00:00:00Z"}]), "status.targets belongs"),
        ("dataCenter", json!("munich"), "status.dataCenter belongs"),
        ("observedGeneration", json!(7), "status.observedGeneration belongs"),
    ];
    let claimed = claims.iter().map(|(field, ..)| (*field).to_owned());
    assert_eq!(claimed.chain(AGENT_STATUS_FIELDS.map(str::to_owned)).collect::<BTreeSet<_>>(), status_fields());
    let table: Vec<(Attempt, _)> = claims
        .into_iter()
        .flat_map(|(field, value, why)| {
            let smuggled = {
                let mut status = observed(2);
                status[field] = value.clone();
                status
            };
            [
                (apply_status(&own, &smuggled), MayNot(why)),
                (patch_status(&own, &json!({field: value})), MayNot(why)),
                (patch_status(&own, &json!({field: null})), MayNot(why)),
            ]
        })
        .chain([
            (patch_status(&own, &Value::Null), MayNot("belongs to the controller")),
            // Within the plan, one field of one path.
            (
                patch_status(&own, &json!({"plan": {"hold": [TARGET]}})),
                MayNot("an agent may write only status.agent, status.interfaces, status.connections, status.multipath"),
            ),
        ])
        .collect();
    check("the agent of worker-1", &namespaces.agent(Some("worker-1")).await, &table).await;
}

#[tokio::test]
async fn a29_an_agent_adds_no_controller_status_to_a_host_without_one() {
    let namespaces = Namespaces::new().await;
    let own = host(&namespaces.home, "host-1", "worker-1");
    let agent = namespaces.agent(Some("worker-1")).await;
    let table = [
        (apply_status(&own, &observed(2)), May),
        (apply_status(&own, &json!({"phase": "Up"})), MayNot("status.phase belongs")),
        (patch_status(&own, &json!({"plan": {"revision": "1", "paths": []}})), MayNot("status.plan belongs")),
    ];
    check("the agent of worker-1", &agent, &table).await;
}

#[tokio::test]
async fn a29_an_agent_of_another_node_changes_nothing_here() {
    let namespaces = Namespaces::new().await;
    let own = host(&namespaces.home, "host-1", "worker-1");
    let agent = namespaces.agent(Some("worker-2")).await;
    let only_its_own = MayNot(
        "spec.nodeName: the agent of node worker-2 may write the status of the Host of that node \
        only, and this is the Host of worker-1",
    );
    let only_its_lease = MayNot("metadata.name: the agent of node worker-2 may write only the lease agent-worker-2");
    namespaces.make(&[lease(SYSTEM, "agent-worker-3"), lease(&namespaces.home, "agent-worker-2")]).await;
    let renewed = json!({"spec": {"holderIdentity": "somebody else"}});
    check(
        "the agent of worker-2",
        &agent,
        &[
            (apply_status(&host(&namespaces.home, "host-2", "worker-2"), &observed(1)), May),
            (apply_status(&own, &observed(1)), only_its_own),
            (patch_status(&own, &json!({"connections": []})), only_its_own),
            (patch(&lease(SYSTEM, "agent-worker-3"), renewed.clone()), only_its_lease),
            (create(&lease(SYSTEM, "agent-worker-1")), only_its_lease),
            (create(&lease(SYSTEM, "multibond-controller")), only_its_lease),
            (patch(&lease(&namespaces.home, "agent-worker-2"), renewed), MayNot("cannot patch resource \"leases\"")),
            (delete(&lease(SYSTEM, "agent-worker-3")), MayNot("cannot delete resource \"leases\"")),
        ],
    )
    .await;
}

#[tokio::test]
async fn a29_an_agent_whose_token_names_no_node_writes_nothing() {
    let namespaces = Namespaces::new().await;
    let nameless = MayNot("the agent's token names no node");
    check(
        "the agent without a node",
        &namespaces.agent(None).await,
        &[
            (get(&host(&namespaces.home, "host-1", "worker-1")), May),
            (apply_status(&host(&namespaces.home, "host-1", "worker-1"), &observed(1)), nameless),
            (create(&lease(SYSTEM, "agent-worker-1")), nameless),
        ],
    )
    .await;
}

#[tokio::test]
async fn a29_an_agent_has_no_right_to_anything_else() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let own = host(home, "host-1", "worker-1");
    let out = json!({"spec": {"maintenance": true}});
    check(
        "the agent of worker-1",
        &namespaces.agent(Some("worker-1")).await,
        &[
            (patch(&own, out.clone()), MayNot("cannot patch resource \"hosts\"")),
            (create(&host(home, "new", "worker-1")), MayNot("cannot create resource \"hosts\"")),
            (delete(&own), MayNot("cannot delete resource \"hosts\"")),
            (list(&bond(home, "any", "any")), MayNot("cannot list resource \"iscsibonds\"")),
            (list(&data_center_of(home, "any")), MayNot("cannot list resource \"datacenters\"")),
            (get(&chap_secret(home)), MayNot("cannot get resource \"secrets\"")),
        ],
    )
    .await;

    // A role that is bound to the agents by mistake gives them no permission either.
    let subject = json!({"kind": "ServiceAccount", "name": "multibond-agent", "namespace": SYSTEM});
    let mistake = |role: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": role, "namespace": home}, "subjects": [subject],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}})
    };
    namespaces.make(&[mistake("multibond-editor"), mistake("multibond-host-admin")]).await;
    // A later permission of the same kind shows when the earlier ones are in force.
    namespaces.person("later", &[Right::Role(home, "multibond-viewer")]).await;
    let nothing = MayNot("an agent may write nothing of multibond.dev but the status of the Host of its own node");
    check(
        "the agent of worker-1, an editor by mistake",
        &namespaces.agent(Some("worker-1")).await,
        &[
            (patch(&own, out), nothing),
            (delete(&own), nothing),
            (create(&network(home, "new", "frankfurt")), nothing),
            (delete(&bond(home, "bond-fra", "frankfurt")), nothing),
        ],
    )
    .await;
}

#[tokio::test]
async fn a29_agents_read_chap_secrets_only_where_granted() {
    let namespaces = Namespaces::new().await;
    let (home, away) = (&namespaces.home, &namespaces.away);
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "multibond-chap-reader", "namespace": home},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "multibond-chap-reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "multibond-agent", "namespace": SYSTEM}]});
    // The narrow way: a Role of the administrator that names the Secret.
    let rights = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "array-chap", "namespace": away},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["array-chap"], "verbs": ["get", "watch"]}]});
    let narrow = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "array-chap", "namespace": away},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "array-chap"},
        "subjects": [{"kind": "ServiceAccount", "name": "multibond-agent", "namespace": SYSTEM}]});
    let mut other = chap_secret(away);
    other["metadata"]["name"] = json!("db-password");
    namespaces.make(&[chap_secret(home), chap_secret(away), other.clone(), binding, rights, narrow]).await;
    namespaces.person("later", &[Right::Role(home, "multibond-viewer")]).await;
    check(
        "the agent of worker-1",
        &namespaces.agent(Some("worker-1")).await,
        &[
            (get(&chap_secret(home)), May),
            (list(&chap_secret(home)), MayNot("cannot list resource \"secrets\"")),
            (delete(&chap_secret(home)), MayNot("cannot delete resource \"secrets\"")),
            (watch(&chap_secret(home)), MayNot("cannot watch resource \"secrets\"")),
            (watch_by_name(&chap_secret(home)), MayNot("cannot watch resource \"secrets\"")),
            (get(&chap_secret(away)), May),
            (watch_by_name(&chap_secret(away)), May),
            (get(&other), MayNot("cannot get resource \"secrets\"")),
            (watch(&other), MayNot("cannot watch resource \"secrets\"")),
            (watch_by_name(&other), MayNot("cannot watch resource \"secrets\"")),
        ],
    )
    .await;
}

/// The API server limits the cost of a policy, and rejects requests that exceed the limit.
#[tokio::test]
async fn a29_an_agent_with_thousands_of_paths_is_within_the_policys_budget() {
    let namespaces = Namespaces::new().await;
    let own = host(&namespaces.home, "host-1", "worker-1");
    write_plan(&namespaces, &own, 3000).await;
    let agent = namespaces.agent(Some("worker-1")).await;
    let table = [
        (patch_status(&own, &observed(3000)), May),
        (patch_status(&own, &json!({"plan": {"revision": "7", "paths": []}})), MayNot("status.plan belongs")),
    ];
    check("the agent of worker-1", &agent, &table).await;
}
