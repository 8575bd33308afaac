//! Replicas of the controller, each with its own token.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use k8s_openapi::{
    api::{authentication::v1::SelfSubjectReview, coordination::v1::Lease},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams, config::Kubeconfig};
use multibond_testbed::{ControlPlane, Process, Write, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    line::Line,
    site::{PATIENCE, SYSTEM, multibond},
};

/// How long the leader's lease lasts.
pub const LEASE: Duration = Duration::from_secs(4);

/// One replica of the controller.
pub struct Replica {
    pub name: &'static str,
    pub process: Process,
    /// Its token, as the audit log names it: all replicas have the same service account.
    token: String,
}

impl Replica {
    /// Starts a replica with a token of its own.
    pub async fn start(cluster: &ControlPlane, name: &'static str) -> Self {
        Self::prepare(cluster, name).await.start()
    }

    /// A replica that can be started without the API server.
    pub async fn prepare(cluster: &ControlPlane, name: &'static str) -> Prepared {
        let token = cluster.service_account_token(SYSTEM, "multibond-controller", None).await.unwrap();
        let kubeconfig = cluster.kubeconfig_for_token(&token).unwrap();
        Prepared { name, kubeconfig, token: id_of(cluster, &token).await }
    }

    /// Whether a write came from this replica.
    pub fn wrote(&self, write: &Write) -> bool {
        write.token.as_deref() == Some(&self.token)
    }

    /// The role that its readiness reports: `leader` or `standby`.
    pub async fn role(&self) -> Result<String, String> {
        let (_, body) = self.readiness().await?;
        Ok(body.lines().next().unwrap_or_default().to_owned())
    }

    /// Status line and body of its `/readyz`.
    async fn readiness(&self) -> Result<(String, String), String> {
        let log = self.process.log();
        let address = log.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.ok_or_else(|| format!("{} does not serve yet", self.name))?;
        let ask = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = ask.await.map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
    }

    /// Waits until it is ready: it has listed all kinds, and every watch works.
    pub async fn until_ready(&self) {
        eventually(&format!("{} is ready", self.name), PATIENCE, async || {
            let (head, body) = self.readiness().await?;
            if head.contains("200") { Ok(()) } else { Err(body) }
        })
        .await;
    }

    /// Waits until it reports this role. Returns how long that took.
    pub async fn until_role(&self, wanted: &str) -> Duration {
        let begun = std::time::Instant::now();
        eventually(&format!("{} is {wanted}", self.name), PATIENCE, async || {
            let role = self.role().await?;
            if role == wanted { Ok(()) } else { Err(role) }
        })
        .await;
        begun.elapsed()
    }
}

/// A replica that has a token and is not started.
pub struct Prepared {
    name: &'static str,
    kubeconfig: PathBuf,
    token: String,
}

impl Prepared {
    /// Makes it connect to the API server through a line.
    pub fn over(self, cluster: &ControlPlane, line: &Line) -> Self {
        let text = std::fs::read_to_string(&self.kubeconfig).unwrap();
        let there = api_server(cluster).to_string();
        std::fs::write(&self.kubeconfig, text.replace(&there, &line.address.to_string())).unwrap();
        self
    }

    /// Starts it.
    pub fn start(self) -> Replica {
        self.start_with_lease(["4s", "3s"])
    }

    /// Starts it with a lease that lasts this long, and is renewed within this time.
    pub fn start_with_lease(self, [lease, renewed]: [&str; 2]) -> Replica {
        let Prepared { name, kubeconfig, token } = self;
        let arguments = [
            ["--namespace", SYSTEM],
            ["--identity", name],
            ["--listen", "127.0.0.1:0"],
            ["--deletion-timeout", "30s"],
            ["--leader-lease-duration", lease],
            ["--leader-renew-deadline", renewed],
            ["--leader-retry-period", "500ms"],
        ];
        let arguments = std::iter::once("controller").chain(arguments.into_iter().flatten());
        let process = Process::spawn(multibond(), arguments, [("KUBECONFIG", kubeconfig)], name).unwrap();
        Replica { name, process, token }
    }
}

/// Where the API server listens.
pub fn api_server(cluster: &ControlPlane) -> SocketAddr {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let server = kubeconfig.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap();
    server.strip_prefix("https://").unwrap().parse().unwrap()
}

async fn id_of(cluster: &ControlPlane, token: &str) -> String {
    let reviews: Api<SelfSubjectReview> = Api::all(cluster.client_for_token(token).await.unwrap());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    let extra = review.status.unwrap().user_info.unwrap().extra.unwrap();
    extra["authentication.kubernetes.io/credential-id"][0].strip_prefix("JTI=").unwrap().to_owned()
}

/// The holder of the lease; empty when there is none.
pub async fn holder(cluster: &ControlPlane) -> String {
    let leases: Api<Lease> = Api::namespaced(cluster.client().await.unwrap(), SYSTEM);
    let lease = leases.get_opt("multibond-controller").await.unwrap();
    lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default()
}

/// Waits until one of the replicas leads. Returns the leader, then the other one.
pub async fn leader<'a>(cluster: &ControlPlane, replicas: [&'a Replica; 2]) -> (&'a Replica, &'a Replica) {
    let holder = eventually("a leader", PATIENCE, async || {
        let holder = holder(cluster).await;
        if replicas.iter().any(|replica| replica.name == holder) { Ok(holder) } else { Err(holder) }
    })
    .await;
    let [one, other] = replicas;
    if one.name == holder { (one, other) } else { (other, one) }
}

/// The writes of the replicas since then, without leases, in the order of the answers.
pub fn acts(cluster: &ControlPlane, replicas: &[&Replica], since: Timestamp) -> Vec<(&'static str, Write)> {
    let writes = cluster.writes().unwrap().into_iter().filter(|write| write.at >= since);
    writes
        .filter(|write| !["leases", "selfsubjectreviews"].contains(&write.resource.as_str()))
        .filter_map(|write| Some((replicas.iter().find(|replica| replica.wrote(&write))?.name, write)))
        .collect()
}

/// The writers in order. Consecutive writes of one replica are one turn.
pub fn turns(acts: &[(&'static str, Write)]) -> Vec<&'static str> {
    let mut turns: Vec<&str> = acts.iter().map(|(name, _)| *name).collect();
    turns.dedup();
    turns
}
