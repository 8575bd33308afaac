//! Converts names of oVirt, which may have capitals, spaces and more, to names of Kubernetes.

use std::collections::BTreeMap;

/// The length of the longest DNS label.
const LABEL_LENGTH: usize = 63;

/// The names of one kind in one namespace; each is unique.
#[derive(Debug, Default)]
pub struct UniqueNames {
    /// By the id of the object in oVirt.
    given: BTreeMap<String, String>,
}

impl UniqueNames {
    /// The Kubernetes name of the object that oVirt knows by the id `key` and the name `name`. The same key gets the same
    /// name again.
    pub fn give(&mut self, key: &str, name: &str) -> String {
        if let Some(given) = self.given.get(key) {
            return given.clone();
        }
        let wanted = label(name);
        let free = |name: &String| !self.given.values().any(|given| given == name);
        let numbered = (2_usize..).map(|number| {
            let end = format!("-{number}");
            let kept: String = wanted.chars().take(LABEL_LENGTH - end.len()).collect();
            format!("{}{end}", kept.trim_end_matches('-'))
        });
        let given = std::iter::once(wanted.clone()).chain(numbered).find(free).unwrap_or(wanted);
        self.given.insert(key.to_owned(), given.clone());
        given
    }
}

/// The nearest DNS label: lower case, with `-` for everything that is not a letter or digit.
fn label(name: &str) -> String {
    let lower = name.to_lowercase();
    let mut label = String::new();
    for letter in lower.chars() {
        match letter {
            'a'..='z' | '0'..='9' => label.push(letter),
            _ if label.ends_with('-') || label.is_empty() => {}
            _ => label.push('-'),
        }
    }
    label.truncate(LABEL_LENGTH);
    let label = label.trim_matches('-');
    if label.is_empty() { "unnamed".to_owned() } else { label.to_owned() }
}

/// The nearest DNS subdomain, the form of the name of a Node.
pub fn subdomain(name: &str) -> String {
    name.split('.').map(label).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_name_stays() {
        assert_eq!(UniqueNames::default().give("1", "san-a"), "san-a");
    }

    #[test]
    fn an_invalid_name_becomes_the_nearest_valid_one() {
        for (name, expected) in [
            ("SAN A", "san-a"),
            ("__San__B__", "san-b"),
            ("Größe 2", "gr-e-2"),
            ("...", "unnamed"),
            (&"x".repeat(80), &"x".repeat(63)),
        ] {
            assert_eq!(UniqueNames::default().give("1", name), expected, "{name}");
        }
        assert_eq!(subdomain("Node_1.Example.COM"), "node-1.example.com");
    }

    #[test]
    fn two_names_that_become_equal_get_numbers() {
        let mut names = UniqueNames::default();
        let long = "y".repeat(70);
        assert_eq!(names.give("1", "San A"), "san-a");
        assert_eq!(names.give("2", "san_a"), "san-a-2");
        assert_eq!(names.give("1", "San A"), "san-a");
        assert_eq!(names.give("3", &long), "y".repeat(63));
        assert_eq!(names.give("4", &long), format!("{}-2", "y".repeat(61)));
    }
}
