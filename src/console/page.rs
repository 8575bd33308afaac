//! A page: a title, the pages above it, and its fragments.

use super::fragment::Fragment;

/// A page that shows objects, and is kept up to date while it is open.
pub struct Page {
    /// The title of the document.
    pub title: String,
    /// Titles and addresses of the pages above it, the first page first.
    pub above: Vec<(String, String)>,
    /// The object that the page shows exists.
    pub found: bool,
    /// The content.
    pub fragments: Vec<Fragment>,
}
