//! What is between an actor and the API server: delays, failures before and after a request has taken effect, watches that
//! stall and break off.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use futures::{Stream, stream};
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::{
    actor::Actor,
    api::{Request, Response, WatchId, line},
    chance::Chance,
    cluster::Cluster,
    invariants::Sent,
};

/// The read time-out of the product's clients.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// The way of an actor to the API server.
#[derive(Clone)]
pub struct Link {
    pub cluster: Arc<Cluster>,
    pub actor: Arc<Actor>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Answer = Result<http::Response<Body>, Failure>;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is answered.
    Answered,
    /// It is refused with this code, without an effect.
    Refused(u16),
    /// It has taken effect, and the answer is this code.
    Undone(u16),
    /// The connection breaks off before it has an effect.
    LostBefore,
    /// The connection breaks off after it has taken effect.
    LostAfter,
    /// Nobody answers, and nothing has happened.
    Silent,
}

impl Fate {
    fn draw(chance: &mut Chance) -> Fate {
        match chance.below(100) {
            0..=1 => Fate::Refused([409, 429, 500, 503, 504][chance.index(5)]),
            2 => Fate::Undone([500, 504][chance.index(2)]),
            3..=4 => Fate::LostBefore,
            5..=6 => Fate::LostAfter,
            7 if chance.once_in(4) => Fate::Silent,
            _ => Fate::Answered,
        }
    }
}

impl Link {
    /// A client over this link.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    fn delay(&self) -> Duration {
        let faulty = self.cluster.is_faulty();
        self.cluster.draw(|chance| match chance.below(100) {
            0..=1 if faulty => chance.between(1000, 20_000),
            2..=5 if faulty => chance.between(100, 1000),
            _ => chance.between(1, 8),
        })
    }

    /// The request on its way to the server and back. It goes on when its sender has died.
    async fn carry(self, sent: Sent, request: Request) -> Answer {
        let cluster = &self.cluster;
        let fate = if cluster.is_faulty() { cluster.draw(Fate::draw) } else { Fate::Answered };
        sleep(self.delay()).await;
        let lost = || -> Answer { Err(io::Error::from(io::ErrorKind::ConnectionReset).into()) };
        if fate != Fate::Answered {
            cluster.step(format_args!("a fault: {fate:?} for {sent}"));
        }
        match fate {
            Fate::Answered => {
                let response = cluster.answer(&sent, &request);
                sleep(self.delay()).await;
                Ok(self.clone().response(sent, response))
            }
            Fate::Refused(code) => {
                // A read is not in conflict with anything.
                let code = if code == 409 && sent.is_read { 429 } else { code };
                Ok(refusal(code))
            }
            Fate::Undone(code) => {
                self.take_effect(&sent, &request);
                Ok(refusal(code))
            }
            Fate::LostBefore => lost(),
            Fate::LostAfter => {
                self.take_effect(&sent, &request);
                sleep(self.delay()).await;
                lost()
            }
            Fate::Silent => {
                sleep(READ_TIMEOUT).await;
                Err(io::Error::from(io::ErrorKind::TimedOut).into())
            }
        }
    }

    fn take_effect(&self, sent: &Sent, request: &Request) {
        if let Response::Watch { id, .. } = self.cluster.answer(sent, request) {
            self.cluster.unwatch(id);
        }
    }

    fn response(self, sent: Sent, response: Response) -> http::Response<Body> {
        match response {
            Response::Object { code, body } => {
                // It is delivered when the client reads it.
                let read = stream::once(async move {
                    if (200..300).contains(&code) {
                        self.cluster.delivered(&self.actor, &sent, &body);
                    }
                    Ok::<_, Infallible>(body.to_string())
                });
                object(code, Body::from_stream(read))
            }
            Response::Watch { id, seconds } => object(200, Body::from_stream(self.events(sent, id, seconds))),
        }
    }

    /// The lines of a watch.
    fn events(self, sent: Sent, id: WatchId, seconds: u32) -> impl Stream<Item = Result<String, Infallible>> {
        let mut end = Instant::now() + Duration::from_secs(seconds.into());
        if self.cluster.is_faulty() && self.cluster.draw(|chance| chance.once_in(4)) {
            end = end.min(Instant::now() + self.cluster.draw(|chance| chance.between(10, 15_000)));
        }
        let subscription = Subscription { link: self, sent, id, at_end: false };
        stream::unfold(subscription, move |mut subscription| async move {
            loop {
                let cluster = subscription.link.cluster.clone();
                if subscription.at_end {
                    return None;
                }
                let changed = cluster.changed.notified();
                let event = cluster.next_event(id);
                if let Some(event) = event {
                    let stalls = cluster.is_faulty() && cluster.draw(|chance| chance.once_in(60));
                    let delay = if stalls {
                        cluster.draw(|chance| chance.between(1000, 40_000))
                    } else {
                        subscription.link.delay()
                    };
                    sleep(delay).await;
                    cluster.event(&subscription.link.actor, &subscription.sent, &event);
                    return Some((Ok(line(&event)), subscription));
                }
                if timeout_at(end, changed).await.is_err() {
                    subscription.at_end = true;
                    if let Some(bookmark) = cluster.bookmark(id) {
                        return Some((Ok(line(&bookmark)), subscription));
                    }
                }
            }
        })
    }
}

/// Ends the watch with its stream.
struct Subscription {
    link: Link,
    sent: Sent,
    id: WatchId,
    at_end: bool,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.link.cluster.unwatch(self.id);
    }
}

fn object(code: u16, body: Body) -> http::Response<Body> {
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// A refusal by chance.
fn refusal(code: u16) -> http::Response<Body> {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let body: Value = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "by chance", "reason": reason, "code": code});
    object(code, Body::from(body.to_string()))
}

impl tower_service::Service<http::Request<kube::client::Body>> for Link {
    type Response = http::Response<Body>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<kube::client::Body>) -> Self::Future {
        let link = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?.to_vec();
            let request = http::Request::from_parts(parts, body);
            let sent = link.cluster.begins(&link.actor, &request);
            let (answer, answered) = oneshot::channel();
            tokio::spawn(async move {
                // The sender may have died.
                let _ = answer.send(link.carry(sent, request).await);
            });
            answered.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::BrokenPipe).into()))
        })
    }
}
