//! open-iscsi's lock of its node database: a file that exists while somebody changes the database.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, linkat, mkdirat, openat, unlinkat},
    io::Errno,
    process::geteuid,
};
use tokio::time::{Instant, sleep};

use crate::{
    agent::{host::host_root::HostRoot, initiator::PathError},
    api::reason::PathReason,
};

/// The lock file.
pub const LOCK: &str = "/run/lock/iscsi/lock.write";
/// The directory that it is in. Its parent belongs to every user on some distributions.
const DIRECTORY: &str = "/run/lock/iscsi";
/// The name of the directory in its parent.
const NAME: &str = "iscsi";
/// The file in the directory that the lock is a hard link to, and the name of that link.
const FILE: &str = "lock";
const HELD: &str = "lock.write";
/// The longest wait for another holder of the lock. A change takes milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The age from which a lock is stale if no iscsiadm runs. iscsiadm itself waits for the lock this long.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// Checks that only root can change the directory of the lock; a missing one will be made by iscsiadm. Another user who
/// owns it could lock the database for ever, and lead root's iscsiadm to other files by links.
///
/// # Errors
/// What is wrong with the directory, and what to do.
pub fn check_directory(root: &HostRoot) -> Result<(), PathError> {
    let found = match root.link_metadata(DIRECTORY) {
        Ok(metadata) => distrust(&metadata, geteuid().as_raw()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("cannot be looked at: {error}")),
    };
    found.map_or(Ok(()), |found| Err(distrusted(&found)))
}

fn distrusted(found: &str) -> PathError {
    let message = format!(
        "open-iscsi's lock is not used: expected that only root can write to its directory {DIRECTORY}, which {found}; find \
         out who made it, and remove it (rm -r {DIRECTORY}): iscsiadm makes a new one"
    );
    PathError::new(PathReason::DatabaseLocked, message)
}

/// The lock, held by the agent itself until this is dropped.
#[derive(Debug)]
pub struct HeldLock {
    /// None where the host has no directory for locks: then its iscsiadm locks nothing there either.
    directory: Option<File>,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let Some(directory) = &self.directory else { return };
        if let Err(error) = unlinkat(directory, HELD, AtFlags::empty()) {
            tracing::warn!(%error, "cannot remove the lock {LOCK}, which the agent holds");
        }
    }
}

/// Takes the lock as iscsiadm does (`idbm_lock`): by a hard link, which only one can make. None if another holds it.
///
/// # Errors
/// If the directory is not trusted, or the kernel refuses.
pub fn take(root: &HostRoot) -> Result<Option<HeldLock>, PathError> {
    let Some(directory) = open_directory(root).map_err(|error| not_taken(&error))? else {
        return Ok(Some(HeldLock { directory: None }));
    };
    let metadata = directory.metadata().map_err(|error| not_taken(&error))?;
    if let Some(found) = distrust(&metadata, geteuid().as_raw()) {
        return Err(distrusted(&found));
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&directory, FILE, flags, Mode::RUSR | Mode::WUSR).map_err(|error| not_taken(&error.into()))?;
    match linkat(&directory, FILE, &directory, HELD, AtFlags::empty()) {
        Ok(()) => Ok(Some(HeldLock { directory: Some(directory) })),
        Err(Errno::EXIST) => Ok(None),
        Err(error) => Err(not_taken(&error.into())),
    }
}

/// The directory of the lock, which iscsiadm makes as well; none if even its parent does not exist.
fn open_directory(root: &HostRoot) -> io::Result<Option<File>> {
    let parent = match root.open_parent(DIRECTORY) {
        Ok(parent) => parent,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match mkdirat(&parent, NAME, Mode::RWXU | Mode::RWXG) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(Some(openat(&parent, NAME, flags, Mode::empty())?.into()))
}

fn not_taken(error: &io::Error) -> PathError {
    PathError::new(PathReason::DatabaseLocked, format!("open-iscsi's lock {LOCK} cannot be taken: {error}"))
}

/// Why not only this user, who is root, can write to a directory.
fn distrust(directory: &Metadata, agent: u32) -> Option<String> {
    const WRITABLE_BY_GROUP: u32 = 0o020;
    const WRITABLE_BY_OTHERS: u32 = 0o002;
    let mode = directory.mode();
    if !directory.is_dir() {
        Some(if directory.is_symlink() { "is a link" } else { "is no directory" }.to_owned())
    } else if ![0, agent].contains(&directory.uid()) {
        Some(format!("belongs to user {}", directory.uid()))
    } else if mode & WRITABLE_BY_OTHERS != 0 {
        Some("every user can write to".to_owned())
    } else if mode & WRITABLE_BY_GROUP != 0 && directory.gid() != 0 {
        Some(format!("group {} can write to", directory.gid()))
    } else {
        None
    }
}

/// Whether the same holder keeps the lock for longer than a change takes. If the holders change, iscsiadm will get the
/// lock too.
pub async fn is_locked(root: &HostRoot) -> bool {
    let (holder, since) = (locked_at(root), Instant::now());
    while holder.is_some() && locked_at(root) == holder {
        if since.elapsed() >= LOCK_TIMEOUT {
            return true;
        }
        sleep(LOCK_POLL_INTERVAL).await;
    }
    false
}

/// Removes a lock whose holder was killed; returns whether it did. `is_free` tells whether no process can hold it.
///
/// When a pod ends its tools are killed, and an iscsiadm that is killed leaves its lock behind; so does an agent
/// that is killed in a change of its own.
pub fn remove_if_stale(root: &HostRoot, now: SystemTime, is_free: impl FnOnce() -> bool) -> bool {
    // Check the age again at the end: another iscsiadm may have taken the lock meanwhile.
    let is_stale = is_old(root, now) && is_free() && is_old(root, now);
    let removed = is_stale && root.remove_file(LOCK).is_ok();
    if removed {
        tracing::warn!("removed the stale lock {LOCK} of an iscsiadm that was killed");
    }
    removed
}

fn is_old(root: &HostRoot, now: SystemTime) -> bool {
    locked_at(root).is_some_and(|at| now.duration_since(at).is_ok_and(|age| age >= STALE_AFTER))
}

/// The time at which the lock was taken: its inode changed then, because the lock is a hard link.
fn locked_at(root: &HostRoot) -> Option<SystemTime> {
    let lock = root.link_metadata(LOCK).ok()?;
    let since_epoch = Duration::new(lock.ctime().try_into().ok()?, lock.ctime_nsec().try_into().ok()?);
    Some(UNIX_EPOCH + since_epoch)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt as _, symlink},
        path::PathBuf,
    };

    use super::*;

    fn host() -> (tempfile::TempDir, HostRoot, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = HostRoot::open(directory.path()).unwrap();
        let lock = directory.path().join("run/lock/iscsi");
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        (directory, root, lock)
    }

    #[test]
    fn a25_only_a_stale_lock_is_removed() {
        let (_directory, root, lock) = host();
        let lock = lock.join("lock.write");
        fs::create_dir(lock.parent().unwrap()).unwrap();
        fs::write(&lock, "").unwrap();
        let soon = locked_at(&root).unwrap() + Duration::from_secs(29);
        let later = soon + Duration::from_secs(1);
        assert!(!remove_if_stale(&root, later, || false), "an iscsiadm runs");
        assert!(!remove_if_stale(&root, soon, || true), "it is not old");
        assert!(remove_if_stale(&root, later, || true) && !lock.exists());
        assert!(!remove_if_stale(&root, later, || true), "there is none");
    }

    #[test]
    fn the_lock_is_held_by_one_until_it_is_dropped() {
        let (_directory, root, lock) = host();
        let held = take(&root).unwrap().unwrap();
        assert!(lock.join("lock.write").exists(), "iscsiadm sees that");
        assert!(take(&root).unwrap().is_none());
        drop(held);
        assert!(!lock.join("lock.write").exists());
        fs::hard_link(lock.join("lock"), lock.join("lock.write")).unwrap();
        assert!(take(&root).unwrap().is_none(), "an iscsiadm holds it");
        assert!(lock.join("lock.write").exists(), "and keeps it");
    }

    #[test]
    fn no_lock_is_taken_in_a_directory_of_others_or_through_a_link() {
        let (_directory, root, lock) = host();
        fs::create_dir(&lock).unwrap();
        fs::set_permissions(&lock, Permissions::from_mode(0o777)).unwrap();
        assert!(take(&root).unwrap_err().message.contains("every user can write to"));
        fs::remove_dir(&lock).unwrap();
        symlink("/tmp", &lock).unwrap();
        assert!(take(&root).is_err());
    }

    #[test]
    fn where_no_locks_are_kept_none_is_needed() {
        let directory = tempfile::tempdir().unwrap();
        let root = HostRoot::open(directory.path()).unwrap();
        assert!(take(&root).unwrap().is_some());
        assert!(!directory.path().join("run").exists());
    }

    #[test]
    fn a_lock_directory_that_others_can_write_to_is_not_trusted() {
        let (_directory, root, lock) = host();
        let error = || check_directory(&root).map_err(|error| error.message).err().unwrap_or_default();
        assert_eq!(error(), "", "iscsiadm makes it");
        fs::create_dir(&lock).unwrap();
        for (mode, found) in [(0o750, ""), (0o755, ""), (0o777, "every user can write to"), (0o1777, "every user")] {
            fs::set_permissions(&lock, Permissions::from_mode(mode)).unwrap();
            assert!(
                if found.is_empty() { error().is_empty() } else { error().contains(found) },
                "{mode:o}: {}",
                error()
            );
        }
        fs::remove_dir(&lock).unwrap();
        symlink("/tmp", &lock).unwrap();
        assert!(error().contains("which is a link") && error().contains("rm -r /run/lock/iscsi"), "{}", error());
        fs::remove_file(&lock).unwrap();
        fs::write(&lock, "").unwrap();
        assert!(error().contains("is no directory"), "{}", error());
    }

    #[test]
    fn a_lock_directory_of_another_user_is_not_trusted() {
        let (directory, ..) = host();
        let metadata = directory.path().metadata().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        assert_eq!(distrust(&metadata, metadata.uid()), None);
        if metadata.uid() == 0 {
            std::os::unix::fs::chown(directory.path(), Some(1000), None).unwrap();
        }
        let metadata = directory.path().metadata().unwrap();
        let expected = format!("belongs to user {}", metadata.uid());
        assert_eq!(distrust(&metadata, metadata.uid() + 1), Some(expected));
    }
}
