//! Where the binaries of the control plane, and of nodes, come from.
//!
//! In this order: the directory that `KUBEBUILDER_ASSETS` names; the cache; a download with its checksum, if the
//! internet can be reached; a build from source through the Go module proxy, which takes minutes, once. The Go modules
//! in `tests/control-plane` define the versions; no other file does.

mod build;
mod download;
mod engine;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::cache::{cache_directory, lock};
pub use engine::kustomize_controller;

/// A program that is part of a cluster, or a client of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// The database.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// Garbage collection, namespace deletion, service accounts.
    KubeControllerManager,
    /// The command line of Kubernetes.
    Kubectl,
    /// Helm.
    Helm,
    /// Assigns pods to nodes.
    KubeScheduler,
    /// Starts the pods of a node.
    Kubelet,
    /// Runs their containers.
    Containerd,
    /// The parent process of the containers of a pod.
    ContainerdShim,
    /// The command line of containerd.
    Ctr,
}

impl Tool {
    /// The components of a control plane, and its command-line clients.
    pub const CONTROL_PLANE: [Self; 5] =
        [Self::Etcd, Self::KubeApiserver, Self::KubeControllerManager, Self::Kubectl, Self::Helm];

    /// What a cluster with real nodes needs in addition.
    pub const NODES: [Self; 5] =
        [Self::KubeScheduler, Self::Kubelet, Self::Containerd, Self::ContainerdShim, Self::Ctr];

    /// The name of its executable.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Containerd => "containerd",
            Self::ContainerdShim => "containerd-shim-runc-v2",
            Self::Ctr => "ctr",
        }
    }

    /// Its version, such as `v1.36.3`.
    ///
    /// # Errors
    /// If `tests/control-plane` does not require it.
    pub fn version(self) -> Result<&'static str> {
        let (file, module) = match self {
            Self::Etcd => (include_str!("../../control-plane/go.mod"), "go.etcd.io/etcd/server/v3"),
            Self::KubeApiserver | Self::KubeControllerManager | Self::Kubectl | Self::KubeScheduler | Self::Kubelet => {
                (include_str!("../../control-plane/go.mod"), "k8s.io/kubernetes")
            }
            Self::Helm => (include_str!("../../control-plane/helm/go.mod"), "helm.sh/helm/v4"),
            Self::Containerd | Self::ContainerdShim | Self::Ctr => {
                (include_str!("../../control-plane/containerd/go.mod"), "github.com/containerd/containerd/v2")
            }
        };
        required_version(file, module).ok_or_else(|| anyhow!("tests/control-plane requires no version of {module}"))
    }
}

/// The version of `module` that a `go.mod` requires.
fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten().filter(|word| word.starts_with('v'))
    })
}

/// The directories of the programs, which all exist and are executable.
#[derive(Debug, Clone)]
pub struct Binaries {
    assets: Option<PathBuf>,
    control_plane: PathBuf,
    nodes: PathBuf,
}

impl Binaries {
    /// Finds the programs of a control plane; downloads or builds what is missing, and reports that on standard error.
    /// Blocks, at worst for minutes; if several processes call it at once, the others wait for the first.
    ///
    /// # Errors
    /// If something that this needs is missing; the error says what to install.
    pub fn locate() -> Result<Self> {
        let cache = cache_directory()?;
        let found =
            Self { assets: assets(), control_plane: cache.join(control_plane_key()?), nodes: cache.join(nodes_key()?) };
        found.prepare(&Tool::CONTROL_PLANE, &found.control_plane, "the binaries of the control plane")?;
        Ok(found)
    }

    /// Finds the programs of a cluster with real nodes, in the same way.
    ///
    /// # Errors
    /// If something that this needs is missing; the error says what to install.
    pub fn locate_with_nodes() -> Result<Self> {
        let found = Self::locate()?;
        found.prepare(&Tool::NODES, &found.nodes, "the binaries of nodes")?;
        Ok(found)
    }

    /// The path of a program.
    #[must_use]
    pub fn path(&self, tool: Tool) -> PathBuf {
        let cache = if Tool::NODES.contains(&tool) { &self.nodes } else { &self.control_plane };
        self.asset(tool).unwrap_or_else(|| cache.join(tool.name()))
    }

    /// The directory of the control plane's programs: `KUBEBUILDER_ASSETS` if it has all of them, otherwise the cache,
    /// which has those that `KUBEBUILDER_ASSETS` lacks.
    #[must_use]
    pub fn directory(&self) -> &Path {
        let complete = Tool::CONTROL_PLANE.into_iter().all(|tool| self.asset(tool).is_some());
        self.assets.as_deref().filter(|_| complete).unwrap_or(&self.control_plane)
    }

    fn asset(&self, tool: Tool) -> Option<PathBuf> {
        self.assets.as_ref().map(|assets| assets.join(tool.name())).filter(|path| path.is_file())
    }

    /// Puts the missing ones of `tools` into `cache`.
    fn prepare(&self, tools: &[Tool], cache: &Path, what: &str) -> Result<()> {
        if self.missing(tools).is_empty() {
            return Ok(());
        }
        fs::create_dir_all(cache).with_context(|| format!("cannot create the cache {}", cache.display()))?;
        let _lock = lock(&cache.join(".lock"), what)?;
        if !self.missing(tools).is_empty() {
            download::download(&self.missing(tools), cache, &download::Sources::default());
            build::build_tools(&self.missing(tools), cache)?;
        }
        if let [tool, ..] = self.missing(tools)[..] {
            bail!("{} is still not in {}", tool.name(), cache.display());
        }
        Ok(())
    }

    fn missing(&self, tools: &[Tool]) -> Vec<Tool> {
        tools.iter().copied().filter(|tool| !self.path(*tool).is_file()).collect()
    }
}

/// The directory in `KUBEBUILDER_ASSETS`.
fn assets() -> Option<PathBuf> {
    env::var_os("KUBEBUILDER_ASSETS").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Names the cache directory after the versions, so that other versions get another directory.
fn control_plane_key() -> Result<String> {
    Ok(format!(
        "control-plane-{}-etcd-{}-helm-{}-{}",
        Tool::KubeApiserver.version()?,
        Tool::Etcd.version()?,
        Tool::Helm.version()?,
        env::consts::ARCH
    ))
}

fn nodes_key() -> Result<String> {
    Ok(format!("nodes-{}-containerd-{}-{}", Tool::Kubelet.version()?, Tool::Containerd.version()?, env::consts::ARCH))
}

/// Moves a finished file to its final place in one step, so that nobody ever sees half of one.
fn install(file: &Path, name: &str, cache: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
    fs::rename(file, cache.join(name)).with_context(|| format!("cannot put {name} into the cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_the_version_that_its_go_module_requires() {
        for tool in [Tool::CONTROL_PLANE, Tool::NODES].concat() {
            let version = tool.version().unwrap();
            assert!(version.starts_with('v') && version.split('.').count() == 3, "{tool:?} {version}");
        }
    }

    #[test]
    fn a_replaced_module_is_not_taken_for_a_required_one() {
        let go_mod = "replace (\n\tk8s.io/api => k8s.io/api v0.2.0\n)\nrequire k8s.io/api v0.1.0\n";
        assert_eq!(required_version(go_mod, "k8s.io/api"), Some("v0.1.0"));
    }
}
