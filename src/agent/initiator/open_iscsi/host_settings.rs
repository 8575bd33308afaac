//! Settings of the host's open-iscsi that break a promise of the agent: they are said before they hurt.

use super::records::{database::DIRECTORIES, settings::parse};
use crate::{
    agent::host::host_root::HostRoot,
    api::{HostWarning, reason::PreparedReason},
};

/// The configuration of iscsid, below the root directory.
const CONFIG: &str = "etc/iscsi/iscsid.conf";
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

fn safe_logout(config: &[u8]) -> Option<HostWarning> {
    let settings = parse(config);
    let is_set = settings.get(SAFE_LOGOUT).is_some_and(|value| value.eq_ignore_ascii_case("yes"));
    let message = format!(
        "iscsid refuses to log out a session while something is mounted over it, also where another path serves it, so \
         that a path that leaves the plan stays; {SAFE_LOGOUT_ADVICE}"
    );
    is_set.then_some(HostWarning { reason: PreparedReason::SafeLogout, message })
}

/// `databases` are the directories with node records, and whether each is on a read-only file system.
fn read_only(databases: &[(&str, bool)]) -> Option<HostWarning> {
    let (directory, _) = databases.first()?;
    let message = format!(
        "open-iscsi's node database in /{directory} is on a read-only file system, so no path can be added or logged in \
         again with other settings; mount it writable"
    );
    databases
        .iter()
        .all(|(_, is_read_only)| *is_read_only)
        .then_some(HostWarning { reason: PreparedReason::ReadOnlyDatabase, message })
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
    fn a55_a_database_is_read_only_if_no_part_of_it_can_be_written() {
        let reason = [PreparedReason::ReadOnlyDatabase];
        assert_eq!(reasons(read_only(&[("etc/iscsi", true)])), reason);
        assert_eq!(reasons(read_only(&[("etc/iscsi", true), ("var/lib/iscsi", false)])), []);
        assert_eq!(reasons(read_only(&[])), []);
    }

    fuzz! {
        any_iscsid_configuration_is_read: "iscsid-config" => |input| {
            Parsed::new().shown(safe_logout(input).map(|warning| warning.message))
        };
    }
}
