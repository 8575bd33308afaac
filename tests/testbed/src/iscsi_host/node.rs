//! A node of a site with a real host.

use std::sync::Arc;

use serde_json::Value;

use super::by_hand::PATIENCE;
use crate::{
    Guest, eventually,
    site::{SYSTEM, Site, program},
};

/// The daemon, and the socket that starts it.
const ISCSID: &str = "iscsid.socket iscsid.service";

/// Two fabrics told apart by subnets, a target with two LUNs and a portal on each, a bond over both, and the Host `w1`.
pub const ALPHA_ON_BOTH_FABRICS: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: dc}
spec:
  nonOperationalAfterSeconds: 2
  storage:
  - name: array
    targets:
    - {iqn: 'iqn.2026-11.com.example:alpha', portals: [{address: 10.0.101.1}, {address: 10.0.102.1}]}
---
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-a}
spec: {dataCenter: dc, subnets: [10.0.101.0/24]}
---
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-b}
spec: {dataCenter: dc, subnets: [10.0.102.0/24]}
---
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: storage}
spec: {dataCenter: dc, networks: [san-a, san-b]}
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w1}
spec: {dataCenter: dc, nodeName: '{ns}-w1'}
";

/// A node with a real host, the agent's program and its token.
pub struct RealNode {
    /// The site of the node; its control plane runs outside of the guest.
    pub site: Arc<Site>,
    /// Its host.
    pub guest: Guest,
    /// The name of its Host.
    pub name: &'static str,
}

impl RealNode {
    /// The node `w1` of a new site: its host has no sessions, and no agent runs.
    pub async fn new(name: &str) -> Self {
        let (site, guest) = tokio::join!(Site::new(name), Guest::start(name));
        Self::on(Arc::new(site), guest.unwrap(), "w1").await
    }

    /// The nodes `w1` and `w2` of one site, on the same fabrics, with the storage of `w1`.
    pub async fn pair(name: &str) -> [Self; 2] {
        let (site, guests) = tokio::join!(Site::new(name), Guest::start_pair(name));
        let (site, [first, second]) = (Arc::new(site), guests.unwrap());
        let (first, second) = tokio::join!(Self::on(site.clone(), first, "w1"), Self::on(site, second, "w2"));
        [first, second]
    }

    async fn on(site: Arc<Site>, guest: Guest, name: &'static str) -> Self {
        guest.copy_program(&program("multibond-node"), "/usr/local/bin/multibond-node").await.unwrap();
        let token = site.token_of_node(&site.node(name)).await;
        let kubeconfig = site.cluster.kubeconfig_in_guests(&token).unwrap();
        guest.write("/root/kubeconfig", &kubeconfig).await.unwrap();
        let node = Self { site, guest, name };
        // The hosts of all sites are in one cluster, and two with one name are a problem of both.
        let set = format!(
            "echo InitiatorName={} >/etc/iscsi/initiatorname.iscsi && sync /etc/iscsi/initiatorname.iscsi &&
             systemctl try-restart iscsid.service",
            node.initiator_name()
        );
        node.guest.run_ok(&set).await.unwrap();
        node
    }

    /// The initiator name of the host.
    #[must_use]
    pub fn initiator_name(&self) -> String {
        format!("iqn.2026-11.com.example:{}", self.site.node(self.name))
    }

    /// Starts the agent as the service `agent`, with a short lease; `more` are additional arguments.
    pub async fn start_agent(&self, more: &str) {
        self.start_agent_by("", &format!("--lease-duration 4s --lease-renew-interval 1s {more}")).await;
    }

    /// Starts the agent through another program, such as chroot, and with only these arguments.
    pub async fn start_agent_by(&self, program: &str, arguments: &str) {
        let command = format!(
            "exec {program} multibond-node agent --node-name {} --kubeconfig /root/kubeconfig --namespace {SYSTEM} {arguments}",
            self.site.node(self.name)
        );
        self.guest.spawn("agent", &command).await.unwrap();
    }

    /// Waits for a summary of connected and planned paths, such as `2/4`.
    pub async fn until_paths(&self, summary: &str) -> Value {
        // Behind it may be how many sessions are kept.
        let has = |host: &Value| {
            let paths = host["status"]["summary"]["paths"].as_str();
            paths.is_some_and(|paths| paths.split(' ').next() == Some(summary))
        };
        self.site.until(&format!("{summary} paths"), "Host", self.name, has).await
    }

    /// Waits until the Host reports no connection, neither planned nor retained.
    pub async fn until_nothing_is_connected(&self) {
        let none = |host: &Value| host["status"]["connections"].as_array().is_none_or(Vec::is_empty);
        self.site.until("nothing connected", "Host", self.name, none).await;
    }

    /// Waits until the path through a portal has this state and this reason.
    pub async fn until_path(&self, portal: &str, state: &str, reason: Option<&str>) -> Value {
        let host = self
            .site
            .until(&format!("{portal} {state} {reason:?}"), "Host", self.name, |host| {
                let path = path(host, portal);
                path["state"] == state && path["reason"].as_str() == reason
            })
            .await;
        path(&host, portal).clone()
    }

    /// Ends the agent as Kubernetes ends a pod; its sessions stay.
    pub async fn stop_agent(&self) {
        self.guest.run_ok("systemctl stop agent").await.unwrap();
    }

    /// Kills the agent as a crash does, together with the tools that it has started, as at the end of a pod.
    pub async fn kill_agent(&self) {
        let ended = "until systemctl --quiet is-failed agent; do sleep 0.05; done; systemctl reset-failed agent";
        self.guest.run_ok(&format!("systemctl kill --signal=KILL agent && {ended}")).await.unwrap();
    }

    /// Stops iscsid, and keeps iscsiadm from starting it.
    pub async fn stop_iscsid(&self) {
        self.guest.run_ok(&format!("systemctl mask --quiet --runtime --now {ISCSID}")).await.unwrap();
    }

    /// Ends [`RealNode::stop_iscsid`].
    pub async fn start_iscsid(&self) {
        let commands = format!("systemctl unmask --quiet --runtime {ISCSID} && systemctl start {ISCSID}");
        self.guest.run_ok(&commands).await.unwrap();
    }

    /// Drops everything that the host sends to the API server, until [`RealNode::reach_api_server`].
    pub async fn cut_off_api_server(&self) {
        self.guest.run_ok("nft add rule inet faults output ip daddr 10.0.2.2 drop").await.unwrap();
    }

    /// Ends [`RealNode::cut_off_api_server`].
    pub async fn reach_api_server(&self) {
        self.guest.run_ok("nft flush chain inet faults output").await.unwrap();
    }

    /// Waits until exactly these node records exist, as `ADDRESS:PORT,TAG TARGET` each, sorted.
    pub async fn until_records(&self, wanted: &[String]) {
        eventually(&format!("exactly the records {wanted:?}"), PATIENCE, async || {
            let found = self.guest.run("iscsiadm -m node | sort").await.unwrap().stdout;
            if found.lines().eq(wanted) { Ok(()) } else { Err(found) }
        })
        .await;
    }
}

/// The reported connection through a portal; `null` when there is none.
pub fn path<'a>(host: &'a Value, portal: &str) -> &'a Value {
    let connections = host["status"]["connections"].as_array().map(Vec::as_slice).unwrap_or_default();
    connections.iter().find(|connection| connection["portal"] == portal).unwrap_or(&Value::Null)
}
