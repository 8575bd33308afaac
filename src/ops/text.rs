//! Text from outside, made fit to be shown.
//!
//! Tools, processes, mount points and other people's manifests choose such a text. A terminal obeys the control characters
//! in it, and a status has room for messages only.

/// The longest foreign text in a message, in characters.
const LONGEST: usize = 256;
/// In place of a character that must not be shown.
const REPLACEMENT: char = '\u{fffd}';

/// A foreign text as part of a message: one line, no control characters, and no longer than a message needs.
#[must_use]
pub fn one_line(text: &str) -> String {
    let text = text.trim();
    let one_line = |letter: char| if letter.is_whitespace() { ' ' } else { shown(letter) };
    let mut line: String = text.chars().take(LONGEST).map(one_line).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

/// A text of several lines for a terminal: with the colours in it, and without anything else that a terminal obeys.
#[must_use]
pub fn for_terminal(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let style = style_length(rest);
        if style > 0 {
            safe.push_str(&rest[..style]);
            rest = &rest[style..];
        } else {
            safe.push(if matches!(letter, '\n' | '\t') { letter } else { shown(letter) });
            rest = &rest[letter.len_utf8()..];
        }
    }
    safe
}

/// The length of the colour or style that a text begins with: `ESC [ NUMBERS m`; 0 if it begins with none.
fn style_length(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else { return 0 };
    let length = parameters.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    if parameters.as_bytes().get(length) == Some(&b'm') { length + 3 } else { 0 }
}

/// The character itself, unless a terminal obeys it or it changes the direction of what follows.
fn shown(letter: char) -> char {
    let changes_direction =
        matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if letter.is_control() || changes_direction { REPLACEMENT } else { letter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_in_a_message_is_one_line_without_control_characters() {
        assert_eq!(one_line(" a\tb\nc \n"), "a b c");
        assert_eq!(one_line("\u{1b}]0;x\u{7} \u{9b}2J \u{202e}txt"), "\u{fffd}]0;x\u{fffd} \u{fffd}2J \u{fffd}txt");
        assert_eq!(one_line("größer 光"), "größer 光");
    }

    #[test]
    fn a_foreign_text_in_a_message_has_a_longest_length() {
        assert_eq!(one_line(&"ä".repeat(256)), "ä".repeat(256));
        assert_eq!(one_line(&"ä".repeat(257)), format!("{}…", "ä".repeat(256)));
    }

    #[test]
    fn only_colours_and_styles_reach_a_terminal() {
        assert_eq!(
            for_terminal("\u{1b}[1m\u{1b}[38;5;9mbold\u{1b}[0m\n\tx\n"),
            "\u{1b}[1m\u{1b}[38;5;9mbold\u{1b}[0m\n\tx\n"
        );
        assert_eq!(for_terminal("\u{1b}[2J\u{1b}]0;x\u{7}\u{1b}[1"), "\u{fffd}[2J\u{fffd}]0;x\u{fffd}\u{fffd}[1");
    }
}
