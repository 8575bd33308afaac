//! The engine: Flux's own kustomize-controller, which applies the content of a source. The source is an
//! `ExternalArtifact`, Flux's kind for programs other than its source-controller; here the test is that program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use multibond_testbed::{Process, eventually, kustomize_controller};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::cluster;
use crate::site::{PATIENCE, Site, condition, ready};

/// Archives by digest. They are never removed, because the engine still reads them after a test.
static ARCHIVES: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());

/// The engine of this test binary. It is cluster-admin, as Flux is by default.
async fn engine() -> &'static Process {
    static ENGINE: OnceCell<Process> = OnceCell::const_new();
    let start = async || {
        let kubeconfig = cluster().await.kubeconfig();
        let program = tokio::task::spawn_blocking(kustomize_controller).await.unwrap().unwrap();
        let arguments = [
            "--feature-gates=ExternalArtifact=true",
            "--concurrent=16",
            "--requeue-dependency=1s",
            "--metrics-addr=0",
            "--health-addr=0",
        ];
        let environment = [("KUBECONFIG", kubeconfig.as_os_str()), ("RUNTIME_NAMESPACE", "default".as_ref())];
        Process::spawn(program, arguments, environment, "kustomize-controller").unwrap()
    };
    ENGINE.get_or_init(start).await
}

/// A source for the engine, and its Kustomizations in the namespace of a site.
pub struct Repository<'a> {
    site: &'a Site,
}

impl<'a> Repository<'a> {
    pub async fn new(site: &'a Site) -> Self {
        engine().await;
        Repository { site }
    }

    /// Publishes exactly these files as the newest revision. `{ns}` stands for the namespace.
    pub async fn publish(&self, files: &[(&str, &str)]) {
        let archive = archive(files, &self.site.namespace);
        let digest = Sha256::digest(&archive).iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        let artifact = json!({
            "revision": format!("main@sha256:{digest}"),
            "digest": format!("sha256:{digest}"),
            "path": digest,
            "url": format!("http://{}/{digest}", server()),
            "lastUpdateTime": Timestamp::now().to_string(),
        });
        ARCHIVES.lock().unwrap().insert(digest, archive);

        let sources = self.api("source.toolkit.fluxcd.io", "ExternalArtifact", "externalartifacts");
        let metadata = json!({"name": "repository"});
        let object =
            json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "ExternalArtifact", "metadata": metadata});
        sources.patch("repository", &PatchParams::apply("repository"), &Patch::Apply(object)).await.unwrap();
        let status = Patch::Merge(json!({"status": {"artifact": artifact}}));
        sources.patch_status("repository", &PatchParams::default(), &status).await.unwrap();
    }

    /// Lets the engine apply a directory, heal it every few seconds, prune it, and wait until it is healthy; `more`
    /// overrides this.
    pub async fn kustomization(&self, name: &str, path: &str, more: Value) {
        let mut spec = json!({
            "sourceRef": {"kind": "ExternalArtifact", "name": "repository"},
            "path": path,
            "targetNamespace": self.site.namespace,
            "interval": "5s",
            "retryInterval": "2s",
            "timeout": "20s",
            "prune": true,
            "wait": true,
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let metadata = json!({"name": name});
        let object = json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": metadata, "spec": spec});
        self.kustomizations().patch(name, &PatchParams::apply("person"), &Patch::Apply(object)).await.unwrap();
    }

    /// Waits until a Kustomization is as it should be.
    pub async fn until(&self, what: &str, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let api = self.kustomizations();
        eventually(&format!("Kustomization {name}: {what}"), PATIENCE, async || {
            let object = api.get_opt(name).await.map_err(|error| error.to_string())?;
            let object = object.map_or(Value::Null, |object| serde_json::to_value(object).unwrap());
            if holds(&object) { Ok(object) } else { Err(format!("{:#}", object["status"])) }
        })
        .await
    }

    /// Waits until the newest revision is applied and, if the Kustomization has `wait`, healthy.
    pub async fn until_ready(&self, name: &str) {
        let sources = self.api("source.toolkit.fluxcd.io", "ExternalArtifact", "externalartifacts");
        let source = sources.get("repository").await.unwrap();
        let newest = &source.data["status"]["artifact"]["revision"];
        self.until("ready", name, |object| ready(object) && object["status"]["lastAppliedRevision"] == *newest).await;
    }

    /// Requests one more reconcile, as `flux reconcile` does, and waits until it has succeeded.
    pub async fn reconcile(&self, name: &str) {
        let now = Timestamp::now().to_string();
        let asked = Patch::Merge(json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": now}}}));
        self.kustomizations().patch(name, &PatchParams::default(), &asked).await.unwrap();
        let done = |object: &Value| ready(object) && object["status"]["lastHandledReconcileAt"] == *now;
        self.until("reconciled once more", name, done).await;
    }

    /// Deletes a Kustomization, and waits until it is gone; the objects that it has applied may stay longer.
    pub async fn delete(&self, name: &str) {
        self.kustomizations().delete(name, &DeleteParams::default()).await.unwrap();
        self.until("gone", name, Value::is_null).await;
    }

    fn kustomizations(&self) -> Api<DynamicObject> {
        self.api("kustomize.toolkit.fluxcd.io", "Kustomization", "kustomizations")
    }

    fn api(&self, group: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            api_version: format!("{group}/v1"),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        Api::namespaced_with(self.site.client.clone(), &self.site.namespace, &resource)
    }
}

/// The reason why a Kustomization is not Ready.
pub fn unready<'a>(object: &'a Value, reason: &str) -> Option<&'a str> {
    let ready = condition(object, "Ready");
    (ready["status"] == "False" && ready["reason"] == reason).then(|| ready["message"].as_str().unwrap())
}

fn archive(files: &[(&str, &str)], namespace: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.replace("{ns}", namespace)).unwrap();
    }
    let tar = Command::new("tar").args(["--create", "--gzip", "."]).current_dir(directory.path()).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    tar.stdout
}

/// The address of the server of the archives. It has its own thread and runtime, because a test's runtime ends with the
/// test.
fn server() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, Router::new().route("/{digest}", get(served))).await.unwrap();
            });
        });
        address
    })
}

async fn served(Path(digest): Path<String>) -> Result<Vec<u8>, StatusCode> {
    ARCHIVES.lock().unwrap().get(&digest).cloned().ok_or(StatusCode::NOT_FOUND)
}
