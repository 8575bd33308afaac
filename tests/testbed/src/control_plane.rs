//! etcd, kube-apiserver and kube-controller-manager on loopback; also kube-scheduler, if real nodes join.

mod audit;
mod clients;
mod components;
mod credentials;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
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

/// How long a component may take until it is ready, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The options of a control plane.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Objects to apply before the controller manager starts. CRDs belong here: the garbage collector looks for new
    /// kinds when it starts and then only every 30 s, and ignores kinds that it does not know.
    pub manifests: Vec<Value>,
    /// Additional flags of kube-apiserver.
    pub api_server_args: Vec<String>,
    /// Additional controllers of kube-controller-manager. Those for garbage collection, namespaces, service accounts
    /// and the status of policies always run.
    pub controllers: Vec<String>,
    /// Whether real nodes join, see [`Guest::join`](crate::Guest::join): pods get service accounts, kubelets may change
    /// only their own objects, and the controllers and the scheduler create pods for workloads, assign them to nodes
    /// and evict them. With this it takes longer until a new namespace is usable.
    pub real_nodes: bool,
    /// Whether the API server keeps a log of writes for [`ControlPlane::writes`].
    pub audit: bool,
}

/// A running etcd.
#[derive(Debug)]
struct Etcd {
    process: Process,
    /// Where it serves clients.
    address: String,
}

impl Etcd {
    /// Starts etcd with the data in a directory of the control plane, if there are any.
    async fn start(binaries: &Binaries, directory: &Path) -> Result<Self> {
        let process = components::etcd(binaries, directory)?;
        let address = await_component(&process, async || {
            components::etcd_address(&process.log()).ok_or("it does not say that it serves clients")
        })
        .await?;
        Ok(Etcd { process, address })
    }
}

/// A running control plane. It ends when this value is dropped, and when this process ends, however that happens.
#[derive(Debug)]
pub struct ControlPlane {
    // In the order in which they are dropped: the writers first, then the databases.
    scheduler: Option<Process>,
    controller_manager: Mutex<Option<Process>>,
    api_server: Mutex<Option<Process>>,
    etcd: Mutex<Etcd>,
    binaries: Binaries,
    directory: PathBuf,
    credentials: Credentials,
    port: u16,
    options: Options,
    numbers: AtomicU32,
}

impl ControlPlane {
    /// Starts a control plane with the programs of [`Binaries`], and returns when it is ready.
    ///
    /// # Errors
    /// If a component does not become ready; the error shows the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let locate = if options.real_nodes { Binaries::locate_with_nodes } else { Binaries::locate };
        let binaries = tokio::task::spawn_blocking(locate).await??;
        let directory = new_directory()?;
        let credentials = Credentials::create(&directory)?;
        let etcd = Mutex::new(Etcd::start(&binaries, &directory).await?);
        let mut cluster = Self {
            scheduler: None,
            controller_manager: Mutex::default(),
            api_server: Mutex::default(),
            etcd,
            binaries,
            directory,
            credentials,
            port: 0,
            options,
            numbers: AtomicU32::new(1),
        };
        cluster.start_api_server_on_a_free_port().await?;
        // The CRDs must exist before the controller manager starts; the other manifests do not depend on it.
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
    /// If it did not start; every test of the binary then gets this error.
    pub async fn shared<F>(options: F) -> Result<&'static Self>
    where
        F: AsyncFnOnce() -> Result<Options>,
    {
        static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
        let start = async || Self::start(options().await?).await;
        let init = async || start().await.map_err(|error: anyhow::Error| format!("{error:#}"));
        SHARED.get_or_init(init).await.as_ref().map_err(|error| anyhow!("the shared control plane: {error}"))
    }

    /// Kills the API server, as a crash does. Clients are refused until it is started again on the same port.
    pub fn stop_api_server(&self) {
        lock(&self.api_server).take();
    }

    /// Starts the API server again on the same port, with the same data, and returns when it is ready.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start_api_server(&self) -> Result<()> {
        self.stop_api_server();
        let etcd = lock(&self.etcd).address.clone();
        let api_server = components::api_server(&self.binaries, &self.credentials, &etcd, self.port, &self.options)?;
        let client = self.client().await?;
        let ready = await_component(&api_server, async || {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            client.request_text(request).await.map_err(anyhow::Error::from)
        })
        .await;
        // It is stored even if it is not ready: its log says why, and it ends with the others.
        *lock(&self.api_server) = Some(api_server);
        ready.map(|_| ())
    }

    /// Saves the data of etcd, for [`ControlPlane::restore`].
    ///
    /// # Errors
    /// If the data cannot be copied.
    pub fn save(&self) -> Result<()> {
        let (data, saved) = self.data_and_backup();
        let etcd = lock(&self.etcd);
        // Nothing is written meanwhile, so the copy is what a crash would leave.
        etcd.process.pause()?;
        let copied = copy_directory(&data, &saved);
        etcd.process.resume()?;
        copied
    }

    /// Restores etcd as an administrator does after a disaster: stops the API server and etcd, puts the saved data in
    /// place, and starts both again; the controller manager too, whose caches are of another history.
    ///
    /// # Errors
    /// If nothing was saved, or a component does not become ready.
    pub async fn restore(&self) -> Result<()> {
        let (data, saved) = self.data_and_backup();
        self.stop_api_server();
        lock(&self.etcd).process.kill();
        fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        copy_directory(&saved, &data)?;
        let etcd = Etcd::start(&self.binaries, &self.directory).await?;
        *lock(&self.etcd) = etcd;
        self.start_api_server().await?;
        self.restart_controller_manager().await
    }

    /// The directory with the data of etcd, and the directory with the saved data.
    fn data_and_backup(&self) -> (PathBuf, PathBuf) {
        (self.directory.join(components::ETCD_DATA), self.directory.join("etcd-backup"))
    }

    /// Stops the API server with SIGSTOP: connections stay open, and nothing is answered until
    /// [`ControlPlane::resume_api_server`].
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause_api_server(&self) -> Result<()> {
        lock(&self.api_server).as_ref().context("the API server is away")?.pause()
    }

    /// Ends [`ControlPlane::pause_api_server`].
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume_api_server(&self) -> Result<()> {
        lock(&self.api_server).as_ref().context("the API server is away")?.resume()
    }

    /// Restarts the controller manager, and returns when it works. Its garbage collector then knows all kinds; see
    /// [`Options::manifests`].
    ///
    /// # Errors
    /// If it does not start to work.
    pub async fn restart_controller_manager(&self) -> Result<()> {
        lock(&self.controller_manager).take();
        // It creates this account in every namespace: when the account is back, the new controller manager works.
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, "default");
        if accounts.get_opt("default").await?.is_some() {
            accounts.delete("default", &kube::api::DeleteParams::default()).await?;
        }
        let manager = components::controller_manager(&self.binaries, &self.credentials, &self.options)?;
        await_component(&manager, async || accounts.get("default").await).await?;
        *lock(&self.controller_manager) = Some(manager);
        Ok(())
    }

    /// A port that was free when it was chosen may be taken by another program meanwhile; then another one is tried.
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

    /// A number for names that must be unique.
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
        lock(&self.etcd).process.kill();
        if !std::thread::panicking() {
            // What is left is removed at the end of this process.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Polls until `check` succeeds, or the component has ended.
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

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    let copy = || -> std::io::Result<()> {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    copy().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
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
