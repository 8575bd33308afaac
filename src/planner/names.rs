//! Names in messages: how many are listed, and what a name that refers to nothing was probably meant to be.

use super::view::View;

/// The number of targets, paths or warnings that a message of a Host lists.
pub(super) const HOST_SHOWN: usize = 4;

/// A name that refers to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// The name as it is written.
    pub name: String,
    /// The first few names that it is probably a mistyped form of.
    pub near_misses: Vec<String>,
}

impl UnknownName {
    /// The name of a network that the data center does not have.
    pub(super) fn of_network(view: &View, name: &str) -> Self {
        let near_misses = view.near_networks(name).into_iter().map(ToOwned::to_owned).collect();
        UnknownName { name: name.to_owned(), near_misses }
    }

    /// The name, and what was probably meant.
    pub(super) fn describe(&self) -> String {
        if self.near_misses.is_empty() {
            return self.name.clone();
        }
        format!("{} (did you mean {}?)", self.name, self.near_misses.join(" or "))
    }
}
