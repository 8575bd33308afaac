//! One attempt to read or write an object, and its outcome.

use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams, WatchParams,
};
use kube::{Api, Client};
use serde_json::{Value, json};

/// What is attempted, with the manifest of the object concerned.
#[derive(Debug, Clone)]
pub struct Attempt {
    verb: Verb,
    object: Value,
}

#[derive(Debug, Clone)]
enum Verb {
    Get,
    List,
    Watch,
    WatchByName,
    Create,
    Replace,
    Patch(Value),
    PatchStatus(Value),
    ApplyStatus(Value),
    Delete,
    DeleteCollection,
}

/// The expected outcome of an attempt.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// It is allowed.
    May,
    /// It is forbidden, with a message that contains this text.
    MayNot(&'static str),
}

pub fn get(object: &Value) -> Attempt {
    attempt(Verb::Get, object)
}

pub fn list(object: &Value) -> Attempt {
    attempt(Verb::List, object)
}

/// Watches all objects beside this one.
pub fn watch(object: &Value) -> Attempt {
    attempt(Verb::Watch, object)
}

/// Watches this object only.
pub fn watch_by_name(object: &Value) -> Attempt {
    attempt(Verb::WatchByName, object)
}

pub fn create(object: &Value) -> Attempt {
    attempt(Verb::Create, object)
}

pub fn replace(object: &Value) -> Attempt {
    attempt(Verb::Replace, object)
}

pub fn patch(object: &Value, patch: Value) -> Attempt {
    attempt(Verb::Patch(patch), object)
}

/// A merge patch of the status.
pub fn patch_status(object: &Value, status: &Value) -> Attempt {
    attempt(Verb::PatchStatus(json!({"status": status})), object)
}

/// Server-side apply of the status, as the controller and the agents write it.
pub fn apply_status(object: &Value, status: &Value) -> Attempt {
    let metadata = json!({"name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"]});
    let body =
        json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata, "status": status});
    attempt(Verb::ApplyStatus(body), object)
}

pub fn delete(object: &Value) -> Attempt {
    attempt(Verb::Delete, object)
}

pub fn delete_all(object: &Value) -> Attempt {
    attempt(Verb::DeleteCollection, object)
}

fn attempt(verb: Verb, object: &Value) -> Attempt {
    Attempt { verb, object: object.clone() }
}

impl Attempt {
    /// Makes the attempt as a dry run. An `Err` is the API server's message for a forbidden request.
    async fn make(&self, client: &Client) -> Result<(), String> {
        let name = self.object["metadata"]["name"].as_str().unwrap();
        let api = api(client, &self.object);
        let post = PostParams { dry_run: true, ..PostParams::default() };
        let apply = PatchParams::apply("permissions").force().dry_run();
        let merge = PatchParams { dry_run: true, ..PatchParams::default() };
        let delete = DeleteParams::default().dry_run();
        let body = || serde_json::from_value(self.object.clone()).unwrap();
        let answer = match &self.verb {
            Verb::Get => api.get(name).await.map(drop),
            Verb::List => api.list(&ListParams::default()).await.map(drop),
            Verb::Watch => api.watch(&WatchParams::default(), "0").await.map(drop),
            Verb::WatchByName => {
                let only = WatchParams::default().fields(&format!("metadata.name={name}"));
                api.watch(&only, "0").await.map(drop)
            }
            Verb::Create => api.create(&post, &body()).await.map(drop),
            Verb::Replace => api.replace(name, &post, &body()).await.map(drop),
            Verb::Patch(patch) => api.patch(name, &merge, &Patch::Merge(patch)).await.map(drop),
            Verb::PatchStatus(patch) => api.patch_status(name, &merge, &Patch::Merge(patch)).await.map(drop),
            Verb::ApplyStatus(patch) => api.patch_status(name, &apply, &Patch::Apply(patch)).await.map(drop),
            Verb::Delete => api.delete(name, &delete).await.map(drop),
            Verb::DeleteCollection => api.delete_collection(&delete, &ListParams::default()).await.map(drop),
        };
        match answer {
            Ok(()) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Err(status.message),
            Err(error) => panic!("{self:?} was neither allowed nor forbidden: {error}"),
        }
    }
}

/// The collection that an object is in.
pub fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", object["apiVersion"].as_str().unwrap()),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap()));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Makes every attempt of `table` as `who`, and fails with all rows that have another outcome.
pub async fn check(who: &str, client: &Client, table: &[(Attempt, Outcome)]) {
    let mut wrong = Vec::new();
    for (attempt, outcome) in table {
        match (attempt.make(client).await, outcome) {
            (Ok(()), Outcome::May) => {}
            (Err(message), Outcome::MayNot(why)) if message.contains(why) => {}
            (answer, outcome) => wrong.push(format!("{outcome:?}, but {answer:?}: {attempt:?}")),
        }
    }
    assert!(wrong.is_empty(), "{who}:\n{}", wrong.join("\n"));
}
