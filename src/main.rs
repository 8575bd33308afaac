//! The `multibond` binary.
fn main() {}
