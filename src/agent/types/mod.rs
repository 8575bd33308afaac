//! What all parts of the agent speak of: the identity of a path, and CHAP credentials.

pub mod credentials;
mod path;

pub use path::IscsiPath;
