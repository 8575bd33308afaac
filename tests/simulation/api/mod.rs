//! A model of the Kubernetes API server: a pure state machine that answers what Multibond's clients ask.
//!
//! It has no clock, no chance and no task of its own: the time is an argument, uids are drawn from what [`ApiServer::new`]
//! is given, and a watch is a subscription whose events the caller takes, so that a fault may delay, drop, repeat or
//! compact them. What it does not know it refuses with a panic that shows the request: an answer that is only nearly right
//! would make a simulation prove nothing.
//!
//! What the model leaves out, because no client of ours reads or sends it: `managedFields`, server-side apply, dry runs,
//! streamed initial lists, `resourceVersionMatch`, deletion in the foreground or with orphans, authorization.

mod core_kinds;
mod create;
mod delete;
mod garbage;
mod kinds;
mod metadata;
mod patch;
mod read;
mod refusal;
mod request;
mod rules;
mod schema;
mod selector;
mod service;
mod store;
mod tests;
mod update;
mod validate;
mod watch;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

pub use garbage::GarbageStep;
use kinds::Kinds;
use refusal::Refused;
use request::{Call, Verb};
pub use service::Service;
use store::Store;
use watch::Watch;
pub use watch::{WatchId, line};

/// A request as a client sends it.
pub type Request = http::Request<Vec<u8>>;

/// What answers a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// The status code, and an object, a list or a Status.
    Object {
        /// The HTTP status code.
        code: u16,
        /// The body.
        body: Value,
    },
    /// The events of a watch; the caller takes them by [`ApiServer::next_event`] and ends it by [`ApiServer::unwatch`].
    Watch {
        /// The subscription.
        id: WatchId,
        /// After how many seconds the server ends it.
        seconds: u32,
    },
}

/// Which object: the plural of its kind, its namespace (empty if it has none), its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Such as `hosts`.
    pub plural: &'static str,
    /// Empty for Nodes and namespaces.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// The API server: the kinds it serves, the objects with their history, and the watches.
pub struct ApiServer {
    kinds: Arc<Kinds>,
    store: Store,
    watches: BTreeMap<WatchId, Watch>,
    watches_begun: u64,
    chance: Box<dyn FnMut() -> u64 + Send>,
}

impl ApiServer {
    /// A server without objects, not even namespaces, which serves the kinds of `crds/` and the core kinds that
    /// Multibond uses. Uids and generated names are drawn from `chance`.
    pub fn new(chance: impl FnMut() -> u64 + Send + 'static) -> Self {
        ApiServer {
            kinds: Arc::new(Kinds::new()),
            store: Store::default(),
            watches: BTreeMap::new(),
            watches_begun: 0,
            chance: Box::new(chance),
        }
    }

    /// Answers a request at once and as a whole; a write has taken effect then.
    ///
    /// # Panics
    /// If the request is one that the model does not know.
    pub fn handle(&mut self, now: Timestamp, request: &Request) -> Response {
        self.store.expire(now);
        let kinds = self.kinds.clone();
        let answer = self.answer(now, &Call::read(&kinds, request));
        answer.unwrap_or_else(|refused| Response::Object { code: refused.code, body: refused.body() })
    }

    fn answer(&mut self, now: Timestamp, call: &Call) -> Result<Response, Refused> {
        let object = |code, body: Arc<Value>| Response::Object { code, body: Arc::unwrap_or_clone(body) };
        Ok(match &call.verb {
            Verb::Get => object(200, self.get(call)?),
            Verb::List => object(200, Arc::new(self.list(call)?)),
            Verb::Watch => self.watch(call)?,
            Verb::Create => object(201, self.create(now, call)?),
            Verb::Replace => {
                let (code, body) = self.replace(now, call)?;
                object(code, body)
            }
            Verb::Patch(kind) => object(200, self.patch(call, *kind)?),
            Verb::Delete => object(200, self.delete(now, call)?),
        })
    }

    /// The version of the last write.
    pub fn version(&self) -> u64 {
        self.store.version()
    }

    /// The objects of a kind, such as `hosts`, in the order of their keys.
    pub fn objects(&self, plural: &str) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.store.objects().filter(move |(key, _)| key.plural == plural)
    }

    /// An object as it is stored.
    pub fn object(&self, plural: &'static str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.store.get(&Key { plural, namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Stores an object as another version of the kind's schema would have let it in: without defaults and validation.
    /// Its metadata must be whole.
    ///
    /// # Panics
    /// If the kind is not known.
    pub fn plant(&mut self, plural: &str, object: Value) {
        let kind = self.kinds.by_plural(plural).unwrap_or_else(|| panic!("the model serves no {plural}"));
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = Key { plural: kind.plural, namespace: text("namespace"), name: text("name") };
        self.store.put(key, object);
    }

    /// Stores an object as another server has it, or removes it.
    pub fn adopt(&mut self, plural: &str, namespace: &str, name: &str, object: Option<Value>) -> Option<Arc<Value>> {
        let plural = self.kinds.by_plural(plural)?.plural;
        let key = Key { plural, namespace: namespace.to_owned(), name: name.to_owned() };
        if let Some(object) = object {
            Some(self.store.put(key, object))
        } else {
            self.store.remove(&key);
            None
        }
    }

    /// Forgets the history up to this version, as etcd's compaction does: watches and pages from before it get 410.
    pub fn compact(&mut self, version: u64) {
        self.store.compact(version);
    }

    fn new_uid(&mut self) -> String {
        let (high, low) = ((self.chance)(), (self.chance)());
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        )
    }

    /// The five characters that end a generated name.
    fn suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..5).map(|_| char::from(LETTERS[usize::try_from((self.chance)() % 27).unwrap_or_default()])).collect()
    }
}
