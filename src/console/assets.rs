//! The style sheet and the script of the pages, which are part of the binary.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

/// The path of the style sheet.
pub const STYLE: &str = "/console.css";
/// The path of the script.
pub const SCRIPT: &str = "/console.js";

/// The style sheet.
pub fn style() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("assets/console.css"))
}

/// The script.
pub fn script() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("assets/console.js"))
}
