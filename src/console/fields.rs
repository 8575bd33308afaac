//! Fields of forms and of queries.

/// The field with the key that only forms of the console carry.
pub const FORM_KEY: &str = "form-key";

/// Names and values, in the order of the form. A name may occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads a query, or the body of a form.
    pub fn parse(encoded: &[u8]) -> Fields {
        Fields(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The first value of a field, trimmed; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(its_name, _)| its_name == name).map(|(_, value)| value.trim()).unwrap_or_default()
    }

    /// All values of a field that are not empty.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(its_name, value)| its_name == name && !value.is_empty());
        values.map(|(_, value)| value.clone()).collect()
    }

    /// Whether one of the values of a field is this one.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(its_name, its_value)| its_name == name && its_value == value)
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Fields {
        self.0.push((name.to_owned(), value.into()));
        self
    }
}
