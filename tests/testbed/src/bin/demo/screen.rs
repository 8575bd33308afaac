//! The output on the terminal: a line for each step, while it runs and when it is done.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Instant;

use anyhow::Result;

/// Standard output, which may be a terminal.
pub struct Screen {
    terminal: bool,
    colours: bool,
}

impl Screen {
    /// The screen of this process.
    pub fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        Self { terminal, colours: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// Runs a step. A terminal shows its name while it runs; every output shows it when it is done.
    pub async fn step<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        if self.terminal {
            show(&format!("  … {what}"));
        }
        let started = Instant::now();
        let outcome = work.await;
        let mark = match (&outcome, self.colours) {
            (Ok(_), true) => "\x1b[32m✓\x1b[0m",
            (Ok(_), false) => "✓",
            (Err(_), true) => "\x1b[31m✗\x1b[0m",
            (Err(_), false) => "✗",
        };
        let back = if self.terminal { "\r\x1b[2K" } else { "" };
        show(&format!("{back}  {mark} {what} ({:.1} s)\n", started.elapsed().as_secs_f32()));
        outcome
    }
}

/// Shows a text as it is.
pub fn show(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody may read the output any more, so the error is ignored.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
