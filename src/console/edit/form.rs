//! A form as data: its inputs, and helpers that the forms of all kinds share.

use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt as _};

use crate::console::fields::Fields;

/// The hidden field with the generation that the form was filled from.
pub const GENERATION: &str = "generation";

/// An input of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The name of the field, and the id of the element.
    pub name: &'static str,
    /// The label beside it.
    pub label: &'static str,
    /// The help text below it.
    pub hint: &'static str,
    /// The present state of what its lines name, a line for each.
    pub state: Vec<String>,
    /// The field of the API that it fills, without indices. Errors of the API server about it are shown at the input.
    pub field: &'static str,
    /// The kind of the input.
    pub kind: InputKind,
}

/// The kind of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// One line.
    Line,
    /// A line that is shown and sent, and cannot be changed.
    Fixed,
    /// Several lines.
    Lines,
    /// Any number of the choices.
    Any(Vec<Choice>),
    /// Exactly one of the choices.
    One(Vec<Choice>),
    /// Yes or no.
    Switch,
}

/// A choice of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The value that is sent.
    pub value: String,
    /// The label of the choice.
    pub label: String,
    /// The help text beside it.
    pub hint: String,
}

impl Input {
    fn new(name: &'static str, label: &'static str, kind: InputKind) -> Input {
        Input { name, label, hint: "", state: Vec::new(), field: "", kind }
    }

    /// One line.
    pub fn line(name: &'static str, label: &'static str) -> Input {
        Input::new(name, label, InputKind::Line)
    }

    /// Several lines.
    pub fn lines(name: &'static str, label: &'static str) -> Input {
        Input::new(name, label, InputKind::Lines)
    }

    /// Any number of choices.
    pub fn any(name: &'static str, label: &'static str, choices: Vec<Choice>) -> Input {
        Input::new(name, label, InputKind::Any(choices))
    }

    /// One of the choices.
    pub fn one(name: &'static str, label: &'static str, choices: Vec<Choice>) -> Input {
        Input::new(name, label, InputKind::One(choices))
    }

    /// Yes or no.
    pub fn switch(name: &'static str, label: &'static str) -> Input {
        Input::new(name, label, InputKind::Switch)
    }

    /// Sets the help text.
    #[must_use]
    pub fn hint(self, hint: &'static str) -> Input {
        Input { hint, ..self }
    }

    /// Sets the lines about the present state.
    #[must_use]
    pub fn state(self, state: Vec<String>) -> Input {
        Input { state, ..self }
    }

    /// Sets the field of the API that it fills.
    #[must_use]
    pub fn of(self, field: &'static str) -> Input {
        Input { field, ..self }
    }

    /// Makes it unchangeable if `fixed`.
    #[must_use]
    pub fn fixed(self, fixed: bool) -> Input {
        let kind = if fixed { InputKind::Fixed } else { self.kind };
        Input { kind, ..self }
    }
}

/// The first fields of a form for an object that exists: its name and its generation.
pub fn fields_of<K: Resource>(object: &K) -> Fields {
    let generation = object.meta().generation.unwrap_or_default();
    Fields::default().with("name", object.name_any()).with(GENERATION, generation.to_string())
}

/// The metadata of a new object.
pub fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.to_owned()), name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// The description from a form; `None` when it is empty.
pub fn description(fields: &Fields) -> Option<String> {
    Some(fields.get("description").to_owned()).filter(|text| !text.is_empty())
}

/// The input for a description.
pub fn description_input() -> Input {
    Input::line("description", "Description").of("spec.description")
}

/// The input for a name.
pub fn name_input(fixed: bool) -> Input {
    Input::line("name", "Name")
        .hint("Lower-case letters, digits and “-”. It cannot be changed later.")
        .of("metadata.name")
        .fixed(fixed)
}
