//! A real Kubernetes control plane for Multibond's tests, demo and benches.
//!
//! No mocks and no containers: the etcd, kube-apiserver, kube-controller-manager, kubectl and helm that users run, on
//! loopback, ready in a few seconds. [`Binaries`] finds or builds them once and keeps them in a cache.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use multibond_testbed::{ControlPlane, Options};
//!
//! let cluster = ControlPlane::start(Options::default()).await?;
//! let namespace = cluster.namespace("frankfurt").await?;
//! cluster.kubectl(["get", "pods", "--namespace", &namespace], "").await?.success()?;
//! # Ok(())
//! # }
//! ```
//!
//! Every process that is started here ends with the process that started it, in any way that one ends: see
//! [`Process`]. Logs are in one directory per run, which is removed at the end unless something panicked.

mod binaries;
mod cache;
mod chance;
mod command;
mod control_plane;
mod eventually;
mod guest;
pub mod iscsi_host;
mod manifests;
mod process;
pub mod site;
mod supervisor;

pub use binaries::{Binaries, Tool, kustomize_controller};
pub use cache::cache_directory;
pub use chance::{Chance, cases, rounds};
pub use command::Output;
pub use control_plane::{ControlPlane, Options, Write};
pub use eventually::eventually;
pub use guest::{Guest, Nic};
pub use manifests::{render_chart, render_hooks};
pub use process::Process;
