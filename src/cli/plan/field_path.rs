//! The position of a value in a document: `spec.storage[0].name`, as Kubernetes writes it.

use std::fmt;

/// The path of a value in a document. It borrows its parents, so that text is made only for a message.
#[derive(Clone, Copy, Debug)]
pub enum FieldPath<'a> {
    /// The whole document.
    Root,
    /// A field of an object.
    Field(&'a FieldPath<'a>, &'a str),
    /// An item of a list.
    Index(&'a FieldPath<'a>, usize),
}

impl FieldPath<'_> {
    /// The path of a field of this value.
    pub fn field<'a>(&'a self, name: &'a str) -> FieldPath<'a> {
        FieldPath::Field(self, name)
    }

    /// The path of an item of this list.
    pub fn index(&self, index: usize) -> FieldPath<'_> {
        FieldPath::Index(self, index)
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldPath::Root => Ok(()),
            // Keys of labels and annotations contain dots and slashes.
            FieldPath::Field(parent, name) if name.contains(['.', '/', '[', ' ']) => write!(f, "{parent}[{name:?}]"),
            FieldPath::Field(FieldPath::Root, name) => f.write_str(name),
            FieldPath::Field(parent, name) => write!(f, "{parent}.{name}"),
            FieldPath::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}
