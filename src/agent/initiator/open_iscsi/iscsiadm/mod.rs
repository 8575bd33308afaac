//! Runs `iscsiadm`: its commands ([`command`]), its [`lock`], and its exit codes ([`outcome`]).

pub mod command;
mod lock;
pub mod outcome;
pub mod printed;

use std::{
    iter,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use tokio::time::sleep;

use self::{
    command::{Command, CommandKind},
    lock::HeldLock,
    outcome::{CommandOutcome, classify, is_version_mismatch, locked},
    printed::Printed,
};
use super::record::NodeRecord;
use crate::{
    agent::{
        host::{access::HostAccess, error::HostError, host_root::HostRoot, tools::HostTools},
        initiator::PathError,
        types::credentials::{Account, Credentials, Password},
    },
    api::SessionSettings,
    ops::one_line,
};

const TOOL: &str = "iscsiadm";
/// The daemon that iscsiadm talks to.
pub const DAEMON: &str = "iscsid";
/// Where the daemon listens, as procfs shows it.
const ADDRESS: &str = "@ISCSIADM_ABSTRACT_NAMESPACE";
/// The timeout of a query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a change of a record. iscsiadm itself waits 30 s for the lock, and longer under load.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// The time that a login may take beyond its login timeout: iscsid checks timeouts only now and then, and iscsiadm may
/// have to start iscsid.
const LOGIN_MARGIN: Duration = Duration::from_secs(15);
/// The timeout of a logout. iscsid itself waits 15 s for the target.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(40);
/// The number of attempts of a command that may succeed in a moment.
const MAX_ATTEMPTS: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The agent lets this many others have the lock before it, each for the time of a change.
const MAX_HOLDERS: u32 = 50;

/// The host's `iscsiadm`.
#[derive(Debug)]
pub struct Iscsiadm {
    tools: HostTools,
    /// Whether the last login or logout showed that iscsid has another version.
    version_mismatch: AtomicBool,
}

impl Iscsiadm {
    /// The `iscsiadm` among these tools.
    #[must_use]
    pub fn new(tools: HostTools) -> Self {
        Iscsiadm { tools, version_mismatch: AtomicBool::new(false) }
    }

    /// The way to reach it.
    ///
    /// # Errors
    /// If the namespaces of the host's processes cannot be read.
    pub fn access(&self) -> Result<HostAccess, HostError> {
        self.tools.access(DAEMON)
    }

    /// Whether the last login or logout showed that iscsid has another version.
    #[must_use]
    pub fn has_version_mismatch(&self) -> bool {
        self.version_mismatch.load(Ordering::Relaxed)
    }

    /// Its version, such as `2.1.8`.
    ///
    /// # Errors
    /// If it does not exist or cannot be run.
    pub async fn version(&self, access: &HostAccess) -> Result<String, PathError> {
        let output = self.tools.run(access, TOOL, &Command::Version.arguments(), QUERY_TIMEOUT).await?;
        match version(&output.stdout) {
            Some(version) if output.code == Some(0) => Ok(version),
            _ => Err(PathError::internal(format!("iscsiadm does not tell its version: {}", one_line(&output.stderr)))),
        }
    }

    /// Changes a record.
    ///
    /// # Errors
    /// If the tool could not be run, or took too long.
    pub async fn change(&self, access: &HostAccess, command: &Command<'_>) -> Result<CommandOutcome, PathError> {
        self.run(access, command, &[], CHANGE_TIMEOUT).await
    }

    /// Takes the lock of the database, for a change that the agent makes itself.
    ///
    /// # Errors
    /// If the lock cannot be taken, or another holds it for longer than a change takes.
    pub async fn lock(&self, root: &HostRoot, what: &str) -> Result<HeldLock, PathError> {
        for _ in 0..MAX_HOLDERS {
            if let Some(held) = lock::take(root)? {
                return Ok(held);
            }
            if !self.waits_for_lock(root).await {
                break;
            }
        }
        Err(locked(what, Printed::new("", &[])))
    }

    /// Logs in.
    ///
    /// # Errors
    /// If the tool could not be run, or took too long.
    pub async fn login(
        &self,
        access: &HostAccess,
        record: &NodeRecord,
        settings: SessionSettings,
        credentials: Option<&Credentials>,
    ) -> Result<CommandOutcome, PathError> {
        let limit = Duration::from_secs(settings.login_timeout_seconds.into()) + LOGIN_MARGIN;
        let accounts = credentials.into_iter().flat_map(|given| iter::once(&given.outgoing).chain(&given.incoming));
        let secrets: Vec<&str> =
            accounts.flat_map(|Account { name, password }| [name, password]).map(Password::reveal).collect();
        self.run(access, &Command::Login(record), &secrets, limit).await
    }

    /// Logs out.
    ///
    /// # Errors
    /// If the tool could not be run, or took too long.
    pub async fn logout(&self, access: &HostAccess, id: u32) -> Result<CommandOutcome, PathError> {
        self.run(access, &Command::Logout(id), &[], LOGOUT_TIMEOUT).await
    }

    /// Opens the host's root directory.
    ///
    /// # Errors
    /// If it cannot be opened, or is not the host's.
    pub fn root(&self, access: &HostAccess) -> Result<HostRoot, HostError> {
        self.tools.root(access)
    }

    async fn run(
        &self,
        access: &HostAccess,
        command: &Command<'_>,
        secrets: &[&str],
        limit: Duration,
    ) -> Result<CommandOutcome, PathError> {
        let what = command.to_string();
        for attempt in 1.. {
            // Wait for the lock here: iscsiadm waits half a minute for it, without a message.
            if command.kind() != CommandKind::Logout {
                let root = self.tools.root(access)?;
                lock::check_directory(&root)?;
                if !self.waits_for_lock(&root).await {
                    return Ok(CommandOutcome::Failed(locked(&what, Printed::new("", &[]))));
                }
            }
            // Not only a login has something to say to the daemon: to make a record, iscsiadm asks it which configuration
            // file to read.
            self.tools.check_listener(DAEMON, ADDRESS)?;
            let output = self.tools.run(access, TOOL, &command.arguments(), limit).await?;
            let text = format!("{}\n{}", output.stdout, output.stderr);
            let printed = Printed::new(&text, secrets);
            tracing::debug!(%what, code = output.code, printed = printed.all_shown(), "iscsiadm has ended");
            if command.kind() == CommandKind::Login || command.kind() == CommandKind::Logout {
                self.version_mismatch.store(is_version_mismatch(output.code, printed), Ordering::Relaxed);
            }
            match classify(output.code, printed, command.kind(), &what) {
                CommandOutcome::Retry(_) if attempt < MAX_ATTEMPTS => sleep(RETRY_PAUSE).await,
                CommandOutcome::Retry(error) => return Ok(CommandOutcome::Failed(error)),
                outcome => return Ok(outcome),
            }
        }
        Err(PathError::internal(format!("{what} was not tried")))
    }

    /// Waits until the lock is free, or was taken by another meanwhile. False if one holder keeps it.
    async fn waits_for_lock(&self, root: &HostRoot) -> bool {
        let is_free = || self.tools.is_certainly_not_running(TOOL);
        !lock::is_locked(root).await || lock::remove_if_stale(root, SystemTime::now(), is_free)
    }
}

/// The version in the output of `iscsiadm --version`: its last word.
fn version(printed: &str) -> Option<String> {
    printed.split_whitespace().last().map(one_line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    fuzz! {
        any_version_of_iscsiadm_is_read: "iscsiadm-version" => |input| Parsed::new().shown(version(&lossy(input)));
    }
}
