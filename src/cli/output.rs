//! Writes to standard output and standard error, even if the reader has gone; colours and columns of a terminal.
//!
//! Renderers style their text always. [`print_styled`] removes the styles where they are not wanted: without a terminal,
//! with `NO_COLOR` (<https://no-color.org>), or on a terminal that cannot show them.

use std::fmt;
use std::io::{self, Write};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use crate::ops::for_terminal;

/// A heading, or something that is neither good nor bad.
pub const BOLD: Style = Style::new().bold();
/// Something has failed.
pub const RED: Style = AnsiColor::Red.on_default();
/// All is well.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// A state between good and failed, or not known yet.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();

/// Writes text to standard output as it is. A reader that has gone (`multibond crds | head -1`) is no error.
///
/// # Errors
/// If it cannot be written for another reason, such as a full disk.
pub fn print(text: &str) -> io::Result<()> {
    write(io::stdout().lock(), text)
}

/// Writes styled text to standard output, without its styles where they are not wanted, and without anything else that a
/// terminal would obey.
///
/// # Errors
/// As [`print()`].
pub fn print_styled(text: &str) -> io::Result<()> {
    write(AutoStream::auto(io::stdout()).lock(), &for_terminal(text))
}

fn write(mut out: impl Write, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes a line to standard error, without anything that a terminal would obey. If that fails too, there is nowhere left
/// to report it.
pub fn complain(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{}", for_terminal(&line.to_string()));
}

/// Whether log lines on standard error may have colours.
pub fn colours_in_logs() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// The output format of a subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON object
    Json,
    /// The same as YAML
    Yaml,
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// The text in a style.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The text without styles.
pub fn plain(text: &str) -> String {
    strip_str(text).to_string()
}

/// Rows as aligned columns, each line indented.
pub fn columns(rows: &[Vec<String>], indent: &str) -> String {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (cell, widest) in row.iter().zip(&mut widths) {
            *widest = width(cell).max(*widest);
        }
    }
    rows.iter().map(|row| aligned(row, &widths, indent)).collect()
}

fn aligned(row: &[String], widths: &[usize], indent: &str) -> String {
    let mut line = indent.to_owned();
    for (cell, widest) in row.iter().zip(widths) {
        line.extend([cell, &" ".repeat(widest - width(cell)), "  "]);
    }
    line.trim_end().to_owned() + "\n"
}

/// The number of terminal columns that a styled text takes.
fn width(text: &str) -> usize {
    plain(text).width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_their_styles_and_letters() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = [row([&paint(RED, "no"), "1"]), row(["größer", "2"]), row(["光", "3"])];
        assert_eq!(plain(&columns(&rows, " ")), " no      1\n größer  2\n 光      3\n");
    }
}
