//! Types that all parts of the agent share: the identity of a path, and CHAP credentials.

pub mod credentials;
mod path;

pub use path::IscsiPath;
