//! Our records in open-iscsi's node database: one interface record for each device, one node record for each path.
//!
//! The database is not safe against changes at the same time, so they are made one by one; and each costs a fork, so
//! only what differs is changed.

pub mod database;

use std::sync::Arc;

use tokio::sync::{Mutex, RwLock};

use self::database::{Database, Found, Settings};
use super::iscsiadm::{
    Iscsiadm,
    command::{Command, InterfaceRecord, Record, Setting, Value},
    outcome::Outcome,
};
use crate::{
    agent::{
        credentials::{Account, Credentials, Password},
        host::access::Way,
        initiator::{Login, PathError},
    },
    api::{SessionSettings, reason::PathReason},
};

/// Our records of a host.
#[derive(Debug)]
pub struct Records {
    iscsiadm: Arc<Iscsiadm>,
    /// Held while the database is changed.
    changing: Mutex<()>,
    /// Shared by the logins that have their records made, or wait for it.
    preparing: RwLock<()>,
}

impl Records {
    /// Those that this tool keeps.
    #[must_use]
    pub fn new(iscsiadm: Arc<Iscsiadm>) -> Self {
        Records { iscsiadm, changing: Mutex::default(), preparing: RwLock::default() }
    }

    /// Makes the records of a login as they should be. With `afresh` they are made anew, whatever is found.
    ///
    /// It returns when those of all other logins are made too: beside logins that are under way each change takes several
    /// times as long, and the last login has to wait for the last record in any case.
    ///
    /// # Errors
    /// When iscsiadm refuses; `InvalidRecord` when it cannot find or read what was made.
    pub async fn prepare(&self, way: &Way, login: &Login, record: &Record, afresh: bool) -> Result<(), PathError> {
        {
            let _preparing = self.preparing.read().await;
            let _changing = self.changing.lock().await;
            self.prepare_interface(way, &record.interface, afresh).await?;
            self.prepare_node(way, record, &wanted(login), afresh).await?;
        }
        drop(self.preparing.write().await);
        Ok(())
    }

    /// Forgets a node record.
    ///
    /// # Errors
    /// When iscsiadm refuses.
    pub async fn forget(&self, way: &Way, record: &Record) -> Result<(), PathError> {
        let _changing = self.changing.lock().await;
        self.delete(way, record).await
    }

    /// Forgets our records that are not to stay; interface records when none of their nodes stays.
    ///
    /// # Errors
    /// The last error; what else there is to forget is forgotten.
    pub async fn tidy(
        &self,
        way: &Way,
        stays: impl Fn(&Record) -> bool,
        interface_stays: impl Fn(&InterfaceRecord) -> bool,
    ) -> Result<(), PathError> {
        let mut result = Ok(());
        let database = self.database(way);
        // Deleting an interface record takes its node records along.
        for interface in database.interfaces().iter().filter(|interface| !interface_stays(interface)) {
            let _changing = self.changing.lock().await;
            if let Err(error) = self.change(way, &Command::DeleteInterface(interface)).await {
                result = Err(error);
            }
        }
        for record in database.nodes().iter().filter(|record| !stays(record)) {
            if let Err(error) = self.forget(way, record).await {
                result = Err(error);
            }
        }
        result
    }

    async fn prepare_interface(&self, way: &Way, record: &InterfaceRecord, afresh: bool) -> Result<(), PathError> {
        let is_bound = || self.database(way).is_bound(record);
        if is_bound() && !afresh {
            return Ok(());
        }
        let made = self.change(way, &Command::NewInterface(record)).await;
        if is_bound() {
            return Ok(());
        }
        // An old version makes it and leaves it unbound; none makes one anew that a session uses.
        match record.device {
            Some(_) => self.change(way, &Command::UpdateInterface(record)).await,
            None => made,
        }
    }

    async fn prepare_node(
        &self,
        way: &Way,
        record: &Record,
        wanted: &[Setting],
        afresh: bool,
    ) -> Result<(), PathError> {
        let database = self.database(way);
        let mut found = database.node(record);
        let is_usable = matches!(found, Found::Settings(_)) && !afresh && !has_twin(&database, record);
        if !is_usable {
            if found != Found::Nothing || has_twin(&database, record) {
                // One that a session uses is not deleted, and is overwritten below.
                let _ = self.delete(way, record).await;
            }
            self.change(way, &Command::NewNode(record)).await?;
            found = database.node(record);
        }
        let differing = differing(wanted, if let Found::Settings(settings) = &found { Some(settings) } else { None });
        if differing.is_empty() {
            return Ok(());
        }
        self.change(way, &Command::UpdateNode(record, &differing)).await
    }

    async fn delete(&self, way: &Way, record: &Record) -> Result<(), PathError> {
        let database = self.database(way);
        match database.node(record) {
            Found::Nothing if !has_twin(&database, record) => Ok(()),
            Found::Nothing | Found::Settings(_) => self.change(way, &Command::DeleteNode(record)).await,
            Found::Unreadable => {
                // It may be readable for iscsiadm after all, which then leaves no empty directories.
                let _ = self.change(way, &Command::DeleteNode(record)).await;
                database.remove(record).map_err(|error| {
                    PathError::new(
                        PathReason::InvalidRecord,
                        format!("the record {record} cannot be read, and not be removed: {error}; remove it by hand"),
                    )
                })
            }
        }
    }

    async fn change(&self, way: &Way, command: &Command<'_>) -> Result<(), PathError> {
        match self.iscsiadm.change(way, command).await? {
            Outcome::Done => Ok(()),
            Outcome::Look(error) | Outcome::Again(error) | Outcome::Remake(error) | Outcome::Failed(error) => {
                Err(error)
            }
        }
    }

    fn database(&self, way: &Way) -> Database {
        Database::new(&self.iscsiadm.root(way))
    }
}

/// Whether there is a record that differs in its tag only: iscsiadm would take both for the same.
fn has_twin(database: &Database, record: &Record) -> bool {
    let twin = |other: &Record| other.tpgt != record.tpgt && Record { tpgt: record.tpgt, ..other.clone() } == *record;
    database.nodes().iter().any(twin)
}

/// The settings that a record should have; an empty value means that it should be unset.
fn wanted(login: &Login) -> Vec<Setting> {
    let SessionSettings {
        login_timeout_seconds,
        replacement_timeout_seconds,
        noop_interval_seconds,
        noop_timeout_seconds,
    } = login.settings;
    let plain = |name, value: &str| Setting { name, value: Value::Plain(value.to_owned()) };
    let mut settings = vec![
        // Nobody but the agent logs in: not at boot, and not out at shutdown.
        plain("node.startup", "manual"),
        plain("node.conn[0].startup", "manual"),
        // One attempt: the agent repeats it by itself, and reports the portal meanwhile.
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
    // A host's defaults may ask for several sessions, or for none of their disks.
    settings.extend([plain(SESSIONS, "1"), plain(SCAN, "auto")]);
    settings
}

const AUTH_METHOD: &str = "node.session.auth.authmethod";
/// Settings that not every version knows, and that matter only where a record has them.
const SESSIONS: &str = "node.session.nr_sessions";
const SCAN: &str = "node.session.scan";

fn account(name: &'static str, password: &'static str, account: Option<&Account>) -> [Setting; 2] {
    let value = |secret: Option<&Password>| {
        secret.map_or_else(|| Value::Plain(String::new()), |secret| Value::Secret(secret.clone()))
    };
    [
        Setting { name, value: value(account.map(|account| &account.name)) },
        Setting { name: password, value: value(account.map(|account| &account.password)) },
    ]
}

/// The settings that a record has otherwise. Of a record that cannot be read nothing is known: then all.
fn differing(wanted: &[Setting], found: Option<&Settings>) -> Vec<Setting> {
    let differs = |setting: &&Setting| {
        let is_optional = [SESSIONS, SCAN].contains(&setting.name);
        let known = found.map(|found| found.get(setting.name).map(String::as_str));
        match known {
            None | Some(None) if is_optional => false,
            None => true,
            Some(known) => known.unwrap_or_default() != setting.value.reveal(),
        }
    };
    wanted.iter().filter(differs).cloned().collect()
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
    fn a_record_has_the_data_centers_settings_and_one_attempt() {
        let settings = shown(&wanted(&login(None)));
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
    fn a23_only_what_differs_is_changed_and_chap_is_cleared_when_it_is_gone() {
        let mutual = wanted(&login(Some(chap("hunter2"))));
        let record = record_of(&mutual);
        assert_eq!(differing(&mutual, Some(&record)), [], "nothing");
        let rotated = wanted(&login(Some(chap("hunter3"))));
        assert_eq!(shown(&differing(&rotated, Some(&record))), ["node.session.auth.password=hunter3"]);
        let none = wanted(&login(None));
        assert_eq!(
            shown(&differing(&none, Some(&record))),
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
    fn what_not_every_version_knows_is_changed_only_where_a_record_has_it_otherwise() {
        let wanted = wanted(&login(None));
        let names = |found: Option<&Settings>| -> Vec<_> {
            differing(&wanted, found).iter().map(|setting| setting.name).filter(|name| *name == SCAN).collect()
        };
        let with = |value: &str| Settings::from([(SCAN.to_owned(), value.to_owned())]);
        assert_eq!(names(None), [""; 0]);
        assert_eq!(names(Some(&Settings::new())), [""; 0]);
        assert_eq!(names(Some(&with("auto"))), [""; 0]);
        assert_eq!(names(Some(&with("manual"))), [SCAN]);
    }
}
