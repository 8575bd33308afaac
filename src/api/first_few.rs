//! Lists in messages: the first few items, and how many more there are.

use std::fmt::Write as _;

/// The first `shown` items as text, and the number of the others: `a, b, and 3 more`. It keeps messages short, because
/// the size of an object is limited.
#[must_use]
pub fn first_few<T>(items: &[T], shown: usize, describe: impl Fn(&T) -> String) -> String {
    let mut text = items.iter().take(shown).map(describe).collect::<Vec<_>>().join(", ");
    if items.len() > shown {
        let _ = write!(text, ", and {} more", items.len() - shown);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::first_few;

    #[test]
    fn a_long_list_ends_with_the_number_of_the_others() {
        let listed = |count: u8| first_few(&(1..=count).collect::<Vec<_>>(), 2, u8::to_string);
        assert_eq!([listed(0), listed(2), listed(3)], ["", "1, 2", "1, 2, and 1 more"]);
    }
}
