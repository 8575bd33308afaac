//! The model under `kube::Client`.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use futures::{Stream, StreamExt as _, stream};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use tokio::{sync::Notify, time::Instant};
use tower_service::Service as TowerService;

use super::{ApiServer, Request, Response, WatchId, line};

/// A model server that a client talks to. Clones share the server.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    server: Mutex<ApiServer>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// Whenever something may have changed.
    changed: Notify,
}

impl Service {
    /// Puts a server behind a service; `clock` tells the time of each request.
    pub fn new(server: ApiServer, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let shared = Shared { server: Mutex::new(server), clock: Box::new(clock), changed: Notify::new() };
        Service { shared: Arc::new(shared) }
    }

    /// A client of the server.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// The server itself. What one changes is seen by watches at their next request; see [`Service::changed`].
    pub fn server(&self) -> MutexGuard<'_, ApiServer> {
        self.shared.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes up the watches.
    pub fn changed(&self) {
        self.shared.changed.notify_waiters();
    }

    fn answer(&self, request: &Request) -> http::Response<Body> {
        let answer = self.server().handle((self.shared.clock)(), request);
        self.changed();
        let (code, body) = match answer {
            Response::Object { code, body } => (code, Body::from(body.to_string())),
            Response::Watch { id, seconds } => (200, Body::from_stream(self.clone().events(id, seconds))),
        };
        let mut response = http::Response::new(body);
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
        response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        response
    }

    /// The lines of a watch, until the server ends it.
    fn events(self, id: WatchId, seconds: u32) -> impl Stream<Item = Result<String, Infallible>> {
        let end = Instant::now() + Duration::from_secs(seconds.into());
        let shared = self.shared.clone();
        let subscription = Subscription { service: self, id };
        stream::unfold(Some(subscription), move |subscription| {
            let shared = shared.clone();
            async move {
                let subscription = subscription?;
                loop {
                    let changed = shared.changed.notified();
                    let next = subscription.service.server().next_event(id);
                    if let Some(event) = next {
                        return Some((event, Some(subscription)));
                    }
                    if tokio::time::timeout_at(end, changed).await.is_err() {
                        let last = subscription.service.server().bookmark(id);
                        return last.map(|bookmark| (bookmark, None));
                    }
                }
            }
        })
        .map(|event| Ok(line(&event)))
    }
}

/// Ends the watch with its stream.
struct Subscription {
    service: Service,
    id: WatchId,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.service.server().unwatch(self.id);
    }
}

impl TowerService<http::Request<kube::client::Body>> for Service {
    type Response = http::Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<kube::client::Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?.to_vec();
            Ok(service.answer(&http::Request::from_parts(parts, body)))
        })
    }
}
