//! Finds out who listens in place of a daemon.
//!
//! iscsid listens at an abstract address. It belongs to whoever takes it first in the network namespace, and that needs no
//! right. So while iscsid does not run, a pod in the host's network can take it. It would get the credentials of the next
//! login, and tell iscsiadm which configuration file to read.

use std::{collections::BTreeMap, fs, path::Path};

use super::processes::{NotOfHost, has_name};

/// The flag of a socket that listens (`__SO_ACCEPTCON` of the kernel).
const LISTENS: u32 = 1 << 16;

/// Why the process that listens at an abstract address is not the daemon, if no process that may be it has the socket. A
/// listener that nobody has, or whose process is not seen, is none.
#[must_use]
pub fn foreign_listener(
    proc: &Path,
    daemon: &str,
    address: &str,
    check: impl Fn(&Path, u32) -> Result<(), NotOfHost>,
) -> Option<NotOfHost> {
    let sockets = fs::read(proc.join("1/net/unix")).unwrap_or_default();
    // The kernel shows names as they are, so with a line break in a name anybody can write another line. The true line is
    // there all the same: each socket is looked for.
    let mut owners: BTreeMap<String, Option<NotOfHost>> =
        listeners(&String::from_utf8_lossy(&sockets), address).map(|socket| (socket, None)).collect();
    // The processes are many, and this is asked before each command.
    if owners.is_empty() {
        return None;
    }
    let mut processes: Vec<u32> = fs::read_dir(proc)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // systemd listens for daemons that it starts on demand. The others need not be read if one of these has the socket.
    processes.sort_by_cached_key(|pid| (*pid != 1 && !has_name(proc, *pid, daemon), *pid));
    for pid in processes {
        if owners.is_empty() {
            break;
        }
        let process = proc.join(pid.to_string());
        for socket in open_files(&process).filter(|file| owners.contains_key(file)).collect::<Vec<_>>() {
            match check(proc, pid) {
                Ok(()) => _ = owners.remove(&socket),
                // The process has ended.
                Err(NotOfHost::Unreadable(_)) => {}
                Err(why) => _ = owners.insert(socket, Some(why)),
            }
        }
    }
    owners.into_values().flatten().next()
}

/// The sockets that listen at an address, as links in the directory of a process name them.
fn listeners(sockets: &str, address: &str) -> impl Iterator<Item = String> {
    sockets.lines().filter_map(move |line| {
        let [_, _, _, flags, _, _, inode, found] = line.split_ascii_whitespace().collect::<Vec<_>>().try_into().ok()?;
        let flags = u32::from_str_radix(flags, 16).ok()?;
        (found == address && flags & LISTENS != 0).then(|| format!("socket:[{inode}]"))
    })
}

fn open_files(process: &Path) -> impl Iterator<Item = String> {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()?.into_os_string().into_string().ok())
}

#[cfg(test)]
pub(in crate::agent) mod fake {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Makes a process of a fake procfs listen at an address, with its first socket.
    pub fn listen(proc: &Path, pid: &str, address: &str) {
        fs::create_dir_all(proc.join("1/net")).unwrap();
        let sockets = format!(
            "Num       RefCount Protocol Flags    Type St Inode Path\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 77{pid} {address}\n\
             0000000000000000: 00000003 00000000 00000000 0001 03 88{pid} {address}\n"
        );
        fs::write(proc.join("1/net/unix"), sockets).unwrap();
        has_socket(proc, pid, pid);
    }

    /// Gives a process the listening socket of another one.
    pub fn has_socket(proc: &Path, pid: &str, of: &str) {
        fs::create_dir_all(proc.join(pid).join("fd")).unwrap();
        symlink(format!("socket:[77{of}]"), proc.join(pid).join("fd/3")).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::host::processes::{
            check_host_daemon,
            fake::{process, set_users},
        },
        fuzz::{Parsed, fuzz, lossy},
    };

    fn host() -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), "1", "systemd", "host");
        process(proc.path(), "300", "iscsid", "host");
        set_users(proc.path(), "300", 65534, "0000000000000000");
        process(proc.path(), "700", "iscsid", "host");
        proc
    }

    const OF_USER: &str = "it runs as user 65534, not as root";

    fn listener(proc: &tempfile::TempDir, address: &str) -> Option<String> {
        foreign_listener(proc.path(), "iscsid", address, check_host_daemon).map(|why| why.to_string())
    }

    #[test]
    fn root_in_a_pod_is_no_listener_of_the_host() {
        let proc = host();
        fake::listen(proc.path(), "300", "@DAEMON");
        set_users(proc.path(), "300", 0, "00000000a80425fb");
        assert_eq!(listener(&proc, "@DAEMON"), None, "a service of the host");
        let cgroup = proc.path().join("300/cgroup");
        fs::write(&cgroup, "0::/kubepods.slice/kubepods-pod2c9e6a4e_1.slice/cri-1.scope\n").unwrap();
        assert_eq!(listener(&proc, "@DAEMON").as_deref(), Some("it is in the cgroup of a pod"));
        process(proc.path(), "300", "iscsid", "container");
        assert!(listener(&proc, "@DAEMON").is_some_and(|why| why.contains("in another pid namespace")));
    }

    #[test]
    fn a_program_that_takes_roots_rights_is_no_listener_of_the_host() {
        let proc = host();
        fake::listen(proc.path(), "300", "@DAEMON");
        // Started by a user, with the set-user-ID bit.
        fs::write(proc.path().join("300/status"), "Uid:\t1000\t0\t0\t0\n").unwrap();
        assert_eq!(listener(&proc, "@DAEMON").as_deref(), Some("it runs as user 1000, not as root"));
    }

    #[test]
    fn a_socket_of_root_is_the_daemons_whoever_else_has_it() {
        for owner in ["1", "700"] {
            let proc = host();
            fake::listen(proc.path(), owner, "@DAEMON");
            fake::has_socket(proc.path(), "300", owner);
            assert_eq!(listener(&proc, "@DAEMON"), None, "{owner}");
        }
    }

    #[test]
    fn a_name_with_a_line_break_hides_no_listener() {
        let proc = host();
        fake::listen(proc.path(), "300", "@DAEMON");
        fake::has_socket(proc.path(), "1", "1");
        let sockets = proc.path().join("1/net/unix");
        let forged = "0: 00000002 00000000 00010000 0001 01 99 @x\n0: 00000002 00000000 00010000 0001 01 771 @DAEMON\n";
        fs::write(&sockets, forged.to_owned() + &fs::read_to_string(&sockets).unwrap()).unwrap();
        assert_eq!(listener(&proc, "@DAEMON"), Some(OF_USER.to_owned()));
    }

    #[test]
    fn a_process_that_ends_meanwhile_hides_no_other_that_listens() {
        let proc = host();
        fake::listen(proc.path(), "300", "@DAEMON");
        fake::has_socket(proc.path(), "900", "300");
        assert_eq!(listener(&proc, "@DAEMON"), Some(OF_USER.to_owned()));
    }

    #[test]
    fn a_listener_of_another_user_is_named() {
        let proc = host();
        assert_eq!(listener(&proc, "@DAEMON"), None, "nobody listens");
        fake::listen(proc.path(), "300", "@DAEMON");
        assert_eq!(listener(&proc, "@DAEMON"), Some(OF_USER.to_owned()));
        assert_eq!(listener(&proc, "@OTHER"), None);
        fs::remove_dir_all(proc.path().join("300")).unwrap();
        assert_eq!(listener(&proc, "@DAEMON"), None, "it has ended");
    }

    fuzz! {
        any_list_of_sockets_is_read: "unix-sockets" => |input| {
            let text = lossy(input);
            Parsed::new().texts(listeners(&text, "@DAEMON"))
        };
    }
}
