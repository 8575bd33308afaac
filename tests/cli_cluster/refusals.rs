//! What the API server says of a mistyped text, and that saying it costs no large object its admission.

use futures::stream::{self, StreamExt as _};
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    cluster,
    plan::dry_run,
    schema_examples::{self, Example},
};

/// What the API server says of objects that somebody creates.
async fn refusals(examples: &[Example]) -> Vec<Result<(), String>> {
    let cluster = cluster().await;
    let client = cluster.client().await.unwrap();
    let namespace = cluster.namespace("refusals").await.unwrap();
    stream::iter(examples).map(|example| dry_run(&client, &namespace, example)).buffered(8).collect().await
}

fn example(object: &Value) -> Example {
    Example {
        name: "object".to_owned(),
        kind: object["kind"].as_str().unwrap().to_owned(),
        document: object.to_string(),
        accepted: true,
        field: String::new(),
        says: String::new(),
    }
}

#[rstest]
#[case::address("DataCenter", "spec.storage[0].targets[0].portals[0].address", "10.0.2.311",
    r#"Unsupported value: "10.0.2.311": supported values: "an IPv4 address such as 10.0.1.5 (four numbers from 0 to 255), an IPv6 address such as fd00::5 (without brackets, zone and prefix length), or a DNS name such as array.example.com (letters, digits, '-' and '.', and the last part starts with a letter); a port has its own field""#)]
#[case::network_of_a_portal("DataCenter", "spec.storage[0].targets[0].portals[0].network", "SAN-A",
    r#"Unsupported value: "SAN-A": supported values: "at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit, such as san-a""#)]
#[case::target("DataCenter", "spec.storage[0].targets[0].iqn", "iqn.2003-1.org.example:array-a",
    r#"Invalid value: "iqn.2003-1.org.example:array-a": expected a year, '-', a month and '.' after iqn., as in iqn.2003-01.org.example:array-a"#)]
#[case::secret("DataCenter", "spec.storage[0].targets[0].chap.secretRef.name", "CHAP",
    r#"Invalid value: "CHAP": expected at most 253 lower-case letters, digits, '-' and '.', each part between dots starting and ending with a letter or digit, such as worker-1.example.com"#)]
#[case::subnet("Network", "spec.subnets[0]", "10.0.1/24",
    r#"Invalid value: "10.0.1/24": expected a subnet in CIDR form, address, '/' and prefix length, such as 10.0.1.0/24 or fd00:1::/64"#)]
#[case::network_of_a_bond("IscsiBond", "spec.networks[0]", "SAN-A",
    r#"Invalid value: "SAN-A": expected at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit, such as san-a"#)]
#[case::target_of_a_bond("IscsiBond", "spec.targets[0]", "array-a",
    r#"Invalid value: "array-a": expected an iSCSI name that starts with iqn., eui. or naa., such as iqn.2003-01.org.example:array-a"#)]
#[case::device("Host", "spec.interfaces[0].name", "ens 1",
    r#"Invalid value: "ens 1": expected a device's name of at most 15 letters, digits and any of _.@- (but neither '.' nor '..'), such as ens2f0 or bond0.100"#)]
#[tokio::test(flavor = "multi_thread")]
async fn a02_the_api_server_says_in_a_sentence_what_a_mistyped_text_should_be(
    #[case] kind: &str,
    #[case] field: &str,
    #[case] value: &str,
    #[case] says: &str,
) {
    let base = schema_examples::bases().into_iter().find(|base| base["kind"] == kind).unwrap();
    let mut object = base;
    let pointer = format!("/{}", field.replace('[', "/").replace(']', "").replace('.', "/"));
    *object.pointer_mut(&pointer).unwrap() = value.into();
    let message = refusals(&[example(&object)]).await.remove(0).unwrap_err();
    assert!(message.contains(&format!("{field}: {says}")), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a02_no_refusal_shows_a_pattern() {
    let refused: Vec<_> = schema_examples::all().into_iter().filter(|example| !example.accepted).collect();
    let said = refusals(&refused).await;
    let shown = said.iter().filter_map(|said| said.as_ref().err()).filter(|message| message.contains("should match"));
    assert_eq!(shown.collect::<Vec<_>>(), [""; 0]);
}

/// As many targets as there may be, with names that are as long as they may be; or as many portals as a request has room for.
#[rstest]
#[case::of_targets(64, 64, 1, 223)]
#[case::of_portals(64, 16, 32, 60)]
#[tokio::test(flavor = "multi_thread")]
async fn a02_the_largest_data_center_does_not_exceed_the_cost_of_its_rules(
    #[case] storages: usize,
    #[case] targets: usize,
    #[case] portals: usize,
    #[case] length: usize,
) {
    let target = |number: usize| {
        let portals: Vec<_> =
            (0..portals).map(|it| json!({"address": format!("10.0.{it}.10"), "network": "n"})).collect();
        let iqn = format!("iqn.2003-01.org.example:{number:0>width$}", width = length - 24);
        json!({"iqn": iqn, "portals": portals, "chap": {"secretRef": {"name": "c".repeat(63)}}})
    };
    let storage: Vec<_> = (0..storages)
        .map(|it| json!({"name": format!("s{it}"), "targets": (0..targets).map(target).collect::<Vec<_>>()}))
        .collect();
    let object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "DataCenter", "metadata": {"name": "large"},
        "spec": {"storage": storage}});
    println!("{} bytes", object.to_string().len());
    assert_eq!(refusals(&[example(&object)]).await, [Ok(())]);
}
