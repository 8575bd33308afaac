//! Holds the model to a real API server: the same random requests go to both, and their answers and watches are compared.
//!
//! `MULTIBOND_ROUNDS=10` sends ten times as many, and `MULTIBOND_SEED` the same ones again. The garbage collector and the
//! namespace controller of the real server work when they like, so after a request that leaves garbage the test waits until
//! both have collected it. A namespace is deleted only in the end: its controller takes some fifteen seconds.

mod alike;
mod bodies;
mod real;
mod requests;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use multibond_testbed::{Chance, ControlPlane, Options, eventually, rounds};
use serde_json::Value;

use crate::api::{ApiServer, Request, Response, WatchId};
use alike::Twins;
use real::{Answer, Events, Real};
use requests::Step;

/// Requests in a round.
const REQUESTS: u32 = 2000;
/// Requests between two looks at the watches.
const WATCHED_EVERY: u32 = 20;
/// How many watches are open at once.
const WATCHES: usize = 12;
/// How many differences are shown before the test gives up.
const DIFFERENCES: usize = 40;
/// How long the real server's controllers may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_model_answers_like_a_real_api_server() {
    let kinds = ["datacenters", "hosts", "iscsibonds", "networks"];
    let read =
        |plural| std::fs::read_to_string(format!("{}/crds/{plural}.multibond.dev.yaml", env!("CARGO_MANIFEST_DIR")));
    let manifests = kinds.map(|plural| serde_saphyr::from_str(&read(plural).unwrap()).unwrap()).into();
    let options = async || Ok(Options { manifests, ..Options::default() });
    let cluster = ControlPlane::shared(options).await.unwrap();
    let began = Instant::now();
    let mut both = Both::new(Real::new(cluster.client().await.unwrap()));
    let mut chance = Chance::new();
    for name in requests::NAMESPACES {
        both.namespace(name).await;
    }
    let mut sent = 0;
    for _ in 0..REQUESTS * rounds(1) {
        let step = requests::draw(&mut chance, &both.model, both.page.as_deref());
        both.step(step).await;
        sent += 1;
        if sent % WATCHED_EVERY == 0 {
            both.compare_watches(true).await;
        }
        if both.differences.len() >= DIFFERENCES {
            break;
        }
    }
    both.end_of_a_namespace().await;
    both.end_of_watches().await;
    both.watch_what_is_forgotten().await;
    let Both { differences, requests, events, collected, .. } = &both;
    println!("{requests} requests, {events} events, garbage collected {collected} times, in {:?}", began.elapsed());
    println!("answers by code: {:?}", both.codes);
    assert!(differences.is_empty(), "{} differences:\n\n{}", differences.len(), differences.join("\n\n"));
}

/// The model and the real server.
struct Both {
    model: ApiServer,
    real: Real,
    twins: Twins,
    watches: Vec<Watch>,
    /// A page of a list that is not at its end: its path, and the tokens of both.
    page: Option<String>,
    tokens: (String, String),
    requests: u32,
    events: u32,
    collected: u32,
    codes: BTreeMap<(String, u16), u32>,
    differences: Vec<String>,
}

/// Where a watch begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// At the version of a list.
    Now,
    /// It shows all objects first.
    Nowhere,
    /// At a version that is forgotten.
    Forgotten,
}

/// A watch on both.
struct Watch {
    path: String,
    model: WatchId,
    real: Events,
}

impl Both {
    fn new(real: Real) -> Self {
        let mut drawn: u64 = 0;
        let model = ApiServer::new(move || {
            drawn += 1;
            drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        });
        Both {
            model,
            real,
            twins: Twins::default(),
            watches: Vec::new(),
            page: None,
            tokens: Default::default(),
            requests: 0,
            events: 0,
            collected: 0,
            codes: BTreeMap::default(),
            differences: Vec::new(),
        }
    }

    async fn namespace(&mut self, name: &str) {
        let body = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.step(Step::request("POST", "/api/v1/namespaces", body)).await;
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Request { method, path, content_type, accept, body } => {
                let make = |body: &Value| -> Request {
                    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
                    let builder = http::Request::builder().method(method).uri(&path);
                    builder.header("content-type", content_type).header("accept", accept).body(bytes).unwrap()
                };
                let (code, model) = self.ask_model(&make(&body));
                let real = self.real.ask(make(&self.twins.translated(&body))).await;
                *self.codes.entry((method.to_owned(), real.code)).or_default() += 1;
                self.requests += 1;
                if !self.compare(&format!("{method} {path} {content_type} {body}"), code, &model, &real)
                    && method != "GET"
                {
                    self.adopt(&path, &body).await;
                }
                if let (Some(ours), Some(theirs)) = (token(&model), token(&real.body)) {
                    (self.page, self.tokens) = (Some(path), (ours, theirs));
                }
            }
            Step::NextPage { path } => {
                let (ours, theirs) = std::mem::take(&mut self.tokens);
                let make = |token: &str| {
                    let mut query = form_urlencoded::Serializer::new(format!("{path}&"));
                    let uri = query.append_pair("continue", token).finish();
                    http::Request::get(uri).body(Vec::new()).unwrap()
                };
                let (code, body) = self.ask_model(&make(&ours));
                let real = self.real.ask(make(&theirs)).await;
                self.requests += 1;
                self.compare(&format!("the next page of {path}"), code, &body, &real);
                match (token(&body), token(&real.body)) {
                    (Some(ours), Some(theirs)) => self.tokens = (ours, theirs),
                    _ => self.page = None,
                }
            }
            Step::Generate { path, body } => self.generate(&path, &body).await,
            Step::Watch { path, from_now } => self.watch(path, if from_now { From::Now } else { From::Nowhere }).await,
        }
        if !self.model.garbage().is_empty() {
            self.collect().await;
        }
    }

    /// Creates an object whose name each server draws, and deletes it.
    async fn generate(&mut self, path: &str, body: &Value) {
        let post = |body: &Value| http::Request::post(path).body(body.to_string().into_bytes()).unwrap();
        let (code, ours) = self.ask_model(&post(body));
        let real = self.real.ask(post(body)).await;
        self.requests += 1;
        // A refusal names what was generated.
        if code != 201 && code == real.code || !self.compare(&format!("POST {path} {body}"), code, &ours, &real) {
            return;
        }
        let delete = |created: &Value| {
            let name = created["metadata"]["name"].as_str().unwrap_or_default();
            http::Request::delete(format!("{path}/{name}")).body(Vec::new()).unwrap()
        };
        let (code, _) = self.ask_model(&delete(&ours));
        assert_eq!(code, self.real.ask(delete(&real.body)).await.code, "deletion of what was generated at {path}");
    }

    fn ask_model(&mut self, request: &Request) -> (u16, Value) {
        match self.model.handle(Timestamp::now(), request) {
            Response::Object { code, body } => (code, body),
            Response::Watch { .. } => panic!("a watch: {}", request.uri()),
        }
    }

    /// The end of a namespace: what is in it, what is refused meanwhile, and that it can be made again.
    async fn end_of_a_namespace(&mut self) {
        let namespace = requests::ENDS;
        for step in requests::held(namespace) {
            self.step(step).await;
        }
        self.step(Step::request("DELETE", format!("/api/v1/namespaces/{namespace}"), Value::Null)).await;
        for step in requests::too_late(namespace) {
            self.step(step).await;
        }
        for step in requests::releases(&self.model, namespace) {
            self.step(step).await;
        }
        assert!(self.model.object("namespaces", "", namespace).is_none(), "the namespace is gone");
        self.namespace(namespace).await;
        for step in requests::held(namespace) {
            self.step(step).await;
        }
        self.compare_watches(true).await;
    }

    /// After a difference the model gets the object of the real server, so that one mistake is not reported twice.
    async fn adopt(&mut self, path: &str, body: &Value) {
        let path = path.split('?').next().unwrap_or_default().trim_end_matches("/status");
        let mut object = path.to_owned();
        if let Some(name) = body["metadata"]["name"].as_str().filter(|name| !path.ends_with(&format!("/{name}"))) {
            object = format!("{path}/{name}");
        }
        let parts: Vec<_> = object.trim_start_matches('/').split('/').collect();
        let [.., plural, name] = parts[..] else { return };
        let namespace = parts.iter().position(|part| *part == "namespaces").map_or("", |at| parts[at + 1]);
        let real = self.real.ask(http::Request::get(&object).body(Vec::new()).unwrap()).await;
        let found = (real.code == 200).then_some(real.body);
        let stored = self.model.adopt(plural, namespace, name, found.as_ref().map(|found| self.twins.back(found)));
        if let (Some(found), Some(stored)) = (found, stored) {
            self.twins.replace(&stored, &found);
        }
        for watch in std::mem::take(&mut self.watches) {
            self.model.unwatch(watch.model);
        }
    }

    /// Whether the answers are alike.
    fn compare(&mut self, what: &str, code: u16, model: &Value, real: &Answer) -> bool {
        let compared = if code == real.code {
            alike::compare(&mut self.twins, model, &real.body)
        } else {
            Err(format!("{code} in the model, {} in the real server", real.code))
        };
        let Err(why) = compared else { return true };
        self.differ(format!("{what}\n  {why}\n  model: {model}\n  real: {}", real.body));
        false
    }

    fn differ(&mut self, what: String) {
        println!("DIFFERENCE after {} requests: {what}\n", self.requests);
        self.differences.push(what);
    }

    /// Opens a watch.
    async fn watch(&mut self, path: String, from: From) {
        self.compare_watches(true).await;
        let separator = if path.contains('?') { '&' } else { '?' };
        let (ours, version) = match from {
            From::Now => (self.model.version().to_string(), self.real.version(&path).await),
            From::Nowhere => ("0".to_owned(), "0".to_owned()),
            From::Forgotten => ("1".to_owned(), "1".to_owned()),
        };
        let make = |version: &str| {
            let uri = format!("{path}{separator}watch=true&timeoutSeconds=3000&resourceVersion={version}");
            http::Request::get(uri).body(Vec::new()).unwrap()
        };
        self.requests += 1;
        let model = self.model.handle(Timestamp::now(), &make(&ours));
        match (model, self.real.watch(make(&version)).await) {
            (Response::Watch { id, .. }, Ok(real)) => self.watches.push(Watch { path, model: id, real }),
            (Response::Object { code, body }, Err(real)) => drop(self.compare(&path, code, &body, &real)),
            (Response::Watch { .. }, Err(real)) => {
                self.differ(format!("the real server refuses a watch of {path}: {real:?}"));
            }
            (Response::Object { body, .. }, Ok(_)) => {
                self.differ(format!("the model refuses a watch of {path}: {body}"));
            }
        }
        if from == From::Nowhere {
            // The objects that are there come in any order.
            self.compare_watches(false).await;
        }
        if self.watches.len() > WATCHES {
            let oldest = self.watches.remove(0);
            self.model.unwatch(oldest.model);
        }
    }

    /// Compares what the watches have shown since the last time, in its order or only object by object.
    async fn compare_watches(&mut self, in_order: bool) {
        let mut watches = std::mem::take(&mut self.watches);
        for watch in &mut watches {
            let mut ours: Vec<Value> = std::iter::from_fn(|| self.model.next_event(watch.model)).collect();
            let mut theirs = watch.real.take(ours.len()).await;
            if !in_order {
                for events in [&mut ours, &mut theirs] {
                    let key = |event: &Value| {
                        let metadata = &event["object"]["metadata"];
                        (metadata["namespace"].to_string(), metadata["name"].to_string())
                    };
                    events.sort_by_key(key);
                }
            }
            self.events += u32::try_from(ours.len()).unwrap();
            let (ours, theirs) = (Value::from(ours), Value::from(theirs));
            if let Err(why) = alike::compare(&mut self.twins, &ours, &theirs) {
                self.differ(format!("a watch of {}\n  {why}\n  model: {ours}\n  real: {theirs}", watch.path));
            }
        }
        self.watches = watches;
    }

    /// Collects garbage on both, and compares everything afterwards.
    async fn collect(&mut self) {
        self.compare_watches(true).await;
        self.collected += 1;
        while let Some(step) = self.model.garbage().first().cloned() {
            self.model.collect(Timestamp::now(), &step);
        }
        for path in requests::everything() {
            let request = || http::Request::get(&path).body(Vec::new()).unwrap();
            let (_, ours) = self.ask_model(&request());
            let alike = async || {
                let theirs = self.real.ask(request()).await;
                alike::looks_alike(&ours, &theirs.body).map(|()| theirs)
            };
            let theirs =
                tokio::time::timeout(PATIENCE, eventually("both have collected their garbage", PATIENCE, alike))
                    .await
                    .unwrap();
            self.compare(&format!("{path} after garbage was collected"), 200, &ours, &theirs);
        }
        let path = format!("/api/v1/namespaces/{}", requests::ENDS);
        let request = || http::Request::get(&path).body(Vec::new()).unwrap();
        let (code, _) = self.ask_model(&request());
        let alike = async || {
            let theirs = self.real.ask(request()).await.code;
            if theirs == code {
                Ok(())
            } else {
                Err(format!("{path}: {code} in the model, {theirs} in the real server"))
            }
        };
        eventually("the namespace is as it is in the model", PATIENCE, alike).await;
        self.compare_watches(false).await;
    }

    /// Watches from before the history begins.
    async fn watch_what_is_forgotten(&mut self) {
        self.model.compact(self.model.version());
        for path in requests::forgotten() {
            self.watch(path, From::Forgotten).await;
        }
        self.compare_watches(true).await;
    }

    /// Nothing may come that the model has not shown.
    async fn end_of_watches(&mut self) {
        for watch in std::mem::take(&mut self.watches) {
            let Watch { path, mut real, .. } = watch;
            if let Some(event) = real.surplus().await {
                self.differ(format!("a watch of {path} shows more on the real server: {event}"));
            }
        }
    }
}

/// Where a list goes on.
fn token(list: &Value) -> Option<String> {
    list["metadata"]["continue"].as_str().filter(|token| !token.is_empty()).map(str::to_owned)
}
