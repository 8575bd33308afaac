//! Settings of the host's open-iscsi that break a promise of the agent: they are said before they hurt.

use super::records::{database::DIRECTORIES, settings::parse};
use crate::{
    agent::host::host_root::HostRoot,
    api::{HostWarning, first_few, reason::PreparedReason},
    ops::one_line,
};

/// The configuration of iscsid, below the root directory.
const CONFIG: &str = "etc/iscsi/iscsid.conf";
/// The number of files that a message names.
const SHOWN: usize = 3;
const SAFE_LOGOUT: &str = "iscsid.safe_logout";

/// The advice for a host on which iscsid refuses logouts.
pub(super) const SAFE_LOGOUT_ADVICE: &str =
    "set iscsid.safe_logout = No in /etc/iscsi/iscsid.conf, and restart iscsid, which costs no session";

/// The warnings about the host with this root directory.
pub(super) fn warnings(root: &HostRoot) -> Vec<HostWarning> {
    let config = root.read(CONFIG).unwrap_or_default();
    let databases: Vec<(&str, bool)> = DIRECTORIES
        .into_iter()
        .filter(|directory| root.metadata(format!("{directory}/nodes")).is_ok())
        .filter_map(|directory| Some((directory, root.is_read_only(format!("{directory}/nodes")).ok()?)))
        .collect();
    [safe_logout(&config), read_only(&databases)].into_iter().flatten().collect()
}

/// The warning about files, relative to the root directory, that open-iscsi cannot use as records.
pub(super) fn unusable_records(files: &[String]) -> Option<HostWarning> {
    let listed = first_few(files, SHOWN, |file| one_line(&format!("/{file}")));
    let message = format!(
        "open-iscsi takes {listed} for a record and cannot use it, so iscsiadm -m node without a target fails, or breaks \
         off, for every tool of the host; find out who made it, and remove it"
    );
    (!files.is_empty()).then_some(HostWarning { reason: PreparedReason::UnusableRecord, message })
}

fn safe_logout(config: &[u8]) -> Option<HostWarning> {
    let settings = parse(config);
    let is_set = settings.get(SAFE_LOGOUT).is_some_and(|value| value.eq_ignore_ascii_case("yes"));
    let message = format!(
        "iscsid refuses to log out a session while something is mounted over it, also where another path serves it, so \
         that a path that leaves the plan stays; {SAFE_LOGOUT_ADVICE}"
    );
    is_set.then_some(HostWarning { reason: PreparedReason::SafeLogout, message })
}

/// `databases` are the directories with node records, and whether each is on a read-only file system. open-iscsi uses the
/// first; an upgrade may have left the other behind.
fn read_only(databases: &[(&str, bool)]) -> Option<HostWarning> {
    let (directory, is_read_only) = databases.first()?;
    let message = format!(
        "open-iscsi's node database in /{directory} is on a read-only file system, so no path can be added or logged in \
         again with other settings; mount it writable"
    );
    is_read_only.then_some(HostWarning { reason: PreparedReason::ReadOnlyDatabase, message })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fuzz::{Parsed, fuzz};

    fn reasons(found: impl IntoIterator<Item = HostWarning>) -> Vec<PreparedReason> {
        found.into_iter().map(|warning| warning.reason).collect()
    }

    #[test]
    fn a55_safe_logout_is_warned_about_while_it_is_set() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/iscsi/nodes")).unwrap();
        let host = HostRoot::open(root.path()).unwrap();
        assert_eq!(warnings(&host), [], "there is no such file");
        for (line, expected) in [
            ("iscsid.safe_logout = Yes", true),
            ("iscsid.safe_logout=yes", true),
            ("# iscsid.safe_logout = Yes", false),
            ("iscsid.safe_logout = No", false),
        ] {
            fs::write(root.path().join(CONFIG), format!("node.startup = manual\n{line}\n")).unwrap();
            assert_eq!(reasons(warnings(&host)), [PreparedReason::SafeLogout][..usize::from(expected)], "{line}");
        }
    }

    #[test]
    fn a55_the_database_that_open_iscsi_uses_is_said_to_be_read_only() {
        let reason = [PreparedReason::ReadOnlyDatabase];
        assert_eq!(reasons(read_only(&[("etc/iscsi", true)])), reason);
        assert_eq!(
            reasons(read_only(&[("var/lib/iscsi", true), ("etc/iscsi", false)])),
            reason,
            "the other is left over"
        );
        assert_eq!(reasons(read_only(&[("var/lib/iscsi", false), ("etc/iscsi", true)])), []);
        assert_eq!(reasons(read_only(&[])), []);
    }

    #[test]
    fn a55_a_file_that_is_no_record_is_named_and_escaped() {
        assert_eq!(unusable_records(&[]), None);
        let files =
            ["etc/iscsi/nodes/iqn.b/10.0.9.10,3260,2/x\u{1b}[31m\n".to_owned(), "etc/iscsi/nodes/stray".to_owned()];
        let found = unusable_records(&files).unwrap();
        assert_eq!(found.reason, PreparedReason::UnusableRecord);
        let named = "/etc/iscsi/nodes/iqn.b/10.0.9.10,3260,2/x\u{fffd}[31m, /etc/iscsi/nodes/stray";
        assert!(found.message.contains(named), "{}", found.message);
        let many: Vec<String> = (0..1000).map(|number| format!("etc/iscsi/nodes/{number}")).collect();
        assert!(unusable_records(&many).unwrap().message.len() < 500);
    }

    fuzz! {
        any_iscsid_configuration_is_read: "iscsid-config" => |input| {
            Parsed::new().shown(safe_logout(input).map(|warning| warning.message))
        };
    }
}
