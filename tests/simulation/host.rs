//! The tools of a host: the simulated initiator, on which looking at the host takes time, and whose tools fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use multibond::{
    agent::{
        initiator::{
            Facts, Initiator, InterfaceFilter, Inventory, LiveSettings, Login, Map, PathError, Session,
            simulated::SimulatedHost,
        },
        types::{IscsiPath, credentials::Credentials},
    },
    api::{portal_policy::PortalRules, reason::PathReason},
};
use tokio::{sync::watch, time::sleep};

use super::cluster::Cluster;

/// The initiator of a host, as an agent sees it.
pub struct Host {
    pub cluster: Arc<Cluster>,
    pub node: String,
}

impl Host {
    fn simulated(&self) -> &SimulatedHost {
        &self.cluster.hosts[&self.node]
    }

    /// A look at the host takes this long: what an agent has decided before it may not be true any more.
    async fn take_time(&self) {
        let faulty = self.cluster.is_faulty();
        let takes = self.cluster.draw(|chance| match chance.below(20) {
            0 if faulty => chance.between(500, 5_000),
            _ => chance.between(1, 50),
        });
        sleep(takes).await;
    }

    /// Runs a tool, which may fail: before it has done anything, or after it has done everything.
    async fn perhaps(&self, what: &str, tool: impl Future<Output = Result<(), PathError>>) -> Result<(), PathError> {
        let (before, after) = if self.cluster.is_faulty() {
            self.cluster.draw(|chance| (chance.once_in(20), chance.once_in(20)))
        } else {
            (false, false)
        };
        if before || after {
            let when = if before { "before" } else { "after" };
            self.cluster.step(format_args!("a fault: {what} on {} fails {when} it has an effect", self.node));
        }
        if before {
            return Err(failed());
        }
        tool.await?;
        if after { Err(failed()) } else { Ok(()) }
    }
}

fn failed() -> PathError {
    PathError::new(PathReason::Internal, "the tool has failed by chance")
}

impl Initiator for Host {
    async fn read(&self, filter: &InterfaceFilter) -> Result<(Facts, Inventory), PathError> {
        self.simulated().read(filter).await
    }

    fn claim(&self, planned: BTreeSet<IscsiPath>, reported: BTreeMap<IscsiPath, Option<u32>>) {
        self.simulated().claim(planned, reported);
    }

    fn judge_by(&self, portals: Arc<PortalRules>) {
        self.simulated().judge_by(portals);
    }

    async fn inventory(&self, with_users_of: &BTreeSet<u32>) -> Result<Inventory, PathError> {
        self.take_time().await;
        self.simulated().inventory(with_users_of).await
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.simulated().changes()
    }

    async fn login(&self, login: &Login) -> Result<(), PathError> {
        self.perhaps("a login", self.simulated().login(login)).await
    }

    async fn logout(&self, session: &Session) -> Result<(), PathError> {
        let logout = async {
            self.simulated().logout(session).await?;
            sleep(Duration::from_millis(20)).await;
            Ok(())
        };
        self.perhaps("a logout", logout).await
    }

    async fn flush(&self, map: &Map) -> Result<(), PathError> {
        self.perhaps("the removal of a map", self.simulated().flush(map)).await
    }

    async fn restore(&self, map: &Map) -> Result<(), PathError> {
        self.simulated().restore(map).await
    }

    async fn make_maps(&self, session: &Session) -> Result<(), PathError> {
        self.simulated().make_maps(session).await
    }

    async fn has_moved(&self, session: &Session) -> Result<bool, PathError> {
        self.simulated().has_moved(session).await
    }

    async fn adjust(&self, session: &Session, settings: LiveSettings) -> Result<(), PathError> {
        self.simulated().adjust(session, settings).await
    }

    async fn stored_credentials(&self, path: &IscsiPath) -> Option<Credentials> {
        self.simulated().stored_credentials(path).await
    }

    async fn tidy(&self, keep: &BTreeSet<IscsiPath>) -> Result<(), PathError> {
        self.simulated().tidy(keep).await
    }
}
