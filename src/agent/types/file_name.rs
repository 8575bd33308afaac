//! A text that may become one component of a path on the host, and an argument of its tools.

use std::{fmt, ops::Deref, sync::Arc};

use crate::api::iscsi_name;

/// A text that is safe as one component of a path, and as an argument: it has no `/`, no `..` and no control character.
/// There is no other way to make one than [`FileName::new`], so nothing else reaches the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(Arc<str>);

impl FileName {
    /// Takes a text; the error says what is wrong with it.
    ///
    /// # Errors
    /// If the text would leave its directory, or cannot be an argument.
    pub fn new(text: &str) -> Result<Self, UnsafeText> {
        match iscsi_name::why_unsafe(text) {
            None => Ok(FileName(text.into())),
            Some(why) => Err(UnsafeText { text: text.into(), why }),
        }
    }
}

/// A text that must not reach the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {why}, so it is not used on the host")]
pub struct UnsafeText {
    text: String,
    why: &'static str,
}

impl Deref for FileName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, f)
    }
}

impl PartialEq<String> for FileName {
    fn eq(&self, other: &String) -> bool {
        *self.0 == **other
    }
}

#[cfg(test)]
impl From<&str> for FileName {
    fn from(text: &str) -> Self {
        FileName::new(text).unwrap()
    }
}
