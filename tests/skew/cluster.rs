//! A cluster in which each part has a version: chart, controller, agents.

use multibond_testbed::{ControlPlane, Options, Process};

use super::{
    site::{self, PATIENCE, SYSTEM, Site},
    version::Version,
};

/// The versions of the parts.
#[derive(Clone, Copy)]
pub struct Mixture {
    pub chart: &'static Version,
    pub controller: &'static Version,
    pub agents: &'static Version,
}

impl Mixture {
    /// All parts of one version.
    pub fn all(version: &'static Version) -> Self {
        Mixture { chart: version, controller: version, agents: version }
    }

    pub fn describe(&self) -> String {
        let Mixture { chart, controller, agents } = self;
        format!("{} chart, {} controller, {} agents", chart.name, controller.name, agents.name)
    }
}

/// A cluster with one site. Its parts change their version as in an upgrade: Helm changes the chart's objects first,
/// and then pods are replaced.
pub struct Cluster {
    pub site: Site,
    mixture: Mixture,
    controller: Process,
    agents: Process,
}

impl Cluster {
    /// Installs a mixture in a new cluster, with nodes of these names.
    pub async fn install(mixture: Mixture, nodes: &[&str]) -> Self {
        let options = Options { audit: true, ..Options::default() };
        let cluster: &ControlPlane = Box::leak(Box::new(ControlPlane::start(options).await.unwrap()));
        helm(cluster, "install", mixture.chart).await;
        let site = Site::on(cluster, "site").await;
        site.prepare_nodes(nodes).await;
        let controller = site::controller_of(&mixture.controller.multibond, cluster, &[]).await;
        let agents = site.simulate_with(&mixture.agents.multibond);
        Cluster { site, mixture, controller, agents }
    }

    /// Changes to another mixture. Only what has another version is replaced.
    pub async fn become_mixture(&mut self, next: Mixture) {
        if next.chart.name != self.mixture.chart.name {
            helm(self.site.cluster, "upgrade", next.chart).await;
        }
        if next.controller.name != self.mixture.controller.name {
            self.controller.term(PATIENCE).await.unwrap();
            self.controller = site::controller_of(&next.controller.multibond, self.site.cluster, &[]).await;
        }
        if next.agents.name != self.mixture.agents.name {
            self.agents.term(PATIENCE).await.unwrap();
            self.agents = self.site.simulate_with(&next.agents.multibond);
        }
        self.mixture = next;
    }
}

async fn helm(cluster: &ControlPlane, verb: &str, version: &Version) {
    let chart = version.chart.display().to_string();
    let arguments = [verb, "multibond", &chart, "--create-namespace", "--namespace", SYSTEM];
    let arguments = arguments.iter().filter(|word| verb == "install" || **word != "--create-namespace");
    cluster.helm(arguments).await.unwrap().success().unwrap();
    cluster.await_policies().await.unwrap();
}
