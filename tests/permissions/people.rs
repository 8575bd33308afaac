//! Viewers, editors and host administrators of a data center's namespace.

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use multibond_testbed::eventually;
use serde_json::{Value, json};

use crate::attempt::Outcome::{May, MayNot};
use crate::attempt::{check, create, delete, delete_all, get, list, patch, patch_status};
use crate::namespaces::{
    Namespaces, Right, SOON, bond, chap_secret, chart, data_center_of, host, network, node, with_spec,
};

fn described() -> Value {
    json!({"spec": {"description": "changed"}})
}

fn update_nodes(names: &[&str]) -> Right<'static> {
    Right::RulesEverywhere(json!([
        {"apiGroups": [""], "resources": ["nodes"], "resourceNames": names, "verbs": ["update"]},
    ]))
}

fn update_all_nodes() -> Right<'static> {
    Right::RulesEverywhere(json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["update"]}]))
}

/// Frankfurt selects Nodes and munich has a taint; a user with the permission has set both.
async fn select_nodes(namespaces: &Namespaces) {
    let hosts = json!({"hosts": {"nodeSelector": {"matchLabels": {"hall": "2"}}}});
    let taint = json!({"nonOperationalTaint": "NoSchedule"});
    let frankfurt = with_spec(&data_center_of(&namespaces.home, "frankfurt"), &hosts);
    let munich = with_spec(&data_center_of(&namespaces.home, "munich"), &taint);
    namespaces.make(&[frankfurt, munich]).await;
}

#[tokio::test]
async fn a29_an_editor_manages_bonds_networks_and_storage_of_the_namespace() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let editor = namespaces.person("editor", &[Right::Role(home, "multibond-editor")]).await;
    let storage = json!({"spec": {"storage": []}});
    check(
        "the editor",
        &editor,
        &[
            (create(&bond(home, "new", "frankfurt")), May),
            (create(&network(home, "new", "frankfurt")), May),
            (create(&data_center_of(home, "berlin")), May),
            // Manifests are applied in any order.
            (create(&bond(home, "new", "not-yet-there")), May),
            (patch(&bond(home, "bond-fra", "frankfurt"), json!({"spec": {"networks": ["san-b"]}})), May),
            (patch(&network(home, "san-fra", "frankfurt"), described()), May),
            (patch(&data_center_of(home, "frankfurt"), storage), May),
            (delete(&bond(home, "bond-fra", "frankfurt")), May),
            (delete(&network(home, "san-muc", "munich")), May),
            (delete_all(&bond(home, "any", "any")), May),
            (delete(&data_center_of(home, "munich")), May),
            (get(&host(home, "host-1", "worker-1")), May),
            (list(&host(home, "any", "any")), May),
        ],
    )
    .await;
}

#[tokio::test]
async fn a29_editor_cannot_write_hosts_secrets_or_controller_fields() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let editor = namespaces.person("editor", &[Right::Role(home, "multibond-editor")]).await;
    let worker = host(home, "host-1", "worker-1");
    check(
        "the editor",
        &editor,
        &[
            (create(&host(home, "new", "worker-1")), MayNot("cannot create resource \"hosts\"")),
            (patch(&worker, json!({"spec": {"maintenance": true}})), MayNot("cannot patch resource \"hosts\"")),
            (delete(&worker), MayNot("cannot delete resource \"hosts\"")),
            (get(&chap_secret(home)), MayNot("cannot get resource \"secrets\"")),
            (
                patch_status(&bond(home, "bond-fra", "frankfurt"), &json!({"summary": {"hosts": "9/9"}})),
                MayNot("cannot patch resource \"iscsibonds/status\""),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a29_a_viewer_reads_and_writes_nothing() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let viewer = namespaces.person("viewer", &[Right::Role(home, "multibond-viewer")]).await;
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "any", "namespace": home}});
    check(
        "the viewer",
        &viewer,
        &[
            (get(&bond(home, "bond-fra", "frankfurt")), May),
            (list(&data_center_of(home, "any")), May),
            (list(&network(home, "any", "any")), May),
            (list(&host(home, "any", "any")), May),
            (list(&event), May),
            (create(&bond(home, "new", "frankfurt")), MayNot("cannot create resource \"iscsibonds\"")),
            (patch(&network(home, "san-fra", "frankfurt"), described()), MayNot("cannot patch resource \"networks\"")),
            (patch(&data_center_of(home, "frankfurt"), described()), MayNot("cannot patch resource \"datacenters\"")),
            (delete(&bond(home, "bond-fra", "frankfurt")), MayNot("cannot delete resource \"iscsibonds\"")),
            (get(&chap_secret(home)), MayNot("cannot get resource \"secrets\"")),
            (list(&bond(&namespaces.away, "any", "any")), MayNot("cannot list resource \"iscsibonds\"")),
        ],
    )
    .await;
}

#[tokio::test]
async fn a29_an_editor_of_another_namespace_has_no_right_in_this_one() {
    let namespaces = Namespaces::new().await;
    let (home, away) = (&namespaces.home, &namespaces.away);
    let editor = namespaces.person("editor", &[Right::Role(away, "multibond-editor")]).await;
    check(
        "the editor of the other namespace",
        &editor,
        &[
            (create(&bond(away, "new", "tokyo")), May),
            (delete(&network(away, "san-tok", "tokyo")), May),
            (list(&bond(home, "any", "any")), MayNot("cannot list resource \"iscsibonds\"")),
            (create(&bond(home, "new", "frankfurt")), MayNot("cannot create resource \"iscsibonds\"")),
            (patch(&network(home, "san-fra", "frankfurt"), described()), MayNot("cannot patch resource \"networks\"")),
            (delete(&bond(home, "bond-fra", "frankfurt")), MayNot("cannot delete resource \"iscsibonds\"")),
            (delete(&data_center_of(home, "frankfurt")), MayNot("cannot delete resource \"datacenters\"")),
        ],
    )
    .await;
}

/// What an administrator grants to keep two data centers of one namespace apart.
fn only_frankfurt(namespace: &str) -> Right<'_> {
    Right::Rules(
        namespace,
        json!([
            {"apiGroups": ["multibond.dev"], "resources": ["datacenters"], "resourceNames": ["frankfurt"],
                "verbs": ["get", "update", "patch"]},
            {"apiGroups": ["multibond.dev"], "resources": ["networks", "iscsibonds"], "verbs": ["*"]},
        ]),
    )
}

#[tokio::test]
async fn a29_editor_of_a_data_center_cannot_write_objects_of_another() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let editor = namespaces.person("frankfurter", &[only_frankfurt(home)]).await;
    let needs_munich = MayNot(
        "spec.dataCenter: a bond or network of data center munich may be created, changed or \
        deleted only with permission to update datacenters.multibond.dev/munich",
    );
    let orphaned = json!({"metadata": {"finalizers": null, "ownerReferences": null, "labels": {"a": "b"}}});
    check(
        "the editor of frankfurt",
        &editor,
        &[
            (create(&bond(home, "new", "frankfurt")), May),
            (patch(&bond(home, "bond-fra", "frankfurt"), described()), May),
            (delete(&bond(home, "bond-fra", "frankfurt")), May),
            (create(&network(home, "new", "frankfurt")), May),
            (delete(&network(home, "san-fra", "frankfurt")), May),
            (create(&bond(home, "new", "munich")), needs_munich),
            (patch(&bond(home, "bond-muc", "munich"), described()), needs_munich),
            // Without its finalizer a network would go before its hosts have disconnected.
            (patch(&network(home, "san-muc", "munich"), orphaned), needs_munich),
            (delete(&bond(home, "bond-muc", "munich")), needs_munich),
            (create(&network(home, "new", "munich")), needs_munich),
            (delete(&network(home, "san-muc", "munich")), needs_munich),
            (delete_all(&bond(home, "any", "any")), needs_munich),
            (create(&bond(home, "new", "nowhere")), MayNot("datacenters.multibond.dev/nowhere")),
        ],
    )
    .await;
}

#[tokio::test]
async fn a29_selecting_nodes_requires_permission_to_update_nodes() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    select_nodes(&namespaces).await;
    let [frankfurt, munich, berlin] = ["frankfurt", "munich", "berlin"].map(|name| data_center_of(home, name));
    let everyone = json!({"hosts": {"nodeSelector": {}}});
    let evicting = json!({"nonOperationalTaint": "NoExecute"});
    let writes = [
        (create(&with_spec(&berlin, &everyone)), "spec.hosts: "),
        (create(&with_spec(&berlin, &evicting)), "spec.nonOperationalTaint: "),
        (patch(&frankfurt, json!({"spec": {"hosts": {"nodeSelector": {"matchLabels": null}}}})), "spec.hosts: "),
        (patch(&frankfurt, json!({"spec": {"hosts": null}})), "spec.hosts: "),
        (patch(&frankfurt, json!({"spec": evicting})), "spec.nonOperationalTaint: "),
        (patch(&munich, json!({"spec": {"nonOperationalTaint": "None"}})), "spec.nonOperationalTaint: "),
        (patch(&munich, json!({"spec": {"nonOperationalTaint": null}})), "spec.nonOperationalTaint: "),
    ];
    let harmless = [
        (patch(&frankfurt, described()), May),
        (patch(&munich, json!({"spec": {"nonOperationalTaint": "NoSchedule", "storage": []}})), May),
        (create(&with_spec(&berlin, &json!({"nonOperationalTaint": "None"}))), May),
        (delete(&frankfurt), May),
    ];

    let editor = namespaces.person("editor", &[Right::Role(home, "multibond-editor")]).await;
    let forbidden = writes.clone().map(|(attempt, field)| (attempt, MayNot(field)));
    check("the editor", &editor, &forbidden).await;
    check("the editor", &editor, &harmless).await;

    // Permission on one Node is not permission on all Nodes that a selector can match.
    let half = [Right::Role(home, "multibond-editor"), update_nodes(&["worker-1"])];
    let half = namespaces.person("editor-with-one-node", &half).await;
    check("the editor with one node", &half, &forbidden).await;

    let full = [Right::Role(home, "multibond-editor"), update_all_nodes()];
    let full = namespaces.person("editor-with-all-nodes", &full).await;
    check("the editor with all nodes", &full, &writes.map(|(attempt, _)| (attempt, May))).await;
}

#[tokio::test]
async fn a29_creating_a_host_requires_permission_to_update_its_node() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let rights = [Right::Role(home, "multibond-host-admin"), update_nodes(&["worker-1", "worker-9"])];
    let admin = namespaces.person("host-admin", &rights).await;
    let theirs = host(home, "host-2", "worker-2");
    check(
        "the host administrator",
        &admin,
        &[
            (create(&host(home, "new", "worker-1")), May),
            // A Host may come before its Node.
            (create(&host(home, "new", "worker-9")), May),
            (create(&host(home, "new", "worker-2")), MayNot("spec.nodeName: ")),
            (create(&host(home, "new", "worker-2")), MayNot("needs permission to update nodes/worker-2")),
            // An existing Host may be changed without permission on its Node.
            (patch(&theirs, json!({"spec": {"maintenance": true, "interfaces": [{"name": "ens2f0"}]}})), May),
            (delete(&theirs), May),
            (patch(&bond(home, "bond-fra", "frankfurt"), described()), MayNot("cannot patch resource \"iscsibonds\"")),
            (
                patch(&node("worker-1"), json!({"metadata": {"labels": {"a": "b"}}})),
                MayNot("cannot patch resource \"nodes\""),
            ),
            (create(&host(&namespaces.away, "new", "worker-1")), MayNot("cannot create resource \"hosts\"")),
        ],
    )
    .await;
}

#[tokio::test]
async fn a29_cluster_roles_are_aggregated_when_enabled_by_values() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let roles = |mut chart: Vec<Value>| {
        chart.retain(|object| object["kind"] == "ClusterRole");
        chart
    };
    let by_default = serde_json::to_string(&roles(chart(&json!({})).await)).unwrap();
    assert!(!by_default.contains("aggregate-to-"), "{by_default}");

    namespaces.make(&roles(chart(&json!({"rbac": {"aggregate": true}})).await)).await;
    for (role, verb, resource) in [
        ("view", "list", "hosts"),
        ("edit", "create", "iscsibonds"),
        ("admin", "create", "iscsibonds"),
        ("admin", "delete", "hosts"),
    ] {
        eventually("the role includes ours", SOON, async || has_rule(&namespaces, role, verb, resource).await).await;
    }
    for (role, writes_bonds, writes_hosts) in [("view", false, false), ("edit", true, false), ("admin", true, true)] {
        let client = namespaces.person(role, &[Right::Role(home, role)]).await;
        let outcome = |may, why| if may { May } else { MayNot(why) };
        let table = [
            (list(&bond(home, "any", "any")), May),
            (create(&bond(home, "new", "frankfurt")), outcome(writes_bonds, "cannot create resource")),
            (delete(&host(home, "host-1", "worker-1")), outcome(writes_hosts, "cannot delete resource")),
        ];
        check(role, &client, &table).await;
    }
}

async fn has_rule(namespaces: &Namespaces, role: &str, verb: &str, resource: &str) -> anyhow::Result<()> {
    let role: ClusterRole = Api::all(namespaces.cluster.client().await?).get(role).await?;
    let found = role.rules.iter().flatten().any(|rule| {
        let names = |list: &Option<Vec<String>>, name: &str| list.iter().flatten().any(|listed| listed == name);
        names(&rule.api_groups, "multibond.dev")
            && names(&rule.resources, resource)
            && rule.verbs.iter().any(|listed| listed == verb)
    });
    anyhow::ensure!(found, "no rule to {verb} {resource}");
    Ok(())
}
