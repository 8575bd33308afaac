//! A running console, and the data center that it shows.

use std::ffi::OsString;
use std::path::PathBuf;

use multibond_testbed::{Process, eventually};
use regex::Regex;
use serde_json::json;

use super::browser::Browser;
use super::site::{PATIENCE, Site, multibond, ready};

/// A data center without storage, networks and bonds, and two hosts: one on both fabrics, and one on neither.
pub const BARE: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: frankfurt}
spec: {description: 'Frankfurt, hall 2'}
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: worker-1}
spec: {dataCenter: frankfurt, nodeName: '{ns}-w1'}
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: worker-2}
spec: {dataCenter: frankfurt, nodeName: '{ns}-w2'}
---
";

/// The facts that the agents report.
pub const FACTS: &str = "
facts:
- node: '{ns}-w1'
  interfaces:
  - {name: ens2f0, mac: '02:00:00:00:00:01', mtu: 9000, up: true, addresses: ['10.0.1.21/24']}
  - {name: ens2f1, mac: '02:00:00:00:00:02', mtu: 9000, up: true, addresses: ['10.0.2.21/24']}
- node: '{ns}-w2'
  interfaces:
  - {name: ens1, mac: '02:00:00:00:00:03', mtu: 1500, up: true, addresses: ['192.168.1.22/24']}
";

/// Storage and networks.
pub const STORAGE: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: frankfurt}
spec:
  description: Frankfurt, hall 2
  storage:
  - name: array-a
    targets:
    - {iqn: 'iqn.2003-01.org.example:array-a', portals: [{address: 10.0.1.10}, {address: 10.0.1.11}, {address: 10.0.2.10}, {address: 10.0.2.11}]}
---
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-a}
spec: {dataCenter: frankfurt, description: fabric A, subnets: [10.0.1.0/24], mtu: 9000}
---
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-b}
spec: {dataCenter: frankfurt, description: fabric B, subnets: [10.0.2.0/24], mtu: 9000}
---
";

/// A bond over both networks.
pub const BOND: &str = "
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: storage}
spec: {dataCenter: frankfurt, description: both fabrics, networks: [san-a, san-b]}
---
";

/// The cable of worker-1 to fabric A is pulled.
pub const PULLED_CABLE: &str = "faults: [{host: worker-1, interface: ens2f0, fault: Unreachable}, {host: worker-1, interface: ens2f0, fault: Dropped}]";

/// A data center with connected hosts, and their agents, which end when they are dropped.
pub async fn connected(name: &str) -> (Site, Process) {
    let site = Site::new(name).await;
    site.facts(FACTS);
    let agents = site.agents(&["w1", "w2"]).await;
    site.apply(&[BARE, STORAGE, BOND].concat()).await;
    site.until("connected", "Host", "worker-1", ready).await;
    (site, agents)
}

/// A console.
pub struct Console {
    pub process: Process,
    /// The address with the token.
    pub url: String,
}

impl Console {
    /// The console of an administrator, for a site.
    pub async fn of(site: &Site) -> Console {
        Console::start(site, site.cluster.kubeconfig(), &["-n", &site.namespace], &[]).await
    }

    /// The console of an administrator, with these arguments and environment.
    pub async fn with(site: &Site, arguments: &[&str], environment: &[(&str, OsString)]) -> Console {
        Console::start(site, site.cluster.kubeconfig(), arguments, environment).await
    }

    /// The console of a user with a role in the site's namespace.
    pub async fn of_role(site: &Site, role: &str) -> Console {
        let subject = json!({"kind": "ServiceAccount", "name": role, "namespace": site.namespace});
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": role, "namespace": site.namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [subject],
        });
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": role, "namespace": site.namespace}});
        site.cluster.apply_all(&[account, binding]).await.unwrap();
        let token = site.cluster.service_account_token(&site.namespace, role, None).await.unwrap();
        let kubeconfig = site.cluster.kubeconfig_for_token(&token).unwrap();
        // The binding takes a moment to reach the authorizer.
        let may = ["auth", "can-i", "list", "hosts.multibond.dev", "-n", &site.namespace];
        eventually("the rights are in force", PATIENCE, async || {
            let answer = site.cluster.kubectl_as(&kubeconfig, may, "").await.unwrap();
            answer.success().map(drop).map_err(|error| error.to_string())
        })
        .await;
        Console::start(site, kubeconfig, &["-n", &site.namespace], &[]).await
    }

    async fn start(site: &Site, kubeconfig: PathBuf, arguments: &[&str], environment: &[(&str, OsString)]) -> Console {
        let arguments = [&["console"], arguments].concat();
        let environment = environment.iter().cloned().chain([("KUBECONFIG", kubeconfig.into())]);
        let name = format!("console-{}", site.namespace);
        let process = Process::spawn(multibond(), arguments, environment, &name).unwrap();
        let address = Regex::new(r"http://127\.0\.0\.1:\d+/\?token=[0-9a-f]{64}").unwrap();
        let url = eventually("the console prints its address", PATIENCE, async || {
            let log = process.log();
            address.find(&log).map(|url| url.as_str().to_owned()).ok_or(log)
        })
        .await;
        Console { process, url }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> &str {
        self.url.split("/?").next().unwrap()
    }

    /// The address of a page of the data center frankfurt.
    pub fn page(&self, site: &Site, rest: &str) -> String {
        format!("{}/dc/{}/frankfurt/{rest}", self.origin(), site.namespace)
    }

    /// A browser that is logged in to the console.
    pub async fn browser(&self) -> Browser {
        let browser = Browser::light().await;
        browser.go(&self.url).await;
        browser.until("h1", "Data Centers").await;
        browser
    }
}
