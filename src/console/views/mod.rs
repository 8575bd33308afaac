//! The views: pure functions from the model to the HTML of pages. The templates escape every text.

mod data_center;
mod data_centers;
mod form;
mod frame;
mod members;
mod text;

pub use self::data_center::data_center;
pub use self::data_centers::data_centers;
pub use self::form::{Form, form, no_preview, preview};
pub use self::frame::{document, gone, unreadable};
pub use self::members::{bond, host};
