//! The style and the script, which are part of the binary.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

/// Where the style is.
pub const STYLE: &str = "/console.css";
/// Where the script is.
pub const SCRIPT: &str = "/console.js";

/// The style.
pub fn style() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("assets/console.css"))
}

/// The script.
pub fn script() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("assets/console.js"))
}
