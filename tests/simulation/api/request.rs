//! Reads a request: which verb, on which kind and object, with which parameters.

use std::collections::BTreeMap;

use http::{Method, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Key, Request,
    kinds::{Kind, Kinds},
    refusal::Refused,
};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One object.
    Get,
    /// The objects of a kind, or a page of them.
    List,
    /// The changes of a kind.
    Watch,
    /// A new object.
    Create,
    /// An object in place of another one.
    Replace,
    /// A change of an object.
    Patch(PatchKind),
    /// No more object.
    Delete,
}

/// The format of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
    /// A merge patch in which lists are merged by keys, for core kinds.
    Strategic,
}

/// The part of an object that a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Metadata and spec.
    Whole,
    /// The status subresource.
    Status,
}

/// A request that is understood.
pub struct Call<'a> {
    /// What is asked.
    pub verb: Verb,
    /// Of which kind.
    pub kind: &'a Kind,
    /// In which namespace; empty for all, and for kinds without.
    pub namespace: String,
    /// Of which object; empty for a collection.
    pub name: String,
    /// Of which part of it.
    pub part: Part,
    /// Only metadata is answered.
    pub only_metadata: bool,
    parameters: BTreeMap<String, String>,
    body: &'a [u8],
}

/// The parameters that each verb may have. `fieldManager` changes only `managedFields`, which the model leaves out.
fn known(verb: Verb) -> &'static [&'static str] {
    match verb {
        Verb::List => &["limit", "continue", "fieldSelector", "labelSelector", "resourceVersion"],
        Verb::Watch => {
            &["watch", "timeoutSeconds", "allowWatchBookmarks", "fieldSelector", "labelSelector", "resourceVersion"]
        }
        Verb::Create | Verb::Replace | Verb::Patch(_) => &["fieldManager"],
        Verb::Get | Verb::Delete => &[],
    }
}

impl<'a> Call<'a> {
    /// Reads a request.
    ///
    /// # Panics
    /// If the model does not know what it asks.
    pub fn read(kinds: &'a Kinds, request: &'a Request) -> Self {
        let unknown = |what: &str| -> ! {
            let (method, uri) = (request.method(), request.uri());
            let body = String::from_utf8_lossy(request.body());
            panic!("the model of the API server does not know {what}: {method} {uri} {:?} {body}", request.headers())
        };
        let parts: Vec<_> = request.uri().path().trim_start_matches('/').split('/').collect();
        let (group, version, rest) = match &parts[..] {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => unknown("the path"),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && !matches!(rest, ["status" | "finalize"]) => {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let (plural, name, part) = match rest {
            [plural] => (*plural, "", Part::Whole),
            [plural, name] => (*plural, *name, Part::Whole),
            [plural, name, "status"] => (*plural, *name, Part::Status),
            _ => unknown("the subresource"),
        };
        let Some(kind) = kinds.find(group, version, plural) else { unknown("the kind") };
        if part == Part::Status && !kind.has_status() || !kind.namespaced && !namespace.is_empty() {
            unknown("the path");
        }
        let parameters: BTreeMap<String, String> =
            form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let watches = parameters.get("watch").is_some_and(|watch| watch == "true" || watch == "1");
        let verb = match (request.method(), name.is_empty()) {
            (&Method::GET, true) if watches => Verb::Watch,
            (&Method::GET, true) => Verb::List,
            (&Method::GET, false) => Verb::Get,
            (&Method::POST, true) => Verb::Create,
            (&Method::PUT, false) => Verb::Replace,
            (&Method::DELETE, false) => Verb::Delete,
            (&Method::PATCH, false) => match text(header::CONTENT_TYPE) {
                Some("application/merge-patch+json") => Verb::Patch(PatchKind::Merge),
                Some("application/json-patch+json") => Verb::Patch(PatchKind::Json),
                Some("application/strategic-merge-patch+json") => Verb::Patch(PatchKind::Strategic),
                _ => unknown("the type of the patch"),
            },
            _ => unknown("the method"),
        };
        if let Some(other) = parameters.keys().find(|parameter| !known(verb).contains(&parameter.as_str())) {
            unknown(&format!("the parameter {other:?}"));
        }
        if kind.namespaced && namespace.is_empty() && !matches!(verb, Verb::List | Verb::Watch) {
            unknown("an object without its namespace");
        }
        if part == Part::Status && !matches!(verb, Verb::Get | Verb::Replace | Verb::Patch(_)) {
            unknown("the method on a status");
        }
        let only_metadata = match text(header::ACCEPT) {
            None | Some("*/*" | "application/json") => false,
            Some(accept) if accept.starts_with("application/json;as=PartialObjectMetadata") => true,
            Some(_) => unknown("the format"),
        };
        if only_metadata && !matches!(verb, Verb::Get | Verb::List) {
            unknown("the verb on metadata alone");
        }
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Call { verb, kind, namespace, name, part, only_metadata, parameters, body: request.body() }
    }

    /// The key of the object.
    pub fn key(&self) -> Key {
        Key { plural: self.kind.plural, namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// A parameter that is not empty.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A parameter that is a number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Refused> {
        let read = |text: &str| text.parse().map_err(|_| Refused::bad_request(format!("{name} is no number: {text}")));
        self.parameter(name).filter(|text| !text.is_empty()).map(read).transpose()
    }

    /// The body, an object.
    pub fn object(&self) -> Result<Value, Refused> {
        self.body().and_then(|body: Value| match body {
            Value::Object(_) => Ok(body),
            other => Err(Refused::bad_request(format!("expected an object, found {other}"))),
        })
    }

    /// The body, if there is one.
    pub fn body_if_any<T: DeserializeOwned + Default>(&self) -> Result<T, Refused> {
        if self.body.is_empty() { Ok(T::default()) } else { self.body() }
    }

    /// The body.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Refused> {
        serde_json::from_slice(self.body)
            .map_err(|error| Refused::bad_request(format!("cannot read the body: {error}")))
    }
}
