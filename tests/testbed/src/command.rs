//! Running a command until it ends.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::supervisor::Supervisor;

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; `None` if a signal ended the command.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the command ended with exit code 0.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Standard output of a command that succeeded.
    ///
    /// # Errors
    /// If it did not succeed; the error contains its standard error.
    pub fn success(self) -> Result<String> {
        if !self.succeeded() {
            let code = self.code.map_or_else(|| "by a signal".to_owned(), |code| format!("with exit code {code}"));
            bail!("`{}` ended {code}: {}{}", self.command, self.stderr.trim_end(), self.stdout.trim_end());
        }
        Ok(self.stdout)
    }

    /// Standard error of a command that was refused.
    ///
    /// # Errors
    /// If it succeeded.
    pub fn failure(self) -> Result<String> {
        if self.succeeded() {
            bail!("`{}` succeeded, it should have been refused: {}", self.command, self.stdout.trim_end());
        }
        Ok(self.stderr)
    }
}

/// Runs a command until it ends, with `stdin` as its standard input. It is killed when this process ends or this future
/// is dropped.
pub(crate) async fn run(command: &mut Command, stdin: &str) -> Result<Output> {
    let line = std::iter::once(command.as_std().get_program())
        .chain(command.as_std().get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(Supervisor::get()?.group())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run `{line}`"))?;
    let input = child.stdin.take();
    let feed = async {
        if let Some(mut input) = input {
            // If a command does not read all of its input, its exit code tells why.
            let _ = input.write_all(stdin.as_bytes()).await;
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output.with_context(|| format!("cannot wait for `{line}`"))?;
    Ok(Output {
        command: line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Prints a line on the terminal, also from a test whose output is captured.
pub(crate) fn say(line: &str) {
    // Without a terminal there is no place to write to, so the error is ignored.
    let _ = writeln!(std::io::stderr().lock(), "multibond-testbed: {line}");
}
