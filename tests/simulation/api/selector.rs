//! Selectors of lists and watches.

use serde_json::Value;

use super::{
    kinds::{Core, Form, Kind},
    refusal::Refused,
    request::Call,
};

/// The objects that a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Empty for all.
    namespace: String,
    fields: Vec<Term>,
    labels: Vec<Term>,
}

/// One requirement.
#[derive(Clone, Debug)]
struct Term {
    /// The path of a field, or the key of a label.
    path: String,
    equal: bool,
    value: String,
}

impl Selection {
    /// The selection of a request.
    pub fn of(call: &Call) -> Result<Self, Refused> {
        let fields = terms(call.parameter("fieldSelector").unwrap_or_default());
        if let Some(other) = fields.iter().find(|term| !may_select(call.kind, &term.path)) {
            let message = format!("field label not supported: {}", other.path);
            return Err(Refused::bad_request(message));
        }
        let labels = terms(call.parameter("labelSelector").unwrap_or_default());
        Ok(Selection { namespace: call.namespace.clone(), fields, labels })
    }

    /// Whether it selects by something.
    pub fn is_narrow(&self) -> bool {
        !self.fields.is_empty() || !self.labels.is_empty()
    }

    /// Whether it selects an object.
    pub fn has(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        (self.namespace.is_empty() || metadata["namespace"] == *self.namespace)
            && self.fields.iter().all(|term| term.holds(Some(field(object, &term.path))))
            && self.labels.iter().all(|term| term.holds(metadata["labels"].get(&term.path).and_then(Value::as_str)))
    }
}

impl Term {
    fn holds(&self, value: Option<&str>) -> bool {
        (value == Some(&self.value)) == self.equal
    }
}

/// A field that is missing is empty.
fn field<'a>(object: &'a Value, path: &str) -> &'a str {
    path.split('.').try_fold(object, |value, name| value.get(name)).and_then(Value::as_str).unwrap_or_default()
}

fn may_select(kind: &Kind, path: &str) -> bool {
    let of_kind = match &kind.form {
        Form::Custom { selectable, .. } => selectable.iter().any(|field| field == path),
        Form::Core(Core::Secret) => path == "type",
        Form::Core(Core::Namespace) => path == "status.phase",
        Form::Core(Core::Node | Core::Lease | Core::Event) => false,
    };
    path == "metadata.name" || path == "metadata.namespace" && kind.namespaced || of_kind
}

/// # Panics
/// If a requirement is more than an equality.
fn terms(text: &str) -> Vec<Term> {
    let term = |term: &str| {
        let (path, equal, value) = if let Some((path, value)) = term.split_once("!=") {
            (path, false, value)
        } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (path, true, value)
        } else {
            panic!("the model of the API server does not know the selector {text:?}");
        };
        let odd = |part: &str| part.contains(['(', ')', '!', '\\', ' ']);
        assert!(!odd(path) && !odd(value), "the model of the API server does not know the selector {text:?}");
        Term { path: path.to_owned(), equal, value: value.to_owned() }
    };
    text.split(',').filter(|text| !text.is_empty()).map(term).collect()
}
