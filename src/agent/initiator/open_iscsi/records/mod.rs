//! The agent's records in open-iscsi's database: one interface record for each interface, one node record for each path.
//!
//! The database does not support concurrent changes, so they are made one after the other. iscsiadm makes and deletes
//! records; their settings are changed in their files, under open-iscsi's lock.
//!
//! The agent's interface records are hidden from the discovery of others ([`database`]), and its node records carry a mark,
//! by which the agent knows its own when nothing else tells: neither the plan nor the last report.

pub mod database;
pub mod settings;

use std::sync::Arc;

use tokio::sync::{Mutex, RwLock};

use self::{
    database::{Database, StoredRecord, TCP, TRANSPORT},
    settings::{Setting, Settings, Value},
};
use super::{
    iscsiadm::{Iscsiadm, command::Command},
    record::{DEFAULT_RECORD, InterfaceRecord, NodeRecord},
};
use crate::{
    agent::{
        host::access::HostAccess,
        initiator::{AutomaticRecord, Login, PathError},
        types::{
            IscsiPath,
            credentials::{Account, Credentials, Password},
        },
    },
    api::{Portal, SessionSettings, address::parse_ip, reason::PathReason},
    ops::one_line,
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

    /// The credentials that are stored for the next login of a path; none without CHAP.
    #[must_use]
    pub fn stored_credentials(&self, access: &HostAccess, path: &IscsiPath) -> Option<Credentials> {
        self.find_stored(access, path, |_, settings| credentials(settings))
    }

    /// What is found in the first readable record of a path by address that has it.
    fn find_stored<T>(
        &self,
        access: &HostAccess,
        path: &IscsiPath,
        find: impl Fn(&NodeRecord, &Settings) -> Option<T>,
    ) -> Option<T> {
        let database = self.database(access).ok()?;
        database.nodes_of(path).iter().find_map(|record| match database.node(record) {
            StoredRecord::Settings(settings) => find(record, &settings),
            StoredRecord::Missing | StoredRecord::Unreadable => None,
        })
    }

    /// The path that the record of a path by address was made for: with the DNS name, if it has one. None if there is no
    /// such record.
    #[must_use]
    pub fn requested_path(&self, access: &HostAccess, path: &IscsiPath) -> Option<IscsiPath> {
        self.find_stored(access, path, |record, settings| {
            Some(match stored_name(settings) {
                Some(name) => IscsiPath { portal: Portal::new(name, record.port), ..path.clone() },
                None => path.clone(),
            })
        })
    }

    /// The credentials that are stored for the next login of a path of a plan. If its portal has a DNS name, they are those of
    /// the record that was made for it, by an address.
    #[must_use]
    pub fn credentials_for_login(&self, access: &HostAccess, path: &IscsiPath) -> Option<Credentials> {
        let is_for_path = |found: &IscsiPath| {
            (&found.target, &found.interface) == (&path.target, &path.interface)
                && self.requested_path(access, found).as_ref() == Some(path)
        };
        let by_name = || {
            let mut found = self.database(access).ok()?.nodes().into_iter().map(|record| record.path());
            self.stored_credentials(access, &found.find(is_for_path)?)
        };
        self.stored_credentials(access, path).or_else(by_name)
    }

    /// Writes into the record of a path by address for which path it is from now on.
    ///
    /// # Errors
    /// If the lock cannot be taken, or the record cannot be written.
    pub async fn rename(&self, access: &HostAccess, path: &IscsiPath, requested: &IscsiPath) -> Result<(), PathError> {
        let _changing = self.changing.lock().await;
        for record in self.database(access)?.nodes_of(path) {
            self.write(access, &record, &[portal_name(requested)]).await?;
        }
        Ok(())
    }

    /// Deletes the node record of a path, whatever portal group it has.
    ///
    /// # Errors
    /// If iscsiadm fails.
    pub async fn delete(&self, access: &HostAccess, path: &IscsiPath) -> Result<(), PathError> {
        let _changing = self.changing.lock().await;
        let mut result = Ok(());
        for record in self.database(access)?.nodes_of(path) {
            result = self.delete_locked(access, &record).await.and(result);
        }
        result
    }

    /// Whether the record of a path has what every record of the agent has.
    #[must_use]
    pub fn is_kept(&self, access: &HostAccess, path: &IscsiPath) -> bool {
        let is_kept = |settings: &Settings| settings_to_change(&identity(), settings).is_empty();
        self.find_stored(access, path, |_, settings| is_kept(settings).then_some(())).is_some()
    }

    /// The records, of whomever, by which open-iscsi logs in by itself; sorted.
    #[must_use]
    pub fn automatic(&self, access: &HostAccess) -> Vec<AutomaticRecord> {
        let Ok(database) = self.database(access) else { return Vec::new() };
        let mut found: Vec<_> = database.all_settings().iter().filter_map(automatic).collect();
        found.sort();
        found
    }

    /// Whether the record of a path has the agent's mark.
    #[must_use]
    pub fn is_marked(&self, access: &HostAccess, path: &IscsiPath) -> bool {
        self.find_stored(access, path, |_, settings| has_mark(settings).then_some(())).is_some()
    }

    /// Deletes the agent's records, except those to keep: these are hidden and marked. Of the records with the agent's
    /// names, those are the agent's that are claimed or carry its mark; others stay as they are, and so does the interface
    /// record that they use.
    ///
    /// # Errors
    /// The last error. The other records are still deleted.
    pub async fn tidy(
        &self,
        access: &HostAccess,
        is_claimed: impl Fn(&NodeRecord) -> bool,
        keep_node: impl Fn(&NodeRecord) -> bool,
        keep_interface: impl Fn(&InterfaceRecord) -> bool,
    ) -> Result<(), PathError> {
        let mut result = Ok(());
        let database = self.database(access)?;
        {
            let _changing = self.changing.lock().await;
            if let Err(error) = database.remove_unfinished() {
                result = Err(PathError::internal(format!("cannot remove an unfinished record: {error}")));
            }
        }
        let is_own = |record: &NodeRecord| is_claimed(record) || is_marked(&database.node(record));
        let (own, foreign): (Vec<_>, Vec<_>) = database.nodes().into_iter().partition(is_own);
        for interface in &database.interfaces() {
            let is_of = |records: &[NodeRecord]| records.iter().any(|record| record.interface == *interface);
            let done = if keep_interface(interface) {
                self.hide(access, interface).await
            } else if is_of(&foreign) || !(is_of(&own) || database.is_hidden(interface)) {
                Ok(())
            } else {
                let _changing = self.changing.lock().await;
                // This also deletes the node records of the interface.
                self.change(access, &Command::DeleteInterface(interface)).await
            };
            result = done.and(result);
        }
        for record in &own {
            let done = if keep_node(record) {
                self.mend(access, record).await
            } else {
                let _changing = self.changing.lock().await;
                self.delete_locked(access, record).await
            };
            result = done.and(result);
        }
        result
    }

    /// Hides an interface record, if it is not.
    async fn hide(&self, access: &HostAccess, record: &InterfaceRecord) -> Result<(), PathError> {
        let _changing = self.changing.lock().await;
        if self.database(access)?.is_hidden(record) { Ok(()) } else { self.hide_locked(access, record).await }
    }

    async fn hide_locked(&self, access: &HostAccess, record: &InterfaceRecord) -> Result<(), PathError> {
        let what = format!("changing the interface record {}", record.name());
        let _held = self.iscsiadm.lock(&self.iscsiadm.root(access)?, &what).await?;
        self.database(access)?
            .hide(record)
            .map_err(|error| PathError::new(PathReason::InvalidRecord, format!("{what} has failed: {error}")))
    }

    /// Gives a record of the agent back what others must not take from it. The rest is put right before the next login.
    async fn mend(&self, access: &HostAccess, record: &NodeRecord) -> Result<(), PathError> {
        let _changing = self.changing.lock().await;
        match self.database(access)?.node(record) {
            StoredRecord::Settings(current) => {
                self.write(access, record, &settings_to_change(&identity(), &current)).await
            }
            StoredRecord::Missing | StoredRecord::Unreadable => Ok(()),
        }
    }

    /// Changes settings of a record that exists, under open-iscsi's lock.
    async fn write(&self, access: &HostAccess, record: &NodeRecord, changes: &[Setting]) -> Result<(), PathError> {
        if changes.is_empty() {
            return Ok(());
        }
        let what = format!("changing the record {record}");
        let _held = self.iscsiadm.lock(&self.iscsiadm.root(access)?, &what).await?;
        self.database(access)?
            .change(record, changes)
            .map_err(|error| PathError::new(PathReason::InvalidRecord, format!("{what} has failed: {error}")))
    }

    async fn prepare_interface(
        &self,
        access: &HostAccess,
        record: &InterfaceRecord,
        recreate: bool,
    ) -> Result<(), PathError> {
        let database = self.database(access)?;
        if database.is_hidden(record) && !recreate {
            return Ok(());
        }
        if recreate || !database.has_interface(record) {
            let made = self.change(access, &Command::NewInterface(record)).await;
            // iscsiadm does not replace a record that a session uses.
            if !database.has_interface(record) {
                return made;
            }
        }
        self.hide_locked(access, record).await
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
        let existing = database.nodes_of(&record.path());
        let is_usable =
            matches!(found, StoredRecord::Settings(_)) && !recreate && existing.iter().all(|other| other == record);
        if !is_usable {
            // Those with other portal group tags too: iscsiadm confuses them.
            for record in &existing {
                // A record that a session uses cannot be deleted; it is overwritten below.
                let _ = self.delete_locked(access, record).await;
            }
            self.change(access, &Command::NewNode(record)).await?;
            found = database.node(record);
        }
        let StoredRecord::Settings(current) = found else {
            let message = format!(
                "the record {record} cannot be used: iscsiadm has made it, and it is in neither of {}, or not as it was made",
                database::DIRECTORIES.map(|directory| format!("/{directory}")).join(" and ")
            );
            return Err(PathError::new(PathReason::InvalidRecord, message));
        };
        self.write(access, record, &settings_to_change(desired, &current)).await
    }

    async fn delete_locked(&self, access: &HostAccess, record: &NodeRecord) -> Result<(), PathError> {
        let database = self.database(access)?;
        match database.node(record) {
            StoredRecord::Missing => Ok(()),
            StoredRecord::Settings(_) => match self.change(access, &Command::DeleteNode(record)).await {
                // Made by another version: iscsiadm reads it, and does not know a word in it (`discovery_type`).
                Err(error) if error.reason == PathReason::InvalidRecord => self.remove(access, &database, record).await,
                result => result,
            },
            StoredRecord::Unreadable => {
                // If iscsiadm can read it after all, it also removes the empty directories.
                let _ = self.change(access, &Command::DeleteNode(record)).await;
                self.remove(access, &database, record).await
            }
        }
    }

    /// Removes the file of a record that iscsiadm does not delete, under open-iscsi's lock.
    async fn remove(&self, access: &HostAccess, database: &Database, record: &NodeRecord) -> Result<(), PathError> {
        let what = format!("removing the record {record}");
        let _held = self.iscsiadm.lock(&self.iscsiadm.root(access)?, &what).await?;
        database.remove(record).map_err(|error| {
            PathError::new(
                PathReason::InvalidRecord,
                format!("open-iscsi does not delete the record {record}, and it cannot be removed: {error}; remove it by hand"),
            )
        })
    }

    async fn change(&self, access: &HostAccess, command: &Command<'_>) -> Result<(), PathError> {
        self.iscsiadm.change(access, command).await?.into_result()
    }

    fn database(&self, access: &HostAccess) -> Result<Database, PathError> {
        Ok(Database::new(self.iscsiadm.root(access)?))
    }
}

/// What every record of the agent has, for as long as it exists.
fn identity() -> [Setting; 4] {
    [
        plain(TRANSPORT, TCP),
        plain(MARK[0], MARK[1]),
        // Only the agent logs in and out; nothing does so at boot or shutdown.
        plain(STARTUP[0], "manual"),
        plain(STARTUP[1], "manual"),
    ]
}

/// A record, if open-iscsi logs in by it when the host boots.
fn automatic(settings: &Settings) -> Option<AutomaticRecord> {
    let is_automatic = |name: &str| settings.get(name).is_some_and(|startup| startup == "automatic");
    let port = settings.get("node.conn[0].port")?.parse().ok()?;
    let record = settings.get("iface.iscsi_ifacename").map_or(DEFAULT_RECORD, String::as_str);
    STARTUP.into_iter().any(is_automatic).then_some(AutomaticRecord {
        target: one_line(settings.get("node.name")?).into(),
        portal: Portal::new(&one_line(settings.get("node.conn[0].address")?), port),
        record: one_line(record).into(),
    })
}

/// Whether open-iscsi logs in by itself when the host boots.
const STARTUP: [&str; 2] = ["node.startup", "node.conn[0].startup"];

/// The agent's mark. A setting that open-iscsi does not know would be lost when iscsiadm changes another one, so it is one
/// that open-iscsi keeps and does not use in records that no discovery has made. There iscsiadm writes 0, and it refuses
/// to change it. The value is "mb" in ASCII.
const MARK: [&str; 2] = ["node.discovery_port", "28002"];

fn has_mark(settings: &Settings) -> bool {
    settings.get(MARK[0]).is_some_and(|value| *value == MARK[1])
}

fn is_marked(record: &StoredRecord) -> bool {
    match record {
        StoredRecord::Settings(settings) => has_mark(settings),
        StoredRecord::Missing | StoredRecord::Unreadable => false,
    }
}

/// The settings that a record should have; an empty value unsets a setting.
fn desired_settings(login: &Login) -> Vec<Setting> {
    let SessionSettings {
        login_timeout_seconds,
        replacement_timeout_seconds,
        noop_interval_seconds,
        noop_timeout_seconds,
    } = login.settings;
    let mut settings = identity().to_vec();
    settings.extend([
        // iscsid gives up after this many times the login timeout. The agent retries, and reports the path meanwhile.
        plain("node.session.initial_login_retry_max", "1"),
        plain("node.conn[0].timeo.login_timeout", &login_timeout_seconds.to_string()),
        plain("node.session.timeo.replacement_timeout", &replacement_timeout_seconds.to_string()),
        plain("node.conn[0].timeo.noop_out_interval", &noop_interval_seconds.to_string()),
        plain("node.conn[0].timeo.noop_out_timeout", &noop_timeout_seconds.to_string()),
        plain(AUTH_METHOD, if login.credentials.is_some() { CHAP } else { "None" }),
    ]);
    let outgoing = login.credentials.as_ref().map(|Credentials { outgoing, .. }| outgoing);
    let incoming = login.credentials.as_ref().and_then(|Credentials { incoming, .. }| incoming.as_ref());
    settings.extend(account(OUTGOING, outgoing));
    settings.extend(account(INCOMING, incoming));
    settings.push(portal_name(&login.path));
    // The defaults of a host may request several sessions, or none of their disks.
    settings.extend([plain(SESSIONS, "1"), plain(SCAN, "auto")]);
    settings
}

/// The DNS name of a portal, in its record by address. open-iscsi reads this setting only for portals that it has
/// discovered, and keeps it for all.
const PORTAL_NAME: &str = "node.discovery_address";
const AUTH_METHOD: &str = "node.session.auth.authmethod";
const CHAP: &str = "CHAP";
/// The settings of the accounts: name and password.
const OUTGOING: [&str; 2] = ["node.session.auth.username", "node.session.auth.password"];
const INCOMING: [&str; 2] = ["node.session.auth.username_in", "node.session.auth.password_in"];
/// Settings that old versions do not know. They are changed only if a record has them.
const SESSIONS: &str = "node.session.nr_sessions";
const SCAN: &str = "node.session.scan";

/// Empty for a portal that is an address.
fn portal_name(path: &IscsiPath) -> Setting {
    let host = path.portal.host();
    plain(PORTAL_NAME, if parse_ip(host).is_some() { "" } else { host })
}

/// The DNS name in a record by address; none if the setting has its other meaning.
fn stored_name(settings: &Settings) -> Option<&String> {
    let is_discovered = settings.get("node.discovery_type").is_some_and(|how| how != "static");
    settings.get(PORTAL_NAME).filter(|name| !is_discovered && parse_ip(name).is_none())
}

fn plain(name: &'static str, value: &str) -> Setting {
    Setting { name, value: Value::Plain(value.to_owned()) }
}

fn secret(name: &'static str, value: Option<&Password>) -> Setting {
    value.map_or_else(|| plain(name, ""), |value| Setting { name, value: Value::Secret(value.clone()) })
}

fn account([name, password]: [&'static str; 2], account: Option<&Account>) -> [Setting; 2] {
    [secret(name, account.map(|account| &account.name)), secret(password, account.map(|account| &account.password))]
}

/// The credentials in a record.
fn credentials(settings: &Settings) -> Option<Credentials> {
    let account = |names: [&str; 2]| {
        let [name, password] = names.map(|name| settings.get(name).cloned().map(Password::from));
        Some(Account { name: name?, password: password? })
    };
    settings.get(AUTH_METHOD).filter(|method| *method == CHAP)?;
    Some(Credentials { outgoing: account(OUTGOING)?, incoming: account(INCOMING) })
}

/// The desired settings that differ from the current ones.
fn settings_to_change(desired: &[Setting], current: &Settings) -> Vec<Setting> {
    desired.iter().filter(|setting| must_change(setting, current)).cloned().collect()
}

fn must_change(setting: &Setting, current: &Settings) -> bool {
    let found = if setting.name == PORTAL_NAME { stored_name(current) } else { current.get(setting.name) };
    let is_unknown = [SESSIONS, SCAN].contains(&setting.name) && found.is_none();
    !is_unknown && found.map_or("", String::as_str) != setting.value.reveal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::fixtures::path;

    fn login(credentials: Option<Credentials>) -> Login {
        let settings =
            SessionSettings { login_timeout_seconds: 7, noop_timeout_seconds: 8, ..SessionSettings::default() };
        let (portals, siblings) = Default::default();
        let path = path("a", "1", "ens1");
        Login { path, network: None, settings, credentials, portals, siblings, expected_tpgt: 1, only_tpgt: None }
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
    fn a_record_says_for_which_name_it_is_until_it_is_for_none() {
        let by_address = desired_settings(&login(None));
        let path = IscsiPath { portal: "san.example.com:3260".into(), ..path("a", "1", "ens1") };
        let by_name = desired_settings(&Login { path, ..login(None) });
        let renamed = shown(&settings_to_change(&by_name, &record_of(&by_address)));
        assert_eq!(renamed, ["node.discovery_address=san.example.com"]);
        let renamed = shown(&settings_to_change(&by_address, &record_of(&by_name)));
        assert_eq!(renamed, ["node.discovery_address="]);
        let mut discovered = record_of(&by_name);
        discovered.insert("node.discovery_type".to_owned(), "send_targets".to_owned());
        assert_eq!((stored_name(&discovered), settings_to_change(&by_address, &discovered)), (None, vec![]));
    }

    #[test]
    fn a23_only_differing_settings_change_and_unused_chap_is_cleared() {
        let mutual = desired_settings(&login(Some(chap("hunter2"))));
        let record = record_of(&mutual);
        assert_eq!(settings_to_change(&mutual, &record), [], "nothing");
        let rotated = desired_settings(&login(Some(chap("hunter3"))));
        assert_eq!(shown(&settings_to_change(&rotated, &record)), ["node.session.auth.password=hunter3"]);
        let none = desired_settings(&login(None));
        assert_eq!(
            shown(&settings_to_change(&none, &record)),
            [
                "node.session.auth.authmethod=None",
                "node.session.auth.username=",
                "node.session.auth.password=",
                "node.session.auth.username_in=",
                "node.session.auth.password_in=",
            ]
        );
        assert!(!format!("{mutual:?}").contains("hunter2"));
        assert_eq!(credentials(&record), Some(chap("hunter2")));
        assert_eq!(credentials(&record_of(&none)), None);
    }

    #[test]
    fn a55_a_record_of_anybody_by_which_open_iscsi_logs_in_by_itself_is_found() {
        let record = |startup: &str, more: &[(&str, &str)]| {
            let pairs = [("node.name", "iqn.a"), ("node.conn[0].address", "fd00::10"), ("node.conn[0].port", "3260")];
            let pairs = pairs.iter().chain(more).copied().chain([("node.startup", startup)]);
            let pairs: Settings = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            automatic(&pairs).map(|record| record.to_string())
        };
        assert_eq!(record("manual", &[]), None);
        assert_eq!(record("automatic", &[]).unwrap(), "iqn.a at [fd00::10]:3260 through default");
        let of_connection = [("node.conn[0].startup", "automatic"), ("iface.iscsi_ifacename", "hand\u{1b}")];
        assert_eq!(record("manual", &of_connection).unwrap(), "iqn.a at [fd00::10]:3260 through hand\u{fffd}");
    }

    #[test]
    fn an_optional_setting_changes_only_if_a_record_has_it() {
        let desired = desired_settings(&login(None));
        let names = |found: &Settings| -> Vec<_> {
            settings_to_change(&desired, found)
                .iter()
                .map(|setting| setting.name)
                .filter(|name| *name == SCAN)
                .collect()
        };
        let with = |value: &str| Settings::from([(SCAN.to_owned(), value.to_owned())]);
        assert_eq!(names(&Settings::new()), [""; 0]);
        assert_eq!(names(&with("auto")), [""; 0]);
        assert_eq!(names(&with("manual")), [SCAN]);
    }
}
