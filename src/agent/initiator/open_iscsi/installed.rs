//! What of open-iscsi is installed: its tool, and the name of the initiator.

use std::path::Path;

use tokio::time::Instant;

use super::{OpenIscsi, TOOL_RECHECK, iscsiadm::DAEMON};
use crate::{
    agent::{
        host::{access::HostAccess, host_root::HostRoot, sysfs},
        initiator::PathError,
    },
    api::{HostWarning, reason::PreparedReason},
    ops::one_line,
};

/// The cached version of `iscsiadm`, and the circumstances it is valid for.
#[derive(Clone, Debug)]
pub(super) struct ToolState {
    pub(super) access: HostAccess,
    daemon_is_outdated: bool,
    pub(super) version: Result<String, PathError>,
    checked_at: Instant,
}

impl OpenIscsi {
    /// The state of `iscsiadm`. Its version is read once for each way to reach it, and again after an upgrade.
    pub(super) async fn tool_state(&self) -> Result<ToolState, PathError> {
        let access = self.iscsiadm.access()?;
        let daemon = self.tools.daemon(DAEMON);
        let daemon_is_outdated = daemon.is_some_and(|pid| self.tools.is_outdated(pid));
        let mut cached = self.tool_state.lock().await;
        if let Some(state) = &*cached
            && (&state.access, state.daemon_is_outdated) == (&access, daemon_is_outdated)
            && (state.version.is_ok() || state.checked_at.elapsed() < TOOL_RECHECK)
        {
            return Ok(state.clone());
        }
        let version = self.iscsiadm.version(&access).await;
        let state = ToolState { access, daemon_is_outdated, version, checked_at: Instant::now() };
        *cached = Some(state.clone());
        Ok(state)
    }

    pub(super) fn initiator_name(&self, access: &HostAccess) -> Option<String> {
        let root = self.tools.root(access).ok();
        root.and_then(|root| initiator_name_from_file(&root)).or_else(|| initiator_name_from_kernel(&self.sys))
    }
}

/// The name of the initiator in the status: `open-iscsi 2.1.8`, and how its tools are reached if that is not directly.
pub(super) fn title(version: &str, access: &HostAccess) -> String {
    match access {
        HostAccess::Direct => format!("open-iscsi {version}"),
        HostAccess::Namespaces(_) | HostAccess::Chroot(_) => format!("open-iscsi {version} ({access})"),
    }
}

pub(super) fn tool_warning(state: &ToolState, has_version_mismatch: bool) -> Option<HostWarning> {
    let (reason, message) = match &state.version {
        Err(error) => (PreparedReason::InitiatorMissing, error.message.clone()),
        Ok(_) if state.daemon_is_outdated => (
            PreparedReason::VersionMismatch,
            "iscsid was upgraded and not restarted: the one that runs is of another version than iscsiadm; restart it \
             (systemctl restart iscsid), which costs no session"
                .to_owned(),
        ),
        Ok(version) if has_version_mismatch => (
            PreparedReason::VersionMismatch,
            format!(
                "iscsid does not understand iscsiadm {version}: they are of different versions; restart iscsid, or say \
                 with --host-tools where the tools are that belong to it"
            ),
        ),
        Ok(_) => return None,
    };
    Some(HostWarning { reason, message })
}

fn initiator_name_from_file(root: &HostRoot) -> Option<String> {
    initiator_name(&String::from_utf8(root.read("etc/iscsi/initiatorname.iscsi").ok()?).ok()?)
}

/// The name in the text of `initiatorname.iscsi`.
pub(super) fn initiator_name(text: &str) -> Option<String> {
    let name = text.lines().filter_map(|line| line.trim().strip_prefix("InitiatorName")).next_back()?;
    Some(one_line(name.trim_start().strip_prefix('=')?)).filter(|name| !name.is_empty())
}

/// Returns a name only if the host has a session.
pub(super) fn initiator_name_from_kernel(sys: &Path) -> Option<String> {
    let hosts = sys.join("class/iscsi_host");
    let names = sysfs::names(&hosts).ok()?;
    names.iter().find_map(|host| sysfs::attribute(&hosts.join(host).join("initiatorname")).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    #[test]
    fn the_title_says_how_the_tools_are_reached() {
        assert_eq!(title("2.1.8", &HostAccess::Direct), "open-iscsi 2.1.8");
        assert_eq!(title("2.1.8", &HostAccess::Namespaces(7)), "open-iscsi 2.1.8 (nsenter)");
        assert_eq!(title("2.1.8", &HostAccess::Chroot("/host".into())), "open-iscsi 2.1.8 (chroot /host)");
    }

    fuzz! {
        any_initiatorname_file_is_read: "initiator-name" => |input| Parsed::new().shown(initiator_name(&lossy(input)));
    }
}
