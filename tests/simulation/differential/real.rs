//! The real API server, asked like the model.

use std::{io, pin::Pin, time::Duration};

use futures::{AsyncBufReadExt as _, Stream, StreamExt as _, TryStreamExt as _};
use kube::{Client, client::Body};
use serde_json::Value;
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

/// The lines of a watch.
pub struct Events(Pin<Box<dyn Stream<Item = io::Result<String>> + Send>>);

impl Real {
    pub fn new(client: Client) -> Self {
        Real(client)
    }

    pub async fn ask(&self, request: Request) -> Answer {
        answer(self.0.send(request.map(Body::from)).await.unwrap()).await
    }

    /// The version of the list of a path.
    pub async fn version(&self, path: &str) -> String {
        let answer = self.ask(http::Request::get(path).body(Vec::new()).unwrap()).await;
        answer.body["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned()
    }

    pub async fn watch(&self, request: Request) -> Result<Events, Answer> {
        let response = self.0.send(request.map(Body::from)).await.unwrap();
        if !response.status().is_success() {
            return Err(answer(response).await);
        }
        let bytes = axum::body::Body::new(response.into_body()).into_data_stream().map_err(io::Error::other);
        Ok(Events(Box::pin(bytes.into_async_read().lines())))
    }
}

async fn answer(response: http::Response<Body>) -> Answer {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    let text = || Value::from(String::from_utf8_lossy(&bytes));
    Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) }
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

/// An event of a line. Bookmarks come when the server likes.
fn plain(line: io::Result<String>) -> Option<Value> {
    let line = line.unwrap();
    assert!(line.starts_with("{\"type\":"), "an event begins with its type: {line}");
    let event: Value = serde_json::from_str(&line).unwrap();
    (event["type"] != "BOOKMARK").then_some(event)
}
