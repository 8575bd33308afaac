//! Services of the host that log every session out when they stop: systemd stops them at a shutdown, while containers and
//! virtual machines may still write.
//!
//! Debian's `open-iscsi.service` is one. The agent does not fight it. It says so while such a service runs, until the
//! service waits for the containers or logs out nothing of the agent's: both is a file of the administrator's.

use crate::{
    agent::host::host_root::HostRoot,
    api::{HostWarning, first_few, reason::PreparedReason},
};

/// The services of open-iscsi on the distributions.
const SERVICES: [&str; 3] = ["open-iscsi.service", "iscsi.service", "iscsi-shutdown.service"];
/// The directories of units, relative to the root directory; the first has precedence.
const UNITS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
/// Words of a command that logs out the agent's sessions, too: their records are `manual`.
const LOGS_OUT_ALL: [&str; 3] = ["logout-all", "logoutall=all", "logoutall=manual"];
/// What all containers of a node are in. A service that starts before it stops after them.
const CONTAINERS: &str = "kubepods.slice";

/// The warning about the host with this root directory.
pub(super) fn warning(root: &HostRoot) -> Option<HostWarning> {
    let running = SERVICES.into_iter().filter(|service| is_active(root, service));
    let harmful: Vec<&str> = running
        .filter(|service| {
            let unit = Unit::parse(&text(root, service));
            unit.logs_out_all() && !unit.waits_for(CONTAINERS)
        })
        .collect();
    let first = harmful.first()?;
    let listed = first_few(&harmful, SERVICES.len(), |service| (*service).to_owned());
    let message = format!(
        "{listed} logs every session out when the host shuts down, while containers may still write; let it wait for \
         them: [Unit] Before={CONTAINERS} machine.slice in a file in /etc/systemd/system/{first}.d, then systemctl \
         daemon-reload"
    );
    Some(HostWarning { reason: PreparedReason::LogoutAtShutdown, message })
}

/// Whether a service has been started and not been stopped: systemd keeps a link for it.
fn is_active(root: &HostRoot, service: &str) -> bool {
    root.link_metadata(format!("run/systemd/units/invocation:{service}")).is_ok()
}

/// The unit file of a service, and what administrators have added to it.
fn text(root: &HostRoot, service: &str) -> Vec<u8> {
    let mut text = UNITS.iter().find_map(|units| root.read(format!("{units}/{service}")).ok()).unwrap_or_default();
    for added in UNITS.iter().rev().map(|units| format!("{units}/{service}.d")) {
        for name in root.names(&added).unwrap_or_default().iter().filter(|name| name.strip_suffix(".conf").is_some()) {
            text.push(b'\n');
            text.extend(root.read(format!("{added}/{name}")).unwrap_or_default());
        }
    }
    text
}

/// What the agent looks at in the unit file of a service.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unit {
    /// The commands with which it is stopped.
    stops_with: Vec<String>,
    /// The units before which it is started, and after which it is stopped.
    before: Vec<String>,
}

impl Unit {
    /// Reads a unit file (`systemd.syntax(7)`).
    fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text).replace("\\\n", " ");
        let mut unit = Unit::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = value.trim();
            match name.trim() {
                // An empty command takes back those before it.
                "ExecStop" if value.is_empty() => unit.stops_with.clear(),
                "ExecStop" => unit.stops_with.push(value.to_owned()),
                "Before" => unit.before.extend(value.split_whitespace().map(str::to_owned)),
                _ => {}
            }
        }
        unit
    }

    fn logs_out_all(&self) -> bool {
        self.stops_with.iter().any(|command| LOGS_OUT_ALL.iter().any(|word| command.contains(word)))
    }

    fn waits_for(&self, other: &str) -> bool {
        self.before.iter().any(|unit| unit == other)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::fuzz::{Parsed, fuzz};

    #[test]
    fn a55_a_service_that_logs_out_at_shutdown_is_said_until_it_waits_for_the_containers() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let said = || warning(&HostRoot::open(root.path()).unwrap()).map(|found| found.message);
        let debian = include_str!("../../../../tests/corpus/systemd-unit/debian-open-iscsi.service");
        write("usr/lib/systemd/system/open-iscsi.service", debian);
        assert_eq!(said(), None, "it was not started, so it is not stopped");
        let started = root.path().join("run/systemd/units");
        fs::create_dir_all(&started).unwrap();
        symlink("0123456789abcdef", started.join("invocation:open-iscsi.service")).unwrap();
        let message = said().unwrap();
        assert!(message.contains("open-iscsi.service logs every session out"), "{message}");
        for added in ["[Unit]\nBefore=kubepods.slice machine.slice\n", "[Service]\nExecStop=\n"] {
            write("etc/systemd/system/open-iscsi.service.d/multibond.conf", added);
            assert_eq!(said(), None, "{added}");
        }
        write("etc/systemd/system/open-iscsi.service.d/multibond.conf", "");
        assert!(said().is_some());
        write(
            "etc/systemd/system/open-iscsi.service",
            "[Service]\nExecStop=/sbin/iscsiadm -m node --logoutall=automatic\n",
        );
        assert_eq!(said(), None, "records of the agent are manual");
    }

    fuzz! {
        any_unit_of_a_service_is_read: "systemd-unit" => |input| {
            let Unit { stops_with, before } = Unit::parse(input);
            Parsed::new().texts(stops_with.into_iter().chain(before))
        };
    }
}
