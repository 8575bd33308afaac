//! The cold start: the agent keeps the last plan that it followed in a file on the host, and follows it after a boot while
//! the API server does not answer. [`last_plan`] decides what is kept and what is used.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use jiff::Timestamp;
use tokio::{sync::watch, task::spawn_blocking};
use tracing::{info, warn};

use super::{
    cluster::hosts::Contact,
    host::private_file::PrivateFile,
    initiator::{Initiator, PathError},
    reconcile::{
        last_plan::{self, Followed, Keep, LastPlan, Situation},
        plan::Plan,
    },
    types::{HostId, IscsiPath, credentials::SecretState},
};
use crate::{
    api::{NodeName, SecretName},
    ops::log_once::{LastErrors, LogOnce},
};

/// The file with the last plan, what it has, and whether the API server answers.
pub struct ColdStart {
    file: PrivateFile,
    max_age: Duration,
    contact: watch::Receiver<Contact>,
    /// What the file has; none if there is no file, or none that can be used.
    kept: Option<LastPlan>,
    /// There may be a file, though it cannot be used.
    may_exist: bool,
    /// A write or a removal has not ended.
    is_busy: bool,
    use_log: LogOnce,
    write_log: LogOnce,
    login_errors: LastErrors<IscsiPath>,
}

/// A change of the file, which the disk may hold up.
pub(super) struct Change {
    file: PrivateFile,
    plan: Option<Box<LastPlan>>,
}

/// A change that has ended, and what the file has now if it has succeeded.
pub(super) struct Changed {
    plan: Option<Box<LastPlan>>,
    result: io::Result<()>,
}

impl Change {
    /// Writes or removes the file.
    pub(super) async fn carry_out(self) -> Changed {
        let Change { file, plan } = self;
        let done = spawn_blocking(move || {
            let result = match &plan {
                Some(plan) => plan.content().map_err(io::Error::from).and_then(|content| file.write(&content)),
                None => file.remove(),
            };
            Changed { plan, result }
        });
        done.await.unwrap_or_else(|error| Changed { plan: None, result: Err(io::Error::other(error)) })
    }
}

impl ColdStart {
    /// The file with this path, which is not used when its plan was last confirmed longer than `max_age` ago. `contact` says
    /// whether the API server answers.
    #[must_use]
    pub fn new(path: PathBuf, max_age: Duration, contact: watch::Receiver<Contact>) -> Self {
        let shown = path.display().to_string();
        ColdStart {
            file: PrivateFile::new(path),
            max_age,
            contact,
            kept: None,
            may_exist: true,
            is_busy: false,
            use_log: LogOnce::new(format!("connect by the last plan in {shown}")),
            write_log: LogOnce::new(format!("keep the plan in {shown}")),
            login_errors: LastErrors::default(),
        }
    }

    /// Reads the file. One that cannot be used counts as none, and is replaced by the next plan.
    pub(super) async fn read(&mut self) {
        let file = self.file.clone();
        let content = match spawn_blocking(move || file.read()).await.map_err(io::Error::other) {
            Ok(Ok(content)) => content,
            Ok(Err(error)) | Err(error) => return self.ignore(&error),
        };
        self.may_exist = content.is_some();
        match content.map(|content| LastPlan::parse(&content)).transpose() {
            Ok(plan) => self.kept = plan,
            Err(error) => self.ignore(&error),
        }
    }

    fn ignore(&self, error: &dyn std::error::Error) {
        warn!(%error, file = %self.file.path().display(), "the last plan is not used");
    }

    /// Waits until the API server begins or ceases to answer.
    pub(super) async fn changed(&mut self) {
        if self.contact.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether requests fail without any answer.
    pub(super) fn is_silent(&mut self) -> bool {
        *self.contact.borrow_and_update() == Contact::Silent
    }

    /// The last plan, if it may be followed here and now.
    pub(super) fn usable(&mut self, node: &NodeName, initiator_name: Option<&str>, now: Timestamp) -> Option<LastPlan> {
        let plan = self.kept.as_ref()?;
        match plan.check(Situation { node, initiator_name, now, max_age: self.max_age }) {
            Ok(()) => {
                self.use_log.recovered();
                Some(plan.clone())
            }
            Err(error) => {
                self.use_log.failed(error);
                None
            }
        }
    }

    /// Whether the file has a plan of this Host.
    pub(super) fn has_plan_of(&self, host: &HostId) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.host == *host)
    }

    /// What to change of the file now that the agent follows this plan; none if it has no plan to follow.
    pub(super) fn keep(&mut self, followed: Option<Followed<'_>>, now: Timestamp) -> Option<Change> {
        let answers = *self.contact.borrow() == Contact::Answers;
        let kept_at = self.kept.as_ref().map(|kept| kept.confirmed_at).filter(|_| !answers);
        let wanted =
            followed.and_then(|followed| last_plan::to_keep(followed, self.kept.as_ref(), kept_at.unwrap_or(now)));
        self.change(wanted)
    }

    /// Whether the API server answers that it has no Hosts at all.
    pub(super) fn finds_no_hosts(&self) -> bool {
        *self.contact.borrow() == Contact::NoHosts
    }

    /// Removes the file if the API server answers that it has no Hosts at all.
    pub(super) fn forget_if_gone(&mut self) -> Option<Change> {
        self.finds_no_hosts().then(|| self.change(None)).flatten()
    }

    /// A login for the last plan has ended. There is no Host yet to report it to, so the log has to say it.
    pub(super) fn login_ended(&mut self, path: &IscsiPath, result: &Result<(), PathError>) {
        match result {
            Ok(()) => {
                let _ = self.login_errors.recovered(path);
                info!(%path, "connected by the last plan");
            }
            Err(error) if self.login_errors.failed(path.clone(), error) => {
                warn!(%path, reason = error.reason.as_str(), %error, "not connected yet by the last plan");
            }
            Err(_) => {}
        }
    }

    fn change(&mut self, wanted: Option<LastPlan>) -> Option<Change> {
        if self.is_busy {
            return None;
        }
        let plan = match last_plan::keep(self.kept.as_ref(), wanted, self.max_age) {
            Keep::AsItIs if self.kept.is_none() && self.may_exist => None,
            Keep::AsItIs => return None,
            Keep::Remove => None,
            Keep::Write(plan) => Some(plan),
        };
        self.is_busy = true;
        Some(Change { file: self.file.clone(), plan })
    }

    /// A change of the file has ended. One that has failed is tried again at the next turn.
    pub(super) fn change_ended(&mut self, changed: Changed) {
        let Changed { plan, result } = changed;
        self.is_busy = false;
        match result {
            Ok(()) => {
                self.write_log.recovered();
                self.may_exist = plan.is_some();
                self.kept = plan.map(|plan| *plan);
            }
            Err(error) => self.write_log.failed(error),
        }
    }
}

/// The plan to follow, with the credentials that the initiator has stored for each path.
pub(super) async fn plan_with_stored_credentials(
    last: &LastPlan,
    initiator: &impl Initiator,
) -> (Plan, BTreeMap<SecretName, SecretState>) {
    let mut stored = BTreeMap::new();
    for path in last.with_chap() {
        if let Some(credentials) = initiator.stored_credentials(&path).await {
            stored.insert(path, SecretState::Read(credentials));
        } else {
            warn!(%path, "no credentials are stored for the path: it waits for the API server");
        }
    }
    let (plan, secrets) = last.plan(&stored);
    info!(
        paths = plan.paths.len(),
        confirmed_at = %last.confirmed_at,
        "the API server does not answer: connecting by the last plan"
    );
    (plan, secrets)
}
