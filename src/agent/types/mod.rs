//! Types that all parts of the agent share: the identity of a path and of a Host, texts for the host, and CHAP credentials.

pub mod credentials;
mod file_name;
mod host_id;
mod path;

pub use file_name::{FileName, UnsafeText};
pub use host_id::HostId;
pub use path::IscsiPath;
