//! The real API server, asked like the model.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _};
use kube::{Client, api::WatchEvent, client::Body};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::api::Request;

/// How long an event may take that must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A real API server.
pub struct Real(Client);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Value,
}

/// The events of a watch.
pub struct Events(Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<Value>>> + Send>>);

impl Real {
    pub fn new(client: Client) -> Self {
        Real(client)
    }

    pub async fn ask(&self, request: Request) -> Answer {
        let response = self.0.send(request.map(Body::from)).await.unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await.unwrap();
        let text = || Value::from(String::from_utf8_lossy(&bytes));
        Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) }
    }

    /// The version of the list of a path.
    pub async fn version(&self, path: &str) -> String {
        let answer = self.ask(http::Request::get(path).body(Vec::new()).unwrap()).await;
        answer.body["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned()
    }

    pub async fn watch(&self, request: Request) -> Result<Events, Answer> {
        match self.0.request_events::<Value>(request).await {
            Ok(events) => Ok(Events(Box::pin(events))),
            Err(kube::Error::Api(status)) => {
                Err(Answer { code: status.code, body: serde_json::to_value(*status).unwrap() })
            }
            Err(other) => panic!("{other}"),
        }
    }
}

impl Events {
    /// The next so many events; fewer if they do not come in time.
    pub async fn take(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            let Ok(Some(event)) = timeout(PATIENCE, self.0.next()).await else { break };
            events.extend(plain(event));
        }
        events
    }

    /// An event that comes within a second.
    pub async fn surplus(&mut self) -> Option<Value> {
        timeout(Duration::from_secs(1), self.0.next()).await.ok().flatten().and_then(plain)
    }
}

/// Bookmarks come when the server likes.
fn plain(event: kube::Result<WatchEvent<Value>>) -> Option<Value> {
    let (kind, object) = match event.unwrap() {
        WatchEvent::Added(object) => ("ADDED", object),
        WatchEvent::Modified(object) => ("MODIFIED", object),
        WatchEvent::Deleted(object) => ("DELETED", object),
        WatchEvent::Bookmark(_) => return None,
        WatchEvent::Error(status) => ("ERROR", serde_json::to_value(status).unwrap()),
    };
    Some(json!({"type": kind, "object": object}))
}
