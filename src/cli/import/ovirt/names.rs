//! Names of oVirt as names of Kubernetes: those may have capitals, spaces and more.

use std::collections::BTreeMap;

/// The longest DNS label.
const LABEL: usize = 63;

/// Names of one kind in one place: each is given once.
#[derive(Debug, Default)]
pub struct Names {
    /// By key, which is an id of oVirt.
    given: BTreeMap<String, String>,
}

impl Names {
    /// The name of an object, of which `name` is what it has in oVirt; the same for the same key.
    pub fn give(&mut self, key: &str, name: &str) -> String {
        if let Some(given) = self.given.get(key) {
            return given.clone();
        }
        let wanted = label(name);
        let free = |name: &String| !self.given.values().any(|given| given == name);
        let numbered = (2_usize..).map(|number| {
            let end = format!("-{number}");
            let kept: String = wanted.chars().take(LABEL - end.len()).collect();
            format!("{}{end}", kept.trim_end_matches('-'))
        });
        let given = std::iter::once(wanted.clone()).chain(numbered).find(free).unwrap_or(wanted);
        self.given.insert(key.to_owned(), given.clone());
        given
    }
}

/// The nearest DNS label: lower case, everything else than letters and digits is `-`.
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
    label.truncate(LABEL);
    let label = label.trim_matches('-');
    if label.is_empty() { "unnamed".to_owned() } else { label.to_owned() }
}

/// The nearest DNS subdomain, which the name of a Node is.
pub fn subdomain(name: &str) -> String {
    name.split('.').map(label).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_suits_stays() {
        assert_eq!(Names::default().give("1", "san-a"), "san-a");
    }

    #[test]
    fn a_name_that_does_not_suit_becomes_the_nearest_that_does() {
        for (name, expected) in [
            ("SAN A", "san-a"),
            ("__San__B__", "san-b"),
            ("Größe 2", "gr-e-2"),
            ("...", "unnamed"),
            (&"x".repeat(80), &"x".repeat(63)),
        ] {
            assert_eq!(Names::default().give("1", name), expected, "{name}");
        }
        assert_eq!(subdomain("Node_1.Example.COM"), "node-1.example.com");
    }

    #[test]
    fn two_names_that_become_the_same_are_told_apart() {
        let mut names = Names::default();
        let long = "y".repeat(70);
        assert_eq!(names.give("1", "San A"), "san-a");
        assert_eq!(names.give("2", "san_a"), "san-a-2");
        assert_eq!(names.give("1", "San A"), "san-a");
        assert_eq!(names.give("3", &long), "y".repeat(63));
        assert_eq!(names.give("4", &long), format!("{}-2", "y".repeat(61)));
    }
}
