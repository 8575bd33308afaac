//! CEL rules about one text: it matches a pattern. This is the only form in which our schemas have them, so that
//! `multibond plan` can read it, and check thousands of texts without a CEL program for each.

use std::fmt;

/// What a text must match if it starts with `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextRule<'a> {
    /// Texts that start otherwise are not judged.
    pub of: &'a str,
    /// A regular expression, without backslashes and quotes: they would have to be escaped in CEL.
    pub pattern: &'a str,
}

impl<'a> TextRule<'a> {
    /// Reads a rule of a schema; none if it is another one.
    pub fn read(rule: &'a str) -> Option<Self> {
        let (of, matches) = match rule.strip_prefix("!self.startsWith('") {
            Some(rest) => rest.split_once("') || ")?,
            None => ("", rule),
        };
        let pattern = matches.strip_prefix("self.matches('")?.strip_suffix("')")?;
        (!pattern.contains(['\\', '\''])).then_some(TextRule { of, pattern })
    }

    /// The pattern that this text must match; none if the rule does not judge it.
    pub fn is_about(&self, text: &str) -> Option<&'a str> {
        text.starts_with(self.of).then_some(self.pattern)
    }
}

/// The rule in CEL.
impl fmt::Display for TextRule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TextRule { of, pattern } = self;
        if !of.is_empty() {
            write!(f, "!self.startsWith('{of}') || ")?;
        }
        write!(f, "self.matches('{pattern}')")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(TextRule { of: "", pattern: "^[a-z]$" }, "self.matches('^[a-z]$')")]
    #[case(TextRule { of: "iqn.", pattern: "^iqn[.]" }, "!self.startsWith('iqn.') || self.matches('^iqn[.]')")]
    fn a_rule_is_read_as_it_is_written(#[case] rule: TextRule<'_>, #[case] cel: &str) {
        assert_eq!(rule.to_string(), cel);
        assert_eq!(TextRule::read(cel), Some(rule));
    }

    #[rstest]
    #[case("self == oldSelf")]
    #[case("self.metadata.name.matches('^[a-z]$')")]
    #[case("self.matches('a') && self.matches('b')")]
    fn another_rule_is_not_read(#[case] cel: &str) {
        assert_eq!(TextRule::read(cel), None);
    }
}
