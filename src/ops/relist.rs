//! A watch that begins with a new list after each failure.
//!
//! kube's watcher resumes a watch that has failed at the last version that it has seen. After a restore of etcd from a
//! backup that is wrong: versions are smaller than before, and the API server would report nothing until the old version
//! is reached again. Such a restore stops the API server, so each watch fails at least once.

use std::fmt::Debug;

use futures::{Stream, StreamExt as _, stream};
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::backoff::{Backoff, random_seed};

/// Watches until the stream is dropped. After an error it pauses, the longer the more errors follow each other, and begins
/// with a list.
pub fn watch_from_list<K>(
    api: Api<K>,
    config: watcher::Config,
    retry: Backoff,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let seed = random_seed();
    stream::unfold((None, 0_u32), move |(running, failures)| {
        let (api, config) = (api.clone(), config.clone());
        async move {
            let mut events = if let Some(events) = running {
                events
            } else {
                if failures > 0 {
                    sleep(retry.pause(failures, (api.resource_url(), seed))).await;
                }
                watcher(api, config).boxed()
            };
            Some(match events.next().await? {
                // `Init` comes before the first answer of the API server.
                Ok(Event::Init) => (Ok(Event::Init), (Some(events), failures)),
                Ok(event) => (Ok(event), (Some(events), 0)),
                Err(error) => (Err(error), (None, failures.saturating_add(1))),
            })
        }
    })
}
