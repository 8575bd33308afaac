//! A page: a title, the pages above it, and its fragments.

use super::fragment::Fragment;

/// A page in parts.
pub struct Page {
    /// What it shows.
    pub title: String,
    /// Where it is: titles and addresses of the pages above it.
    pub above: Vec<(String, String)>,
    /// Whether there is what it shows.
    pub found: bool,
    /// What is on it.
    pub parts: Vec<Fragment>,
}
