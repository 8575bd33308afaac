//! Guests as nodes of a cluster: a test host with kubelet, containerd and the programs that they start.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::image::{Image, digest_of_tree, files_below};
use super::{Guest, quoted};
use crate::binaries::{Binaries, Tool};
use crate::control_plane::ControlPlane;

/// The programs that only nodes have. runc and the network plugins are Debian's, and are on every test host.
const TOOLS: [Tool; 4] = [Tool::Kubelet, Tool::Containerd, Tool::ContainerdShim, Tool::Ctr];

/// The pause container, which holds the namespaces of a pod: it only sleeps.
const PAUSE: &str = r#"import-image localhost/pause:1 '["/bin/busybox", "sleep", "2147483647"]' /bin/busybox"#;

/// The files that are copied over those of a test host.
fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../nodes/image/root")
}

/// A test host on which containerd runs, and kubelet is installed but has no cluster yet.
pub(super) async fn image() -> Result<Image> {
    let binaries = tokio::task::spawn_blocking(Binaries::locate_with_nodes).await??;
    let (kubelet, containerd) = (Tool::Kubelet.version()?, Tool::Containerd.version()?);
    let name = format!("node-{kubelet}-containerd-{containerd}-{}", digest_of_tree(&files())?);
    Image::locate().await?.changed(&name, async |guest| install(guest, &binaries).await).await
}

async fn install(guest: &Guest, binaries: &Binaries) -> Result<()> {
    for tool in TOOLS {
        guest.copy(&binaries.path(tool), &format!("/usr/local/bin/{}", tool.name())).await?;
    }
    for file in files_below(&files())? {
        let target = Path::new("/").join(file.strip_prefix(files())?);
        let directory = target.parent().context("a file is in a directory")?;
        guest.run_ok(&format!("mkdir --parents {}", quoted(&directory.display().to_string()))).await?;
        guest.copy(&file, &target.display().to_string()).await?;
    }
    guest
        .run_ok(
            "systemctl daemon-reload && systemctl --quiet enable kubelet && systemctl --quiet enable --now containerd",
        )
        .await?;
    guest.run_ok(PAUSE).await?;
    Ok(())
}

impl Guest {
    /// Makes a guest of [`Guest::start_nodes`] a node of a cluster, permanently: after a reboot it is the same node.
    /// The cluster must have [`Options::real_nodes`](crate::Options::real_nodes).
    ///
    /// # Errors
    /// If its kubelet cannot be started. Does not wait until kubelet reaches the cluster.
    pub async fn join(&self, cluster: &ControlPlane, node: &str) -> Result<()> {
        self.write("/etc/kubernetes/kubeconfig", &cluster.kubeconfig_of_kubelet(node)?).await?;
        let environment = format!("NODE_NAME={node}\nAPI_SERVER={}\n", cluster.address_in_guests());
        self.write("/etc/kubernetes/node", &environment).await?;
        self.run_ok("sync && systemctl start kubelet").await?;
        Ok(())
    }
}
