//! The settings of a record: read from the text of its file and changed in it, as open-iscsi itself does it. Pure.
//!
//! A file has one line `name = value` for each setting that is set (`idbm_print` and `idbm_recinfo_config` in open-iscsi's
//! `usr/idbm.c`). iscsiadm takes values only as arguments, which every user of the host can see while it runs, so it makes
//! the record, and the agent puts the settings into the file.

use std::collections::BTreeMap;

use crate::agent::types::credentials::Password;

/// The settings of a record, by name; without those that are not set.
pub type Settings = BTreeMap<String, String>;

/// The last line of a record.
const END: &[u8] = b"# END RECORD";
/// The longest value that open-iscsi reads.
const MAX_BYTES: usize = 255;
/// The longest name of a setting that open-iscsi reads.
const MAX_NAME_BYTES: usize = 127;
/// What every node record has.
const NECESSARY: [&str; 2] = ["node.name", "node.conn[0].address"];
/// Values that stand for no value.
const UNSET: [&str; 3] = ["", "<empty>", "<NULL>"];

/// One setting of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value; empty to unset it.
    pub value: Value,
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A value that may be shown.
    Plain(String),
    /// A value that must not be shown or logged.
    Secret(Password),
}

impl Value {
    /// The text itself, for the record.
    #[must_use]
    pub fn reveal(&self) -> &str {
        match self {
            Value::Plain(text) => text,
            Value::Secret(password) => password.reveal(),
        }
    }
}

/// Reads the text of a record.
#[must_use]
pub fn parse(text: &[u8]) -> Settings {
    text.split(|byte| *byte == b'\n').filter_map(pair).collect()
}

/// Whether open-iscsi can use a text as a node record. It takes any file among its records for one: one without target and
/// portal fails a command about all records, and at a name or value that is too long iscsiadm breaks off.
#[must_use]
pub fn is_usable(text: &[u8]) -> bool {
    let fits = |line: &[u8]| match split(line) {
        Some((name, value)) => name.len() <= MAX_NAME_BYTES && value.len() <= MAX_BYTES,
        None => true,
    };
    let settings = parse(text);
    NECESSARY.iter().all(|name| settings.contains_key(*name)) && text.split(|byte| *byte == b'\n').all(fits)
}

/// Name and value of a line; none for a comment or a setting that is not set.
fn pair(line: &[u8]) -> Option<(String, String)> {
    let (name, value) = split(line)?;
    let value = String::from_utf8_lossy(&value[..value.len().min(MAX_BYTES)]).into_owned();
    (!UNSET.contains(&&*value)).then(|| (String::from_utf8_lossy(name).into_owned(), value))
}

/// Name and value of a line as they are; none for a comment.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = strip(line);
    let at = line.iter().position(|byte| *byte == b'=').filter(|_| !line.starts_with(b"#"))?;
    Some((strip(&line[..at]), strip(&line[at + 1..])))
}

/// Removes what C's `isspace` calls a space at both ends.
fn strip(mut text: &[u8]) -> &[u8] {
    const SPACE: &[u8] = b" \t\n\x0b\x0c\r";
    while let [first, rest @ ..] = text
        && SPACE.contains(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && SPACE.contains(last)
    {
        text = rest;
    }
    text
}

/// The text of a record with other values of these settings, and everything else as it was.
///
/// # Errors
/// The name of a setting that open-iscsi would read back otherwise.
pub fn changed(text: &[u8], changes: &[Setting]) -> Result<Vec<u8>, &'static str> {
    let is_changed = |line: &[u8]| {
        let end = line.iter().position(|byte| *byte == b'=').unwrap_or_default();
        changes.iter().any(|setting| setting.name.as_bytes() == strip(&line[..end]))
    };
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !is_changed(line)).collect();
    let new: Vec<String> = changes
        .iter()
        .filter(|setting| !setting.value.reveal().is_empty())
        .map(|setting| format!("{} = {}", setting.name, setting.value.reveal()))
        .collect();
    let end = lines.iter().rposition(|line| strip(line) == END).unwrap_or(lines.len());
    for line in new.iter().rev() {
        lines.insert(end, line.as_bytes());
    }
    let mut text = lines.join(&b'\n');
    text.push(b'\n');

    let found = parse(&text);
    let is_kept = |setting: &Setting| found.get(setting.name).map_or("", String::as_str) == setting.value.reveal();
    match changes.iter().find(|setting| !is_kept(setting)) {
        Some(setting) => Err(setting.name),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz};

    fuzz! {
        any_record_is_read_and_changed: "node-record" => |input| {
            let changes = [set("node.startup", "manual"), set("node.session.auth.password", "")];
            let (before, after) = (parse(input), parse(&changed(input, &changes).unwrap()));
            assert!(!is_usable(input) || before.contains_key("node.name"));
            let others = |settings: &Settings| {
                let is_other = |name: &String| changes.iter().all(|change| change.name != name);
                settings.clone().into_iter().filter(|(name, _)| is_other(name)).collect::<Settings>()
            };
            assert_eq!(others(&after), others(&before));
            assert_eq!((after["node.startup"].as_str(), after.get("node.session.auth.password")), ("manual", None));
            Parsed::new().texts(before.into_iter().flat_map(|(name, value)| [name, value]))
        };
    }

    const RECORD: &str = "# BEGIN RECORD 2.1.8\nnode.name = iqn.a\nnode.startup = automatic\n\
                          iface.iscsi_ifacename = mb.ens1\nnode.session.auth.username = ann\n\
                          node.session.auth.password = hunter2\nnode.conn[0].address = 10.0.1.10\n# END RECORD\n";

    fn set(name: &'static str, value: &str) -> Setting {
        Setting { name, value: Value::Secret(Password::from(value.to_owned())) }
    }

    fn text(changes: &[Setting]) -> String {
        String::from_utf8(changed(RECORD.as_bytes(), changes).unwrap()).unwrap()
    }

    #[test]
    fn a_change_leaves_every_other_line_as_it_was() {
        let changes = [
            set("node.startup", "manual"),
            set("node.session.auth.password", "hunter3"),
            set("node.session.auth.username", ""),
            set("node.session.auth.password_in", "sesame"),
        ];
        assert_eq!(
            text(&changes),
            "# BEGIN RECORD 2.1.8\nnode.name = iqn.a\niface.iscsi_ifacename = mb.ens1\n\
             node.conn[0].address = 10.0.1.10\nnode.startup = manual\nnode.session.auth.password = hunter3\n\
             node.session.auth.password_in = sesame\n# END RECORD\n"
        );
        assert_eq!(text(&[]), RECORD);
    }

    #[test]
    fn a_setting_that_is_there_twice_or_in_another_form_is_replaced() {
        let old = b"node.startup=automatic\n\n \tnode.startup \t= onboot\r\nnode.tpgt = 1";
        let new = changed(old, &[set("node.startup", "manual")]).unwrap();
        assert_eq!(String::from_utf8(new).unwrap(), "\nnode.tpgt = 1\nnode.startup = manual\n");
    }

    #[test]
    fn other_lines_may_hold_any_bytes() {
        let old = b"node.session.auth.password = \xff\xfe\niface.initiatorname = \xe9\n";
        let new = changed(old, &[set("node.session.auth.password", "x")]).unwrap();
        assert_eq!(new, b"iface.initiatorname = \xe9\nnode.session.auth.password = x\n");
    }

    #[test]
    fn a_value_is_read_back_as_it_was_or_is_refused() {
        let long = "x".repeat(255);
        for value in ["a b", "#a", "a=b", "=", "= ", "\"a\"", "'a'", "\\n", "-v", "é", "\u{a0}", &long] {
            let name = "node.session.auth.password";
            let result = changed(RECORD.as_bytes(), &[set(name, value)]);
            if value == "= " {
                assert_eq!(result, Err(name));
            } else {
                assert_eq!(parse(&result.unwrap())[name], value);
            }
        }
        for value in [" a", "a\t", "a\u{c}", "a\nnode.startup = automatic", "<empty>", &format!("{long}x")] {
            let result = changed(RECORD.as_bytes(), &[set("node.session.auth.username", value)]);
            assert_eq!(result, Err("node.session.auth.username"), "{value:?}");
        }
    }

    #[test]
    fn comments_and_unset_values_are_no_settings() {
        let settings = parse(b"# node.a = 1\n  # node.b = 2\nnode.c =\nnode.d = <empty>\nnode.e = 5\nnothing\n");
        assert_eq!(settings, Settings::from([("node.e".to_owned(), "5".to_owned())]));
    }

    #[test]
    fn a23_a_secret_setting_is_not_shown() {
        assert!(!format!("{:?}", set("node.session.auth.password", "hunter2")).contains("hunter2"));
    }
}
