//! The Secrets with CHAP credentials that a plan names, kept up to date.
//!
//! With the role of the chart agents may get Secrets, and neither list nor watch them: whoever may watch a namespace sees
//! every Secret in it. So a Secret is read again every half minute, and every few seconds while a path fails because of
//! it. A Role that names the Secret in `resourceNames` may also allow `watch`: then a change is seen at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{WatchEvent, WatchParams},
    runtime::reflector::ObjectRef,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{ClusterError, with_timeout};
use crate::{
    agent::types::credentials::{Credentials, SecretState},
    ops::{Tasks, log_once::LogOnce},
};

/// The interval at which a Secret is read that cannot be watched, or could not be read.
const READ_EVERY: Duration = Duration::from_secs(30);
/// The interval while a path fails because of the Secret: somebody may be about to correct it.
const READ_OFTEN: Duration = Duration::from_secs(5);
/// A failed path counts for this time. The agent looks at its paths at least once a minute.
const FAILURE_COUNTS: Duration = Duration::from_secs(90);
/// The interval at which a watch is tried that was forbidden.
const WATCH_FORBIDDEN: Duration = Duration::from_secs(600);
/// A watch without events ends after this time. The API server ends it earlier (290 s), unless the connection is dead.
const WATCH_TIMEOUT: Duration = Duration::from_secs(300);
/// The version from which a watch begins: what is there now comes first. From the version of a Secret that has not changed
/// for long, no watch can begin: the API server does not remember what has happened since then.
const FROM_NOW: &str = "";
/// The pause between two watches.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// The watched Secrets. Each is watched once, even for many agents of one process.
#[derive(Clone)]
pub struct SecretWatches {
    client: Client,
    tasks: Tasks,
    senders: Arc<Mutex<HashMap<ObjectRef<Secret>, Senders>>>,
}

/// What is known of a Secret, and how much its users want to know it.
#[derive(Clone)]
struct Senders {
    state: watch::Sender<SecretState>,
    /// The time at which a path last failed because of the Secret.
    failed_at: watch::Sender<Option<Instant>>,
}

impl SecretWatches {
    /// No watches yet.
    #[must_use]
    pub fn new(client: Client, tasks: Tasks) -> Self {
        SecretWatches { client, tasks, senders: Arc::default() }
    }

    /// Watches a Secret for as long as a receiver lives.
    #[must_use]
    pub fn watch(&self, secret: &ObjectRef<Secret>) -> watch::Receiver<SecretState> {
        let mut all = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(secret) {
            return known.state.subscribe();
        }
        let (state, receiver) = watch::channel(SecretState::Unread);
        let senders = Senders { state, failed_at: watch::Sender::new(None) };
        all.insert(secret.clone(), senders.clone());
        self.tasks.spawn(self.clone().follow(secret.clone(), senders));
        receiver
    }

    /// A path has failed because of this Secret.
    pub fn failed(&self, secret: &ObjectRef<Secret>) {
        let all = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(secret) {
            known.failed_at.send_replace(Some(Instant::now()));
        }
    }

    async fn follow(self, secret: ObjectRef<Secret>, senders: Senders) {
        let Senders { state, failed_at } = senders;
        let namespace = secret.namespace.as_deref().unwrap_or_default();
        let name = &secret.name;
        let mut reader = Reader {
            api: Api::namespaced(self.client.clone(), namespace),
            log: SecretLog::new(namespace, name),
            watch_after: None,
        };
        let mut failed_at = failed_at.subscribe();
        loop {
            tokio::select! {
                () = state.closed() => {}
                next = reader.read_and_watch(&secret, &state) => {
                    match next {
                        Next::Watch => sleep(WATCH_PAUSE).await,
                        Next::Read => pause_between_reads(&mut failed_at).await,
                    }
                    continue;
                }
            }
            let mut all = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
            // There may be a new receiver since the last one was dropped.
            if state.receiver_count() == 0 {
                all.remove(&secret);
                return;
            }
        }
    }
}

/// How the next version of a Secret is found.
enum Next {
    /// By another watch.
    Watch,
    /// By reading it again.
    Read,
}

/// Waits for half a minute, and shorter while a path fails because of the Secret.
async fn pause_between_reads(failed_at: &mut watch::Receiver<Option<Instant>>) {
    let started = Instant::now();
    loop {
        let fails = failed_at.borrow_and_update().is_some_and(|at| at.elapsed() < FAILURE_COUNTS);
        let pause = if fails { READ_OFTEN } else { READ_EVERY };
        tokio::select! {
            () = sleep_until(started + pause) => return,
            changed = failed_at.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Reads and watches one Secret.
struct Reader {
    api: Api<Secret>,
    log: SecretLog,
    /// A watch was forbidden, and is not tried before this time.
    watch_after: Option<Instant>,
}

impl Reader {
    /// Reads the Secret, and watches it until the watch ends if that is allowed.
    async fn read_and_watch(&mut self, secret: &ObjectRef<Secret>, sender: &watch::Sender<SecretState>) -> Next {
        let name = &secret.name;
        match with_timeout(self.api.get_opt(name)).await {
            Ok(secret) => set(sender, self.log.state_of(secret.as_ref())),
            Err(error) => {
                let is_forbidden = matches!(error, ClusterError::Forbidden(_));
                // Credentials that were read before stay valid, so that logins work while the API server is away.
                if is_forbidden || !matches!(&*sender.borrow(), SecretState::Read(_)) {
                    set(sender, SecretState::Unusable);
                }
                self.log.follow.failed(error);
                return Next::Read;
            }
        }
        if self.watch_after.is_some_and(|after| Instant::now() < after) {
            self.log.follow.recovered();
            return Next::Read;
        }
        let only_this = WatchParams::default().fields(&format!("metadata.name={name}"));
        let events = match with_timeout(self.api.watch(&only_this, FROM_NOW)).await {
            Ok(events) => events,
            Err(ClusterError::Forbidden(_)) => {
                self.watch_after = Some(Instant::now() + WATCH_FORBIDDEN);
                self.log.follow.recovered();
                return Next::Read;
            }
            Err(error) => {
                self.log.follow.failed(format_args!("it can be read and not be watched: {error}"));
                return Next::Read;
            }
        };
        self.watch_after = None;
        self.log.follow.recovered();
        pin_mut!(events);
        // A watch does not end by itself when the connection was lost without a notice.
        while let Ok(Some(event)) = timeout(WATCH_TIMEOUT, events.next()).await {
            match event {
                Ok(WatchEvent::Added(secret) | WatchEvent::Modified(secret)) => {
                    set(sender, self.log.state_of(Some(&secret)));
                }
                Ok(WatchEvent::Deleted(_)) => set(sender, self.log.state_of(None)),
                Ok(WatchEvent::Bookmark(_)) => {}
                Ok(WatchEvent::Error(_)) | Err(_) => break,
            }
        }
        Next::Watch
    }
}

/// The log lines about one Secret. What is wrong with it is only there: a Host's status is read by people who may not
/// read the Secret, and must not tell them whether it exists, or of what type it is.
struct SecretLog {
    follow: LogOnce,
    use_it: LogOnce,
}

impl SecretLog {
    fn new(namespace: &str, name: &str) -> Self {
        SecretLog {
            follow: LogOnce::new(format!("follow the Secret {namespace}/{name}")),
            use_it: LogOnce::new(format!("use the Secret {namespace}/{name}")),
        }
    }

    fn state_of(&mut self, secret: Option<&Secret>) -> SecretState {
        let Some(secret) = secret else {
            self.use_it.failed("there is none");
            return SecretState::Unusable;
        };
        match Credentials::from_secret(secret) {
            Ok(credentials) => {
                self.use_it.recovered();
                SecretState::Read(credentials)
            }
            Err(error) => {
                self.use_it.failed(error);
                SecretState::Unusable
            }
        }
    }
}

fn set(sender: &watch::Sender<SecretState>, state: SecretState) {
    sender.send_if_modified(|known| {
        let differs = *known != state;
        *known = state;
        differs
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pause after a failure that was seen this long ago.
    async fn pause_after(failed: Option<Duration>) -> Duration {
        let failed_at = failed.map(|ago| Instant::now() - ago);
        let sender = watch::Sender::new(failed_at);
        let begin = Instant::now();
        pause_between_reads(&mut sender.subscribe()).await;
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_read_more_often_while_a_path_fails_because_of_it() {
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert!((READ_EVERY..READ_EVERY * 2).contains(&pause_after(None).await));
        assert!((READ_OFTEN..READ_OFTEN * 2).contains(&pause_after(Some(Duration::ZERO)).await));
        assert!((READ_EVERY..READ_EVERY * 2).contains(&pause_after(Some(FAILURE_COUNTS)).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_shortens_a_pause_that_has_begun() {
        let sender = watch::Sender::new(None);
        let mut receiver = sender.subscribe();
        let begin = Instant::now();
        let fails = async {
            sleep(Duration::from_secs(2)).await;
            sender.send_replace(Some(Instant::now()));
        };
        tokio::join!(pause_between_reads(&mut receiver), fails);
        assert!((READ_OFTEN..READ_OFTEN * 2).contains(&begin.elapsed()));
    }
}
