//! What `iscsiadm` prints: read as it is, shown without secrets.

/// The output of a command. A CHAP user may be called `lock` or `iscsi`, so words are looked for in the text as it is;
/// whatever is shown or logged goes through [`Printed::shown`].
#[derive(Clone, Copy)]
pub struct Printed<'a> {
    text: &'a str,
    secrets: &'a [&'a str],
}

impl<'a> Printed<'a> {
    /// The output of a command that may have been given these secrets.
    #[must_use]
    pub fn new(text: &'a str, secrets: &'a [&'a str]) -> Self {
        Printed { text, secrets }
    }

    /// Whether one of these words is in the text.
    #[must_use]
    pub fn has(self, words: &[&str]) -> bool {
        words.iter().any(|word| self.text.contains(word))
    }

    /// The messages of the tool, without its name before them. They are not for showing.
    #[must_use]
    pub fn messages(self) -> impl DoubleEndedIterator<Item = &'a str> {
        self.text.lines().filter_map(|line| line.trim().strip_prefix("iscsiadm: "))
    }

    /// All of it, without secrets.
    #[must_use]
    pub fn all_shown(self) -> String {
        self.shown(self.text.trim())
    }

    /// A part of it without secrets; of two that begin at the same place, the longer goes.
    #[must_use]
    pub fn shown(self, part: &str) -> String {
        let mut shown = String::new();
        let mut rest = part;
        while let Some(first) = rest.chars().next() {
            let begins = |secret: &&&str| !secret.is_empty() && rest.starts_with(**secret);
            if let Some(secret) = self.secrets.iter().filter(begins).max_by_key(|secret| secret.len()) {
                shown.push_str("[redacted]");
                rest = &rest[secret.len()..];
            } else {
                shown.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    fuzz! {
        any_output_loses_its_secrets: "iscsiadm" => |input| {
            let text = lossy(input);
            let printed = Printed::new(&text, &["ann", "hunter2", "hunter22"]);
            for shown in printed.messages().map(|message| printed.shown(message)).chain([printed.all_shown()]) {
                assert!(!shown.contains("hunter2") && !shown.contains("ann"), "{shown}");
            }
            Parsed::new()
        };
    }

    #[test]
    fn a23_secrets_in_the_output_are_redacted() {
        let cases: [(&[&str], &str); 4] = [
            (&["hunter2", "", "hunter22"], "iscsiadm: bad value [redacted] or [redacted]"),
            (&["hunter22", "hunter2"], "iscsiadm: bad value [redacted] or [redacted]"),
            (&["hunter2", "red", "hunter22"], "iscsiadm: bad value [redacted] or [redacted]"),
            (&["é", "2"], "iscsiadm: bad value hunter[redacted] or hunter[redacted][redacted]"),
        ];
        for (secrets, expected) in cases {
            let printed = Printed::new("\niscsiadm: bad value hunter2 or hunter22\n", secrets);
            assert_eq!(printed.all_shown(), expected, "{secrets:?}");
        }
    }
}
