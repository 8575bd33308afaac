//! The CEL rules of our kinds, written once more in Rust. A rule that is not here fails the reading of the CRD, so that a
//! new rule cannot be forgotten.

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

/// A rule of a schema.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub enum Rule {
    /// The value does not change.
    Immutable,
    /// The name of the object is a DNS label.
    NameIsLabel,
    /// The values of a node selector's requirement fit its operator.
    ValuesFitOperator,
    /// A text that starts like this matches the pattern.
    Matches(String, Regex),
}

/// A rule as a CRD has it.
#[derive(Deserialize)]
struct Written {
    rule: String,
}

impl TryFrom<Written> for Rule {
    type Error = String;

    fn try_from(Written { rule }: Written) -> Result<Self, String> {
        Ok(match &*rule {
            "self == oldSelf" => Rule::Immutable,
            "self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')" => {
                Rule::NameIsLabel
            }
            "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0" => {
                Rule::ValuesFitOperator
            }
            other => {
                let (of, pattern) = matches(other)
                    .ok_or_else(|| format!("the model of the API server does not know this rule: {other}"))?;
                Rule::Matches(of.to_owned(), Regex::new(pattern).map_err(|error| format!("{other}: {error}"))?)
            }
        })
    }
}

/// The start and the pattern of a rule about one text.
fn matches(rule: &str) -> Option<(&str, &str)> {
    let (of, rule) = match rule.strip_prefix("!self.startsWith('") {
        Some(rest) => rest.split_once("') || ")?,
        None => ("", rule),
    };
    let pattern = rule.strip_prefix("self.matches('")?.strip_suffix("')")?;
    (!pattern.contains('\'')).then_some((of, pattern))
}

impl Rule {
    /// Whether a value obeys it.
    pub fn holds(&self, value: &Value, old: Option<&Value>) -> bool {
        match self {
            Rule::Immutable => old.is_none_or(|old| old == value),
            Rule::NameIsLabel => {
                let name = value["metadata"]["name"].as_str().unwrap_or_default();
                let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                let is_label = !name.is_empty() && name.bytes().all(inner);
                name.len() <= 63 && is_label && !name.starts_with('-') && !name.ends_with('-')
            }
            Rule::Matches(of, pattern) => {
                value.as_str().is_none_or(|text| !text.starts_with(of.as_str()) || pattern.is_match(text))
            }
            Rule::ValuesFitOperator => {
                let some = value["values"].as_array().is_some_and(|values| !values.is_empty());
                some == matches!(value["operator"].as_str(), Some("In" | "NotIn"))
            }
        }
    }
}
