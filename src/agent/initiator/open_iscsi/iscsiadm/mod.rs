//! `iscsiadm`: what it is asked ([`command`]), how it is run, and what its ending means ([`outcome`]).

pub mod command;
pub mod outcome;

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, sleep};

use self::{
    command::{Command, Kind, Setting, Value},
    outcome::{LOCK, Outcome, judge, locked, tells_of_another_version},
};
use crate::{
    agent::{
        credentials::{Account, Credentials, Password},
        host::{access::Way, tools::Host},
        initiator::PathError,
    },
    api::{SessionSettings, reason::PathReason},
};

/// The tool.
const TOOL: &str = "iscsiadm";
/// The daemon that it talks to.
pub const DAEMON: &str = "iscsid";
/// How long telling the version may take.
const TELLS_WITHIN: Duration = Duration::from_secs(10);
/// How long a change of a record may take: iscsiadm itself waits 30 s for the lock, and takes longer under load.
const CHANGES_WITHIN: Duration = Duration::from_secs(60);
/// How much longer than its login timeout a login may take: iscsid looks at its clock, and iscsiadm may have to start it.
const LOGIN_MARGIN: Duration = Duration::from_secs(15);
/// How long a logout may take: iscsid waits 15 s for the target by itself.
const LOGS_OUT_WITHIN: Duration = Duration::from_secs(40);
/// How long the lock may be somebody else's. A change takes milliseconds.
const LOCKED_AT_MOST: Duration = Duration::from_secs(3);
const LOOK_AT_LOCK_EVERY: Duration = Duration::from_millis(20);
/// How old a lock is that nobody can hold when no iscsiadm runs: so long iscsiadm itself waits for one.
const ORPHANED_AFTER: Duration = Duration::from_secs(30);
/// How often what may go well in a moment is tried.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// The host's `iscsiadm`.
#[derive(Debug)]
pub struct Iscsiadm {
    host: Host,
    /// Whether iscsid did not understand it the last time.
    is_misunderstood: AtomicBool,
}

impl Iscsiadm {
    /// That of a host.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Iscsiadm { host, is_misunderstood: AtomicBool::new(false) }
    }

    /// The way to it.
    ///
    /// # Errors
    /// As [`Host::way`].
    pub fn way(&self) -> Result<Way, PathError> {
        self.host.way(DAEMON)
    }

    /// Whether iscsid did not understand it the last time.
    #[must_use]
    pub fn is_misunderstood(&self) -> bool {
        self.is_misunderstood.load(Ordering::Relaxed)
    }

    /// Its version, such as `2.1.8`.
    ///
    /// # Errors
    /// When there is none, or it cannot be run.
    pub async fn version(&self, way: &Way) -> Result<String, PathError> {
        let ended = self.host.run(way, TOOL, &Command::Version.arguments(), TELLS_WITHIN).await?;
        let version = ended.stdout.split_whitespace().last().filter(|_| ended.code == Some(0));
        version.map(str::to_owned).ok_or_else(|| {
            PathError::new(PathReason::Internal, format!("iscsiadm does not tell its version: {}", ended.stderr.trim()))
        })
    }

    /// Asks for a change of records.
    ///
    /// # Errors
    /// As [`Iscsiadm::ask`], and when the tool was not there or not in time.
    pub async fn change(&self, way: &Way, command: &Command<'_>) -> Result<Outcome, PathError> {
        let settings: &[Setting] = if let Command::UpdateNode(_, settings) = command { settings } else { &[] };
        let secrets: Vec<&str> = settings.iter().filter_map(secret).collect();
        self.ask(way, command, &secrets, CHANGES_WITHIN).await
    }

    /// Asks for a login.
    ///
    /// # Errors
    /// When the tool was not there or not in time.
    pub async fn login(
        &self,
        way: &Way,
        record: &command::Record,
        settings: SessionSettings,
        credentials: Option<&Credentials>,
    ) -> Result<Outcome, PathError> {
        let limit = Duration::from_secs(settings.login_timeout_seconds.into()) + LOGIN_MARGIN;
        let accounts = credentials.into_iter().flat_map(|known| [Some(&known.outgoing), known.incoming.as_ref()]);
        let reveal = |Account { name, password }: &Account| [name.clone(), password.clone()];
        let known: Vec<_> = accounts.flatten().flat_map(reveal).collect();
        let secrets: Vec<&str> = known.iter().map(Password::reveal).collect();
        self.ask(way, &Command::Login(record), &secrets, limit).await
    }

    /// Asks for a logout.
    ///
    /// # Errors
    /// When the tool was not there or not in time.
    pub async fn logout(&self, way: &Way, id: u32) -> Result<Outcome, PathError> {
        self.ask(way, &Command::Logout(id), &[], LOGS_OUT_WITHIN).await
    }

    /// The host's root directory, as the agent sees it.
    #[must_use]
    pub fn root(&self, way: &Way) -> PathBuf {
        self.host.root(way)
    }

    /// Whether the host can resolve a name, as iscsid has to.
    pub async fn resolves(&self, way: &Way, name: &str) -> bool {
        const NOT_FOUND: i32 = 2;
        let asked = self.host.run(way, "getent", &["ahosts", name], TELLS_WITHIN).await;
        !asked.is_ok_and(|ended| ended.code == Some(NOT_FOUND))
    }

    async fn ask(
        &self,
        way: &Way,
        command: &Command<'_>,
        secrets: &[&str],
        limit: Duration,
    ) -> Result<Outcome, PathError> {
        let what = command.to_string();
        for attempt in 1.. {
            // Waiting for the lock inside iscsiadm takes half a minute and says nothing meanwhile.
            let lock = self.host.root(way).join(LOCK.trim_start_matches('/'));
            if command.kind() != Kind::Logout && is_locked(&lock).await && !self.is_unlocked(&lock, SystemTime::now()) {
                return Ok(locked(&what, ""));
            }
            let ended = self.host.run(way, TOOL, &command.arguments(), limit).await?;
            let printed = redacted(format!("{}\n{}", ended.stdout, ended.stderr), secrets);
            tracing::debug!(%what, code = ended.code, printed = printed.trim(), "iscsiadm has ended");
            if command.kind() == Kind::Login || command.kind() == Kind::Logout {
                self.is_misunderstood.store(tells_of_another_version(ended.code, &printed), Ordering::Relaxed);
            }
            match judge(ended.code, &printed, command.kind(), &what) {
                Outcome::Again(_) if attempt < ATTEMPTS => sleep(PAUSE).await,
                Outcome::Again(error) => return Ok(Outcome::Failed(error)),
                outcome => return Ok(outcome),
            }
        }
        Err(PathError::new(PathReason::Internal, format!("{what} was not tried")))
    }

    /// Removes a lock whose holder is dead, and tells whether it did: with a pod its tools are killed, and a killed
    /// iscsiadm leaves its lock behind for ever.
    fn is_unlocked(&self, lock: &Path, now: SystemTime) -> bool {
        let is_old = || taken(lock).is_some_and(|at| now.duration_since(at).is_ok_and(|age| age >= ORPHANED_AFTER));
        let is_orphaned = is_old() && self.host.runs_no(TOOL) && is_old();
        let removed = is_orphaned && fs::remove_file(lock).is_ok();
        if removed {
            tracing::warn!("removed {LOCK}, which an iscsiadm that was killed has left behind");
        }
        removed
    }
}

fn secret(setting: &Setting) -> Option<&str> {
    match &setting.value {
        Value::Plain(_) => None,
        Value::Secret(secret) => Some(secret.reveal()),
    }
}

/// What the tool printed, without secrets; the longest first, since one may be a part of another.
fn redacted(mut printed: String, secrets: &[&str]) -> String {
    let mut secrets: Vec<&str> = secrets.iter().copied().filter(|secret| !secret.is_empty()).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        printed = printed.replace(secret, "[redacted]");
    }
    printed
}

/// Whether somebody keeps the lock of the node database for longer than a change takes. While it goes from one to the
/// next, iscsiadm will have its turn too.
async fn is_locked(lock: &Path) -> bool {
    let (holder, since) = (taken(lock), Instant::now());
    while holder.is_some() && taken(lock) == holder {
        if since.elapsed() >= LOCKED_AT_MOST {
            return true;
        }
        sleep(LOOK_AT_LOCK_EVERY).await;
    }
    false
}

/// When the lock was taken. It is a hard link, and so that is when its inode was last changed.
fn taken(lock: &Path) -> Option<SystemTime> {
    let lock = lock.symlink_metadata().ok()?;
    let since_epoch = Duration::new(lock.ctime().try_into().ok()?, lock.ctime_nsec().try_into().ok()?);
    Some(UNIX_EPOCH + since_epoch)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a23_what_the_tool_prints_is_redacted_also_where_one_secret_is_part_of_another() {
        let printed = "iscsiadm: bad value hunter2 or hunter22".to_owned();
        assert_eq!(redacted(printed, &["hunter2", "", "hunter22"]), "iscsiadm: bad value [redacted] or [redacted]");
    }

    #[test]
    fn a25_a_lock_is_removed_when_it_is_old_and_nobody_can_hold_it() {
        let root = tempfile::tempdir().unwrap();
        let lock = root.path().join("lock.write");
        fs::write(&lock, "").unwrap();
        let iscsiadm = Iscsiadm::new(Host::in_directory(root.path()));
        let soon = taken(&lock).unwrap() + Duration::from_secs(29);
        let later = soon + Duration::from_secs(1);
        assert!(!iscsiadm.is_unlocked(&lock, later), "not every process of the host can be seen");
        let proc = root.path().join("proc");
        fs::create_dir_all(proc.join("1/ns")).unwrap();
        symlink("pid:[4026531836]", proc.join("1/ns/pid")).unwrap();
        fs::create_dir_all(proc.join("7")).unwrap();
        fs::write(proc.join("7/comm"), "iscsiadm\n").unwrap();
        assert!(!iscsiadm.is_unlocked(&lock, later), "an iscsiadm runs");
        fs::write(proc.join("7/comm"), "iscsid\n").unwrap();
        assert!(!iscsiadm.is_unlocked(&lock, soon), "it is not old");
        assert!(iscsiadm.is_unlocked(&lock, later) && !lock.exists());
        assert!(!iscsiadm.is_unlocked(&lock, later), "there is none");
    }
}
