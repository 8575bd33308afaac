//! How a login is made and checked.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    OpenIscsi,
    iscsiadm::outcome::CommandOutcome,
    names::{self, Tried},
    record::NodeRecord,
    resolver,
    sessions::SessionEntry,
};
use crate::{
    agent::{
        host::access::HostAccess,
        initiator::{Login, PathError},
        types::{IscsiPath, credentials::Credentials},
    },
    api::reason::PathReason,
};

impl OpenIscsi {
    /// Logs in at a portal with a DNS name, at one of its addresses.
    pub(super) async fn login_by_name(&self, access: &HostAccess, login: &Login, port: u16) -> Result<(), PathError> {
        let resolved = resolver::resolve(&self.tools, access, login.path.portal.host()).await?;
        loop {
            let address = self.choose_address(login, port, &resolved).await?;
            let by_address = names::at(&login.path, address, port);
            let _lock = self.path_locks.lock(&by_address).await;
            // The login of another name may have taken the address meanwhile.
            if self.choose_address(login, port, &resolved).await? != address {
                continue;
            }
            let result = self.login_by_address(access, login, &by_address).await;
            self.names.tried(&login.path, Tried { address, has_failed: result.is_err() });
            return result;
        }
    }

    async fn choose_address(&self, login: &Login, port: u16, resolved: &[IpAddr]) -> Result<IpAddr, PathError> {
        let own = self.own_sessions().await?.into_iter();
        let sessions = own.map(|(session, requested)| (session.path, requested)).collect();
        names::choose(login, port, resolved, &sessions, self.names.last_tried(&login.path))
    }

    /// Logs in on a path whose portal is an address; `path` has it. A session that is there already is used.
    pub(super) async fn login_by_address(
        &self,
        access: &HostAccess,
        login: &Login,
        path: &IscsiPath,
    ) -> Result<(), PathError> {
        self.claims.prove(path);
        let record = NodeRecord::of(path, login.expected_tpgt)?;
        let sessions = self.own_sessions().await?;
        if let Some((session, requested)) = sessions.iter().find(|(session, _)| session.path == *path) {
            return self.use_session(access, login, session, requested).await;
        }
        let before: BTreeSet<u32> = sessions.iter().map(|(session, _)| session.id).collect();
        self.names.login_begins(path, login);
        let result = self.connect(access, login, &record).await;
        let result = self.verify_login(access, login, &record, &before, result).await;
        self.names.login_ends(path);
        result
    }

    /// Takes over a session on the path by address of the login. Where a name and an address of it are both planned, that is
    /// the session of the address, whichever was connected first: the name may have another address, and is logged in there.
    async fn use_session(
        &self,
        access: &HostAccess,
        login: &Login,
        session: &SessionEntry,
        requested: &IscsiPath,
    ) -> Result<(), PathError> {
        if *requested == login.path {
            return Ok(());
        }
        // The session counts anyway. Without the new name in its record, an agent that is started later would make another
        // session before it logs this one out.
        if let Err(error) = self.records.rename(access, &session.path, &login.path).await {
            tracing::debug!(path = %session.path, %error, "the record keeps the portal's other name");
        }
        self.names.set(session.id, &session.path, &login.path);
        Ok(())
    }

    /// Prepares the records and logs in. If the tool cannot use the existing records, it tries once more with new ones.
    async fn connect(&self, access: &HostAccess, login: &Login, record: &NodeRecord) -> Result<(), PathError> {
        match self.connect_once(access, login, record, false).await {
            Err(error) if error.reason == PathReason::InvalidRecord => {
                tracing::info!(%record, %error, "recreating the record");
                self.connect_once(access, login, record, true).await
            }
            result => result,
        }
    }

    async fn connect_once(
        &self,
        access: &HostAccess,
        login: &Login,
        record: &NodeRecord,
        recreate: bool,
    ) -> Result<(), PathError> {
        self.records.prepare(access, login, record, recreate).await?;
        let outcome = self.iscsiadm.login(access, record, login.settings, login.credentials.as_ref()).await?;
        let Err(error) = outcome.into_result() else { return Ok(()) };
        Err(match error.reason {
            PathReason::TargetNotFound => hint_mutual_chap(login, error),
            _ => error,
        })
    }

    /// Checks in the kernel whether the login succeeded. The result of the tool does not count.
    async fn verify_login(
        &self,
        access: &HostAccess,
        login: &Login,
        record: &NodeRecord,
        before: &BTreeSet<u32>,
        result: Result<(), PathError>,
    ) -> Result<(), PathError> {
        let sessions = self.reader.sessions().await?;
        let new = || sessions.iter().filter(|session| !before.contains(&session.id) && is_of_record(session, record));
        let why_refused = |session: &SessionEntry| login.portals.why_refused(session.connected_to?);
        let path = record.path();
        // A target that sends the login on may change the portal group tag, too, so this is not always the wanted session.
        if let Some((session, why)) = new().find_map(|session| Some((session, why_refused(session)?))) {
            let found = format!("{} has sent the login on to an address that is not dialled: {why}", path.portal);
            return Err(self.undo_login(access, login, session, PathReason::PortalUnreachable, found).await);
        }
        let mut wanted = sessions.iter().filter(|session| is_own_on(session, &path));
        if let Some(session) = wanted.find(|session| session.is_live() || result.is_ok()) {
            if let Some(only) = login.only_tpgt.filter(|only| *only != session.tpgt) {
                let found = format!(
                    "the portal belongs to portal group {}, and the data center says {only} (tpgt): correct it there, or \
                     leave it out; the session is not wanted",
                    session.tpgt
                );
                return Err(self.undo_login(access, login, session, PathReason::TargetNotFound, found).await);
            }
            self.names.set(session.id, &session.path, &login.path);
            if session.tpgt != record.tpgt
                && let Err(error) = self.records.retag(access, record, session.tpgt).await
            {
                // Until the next login, an iscsid that is restarted uses its own timeouts for the session.
                tracing::debug!(%record, %error, "the record keeps its portal group tag");
            }
            return Ok(());
        }
        if let Some(session) = new().find(|session| session.path.interface != path.interface) {
            let found = session.path.interface.as_deref().unwrap_or("no device");
            let wanted = login.path.interface.as_deref().unwrap_or("no device");
            let found = format!("the session came up bound to {found} instead of {wanted}");
            return Err(self.undo_login(access, login, session, PathReason::WrongInterface, found).await);
        }
        result?;
        Err(PathError::internal("iscsiadm reported that the login succeeded, but the kernel has no such session"))
    }

    /// Logs out a session that came up otherwise than wanted. This is the only logout that the logout rule does not decide:
    /// the session is a moment old. If it stays nevertheless, it counts for nothing, and the logout rule decides about it.
    async fn undo_login(
        &self,
        access: &HostAccess,
        login: &Login,
        session: &SessionEntry,
        reason: PathReason,
        found: String,
    ) -> PathError {
        let cause = PathError::new(reason, found);
        self.claims.prove(&session.path);
        let requested = IscsiPath { interface: session.path.interface.clone(), ..login.path.clone() };
        self.names.set(session.id, &session.path, &requested);
        self.names.undo(session, &cause);
        let undone = match self.iscsiadm.logout(access, session.id).await.and_then(CommandOutcome::into_result) {
            Ok(()) => "it was logged out again".to_owned(),
            Err(error) => format!("logging it out again has failed: {error}"),
        };
        PathError::new(cause.reason, format!("{cause}; {undone}"))
    }
}

/// iscsiadm reports the same error if the target does not exist and if it fails mutual CHAP; only the journal of iscsid
/// tells them apart.
fn hint_mutual_chap(login: &Login, error: PathError) -> PathError {
    match &login.credentials {
        Some(Credentials { incoming: Some(_), .. }) => PathError::new(
            error.reason,
            format!(
                "{error}; or the target's own name and password are not those of the Secret \
                 (node.session.auth.password_in)"
            ),
        ),
        Some(Credentials { incoming: None, .. }) | None => error,
    }
}

/// Whether this is a session of the agent on the path.
fn is_own_on(session: &SessionEntry, path: &IscsiPath) -> bool {
    session.is_own() && session.path == *path
}

/// Whether the session was made with this record. It may have come up with another interface or portal group tag.
fn is_of_record(session: &SessionEntry, record: &NodeRecord) -> bool {
    let wanted = record.path();
    *session.record == *record.interface.name()
        && session.path.target == wanted.target
        && session.path.portal == wanted.portal
}
