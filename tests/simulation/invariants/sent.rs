//! A request, as the invariants and the log see it.

use std::fmt;

use http::Method;
use serde_json::Value;

use crate::api::Request;

/// A request of an actor.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Who sends it.
    pub actor: String,
    pub method: Method,
    /// Such as `hosts`.
    pub plural: String,
    pub namespace: String,
    /// Empty for a list, a watch, and a new object.
    pub name: String,
    pub is_status: bool,
    /// It changes nothing.
    pub is_read: bool,
    /// Its body; null if there is none.
    pub body: Value,
}

impl Sent {
    /// Reads a request.
    pub fn new(actor: &str, request: &Request) -> Self {
        let mut parts = request
            .uri()
            .path()
            .trim_start_matches('/')
            .split('/')
            .skip_while(|part| *part != "v1" && *part != "v1alpha1");
        parts.next();
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match &rest[..] {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let part = |at: usize| rest.get(at).copied().unwrap_or_default();
        Sent {
            actor: actor.to_owned(),
            method: request.method().clone(),
            plural: part(0).to_owned(),
            namespace: namespace.to_owned(),
            name: part(1).to_owned(),
            is_status: part(2) == "status",
            is_read: request.method() == Method::GET,
            body: serde_json::from_slice(request.body()).unwrap_or_default(),
        }
    }

    /// Whether a replica of the controller sends it.
    pub fn is_of_controller(&self) -> bool {
        self.actor.starts_with("controller")
    }

    /// The node of the agent that sends it.
    pub fn node(&self) -> Option<&str> {
        self.actor.strip_prefix("agent-").map(|rest| rest.split('#').next().unwrap_or(rest))
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sent { actor, method, plural, namespace, name, is_status, .. } = self;
        let part = if *is_status { "/status" } else { "" };
        write!(f, "{actor} {method} {plural} {namespace}/{name}{part}")
    }
}
