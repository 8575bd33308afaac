//! The open-iscsi of a real host.
//!
//! Reading ([`Reader`]) needs no tool and no fork: [`sessions`] and disks are in sysfs, and the rest is the
//! [host](crate::agent::host)'s.
//!
//! What is done is done by the host's own tools: records ([`records`]) and sessions by [`iscsiadm`], maps by multipath.
//! Exit codes are never believed: after a login the session must be there, after a logout it must be gone.

pub mod iscsiadm;
mod path_locks;
mod reader;
pub mod records;
pub mod sessions;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use reader::Reader;

use std::{
    collections::BTreeSet,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep},
};

use self::{
    iscsiadm::{DAEMON, Iscsiadm, command::InterfaceRecord, command::Record, outcome::Outcome},
    path_locks::Turns,
    records::Records,
};
use super::{Facts, Initiator, InterfaceFilter, Inventory, Login, Map, PathError, Session};
use crate::{
    agent::{
        credentials::Credentials,
        host::{
            access::Way,
            events,
            mount_points::Roots,
            multipath::{Multipath, map_exists},
            sysfs,
            tools::{Host, HostTools},
        },
        path::IscsiPath,
    },
    api::{
        HostWarning, SessionSettings,
        address::canonical_portal,
        reason::{PathReason, PreparedReason},
    },
};

/// How long the kernel may take to take a session down after its logout.
const GONE_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How soon a tool that was not there is looked for again.
const LOOK_FOR_TOOL_EVERY: Duration = Duration::from_secs(60);

/// The open-iscsi of this host.
#[derive(Debug)]
pub struct OpenIscsi {
    reader: Reader,
    /// Kept, because the watch ends with its last receiver.
    changes: watch::Receiver<()>,
    sys: PathBuf,
    host: Host,
    iscsiadm: Arc<Iscsiadm>,
    records: Records,
    multipath: Multipath,
    turns: Turns,
    known: Mutex<Option<KnownTool>>,
}

/// What is known of `iscsiadm`, and for which way and daemon that holds.
#[derive(Clone, Debug)]
struct KnownTool {
    way: Way,
    daemon_is_outdated: bool,
    version: Result<String, PathError>,
    at: Instant,
}

impl OpenIscsi {
    /// That of the host whose file systems are there. It watches the host for as long as the runtime that this is called
    /// in lasts.
    ///
    /// # Errors
    /// When the kernel gives no socket to listen on.
    pub fn new(tools: HostTools, roots: Roots) -> io::Result<Self> {
        let changes = events::watch(&roots.sys)?;
        Ok(Self::on(Host::new(tools, roots.proc.clone()), roots, changes))
    }

    fn on(host: Host, roots: Roots, changes: watch::Receiver<()>) -> Self {
        let iscsiadm = Arc::new(Iscsiadm::new(host.clone()));
        OpenIscsi {
            sys: roots.sys.clone(),
            reader: Reader::new(roots),
            changes,
            records: Records::new(iscsiadm.clone()),
            iscsiadm,
            multipath: Multipath::new(host.clone()),
            host,
            turns: Turns::default(),
            known: Mutex::default(),
        }
    }

    /// The sessions that there are: what every action is verified by.
    async fn sessions(&self) -> Result<Vec<Session>, PathError> {
        self.reader.sessions().await
    }

    /// Records, then the session; once more with new records when the tool cannot use those that it has.
    async fn connect(&self, way: &Way, login: &Login, record: &Record) -> Result<(), PathError> {
        match self.connect_once(way, login, record, false).await {
            Err(error) if error.reason == PathReason::InvalidRecord => {
                tracing::info!(%record, %error, "the record is made anew");
                self.connect_once(way, login, record, true).await
            }
            result => result,
        }
    }

    async fn connect_once(&self, way: &Way, login: &Login, record: &Record, afresh: bool) -> Result<(), PathError> {
        self.records.prepare(way, login, record, afresh).await?;
        match self.iscsiadm.login(way, record, login.settings, login.credentials.as_ref()).await? {
            Outcome::Done => Ok(()),
            Outcome::Failed(error) if error.reason == PathReason::PortalUnreachable => {
                Err(self.unless_the_name_is_the_trouble(way, record, error).await)
            }
            Outcome::Failed(error) if error.reason == PathReason::TargetNotFound => {
                Err(or_it_is_not_believed(login, error))
            }
            Outcome::Look(error) | Outcome::Again(error) | Outcome::Remake(error) | Outcome::Failed(error) => {
                Err(error)
            }
        }
    }

    /// iscsid says the same of a name that it cannot resolve as of a portal that it cannot reach.
    async fn unless_the_name_is_the_trouble(&self, way: &Way, record: &Record, error: PathError) -> PathError {
        let name = &record.address;
        if name.parse::<IpAddr>().is_ok() || self.iscsiadm.resolves(way, name).await {
            return error;
        }
        PathError::new(PathReason::NameNotResolved, format!("the host cannot resolve the portal's name {name}"))
    }

    /// What the kernel has counts, whatever the tool said.
    async fn verify_login(
        &self,
        way: &Way,
        login: &Login,
        record: &Record,
        before: &BTreeSet<u32>,
        said: Result<(), PathError>,
    ) -> Result<(), PathError> {
        let sessions = self.sessions().await?;
        if sessions.iter().any(|session| is_wanted(session, &login.path) && (session.is_live() || said.is_ok())) {
            return Ok(());
        }
        let is_astray = |session: &&Session| {
            !before.contains(&session.id)
                && *session.record == *record.interface.name()
                && (&session.path.target, &session.path.portal) == (&login.path.target, &login.path.portal)
                && session.path.interface != login.path.interface
        };
        if let Some(astray) = sessions.iter().find(is_astray) {
            // The only session that is ever logged out without the rule being asked: this login has just made it.
            let undone = match self.iscsiadm.logout(way, astray.id).await {
                Ok(Outcome::Done) => "it was logged out again".to_owned(),
                Ok(Outcome::Look(error) | Outcome::Again(error) | Outcome::Remake(error) | Outcome::Failed(error))
                | Err(error) => format!("logging it out again has failed: {error}"),
            };
            let on = astray.path.interface.as_deref().unwrap_or("no device");
            let wanted = login.path.interface.as_deref().unwrap_or("no device");
            let message = format!("the session came up bound to {on} instead of {wanted}; {undone}");
            return Err(PathError::new(PathReason::WrongInterface, message));
        }
        said?;
        let message = "iscsiadm says that the login has succeeded, and the kernel has no such session";
        Err(PathError::new(PathReason::Internal, message))
    }

    async fn is_gone(&self, session: &Session, within: Duration) -> Result<bool, PathError> {
        let until = Instant::now() + within;
        loop {
            if !self.sessions().await?.iter().any(|found| is_same(found, session)) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// A record that is left behind does no harm: it is tidied up later.
    async fn forget(&self, way: &Way, path: &IscsiPath) {
        let Some(record) = Record::of(path) else { return };
        if let Err(error) = self.records.forget(way, &record).await {
            tracing::debug!(%record, %error, "the record is left behind");
        }
    }

    /// The tool's version, which is asked once for each daemon.
    async fn tool(&self) -> Result<KnownTool, PathError> {
        let way = self.iscsiadm.way()?;
        let daemon = self.host.daemon(DAEMON);
        let daemon_is_outdated = daemon.is_some_and(|pid| self.host.is_outdated(pid));
        let mut known = self.known.lock().await;
        if let Some(known) = &*known
            && (&known.way, known.daemon_is_outdated) == (&way, daemon_is_outdated)
            && (known.version.is_ok() || known.at.elapsed() < LOOK_FOR_TOOL_EVERY)
        {
            return Ok(known.clone());
        }
        let version = self.iscsiadm.version(&way).await;
        let found = KnownTool { way, daemon_is_outdated, version, at: Instant::now() };
        *known = Some(found.clone());
        Ok(found)
    }

    fn initiator_name(&self, way: &Way) -> Option<String> {
        let file = self.host.root(way).join("etc/iscsi/initiatorname.iscsi");
        initiator_name_in(&file).or_else(|| initiator_name_of_kernel(&self.sys))
    }
}

impl Initiator for OpenIscsi {
    async fn facts(&self, named: &InterfaceFilter) -> Result<Facts, PathError> {
        let mut facts = self.reader.facts(named).await?;
        match self.tool().await {
            Ok(tool) => {
                facts.initiator_name = self.initiator_name(&tool.way);
                facts.initiator = tool.version.as_ref().ok().map(|version| title(version, &tool.way));
                facts.warnings.extend(tool_warning(&tool, self.iscsiadm.is_misunderstood()));
            }
            Err(error) => {
                facts.initiator_name = initiator_name_of_kernel(&self.sys);
                let reason = PreparedReason::InitiatorMissing;
                facts.warnings.push(HostWarning { reason, message: error.message });
            }
        }
        facts.warnings.extend(self.multipath.warnings().await);
        facts.warnings.sort();
        Ok(facts)
    }

    async fn inventory(&self, in_question: &BTreeSet<u32>) -> Result<Inventory, PathError> {
        self.reader.inventory(in_question).await
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    async fn login(&self, login: &Login) -> Result<(), PathError> {
        let _turn = self.turns.take(&login.path).await;
        let sessions = self.sessions().await?;
        if sessions.iter().any(|session| is_wanted(session, &login.path)) {
            return Ok(());
        }
        let before: BTreeSet<u32> = sessions.iter().map(|session| session.id).collect();
        let record = Record::of(&login.path).ok_or_else(|| {
            let message = format!("{:?} is not an address and a port", login.path.portal);
            PathError::new(PathReason::Internal, message)
        })?;
        let way = self.iscsiadm.way()?;
        let said = self.connect(&way, login, &record).await;
        self.verify_login(&way, login, &record, &before, said).await
    }

    async fn logout(&self, session: &Session) -> Result<(), PathError> {
        if !session.is_own() {
            let message = format!("session {} is not ours: it was made through {}", session.id, session.record);
            return Err(PathError::new(PathReason::Internal, message));
        }
        let _turn = self.turns.take(&session.path).await;
        let way = self.iscsiadm.way()?;
        // Numbers are given again after the module was loaded anew.
        if !self.is_gone(session, Duration::ZERO).await? {
            let said = self.iscsiadm.logout(&way, session.id).await;
            let patience = if matches!(said, Ok(Outcome::Done)) { GONE_WITHIN } else { Duration::ZERO };
            if !self.is_gone(session, patience).await? {
                return Err(match said {
                    Ok(Outcome::Done) => {
                        let message =
                            "iscsiadm says that the logout has succeeded, and the kernel still has the session";
                        PathError::new(PathReason::Internal, message)
                    }
                    Ok(
                        Outcome::Look(error) | Outcome::Again(error) | Outcome::Remake(error) | Outcome::Failed(error),
                    )
                    | Err(error) => error,
                });
            }
        }
        self.forget(&way, &session.path).await;
        Ok(())
    }

    async fn flush(&self, map: &Map) -> Result<(), PathError> {
        self.multipath.flush(&map.name, || map_exists(&self.sys, &map.name)).await
    }

    /// The other settings act at the next login, whose record has them.
    async fn adjust(&self, session: &Session, settings: SessionSettings) -> Result<(), PathError> {
        if !session.is_own() {
            return Ok(());
        }
        let file = self.sys.join(format!("class/iscsi_session/session{}/recovery_tmo", session.id));
        fs::write(&file, settings.replacement_timeout_seconds.to_string())
            .map_err(|error| PathError::new(PathReason::Internal, format!("cannot write {}: {error}", file.display())))
    }

    async fn tidy(&self, keep: &BTreeSet<IscsiPath>) -> Result<(), PathError> {
        let sessions = self.sessions().await?;
        let mut keep = keep.clone();
        keep.extend(sessions.into_iter().filter(Session::is_own).map(|session| session.path));
        keep.extend(self.turns.taken());
        let stays = |record: &Record| keep.contains(&path_of(record));
        let interface_stays =
            |record: &InterfaceRecord| keep.iter().any(|path| path.interface.as_deref() == record.device.as_deref());
        self.records.tidy(&self.iscsiadm.way()?, stays, interface_stays).await
    }
}

/// iscsiadm says the same when the target fails to prove who it is as when there is no such target; only the journal of
/// iscsid tells them apart.
fn or_it_is_not_believed(login: &Login, error: PathError) -> PathError {
    match &login.credentials {
        Some(Credentials { incoming: Some(_), .. }) => {
            let or =
                "or the target's own name and password are not those of the Secret (node.session.auth.password_in)";
            PathError::new(error.reason, format!("{error}; {or}"))
        }
        Some(Credentials { incoming: None, .. }) | None => error,
    }
}

/// Whether a session of ours is on the path.
fn is_wanted(session: &Session, path: &IscsiPath) -> bool {
    session.is_own() && session.path == *path
}

fn is_same(found: &Session, session: &Session) -> bool {
    found.id == session.id && found.path == session.path && found.record == session.record
}

fn path_of(record: &Record) -> IscsiPath {
    IscsiPath {
        target: record.target.as_str().into(),
        portal: canonical_portal(&record.address, record.port).into(),
        tpgt: record.tpgt,
        interface: record.interface.device.as_deref().map(Arc::from),
    }
}

/// The initiator as it is reported: `open-iscsi 2.1.8`, and how it is reached where that is not directly.
fn title(version: &str, way: &Way) -> String {
    match way {
        Way::Direct => format!("open-iscsi {version}"),
        Way::Nsenter(_) | Way::Chroot(_) => format!("open-iscsi {version} ({way})"),
    }
}

fn tool_warning(tool: &KnownTool, is_misunderstood: bool) -> Option<HostWarning> {
    let warning = |reason, message: &str| Some(HostWarning { reason, message: message.to_owned() });
    match &tool.version {
        Err(error) => warning(PreparedReason::InitiatorMissing, &error.message),
        Ok(_) if tool.daemon_is_outdated => warning(
            PreparedReason::VersionMismatch,
            "iscsid was upgraded and not restarted: the one that runs is of another version than iscsiadm; restart it \
             (systemctl restart iscsid), which costs no session",
        ),
        Ok(version) if is_misunderstood => {
            let message = format!(
                "iscsid does not understand iscsiadm {version}: they are of different versions; restart iscsid, or say \
                 with --host-tools where the tools are that belong to it"
            );
            warning(PreparedReason::VersionMismatch, &message)
        }
        Ok(_) => None,
    }
}

fn initiator_name_in(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let name = text.lines().filter_map(|line| line.trim().strip_prefix("InitiatorName")).next_back()?;
    Some(name.trim_start().strip_prefix('=')?.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Only hosts with a session tell it.
fn initiator_name_of_kernel(sys: &Path) -> Option<String> {
    let hosts = sys.join("class/iscsi_host");
    let name_of = |host: &String| sysfs::attribute(&hosts.join(host).join("initiatorname")).ok()?;
    sysfs::names(&hosts).ok()?.iter().find_map(name_of)
}
