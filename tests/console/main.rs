//! The console in a real browser: headless Chromium, the real binary, a real control plane with the controller and
//! simulated agents.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod attacks;
mod browser;
mod command;
mod console;
mod forms;
mod live;
mod looks;

use multibond_testbed::site;
mod steps;
