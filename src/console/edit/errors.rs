//! Errors of a form: the messages of the API server, each at the input that it is about.

use kube::core::Status;

use super::form::Input;

/// The errors of a form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors(Vec<Error>);

/// An error, and the field of the API that it is about; empty if there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Error {
    field: String,
    message: String,
}

impl Errors {
    /// An error that is about no field.
    pub fn general(message: impl Into<String>) -> Errors {
        Errors::of("", message)
    }

    /// An error about a field of the API.
    pub fn of(field: &str, message: impl Into<String>) -> Errors {
        Errors(vec![Error { field: field.to_owned(), message: message.into() }])
    }

    /// Whether there are no errors.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The messages for an input.
    pub fn beside<'a>(&'a self, input: &'a Input, all: &'a [Input]) -> impl Iterator<Item = &'a str> {
        let ours = move |error: &&Error| input_of(&error.field, all).is_some_and(|its| its.name == input.name);
        self.0.iter().filter(ours).map(|error| error.message.as_str())
    }

    /// The messages that belong to no input.
    pub fn elsewhere<'a>(&'a self, all: &'a [Input]) -> impl Iterator<Item = String> + 'a {
        let others = self.0.iter().filter(|error| input_of(&error.field, all).is_none());
        others.map(
            |Error { field, message }| {
                if field.is_empty() { message.clone() } else { format!("{field}: {message}") }
            },
        )
    }
}

/// The input of a field: the one whose own field is the longest prefix.
fn input_of<'a>(field: &str, all: &'a [Input]) -> Option<&'a Input> {
    let within = |input: &&Input| {
        let rest = field.strip_prefix(input.field);
        !input.field.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    all.iter().filter(within).max_by_key(|input| input.field.len())
}

impl From<kube::Error> for Errors {
    fn from(error: kube::Error) -> Errors {
        match error {
            kube::Error::Api(status) => Errors::from(*status),
            error => Errors::general(format!("The API server cannot be reached: {error}")),
        }
    }
}

impl From<Status> for Errors {
    fn from(status: Status) -> Errors {
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        let about = causes.iter().filter(|cause| !cause.message.is_empty() && !says_nothing(&cause.message));
        let errors: Vec<Error> = about
            .map(|cause| {
                let field = without_indices(&cause.field);
                // An error of a rule about the whole object names its field only in its message.
                let field = if field.starts_with("metadata.") || field.starts_with("spec.") {
                    field
                } else {
                    cause.message.split_whitespace().find(|word| word.starts_with("metadata.")).unwrap_or("").to_owned()
                };
                Error { field, message: cause.message.clone() }
            })
            .collect();
        match (errors.is_empty(), status.reason.as_str()) {
            (false, _) => Errors(errors),
            (true, "AlreadyExists") => Errors::of("metadata.name", status.message),
            (true, _) => Errors::general(status.message),
        }
    }
}

/// Whether a message of the API server only comes with another one, which says at the field what is wrong with it.
fn says_nothing(message: &str) -> bool {
    message.contains("must validate at least one schema")
}

/// `spec.storage[0].targets[1].iqn` as `spec.storage.targets.iqn`.
fn without_indices(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn errors(status: &Value) -> Errors {
        Errors::from(serde_json::from_value::<Status>(status.clone()).unwrap())
    }

    fn inputs() -> Vec<Input> {
        vec![
            Input::line("name", "Name").of("metadata.name"),
            Input::line("iqn", "Target").of("spec.storage.targets.iqn"),
            Input::line("portals", "Portals").of("spec.storage.targets.portals"),
        ]
    }

    #[test]
    fn an_error_of_the_api_server_is_shown_at_its_input() {
        let address = "Unsupported value: \"x_y\": supported values: \"an IPv4 address such as 10.0.1.5\"";
        let of_rules = "some validation rules were not checked because the object was invalid";
        let causes = json!([
            {"field": "<nil>", "message": "Invalid value: \"\": \"spec.storage[0]\" must validate at least one schema (anyOf)"},
            {"field": "spec.storage[0].targets[1].portals[0].address", "message": address},
            {"field": "<nil>", "message": format!("Invalid value: null: {of_rules}")},
            {"field": "<nil>", "message": "Invalid value: metadata.name must be a DNS label"},
            {"field": "spec.other", "message": "Required value"},
        ]);
        let errors = errors(&json!({"reason": "Invalid", "message": "all of it", "details": {"causes": causes}}));
        let inputs = inputs();
        let beside = |name: &str| {
            let input = inputs.iter().find(|input| input.name == name).unwrap();
            errors.beside(input, &inputs).collect::<Vec<_>>()
        };
        assert_eq!(beside("portals"), [address]);
        assert_eq!(beside("name"), ["Invalid value: metadata.name must be a DNS label"]);
        assert!(beside("iqn").is_empty());
        let not_all = format!("Invalid value: null: {of_rules}");
        assert_eq!(errors.elsewhere(&inputs).collect::<Vec<_>>(), [not_all, "spec.other: Required value".to_owned()]);
    }

    #[test]
    fn an_existing_name_is_an_error_of_the_name_and_a_refusal_is_general() {
        let inputs = inputs();
        let taken = errors(&json!({"reason": "AlreadyExists", "message": "iscsibonds \"storage\" already exists"}));
        assert_eq!(taken.beside(&inputs[0], &inputs).count(), 1);
        let refused = errors(&json!({"reason": "Forbidden", "message": "no"}));
        assert_eq!(refused.elsewhere(&inputs).collect::<Vec<_>>(), ["no"]);
    }
}
