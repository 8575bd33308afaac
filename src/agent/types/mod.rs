//! Types that all parts of the agent share: the identity of a path, texts for the host, and CHAP credentials.

pub mod credentials;
mod file_name;
mod path;

pub use file_name::{FileName, UnsafeText};
pub use path::IscsiPath;
