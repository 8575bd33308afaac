//! What a form has sent, and what its address says.

/// The name of the field that shows that one of our pages has made the form.
pub const FORM_KEY: &str = "form-key";

/// Names and values, in the form's order; a name may come more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// What an address says after its question mark, or what a form sends.
    pub fn parse(encoded: &[u8]) -> Fields {
        Fields(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The first value of a field, without the blanks around it; empty when it has none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(its_name, _)| its_name == name).map(|(_, value)| value.trim()).unwrap_or_default()
    }

    /// All values of a field that say something.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(its_name, value)| its_name == name && !value.is_empty());
        values.map(|(_, value)| value.clone()).collect()
    }

    /// Whether a field has this value.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(its_name, its_value)| its_name == name && its_value == value)
    }

    /// With one more value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Fields {
        self.0.push((name.to_owned(), value.into()));
        self
    }
}
