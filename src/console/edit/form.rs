//! A form, as data: its inputs, and what they hold.

use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt as _};

use crate::console::fields::Fields;

/// The field with the generation that the person has seen.
pub const GENERATION: &str = "generation";

/// An input of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name among the form's fields.
    pub name: &'static str,
    /// What is asked for.
    pub label: &'static str,
    /// What is said below it.
    pub hint: &'static str,
    /// The field of the API that it fills, without indices: what the API server says of that stands beside the input.
    pub field: &'static str,
    /// How it is filled.
    pub kind: InputKind,
}

/// How an input is filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// One line.
    Line,
    /// What is fixed: it is shown, and sent as it is.
    Fixed,
    /// Several lines.
    Lines,
    /// Any number of these.
    Any(Vec<Choice>),
    /// One of these.
    One(Vec<Choice>),
    /// Yes or no.
    Switch,
}

/// Something that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The value that is sent.
    pub value: String,
    /// What it is called.
    pub label: String,
    /// What is said beside it.
    pub hint: String,
}

impl Input {
    fn new(name: &'static str, label: &'static str, kind: InputKind) -> Input {
        Input { name, label, hint: "", field: "", kind }
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

    /// With what is said below it.
    #[must_use]
    pub fn hint(self, hint: &'static str) -> Input {
        Input { hint, ..self }
    }

    /// With the field of the API that it fills.
    #[must_use]
    pub fn of(self, field: &'static str) -> Input {
        Input { field, ..self }
    }

    /// Not to be changed, when `fixed`.
    #[must_use]
    pub fn fixed(self, fixed: bool) -> Input {
        let kind = if fixed { InputKind::Fixed } else { self.kind };
        Input { kind, ..self }
    }
}

/// The fields of an object that exists begin with its name and its generation.
pub fn fields_of<K: Resource>(object: &K) -> Fields {
    let generation = object.meta().generation.unwrap_or_default();
    Fields::default().with("name", object.name_any()).with(GENERATION, generation.to_string())
}

/// The metadata of an object that is new.
pub fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.to_owned()), name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// A description; none when it is empty.
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
        .hint("Lower-case letters, digits and “-”; it cannot be changed later.")
        .of("metadata.name")
        .fixed(fixed)
}
