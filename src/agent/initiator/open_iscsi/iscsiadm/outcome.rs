//! Interprets the exit codes of `iscsiadm`. Pure.
//!
//! The codes are those of open-iscsi's `include/iscsi_err.h`. Their meaning depends on the command. The output is used
//! only if a code is ambiguous.

use super::{command::CommandKind, lock::LOCK, printed::Printed};
use crate::{
    agent::initiator::{PathError, open_iscsi::host_settings::SAFE_LOGOUT_ADVICE},
    api::reason::PathReason,
    ops::one_line,
};

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The tool reported success.
    Done,
    /// The tool found nothing to do, or does not know: check in sysfs.
    Verify(PathError),
    /// It may succeed in a moment.
    Retry(PathError),
    /// The record does not exist or cannot be read: it must be created again.
    RecreateRecord(PathError),
    /// It failed.
    Failed(PathError),
}

impl CommandOutcome {
    /// Everything but `Done` is an error.
    ///
    /// # Errors
    /// The error of the outcome.
    pub fn into_result(self) -> Result<(), PathError> {
        match self {
            CommandOutcome::Done => Ok(()),
            CommandOutcome::Verify(error)
            | CommandOutcome::Retry(error)
            | CommandOutcome::RecreateRecord(error)
            | CommandOutcome::Failed(error) => Err(error),
        }
    }
}

/// Interprets an exit code. `what` names the command in messages.
#[must_use]
pub fn classify(code: Option<i32>, printed: Printed<'_>, kind: CommandKind, what: &str) -> CommandOutcome {
    let Some(code) = code else {
        return CommandOutcome::Failed(PathError::new(
            PathReason::Internal,
            format!("{what} has failed: iscsiadm was ended by a signal"),
        ));
    };
    let error = |reason, why: &str| PathError::new(reason, format!("{what} has failed: {why}{}", quoted(printed)));
    let failed = |reason, why: &str| CommandOutcome::Failed(error(reason, why));
    let has = |words: &[&str]| printed.has(words);
    match (code, kind) {
        (0, _) | (21, CommandKind::Delete) => CommandOutcome::Done,
        (15, CommandKind::Login) => {
            CommandOutcome::Verify(error(PathReason::Internal, "iscsiadm reports that the session exists"))
        }
        (2 | 21 | 22, CommandKind::Logout) => {
            CommandOutcome::Verify(if has(&["could not connect to iscsid", "can not connect to iSCSI daemon"]) {
                error(PathReason::InitiatorDown, "iscsid does not answer")
            } else {
                error(PathReason::Internal, "iscsiadm finds no such session")
            })
        }
        (3 | 7, CommandKind::Delete) if has(&["Could not read iface info"]) => CommandOutcome::Done,
        (_, CommandKind::Change | CommandKind::Delete | CommandKind::Login) if has(&[READ_ONLY]) => {
            failed(PathReason::InvalidRecord, "open-iscsi's node database is on a read-only file system")
        }
        (15, CommandKind::Change | CommandKind::Delete) => failed(PathReason::InUse, "a session uses the record"),
        (6, _) if is_about_the_lock(printed) => CommandOutcome::Failed(locked(what, printed)),
        (3, _) if has(&["Could not read iface info"]) => CommandOutcome::RecreateRecord(error(
            PathReason::InvalidRecord,
            "there is no interface record that can be read",
        )),
        // An unreadable interface record gives code 7 too, because its transport is not found.
        (7, _) if has(&["Could not insert module tcp", "Could not insert module iscsi_tcp"]) => module_missing(&error),
        (6 | 7 | 21, CommandKind::Change | CommandKind::Login) => CommandOutcome::RecreateRecord(error(
            PathReason::InvalidRecord,
            "open-iscsi cannot find or read the record",
        )),
        (6 | 7, CommandKind::Delete) => failed(PathReason::InvalidRecord, "open-iscsi cannot delete the record"),
        (22 | 29 | 31, _) => CommandOutcome::Retry(error(PathReason::Internal, "iscsiadm asks to try again")),
        (4, CommandKind::Login) => {
            failed(PathReason::PortalUnreachable, "the portal refuses the connection, or there is no route to it")
        }
        (8, _) => failed(PathReason::PortalUnreachable, "the portal does not answer within the login timeout"),
        (5, _) => failed(
            PathReason::PortalUnreachable,
            "the target does not accept the login at the moment, such as for want of resources; iscsid's log tells more",
        ),
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
        (19, _) => failed(
            PathReason::TargetNotFound,
            "the target refuses the login for good: it is not behind this portal, or not for this initiator, or has as \
             many sessions as it allows; iscsid's log tells (target not found, or initiator error 02/06)",
        ),
        (20, _) => failed(PathReason::InitiatorDown, "iscsid does not run; start it (systemctl start iscsid)"),
        (24, _) => failed(
            PathReason::AuthenticationFailed,
            "the target refuses the credentials, or this initiator; iscsid's log tells (failed authentication, or failed \
             authorization)",
        ),
        (28, CommandKind::Logout) => failed(
            PathReason::InUse,
            &format!("iscsid finds that something is mounted over the session; {SAFE_LOGOUT_ADVICE}"),
        ),
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

/// The kernel's words for a change of a read-only file system.
const READ_ONLY: &str = "Read-only file system";

/// Whether the result means that iscsiadm and iscsid have different versions.
#[must_use]
pub fn is_version_mismatch(code: Option<i32>, printed: Printed<'_>) -> bool {
    code == Some(16) || (code == Some(18) && !printed.has(&["daemon died"]))
}

/// The error if the database stays locked.
#[must_use]
pub fn locked(what: &str, printed: Printed<'_>) -> PathError {
    PathError::new(
        PathReason::DatabaseLocked,
        format!(
            "{what} has failed: open-iscsi's node database is locked by {LOCK}; what an iscsiadm that was killed has \
             left is removed after half a minute{}",
            quoted(printed)
        ),
    )
}

fn is_about_the_lock(printed: Printed<'_>) -> bool {
    printed.has(&["Could not lock", "acquiring lock", "lock file", "/lock/iscsi"])
}

fn module_missing(error: &impl Fn(PathReason, &str) -> PathError) -> CommandOutcome {
    CommandOutcome::Failed(error(
        PathReason::KernelModuleMissing,
        "the kernel module iscsi_tcp is not loaded and cannot be; install it, or load it on the host (modprobe iscsi_tcp)",
    ))
}

/// The last specific error message of the tool, in parentheses, or an empty text.
fn quoted(printed: Printed<'_>) -> String {
    // The last line is only a summary: it says that there were errors.
    const SUMMARIES: [&str; 2] = ["Could not log into all", "Could not execute"];
    let last = printed.messages().rfind(|line| !SUMMARIES.iter().any(|summary| line.starts_with(summary)));
    last.map(|last| format!(" ({})", one_line(&printed.shown(last)))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    fn plain(text: &str) -> Printed<'_> {
        Printed::new(text, &[])
    }

    /// The outcome and its reason, in short.
    fn word(code: Option<i32>, printed: &str, kind: CommandKind) -> String {
        match classify(code, plain(printed), kind, "x") {
            CommandOutcome::Done => "done".into(),
            CommandOutcome::Verify(error) => format!("look {}", error.reason),
            CommandOutcome::Retry(_) => "again".into(),
            CommandOutcome::RecreateRecord(error) => format!("remake {}", error.reason),
            CommandOutcome::Failed(error) => format!("failed {}", error.reason),
        }
    }

    #[test]
    fn every_exit_code_of_a_login_has_an_outcome() {
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
            assert_eq!(word(Some(code), "", CommandKind::Login), expected, "{code}");
        }
        assert_eq!(word(None, "", CommandKind::Login), "failed Internal");
    }

    #[test]
    fn the_outcome_depends_on_the_command_and_the_output() {
        let no_interface = "iscsiadm: Could not read iface info for mb.ens1.";
        let cases = [
            (CommandKind::Logout, 2, "", "look Internal"),
            (CommandKind::Logout, 21, "iscsiadm: No matching sessions found", "look Internal"),
            (
                CommandKind::Logout,
                21,
                "iscsiadm: initiator reported error (20 - could not connect to iscsid)\n\
                 iscsiadm: No matching sessions found",
                "look InitiatorDown",
            ),
            (CommandKind::Logout, 22, "iscsiadm: Could not get session info for sid 7", "look Internal"),
            (CommandKind::Logout, 28, "", "failed InUse"),
            (CommandKind::Logout, 32, "", "failed PortalUnreachable"),
            (CommandKind::Delete, 21, "iscsiadm: No records found", "done"),
            (CommandKind::Delete, 7, no_interface, "done"),
            (CommandKind::Delete, 3, no_interface, "done"),
            (CommandKind::Delete, 15, "", "failed InUse"),
            (CommandKind::Delete, 6, "", "failed InvalidRecord"),
            (CommandKind::Change, 3, no_interface, "remake InvalidRecord"),
            (CommandKind::Change, 3, "", "failed Internal"),
            (CommandKind::Change, 21, "iscsiadm: No records found", "remake InvalidRecord"),
            (
                CommandKind::Change,
                6,
                "iscsiadm: Could not stat /etc/iscsi/nodes//,3260,-1/default to delete node: No such file or directory",
                "remake InvalidRecord",
            ),
            (
                CommandKind::Change,
                6,
                "iscsiadm: Timeout on acquiring lock on DB: /run/lock/iscsi/lock.write: 17: File exists",
                "failed DatabaseLocked",
            ),
            (
                CommandKind::Login,
                6,
                "iscsiadm: Could not open /run/lock/iscsi: Read-only file system",
                "failed InvalidRecord",
            ),
            (
                CommandKind::Change,
                7,
                "iscsiadm: Could not insert module tcp. Kmod error -2\n\
                 iscsiadm: Cound not locate transport for iface mb.ens1",
                "failed KernelModuleMissing",
            ),
            (CommandKind::Change, 7, "iscsiadm: Cound not locate transport for iface mb.ens1", "remake InvalidRecord"),
            (CommandKind::Change, 15, "", "failed InUse"),
            (CommandKind::Change, 29, "", "again"),
        ];
        for (kind, code, printed, expected) in cases {
            assert_eq!(word(Some(code), printed, kind), expected, "{kind:?} {code} {printed}");
        }
    }

    #[test]
    fn a25_the_error_for_a_stale_lock_names_the_lock_file() {
        let printed = "iscsiadm: Timeout on acquiring lock on DB: /run/lock/iscsi/lock.write: 17: File exists";
        let CommandOutcome::Failed(error) =
            classify(Some(6), plain(printed), CommandKind::Change, "making the record r")
        else {
            panic!("not failed")
        };
        let expected = "locked by /run/lock/iscsi/lock.write; what an iscsiadm that was killed has left is removed";
        assert!(error.message.contains(expected), "{error}");
    }

    #[test]
    fn the_most_specific_error_message_is_quoted() {
        let printed = "Logging in to [iface: mb.ens1]\n\
                       iscsiadm: Could not login to [iface: mb.ens1].\n\
                       iscsiadm: initiator reported error (24 - iSCSI login failed due to authorization failure)\n\
                       iscsiadm: Could not log into all portals";
        let CommandOutcome::Failed(error) = classify(Some(24), plain(printed), CommandKind::Login, "the login") else {
            panic!("not failed")
        };
        assert_eq!(
            error.message,
            "the login has failed: the target refuses the credentials, or this initiator; iscsid's log tells (failed \
                        authentication, or failed authorization) (initiator reported error (24 - \
             iSCSI login failed due to authorization failure))"
        );
    }

    #[test]
    fn a_chap_user_of_any_name_changes_no_verdict() {
        let cases = [
            (
                7,
                CommandKind::Change,
                "iscsiadm: Could not insert module tcp. Kmod error -2",
                PathReason::KernelModuleMissing,
            ),
            (6, CommandKind::Login, "iscsiadm: Could not open /run/lock/iscsi: Read-only", PathReason::DatabaseLocked),
            (2, CommandKind::Logout, "iscsiadm: can not connect to iSCSI daemon (111)!", PathReason::InitiatorDown),
            (3, CommandKind::Login, "iscsiadm: Could not read iface info for mb.ens1.", PathReason::InvalidRecord),
        ];
        for (code, kind, text, reason) in cases {
            for user in ["iscsi", "iscsiadm", "lock", "daemon", "module", "a", " ", "o"] {
                let (CommandOutcome::Failed(error)
                | CommandOutcome::Verify(error)
                | CommandOutcome::RecreateRecord(error)) =
                    classify(Some(code), Printed::new(text, &[user]), kind, "it")
                else {
                    panic!("another outcome for {user}")
                };
                assert_eq!(error.reason, reason, "{user}");
            }
        }
        let CommandOutcome::Failed(error) =
            classify(Some(24), Printed::new("iscsiadm: ann is refused", &["ann"]), CommandKind::Login, "it")
        else {
            panic!("not failed")
        };
        assert!(error.message.ends_with(" ([redacted] is refused)"), "{error}");
        assert!(!is_version_mismatch(Some(18), Printed::new("read error (0/2), daemon died?", &["daemon"])));
    }

    #[test]
    fn a_version_mismatch_is_told_from_a_daemon_that_died() {
        assert!(is_version_mismatch(Some(16), plain("")));
        assert!(is_version_mismatch(Some(18), plain("iscsiadm: could not communicate to iscsid")));
        assert!(!is_version_mismatch(Some(18), plain("iscsiadm: read error (0/2), daemon died?")));
        assert!(!is_version_mismatch(Some(20), plain("")));
    }

    /// Every kind of command, with every exit code.
    fn judged(printed: &str) -> impl Iterator<Item = PathError> {
        let kinds =
            [CommandKind::Query, CommandKind::Change, CommandKind::Delete, CommandKind::Login, CommandKind::Logout];
        let codes = (0..35).map(Some).chain([None]);
        let all = codes.flat_map(move |code| kinds.map(|kind| classify(code, plain(printed), kind, "x").into_result()));
        all.filter_map(Result::err)
    }

    fuzz! {
        any_output_of_iscsiadm_fits_a_message: "iscsiadm" => |input| {
            let printed = lossy(input);
            let messages: Vec<String> = judged(&printed).map(|error| error.message).collect();
            assert!(messages.iter().all(|message| message.len() < 2000), "{messages:?}");
            // They are alternatives of one message.
            Parsed::new().shown(messages.into_iter().max_by_key(String::len))
        };
    }
}
