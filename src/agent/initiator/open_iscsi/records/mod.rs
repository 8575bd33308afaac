//! The agent's records in open-iscsi's database: one interface record for each interface, one node record for each path.
//!
//! The database does not support concurrent changes, so they are made one after the other. Each change starts a process,
//! so only settings that differ are changed.

pub mod database;

use std::sync::Arc;

use tokio::sync::{Mutex, RwLock};

use self::database::{Database, Settings, StoredRecord};
use super::{
    iscsiadm::{
        Iscsiadm,
        command::{Command, Setting, Value},
    },
    record::{InterfaceRecord, NodeRecord},
};
use crate::{
    agent::{
        host::access::HostAccess,
        initiator::{Login, PathError},
        types::credentials::{Account, Credentials, Password},
    },
    api::{SessionSettings, reason::PathReason},
};

/// The agent's records on a host.
#[derive(Debug)]
pub struct Records {
    iscsiadm: Arc<Iscsiadm>,
    /// Held while the database is changed.
    changing: Mutex<()>,
    /// Read-locked by each login whose records are being prepared.
    preparing: RwLock<()>,
}

impl Records {
    /// The records that this tool manages.
    #[must_use]
    pub fn new(iscsiadm: Arc<Iscsiadm>) -> Self {
        Records { iscsiadm, changing: Mutex::default(), preparing: RwLock::default() }
    }

    /// Prepares the records of a login. With `recreate`, existing records are replaced.
    ///
    /// Returns only when the records of all other waiting logins are prepared too. While logins run, each change takes
    /// several times as long; so it is faster to change all records first.
    ///
    /// # Errors
    /// If iscsiadm fails; `InvalidRecord` if it cannot find or read the new record.
    pub async fn prepare(
        &self,
        access: &HostAccess,
        login: &Login,
        record: &NodeRecord,
        recreate: bool,
    ) -> Result<(), PathError> {
        {
            let _preparing = self.preparing.read().await;
            let _changing = self.changing.lock().await;
            self.prepare_interface(access, &record.interface, recreate).await?;
            self.prepare_node(access, record, &desired_settings(login), recreate).await?;
        }
        drop(self.preparing.write().await);
        Ok(())
    }

    /// Deletes a node record.
    ///
    /// # Errors
    /// If iscsiadm fails.
    pub async fn delete(&self, access: &HostAccess, record: &NodeRecord) -> Result<(), PathError> {
        let _changing = self.changing.lock().await;
        self.delete_locked(access, record).await
    }

    /// Deletes the agent's records, except those to keep.
    ///
    /// # Errors
    /// The last error. The other records are still deleted.
    pub async fn tidy(
        &self,
        access: &HostAccess,
        keep_node: impl Fn(&NodeRecord) -> bool,
        keep_interface: impl Fn(&InterfaceRecord) -> bool,
    ) -> Result<(), PathError> {
        let mut result = Ok(());
        let database = self.database(access)?;
        // This also deletes the node records of the interface.
        for interface in database.interfaces().iter().filter(|interface| !keep_interface(interface)) {
            let _changing = self.changing.lock().await;
            if let Err(error) = self.change(access, &Command::DeleteInterface(interface)).await {
                result = Err(error);
            }
        }
        for record in database.nodes().iter().filter(|record| !keep_node(record)) {
            if let Err(error) = self.delete(access, record).await {
                result = Err(error);
            }
        }
        result
    }

    async fn prepare_interface(
        &self,
        access: &HostAccess,
        record: &InterfaceRecord,
        recreate: bool,
    ) -> Result<(), PathError> {
        let database = self.database(access)?;
        if database.is_bound(record) && !recreate {
            return Ok(());
        }
        let result = self.change(access, &Command::NewInterface(record)).await;
        if database.is_bound(record) {
            return Ok(());
        }
        // Old versions create it, but do not bind it. No version replaces a record that a session uses.
        match record.device {
            Some(_) => self.change(access, &Command::UpdateInterface(record)).await,
            None => result,
        }
    }

    async fn prepare_node(
        &self,
        access: &HostAccess,
        record: &NodeRecord,
        desired: &[Setting],
        recreate: bool,
    ) -> Result<(), PathError> {
        let database = self.database(access)?;
        let mut found = database.node(record);
        let has_conflict = has_conflicting_tag(&database, record);
        let is_usable = matches!(found, StoredRecord::Settings(_)) && !recreate && !has_conflict;
        if !is_usable {
            if found != StoredRecord::Missing || has_conflict {
                // A record that a session uses cannot be deleted; it is overwritten below.
                let _ = self.delete_locked(access, record).await;
            }
            self.change(access, &Command::NewNode(record)).await?;
            found = database.node(record);
        }
        let current = if let StoredRecord::Settings(settings) = &found { Some(settings) } else { None };
        let changes = settings_to_change(desired, current);
        if changes.is_empty() {
            return Ok(());
        }
        self.change(access, &Command::UpdateNode(record, &changes)).await
    }

    async fn delete_locked(&self, access: &HostAccess, record: &NodeRecord) -> Result<(), PathError> {
        let database = self.database(access)?;
        match database.node(record) {
            StoredRecord::Missing if !has_conflicting_tag(&database, record) => Ok(()),
            StoredRecord::Missing | StoredRecord::Settings(_) => {
                self.change(access, &Command::DeleteNode(record)).await
            }
            StoredRecord::Unreadable => {
                // If iscsiadm can read it after all, it also removes the empty directories.
                let _ = self.change(access, &Command::DeleteNode(record)).await;
                database.remove(record).map_err(|error| {
                    PathError::new(
                        PathReason::InvalidRecord,
                        format!("the record {record} cannot be read, and not be removed: {error}; remove it by hand"),
                    )
                })
            }
        }
    }

    async fn change(&self, access: &HostAccess, command: &Command<'_>) -> Result<(), PathError> {
        self.iscsiadm.change(access, command).await?.into_result()
    }

    fn database(&self, access: &HostAccess) -> Result<Database, PathError> {
        Ok(Database::new(self.iscsiadm.root(access)?))
    }
}

/// Whether there is a record that differs only in its portal group tag: iscsiadm confuses them.
fn has_conflicting_tag(database: &Database, record: &NodeRecord) -> bool {
    database
        .nodes()
        .into_iter()
        .any(|other| other.tpgt != record.tpgt && NodeRecord { tpgt: record.tpgt, ..other } == *record)
}

/// The settings that a record should have; an empty value unsets a setting.
fn desired_settings(login: &Login) -> Vec<Setting> {
    let SessionSettings {
        login_timeout_seconds,
        replacement_timeout_seconds,
        noop_interval_seconds,
        noop_timeout_seconds,
    } = login.settings;
    let mut settings = vec![
        // Only the agent logs in and out; nothing does so at boot or shutdown.
        plain("node.startup", "manual"),
        plain("node.conn[0].startup", "manual"),
        // iscsid gives up after this many times the login timeout. The agent retries, and reports the path meanwhile.
        plain("node.session.initial_login_retry_max", "1"),
        plain("node.conn[0].timeo.login_timeout", &login_timeout_seconds.to_string()),
        plain("node.session.timeo.replacement_timeout", &replacement_timeout_seconds.to_string()),
        plain("node.conn[0].timeo.noop_out_interval", &noop_interval_seconds.to_string()),
        plain("node.conn[0].timeo.noop_out_timeout", &noop_timeout_seconds.to_string()),
        plain(AUTH_METHOD, if login.credentials.is_some() { "CHAP" } else { "None" }),
    ];
    let outgoing = login.credentials.as_ref().map(|Credentials { outgoing, .. }| outgoing);
    let incoming = login.credentials.as_ref().and_then(|Credentials { incoming, .. }| incoming.as_ref());
    settings.extend(account("node.session.auth.username", "node.session.auth.password", outgoing));
    settings.extend(account("node.session.auth.username_in", "node.session.auth.password_in", incoming));
    // The defaults of a host may request several sessions, or none of their disks.
    settings.extend([plain(SESSIONS, "1"), plain(SCAN, "auto")]);
    settings
}

const AUTH_METHOD: &str = "node.session.auth.authmethod";
/// Settings that old versions do not know. They are changed only if a record has them.
const SESSIONS: &str = "node.session.nr_sessions";
const SCAN: &str = "node.session.scan";

fn plain(name: &'static str, value: &str) -> Setting {
    Setting { name, value: Value::Plain(value.to_owned()) }
}

fn secret(name: &'static str, value: Option<&Password>) -> Setting {
    value.map_or_else(|| plain(name, ""), |value| Setting { name, value: Value::Secret(value.clone()) })
}

fn account(name: &'static str, password: &'static str, account: Option<&Account>) -> [Setting; 2] {
    [secret(name, account.map(|account| &account.name)), secret(password, account.map(|account| &account.password))]
}

/// The desired settings that differ from the current ones; all of them if the record cannot be read.
fn settings_to_change(desired: &[Setting], current: Option<&Settings>) -> Vec<Setting> {
    desired.iter().filter(|setting| must_change(setting, current)).cloned().collect()
}

fn must_change(setting: &Setting, current: Option<&Settings>) -> bool {
    let is_optional = [SESSIONS, SCAN].contains(&setting.name);
    match current.map(|current| current.get(setting.name)) {
        None | Some(None) if is_optional => false,
        None => true,
        Some(value) => value.map(String::as_str).unwrap_or_default() != setting.value.reveal(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::fixtures::path;

    fn login(credentials: Option<Credentials>) -> Login {
        let settings =
            SessionSettings { login_timeout_seconds: 7, noop_timeout_seconds: 8, ..SessionSettings::default() };
        Login { path: path("a", "1", "ens1"), network: None, settings, credentials }
    }

    fn chap(password: &str) -> Credentials {
        let account = |name: &str, password: &str| Account {
            name: Password::from(name.to_owned()),
            password: Password::from(password.to_owned()),
        };
        Credentials { outgoing: account("ann", password), incoming: Some(account("box", "sesame")) }
    }

    fn record_of(settings: &[Setting]) -> Settings {
        let set = settings.iter().filter(|setting| !setting.value.reveal().is_empty());
        set.map(|setting| (setting.name.to_owned(), setting.value.reveal().to_owned())).collect()
    }

    fn shown(settings: &[Setting]) -> Vec<String> {
        settings.iter().map(|setting| format!("{}={}", setting.name, setting.value.reveal())).collect()
    }

    #[test]
    fn a_record_has_the_settings_of_the_data_center_and_one_attempt() {
        let settings = shown(&desired_settings(&login(None)));
        for expected in [
            "node.startup=manual",
            "node.session.initial_login_retry_max=1",
            "node.conn[0].timeo.login_timeout=7",
            "node.session.timeo.replacement_timeout=15",
            "node.conn[0].timeo.noop_out_interval=5",
            "node.conn[0].timeo.noop_out_timeout=8",
            "node.session.auth.authmethod=None",
            "node.session.auth.password=",
        ] {
            assert!(settings.contains(&expected.to_owned()), "{expected}: {settings:?}");
        }
    }

    #[test]
    fn a23_only_differing_settings_change_and_unused_chap_is_cleared() {
        let mutual = desired_settings(&login(Some(chap("hunter2"))));
        let record = record_of(&mutual);
        assert_eq!(settings_to_change(&mutual, Some(&record)), [], "nothing");
        let rotated = desired_settings(&login(Some(chap("hunter3"))));
        assert_eq!(shown(&settings_to_change(&rotated, Some(&record))), ["node.session.auth.password=hunter3"]);
        let none = desired_settings(&login(None));
        assert_eq!(
            shown(&settings_to_change(&none, Some(&record))),
            [
                "node.session.auth.authmethod=None",
                "node.session.auth.username=",
                "node.session.auth.password=",
                "node.session.auth.username_in=",
                "node.session.auth.password_in=",
            ]
        );
        assert!(!format!("{mutual:?}").contains("hunter2"));
    }

    #[test]
    fn an_optional_setting_changes_only_if_a_record_has_it() {
        let desired = desired_settings(&login(None));
        let names = |found: Option<&Settings>| -> Vec<_> {
            settings_to_change(&desired, found)
                .iter()
                .map(|setting| setting.name)
                .filter(|name| *name == SCAN)
                .collect()
        };
        let with = |value: &str| Settings::from([(SCAN.to_owned(), value.to_owned())]);
        assert_eq!(names(None), [""; 0]);
        assert_eq!(names(Some(&Settings::new())), [""; 0]);
        assert_eq!(names(Some(&with("auto"))), [""; 0]);
        assert_eq!(names(Some(&with("manual"))), [SCAN]);
    }
}
