//! A form, as data: its inputs, and what they hold.

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
    pub kind: Kind,
}

/// How an input is filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
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
    fn new(name: &'static str, label: &'static str, kind: Kind) -> Input {
        Input { name, label, hint: "", field: "", kind }
    }

    /// One line.
    pub fn line(name: &'static str, label: &'static str) -> Input {
        Input::new(name, label, Kind::Line)
    }

    /// Several lines.
    pub fn lines(name: &'static str, label: &'static str) -> Input {
        Input::new(name, label, Kind::Lines)
    }

    /// Any number of choices.
    pub fn any(name: &'static str, label: &'static str, choices: Vec<Choice>) -> Input {
        Input::new(name, label, Kind::Any(choices))
    }

    /// One of the choices.
    pub fn one(name: &'static str, label: &'static str, choices: Vec<Choice>) -> Input {
        Input::new(name, label, Kind::One(choices))
    }

    /// Yes or no.
    pub fn switch(name: &'static str, label: &'static str) -> Input {
        Input::new(name, label, Kind::Switch)
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
        let kind = if fixed { Kind::Fixed } else { self.kind };
        Input { kind, ..self }
    }
}
