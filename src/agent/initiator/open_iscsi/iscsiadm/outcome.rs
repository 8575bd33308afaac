//! What an exit code of `iscsiadm` means, which depends on what was asked. Pure.
//!
//! The codes are those of open-iscsi's `include/iscsi_err.h`; what is printed is looked at only where one code stands
//! for several things.

use super::command::Kind;
use crate::{agent::initiator::PathError, api::reason::PathReason};

/// Where open-iscsi's lock is.
pub const LOCK: &str = "/run/lock/iscsi/lock.write";

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, as far as the tool knows.
    Done,
    /// The tool found nothing to do, or does not know: what sysfs shows counts.
    Look(PathError),
    /// It may go well in a moment.
    Again(PathError),
    /// Our record is not there, or cannot be read: it has to be made anew.
    Remake(PathError),
    /// It has failed.
    Failed(PathError),
}

/// Judges how the tool has ended. `what` names the command for people, `printed` is what the tool wrote, without
/// secrets.
#[must_use]
pub fn judge(code: Option<i32>, printed: &str, kind: Kind, what: &str) -> Outcome {
    let Some(code) = code else {
        return Outcome::Failed(PathError::new(
            PathReason::Internal,
            format!("{what} has failed: iscsiadm was ended by a signal"),
        ));
    };
    let error = |reason, why: &str| PathError::new(reason, format!("{what} has failed: {why}{}", quoted(printed)));
    let failed = |reason, why: &str| Outcome::Failed(error(reason, why));
    let has = |words: &[&str]| words.iter().any(|word| printed.contains(word));
    match (code, kind) {
        (0, _) | (21, Kind::Delete) => Outcome::Done,
        (15, Kind::Login) => Outcome::Look(error(PathReason::Internal, "iscsiadm says that the session exists")),
        (2 | 21 | 22, Kind::Logout) => {
            Outcome::Look(if has(&["could not connect to iscsid", "can not connect to iSCSI daemon"]) {
                error(PathReason::InitiatorDown, "iscsid does not answer")
            } else {
                error(PathReason::Internal, "iscsiadm finds no such session")
            })
        }
        (3 | 7, Kind::Delete) if has(&["Could not read iface info"]) => Outcome::Done,
        (15, Kind::Change | Kind::Delete) => failed(PathReason::InUse, "a session uses the record"),
        (6, _) if is_about_the_lock(printed) => locked(what, printed),
        (3, _) if has(&["Could not read iface info"]) => {
            Outcome::Remake(error(PathReason::InvalidRecord, "there is no interface record that can be read"))
        }
        // The transport of an interface record that cannot be read is not found either.
        (7, _) if has(&["Could not insert module tcp", "Could not insert module iscsi_tcp"]) => module_missing(&error),
        (6 | 7 | 21, Kind::Change | Kind::Login) => {
            Outcome::Remake(error(PathReason::InvalidRecord, "open-iscsi cannot find or read the record"))
        }
        (6 | 7, Kind::Delete) => failed(PathReason::InvalidRecord, "open-iscsi cannot delete the record"),
        (22 | 29 | 31, _) => Outcome::Again(error(PathReason::Internal, "iscsiadm asks to try again")),
        (4, Kind::Login) => {
            failed(PathReason::PortalUnreachable, "the portal refuses the connection, or there is no route to it")
        }
        (8, _) => failed(PathReason::PortalUnreachable, "the portal does not answer within the login timeout"),
        (5, _) => failed(PathReason::PortalUnreachable, "the target does not accept the login at the moment"),
        (11 | 33, _) => failed(PathReason::Timeout, "the answer did not come in time"),
        (12, _) => module_missing(&error),
        (13, _) => failed(PathReason::Internal, "it takes root to talk to iscsid"),
        (16, _) => failed(
            PathReason::InitiatorDown,
            "iscsiadm and iscsid are of different versions; restart iscsid, which costs no session",
        ),
        (18, _) => failed(
            PathReason::InitiatorDown,
            "iscsid broke the conversation off: it was stopped, or is of another version than iscsiadm",
        ),
        (19, _) => failed(PathReason::TargetNotFound, "the portal does not have the target, or not for this initiator"),
        (20, _) => failed(PathReason::InitiatorDown, "iscsid does not run; start it (systemctl start iscsid)"),
        (24, _) => failed(PathReason::AuthenticationFailed, "the target refuses the credentials, or this initiator"),
        (28, _) => failed(PathReason::InUse, "a device of the session is in use"),
        (32, _) => failed(PathReason::PortalUnreachable, "the session is lost and being re-established"),
        (4, _) => failed(PathReason::PortalUnreachable, "iscsid could not make a connection"),
        (3, _) => failed(PathReason::Internal, "there is no memory left"),
        (1 | 2 | 6 | 7 | 9 | 10 | 14 | 15 | 17 | 21 | 23 | 25 | 26 | 27 | 30, _) => {
            failed(PathReason::Internal, &format!("iscsiadm has ended with code {code}"))
        }
        (_, _) => failed(PathReason::Internal, &format!("iscsiadm has ended with the unknown code {code}")),
    }
}

/// Whether iscsiadm and iscsid do not understand each other.
#[must_use]
pub fn tells_of_another_version(code: Option<i32>, printed: &str) -> bool {
    code == Some(16) || (code == Some(18) && !printed.contains("daemon died"))
}

/// The error for a lock that nobody gives back.
#[must_use]
pub fn locked(what: &str, printed: &str) -> Outcome {
    Outcome::Failed(PathError::new(
        PathReason::DatabaseLocked,
        format!(
            "{what} has failed: open-iscsi's node database is locked by {LOCK}; what an iscsiadm that was killed has \
             left is removed after half a minute{}",
            quoted(printed)
        ),
    ))
}

fn is_about_the_lock(printed: &str) -> bool {
    ["Could not lock", "acquiring lock", "lock file", "/lock/iscsi"].iter().any(|words| printed.contains(words))
}

fn module_missing(error: &impl Fn(PathReason, &str) -> PathError) -> Outcome {
    Outcome::Failed(error(
        PathReason::KernelModuleMissing,
        "the kernel module iscsi_tcp is not loaded and cannot be; install it, or load it on the host (modprobe iscsi_tcp)",
    ))
}

/// The last thing that the tool complained about, for who knows it.
fn quoted(printed: &str) -> String {
    const LONGEST: usize = 200;
    let mut complaints = printed.lines().filter_map(|line| line.trim().strip_prefix("iscsiadm: "));
    // The last line only says that there were errors before it.
    let summary = |line: &&str| !line.starts_with("Could not log into all") && !line.starts_with("Could not execute");
    let Some(last) = complaints.rfind(summary) else { return String::new() };
    format!(" ({})", last.chars().take(LONGEST).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `done`, or the kind of outcome and its reason.
    fn word(code: Option<i32>, printed: &str, kind: Kind) -> String {
        match judge(code, printed, kind, "x") {
            Outcome::Done => "done".into(),
            Outcome::Look(error) => format!("look {}", error.reason),
            Outcome::Again(_) => "again".into(),
            Outcome::Remake(error) => format!("remake {}", error.reason),
            Outcome::Failed(error) => format!("failed {}", error.reason),
        }
    }

    #[test]
    fn every_exit_code_of_a_login_has_its_meaning() {
        let cases = [
            (0, "done"),
            (1, "failed Internal"),
            (2, "failed Internal"),
            (3, "failed Internal"),
            (4, "failed PortalUnreachable"),
            (5, "failed PortalUnreachable"),
            (6, "remake InvalidRecord"),
            (7, "remake InvalidRecord"),
            (8, "failed PortalUnreachable"),
            (9, "failed Internal"),
            (10, "failed Internal"),
            (11, "failed Timeout"),
            (12, "failed KernelModuleMissing"),
            (13, "failed Internal"),
            (14, "failed Internal"),
            (15, "look Internal"),
            (16, "failed InitiatorDown"),
            (17, "failed Internal"),
            (18, "failed InitiatorDown"),
            (19, "failed TargetNotFound"),
            (20, "failed InitiatorDown"),
            (21, "remake InvalidRecord"),
            (22, "again"),
            (23, "failed Internal"),
            (24, "failed AuthenticationFailed"),
            (25, "failed Internal"),
            (26, "failed Internal"),
            (27, "failed Internal"),
            (28, "failed InUse"),
            (29, "again"),
            (30, "failed Internal"),
            (31, "again"),
            (32, "failed PortalUnreachable"),
            (33, "failed Timeout"),
            (255, "failed Internal"),
        ];
        for (code, expected) in cases {
            assert_eq!(word(Some(code), "", Kind::Login), expected, "{code}");
        }
        assert_eq!(word(None, "", Kind::Login), "failed Internal");
    }

    #[test]
    fn what_a_code_means_depends_on_what_was_asked_and_on_what_was_printed() {
        let no_interface = "iscsiadm: Could not read iface info for mb.ens1.";
        let cases = [
            (Kind::Logout, 2, "", "look Internal"),
            (Kind::Logout, 21, "iscsiadm: No matching sessions found", "look Internal"),
            (
                Kind::Logout,
                21,
                "iscsiadm: initiator reported error (20 - could not connect to iscsid)\n\
                 iscsiadm: No matching sessions found",
                "look InitiatorDown",
            ),
            (Kind::Logout, 22, "iscsiadm: Could not get session info for sid 7", "look Internal"),
            (Kind::Logout, 28, "", "failed InUse"),
            (Kind::Logout, 32, "", "failed PortalUnreachable"),
            (Kind::Delete, 21, "iscsiadm: No records found", "done"),
            (Kind::Delete, 7, no_interface, "done"),
            (Kind::Delete, 3, no_interface, "done"),
            (Kind::Delete, 15, "", "failed InUse"),
            (Kind::Delete, 6, "", "failed InvalidRecord"),
            (Kind::Change, 3, no_interface, "remake InvalidRecord"),
            (Kind::Change, 3, "", "failed Internal"),
            (Kind::Change, 21, "iscsiadm: No records found", "remake InvalidRecord"),
            (
                Kind::Change,
                6,
                "iscsiadm: Could not stat /etc/iscsi/nodes//,3260,-1/default to delete node: No such file or directory",
                "remake InvalidRecord",
            ),
            (
                Kind::Change,
                6,
                "iscsiadm: Timeout on acquiring lock on DB: /run/lock/iscsi/lock.write: 17: File exists",
                "failed DatabaseLocked",
            ),
            (
                Kind::Login,
                6,
                "iscsiadm: Could not open /run/lock/iscsi: Read-only file system",
                "failed DatabaseLocked",
            ),
            (
                Kind::Change,
                7,
                "iscsiadm: Could not insert module tcp. Kmod error -2\n\
                 iscsiadm: Cound not locate transport for iface mb.ens1",
                "failed KernelModuleMissing",
            ),
            (Kind::Change, 7, "iscsiadm: Cound not locate transport for iface mb.ens1", "remake InvalidRecord"),
            (Kind::Change, 15, "", "failed InUse"),
            (Kind::Change, 29, "", "again"),
        ];
        for (kind, code, printed, expected) in cases {
            assert_eq!(word(Some(code), printed, kind), expected, "{kind:?} {code} {printed}");
        }
    }

    #[test]
    fn a25_a_lock_that_nobody_gives_back_is_named_with_what_becomes_of_it() {
        let printed = "iscsiadm: Timeout on acquiring lock on DB: /run/lock/iscsi/lock.write: 17: File exists";
        let Outcome::Failed(error) = judge(Some(6), printed, Kind::Change, "making the record r") else {
            panic!("not failed")
        };
        let expected = "locked by /run/lock/iscsi/lock.write; what an iscsiadm that was killed has left is removed";
        assert!(error.message.contains(expected), "{error}");
    }

    #[test]
    fn the_complaint_that_says_most_is_quoted() {
        let printed = "Logging in to [iface: mb.ens1]\n\
                       iscsiadm: Could not login to [iface: mb.ens1].\n\
                       iscsiadm: initiator reported error (24 - iSCSI login failed due to authorization failure)\n\
                       iscsiadm: Could not log into all portals";
        let Outcome::Failed(error) = judge(Some(24), printed, Kind::Login, "the login") else { panic!("not failed") };
        assert_eq!(
            error.message,
            "the login has failed: the target refuses the credentials, or this initiator (initiator reported error (24 - \
             iSCSI login failed due to authorization failure))"
        );
    }

    #[test]
    fn different_versions_are_told_from_a_daemon_that_died() {
        assert!(tells_of_another_version(Some(16), ""));
        assert!(tells_of_another_version(Some(18), "iscsiadm: could not communicate to iscsid"));
        assert!(!tells_of_another_version(Some(18), "iscsiadm: read error (0/2), daemon died?"));
        assert!(!tells_of_another_version(Some(20), ""));
    }
}
