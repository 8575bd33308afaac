//! etcd, kube-apiserver and kube-controller-manager on loopback; kube-scheduler too, where real nodes join.

mod audit;
mod clients;
mod components;
mod credentials;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::binaries::Binaries;
use crate::eventually::poll;
use crate::process::Process;
use crate::supervisor::Supervisor;
pub use audit::Write;
use credentials::Credentials;

/// How long a component may take until it serves, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// What differs from one control plane to another.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Objects to apply before the controller manager starts. CRDs belong here: the garbage collector looks for new
    /// kinds when it starts and then only every 30 s, and does not collect what it does not know.
    pub manifests: Vec<Value>,
    /// More flags of kube-apiserver.
    pub api_server_args: Vec<String>,
    /// More controllers of kube-controller-manager, beside those for garbage collection, namespaces, service accounts
    /// and the status of policies.
    pub controllers: Vec<String>,
    /// Whether real nodes join, see [`Guest::join`](crate::Guest::join): pods get service accounts, kubelets may change
    /// only what is theirs, and there is all that makes pods of workloads, finds nodes for them and evicts them. Every new
    /// namespace is then slow to be usable.
    pub real_nodes: bool,
    /// Whether the API server keeps a log of writes for [`ControlPlane::writes`].
    pub audit: bool,
}

/// A running control plane. It ends when this value is dropped, and when this process ends, however that happens.
#[derive(Debug)]
pub struct ControlPlane {
    // In the order in which they are dropped: the writers first, then the databases.
    scheduler: Option<Process>,
    controller_manager: Mutex<Option<Process>>,
    api_server: Mutex<Option<Process>>,
    etcd: Process,
    binaries: Binaries,
    directory: PathBuf,
    credentials: Credentials,
    etcd_address: String,
    port: u16,
    options: Options,
    numbers: AtomicU32,
}

impl ControlPlane {
    /// Starts one, with binaries from [`Binaries`], and returns when it is ready.
    ///
    /// # Errors
    /// If a component does not become ready; the error shows the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let locate = if options.real_nodes { Binaries::locate_with_nodes } else { Binaries::locate };
        let binaries = tokio::task::spawn_blocking(locate).await??;
        let directory = new_directory()?;
        let credentials = Credentials::create(&directory)?;
        let etcd = components::etcd(&binaries, &directory)?;
        let etcd_address = await_component(&etcd, async || {
            components::etcd_address(&etcd.log()).ok_or("it does not say that it serves clients")
        })
        .await?;
        let mut cluster = Self {
            scheduler: None,
            controller_manager: Mutex::default(),
            api_server: Mutex::default(),
            etcd,
            binaries,
            directory,
            credentials,
            etcd_address,
            port: 0,
            options,
            numbers: AtomicU32::new(1),
        };
        cluster.start_api_server_on_a_free_port().await?;
        // The controller manager must find the kinds; the rest need not wait for it.
        cluster.apply_kinds(&cluster.options.manifests).await?;
        tokio::try_join!(cluster.apply_others(&cluster.options.manifests), cluster.restart_controller_manager())?;
        if cluster.options.real_nodes {
            cluster.scheduler = Some(components::scheduler(&cluster.binaries, &cluster.credentials)?);
        }
        Ok(cluster)
    }

    /// The control plane that all tests of a test binary share; the first one's `options` count.
    ///
    /// Each `#[tokio::test]` has a runtime of its own, and a connection does not outlive the runtime that opened it:
    /// share the control plane, not a client.
    ///
    /// # Errors
    /// If it did not start, for whichever test came first.
    pub async fn shared<F>(options: F) -> Result<&'static Self>
    where
        F: AsyncFnOnce() -> Result<Options>,
    {
        static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
        let start = async || Self::start(options().await?).await;
        let init = async || start().await.map_err(|error: anyhow::Error| format!("{error:#}"));
        SHARED.get_or_init(init).await.as_ref().map_err(|error| anyhow!("the shared control plane: {error}"))
    }

    /// Takes the API server away, as a crash does. Its port stays known, and clients are refused.
    pub fn stop_api_server(&self) {
        lock(&self.api_server).take();
    }

    /// Brings the API server back on the same port, with the same data, and returns when it is ready.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start_api_server(&self) -> Result<()> {
        self.stop_api_server();
        let api_server =
            components::api_server(&self.binaries, &self.credentials, &self.etcd_address, self.port, &self.options)?;
        let client = self.client().await?;
        let ready = await_component(&api_server, async || {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            client.request_text(request).await.map_err(anyhow::Error::from)
        })
        .await;
        // Also one that is not ready: its log says why, and it ends with the others.
        *lock(&self.api_server) = Some(api_server);
        ready.map(|_| ())
    }

    /// Makes the API server stand still: connections stay, and nothing is answered until
    /// [`ControlPlane::resume_api_server`].
    ///
    /// # Errors
    /// If it is away.
    pub fn pause_api_server(&self) -> Result<()> {
        lock(&self.api_server).as_ref().context("the API server is away")?.pause()
    }

    /// Lets the API server go on.
    ///
    /// # Errors
    /// If it is away.
    pub fn resume_api_server(&self) -> Result<()> {
        lock(&self.api_server).as_ref().context("the API server is away")?.resume()
    }

    /// Starts the controller manager anew, and returns when it works. Its garbage collector then knows all kinds that
    /// there are; see [`Options::manifests`].
    ///
    /// # Errors
    /// If it does not start to work.
    pub async fn restart_controller_manager(&self) -> Result<()> {
        lock(&self.controller_manager).take();
        // It makes this account in every namespace: seen again, it is this controller manager that works.
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, "default");
        if accounts.get_opt("default").await?.is_some() {
            accounts.delete("default", &kube::api::DeleteParams::default()).await?;
        }
        let manager = components::controller_manager(&self.binaries, &self.credentials, &self.options)?;
        await_component(&manager, async || accounts.get("default").await).await?;
        *lock(&self.controller_manager) = Some(manager);
        Ok(())
    }

    /// The port is free when it is chosen; should another program be faster, there are others.
    async fn start_api_server_on_a_free_port(&mut self) -> Result<()> {
        for _ in 0..5 {
            self.port = free_port()?;
            self.credentials.write_kubeconfigs(self.port)?;
            match self.start_api_server().await {
                Err(_) if self.api_server_log().contains("address already in use") => {}
                started => return started,
            }
        }
        bail!("other programs take every port that kube-apiserver tries")
    }

    /// For names that must differ.
    pub(crate) fn next_number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn api_server_log(&self) -> String {
        lock(&self.api_server).as_ref().map(Process::log).unwrap_or_default()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.scheduler.take();
        lock(&self.controller_manager).take();
        lock(&self.api_server).take();
        self.etcd.kill();
        if !std::thread::panicking() {
            // What is left, the end of this process removes.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Polls until `check` is content with a component that runs.
async fn await_component<T, E, F>(component: &Process, mut check: F) -> Result<T>
where
    E: std::fmt::Display,
    F: AsyncFnMut() -> Result<T, E>,
{
    let outcome = poll(PATIENCE, async || match check().await {
        Ok(value) => Ok(Ok(value)),
        Err(error) => match component.exit_status() {
            None => Err(error),
            Some(status) => Ok(Err(format!("it has ended, {status}"))),
        },
    })
    .await;
    outcome.and_then(|ended| ended).map_err(|why| {
        if let Ok(supervisor) = Supervisor::get() {
            supervisor.keep();
        }
        anyhow!("{} is not ready: {why}; the end of its log:\n{}", component.name(), component.log_tail())
    })
}

fn new_directory() -> Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = Supervisor::get()?.directory().join(format!("control-plane-{number}"));
    fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// A port below those that the kernel gives to outgoing connections, so that it is still free after a restart.
fn free_port() -> Result<u16> {
    let random = RandomState::new().hash_one(std::process::id());
    (0..1000)
        .map(|offset| 20_000 + u16::try_from((random + offset) % 10_000).unwrap_or_default())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no free port on the loopback interface")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
