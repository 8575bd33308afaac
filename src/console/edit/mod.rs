//! Forms that create, change and delete: from a form's fields to a [`Change`] of one object.

mod bond;
pub mod change;
mod data_center;
mod errors;
mod form;
mod host;
mod network;
mod storage;
mod subject;

pub use self::change::{Change, Object};
pub use self::errors::Errors;
pub use self::form::{Choice, GENERATION, Input, InputKind};
pub use self::subject::{FormAction, Subject};
