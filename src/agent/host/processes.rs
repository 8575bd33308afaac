//! Finds out whether a process belongs to the host itself.
//!
//! A process can have any name: a pod of a user may call its process `iscsid`. So a name proves nothing. The agent
//! enters the namespaces of a daemon as root and runs the tool that it finds there, so the daemon must be the host's
//! own.

use std::{fs, io, path::Path};

use thiserror::Error;

/// The bit of `CAP_SYS_ADMIN` in a set of capabilities (`linux/capability.h`).
const CAP_SYS_ADMIN: u64 = 1 << 21;
/// The namespaces that a daemon of the host shares with the host's first process. Its mount namespace may be its own.
const HOST_NAMESPACES: [&str; 3] = ["pid", "user", "net"];

/// Why a process is not a daemon of the host.
#[derive(Debug, Error)]
pub enum NotOfHost {
    /// It does not run as root.
    #[error("it runs as user {0}, not as root")]
    NotRoot(u32),
    /// It is in a container.
    #[error("it is in another {0} namespace than the host's first process")]
    OtherNamespace(&'static str),
    /// kubelet has started it.
    #[error("it is in the cgroup of a pod")]
    InPod,
    /// The kernel does not show it, or it has ended.
    #[error("it cannot be looked at: {0}")]
    Unreadable(#[from] io::Error),
}

/// How near a process is to being the host's: the check that it did not pass. The checks are in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NearHost {
    /// Nobody knows.
    Unknown,
    /// It does not run as root.
    OtherUser,
    /// It is in a container.
    OtherNamespace,
    /// It is in a pod, in the host's namespaces.
    InPod,
}

impl NotOfHost {
    /// The check that failed.
    #[must_use]
    pub fn near_host(&self) -> NearHost {
        match self {
            NotOfHost::Unreadable(_) => NearHost::Unknown,
            NotOfHost::NotRoot(_) => NearHost::OtherUser,
            NotOfHost::OtherNamespace(_) => NearHost::OtherNamespace,
            NotOfHost::InPod => NearHost::InPod,
        }
    }
}

/// Whether a process has this name. The name does not prove that the process is the host's.
#[must_use]
pub fn has_name(proc: &Path, pid: u32, name: &str) -> bool {
    fs::read_to_string(proc.join(format!("{pid}/comm"))).is_ok_and(|comm| comm.trim_end() == name)
}

/// Checks that a process is the host's own: it runs as root, in the namespaces of the host's first process, and in no
/// pod. A daemon in a container that the host itself runs, as on Talos, passes; one in a pod does not, even if the pod
/// is privileged.
///
/// # Errors
/// The check that failed.
pub fn check_host_daemon(proc: &Path, pid: u32) -> Result<(), NotOfHost> {
    check_root(proc, pid)?;
    let process = proc.join(pid.to_string());
    for namespace in HOST_NAMESPACES {
        let link = Path::new("ns").join(namespace);
        if fs::read_link(process.join(&link))? != fs::read_link(proc.join("1").join(&link))? {
            return Err(NotOfHost::OtherNamespace(namespace));
        }
    }
    if fs::read_to_string(process.join("cgroup"))?.split(['/', '\n']).any(is_of_pod) {
        return Err(NotOfHost::InPod);
    }
    Ok(())
}

/// Checks that a process runs as root, and was not started by another user.
///
/// # Errors
/// `NotRoot`, or `Unreadable`.
pub fn check_root(proc: &Path, pid: u32) -> Result<(), NotOfHost> {
    let uids = users(&fs::read_to_string(proc.join(format!("{pid}/status")))?);
    if let Some(other) = uids.iter().find(|uid| **uid != 0) {
        return Err(NotOfHost::NotRoot(*other));
    }
    if uids.is_empty() {
        return Err(NotOfHost::Unreadable(io::Error::other("its status names no user")));
    }
    Ok(())
}

/// Whether a process may have the rights of root on the host. A process that cannot be read counts as such.
#[must_use]
pub fn may_be_root(proc: &Path, pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(proc.join(format!("{pid}/status"))) else { return true };
    let capabilities = field(&status, "CapEff").and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    users(&status).contains(&0) && capabilities.is_none_or(|set| set & CAP_SYS_ADMIN != 0)
}

/// The real, effective, saved and file system user of a process.
fn users(status: &str) -> Vec<u32> {
    let uids = field(status, "Uid").unwrap_or_default();
    uids.split_ascii_whitespace().filter_map(|uid| uid.parse().ok()).collect()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// Whether kubelet has made this part of a cgroup's path: `kubepods` with additions of its cgroup driver, or `pod` and
/// a UID. In a cgroup namespace of its own the agent sees the second without the first.
fn is_of_pod(part: &str) -> bool {
    let is_uid = |text: &str| text.len() >= 8 && text.bytes().take(8).all(|byte| byte.is_ascii_hexdigit());
    part.contains("kubepods") || part.strip_prefix("pod").is_some_and(is_uid)
}

#[cfg(test)]
pub(in crate::agent) mod fake {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Makes a process in a fake procfs. `container` is the name of the container that it is in, `host` for none.
    pub fn process(proc: &Path, pid: &str, comm: &str, container: &str) {
        let ns = proc.join(pid).join("ns");
        fs::create_dir_all(&ns).unwrap();
        fs::write(proc.join(pid).join("comm"), format!("{comm}\n")).unwrap();
        fs::write(proc.join(pid).join("cgroup"), "0::/system.slice/iscsid.service\n").unwrap();
        set_users(proc, pid, 0, "000001ffffffffff");
        for namespace in ["mnt", "net", "pid", "user"] {
            // A test may replace a process by one with another name.
            let _ = fs::remove_file(ns.join(namespace));
            symlink(format!("{namespace}:[{container}]"), ns.join(namespace)).unwrap();
        }
    }

    /// Sets the user and the effective capabilities of a process.
    pub fn set_users(proc: &Path, pid: &str, uid: u32, capabilities: &str) {
        let status = format!("Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{capabilities}\n");
        fs::write(proc.join(pid).join("status"), status).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    fn verdict(change: impl Fn(&Path)) -> String {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path();
        fake::process(proc, "1", "systemd", "host");
        fake::process(proc, "700", "iscsid", "host");
        change(&proc.join("700"));
        check_host_daemon(proc, 700).map_or_else(|error| error.to_string(), |()| "the host's".into())
    }

    fn in_namespace(kind: &str) -> String {
        verdict(|process| {
            fs::remove_file(process.join("ns").join(kind)).unwrap();
            symlink(format!("{kind}:[other]"), process.join("ns").join(kind)).unwrap();
        })
    }

    #[test]
    fn a_daemon_of_the_host_may_have_a_mount_namespace_of_its_own() {
        assert_eq!(verdict(|_| ()), "the host's");
        assert_eq!(in_namespace("mnt"), "the host's");
    }

    #[test]
    fn a_process_of_another_user_is_not_the_hosts() {
        let status = "Uid:\t0\t65534\t0\t0\n";
        assert_eq!(
            verdict(|process| fs::write(process.join("status"), status).unwrap()),
            "it runs as user 65534, not as root"
        );
        assert!(verdict(|process| fs::write(process.join("status"), "").unwrap()).contains("names no user"));
    }

    #[test]
    fn a_process_in_other_namespaces_is_not_the_hosts() {
        for kind in HOST_NAMESPACES {
            assert_eq!(in_namespace(kind), format!("it is in another {kind} namespace than the host's first process"));
        }
    }

    #[test]
    fn a_process_in_a_pod_is_not_the_hosts_even_in_the_hosts_namespaces() {
        for cgroup in [
            "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod2c9e6a4e_1.slice/cri-1.scope\n",
            "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice/x\n",
            "12:pids:/kubepods/besteffort/pod2c9e6a4e-52a0/1\n11:memory:/\n",
            "0::/../../pod2c9e6a4e-52a0-4a39-ae36-d1c4dd5bbb1d/1\n",
        ] {
            let cgroup = |process: &Path| fs::write(process.join("cgroup"), cgroup).unwrap();
            assert_eq!(verdict(cgroup), "it is in the cgroup of a pod");
        }
        let podman = |process: &Path| fs::write(process.join("cgroup"), "0::/podruntime/runtime\n").unwrap();
        assert_eq!(verdict(podman), "the host's");
    }

    #[test]
    fn a_process_that_cannot_be_looked_at_is_not_the_hosts() {
        for file in ["status", "cgroup", "ns/pid"] {
            let removed = verdict(|process| fs::remove_file(process.join(file)).unwrap());
            assert!(removed.starts_with("it cannot be looked at"), "{file}: {removed}");
        }
    }

    #[test]
    fn only_root_with_its_capabilities_may_be_root_of_the_host() {
        let root = tempfile::tempdir().unwrap();
        fake::process(root.path(), "7", "iscsiadm", "pod");
        for (uid, capabilities, expected) in
            [(0, "000001ffffffffff", true), (0, "00000000a80425fb", false), (65534, "000001ffffffffff", false)]
        {
            fake::set_users(root.path(), "7", uid, capabilities);
            assert_eq!(may_be_root(root.path(), 7), expected, "{uid} {capabilities}");
        }
        fs::remove_file(root.path().join("7/status")).unwrap();
        assert!(may_be_root(root.path(), 7), "nobody knows");
    }

    fuzz! {
        any_status_of_a_process_is_read: "process-status" => |input| {
            let text = lossy(input);
            assert!(users(&text).is_empty() || text.lines().any(|line| line.starts_with("Uid:")));
            Parsed::new().texts(field(&text, "CapEff"))
        };
        any_cgroup_of_a_pod_is_recognized: "cgroup" => |input| {
            let is_in_pod = |text: &str| text.split(['/', '\n']).any(is_of_pod);
            let text = lossy(input);
            is_in_pod(&text);
            assert!(is_in_pod(&format!("{text}/kubepods.slice/x")), "what a pod chooses hides nothing");
            Parsed::new()
        };
    }
}
