//! The portals and Secrets that a user may name in a data center: what is refused, and that older parts are left alone.

use multibond_testbed::eventually;
use serde_json::{Value, json};

use crate::attempt::Outcome::{May, MayNot};
use crate::attempt::{api, check, create, patch, patch_status};
use crate::namespaces::{Namespaces, Right, SOON, chart, data_center_of, with_spec};

/// A target with these portals, and perhaps a Secret.
fn target(name: &str, portals: &[(&str, u16)], secret: Option<&str>) -> Value {
    let portals: Vec<Value> = portals.iter().map(|(address, port)| json!({"address": address, "port": port})).collect();
    let mut target = json!({"iqn": format!("iqn.2003-01.org.example:{name}"), "portals": portals});
    if let Some(secret) = secret {
        target["chap"] = json!({"secretRef": {"name": secret}});
    }
    target
}

fn storage(name: &str, targets: &[Value]) -> Value {
    json!({"name": name, "targets": targets})
}

fn with_storage(namespace: &str, name: &str, storages: &[Value]) -> Value {
    with_spec(&data_center_of(namespace, name), &json!({"storage": storages}))
}

fn to(storages: &[Value]) -> Value {
    json!({"spec": {"storage": storages}})
}

const ARRAY: (&str, u16) = ("10.0.1.10", 3260);

#[tokio::test]
async fn a29_nobody_lets_hosts_dial_an_address_where_no_storage_can_be() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let editor = namespaces.person("editor", &[Right::Role(home, "multibond-editor")]).await;
    let useless = [
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "localhost",
        "a.LocalHost.",
        "::ffff:7f00:1",
    ];
    let new =
        |address| create(&with_storage(home, "new", &[storage("a", &[target("a", &[ARRAY, (address, 3260)], None)])]));
    let mut table: Vec<_> =
        useless.map(|address| (new(address), MayNot("spec.storage: hosts may not dial the portal"))).into();
    for address in ["10.0.1.11", "fd00::10", "san.example.com", "localhost.example.com", "8.8.8.8"] {
        table.push((new(address), May));
    }
    let loopback = [storage("array", &[target("frankfurt", &[ARRAY, ("127.0.0.1", 10250)], None)])];
    let why = MayNot("127.0.0.1 of iqn.2003-01.org.example:frankfurt");
    table.push((patch(&data_center_of(home, "frankfurt"), to(&loopback)), why));
    check("the editor", &editor, &table).await;
    check("an administrator", &namespaces.cluster.client().await.unwrap(), &table).await;
}

/// What the policies of `multibond-portals` refuse depends on values, so this test gives its namespace a list.
#[tokio::test]
async fn a_list_for_a_namespace_judges_only_portals_that_an_edit_adds() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let editor = namespaces.person("editor", &[Right::Role(home, "multibond-editor")]).await;
    let old = ("10.9.0.1", 3260);
    let (kept, other) = (target("old", &[old, ARRAY], None), target("b", &[ARRAY], None));
    let grown = with_storage(home, "grown", &[storage("a", &[kept.clone(), other.clone()])]);
    namespaces.make(std::slice::from_ref(&grown)).await;
    let values = json!({"portals": {
        "denied": ["10.96.0.0/12"], "byNamespace": {home.as_str(): ["10.0.1.0/24", "fd00:1::/64", "10.96.0.0/24"]},
    }});
    let mut policies = chart(&values).await;
    policies.retain(|object| object["metadata"]["name"] == "multibond-portals");
    namespaces.make(&policies).await;
    let elsewhere = with_storage(home, "new", &[storage("a", &[target("a", &[old], None)])]);
    eventually("the list is in force", SOON, async || {
        let made = api(&editor, &elsewhere)
            .create(
                &kube::api::PostParams { dry_run: true, ..kube::api::PostParams::default() },
                &serde_json::from_value(elsewhere.clone()).unwrap(),
            )
            .await;
        if made.is_err() { Ok(()) } else { Err("10.9.0.1 is still allowed") }
    })
    .await;

    let refused = MayNot("for namespace home");
    let refused_by_list = MayNot("the administrator allows only 10.0.1.0/24, fd00:1::/64, 10.96.0.0/24");
    let edit = |targets: &[Value]| patch(&grown, to(&[storage("a", targets)]));
    let with = |portals: &[(&str, u16)]| target("b", portals, None);
    check(
        "the editor",
        &editor,
        &[
            (create(&elsewhere), refused),
            (edit(&[kept.clone(), with(&[("10.0.1.11", 3260)])]), May),
            (edit(&[kept.clone(), with(&[("fd00:1::10", 3260)])]), May),
            (edit(&[kept.clone(), with(&[("10.0.2.10", 3260)])]), refused_by_list),
            (edit(&[kept.clone(), with(&[("10.96.0.1", 443)])]), MayNot("addresses in 10.96.0.0/12")),
            // The old portal stays, and everything beside it may change.
            (patch(&grown, json!({"spec": {"description": "changed"}})), May),
            (edit(&[target("old", &[old, ("10.0.1.12", 3260)], None), other.clone()]), May),
            (edit(&[other.clone(), kept.clone()]), May),
            (edit(std::slice::from_ref(&kept)), May),
            // Another port is another portal, and another storage has not been judged.
            (edit(&[target("old", &[("10.9.0.1", 10250)], None)]), refused_by_list),
            (patch(&grown, to(&[storage("b", std::slice::from_ref(&kept))])), refused_by_list),
        ],
    )
    .await;
    let controller =
        namespaces.cluster.service_account_token(crate::namespaces::SYSTEM, "multibond-controller", None).await;
    let controller = namespaces.cluster.client_for_token(&controller.unwrap()).await.unwrap();
    check("the controller", &controller, &[(patch_status(&grown, &json!({"bonds": 1})), May)]).await;
    // Other namespaces have no list.
    let away = namespaces.person("away", &[Right::Role(&namespaces.away, "multibond-editor")]).await;
    let there = with_storage(&namespaces.away, "new", &[storage("a", &[target("a", &[old], None)])]);
    check("another tenant", &away, &[(create(&there), May)]).await;
}

fn get_secret<'a>(namespace: &'a str, name: Option<&str>) -> Right<'a> {
    let mut rule = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]});
    if let Some(name) = name {
        rule["resourceNames"] = json!([name]);
    }
    Right::Rules(namespace, json!([rule]))
}

#[tokio::test]
async fn a29_naming_a_secret_or_its_portals_requires_permission_to_use_it() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let (array, plain) = (target("array", &[ARRAY], Some("array-chap")), target("plain", &[ARRAY], None));
    let dc = with_storage(home, "chap", &[storage("a", &[array.clone(), plain.clone()])]);
    namespaces.make(std::slice::from_ref(&dc)).await;
    let theirs = ("10.0.66.6", 3260);
    let edit = |targets: &[Value]| patch(&dc, to(&[storage("a", targets)]));
    let uses = [
        create(&with_storage(home, "new", &[storage("a", &[target("mine", &[theirs], Some("array-chap"))])])),
        // The Secret at a portal of one's own.
        edit(&[target("array", &[ARRAY, theirs], Some("array-chap")), plain.clone()]),
        edit(&[target("array", &[("10.0.1.10", 3261)], Some("array-chap")), plain.clone()]),
        edit(&[array.clone(), target("plain", &[theirs], Some("array-chap"))]),
        // A target that two storages list has the portals of both.
        patch(
            &dc,
            to(&[storage("a", &[array.clone(), plain.clone()]), storage("b", &[target("array", &[theirs], None)])]),
        ),
        patch(&dc, to(&[storage("b", std::slice::from_ref(&array))])),
    ];
    let several = edit(&[target("array", &[theirs], Some("array-chap")), target("plain", &[ARRAY], Some("other"))]);
    let harmless = [
        (patch(&dc, json!({"spec": {"description": "changed"}})), May),
        (edit(&[array.clone(), target("plain", &[theirs], None)]), May),
        (edit(&[plain.clone(), array.clone()]), May),
        (edit(std::slice::from_ref(&array)), May),
        (edit(&[target("array", &[ARRAY], None), plain.clone()]), May),
        (edit(&[]), May),
    ];
    let editor = || Right::Role(home, "multibond-editor");

    let nobody = namespaces.person("editor", &[editor()]).await;
    let why = MayNot("chap.secretRef, or portals of a target that has one, needs permission to get");
    check("the editor", &nobody, &uses.clone().map(|attempt| (attempt, why))).await;
    check("the editor", &nobody, &[(several.clone(), why)]).await;
    check("the editor", &nobody, &harmless).await;

    let other = namespaces.person("reads-another", &[editor(), get_secret(home, Some("other"))]).await;
    check("who may read another Secret", &other, &uses.clone().map(|attempt| (attempt, why))).await;

    // The portals beside the Secret of another storage: which Secret it is is not looked up, so all are asked for.
    let [new, more, port, plain_too, twice, moved] = uses.clone();
    let one = namespaces.person("reads-it", &[editor(), get_secret(home, Some("array-chap"))]).await;
    let table = [new, more, port, plain_too, moved].map(|attempt| (attempt, May));
    check("who may read the Secret", &one, &table).await;
    check("who may read the Secret", &one, &[(several.clone(), why), (twice, why)]).await;

    let all = namespaces.person("reads-all", &[editor(), get_secret(home, None)]).await;
    check("who may read all Secrets", &all, &uses.clone().map(|attempt| (attempt, May))).await;
    check("who may read all Secrets", &all, &[(several.clone(), May)]).await;

    let secret_user = namespaces.person("uses", &[editor(), Right::Role(home, "multibond-secret-user")]).await;
    check("the secret user", &secret_user, &uses.map(|attempt| (attempt, May))).await;
    check("the secret user", &secret_user, &[(several, May)]).await;
}

#[tokio::test]
async fn a_data_center_of_two_thousand_targets_fits_the_policies_budget() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let rights = [Right::Role(home, "multibond-editor"), Right::Role(home, "multibond-secret-user")];
    let editor = namespaces.person("editor", &rights).await;
    let large = |name: &str, third: usize, secret: Option<&str>| {
        let targets = |s: usize| -> Vec<Value> {
            (0..32).map(|t| target(&format!("{s}-{t}"), &[(&format!("10.{third}.{s}.{t}"), 3260)], secret)).collect()
        };
        let storages: Vec<Value> = (0..64).map(|s| storage(&format!("s{s}"), &targets(s))).collect();
        with_storage(home, name, &storages)
    };
    let made = large("large", 1, Some("array-chap"));
    let changed = json!({"spec": large("large", 2, Some("array-chap"))["spec"]});
    check("the editor", &editor, &[(create(&made), May), (create(&large("plain", 1, None)), May)]).await;
    namespaces.make(std::slice::from_ref(&made)).await;
    check("the editor", &editor, &[(patch(&made, changed), May)]).await;
}
