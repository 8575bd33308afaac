//! The agent's records in open-iscsi's database: one interface record for each interface, one node record for each path.
//!
//! The database does not support concurrent changes, so they are made one after the other. iscsiadm makes and deletes
//! records; their settings are changed in their files, under open-iscsi's lock.
//!
//! The agent's interface records are hidden from the discovery of others ([`database`]), and its node records carry a mark,
//! by which the agent knows its own when nothing else tells: neither the plan nor the last report.

pub mod database;
mod desired;
pub mod settings;
pub mod stored;

use std::{io, sync::Arc, time::SystemTime};

use tokio::{
    sync::{Mutex, RwLock},
    task::spawn_blocking,
};

use self::{
    database::{Database, StoredRecord},
    desired::{desired_settings, identity, portal_name, settings_to_change},
    settings::Setting,
    stored::{KnownRecords, Stored, StoredNode},
};
use super::{
    iscsiadm::{Iscsiadm, command::Command},
    record::{InterfaceRecord, NodeRecord},
};
use crate::{
    agent::{
        host::access::HostAccess,
        initiator::{Login, PathError},
        types::IscsiPath,
    },
    api::reason::PathReason,
};

/// The agent's records on a host.
#[derive(Debug)]
pub struct Records {
    iscsiadm: Arc<Iscsiadm>,
    known: Arc<KnownRecords>,
    /// Held while the database is changed.
    changing: Mutex<()>,
    /// Read-locked by each login whose records are being prepared.
    preparing: RwLock<()>,
}

impl Records {
    /// The records that this tool manages.
    #[must_use]
    pub fn new(iscsiadm: Arc<Iscsiadm>) -> Self {
        Records { iscsiadm, known: Arc::default(), changing: Mutex::default(), preparing: RwLock::default() }
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

    /// Moves a node record to the portal group tag that the target has answered.
    ///
    /// # Errors
    /// If the lock cannot be taken, or the record cannot be moved.
    pub async fn retag(&self, access: &HostAccess, record: &NodeRecord, tpgt: u16) -> Result<(), PathError> {
        let _changing = self.changing.lock().await;
        let what = format!("moving the record {record} to portal group {tpgt}");
        let _held = self.iscsiadm.lock(&self.iscsiadm.root(access)?, &what).await?;
        self.database(access)?
            .retag(record, tpgt)
            .map_err(|error| PathError::new(PathReason::InvalidRecord, format!("{what} has failed: {error}")))
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

    /// All node records of the host; none if they cannot be looked for. A file that has not changed is not read again.
    pub async fn read(&self, access: &HostAccess) -> Stored {
        let Ok(database) = self.database(access) else { return Stored::default() };
        let known = self.known.clone();
        // There may be thousands of files.
        let read = spawn_blocking(move || known.read(&database, SystemTime::now()));
        read.await.unwrap_or_default()
    }

    /// Deletes the agent's records, except those to keep: these are hidden and marked. Of the records with the agent's
    /// names, those are the agent's that are claimed or carry its mark; others stay as they are, and so does the interface
    /// record that they use. `requested` knows the path that a session on a path by address was made for, and `answered` the
    /// portal group tag that it has.
    ///
    /// # Errors
    /// The last error. The other records are still deleted.
    pub async fn tidy(
        &self,
        access: &HostAccess,
        is_claimed: impl Fn(&NodeRecord) -> bool,
        keep_node: impl Fn(&NodeRecord) -> bool,
        keep_interface: impl Fn(&InterfaceRecord) -> bool,
        requested: impl Fn(&IscsiPath) -> Option<IscsiPath>,
        answered: impl Fn(&IscsiPath) -> Option<u16>,
    ) -> Result<(), PathError> {
        let mut result = Ok(());
        let database = self.database(access)?;
        let stored = self.read(access).await;
        {
            let _changing = self.changing.lock().await;
            if let Err(error) = database.remove_unfinished() {
                result = Err(PathError::internal(format!("cannot remove an unfinished record: {error}")));
            }
        }
        let is_own = |record: &NodeRecord, node: Option<&StoredNode>| {
            is_claimed(record) || node.is_some_and(StoredNode::is_marked)
        };
        let (own, foreign): (Vec<_>, Vec<_>) = stored.nodes().partition(|(record, node)| is_own(record, *node));
        let [own, foreign] =
            [own, foreign].map(|records| records.into_iter().map(|(record, _)| record).collect::<Vec<&NodeRecord>>());
        for interface in &database.interfaces() {
            let is_of = |records: &[&NodeRecord]| records.iter().any(|record| record.interface == *interface);
            let done = if keep_interface(interface) {
                self.hide(access, interface).await
            } else if is_of(&foreign) || !(is_of(&own) || database.is_hidden(interface)) {
                Ok(())
            } else {
                let _changing = self.changing.lock().await;
                self.delete_interface(access, interface).await
            };
            result = done.and(result);
        }
        for record in own {
            let path = record.path();
            let done = if keep_node(record) && stored.is_superseded(record, answered(&path)) {
                let _changing = self.changing.lock().await;
                // iscsiadm would keep it for the session, which has another one.
                self.remove(access, &format!("record {record}"), || database.remove(record)).await
            } else if keep_node(record) {
                self.mend(access, record, requested(&path).as_ref()).await
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
    async fn mend(
        &self,
        access: &HostAccess,
        record: &NodeRecord,
        requested: Option<&IscsiPath>,
    ) -> Result<(), PathError> {
        let _changing = self.changing.lock().await;
        match self.database(access)?.node(record) {
            StoredRecord::Settings(current) => {
                let mut wanted = identity().to_vec();
                wanted.extend(requested.map(portal_name));
                self.write(access, record, &settings_to_change(&wanted, &current)).await
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

    /// Deletes an interface record of the agent, and its node records.
    async fn delete_interface(&self, access: &HostAccess, record: &InterfaceRecord) -> Result<(), PathError> {
        let deleted = self.change(access, &Command::DeleteInterface(record)).await;
        let database = self.database(access)?;
        if is_refused(&deleted) || !database.is_hidden(record) {
            return deleted;
        }
        let shown = format!("interface record {}", record.name());
        self.remove(access, &shown, || database.remove_interface(record)).await
    }

    async fn delete_locked(&self, access: &HostAccess, record: &NodeRecord) -> Result<(), PathError> {
        let database = self.database(access)?;
        let found = database.node(record);
        if found == StoredRecord::Missing {
            return Ok(());
        }
        // Of a record that iscsiadm can read it also removes the empty directories.
        let deleted = self.change(access, &Command::DeleteNode(record)).await;
        // One that cannot be read is no session's.
        if found != StoredRecord::Unreadable && is_refused(&deleted) {
            return deleted;
        }
        if database.node(record) == StoredRecord::Missing {
            return Ok(());
        }
        self.remove(access, &format!("record {record}"), || database.remove(record)).await
    }

    /// Removes the file of a record that iscsiadm does not delete, if it still exists, under open-iscsi's lock. Another
    /// version has made it, so that iscsiadm reads it and does not know a word in it (`discovery_type`), or an upgrade has
    /// left it in a directory where iscsiadm does not look any more.
    async fn remove(
        &self,
        access: &HostAccess,
        shown: &str,
        remove: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), PathError> {
        let what = format!("removing the {shown}");
        let _held = self.iscsiadm.lock(&self.iscsiadm.root(access)?, &what).await?;
        remove().map_err(|error| {
            PathError::new(
                PathReason::InvalidRecord,
                format!("open-iscsi does not delete the {shown}, and it cannot be removed: {error}; remove it by hand"),
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

/// Whether a record must stay that iscsiadm has not deleted: a session uses it, or nobody could look. A record that
/// iscsiadm does not know, or cannot use, is none of these.
fn is_refused(deleted: &Result<(), PathError>) -> bool {
    deleted.as_ref().is_err_and(|error| error.reason != PathReason::InvalidRecord)
}
