//! What the model answers, and what it refuses to answer.

use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use multibond::api::{Host, HostSpec};
use serde_json::json;

use super::{ApiServer, GarbageStep, Request, Response, Service, line};

fn server() -> ApiServer {
    let mut next = 0;
    ApiServer::new(move || {
        next += 1;
        next
    })
}

/// A request as kube sends it.
fn request(method: &str, path: &str, body: &serde_json::Value) -> Request {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    http::Request::builder().method(method).uri(path).body(body).unwrap()
}

fn ask(server: &mut ApiServer, method: &str, path: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
    match server.handle(Timestamp::UNIX_EPOCH, &request(method, path, body)) {
        Response::Object { code, body } => (code, body),
        watch @ Response::Watch { .. } => panic!("{watch:?}"),
    }
}

/// A server with a namespace `s`.
fn with_namespace() -> ApiServer {
    let mut server = server();
    assert_eq!(ask(&mut server, "POST", "/api/v1/namespaces", &json!({"metadata": {"name": "s"}})).0, 201);
    server
}

const HOSTS: &str = "/apis/multibond.dev/v1alpha1/namespaces/s/hosts";

fn host(name: &str) -> serde_json::Value {
    json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host", "metadata": {"name": name},
        "spec": {"dataCenter": "d", "nodeName": name}})
}

#[tokio::test(start_paused = true)]
async fn a_client_of_kube_works_with_the_model() {
    let service = Service::new(with_namespace(), || Timestamp::UNIX_EPOCH);
    let hosts: Api<Host> = Api::namespaced(service.client(), "s");
    let spec = HostSpec { data_center: "d".into(), node_name: "n1".into(), ..HostSpec::default() };
    let made = hosts.create(&PostParams::default(), &Host::new("n1", spec)).await.unwrap();
    assert_eq!(made.status.unwrap().conditions[0].message, "Waiting for the controller");
    let events = hosts.watch(&kube::api::WatchParams::default().timeout(60), "0").await.unwrap();
    let phase = Patch::Merge(json!({"status": {"phase": "Up"}}));
    hosts.patch_status("n1", &PatchParams::default(), &phase).await.unwrap();
    hosts.delete("n1", &DeleteParams::background()).await.unwrap();
    assert!(hosts.list(&ListParams::default()).await.unwrap().items.is_empty());
    let events: Vec<_> = futures::StreamExt::collect(events).await;
    let kinds: Vec<_> = events
        .into_iter()
        .map(|event| match event.unwrap() {
            kube::api::WatchEvent::Added(host) => format!("added {}", host.name_any()),
            kube::api::WatchEvent::Modified(host) => format!("modified {}", host.name_any()),
            kube::api::WatchEvent::Deleted(host) => format!("deleted {}", host.name_any()),
            kube::api::WatchEvent::Bookmark(_) => "bookmark".to_owned(),
            kube::api::WatchEvent::Error(error) => panic!("{error:?}"),
        })
        .collect();
    assert_eq!(kinds, ["added n1", "modified n1", "deleted n1", "bookmark"]);
}

#[test]
fn a_watch_from_a_compacted_version_is_gone() {
    let mut server = with_namespace();
    ask(&mut server, "POST", HOSTS, &host("a"));
    let path = format!("{HOSTS}?watch=true&resourceVersion=1");
    let Response::Watch { id, .. } = server.handle(Timestamp::UNIX_EPOCH, &request("GET", &path, &json!(null))) else {
        panic!("no watch")
    };
    ask(&mut server, "POST", HOSTS, &host("b"));
    server.compact(server.version());
    let event = server.next_event(id).unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert!(!server.has_event(id) && server.next_event(id).is_none());
}

#[test]
fn the_first_update_of_a_new_object_makes_a_version_in_any_case() {
    let mut server = with_namespace();
    let (_, created) = ask(&mut server, "POST", HOSTS, &host("a"));
    let (_, first) = ask(&mut server, "PUT", &format!("{HOSTS}/a"), &created);
    let (_, second) = ask(&mut server, "PUT", &format!("{HOSTS}/a"), &first);
    let versions = [created, first, second].map(|object| object["metadata"]["resourceVersion"].clone());
    assert_eq!(versions, ["2", "3", "3"]);
}

#[test]
fn a_new_condition_of_a_node_comes_first() {
    let mut server = server();
    ask(&mut server, "POST", "/api/v1/nodes", &json!({"metadata": {"name": "n"}}));
    let mut patched = json!(null);
    for kind in ["Ready", "Other", "Ready"] {
        let body = json!({"status": {"conditions": [{"type": kind}]}});
        let mut patch = request("PATCH", "/api/v1/nodes/n/status", &body);
        let strategic = http::HeaderValue::from_static("application/strategic-merge-patch+json");
        patch.headers_mut().insert("content-type", strategic);
        let Response::Object { body, .. } = server.handle(Timestamp::UNIX_EPOCH, &patch) else { panic!("a watch") };
        patched = body;
    }
    let conditions = &patched["status"]["conditions"];
    assert_eq!((&conditions[0]["type"], &conditions[1]["type"]), (&json!("Other"), &json!("Ready")));
}

#[test]
fn an_event_begins_with_its_type() {
    assert_eq!(line(&json!({"object": {}, "type": "ADDED"})), "{\"type\":\"ADDED\",\"object\":{}}\n");
}

#[test]
fn a_page_that_goes_on_shows_the_version_of_the_first() {
    let mut server = with_namespace();
    for name in ["a", "b", "c"] {
        ask(&mut server, "POST", HOSTS, &host(name));
    }
    let (_, first) = ask(&mut server, "GET", &format!("{HOSTS}?limit=2"), &json!(null));
    ask(&mut server, "DELETE", &format!("{HOSTS}/c"), &json!(null));
    let next = format!("{HOSTS}?limit=2&continue={}", first["metadata"]["continue"].as_str().unwrap());
    let (code, second) = ask(&mut server, "GET", &next, &json!(null));
    assert_eq!((code, &second["items"][0]["metadata"]["name"]), (200, &json!("c")));
    server.compact(server.version());
    assert_eq!(ask(&mut server, "GET", &next, &json!(null)).0, 410);
}

#[test]
fn a_namespace_ends_when_its_last_object_is_gone() {
    let mut server = with_namespace();
    ask(&mut server, "POST", HOSTS, &host("a"));
    ask(&mut server, "DELETE", "/api/v1/namespaces/s", &json!(null));
    assert_eq!(ask(&mut server, "POST", HOSTS, &host("b")).0, 403);
    let mut steps = 0;
    while let Some(step) = server.garbage().first().cloned() {
        assert!(
            matches!((steps, &step), (0, GarbageStep::Delete(..)) | (1, GarbageStep::EndNamespace(..))),
            "{step:?}"
        );
        server.collect(Timestamp::UNIX_EPOCH, &step);
        steps += 1;
    }
    assert_eq!((steps, server.objects("namespaces").count()), (2, 0));
}

#[test]
fn what_is_planted_is_stored_as_it_is() {
    let mut server = with_namespace();
    let mut odd = host("a");
    odd["metadata"] = json!({"name": "a", "namespace": "s", "uid": "u"});
    odd["spec"]["nodeName"] = json!(7);
    server.plant("hosts", odd);
    assert_eq!(server.object("hosts", "s", "a").unwrap()["spec"]["nodeName"], 7);
    // What was wrong before does not stop another change.
    let path = format!("{HOSTS}/a");
    let mut patch = request("PATCH", &path, &json!({"spec": {"maintenance": true}}));
    patch.headers_mut().insert("content-type", http::HeaderValue::from_static("application/merge-patch+json"));
    let Response::Object { code, body } = server.handle(Timestamp::UNIX_EPOCH, &patch) else { panic!("a watch") };
    assert_eq!((code, &body["spec"]["nodeName"]), (200, &json!(7)));
}

#[test]
#[should_panic(expected = "does not know the kind: GET /api/v1/pods")]
fn what_the_model_does_not_know_it_refuses_loudly() {
    ask(&mut server(), "GET", "/api/v1/pods", &json!(null));
}
